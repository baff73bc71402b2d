/*
 * test_plan_errors.c - every bad argument of every plan function: the status that qvit.h names, a
 * sentence that says why, no plan, and outputs as they were.
 *
 * A test starts from a scene in which everything is right. BAD(status, change) sets the scene up
 * anew, makes one change, and expects that status of the call that the scene is about.
 */
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
    const qvit_quantizer *relative;
    const qvit_quantizer *u8_columns, *s8_columns, *s8_rows, *narrow_columns, *narrow_five_rows;
    const qvit_quantizer *u8_five_columns, *u8_heads_zeros, *tiny, *huge_u8, *huge_s8;
};

static struct kit kit;

static const qvit_quantizer *blocks(qvit_scheme scheme, uint32_t flags, size_t rows, size_t cols)
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
static const qvit_quantizer *heads_with_zeros(void)
{
    static const float scale[HEADS] = {0.1f, 0.1f};
    static const int32_t zero[HEADS] = {1, 2};
    return quantizer_with(kit.engine, QVIT_SCHEME_ASYMMETRIC, 8, 0,
                          granularity_columns(kit.engine, HEADS * 2, HEADS), scale, NULL, zero);
}

static void open_kit(void)
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

static void close_kit(void)
{
    release();
    heap_check_empty(&kit.heap);
}

static qvit_port port(qvit_dtype dtype, const qvit_quantizer *quantizer)
{
    return (qvit_port){dtype, 0, quantizer};
}

/* What every failed call leaves behind. */
static void check_failure(const char *change, qvit_status expected, qvit_status got)
{
    if (got != expected)
        FAIL("%s: %s, not %s: %s", change, qvit_status_name(got), qvit_status_name(expected),
             why.text);
    if (why.status != expected) FAIL("%s: the error says %d", change, (int)why.status);
    if (!expected != !why.text[0]) FAIL("%s: the text is \"%s\"", change, why.text);
    if (!memchr(why.text, 0, sizeof why.text)) FAIL("%s: the text has no end", change);
}

static void check_untouched(const char *change, const struct view *v)
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

/* ---- linear: making ---- */

static struct {
    const qvit_engine *engine;
    GROWN(qvit_linear_options) make;
    struct view weights, bias, scale, shift;
    size_t mark;
} linear;

static void linear_scene(void)
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

/* A layer that gives the bare sums. */
static void linear_sums(void)
{
    linear.make.o.output = port(QVIT_DTYPE_S32, NULL);
    linear.make.o.bias = linear.make.o.output_scale = linear.make.o.output_shift = NULL;
}

static void linear_floats(void)
{
    linear.weights = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){N, K});
    fill_normal(&linear.weights.t, 1);
    linear.make.o.input = linear.make.o.weight = port(QVIT_DTYPE_F32, NULL);
}

/* Weights of `count` columns, all 127. */
static void linear_long(size_t count)
{
    linear.weights = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){N, count});
    fill_value(&linear.weights.t, 127);
}

/* Weights of a packed type whose rows are `stride` codes apart. */
static void linear_packed(qvit_dtype dtype, const qvit_quantizer *quantizer, ptrdiff_t stride)
{
    linear.weights = view_dense(dtype, 2, (size_t[]){N, 12});
    fill_codes(&linear.weights.t, -7, 7);
    linear.weights.t.dims[1] = K;
    linear.weights.t.strides[0] = stride;
    linear.make.o.weight = port(dtype, quantizer);
}

static void linear_asymmetric(void)
{
    linear.weights = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){N, K});
    fill_codes(&linear.weights.t, 0, 15);
    linear.make.o.weight = port(QVIT_DTYPE_U8, kit.u4);
}

static void linear_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status, qvit_linear_create(linear.engine, &linear.make.o, &plan, error));
}

#define BAD(status, change) (linear_scene(), (void)(change), linear_expect(#change, (status)))

static void linear_begin(void)
{
    open_kit();
    linear.mark = kept.count;
}

static void linear_plans_refuse_null(void)
{
    linear_begin();
    linear_scene();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_linear_create(kit.engine, &linear.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_create(kit.engine, &linear.make.o, NULL, NULL), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_linear_options_init(NULL, sizeof(qvit_linear_options));
    qvit_linear_args_init(NULL, sizeof(qvit_linear_args));
    qvit_plan_destroy(NULL);
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, linear.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weights = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.scale.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.shift.t.data = NULL);
    close_kit();
}

static void linear_options_may_grow(void)
{
    linear_begin();
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.struct_size = sizeof(qvit_linear_options) - 1);
    BAD(QVIT_OK, linear.make.o.struct_size = sizeof linear.make);
    linear_scene();
    linear.make.o.struct_size = sizeof linear.make;
    linear.make.tail[31] = 1;
    linear_expect("an unknown field", QVIT_ERR_UNSUPPORTED);
    close_kit();
}

static void linear_plans_refuse_ports(void)
{
    linear_begin();
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_U4);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = 99);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = -1);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.quantizer = NULL);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, linear.make.o.input = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_S4);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_S6);
    BAD(QVIT_ERR_ARGUMENT, linear_packed(QVIT_DTYPE_S6, kit.s7, 8));
    BAD(QVIT_ERR_ARGUMENT, linear_packed(QVIT_DTYPE_S4, kit.s6, 8));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.quantizer = NULL);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight = port(QVIT_DTYPE_U8, kit.u8)); /* 8 bits */
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S8, kit.u4));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S4, kit.u4));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S6, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(QVIT_DTYPE_U8, NULL));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.u8));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(77, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.s8_columns));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.quantizer = kit.u8);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_U8, kit.twin_softmax));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_S4, kit.s4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output.quantizer = kit.twin_gelu); /* with a shift */
    BAD(QVIT_ERR_SHAPE, linear.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_SHAPE, linear.make.o.output.quantizer = kit.s8_rows);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.activation = 2);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.activation = -1);
    close_kit();
}

static void bare_sums_stay_bare(void)
{
    linear_begin();
    BAD(QVIT_OK, linear_sums());
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.bias = &linear.bias.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.output_scale = &linear.scale.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.output_shift = &linear.shift.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.activation = QVIT_ACTIVATION_GELU));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.residual = port(QVIT_DTYPE_F32, NULL)));
    BAD(QVIT_ERR_UNSUPPORTED,
        (linear_sums(), linear.make.o.input = port(QVIT_DTYPE_S8, kit.twin_gelu)));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear_floats()));
    close_kit();
}

static void linear_plans_refuse_shapes(void)
{
    linear_begin();
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = -1);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[0] = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[1] = SIZE_MAX / 4);
    BAD(QVIT_ERR_SHAPE, linear.make.o.weight.quantizer = kit.narrow_five_rows);
    BAD(QVIT_OK, linear_packed(QVIT_DTYPE_S4, kit.narrow4, 6));
    BAD(QVIT_OK, linear_packed(QVIT_DTYPE_S6, kit.s6, 8));
    BAD(QVIT_ERR_SHAPE, linear_packed(QVIT_DTYPE_S4, kit.narrow4, 7)); /* no whole bytes */
    BAD(QVIT_ERR_SHAPE, linear_packed(QVIT_DTYPE_S6, kit.s6, 6));
    BAD(QVIT_ERR_SHAPE, linear.bias.t.dims[0] = N + 1);
    BAD(QVIT_ERR_SHAPE, linear.bias.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, linear.scale.t.dims[0] = N - 1);
    BAD(QVIT_ERR_SHAPE, linear.shift.t.dims[0] = N - 1);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_S6);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_S6 + 1);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.data = (char *)linear.bias.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, linear.scale.t.data = (char *)linear.scale.t.data - 2);
    close_kit();
}

static void linear_plans_refuse_values(void)
{
    linear_begin();
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.weights.t, 5, -128));
    BAD(QVIT_ERR_VALUE,
        (fill_value(&linear.weights.t, 8), linear.make.o.weight.quantizer = kit.s4));
    BAD(QVIT_ERR_VALUE,
        (linear_packed(QVIT_DTYPE_S6, kit.s4, 8), tensor_set(&linear.weights.t, 3, 8)));
    BAD(QVIT_OK, linear_asymmetric());
    BAD(QVIT_ERR_VALUE, (linear_asymmetric(), tensor_set(&linear.weights.t, 3, 16)));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.bias.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.bias.t, N - 1, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, 0));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, -1));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.shift.t, 0, -(double)INFINITY));
    BAD(QVIT_ERR_VALUE, (linear_floats(), tensor_set(&linear.weights.t, 7, (double)NAN)));
    BAD(QVIT_ERR_VALUE, (linear_floats(), tensor_set(&linear.weights.t, 7, (double)INFINITY)));
    BAD(QVIT_ERR_VALUE, (linear.make.o.input.quantizer = kit.huge_u8,
                         linear.make.o.weight.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_VALUE,
        (linear.make.o.output.quantizer = kit.tiny, fill_value(&linear.scale.t, 1e-5)));
    BAD(QVIT_ERR_UNSUPPORTED, linear_long(70000));
    BAD(QVIT_OK, linear_long(33155)); /* the longest that no zero point makes too long */
    close_kit();
}

#undef BAD

/* ---- linear: running ---- */

static struct {
    const qvit_plan *plan;
    GROWN(qvit_linear_args) args;
    struct view input, output, residual;
    size_t mark;
} running;

static void running_scene(void)
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

static void running_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_linear_run(plan, &running.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &running.output);
    CHECK_EQ(qvit_linear_run(plan, &running.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (running_scene(), (void)(change), running_expect(#change, running.plan, (status)))

/* A plan with a symmetric input, which is always staged, and a float residual. */
static qvit_plan *running_plan(const qvit_engine *engine)
{
    linear_scene();
    linear.make.o.input = port(QVIT_DTYPE_S8, kit.s8);
    linear.make.o.residual = linear.make.o.output = port(QVIT_DTYPE_F32, NULL);
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &linear.make.o, &plan, &why));
    return keep_plan(plan);
}

static void running_begin(void)
{
    linear_begin();
    running.plan = running_plan(kit.engine);
    running.mark = kept.count;
}

static void linear_runs_refuse_arguments(void)
{
    running_begin();
    BAD(QVIT_OK, 0);
    running_scene();
    running_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_run(running.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK(why.text[0]);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.struct_size = sizeof(qvit_linear_args) - 8);
    BAD(QVIT_OK, running.args.o.struct_size = sizeof running.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (running.args.o.struct_size = sizeof running.args, running.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, running.args.o.input = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.residual = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.input.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.input.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.data = (char *)running.output.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.data = (char *)running.residual.t.data - 2);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace_size = 0);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace = (char *)running.args.o.workspace - 8);
    close_kit();
}

static void linear_runs_refuse_shapes(void)
{
    running_begin();
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, running.output.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, running.residual.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.dims[1] = N - 1);
    BAD(QVIT_ERR_SHAPE, running.output.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.residual.t.dims[1] = N - 1);
    BAD(QVIT_ERR_SHAPE, running.residual.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.input.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.strides[0] = 0);
    close_kit();
}

static void a_residual_must_be_expected(void)
{
    linear_begin();
    linear_scene();
    linear.make.o.input = port(QVIT_DTYPE_S8, kit.s8);
    linear.make.o.output = port(QVIT_DTYPE_F32, NULL);
    qvit_plan *plan;
    MUST(qvit_linear_create(kit.engine, &linear.make.o, &plan, &why));
    running.plan = keep_plan(plan);
    running.mark = kept.count;
    BAD(QVIT_ERR_ARGUMENT, 0);
    BAD(QVIT_OK, running.args.o.residual = NULL);
    close_kit();
}

#undef BAD

/* ---- matmul ---- */

static struct {
    const qvit_engine *engine;
    const qvit_plan *plan; /* of the right options */
    GROWN(qvit_matmul_options) make;
    GROWN(qvit_matmul_args) args;
    struct view left, right, output;
    size_t mark;
} matmul;

static void matmul_scene(void)
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

static void matmul_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status, qvit_matmul_create(matmul.engine, &matmul.make.o, &plan, error));
}

static void matmul_begin(void)
{
    open_kit();
    matmul.plan = NULL;
    matmul.mark = kept.count;
    matmul_scene();
    qvit_plan *plan;
    MUST(qvit_matmul_create(kit.engine, &matmul.make.o, &plan, &why));
    release_to(matmul.mark);
    matmul.plan = keep_plan(plan);
    matmul.mark = kept.count;
}

#define BAD(status, change) (matmul_scene(), (void)(change), matmul_expect(#change, (status)))

static void matmul_plans_refuse_options(void)
{
    matmul_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_matmul_create(kit.engine, &matmul.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_matmul_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_matmul_options_init(NULL, sizeof(qvit_matmul_options));
    qvit_matmul_args_init(NULL, sizeof(qvit_matmul_args));
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.struct_size = sizeof(qvit_matmul_options) - 1);
    BAD(QVIT_OK, matmul.make.o.struct_size = sizeof matmul.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (matmul.make.o.struct_size = sizeof matmul.make, matmul.make.tail[8] = 1));
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = -5);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.right.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.right.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.output.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_S4, kit.narrow4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, (matmul.make.o.output = port(QVIT_DTYPE_S32, NULL),
                               matmul.make.o.left = port(QVIT_DTYPE_U8, kit.twin_softmax)));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left.quantizer = kit.u8_heads_zeros);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.left.quantizer = kit.u8_columns);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.right.quantizer = kit.narrow_columns);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.right.quantizer = kit.narrow_five_rows);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_VALUE, matmul.make.o.scale = NAN);
    BAD(QVIT_ERR_VALUE, matmul.make.o.scale = -INFINITY);
    BAD(QVIT_ERR_VALUE,
        (matmul.make.o.left.quantizer = kit.huge_u8, matmul.make.o.right.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_NO_MEMORY, matmul.make.o.heads = SIZE_MAX);
    BAD(QVIT_ERR_NO_MEMORY, matmul.make.o.heads = SIZE_MAX / 16);
    close_kit();
}

#undef BAD

static void matmul_run_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_matmul_run(plan, &matmul.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &matmul.output);
    CHECK_EQ(qvit_matmul_run(plan, &matmul.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (matmul_scene(), (void)(change), matmul_run_expect(#change, matmul.plan, (status)))

/* Operands whose k is one more than what surely fits, with codes to 255 and a zero point of 3. */
static void matmul_long(void)
{
    size_t k = 2147483647 / ((255 + 3) * 128) + 1;
    matmul.left = view_dense(QVIT_DTYPE_U8, 4, (size_t[]){2, HEADS, 3, k});
    matmul.right = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, HEADS, k, N});
}

static void matmul_runs_refuse_arguments(void)
{
    matmul_begin();
    BAD(QVIT_OK, 0);
    matmul_scene();
    matmul_run_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_matmul_run(matmul.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.struct_size = sizeof(qvit_matmul_args) - 8);
    BAD(QVIT_OK, matmul.args.o.struct_size = sizeof matmul.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (matmul.args.o.struct_size = sizeof matmul.args, matmul.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.left = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.right = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.left.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.right.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, matmul.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, matmul.output.t.data = (char *)matmul.output.t.data - 3);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace = (char *)matmul.args.o.workspace - 32);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[1] = HEADS + 1);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[2] = 0);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[3] = K - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[1] = 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[2] = K - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[3] = N - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, matmul.output.t.dims[2] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.output.t.strides[0] = 0);
    BAD(QVIT_ERR_UNSUPPORTED, matmul_long());
    close_kit();
}

#undef BAD

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

static void attention_tensors(void)
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

static void attention_scene(void)
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

static void attention_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_attention_create(attention.engine, &attention.make.o, &plan, error));
}

static void attention_begin(void)
{
    open_kit();
    attention.plan = NULL;
    attention.mark = kept.count;
    attention_scene();
    qvit_plan *plan;
    MUST(qvit_attention_create(kit.engine, &attention.make.o, &plan, &why));
    release_to(attention.mark);
    attention.plan = keep_plan(plan);
    attention.mark = kept.count;
}

#define BAD(status, change) (attention_scene(), (void)(change), attention_expect(#change, (status)))

static void attention_plans_refuse_ports(void)
{
    attention_begin();
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.query.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.query.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.key.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.value.dtype = 1000);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.probability.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.output.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_OK, attention.make.o.probability.quantizer = kit.relative);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_S4, kit.s4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_U8, kit.u8_heads_zeros));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S4, kit.narrow4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.value.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.value.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_U8, kit.u8_columns));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, attention.make.o.query = port(QVIT_DTYPE_U8, kit.u8_columns));
    BAD(QVIT_ERR_SHAPE, attention.make.o.key.quantizer = kit.narrow_columns);
    BAD(QVIT_ERR_SHAPE, attention.make.o.value.quantizer = kit.narrow_five_rows);
    BAD(QVIT_ERR_SHAPE, attention.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    close_kit();
}

static void attention_plans_refuse_options(void)
{
    attention_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    attention_scene();
    CHECK_EQ(qvit_attention_create(kit.engine, &attention.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_attention_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_attention_options_init(NULL, sizeof(qvit_attention_options));
    qvit_attention_args_init(NULL, sizeof(qvit_attention_args));
    BAD(QVIT_ERR_ARGUMENT, attention.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.struct_size = sizeof(qvit_attention_options) - 1);
    BAD(QVIT_OK, attention.make.o.struct_size = sizeof attention.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (attention.make.o.struct_size = sizeof attention.make, attention.make.tail[1] = 1));
    BAD(QVIT_ERR_SHAPE, attention.make.o.head_dim = 0);
    BAD(QVIT_ERR_SHAPE, attention.make.o.head_dim = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, attention.make.o.heads = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, attention.make.o.heads = HEADS + 1);
    BAD(QVIT_ERR_SHAPE, attention.scale.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.shift.t.rank = 2);
    BAD(QVIT_ERR_ARGUMENT, attention.shift.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.scale.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.scale.t, 1, 0));
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.scale.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.shift.t, 1, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, attention.make.o.score_scale = NAN);
    BAD(QVIT_ERR_VALUE, attention.make.o.score_scale = INFINITY);
    BAD(QVIT_ERR_VALUE, (attention.make.o.query = port(QVIT_DTYPE_U8, kit.huge_u8),
                         attention.make.o.key.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_UNSUPPORTED, (attention.make.o.output_scale = attention.make.o.output_shift = NULL,
                               attention.make.o.head_dim = 43805));
    BAD(QVIT_OK, (attention.make.o.output_scale = attention.make.o.output_shift = NULL,
                  attention.make.o.head_dim = 43804));
    close_kit();
}

#undef BAD

static void attention_run_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_attention_run(plan, &attention.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &attention.output);
    CHECK_EQ(qvit_attention_run(plan, &attention.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (attention_scene(), (void)(change), attention_run_expect(#change, attention.plan, (status)))

static void attention_runs_refuse_arguments(void)
{
    attention_begin();
    BAD(QVIT_OK, 0);
    attention_scene();
    attention_run_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_attention_run(attention.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.struct_size = sizeof(qvit_attention_args) - 8);
    BAD(QVIT_OK, attention.args.o.struct_size = sizeof attention.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (attention.args.o.struct_size = sizeof attention.args, attention.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.query = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.key = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.value = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.key.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.bias.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.query.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.mask.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, attention.bias.t.data = (char *)attention.bias.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace = (char *)attention.args.o.workspace - 4);
    BAD(QVIT_ERR_UNSUPPORTED, attention.args.o.scores = &attention.cells.t);
    BAD(QVIT_ERR_UNSUPPORTED, attention.args.o.probabilities = &attention.cells.t);
    close_kit();
}

/* One key more than the sums over twin probabilities have room for. */
static void attention_long(void)
{
    size_t keys = 2147483647 / (128 * 128) + 1;
    attention.key = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, keys, HEADS, DIM});
    attention.value = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, keys, HEADS, DIM});
    attention.args.o.bias = attention.args.o.mask = NULL;
}

static void attention_runs_refuse_shapes(void)
{
    attention_begin();
    BAD(QVIT_ERR_SHAPE, attention.query.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, attention.query.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, attention.key.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[1] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[2] = 1);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[3] = 1);
    BAD(QVIT_ERR_SHAPE, attention.output.t.dims[1] = QUERIES - 1);
    BAD(QVIT_ERR_SHAPE, attention.key.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.key.t.dims[3] = 1);
    BAD(QVIT_ERR_SHAPE, attention.value.t.dims[1] = KEYS - 1);
    BAD(QVIT_ERR_SHAPE, attention.bias.t.dims[0] = 3);
    BAD(QVIT_ERR_SHAPE, attention.bias.t.dims[3] = KEYS - 1);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.dims[2] = QUERIES - 1);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, attention.query.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.value.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.output.t.strides[1] = 0);
    BAD(QVIT_ERR_UNSUPPORTED, attention_long());
    close_kit();
}

/* Key and value of one sample, whose rows both windows name. */
static void attention_key_windows(void)
{
    attention.key.t.dims[0] = attention.value.t.dims[0] = 1;
    attention.args.o.key_rows = &attention.key_rows.t;
}

/* One window over one sample. */
static void attention_query_windows(void)
{
    attention.query.t.dims[0] = attention.output.t.dims[0] = 1;
    attention.key.t.dims[0] = attention.value.t.dims[0] = 1;
    attention.args.o.query_rows = &attention.query_rows.t;
    attention.args.o.mask = NULL;
}

static void windows_refuse_rows(void)
{
    attention_begin();
    BAD(QVIT_OK, attention_key_windows());
    BAD(QVIT_ERR_VALUE, (attention_key_windows(), tensor_set(&attention.key_rows.t, 9, KEYS)));
    BAD(QVIT_ERR_VALUE, (attention_key_windows(), tensor_set(&attention.key_rows.t, 0, -1)));
    BAD(QVIT_ERR_ARGUMENT, (attention_key_windows(), attention.key_rows.t.dtype = QVIT_DTYPE_F32));
    BAD(QVIT_ERR_ARGUMENT, (attention_key_windows(), attention.key_rows.t.data = NULL));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.rank = 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.dims[0] = 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.dims[1] = KEYS - 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key.t.dims[0] = 2));
    BAD(QVIT_OK, attention_query_windows());
    BAD(QVIT_ERR_VALUE,
        (attention_query_windows(), tensor_set(&attention.query_rows.t, 2, QUERIES)));
    BAD(QVIT_ERR_VALUE, (attention_query_windows(), tensor_set(&attention.query_rows.t, 1, -7)));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.query.t.dims[0] = 2));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.output.t.dims[0] = 2));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.query_rows.t.rank = 3));
    close_kit();
}

#undef BAD

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

static void unary_scene(void)
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

static void norm_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_layer_norm_create(unary.engine, &unary.make.o, &plan, error));
}

static void unary_begin(void)
{
    open_kit();
    unary.mark = kept.count;
    unary_scene();
}

#define BAD(status, change) (unary_scene(), (void)(change), norm_expect(#change, (status)))

static void layer_norm_plans_refuse_options(void)
{
    unary_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_layer_norm_create(kit.engine, &unary.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_layer_norm_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_layer_norm_options_init(NULL, sizeof(qvit_layer_norm_options));
    qvit_unary_args_init(NULL, sizeof(qvit_unary_args));
    BAD(QVIT_OK, 0);
    BAD(QVIT_OK, unary.make.o.output = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_ARGUMENT, unary.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.struct_size = sizeof(qvit_layer_norm_options) - 1);
    BAD(QVIT_OK, unary.make.o.struct_size = sizeof unary.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.make.o.struct_size = sizeof unary.make, unary.make.tail[30] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.gamma = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.beta = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.gamma.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.gamma.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, unary.beta.t.data = (char *)unary.beta.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.output.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_U8, kit.twin_softmax));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, unary.make.o.output.quantizer = kit.u8_five_columns);
    BAD(QVIT_ERR_SHAPE, unary.make.o.output = port(QVIT_DTYPE_S8, kit.s8_rows));
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, unary.beta.t.dims[0] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.scale.t.dims[0] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.shift.t.dims[0] = K - 1);
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.gamma.t, 5, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.beta.t, 0, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.scale.t, 1, -0.5));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.shift.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = -1e-6f);
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = NAN);
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = INFINITY);
    BAD(QVIT_ERR_VALUE,
        (unary.make.o.output = port(QVIT_DTYPE_S8, kit.tiny), fill_value(&unary.scale.t, 1e-5)));
    close_kit();
}

#undef BAD

static void quantize_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_quantize_create(unary.engine, &unary.quantize.o, &plan, error));
}

#define BAD(status, change) (unary_scene(), (void)(change), quantize_expect(#change, (status)))

static void quantize_plans_refuse_options(void)
{
    unary_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_quantize_create(kit.engine, &unary.quantize.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantize_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_quantize_options_init(NULL, sizeof(qvit_quantize_options));
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, unary.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.struct_size = sizeof(qvit_quantize_options) - 1);
    BAD(QVIT_OK, unary.quantize.o.struct_size = sizeof unary.quantize);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.quantize.o.struct_size = sizeof unary.quantize, unary.quantize.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_S8, kit.s8_rows));
    close_kit();
}

#undef BAD

/* Both plans read the same arguments. */
static void unary_expect(const char *change, const qvit_plan *norm, const qvit_plan *quantize,
                         qvit_status status)
{
    qvit_status got = qvit_layer_norm_run(norm, &unary.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &unary.output);
    CHECK_EQ(qvit_layer_norm_run(norm, &unary.args.o, NULL), status);
    got = qvit_quantize_run(quantize, &unary.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &unary.output);
    CHECK_EQ(qvit_quantize_run(quantize, &unary.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (unary_scene(), (void)(change), unary_expect(#change, norm, quantize, (status)))

static void unary_runs_refuse_arguments(void)
{
    unary_begin();
    qvit_plan *norm, *quantize;
    MUST(qvit_layer_norm_create(kit.engine, &unary.make.o, &norm, &why));
    MUST(qvit_quantize_create(kit.engine, &unary.quantize.o, &quantize, &why));
    BAD(QVIT_OK, fill_normal(&unary.input.t, 1));
    unary_scene();
    unary_expect("no plan", NULL, NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_layer_norm_run(norm, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantize_run(quantize, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.struct_size = sizeof(qvit_unary_args) - 8);
    BAD(QVIT_OK, unary.args.o.struct_size = sizeof unary.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.args.o.struct_size = sizeof unary.args, unary.args.tail[3] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.input = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.output.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, unary.output.t.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.data = (char *)unary.input.t.data - 2);
    BAD(QVIT_ERR_SHAPE, unary.input.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, unary.input.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, unary.output.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.output.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, unary.output.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.input.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, unary.output.t.strides[1] = -1);
    BAD(QVIT_ERR_SHAPE, unary.output.t.strides[0] = 0);
    qvit_plan_destroy(norm);
    qvit_plan_destroy(quantize);
    close_kit();
}

#undef BAD

/* ---- plans of one operation in the run of another, and executors that fail ---- */

/* A plan of every operation on one engine. */
enum { LINEAR, MATMUL, ATTENTION, NORM, QUANTIZE, PLANS };
static qvit_plan *plans[PLANS];

static void make_plans(const qvit_engine *engine)
{
    plans[LINEAR] = running_plan(engine);
    MUST(qvit_matmul_create(engine, &matmul.make.o, &plans[MATMUL], &why));
    MUST(qvit_attention_create(engine, &attention.make.o, &plans[ATTENTION], &why));
    MUST(qvit_layer_norm_create(engine, &unary.make.o, &plans[NORM], &why));
    MUST(qvit_quantize_create(engine, &unary.quantize.o, &plans[QUANTIZE], &why));
    for (int i = MATMUL; i < PLANS; i++) keep_plan(plans[i]);
}

/* All scenes at once, with workspaces for the plans. */
static void all_scenes(const qvit_engine *engine)
{
    matmul.plan = attention.plan = running.plan = NULL;
    linear.mark = kept.count, linear_scene();
    matmul.mark = kept.count, matmul_scene();
    attention.mark = kept.count, attention_scene();
    unary.mark = kept.count, unary_scene();
    fill_normal(&unary.input.t, 1);
    linear.mark = kept.count; /* so that nothing of the other scenes is given back */
    make_plans(engine);
    running.plan = plans[LINEAR];
    running.mark = kept.count, running_scene();
    matmul.args.o.workspace_size = qvit_matmul_workspace_size(plans[MATMUL], 3, N, K);
    matmul.args.o.workspace = workspace(matmul.args.o.workspace_size);
    attention.args.o.workspace_size =
        qvit_attention_workspace_size(plans[ATTENTION], QUERIES, KEYS);
    attention.args.o.workspace = workspace(attention.args.o.workspace_size);
}

static qvit_status run_as(int operation, const qvit_plan *plan)
{
    switch (operation) {
    case LINEAR:
        return qvit_linear_run(plan, &running.args.o, &why);
    case MATMUL:
        return qvit_matmul_run(plan, &matmul.args.o, &why);
    case ATTENTION:
        return qvit_attention_run(plan, &attention.args.o, &why);
    case NORM:
        return qvit_layer_norm_run(plan, &unary.args.o, &why);
    default:
        return qvit_quantize_run(plan, &unary.args.o, &why);
    }
}

static void a_plan_runs_its_own_operation_only(void)
{
    open_kit();
    all_scenes(kit.engine);
    for (int operation = 0; operation < PLANS; operation++)
        for (int plan = 0; plan < PLANS; plan++)
            check_failure("another operation's plan",
                          plan == operation ? QVIT_OK : QVIT_ERR_ARGUMENT,
                          run_as(operation, plans[plan]));
    for (int plan = 0; plan < PLANS; plan++) {
        if (plan != LINEAR) CHECK_EQ(qvit_linear_workspace_size(plans[plan], 3), 0);
        if (plan != MATMUL) CHECK_EQ(qvit_matmul_workspace_size(plans[plan], 3, 3, 3), 0);
        if (plan != ATTENTION) CHECK_EQ(qvit_attention_workspace_size(plans[plan], 3, 3), 0);
    }
    close_kit();
}

static void a_failing_executor_is_reported(void)
{
    static const qvit_status answers[] = {QVIT_ERR_EXECUTOR, QVIT_ERR_CANCELLED, QVIT_ERR_VALUE, -1,
                                          4711};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        open_kit();
        struct shuffled shuffled = {.workers = 3, .answer = answers[i]};
        qvit_executor executor = shuffled_hook(&shuffled);
        qvit_allocator allocator = heap_hook(&kit.heap);
        all_scenes(engine_with(0, &allocator, &executor));
        /* One row tile and one chunk of columns are one task, which needs no executor. */
        running.input = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){90, K});
        running.residual = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){90, N});
        running.output = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){90, N});
        running.args.o.workspace_size = qvit_linear_workspace_size(plans[LINEAR], 90);
        running.args.o.workspace = workspace(running.args.o.workspace_size);
        for (int operation = 0; operation < PLANS; operation++) {
            size_t before = shuffled.runs;
            check_failure("executor", QVIT_ERR_EXECUTOR, run_as(operation, plans[operation]));
            CHECK_EQ(shuffled.runs, before + 1);
        }
        close_kit();
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(linear_plans_refuse_null);
    RUN(linear_options_may_grow);
    RUN(linear_plans_refuse_ports);
    RUN(bare_sums_stay_bare);
    RUN(linear_plans_refuse_shapes);
    RUN(linear_plans_refuse_values);
    RUN(linear_runs_refuse_arguments);
    RUN(linear_runs_refuse_shapes);
    RUN(a_residual_must_be_expected);
    RUN(matmul_plans_refuse_options);
    RUN(matmul_runs_refuse_arguments);
    RUN(attention_plans_refuse_ports);
    RUN(attention_plans_refuse_options);
    RUN(attention_runs_refuse_arguments);
    RUN(attention_runs_refuse_shapes);
    RUN(windows_refuse_rows);
    RUN(layer_norm_plans_refuse_options);
    RUN(quantize_plans_refuse_options);
    RUN(unary_runs_refuse_arguments);
    RUN(a_plan_runs_its_own_operation_only);
    RUN(a_failing_executor_is_reported);
    return test_end();
}
