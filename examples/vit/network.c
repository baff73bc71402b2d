#include "network.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "fail.h"

typedef enum step_kind { KIND_NORM, KIND_LINEAR, KIND_ATTENTION } step_kind;

struct step_info {
    const char *name;
    step_kind kind;
};

static const struct step_info block_steps[STEPS_PER_BLOCK] = {
    [STEP_NORM1] = {"norm1", KIND_NORM},         [STEP_QKV] = {"attn.qkv", KIND_LINEAR},
    [STEP_ATTENTION] = {"attn", KIND_ATTENTION}, [STEP_PROJ] = {"attn.proj", KIND_LINEAR},
    [STEP_NORM2] = {"norm2", KIND_NORM},         [STEP_FC1] = {"mlp.fc1", KIND_LINEAR},
    [STEP_FC2] = {"mlp.fc2", KIND_LINEAR},
};
static const struct step_info patch_embed_step = {"patch_embed.proj", KIND_LINEAR};
static const struct step_info norm_step = {"norm", KIND_NORM};
static const struct step_info head_step = {"head", KIND_LINEAR};

static const struct step_info *step_info(const network *net, size_t step)
{
    if (step == 0) return &patch_embed_step;
    if (step == net->step_count - 2) return &norm_step;
    if (step == net->step_count - 1) return &head_step;
    return &block_steps[(step - 1) % STEPS_PER_BLOCK];
}

/* ---- memory ---- */

/* All blocks share the memory: their codes are of one size, though maybe of different types. */
static void lay_out(network *net, struct arena *arena)
{
    const vit_model *model = net->model;
    const network_step *block = network_block(net, 0);
    const size_t patches = net->batch * model->patches, tokens = net->batch * model->tokens;
    const size_t inputs = model->patch_embed.weight.dims[1];
    net->pixels = arena_take_rows(arena, QVIT_DTYPE_U8, patches, inputs);
    if (net->patches == QVIT_DTYPE_F32)
        net->patches_f32 = arena_take_rows(arena, QVIT_DTYPE_F32, patches, inputs);
    net->stream = arena_take_rows(arena, QVIT_DTYPE_F32, tokens, model->width);
    net->normed = arena_take_rows(arena, block[STEP_NORM1].output, tokens, model->width);
    net->qkv = arena_take_rows(arena, block[STEP_QKV].output, tokens, PARTS * model->width);
    net->context = arena_take_rows(arena, block[STEP_ATTENTION].output, tokens, model->width);
    net->hidden = arena_take_rows(arena, block[STEP_FC1].output, tokens, model->hidden);
    if (net->observed) {
        const size_t rows = tokens * model->heads;
        net->scores = arena_take_rows(arena, QVIT_DTYPE_F32, rows, model->tokens);
        net->probabilities = arena_take_rows(arena, QVIT_DTYPE_F32, rows, model->tokens);
    }
}

/* Steps run one after the other, so the largest workspace serves them all. */
static size_t workspace_size(const network *net)
{
    const size_t tokens = net->model->tokens;
    size_t largest = 0;
    for (size_t i = 0; i < net->step_count; i++) {
        const qvit_plan *plan = net->steps[i].plan;
        size_t size = 0;
        switch (step_info(net, i)->kind) {
        case KIND_NORM:
            break;
        case KIND_LINEAR:
            size = qvit_linear_workspace_size(plan, net->batch * tokens);
            break;
        case KIND_ATTENTION:
            size = qvit_attention_workspace_size(plan, tokens, tokens);
            break;
        }
        if (size > largest) largest = size;
    }
    return largest;
}

qvit_status network_begin(network *net, const vit_model *model, qvit_error *error)
{
    *net = (network){.model = model, .step_count = model->depth * STEPS_PER_BLOCK + 3};
    net->steps = calloc(net->step_count, sizeof *net->steps);
    return net->steps ? QVIT_OK : fail_memory(error);
}

qvit_status network_reserve(network *net, size_t batch, bool observed, qvit_error *error)
{
    net->batch = batch;
    net->observed = observed;
    struct arena arena = {0};
    lay_out(net, &arena);
    net->memory = aligned_alloc(QVIT_ALIGNMENT, arena.used);
    if (!net->memory) return fail_memory(error);
    arena = (struct arena){.memory = net->memory};
    lay_out(net, &arena);
    return network_reserve_workspace(net, error);
}

qvit_status network_reserve_workspace(network *net, qvit_error *error)
{
    const size_t size = workspace_size(net);
    if (size <= net->workspace_size) return QVIT_OK;
    if (size == SIZE_MAX) return fail_memory(error); /* it does not fit a size_t */
    void *larger = aligned_alloc(QVIT_ALIGNMENT,
                                 (size + QVIT_ALIGNMENT - 1) / QVIT_ALIGNMENT * QVIT_ALIGNMENT);
    if (!larger) return fail_memory(error);
    free(net->workspace);
    net->workspace = larger;
    net->workspace_size = size;
    return QVIT_OK;
}

void network_close(network *net)
{
    for (size_t i = 0; net->steps && i < net->step_count; i++)
        qvit_plan_destroy(net->steps[i].plan);
    free(net->steps);
    free(net->memory);
    free(net->workspace);
    *net = (network){0};
}

/* ---- steps ---- */

static qvit_status see(const network_pass *p, network_stage stage, size_t block,
                       const qvit_tensor *tensor)
{
    if (!p->observer) return QVIT_OK;
    return p->observer->see(p->observer->user, stage, block, tensor, p->error);
}

qvit_tensor network_tokens(const network_pass *p, void *data, qvit_dtype dtype, size_t cols)
{
    qvit_tensor rows;
    qvit_tensor_init(&rows, data, dtype, 3, (size_t[]){p->images, p->net->model->tokens, cols});
    return rows;
}

qvit_status network_run_norm(const network_pass *p, const network_step *step,
                             const qvit_tensor *input, const qvit_tensor *output)
{
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = input;
    args.output = output;
    return qvit_layer_norm_run(step->plan, &args, p->error);
}

qvit_status network_run_linear(const network_pass *p, const network_step *step,
                               const qvit_tensor *input, const qvit_tensor *residual,
                               const qvit_tensor *output)
{
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = input;
    args.residual = residual;
    args.output = output;
    args.workspace = p->net->workspace;
    args.workspace_size = p->net->workspace_size;
    return qvit_linear_run(step->plan, &args, p->error);
}

qvit_tensor network_heads(const qvit_tensor *qkv, size_t part, size_t heads)
{
    const size_t tokens = qkv->dims[1], width = qkv->dims[2] / PARTS, size = width / heads;
    const size_t element = qvit_tensor_bytes(qkv->dtype, 1, (size_t[]){1});
    qvit_tensor view;
    qvit_tensor_init(&view, (unsigned char *)qkv->data + part * width * element, qkv->dtype, 4,
                     (size_t[]){qkv->dims[0], tokens, heads, size});
    view.strides[0] = qkv->strides[0];
    view.strides[1] = qkv->strides[1];
    return view;
}

/* Queries, keys and values stay where the qkv layer wrote them. */
qvit_status network_run_attention(const network_pass *p, size_t block, const qvit_tensor *qkv,
                                  const qvit_tensor *context)
{
    const network *net = p->net;
    const vit_model *model = net->model;
    const size_t square[] = {p->images, model->heads, model->tokens, model->tokens};
    const size_t heads[] = {p->images, model->tokens, model->heads, model->head_dim};
    qvit_tensor query = network_heads(qkv, PART_Q, model->heads);
    qvit_tensor key = network_heads(qkv, PART_K, model->heads);
    qvit_tensor value = network_heads(qkv, PART_V, model->heads);
    qvit_tensor output, scores, probabilities;
    qvit_tensor_init(&output, context->data, context->dtype, 4, heads);
    qvit_tensor_init(&scores, net->scores, QVIT_DTYPE_F32, 4, square);
    qvit_tensor_init(&probabilities, net->probabilities, QVIT_DTYPE_F32, 4, square);

    qvit_attention_args args = QVIT_ATTENTION_ARGS_INIT;
    args.query = &query;
    args.key = &key;
    args.value = &value;
    args.output = &output;
    args.scores = p->observer ? &scores : NULL;
    args.probabilities = net->observed ? &probabilities : NULL;
    args.workspace = net->workspace;
    args.workspace_size = net->workspace_size;
    TRY(qvit_attention_run(network_block(net, block)[STEP_ATTENTION].plan, &args, p->error));
    TRY(see(p, STAGE_SCORES, block, &scores));
    return see(p, STAGE_PROBABILITIES, block, &probabilities);
}

/* ---- the forward pass ---- */

/* One row for each patch, from left to right and top to bottom: its pixels (y, x, channel). */
static void cut_patches(const vit_model *model, const uint8_t *images, size_t count, uint8_t *rows)
{
    const size_t line = model->patch * VIT_CHANNELS, side = model->image / model->patch;
    for (size_t row = 0; row < count * side; row++) {
        const uint8_t *band = images + row * model->patch * side * line; /* a row of patches */
        for (size_t x = 0; x < side; x++) {
            for (size_t y = 0; y < model->patch; y++, rows += line)
                memcpy(rows, band + (y * side + x) * line, line);
        }
    }
}

/* The patches enter the stream behind each image's class token; their positions are added to them
 * as a residual that repeats (stride 0) for every image. */
qvit_status network_embed(const network_pass *p, const uint8_t *images)
{
    const network *net = p->net;
    const vit_model *model = net->model;
    assert(p->images <= net->batch && (!p->observer || net->observed));
    const size_t inputs = model->patch_embed.weight.dims[1], width = model->width;
    const size_t in[] = {p->images, model->patches, inputs};
    const size_t out[] = {p->images, model->patches, width};
    qvit_tensor pixels, patches, positions, rows;
    qvit_tensor_init(&pixels, net->pixels, QVIT_DTYPE_U8, 3, in);
    qvit_tensor_init(&positions, model->positions.data, QVIT_DTYPE_F32, 3, out);
    positions.strides[0] = 0;
    qvit_tensor_init(&rows, net->stream + width, QVIT_DTYPE_F32, 3, out);
    rows.strides[0] = (ptrdiff_t)(model->tokens * width);

    cut_patches(model, images, p->images, net->pixels);
    TRY(see(p, STAGE_PATCHES, 0, &pixels));
    patches = pixels;
    if (net->patches == QVIT_DTYPE_F32) {
        for (size_t i = 0; i < in[0] * in[1] * in[2]; i++)
            net->patches_f32[i] = (float)net->pixels[i];
        qvit_tensor_init(&patches, net->patches_f32, QVIT_DTYPE_F32, 3, in);
    }
    for (size_t i = 0; i < p->images; i++)
        memcpy(net->stream + i * model->tokens * width, model->first.data, width * sizeof(float));
    return network_run_linear(p, network_patch_embed(net), &patches, &positions, &rows);
}

/* x += proj(attention(qkv(norm1(x)))), where x is the stream. */
qvit_status network_attend(const network_pass *p, size_t block)
{
    const network *net = p->net;
    const network_step *step = network_block(net, block);
    const size_t width = net->model->width;
    qvit_tensor x = network_tokens(p, net->stream, QVIT_DTYPE_F32, width);
    qvit_tensor normed = network_tokens(p, net->normed, step[STEP_NORM1].output, width);
    qvit_tensor qkv = network_tokens(p, net->qkv, step[STEP_QKV].output, PARTS * width);
    qvit_tensor context = network_tokens(p, net->context, step[STEP_ATTENTION].output, width);

    TRY(see(p, STAGE_X, block, &x));
    TRY(network_run_norm(p, &step[STEP_NORM1], &x, &normed));
    TRY(see(p, STAGE_LN1, block, &normed));
    TRY(network_run_linear(p, &step[STEP_QKV], &normed, NULL, &qkv));
    TRY(see(p, STAGE_QKV, block, &qkv));
    TRY(network_run_attention(p, block, &qkv, &context));
    TRY(see(p, STAGE_CONTEXT, block, &context));
    return network_run_linear(p, &step[STEP_PROJ], &context, &x, &x);
}

/* x += fc2(gelu(fc1(norm2(x)))): GELU is a part of fc1's plan. */
qvit_status network_transform(const network_pass *p, size_t block)
{
    const network *net = p->net;
    const network_step *step = network_block(net, block);
    qvit_tensor x = network_tokens(p, net->stream, QVIT_DTYPE_F32, net->model->width);
    qvit_tensor normed = network_tokens(p, net->normed, step[STEP_NORM2].output, net->model->width);
    qvit_tensor hidden = network_tokens(p, net->hidden, step[STEP_FC1].output, net->model->hidden);

    TRY(network_run_norm(p, &step[STEP_NORM2], &x, &normed));
    TRY(see(p, STAGE_LN2, block, &normed));
    TRY(network_run_linear(p, &step[STEP_FC1], &normed, NULL, &hidden));
    TRY(see(p, STAGE_HIDDEN, block, &hidden));
    TRY(network_run_linear(p, &step[STEP_FC2], &hidden, &x, &x));
    return see(p, STAGE_Y, block, &x);
}

/* Only the class token is read in the end. */
qvit_status network_classify(const network_pass *p, float *logits)
{
    const network *net = p->net;
    const vit_model *model = net->model;
    qvit_tensor first, features, output;
    qvit_tensor_init(&first, net->stream, QVIT_DTYPE_F32, 2, (size_t[]){p->images, model->width});
    first.strides[0] = (ptrdiff_t)(model->tokens * model->width);
    qvit_tensor_init(&features, net->normed, network_norm(net)->output, 2, first.dims);
    qvit_tensor_init(&output, logits, QVIT_DTYPE_F32, 2, (size_t[]){p->images, model->classes});

    TRY(network_run_norm(p, network_norm(net), &first, &features));
    TRY(see(p, STAGE_FEATURES, 0, &features));
    return network_run_linear(p, network_head(net), &features, NULL, &output);
}

qvit_status network_run_block(const network_pass *p, size_t block)
{
    TRY(network_attend(p, block));
    return network_transform(p, block);
}

qvit_status network_forward(network *net, const uint8_t *images, size_t count, float *logits,
                            const network_observer *observer, qvit_error *error)
{
    const network_pass pass = {net, count, observer, error};
    TRY(network_embed(&pass, images));
    for (size_t block = 0; block < net->model->depth; block++) TRY(network_run_block(&pass, block));
    return network_classify(&pass, logits);
}

/* ---- for reports ---- */

const char *network_step_name(const network *net, size_t step, char name[NETWORK_NAME])
{
    const char *own = step_info(net, step)->name;
    bool in_block = step > 0 && step < net->step_count - 2;
    if (in_block)
        snprintf(name, NETWORK_NAME, "blocks.%zu.%s", (step - 1) / STEPS_PER_BLOCK, own);
    else
        snprintf(name, NETWORK_NAME, "%s", own);
    return name;
}

size_t network_packed_bytes(const network *net)
{
    size_t bytes = 0;
    for (size_t i = 0; i < net->step_count; i++) {
        if (step_info(net, i)->kind == KIND_LINEAR)
            bytes += qvit_plan_packed_bytes(net->steps[i].plan);
    }
    return bytes;
}
