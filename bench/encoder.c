#include "encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "shapes_vit.h"

const char *const encoder_step_names[ENCODER_STEPS] = {
    "ms_patch", "ms_norm", "ms_qkv", "ms_attention", "ms_proj", "ms_fc1", "ms_fc2", "ms_head"};

struct block {
    qvit_plan *norm1, *qkv, *attention, *proj, *norm2, *fc1, *fc2;
};

struct step {
    enum encoder_step kind;
    double fastest; /* ns; 0: has not run */
};
enum { MAX_STEPS = 7 * VIT_DEPTH + 3 };

struct encoder {
    size_t width, batch, heads;
    qvit_plan *patch, *norm, *head;
    struct block blocks[VIT_DEPTH];
    /* [batch, rows, columns]; x is the stream of floats that all blocks add to */
    qvit_tensor pixels, positions, x, normed, qkv, context, hidden, logits;
    void *workspace;
    size_t workspace_size;
    struct step steps[MAX_STEPS];
    size_t step; /* the next one of this run */
};

/* ---- making ---- */

/* What flows between the steps. */
struct ports {
    qvit_port floats, input, qkv, probability, hidden;
};

static struct ports choose_ports(const struct material *m, const struct encoder_form *form)
{
    struct ports p = {.floats = material_port(NULL)};
    int codes = strcmp(form->bits, "f32") != 0, twin = form->twin;
    p.input = material_port(codes ? m->u8 : NULL);
    p.qkv = material_port(codes ? m->s8 : NULL);
    p.probability = material_port(!codes ? NULL : twin ? m->twin_softmax : m->probability);
    p.hidden = material_port(!codes ? NULL : twin ? m->twin_gelu : m->u8);
    return p;
}

static qvit_plan *make_norm(const struct material *m, size_t width, qvit_port output, int reordered)
{
    qvit_tensor gamma = material_vector(width, 0.1f), beta = material_vector(width, 0.1f);
    for (size_t i = 0; i < width; i++) ((float *)gamma.data)[i] += 1;
    qvit_layer_norm_options options = QVIT_LAYER_NORM_OPTIONS_INIT;
    options.gamma = &gamma;
    options.beta = &beta;
    options.output = output;
    qvit_tensor order = {0};
    if (reordered) {
        order = material_order(width);
        options.output_order = &order;
    }
    qvit_plan *plan;
    BENCH_TRY(qvit_layer_norm_create(m->engine, &options, &plan, &bench_error));
    free(gamma.data);
    free(beta.data);
    free(order.data);
    return plan;
}

static qvit_plan *make_attention(const struct material *m, size_t heads, const struct ports *p)
{
    qvit_attention_options options = QVIT_ATTENTION_OPTIONS_INIT;
    options.query = options.key = options.value = p->qkv;
    options.probability = p->probability;
    options.output = p->input;
    options.heads = heads;
    options.head_dim = VIT_HEAD_DIM;
    options.score_scale = 1 / sqrtf(VIT_HEAD_DIM);
    qvit_plan *plan;
    BENCH_TRY(qvit_attention_create(m->engine, &options, &plan, &bench_error));
    return plan;
}

static const char *weights_of(const struct encoder_form *form)
{
    return !strcmp(form->bits, "w8a8") ? "s8" : !strcmp(form->bits, "w4a8") ? "s4" : "f32";
}

static void make_plans(struct encoder *e, const struct material *m, const struct ports *p,
                       const struct encoder_form *form)
{
    const size_t w = e->width, hidden = VIT_MLP * w;
    struct material_layer layer = {.weights = weights_of(form), .granularity = "rows"};
/* n x k weights: sizes, what comes in, what is added, what goes out */
#define LINEAR(rows, cols, in, added, out)                                                         \
    (layer.n = rows, layer.k = cols, layer.input = in, layer.residual = added, layer.output = out, \
     material_linear(m, &layer))
    const qvit_port none = {QVIT_DTYPE_NONE, 0, NULL};
    e->patch = LINEAR(w, VIT_PATCH_INPUTS, p->input, p->floats, p->floats);
    for (struct block *b = e->blocks; b < e->blocks + VIT_DEPTH; b++) {
        b->norm1 = make_norm(m, w, p->input, form->reordered);
        b->qkv = LINEAR(3 * w, w, p->input, none, p->qkv);
        b->attention = make_attention(m, e->heads, p);
        b->proj = LINEAR(w, w, p->input, p->floats, p->floats);
        b->norm2 = make_norm(m, w, p->input, form->reordered);
        layer.activation = QVIT_ACTIVATION_GELU;
        b->fc1 = LINEAR(hidden, w, p->input, none, p->hidden);
        layer.activation = QVIT_ACTIVATION_NONE;
        b->fc2 = LINEAR(w, hidden, p->hidden, p->floats, p->floats);
    }
    e->norm = make_norm(m, w, p->input, form->reordered);
    e->head = LINEAR(VIT_CLASSES, w, p->input, none, p->floats);
#undef LINEAR
}

static qvit_tensor make_rows(const struct encoder *e, qvit_port port, size_t rows, size_t cols)
{
    qvit_tensor flat = material_tensor(port.dtype, e->batch * rows, cols), tensor;
    qvit_tensor_init(&tensor, flat.data, port.dtype, 3, (size_t[]){e->batch, rows, cols});
    return tensor;
}

static void make_tensors(struct encoder *e, const struct ports *p)
{
    const size_t w = e->width;
    e->pixels = make_rows(e, p->input, VIT_PATCHES, VIT_PATCH_INPUTS);
    e->positions = make_rows(e, p->floats, VIT_PATCHES, w);
    e->positions.strides[0] = 0; /* the same for each image */
    e->x = make_rows(e, p->floats, VIT_TOKENS, w);
    e->normed = make_rows(e, p->input, VIT_TOKENS, w);
    e->qkv = make_rows(e, p->qkv, VIT_TOKENS, 3 * w);
    e->context = make_rows(e, p->input, VIT_TOKENS, w);
    e->hidden = make_rows(e, p->hidden, VIT_TOKENS, VIT_MLP * w);
    e->logits = make_rows(e, p->floats, 1, VIT_CLASSES);
}

static void make_workspace(struct encoder *e)
{
    const struct block *b = e->blocks;
    const qvit_plan *const layers[] = {e->patch, b->qkv, b->proj, b->fc1, b->fc2, e->head};
    e->workspace_size = qvit_attention_workspace_size(b->attention, VIT_TOKENS, VIT_TOKENS);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        size_t size = qvit_linear_workspace_size(layers[i], e->batch * VIT_TOKENS);
        if (size > e->workspace_size) e->workspace_size = size;
    }
    e->workspace = material_memory(e->workspace_size);
}

struct encoder *encoder_create(const struct material *m, size_t width, size_t batch,
                               const struct encoder_form *form)
{
    struct encoder *e = material_memory(sizeof *e);
    *e = (struct encoder){.width = width, .batch = batch, .heads = width / VIT_HEAD_DIM};
    const struct ports ports = choose_ports(m, form);
    make_plans(e, m, &ports, form);
    make_tensors(e, &ports);
    make_workspace(e);
    return e;
}

void encoder_destroy(struct encoder *e)
{
    qvit_plan_destroy(e->patch);
    qvit_plan_destroy(e->norm);
    qvit_plan_destroy(e->head);
    for (struct block *b = e->blocks; b < e->blocks + VIT_DEPTH; b++) {
        qvit_plan *const plans[] = {b->norm1, b->qkv, b->attention, b->proj,
                                    b->norm2, b->fc1, b->fc2};
        for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) qvit_plan_destroy(plans[i]);
    }
    qvit_tensor *const tensors[] = {&e->pixels, &e->positions, &e->x,      &e->normed,
                                    &e->qkv,    &e->context,   &e->hidden, &e->logits};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) free(tensors[i]->data);
    free(e->workspace);
    free(e);
}

/* ---- running ---- */

static void end_step(struct encoder *e, enum encoder_step kind, double start)
{
    struct step *step = &e->steps[e->step++];
    double took = timer_now() - start;
    step->kind = kind;
    if (step->fastest == 0 || took < step->fastest) step->fastest = took;
}

static void linear(struct encoder *e, enum encoder_step step, const qvit_plan *plan,
                   const qvit_tensor *input, const qvit_tensor *residual, const qvit_tensor *output)
{
    double start = timer_now();
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = input;
    args.residual = residual;
    args.output = output;
    args.workspace = e->workspace;
    args.workspace_size = e->workspace_size;
    BENCH_TRY(qvit_linear_run(plan, &args, &bench_error));
    end_step(e, step, start);
}

static void norm(struct encoder *e, const qvit_plan *plan, const qvit_tensor *input,
                 const qvit_tensor *output)
{
    double start = timer_now();
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = input;
    args.output = output;
    BENCH_TRY(qvit_layer_norm_run(plan, &args, &bench_error));
    end_step(e, ENCODER_NORM, start);
}

/* A third of the joint rows, or the context, as [batch, tokens, heads, head_dim]. */
static qvit_tensor heads_of(const struct encoder *e, const qvit_tensor *rows, size_t part)
{
    const size_t dims[] = {e->batch, VIT_TOKENS, e->heads, VIT_HEAD_DIM};
    const size_t element = qvit_tensor_bytes(rows->dtype, 1, (size_t[]){1});
    qvit_tensor view;
    qvit_tensor_init(&view, (char *)rows->data + part * e->width * element, rows->dtype, 4, dims);
    view.strides[0] = rows->strides[0];
    view.strides[1] = rows->strides[1];
    return view;
}

static void attention(struct encoder *e, const qvit_plan *plan)
{
    double start = timer_now();
    qvit_tensor query = heads_of(e, &e->qkv, 0), key = heads_of(e, &e->qkv, 1);
    qvit_tensor value = heads_of(e, &e->qkv, 2), output = heads_of(e, &e->context, 0);
    qvit_attention_args args = QVIT_ATTENTION_ARGS_INIT;
    args.query = &query;
    args.key = &key;
    args.value = &value;
    args.output = &output;
    args.workspace = e->workspace;
    args.workspace_size = e->workspace_size;
    BENCH_TRY(qvit_attention_run(plan, &args, &bench_error));
    end_step(e, ENCODER_ATTENTION, start);
}

/* The patches go behind the class token. */
static void embed(struct encoder *e)
{
    qvit_tensor patches = e->x;
    patches.dims[1] = VIT_PATCHES;
    patches.data = (float *)e->x.data + e->width;
    linear(e, ENCODER_PATCH, e->patch, &e->pixels, &e->positions, &patches);
}

static void classify(struct encoder *e)
{
    qvit_tensor token = e->x, features = e->normed;
    token.dims[1] = features.dims[1] = 1;
    norm(e, e->norm, &token, &features);
    linear(e, ENCODER_HEAD, e->head, &features, NULL, &e->logits);
}

/* The class tokens would grow from run to run. */
static void reset_tokens(struct encoder *e)
{
    for (size_t i = 0; i < e->batch; i++)
        memcpy((float *)e->x.data + (ptrdiff_t)i * e->x.strides[0], e->positions.data,
               e->width * sizeof(float));
}

void encoder_run(struct encoder *e)
{
    e->step = 0;
    reset_tokens(e);
    embed(e);
    for (const struct block *b = e->blocks; b < e->blocks + VIT_DEPTH; b++) {
        norm(e, b->norm1, &e->x, &e->normed);
        linear(e, ENCODER_QKV, b->qkv, &e->normed, NULL, &e->qkv);
        attention(e, b->attention);
        linear(e, ENCODER_PROJ, b->proj, &e->context, &e->x, &e->x);
        norm(e, b->norm2, &e->x, &e->normed);
        linear(e, ENCODER_FC1, b->fc1, &e->normed, NULL, &e->hidden);
        linear(e, ENCODER_FC2, b->fc2, &e->hidden, &e->x, &e->x);
    }
    classify(e);
}

double encoder_step_time(const struct encoder *e, enum encoder_step kind)
{
    double sum = 0;
    for (size_t i = 0; i < e->step; i++)
        if (e->steps[i].kind == kind) sum += e->steps[i].fastest;
    return sum;
}
