/*
 * bench_ops.c - what is not a product: a matrix of tokens through every other kernel that the
 * engine chose, row by row as the operations call it, and through the plans that are no more.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "material.h"
#include "shapes_vit.h"

enum { SCORES = 224 }; /* keys, padded as the softmax kernels may want it */

/* One matrix in, one out; the kernels' arguments are filled in for the first row. */
struct op {
    const struct qvitp_kernels *kernels;
    size_t rows, cols;
    qvit_tensor input, output, gamma, beta;
    uint8_t *second; /* the other plane of staged twins */
    qvit_plan *plan;
    struct qvitp_softmax_codes softmax; /* of codes */
    struct qvitp_encode encode;
    struct qvitp_stage stage;
    qvitp_stage_fn *run_stage;
    size_t element; /* bytes of what it writes */
};

static void run_norm(void *user)
{
    const struct op *op = user;
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = &op->input, args.output = &op->output;
    BENCH_TRY(qvit_layer_norm_run(op->plan, &args, &bench_error));
}

static void run_quantize(void *user)
{
    const struct op *op = user;
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = &op->input, args.output = &op->output;
    BENCH_TRY(qvit_quantize_run(op->plan, &args, &bench_error));
}

/* A tile's rows at a time, as attention does. The kernels spoil their scores, so they are copied: some 10 ns
 * of the time of a row. */
enum { TILE = 12 };
typedef float score_tile[TILE][SCORES];

static size_t copy_scores(const struct op *op, size_t first, score_tile scores)
{
    size_t rows = op->rows - first < TILE ? op->rows - first : TILE;
    for (size_t t = 0; t < rows; t++)
        memcpy(scores[t], (const float *)op->input.data + (first + t) * op->cols,
               op->cols * sizeof(float));
    return rows;
}

static void run_softmax(void *user)
{
    const struct op *op = user;
    score_tile scores __attribute__((aligned(QVIT_ALIGNMENT)));
    struct qvitp_softmax rows = {.n = op->cols, .scores = scores[0], .lds = SCORES};
    rows.ldd = (ptrdiff_t)op->cols;
    for (size_t i = 0; i < op->rows; i += rows.m) {
        rows.m = copy_scores(op, i, scores);
        rows.dst = (float *)op->output.data + i * op->cols;
        op->kernels->softmax->run(&rows);
    }
}

static void run_softmax_codes(void *user)
{
    const struct op *op = user;
    score_tile scores __attribute__((aligned(QVIT_ALIGNMENT)));
    struct qvitp_softmax_codes rows = op->softmax;
    rows.n = op->cols, rows.scores = scores[0], rows.lds = SCORES, rows.ldd = (ptrdiff_t)op->cols;
    for (size_t i = 0; i < op->rows; i += rows.m) {
        rows.m = copy_scores(op, i, scores);
        rows.dst = (uint8_t *)op->output.data + i * op->cols;
        op->kernels->softmax_codes->run(&rows);
    }
}

static void run_encode(void *user)
{
    const struct op *op = user;
    struct qvitp_encode row = op->encode;
    for (size_t i = 0; i < op->rows; i++) {
        row.x = (const float *)op->input.data + i * op->cols;
        row.codes = (uint8_t *)op->output.data + i * op->cols;
        op->kernels->encode->run(&row);
    }
}

static void run_stage(void *user)
{
    const struct op *op = user;
    struct qvitp_stage row = op->stage;
    row.m = 1;
    for (size_t i = 0; i < op->rows; i++) {
        row.codes = (const uint8_t *)op->input.data + i * op->cols;
        size_t at = i % 14 * op->cols * op->element; /* a tile's rows, used again and again */
        row.dst = (char *)op->output.data + at;
        row.dst2 = op->second + at;
        op->run_stage(&row);
    }
}

static struct op *new_op(const struct bench *b, size_t cols, qvit_dtype in, qvit_dtype out)
{
    struct op *op = material_memory(sizeof *op);
    *op = (struct op){.kernels = &b->engine->kernels,
                      .rows = VIT_TOKENS,
                      .cols = cols,
                      .input = material_tensor(in, VIT_TOKENS, cols),
                      .output = material_tensor(out, VIT_TOKENS, cols)};
    return op;
}

static void add(struct bench *b, const char *name, const char *form, const char *kernel,
                timer_call *call, struct op *op)
{
    struct bench_row *row = bench_add(b, "ops", name, call, op);
    bench_text(row, "isa", qvit_engine_isa_name(b->engine));
    bench_number(row, "rows", (double)op->rows, 0);
    bench_number(row, "cols", (double)op->cols, 0);
    bench_text(row, "output", form);
    bench_text(row, "kernel", kernel);
    bench_number(row, "threads", (double)b->options.threads, 0);
}

static void add_norm(struct bench *b, size_t cols, const qvit_quantizer *quantizer,
                     const char *form)
{
    qvit_layer_norm_options options = QVIT_LAYER_NORM_OPTIONS_INIT;
    options.output = material_port(quantizer);
    struct op *op = new_op(b, cols, QVIT_DTYPE_F32, options.output.dtype);
    op->gamma = material_vector(cols, 1);
    op->beta = material_vector(cols, 1);
    options.gamma = &op->gamma, options.beta = &op->beta;
    BENCH_TRY(qvit_layer_norm_create(b->engine, &options, &op->plan, &bench_error));
    add(b, "layer_norm", form, qvit_plan_kernel(op->plan), run_norm, op);
}

static void add_quantize(struct bench *b, size_t cols, const qvit_quantizer *quantizer,
                         const char *form)
{
    qvit_quantize_options options = QVIT_QUANTIZE_OPTIONS_INIT;
    options.output = material_port(quantizer);
    struct op *op = new_op(b, cols, QVIT_DTYPE_F32, options.output.dtype);
    BENCH_TRY(qvit_quantize_create(b->engine, &options, &op->plan, &bench_error));
    add(b, "quantize", form, qvit_plan_kernel(op->plan), run_quantize, op);
}

static void add_softmax(struct bench *b)
{
    struct op *op = new_op(b, VIT_TOKENS, QVIT_DTYPE_F32, QVIT_DTYPE_F32);
    add(b, "softmax", "f32", op->kernels->softmax->name, run_softmax, op);
}

static void add_softmax_codes(struct bench *b, const char *form, struct qvitp_softmax_codes softmax)
{
    struct op *op = new_op(b, VIT_TOKENS, QVIT_DTYPE_F32, QVIT_DTYPE_U8);
    softmax.steps = QVITP_SOFTMAX_STEPS, softmax.hi = 255, softmax.sums = 1;
    op->softmax = softmax;
    add(b, "softmax", form, op->kernels->softmax_codes->name, run_softmax_codes, op);
}

static void add_encode(struct bench *b, const char *form, struct qvitp_encode encode)
{
    struct op *op = new_op(b, 768, QVIT_DTYPE_F32, QVIT_DTYPE_U8);
    encode.n = op->cols;
    op->encode = encode;
    add(b, "encode", form, op->kernels->encode->name, run_encode, op);
}

/* One row for each form that products of this engine read. */
static void add_stage_to(struct bench *b, const char *form, int32_t stage, qvitp_stage_fn *run,
                         const char *output, size_t element)
{
    if (!run) return;
    struct op *op = new_op(b, 768, QVIT_DTYPE_U8, QVIT_DTYPE_F32);
    op->run_stage = run;
    op->element = element;
    op->second = material_memory(2 * VIT_TOKENS * op->cols);
    op->stage = (struct qvitp_stage){.n = op->cols, .padded = op->cols, .form = stage, .half = 128};
    add(b, "stage", form, output, run_stage, op);
}

static void add_stage(struct bench *b, const char *form, int32_t stage)
{
    const struct qvitp_kernels *kernels = &b->engine->kernels;
    add_stage_to(b, form, stage, kernels->stage, "to bytes", 1);
    if (stage == QVITP_STAGE_U8 || stage == QVITP_STAGE_S8)
        add_stage_to(b, form, stage, kernels->stage_s16, "to 16 bits", 2);
}

static void add_all(struct bench *b, const struct material *m)
{
    for (size_t i = 0; i < VIT_ARCHS; i++) add_norm(b, vit_archs[i].width, m->u8, "u8");
    add_norm(b, 768, NULL, "f32");
    add_quantize(b, 768, m->u8, "u8");
    add_quantize(b, 768, m->twin_gelu, "twin gelu");
    add_softmax(b);
    add_softmax_codes(b, "u8", (struct qvitp_softmax_codes){.mul = 255});
    add_softmax_codes(b, "twin softmax",
                      (struct qvitp_softmax_codes){.mul = 7232, .mul2 = 127, .half = 128});
    add_encode(b, "u8", (struct qvitp_encode){.scale = 0.03f, .zero = 128, .hi = 255});
    add_encode(
        b, "twin softmax",
        (struct qvitp_encode){
            .scale = 1e-4f, .scale2 = 0.01f, .hi = 255, .scheme = QVITP_ENCODE_TWIN_SOFTMAX});
    add_encode(b, "twin gelu",
               (struct qvitp_encode){.scale = 0.001f,
                                     .scale2 = 0.03f,
                                     .lo = -128,
                                     .hi = 127,
                                     .scheme = QVITP_ENCODE_TWIN_GELU});
    add_stage(b, "u8", QVITP_STAGE_U8);
    add_stage(b, "s8", QVITP_STAGE_S8);
    add_stage(b, "twin softmax", QVITP_STAGE_TWIN_SOFTMAX);
    add_stage(b, "twin gelu", QVITP_STAGE_TWIN_GELU);
}

void bench_ops(struct bench *b)
{
    struct material m;
    material_open(&m, b->engine);
    size_t first = b->count;
    add_all(b, &m);
    bench_measure(b, first);
    for (size_t i = first; i < b->count; i++) {
        struct bench_row *row = &b->rows[i];
        struct op *op = row->user;
        double cycles = row->timing.fastest * b->peak.clock;
        bench_number(row, "cycles_per_element", cycles / (double)(op->rows * op->cols), 3);
        qvit_plan_destroy(op->plan);
        free(op->input.data);
        free(op->output.data);
        free(op->gamma.data);
        free(op->beta.data);
        free(op->second);
        free(op);
    }
    bench_print(b, first);
    material_close(&m);
}
