/* bench_attention.c - attention plans: from joint queries, keys and values to the context. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

#include "material.h"
#include "shapes_vit.h"

static const struct form {
    const char *name, *operand,
        *upper; /* upper: probabilities of a row in the twin's upper range */
} forms[] = {{"plain", "plain", ""},
             {"twin", "twin", "8"},
             {"twin", "twin", "all"},
             {"twin4", "twin", ""},
             {"f32", "f32", ""}};
enum { PLAIN, TWIN, TWIN_DENSE, TWIN_4, F32, FORMS };

struct attention {
    qvit_plan *plan;
    qvit_tensor joint, context; /* as they lie in memory: rows of 3 and of 1 times the width */
    qvit_tensor query, key, value, out; /* [batch, tokens, heads, head_dim] */
    void *workspace;
    qvit_attention_args args;
};

static void run(void *user)
{
    const struct attention *a = user;
    BENCH_TRY(qvit_attention_run(a->plan, &a->args, &bench_error));
}

static qvit_plan *make_plan(const struct material *m, size_t heads, int form)
{
    const qvit_quantizer *const probabilities[FORMS] = {[PLAIN] = m->probability,
                                                        [TWIN] = m->twin_softmax,
                                                        [TWIN_DENSE] = m->twin_softmax_dense,
                                                        [TWIN_4] = m->twin_softmax_4};
    const qvit_quantizer *codes = form == F32 ? NULL : m->s8;
    qvit_attention_options options = QVIT_ATTENTION_OPTIONS_INIT;
    options.query = options.key = options.value = material_port(codes);
    options.probability = material_port(probabilities[form]);
    options.output = material_port(form == F32 ? NULL : m->u8);
    options.heads = heads;
    options.head_dim = VIT_HEAD_DIM;
    /* codes of all values alike have a deviation of 73 / 32, which this makes one of scores */
    options.score_scale = (form == F32 ? 1.0f : 0.19f) / sqrtf(VIT_HEAD_DIM);
    qvit_plan *plan;
    BENCH_TRY(qvit_attention_create(m->engine, &options, &plan, &bench_error));
    return plan;
}

/* Heads side by side in rows of `row` elements, from element `first` on. */
static qvit_tensor heads_of(const qvit_tensor *rows, size_t first, const size_t dims[4])
{
    const size_t element = qvit_tensor_bytes(rows->dtype, 1, (size_t[]){1});
    qvit_tensor view;
    qvit_tensor_init(&view, (char *)rows->data + first * element, rows->dtype, 4, dims);
    view.strides[1] = rows->strides[0];
    view.strides[0] = (ptrdiff_t)dims[1] * view.strides[1];
    return view;
}

static struct attention *make(const struct material *m, size_t heads, size_t batch, int form)
{
    struct attention *a = material_memory(sizeof *a);
    const size_t width = heads * VIT_HEAD_DIM, rows = batch * VIT_TOKENS;
    const size_t dims[] = {batch, VIT_TOKENS, heads, VIT_HEAD_DIM};
    *a = (struct attention){
        .plan = make_plan(m, heads, form),
        .joint = material_tensor(form == F32 ? QVIT_DTYPE_F32 : QVIT_DTYPE_S8, rows, 3 * width),
        .context = material_tensor(form == F32 ? QVIT_DTYPE_F32 : QVIT_DTYPE_U8, rows, width),
        .args = QVIT_ATTENTION_ARGS_INIT};
    a->query = heads_of(&a->joint, 0, dims);
    a->key = heads_of(&a->joint, width, dims);
    a->value = heads_of(&a->joint, 2 * width, dims);
    a->out = heads_of(&a->context, 0, dims);
    a->args.query = &a->query;
    a->args.key = &a->key;
    a->args.value = &a->value;
    a->args.output = &a->out;
    a->args.workspace_size = qvit_attention_workspace_size(a->plan, VIT_TOKENS, VIT_TOKENS);
    a->args.workspace = a->workspace = material_memory(a->args.workspace_size);
    return a;
}

static void add(struct bench *b, const struct material *m, const struct vit_arch *arch, int form)
{
    const size_t batch = b->options.batch ? b->options.batch : 1;
    const size_t heads = arch->width / VIT_HEAD_DIM;
    struct attention *a = make(m, heads, batch, form);
    struct bench_row *row = bench_add(b, "attention", arch->name, run, a);
    row->macs = 2.0 * VIT_TOKENS * VIT_TOKENS * VIT_HEAD_DIM * (double)(heads * batch);
    row->peak = form == F32 ? PEAK_F32 : PEAK_INT8;
    bench_text(row, "isa", qvit_engine_isa_name(b->engine));
    bench_number(row, "heads", (double)heads, 0);
    bench_number(row, "tokens", VIT_TOKENS, 0);
    bench_number(row, "head_dim", VIT_HEAD_DIM, 0);
    bench_number(row, "batch", (double)batch, 0);
    bench_text(row, "softmax", forms[form].name);
    bench_text(row, "upper", forms[form].upper);
    bench_text(row, "kernel", qvit_plan_kernel(a->plan));
    bench_number(row, "threads", (double)b->options.threads, 0);
}

void bench_attention(struct bench *b)
{
    struct material m;
    material_open(&m, b->engine);
    size_t first = b->count;
    for (size_t i = 0; i < VIT_ARCHS; i++) {
        if (!bench_wants(b->options.arch, vit_archs[i].name)) continue;
        for (int form = 0; form < FORMS; form++)
            if (bench_wants(b->options.operand, forms[form].operand))
                add(b, &m, &vit_archs[i], form);
    }
    bench_measure(b, first);
    bench_print(b, first);
    for (size_t i = first; i < b->count; i++) {
        struct attention *a = b->rows[i].user;
        qvit_plan_destroy(a->plan);
        free(a->joint.data);
        free(a->context.data);
        free(a->workspace);
        free(a);
    }
    material_close(&m);
}
