#include "backward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "derivatives.h"
#include "fail.h"
#include "float_model.h"
#include "probe.h"

/* ---- plans ---- */

static const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};

/* dX = dY W: a layer without bias, whose weights are those of the given one seen by columns. */
static qvit_status create_transposed(const qvit_engine *engine, const vit_linear *layer,
                                     qvit_plan **out, qvit_error *error)
{
    const qvit_tensor *weight = &layer->weight;
    vit_linear back = {.weight = *weight};
    back.weight.dims[0] = weight->dims[1], back.weight.strides[0] = weight->strides[1];
    back.weight.dims[1] = weight->dims[0], back.weight.strides[1] = weight->strides[0];
    return float_linear_create(engine, &back, QVIT_ACTIVATION_NONE, false, out, error);
}

static qvit_status create_matmul(const qvit_engine *engine, size_t heads, bool right_transposed,
                                 qvit_plan **out, qvit_error *error)
{
    qvit_matmul_options options = QVIT_MATMUL_OPTIONS_INIT;
    options.left = options.right = options.output = f32;
    options.heads = heads;
    options.right_transposed = right_transposed;
    return qvit_matmul_create(engine, &options, out, error);
}

static qvit_status create_block(const qvit_engine *engine, const vit_block *layers,
                                backward_block *out, qvit_error *error)
{
    TRY(float_linear_create(engine, &layers->fc1, QVIT_ACTIVATION_NONE, false, &out->bare_fc1,
                            error));
    TRY(create_transposed(engine, &layers->fc2, &out->fc2, error));
    TRY(create_transposed(engine, &layers->fc1, &out->fc1, error));
    TRY(create_transposed(engine, &layers->proj, &out->proj, error));
    return create_transposed(engine, &layers->qkv, &out->qkv, error);
}

static qvit_status create_plans(backward *b, const qvit_engine *engine, qvit_error *error)
{
    const vit_model *model = b->net->model;
    b->blocks = calloc(model->depth, sizeof *b->blocks);
    if (!b->blocks) return fail_memory(error);
    for (size_t i = 0; i < model->depth; i++)
        TRY(create_block(engine, &model->blocks[i], &b->blocks[i], error));
    TRY(create_matmul(engine, model->heads, false, &b->matmul, error));
    TRY(create_matmul(engine, model->heads, true, &b->matmul_transposed, error));
    return create_transposed(engine, &model->head, &b->head, error);
}

/* ---- memory ---- */

/* Floats in a gradient of `images` images; that of the patch embedding has the class tokens. */
static size_t gradient_floats(const vit_model *model, size_t images, gradient_stage stage)
{
    const size_t tokens = images * model->tokens;
    switch (stage) {
    case GRADIENT_HEAD:
        return images * model->classes;
    case GRADIENT_FC1:
        return tokens * model->hidden;
    case GRADIENT_QK:
        return tokens * model->heads * model->tokens;
    case GRADIENT_QKV:
        return tokens * PARTS * model->width;
    case GRADIENT_FC2:
    case GRADIENT_PROJ:
    case GRADIENT_PV:
    case GRADIENT_PATCH_EMBED:
        break;
    }
    return tokens * model->width;
}

/* What one draw takes of b->stream, and one block of b->inputs. */
static size_t stream_floats(const backward *b)
{
    return b->net->batch * b->net->model->tokens * b->net->model->width;
}

static float *take_gradient(const backward *b, struct arena *arena, gradient_stage stage)
{
    return arena_take_rows(arena, QVIT_DTYPE_F32,
                           gradient_floats(b->net->model, b->net->batch, stage), 1);
}

static void lay_out(backward *b, struct arena *arena)
{
    const size_t stream = stream_floats(b);
    b->inputs = arena_take_rows(arena, QVIT_DTYPE_F32, b->net->model->depth + 1, stream);
    b->stream = arena_take_rows(arena, QVIT_DTYPE_F32, b->draws, stream);
    b->normed = arena_take_rows(arena, QVIT_DTYPE_F32, 1, stream);
    b->left = arena_take_rows(arena, QVIT_DTYPE_F32, 1, stream);
    b->product = arena_take_rows(arena, QVIT_DTYPE_F32, 1, stream);
    b->logits = take_gradient(b, arena, GRADIENT_HEAD);
    b->probe = take_gradient(b, arena, GRADIENT_HEAD);
    b->context = take_gradient(b, arena, GRADIENT_PV);
    b->qkv = take_gradient(b, arena, GRADIENT_QKV);
    b->scores = take_gradient(b, arena, GRADIENT_QK);
    b->hidden = take_gradient(b, arena, GRADIENT_FC1);
    for (size_t i = 0; b->draws > 1 && i < GRADIENT_STAGES; i++)
        b->sums[i] = take_gradient(b, arena, (gradient_stage)i);
    b->workspace = arena_take(arena, b->workspace_size);
}

/* Plans run one after the other, so the largest workspace serves them all. */
static size_t workspace_size(const backward *b)
{
    const vit_model *model = b->net->model;
    const size_t rows = b->net->batch * model->tokens, tokens = model->tokens;
    const backward_block *block = b->blocks; /* all have the same sizes */
    const size_t sizes[] = {
        qvit_linear_workspace_size(block->bare_fc1, rows),
        qvit_linear_workspace_size(block->fc2, rows),
        qvit_linear_workspace_size(block->fc1, rows),
        qvit_linear_workspace_size(block->proj, rows),
        qvit_linear_workspace_size(block->qkv, rows),
        qvit_linear_workspace_size(b->head, b->net->batch),
        qvit_matmul_workspace_size(b->matmul_transposed, tokens, tokens, model->head_dim),
        qvit_matmul_workspace_size(b->matmul, tokens, model->head_dim, tokens),
        qvit_matmul_workspace_size(b->matmul, model->head_dim, tokens, tokens),
    };
    size_t largest = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        largest = sizes[i] > largest ? sizes[i] : largest;
    return largest;
}

static qvit_status reserve(backward *b, qvit_error *error)
{
    b->workspace_size = workspace_size(b);
    if (b->workspace_size == SIZE_MAX) return fail_memory(error); /* it does not fit a size_t */
    struct arena arena = {0};
    lay_out(b, &arena);
    b->memory = aligned_alloc(QVIT_ALIGNMENT, arena.used);
    if (!b->memory) return fail_memory(error);
    arena = (struct arena){.memory = b->memory};
    lay_out(b, &arena);
    return QVIT_OK;
}

qvit_status backward_create(network *net, const qvit_engine *engine,
                            const backward_options *options, backward *out, qvit_error *error)
{
    assert(net->observed && options->draws > 0);
    *out = (backward){.net = net, .draws = options->draws, .seed = options->seed};
    out->executor = options->executor ? *options->executor : (qvit_executor)QVIT_EXECUTOR_INIT;
    qvit_status status = create_plans(out, engine, error);
    if (status == QVIT_OK) status = reserve(out, error);
    if (status != QVIT_OK) backward_close(out);
    return status;
}

void backward_close(backward *b)
{
    for (size_t i = 0; b->blocks && i < b->net->model->depth; i++) {
        const backward_block *block = &b->blocks[i];
        qvit_plan *const plans[] = {block->bare_fc1, block->fc2, block->fc1, block->proj,
                                    block->qkv};
        for (size_t j = 0; j < sizeof plans / sizeof plans[0]; j++) qvit_plan_destroy(plans[j]);
    }
    qvit_plan_destroy(b->head);
    qvit_plan_destroy(b->matmul);
    qvit_plan_destroy(b->matmul_transposed);
    free(b->blocks);
    free(b->memory);
    *b = (backward){0};
}

/* ---- steps ---- */

/* What all steps of one pass share. */
struct pass {
    backward *b;
    const vit_model *model;
    size_t images, first_image;
    const gradient_observer *observer;
    network_pass forward; /* not observed: for running parts of a block again */
    qvit_error *error;
};

static float *input_of(const struct pass *p, size_t block)
{
    return p->b->inputs + block * stream_floats(p->b);
}

static float *stream_of(const struct pass *p, size_t draw)
{
    return p->b->stream + draw * stream_floats(p->b);
}

static qvit_tensor token_rows(const struct pass *p, float *data, size_t cols)
{
    return network_tokens(&p->forward, data, QVIT_DTYPE_F32, cols);
}

static qvit_status run_linear(const struct pass *p, const qvit_plan *plan, qvit_tensor input,
                              qvit_tensor output)
{
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = &input;
    args.output = &output;
    args.workspace = p->b->workspace;
    args.workspace_size = p->b->workspace_size;
    return qvit_linear_run(plan, &args, p->error);
}

static qvit_status run_matmul(const struct pass *p, const qvit_plan *plan, qvit_tensor left,
                              qvit_tensor right, qvit_tensor output)
{
    qvit_matmul_args args = QVIT_MATMUL_ARGS_INIT;
    args.left = &left;
    args.right = &right;
    args.output = &output;
    args.workspace = p->b->workspace;
    args.workspace_size = p->b->workspace_size;
    return qvit_matmul_run(plan, &args, p->error);
}

/* The gradient through a layer norm, added to that of the stream beside it. */
static qvit_status leave_norm(const struct pass *p, const vit_norm *norm, const float *x,
                              float *stream)
{
    return layer_norm_backward(&p->b->executor, norm, x, p->images * p->model->tokens,
                               p->model->width, p->b->normed, stream, p->error);
}

/* ---- handing out ---- */

/* The root of the mean of the squares, complete with the last draw. */
static void add_square(const backward *b, size_t draw, const float *gradient, float *sum,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) sum[i] = (draw ? sum[i] : 0) + gradient[i] * gradient[i];
    const float share = 1 / (float)b->draws;
    for (size_t i = 0; draw + 1 == b->draws && i < count; i++) sum[i] = sqrtf(sum[i] * share);
}

/* view shows the gradient, or a part of it, with its shape. */
static qvit_status hand_out(const struct pass *p, gradient_stage stage, size_t block, size_t draw,
                            const float *gradient, qvit_tensor view)
{
    const backward *b = p->b;
    if (b->draws > 1) {
        const ptrdiff_t offset = (const float *)view.data - gradient;
        add_square(b, draw, gradient, b->sums[stage], gradient_floats(p->model, p->images, stage));
        view.data = b->sums[stage] + offset;
    }
    if (draw + 1 < b->draws) return QVIT_OK;
    return p->observer->see(p->observer->user, stage, block, &view, p->error);
}

/* ---- head ---- */

static void draw_probes(const struct pass *p, size_t draw)
{
    const size_t classes = p->model->classes;
    for (size_t i = 0; i < p->images; i++)
        probe_draw(p->b->seed, p->first_image + i, draw, p->b->logits + i * classes, classes,
                   p->b->probe + i * classes);
}

/* From the logits to the stream behind the last block, of which only class tokens are read. */
static qvit_status leave_head(const struct pass *p, size_t draw)
{
    const backward *b = p->b;
    const vit_model *model = p->model;
    float *stream = stream_of(p, draw);
    qvit_tensor probe, features;
    qvit_tensor_init(&probe, b->probe, QVIT_DTYPE_F32, 2, (size_t[]){p->images, model->classes});
    qvit_tensor_init(&features, b->normed, QVIT_DTYPE_F32, 2, (size_t[]){p->images, model->width});

    draw_probes(p, draw);
    TRY(hand_out(p, GRADIENT_HEAD, 0, draw, b->probe, probe));
    TRY(run_linear(p, b->head, probe, features));
    memset(stream, 0, stream_floats(b) * sizeof *stream);
    return layer_norm_backward(&b->executor, &model->norm, input_of(p, model->depth), p->images,
                               model->tokens * model->width, b->normed, stream, p->error);
}

/* ---- MLP ---- */

/* x + fc2(gelu(fc1(norm2(x)))), where x is what attention left in the network's stream, and the
 * network's `hidden` is what goes into GELU. */
static qvit_status leave_mlp(const struct pass *p, size_t block, size_t draw)
{
    const backward *b = p->b;
    const vit_model *model = p->model;
    const network *net = b->net;
    qvit_tensor stream = token_rows(p, stream_of(p, draw), model->width);
    qvit_tensor hidden = token_rows(p, b->hidden, model->hidden);
    const size_t count = gradient_floats(model, p->images, GRADIENT_FC1);

    TRY(hand_out(p, GRADIENT_FC2, block, draw, stream.data, stream));
    TRY(run_linear(p, b->blocks[block].fc2, stream, hidden));
    TRY(gelu_backward(&b->executor, net->hidden, count, b->hidden, p->error));
    TRY(hand_out(p, GRADIENT_FC1, block, draw, b->hidden, hidden));
    TRY(run_linear(p, b->blocks[block].fc1, hidden, token_rows(p, b->normed, model->width)));
    return leave_norm(p, &model->blocks[block].norm2, net->stream, stream.data);
}

/* ---- attention ---- */

/* [n, heads, t, head_dim] of one part of a qkv tensor, or of a context (part 0). */
static qvit_tensor heads_of(const struct pass *p, float *data, size_t part, size_t stride)
{
    const vit_model *model = p->model;
    qvit_tensor view;
    qvit_tensor_init(&view, data + part * model->width, QVIT_DTYPE_F32, 4,
                     (size_t[]){p->images, model->heads, model->tokens, model->head_dim});
    view.strides[0] = (ptrdiff_t)(model->tokens * stride);
    view.strides[1] = (ptrdiff_t)model->head_dim;
    view.strides[2] = (ptrdiff_t)stride;
    return view;
}

static qvit_tensor squares(const struct pass *p, float *data)
{
    const size_t tokens = p->model->tokens;
    qvit_tensor view;
    qvit_tensor_init(&view, data, QVIT_DTYPE_F32, 4,
                     (size_t[]){p->images, p->model->heads, tokens, tokens});
    return view;
}

/*
 * out = A^T B, for each head: A [t, t] lies at `square`, B and out in the columns of one part of
 * matrices with rows of b_stride and out_stride. As a left operand cannot be transposed, and B is
 * smaller than A, it is done as out^T = B^T A.
 */
static qvit_status multiply_transposed(const struct pass *p, float *square, float *right,
                                       size_t right_stride, float *out, size_t out_stride)
{
    const backward *b = p->b;
    const vit_model *model = p->model;
    const size_t n = p->images, t = model->tokens, width = model->width;
    const size_t turned[] = {n, model->heads, model->head_dim, t};
    const matrices from = {right, n, t, width, right_stride}, to = {b->left, n, width, t, t};
    const matrices back = {b->product, n, width, t, t}, result = {out, n, t, width, out_stride};
    qvit_tensor left, product;
    qvit_tensor_init(&left, b->left, QVIT_DTYPE_F32, 4, turned);
    qvit_tensor_init(&product, b->product, QVIT_DTYPE_F32, 4, turned);
    TRY(transpose(&b->executor, &from, &to, p->error));
    TRY(run_matmul(p, b->matmul, left, squares(p, square), product));
    return transpose(&b->executor, &back, &result, p->error);
}

/*
 * From the gradient of the context C = P V to that of Q, K and V, where P = softmax(scale S) and
 * S = Q K^T: dV = P^T dC, dP = dC V^T, dS from dP, dQ = dS K, dK = dS^T Q.
 */
static qvit_status leave_products(const struct pass *p, size_t block, size_t draw)
{
    const backward *b = p->b;
    const vit_model *model = p->model;
    const size_t width = model->width, row = PARTS * width;
    const float scale = 1 / sqrtf((float)model->head_dim);
    float *qkv = b->net->qkv, *probabilities = b->net->probabilities;
    qvit_tensor context = heads_of(p, b->context, 0, width), scores = squares(p, b->scores);

    TRY(hand_out(p, GRADIENT_PV, block, draw, b->context, context));
    TRY(multiply_transposed(p, probabilities, b->context, width, b->qkv + PART_V * width, row));
    TRY(run_matmul(p, b->matmul_transposed, context, heads_of(p, qkv, PART_V, row), scores));
    TRY(softmax_backward(&b->executor, probabilities, p->images * model->heads * model->tokens,
                         model->tokens, scale, b->scores, p->error));
    TRY(hand_out(p, GRADIENT_QK, block, draw, b->scores, scores));
    TRY(run_matmul(p, b->matmul, scores, heads_of(p, qkv, PART_K, row),
                   heads_of(p, b->qkv, PART_Q, row)));
    return multiply_transposed(p, b->scores, qkv + PART_Q * width, row, b->qkv + PART_K * width,
                               row);
}

/* x + proj(attention(qkv(norm1(x)))), where x is the input of the block. */
static qvit_status leave_attention(const struct pass *p, size_t block, size_t draw)
{
    const backward *b = p->b;
    const size_t width = p->model->width;
    qvit_tensor stream = token_rows(p, stream_of(p, draw), width);
    qvit_tensor qkv = token_rows(p, b->qkv, PARTS * width);

    TRY(hand_out(p, GRADIENT_PROJ, block, draw, stream.data, stream));
    TRY(run_linear(p, b->blocks[block].proj, stream, token_rows(p, b->context, width)));
    TRY(leave_products(p, block, draw));
    TRY(hand_out(p, GRADIENT_QKV, block, draw, b->qkv, qkv));
    TRY(run_linear(p, b->blocks[block].qkv, qkv, token_rows(p, b->normed, width)));
    return leave_norm(p, &p->model->blocks[block].norm1, input_of(p, block), stream.data);
}

/* ---- the pass ---- */

static void copy_stream(const struct pass *p, float *to, const float *from)
{
    memcpy(to, from, p->images * p->model->tokens * p->model->width * sizeof *to);
}

static qvit_status go_forward(const struct pass *p, const uint8_t *images,
                              const network_observer *observer)
{
    network_pass pass = p->forward;
    pass.observer = observer;
    TRY(network_embed(&pass, images));
    for (size_t block = 0; block < p->model->depth; block++) {
        copy_stream(p, input_of(p, block), p->b->net->stream);
        TRY(network_run_block(&pass, block));
    }
    copy_stream(p, input_of(p, p->model->depth), p->b->net->stream);
    return network_classify(&pass, p->b->logits);
}

/* Leaves in the network what the derivative needs: qkv, probabilities, the stream behind attention,
 * and in `hidden` what goes into GELU. */
static qvit_status run_again(const struct pass *p, size_t block)
{
    const network *net = p->b->net;
    qvit_tensor x = token_rows(p, net->stream, p->model->width);
    qvit_tensor normed = token_rows(p, net->normed, p->model->width);
    copy_stream(p, net->stream, input_of(p, block));
    TRY(network_attend(&p->forward, block));
    TRY(network_run_norm(&p->forward, &network_block(net, block)[STEP_NORM2], &x, &normed));
    return run_linear(p, p->b->blocks[block].bare_fc1, normed,
                      token_rows(p, net->hidden, p->model->hidden));
}

static qvit_status leave_block(const struct pass *p, size_t block)
{
    TRY(run_again(p, block));
    for (size_t draw = 0; draw < p->b->draws; draw++) {
        TRY(leave_mlp(p, block, draw));
        TRY(leave_attention(p, block, draw));
    }
    return QVIT_OK;
}

/* Patches are the stream's rows from the second token on. */
static qvit_status hand_out_patches(const struct pass *p, size_t draw)
{
    const vit_model *model = p->model;
    float *stream = stream_of(p, draw);
    qvit_tensor patches = token_rows(p, stream, model->width);
    patches.data = stream + model->width;
    patches.dims[1] = model->patches;
    return hand_out(p, GRADIENT_PATCH_EMBED, 0, draw, stream, patches);
}

static qvit_status go_back(const struct pass *p)
{
    for (size_t draw = 0; draw < p->b->draws; draw++) TRY(leave_head(p, draw));
    for (size_t block = p->model->depth; block-- > 0;) TRY(leave_block(p, block));
    for (size_t draw = 0; draw < p->b->draws; draw++) TRY(hand_out_patches(p, draw));
    return QVIT_OK;
}

qvit_status backward_run(backward *b, const uint8_t *images, size_t first_image, size_t count,
                         const network_observer *forward, const gradient_observer *gradients,
                         qvit_error *error)
{
    const struct pass pass = {
        .b = b,
        .model = b->net->model,
        .images = count,
        .first_image = first_image,
        .observer = gradients,
        .forward = {.net = b->net, .images = count, .error = error},
        .error = error,
    };
    TRY(go_forward(&pass, images, forward));
    return go_back(&pass);
}
