/*
 * plan_scenes.h - what the tests of plans with bad arguments share.
 *
 * A test starts from a scene in which everything is right: options, operands, arguments. It defines
 * BAD(status, change), which sets the scene up anew, makes one change, and expects that status of the
 * call that the test is about, a sentence that says why, no plan, and outputs as they were.
 */
#ifndef QVIT_TEST_PLAN_SCENES_H
#define QVIT_TEST_PLAN_SCENES_H

#include "support.h"

/* A struct with room behind it, for sizes that this version does not know. */
#define GROWN(type)                                                                                \
    struct {                                                                                       \
        type o;                                                                                    \
        unsigned char tail[32];                                                                    \
    }

/* ---- what all scenes are made of ---- */

enum { N = 4, K = 6, HEADS = 2 };

/* Quantizers right and wrong, made once for each test. */
struct kit {
    qvit_engine *engine;
    struct heap heap; /* refuses what is too large, and must be empty in the end */
    const qvit_quantizer *u8, *s8, *narrow, *narrow4, *u4, *s4, *s6, *s7, *twin_softmax, *twin_gelu;
    const qvit_quantizer *twin_points;
    const qvit_quantizer *relative;
    const qvit_quantizer *u8_columns, *s8_columns, *s8_rows, *narrow_columns, *narrow_five_rows;
    const qvit_quantizer *u8_five_columns, *u8_heads_zeros, *tiny, *huge_u8, *huge_s8;
};

static struct kit kit;

static inline const qvit_quantizer *blocks(qvit_scheme scheme, uint32_t flags, size_t rows,
                                           size_t cols)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = rows, o.cols = cols;
    o.row_blocks = rows == QVIT_ANY ? 1 : rows;
    o.col_blocks = cols == QVIT_ANY ? 1 : cols;
    qvit_granularity *g;
    MUST(qvit_granularity_create(kit.engine, &o, &g, &why));
    keep(KEPT_GRANULARITY, g, 0);
    return quantizer_random(kit.engine, scheme, 8, flags, g, 1, 3);
}

/* Two heads of two columns with zero points of their own. */
static inline const qvit_quantizer *heads_with_zeros(void)
{
    static const float scale[HEADS] = {0.1f, 0.1f};
    static const int32_t zero[HEADS] = {1, 2};
    return quantizer_with(kit.engine, QVIT_SCHEME_ASYMMETRIC, 8, 0,
                          granularity_columns(kit.engine, HEADS * 2, HEADS), scale, NULL, zero);
}

/* Two halves of K columns with zero points of their own. */
static inline const qvit_quantizer *twin_with_points(const qvit_engine *engine)
{
    static const float scale[2] = {0.01f, 0.01f}, scale2[2] = {0.04f, 0.04f};
    static const int32_t zero[2] = {-70, -69};
    return quantizer_with(engine, QVIT_SCHEME_TWIN_GELU, 8, 0, granularity_columns(engine, K, 2),
                          scale, scale2, zero);
}

static inline void open_kit(void)
{
    release(); /* what a test left behind that failed */
    kit = (struct kit){.engine = NULL};
    qvit_allocator allocator = heap_hook(&kit.heap);
    qvit_engine *e = kit.engine = engine_with(0, &allocator, NULL);
    kit.u8 = quantizer_layer(e, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.1f, 0, 3);
    kit.s8 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, 0, 0.1f, 0, 0);
    kit.narrow = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 0.1f, 0, 0);
    kit.narrow4 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 4, QVIT_QUANTIZER_NARROW, 0.1f, 0, 0);
    kit.u4 = quantizer_layer(e, QVIT_SCHEME_ASYMMETRIC, 4, 0, 0.1f, 0, 3);
    kit.s4 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 4, 0, 0.1f, 0, 0);
    kit.s6 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 6, 0, 0.1f, 0, 0);
    kit.s7 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 7, 0, 0.1f, 0, 0);
    kit.relative =
        quantizer_layer(e, QVIT_SCHEME_TWIN_SOFTMAX, 8, QVIT_QUANTIZER_RELATIVE, 0.001f, 0.01f, 0);
    kit.twin_softmax = quantizer_layer(e, QVIT_SCHEME_TWIN_SOFTMAX, 8, 0, 0.001f, 0.01f, 0);
    kit.twin_gelu = quantizer_layer(e, QVIT_SCHEME_TWIN_GELU, 8, 0, 0.001f, 0.01f, 0);
    kit.twin_points = twin_with_points(e);
    kit.u8_columns = blocks(QVIT_SCHEME_ASYMMETRIC, 0, QVIT_ANY, K);
    kit.s8_columns = blocks(QVIT_SCHEME_SYMMETRIC, 0, QVIT_ANY, N);
    kit.s8_rows = blocks(QVIT_SCHEME_SYMMETRIC, 0, 3, QVIT_ANY);
    kit.narrow_columns = blocks(QVIT_SCHEME_SYMMETRIC, QVIT_QUANTIZER_NARROW, QVIT_ANY, K);
    kit.narrow_five_rows = blocks(QVIT_SCHEME_SYMMETRIC, QVIT_QUANTIZER_NARROW, 5, QVIT_ANY);
    kit.u8_five_columns = blocks(QVIT_SCHEME_ASYMMETRIC, 0, QVIT_ANY, 5);
    kit.u8_heads_zeros = heads_with_zeros();
    kit.tiny = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, 0, 1.2e-38f, 0, 0);
    kit.huge_u8 = quantizer_layer(e, QVIT_SCHEME_ASYMMETRIC, 8, 0, 1e30f, 0, 3);
    kit.huge_s8 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 1e30f, 0, 0);
}

static inline void close_kit(void)
{
    release();
    heap_check_empty(&kit.heap);
}

static inline qvit_port port(qvit_dtype dtype, const qvit_quantizer *quantizer)
{
    return (qvit_port){dtype, 0, quantizer};
}

/* What every failed call leaves behind. */
static inline void check_failure(const char *change, qvit_status expected, qvit_status got)
{
    if (got != expected)
        FAIL("%s: %s, not %s: %s", change, qvit_status_name(got), qvit_status_name(expected),
             why.text);
    if (why.status != expected) FAIL("%s: the error says %d", change, (int)why.status);
    if (!expected != !why.text[0]) FAIL("%s: the text is \"%s\"", change, why.text);
    if (!memchr(why.text, 0, sizeof why.text)) FAIL("%s: the text has no end", change);
}

static inline void check_untouched(const char *change, const struct view *v)
{
    for (size_t i = 0; i < v->bytes; i++)
        if (v->memory[i] != CANARY) FAIL("%s: the output was written", change);
}

/* A create function with all but its options, which differ in type. */
#define EXPECT_CREATE(change, status, call_with_error)                                             \
    do {                                                                                           \
        qvit_plan *plan = (qvit_plan *)&kit;                                                       \
        qvit_error *error = &why;                                                                  \
        qvit_status got = (call_with_error);                                                       \
        check_failure((change), (status), got);                                                    \
        if (!plan != (got != QVIT_OK)) FAIL("%s: the plan", (change));                             \
        qvit_plan_destroy(plan);                                                                   \
        error = NULL;                                                                              \
        got = (call_with_error);                                                                   \
        if (got != (status)) FAIL("%s: another status without an error", (change));                \
        qvit_plan_destroy(plan);                                                                   \
    } while (0)

/* ---- linear ---- */

static struct {
    const qvit_engine *engine;
    GROWN(qvit_linear_options) make;
    struct view weights, bias, scale, shift;
    size_t mark;
} linear;

static inline void linear_scene(void)
{
    release_to(linear.mark);
    size_t n = N;
    linear.engine = kit.engine;
    memset(&linear.make, 0, sizeof linear.make);
    qvit_linear_options_init(&linear.make.o, sizeof linear.make.o);
    linear.weights = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){N, K});
    fill_codes(&linear.weights.t, -127, 127);
    linear.bias = view_vector(n), linear.scale = view_vector(n), linear.shift = view_vector(n);
    fill_value(&linear.bias.t, 0.5);
    fill_value(&linear.scale.t, 2);
    fill_value(&linear.shift.t, 0.25);
    linear.make.o.input = port(QVIT_DTYPE_U8, kit.u8);
    linear.make.o.weight = port(QVIT_DTYPE_S8, kit.narrow);
    linear.make.o.output = port(QVIT_DTYPE_S8, kit.s8);
    linear.make.o.weights = &linear.weights.t;
    linear.make.o.bias = &linear.bias.t;
    linear.make.o.output_scale = &linear.scale.t;
    linear.make.o.output_shift = &linear.shift.t;
}

static struct {
    const qvit_plan *plan;
    GROWN(qvit_linear_args) args;
    struct view input, output, residual;
    size_t mark;
} running;

static inline void running_scene(void)
{
    release_to(running.mark);
    memset(&running.args, 0, sizeof running.args);
    qvit_linear_args_init(&running.args.o, sizeof running.args.o);
    running.input = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){3, K});
    running.output = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){3, N});
    running.residual = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){3, N});
    fill_codes(&running.input.t, -128, 127);
    fill_normal(&running.residual.t, 1);
    running.args.o.input = &running.input.t;
    running.args.o.residual = &running.residual.t;
    running.args.o.output = &running.output.t;
    running.args.o.workspace_size = qvit_linear_workspace_size(running.plan, 3);
    running.args.o.workspace = workspace(running.args.o.workspace_size);
}

/* A plan with a symmetric input, which is always staged, and a float residual. */
static inline qvit_plan *running_plan(const qvit_engine *engine)
{
    linear_scene();
    linear.make.o.input = port(QVIT_DTYPE_S8, kit.s8);
    linear.make.o.residual = linear.make.o.output = port(QVIT_DTYPE_F32, NULL);
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &linear.make.o, &plan, &why));
    return keep_plan(plan);
}

/* ---- matmul ---- */

static struct {
    const qvit_engine *engine;
    const qvit_plan *plan; /* of the right options */
    GROWN(qvit_matmul_options) make;
    GROWN(qvit_matmul_args) args;
    struct view left, right, output;
    size_t mark;
} matmul;

static inline void matmul_scene(void)
{
    release_to(matmul.mark);
    matmul.engine = kit.engine;
    memset(&matmul.make, 0, sizeof matmul.make);
    qvit_matmul_options_init(&matmul.make.o, sizeof matmul.make.o);
    matmul.make.o.heads = HEADS;
    matmul.make.o.left = port(QVIT_DTYPE_U8, kit.u8);
    matmul.make.o.right = port(QVIT_DTYPE_S8, kit.narrow);
    matmul.make.o.output = port(QVIT_DTYPE_F32, NULL);
    memset(&matmul.args, 0, sizeof matmul.args);
    qvit_matmul_args_init(&matmul.args.o, sizeof matmul.args.o);
    matmul.left = view_dense(QVIT_DTYPE_U8, 4, (size_t[]){2, HEADS, 3, K});
    matmul.right = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, HEADS, K, N});
    matmul.output = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, HEADS, 3, N});
    matmul.args.o.left = &matmul.left.t;
    matmul.args.o.right = &matmul.right.t;
    matmul.args.o.output = &matmul.output.t;
    if (!matmul.plan) return;
    matmul.args.o.workspace_size = qvit_matmul_workspace_size(matmul.plan, 3, N, K);
    matmul.args.o.workspace = workspace(matmul.args.o.workspace_size);
}

/* ---- attention ---- */

enum { QUERIES = 3, KEYS = 5, DIM = 2 };

static struct {
    const qvit_engine *engine;
    const qvit_plan *plan;
    GROWN(qvit_attention_options) make;
    GROWN(qvit_attention_args) args;
    struct view query, key, value, bias, mask, query_rows, key_rows, output, cells, scale, shift;
    size_t mark;
} attention;

static inline void attention_tensors(void)
{
    size_t columns = HEADS * DIM;
    attention.query = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, QUERIES, HEADS, DIM});
    attention.output = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, QUERIES, HEADS, DIM});
    attention.key = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, KEYS, HEADS, DIM});
    attention.value = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, KEYS, HEADS, DIM});
    attention.bias = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){1, HEADS, QUERIES, KEYS});
    attention.mask = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, 1, QUERIES, KEYS});
    attention.cells = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, HEADS, QUERIES, KEYS});
    attention.query_rows = view_dense(QVIT_DTYPE_S32, 2, (size_t[]){1, QUERIES});
    attention.key_rows = view_dense(QVIT_DTYPE_S32, 2, (size_t[]){2, KEYS});
    attention.scale = view_vector(columns), attention.shift = view_vector(columns);
    fill_value(&attention.bias.t, 0);
    fill_value(&attention.mask.t, 0);
    fill_value(&attention.scale.t, 1);
    fill_value(&attention.shift.t, 0);
    for (size_t i = 0; i < QUERIES; i++) tensor_set(&attention.query_rows.t, i, (double)i);
    for (size_t i = 0; i < 2 * KEYS; i++) tensor_set(&attention.key_rows.t, i, (double)(i % KEYS));
}

static inline void attention_scene(void)
{
    release_to(attention.mark);
    attention_tensors();
    attention.engine = kit.engine;
    memset(&attention.make, 0, sizeof attention.make);
    qvit_attention_options_init(&attention.make.o, sizeof attention.make.o);
    attention.make.o.heads = HEADS;
    attention.make.o.head_dim = DIM;
    attention.make.o.query = port(QVIT_DTYPE_S8, kit.s8);
    attention.make.o.key = attention.make.o.value = port(QVIT_DTYPE_S8, kit.narrow);
    attention.make.o.probability = port(QVIT_DTYPE_U8, kit.twin_softmax);
    attention.make.o.output = port(QVIT_DTYPE_F32, NULL);
    attention.make.o.output_scale = &attention.scale.t;
    attention.make.o.output_shift = &attention.shift.t;
    memset(&attention.args, 0, sizeof attention.args);
    qvit_attention_args_init(&attention.args.o, sizeof attention.args.o);
    attention.args.o.query = &attention.query.t;
    attention.args.o.key = &attention.key.t;
    attention.args.o.value = &attention.value.t;
    attention.args.o.bias = &attention.bias.t;
    attention.args.o.mask = &attention.mask.t;
    attention.args.o.output = &attention.output.t;
    if (!attention.plan) return;
    attention.args.o.workspace_size = qvit_attention_workspace_size(attention.plan, QUERIES, KEYS);
    attention.args.o.workspace = workspace(attention.args.o.workspace_size);
}

/* ---- layer normalisation and quantization ---- */

static struct {
    const qvit_engine *engine;
    const qvit_plan *plan;
    GROWN(qvit_layer_norm_options) make;
    GROWN(qvit_quantize_options) quantize;
    GROWN(qvit_unary_args) args;
    struct view gamma, beta, scale, shift, input, output;
    size_t mark;
} unary;

static inline void unary_scene(void)
{
    release_to(unary.mark);
    size_t n = K;
    unary.engine = kit.engine;
    unary.gamma = view_vector(n), unary.beta = view_vector(n);
    unary.scale = view_vector(n), unary.shift = view_vector(n);
    fill_value(&unary.gamma.t, 1);
    fill_value(&unary.beta.t, 0);
    fill_value(&unary.scale.t, 1);
    fill_value(&unary.shift.t, 0);
    memset(&unary.make, 0, sizeof unary.make);
    qvit_layer_norm_options_init(&unary.make.o, sizeof unary.make.o);
    unary.make.o.gamma = &unary.gamma.t, unary.make.o.beta = &unary.beta.t;
    unary.make.o.output_scale = &unary.scale.t, unary.make.o.output_shift = &unary.shift.t;
    unary.make.o.output = port(QVIT_DTYPE_U8, kit.u8);
    memset(&unary.quantize, 0, sizeof unary.quantize);
    qvit_quantize_options_init(&unary.quantize.o, sizeof unary.quantize.o);
    unary.quantize.o.output = port(QVIT_DTYPE_U8, kit.u8_columns);
    memset(&unary.args, 0, sizeof unary.args);
    qvit_unary_args_init(&unary.args.o, sizeof unary.args.o);
    unary.input = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){3, K});
    unary.output = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){3, K});
    unary.args.o.input = &unary.input.t, unary.args.o.output = &unary.output.t;
}

#endif
