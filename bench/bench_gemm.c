/* bench_gemm.c - linear plans of the transformers' shapes, with all weights and epilogues. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "material.h"
#include "shapes_vit.h"

static const char *const weight_kinds[] = {"s8", "s6", "s4", "u4", "f32"};
static const char *const operands[] = {"plain", "twin"};
static const char *const epilogues[] = {"s32", "requant", "gelu-twin", "f32"};
static const char *const granularities[] = {"rows", "layer", "k128", "k64"};
enum { ROWS, LAYER, K128, K64, GRANULARITIES };
enum { S32, REQUANT, GELU_TWIN, FLOATS, EPILOGUES };
enum { PLAIN, TWIN, OPERANDS };
enum { S8, S6, S4, U4, F32, WEIGHTS };

/* A kind of product: an index into each of the lists above. */
struct kind {
    int weights, operand, epilogue, granularity;
};

/* One plan with what it works on. */
struct product {
    qvit_plan *plan;
    qvit_tensor input, output;
    void *workspace;
    struct qvit_linear_args args;
};

static void run(void *user)
{
    const struct product *p = user;
    BENCH_TRY(qvit_linear_run(p->plan, &p->args, &bench_error));
}

/* One granularity, or, in turns, all that models use. */
static int wanted_granularity(const struct bench_options *o, int granularity)
{
    const char *wish = o->granularity ? o->granularity : granularities[ROWS];
    if (!strcmp(wish, "all")) return granularity != LAYER;
    return !strcmp(wish, granularities[granularity]);
}

/* Bare sums are of plain codes only, and not of blocks; a float layer has one form. */
static int wanted(const struct bench_options *o, struct kind k)
{
    if (k.weights == F32 ? k.granularity != ROWS : !wanted_granularity(o, k.granularity)) return 0;
    if (k.granularity >= K128 && k.epilogue == S32) return 0;
    if (k.weights == F32 && (k.operand != PLAIN || k.epilogue != FLOATS)) return 0;
    if (k.operand == TWIN && k.epilogue == S32) return 0;
    return bench_wants(o->weights, weight_kinds[k.weights]) &&
           bench_wants(o->operand, operands[k.operand]) &&
           bench_wants(o->epilogue, epilogues[k.epilogue]);
}

static struct material_layer layer_of(const struct material *m, struct kind k)
{
    struct material_layer layer = {
        .weights = weight_kinds[k.weights],
        .granularity = granularities[k.granularity],
        .input = material_port(k.weights == F32    ? NULL
                               : k.operand == TWIN ? m->twin_gelu
                                                   : m->u8),
        .output = material_port(NULL),
    };
    if (k.epilogue == S32) layer.output.dtype = QVIT_DTYPE_S32;
    if (k.epilogue == REQUANT) layer.output = material_port(m->u8);
    if (k.epilogue == GELU_TWIN) {
        layer.output = material_port(m->twin_gelu);
        layer.activation = QVIT_ACTIVATION_GELU;
    }
    return layer;
}

static struct product *make_product(const struct material *m, const struct material_layer *layer,
                                    size_t rows)
{
    struct product *p = material_memory(sizeof *p);
    *p = (struct product){.plan = material_linear(m, layer),
                          .input = material_tensor(layer->input.dtype, rows, layer->k),
                          .output = material_tensor(layer->output.dtype, rows, layer->n),
                          .args = QVIT_LINEAR_ARGS_INIT};
    p->args.input = &p->input;
    p->args.output = &p->output;
    p->args.workspace_size = qvit_linear_workspace_size(p->plan, rows);
    p->args.workspace = p->workspace = material_memory(p->args.workspace_size);
    return p;
}

static void add_product(struct bench *b, const struct material *m, size_t rows,
                        const struct vit_arch *arch, const struct vit_layer *shape, struct kind k)
{
    struct material_layer layer = layer_of(m, k);
    layer.n = shape->n * arch->width;
    layer.k = shape->k * arch->width;
    struct product *p = make_product(m, &layer, rows);
    char name[32];
    snprintf(name, sizeof name, "%s.%s", arch->name, shape->name);
    struct bench_row *row = bench_add(b, "gemm", name, run, p);
    row->macs = (double)rows * (double)layer.n * (double)layer.k;
    row->peak = k.weights == F32 ? PEAK_F32 : PEAK_INT8;
    bench_text(row, "isa", qvit_engine_isa_name(b->engine));
    bench_number(row, "m", (double)rows, 0);
    bench_number(row, "n", (double)layer.n, 0);
    bench_number(row, "k", (double)layer.k, 0);
    bench_text(row, "weights", layer.weights);
    bench_text(row, "operand", operands[k.operand]);
    bench_text(row, "epilogue", epilogues[k.epilogue]);
    bench_text(row, "granularity", k.weights == F32 ? "" : layer.granularity);
    bench_text(row, "kernel", qvit_plan_kernel(p->plan));
    bench_number(row, "threads", (double)b->options.threads, 0);
}

static void add_kind(struct bench *b, const struct material *m, size_t rows, struct kind k)
{
    for (size_t a = 0; a < VIT_ARCHS; a++) {
        if (!bench_wants(b->options.arch, vit_archs[a].name)) continue;
        if (b->options.quick && !b->options.arch && a > 0) continue;
        for (size_t l = 0; l < VIT_LAYERS; l++)
            add_product(b, m, rows, &vit_archs[a], &vit_layers[l], k);
    }
}

/* The kinds in order: a number counts through all of them. */
static struct kind kind_of(int number)
{
    const int rest = number / GRANULARITIES;
    return (struct kind){rest / EPILOGUES / OPERANDS, rest / EPILOGUES % OPERANDS, rest % EPILOGUES,
                         number % GRANULARITIES};
}

/* The rows of one kind in one line: geometric mean and worst. */
static void summarize(const struct bench *b, size_t first, struct kind k)
{
    double logs = 0, least = 0;
    int count = 0;
    for (size_t i = first; i < b->count; i++) {
        const struct bench_row *row = &b->rows[i];
        if (bench_text_of(row, "weights") != weight_kinds[k.weights] ||
            bench_text_of(row, "operand") != operands[k.operand] ||
            bench_text_of(row, "epilogue") != epilogues[k.epilogue] ||
            bench_text_of(row, "granularity") !=
                (k.weights == F32 ? "" : granularities[k.granularity]))
            continue;
        double percent = bench_percent(b, row);
        logs += log(percent);
        if (count++ == 0 || percent < least) least = percent;
    }
    if (count == 0 || isnan(logs)) return;
    printf("    %-4s %-6s %-10s %-5s %5.1f %% of peak (geometric mean of %d), least %5.1f %%\n",
           weight_kinds[k.weights], operands[k.operand], epilogues[k.epilogue],
           k.weights == F32 ? "" : granularities[k.granularity], exp(logs / count), count, least);
}

static void bench_rows(struct bench *b, const struct material *m, size_t rows)
{
    size_t first = b->count;
    const int kinds = WEIGHTS * OPERANDS * EPILOGUES * GRANULARITIES;
    for (int i = 0; i < kinds; i++)
        if (wanted(&b->options, kind_of(i))) add_kind(b, m, rows, kind_of(i));
    bench_measure(b, first);
    bench_print(b, first);
    if (!b->options.json && first < b->count) {
        printf("\n%zu rows:\n", rows);
        for (int i = 0; i < kinds; i++) summarize(b, first, kind_of(i));
    }
    for (size_t i = first; i < b->count; i++) {
        struct product *p = b->rows[i].user;
        qvit_plan_destroy(p->plan);
        free(p->input.data);
        free(p->output.data);
        free(p->workspace);
        free(p);
    }
}

void bench_gemm(struct bench *b)
{
    struct material m;
    material_open(&m, b->engine);
    const size_t counts[] = {VIT_TOKENS, VIT_TOKENS * VIT_BATCH};
    if (b->options.m)
        bench_rows(b, &m, b->options.m);
    else
        for (int i = 0; i < (b->options.quick ? 1 : 2); i++) bench_rows(b, &m, counts[i]);
    material_close(&m);
}
