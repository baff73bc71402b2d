/*
 * test_options_growth.c - structs that begin with struct_size: each may grow in later versions.
 *
 * A host that was compiled with a newer header gives a longer struct. As long as what this library
 * does not know is zero nothing is lost; a wish that it cannot see must not be ignored silently.
 */
#include "support.h"

enum { TAIL = 24 }; /* bytes of a later version */

/* What every struct is tried with; made once for each test. */
static struct {
    qvit_engine *engine;
    qvit_calibrator *calibrator;
    qvit_quantizer *quantizer; /* asymmetric, 8 bits, scale 1 */
    qvit_plan *quantize, *layer_norm, *linear, *matmul, *attention;
    float x[4];
    unsigned char codes[4];
    qvit_tensor floats, bytes, cube, lines; /* [2, 2] twice, [1, 1, 2, 2], [2] */
} with;

/* A buffer on which a struct of any size fits, with its true size in front. */
union larger {
    size_t struct_size;
    unsigned char bytes[512];
    void *aligned;
};

/* The one call that reads a struct; objects that it makes are destroyed. */
typedef qvit_status use(const void *options);

static qvit_status use_engine(const void *o)
{
    qvit_engine *out;
    qvit_status status = qvit_engine_create(o, &out, &why);
    qvit_engine_destroy(out);
    return status;
}

static qvit_status use_allocator(const void *o)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.allocator = o;
    return use_engine(&options);
}

static qvit_status use_executor(const void *o)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.executor = o;
    return use_engine(&options);
}

static qvit_status use_logger(const void *o)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.logger = o;
    return use_engine(&options);
}

static qvit_status use_granularity(const void *o)
{
    qvit_granularity *out;
    qvit_status status = qvit_granularity_create(with.engine, o, &out, &why);
    qvit_granularity_destroy(out);
    return status;
}

static qvit_status use_quantizer(const void *o)
{
    qvit_quantizer *out;
    qvit_status status = qvit_quantizer_create(with.engine, o, &out, &why);
    qvit_quantizer_destroy(out);
    return status;
}

static qvit_status use_calibrator(const void *o)
{
    qvit_calibrator *out;
    qvit_status status = qvit_calibrator_create(with.engine, o, &out, &why);
    qvit_calibrator_destroy(out);
    return status;
}

static qvit_status use_site(const void *o)
{
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(with.engine, NULL, &c, &why));
    qvit_status status = qvit_calibrator_add_site(c, o, NULL, &why);
    qvit_calibrator_destroy(c);
    return status;
}

static qvit_status use_observation(const void *o)
{
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(with.engine, NULL, &c, &why));
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.weight = &with.floats;
    MUST(qvit_calibrator_add_site(c, &site, NULL, &why));
    qvit_status status = qvit_calibrator_observe(c, o, &why);
    qvit_calibrator_destroy(c);
    return status;
}

static qvit_status use_solve(const void *o)
{
    return qvit_calibrator_solve(with.calibrator, o, &why);
}

static int32_t take(void *user, const void *data, size_t size)
{
    (void)user, (void)data, (void)size;
    return 0;
}

static qvit_status use_card(const void *o)
{
    return qvit_calibrator_card(with.calibrator, o, take, NULL, &why);
}

#define DEFINE_USE_OF_PLAN(name)                                                                   \
    static qvit_status use_##name(const void *o)                                                   \
    {                                                                                              \
        qvit_plan *out;                                                                            \
        qvit_status status = qvit_##name##_create(with.engine, o, &out, &why);                     \
        qvit_plan_destroy(out);                                                                    \
        return status;                                                                             \
    }
DEFINE_USE_OF_PLAN(linear)
DEFINE_USE_OF_PLAN(matmul)
DEFINE_USE_OF_PLAN(attention)
DEFINE_USE_OF_PLAN(layer_norm)
DEFINE_USE_OF_PLAN(quantize)

static qvit_status run_linear(const void *o) { return qvit_linear_run(with.linear, o, &why); }
static qvit_status run_matmul(const void *o) { return qvit_matmul_run(with.matmul, o, &why); }
static qvit_status run_attention(const void *o)
{
    return qvit_attention_run(with.attention, o, &why);
}
static qvit_status run_norm(const void *o) { return qvit_layer_norm_run(with.layer_norm, o, &why); }
static qvit_status run_quantize(const void *o) { return qvit_quantize_run(with.quantize, o, &why); }

/* Every struct with struct_size, filled in so that the call that reads it succeeds. */
#define FOR_EACH_STRUCT(X)                                                                         \
    X(qvit_engine_options, QVIT_ENGINE_OPTIONS_INIT, use_engine, (void)s)                          \
    X(qvit_allocator, QVIT_ALLOCATOR_INIT, use_allocator, *s = heap_hook(&heap))                   \
    X(qvit_executor, QVIT_EXECUTOR_INIT, use_executor, *s = shuffled_hook(&alone))                 \
    X(qvit_logger, QVIT_LOGGER_INIT, use_logger, s->log = ignore_line)                             \
    X(qvit_granularity_options, QVIT_GRANULARITY_OPTIONS_INIT, use_granularity, (void)s)           \
    X(qvit_quantizer_options, QVIT_QUANTIZER_OPTIONS_INIT, use_quantizer,                          \
      (s->parameters = &one, s->parameter_count = 1))                                              \
    X(qvit_calibrator_options, QVIT_CALIBRATOR_OPTIONS_INIT, use_calibrator, (void)s)              \
    X(qvit_site_options, QVIT_SITE_OPTIONS_INIT, use_site, s->weight = &with.floats)               \
    X(qvit_observation, QVIT_OBSERVATION_INIT, use_observation, s->input = &with.floats)           \
    X(qvit_solve_options, QVIT_SOLVE_OPTIONS_INIT, use_solve, (void)s)                             \
    X(qvit_card_options, QVIT_CARD_OPTIONS_INIT, use_card, (void)s)                                \
    X(qvit_linear_options, QVIT_LINEAR_OPTIONS_INIT, use_linear, float_linear(s))                  \
    X(qvit_matmul_options, QVIT_MATMUL_OPTIONS_INIT, use_matmul, float_matmul(s))                  \
    X(qvit_attention_options, QVIT_ATTENTION_OPTIONS_INIT, use_attention, float_attention(s))      \
    X(qvit_layer_norm_options, QVIT_LAYER_NORM_OPTIONS_INIT, use_layer_norm, float_norm(s))        \
    X(qvit_quantize_options, QVIT_QUANTIZE_OPTIONS_INIT, use_quantize, to_bytes(s))                \
    X(qvit_linear_args, QVIT_LINEAR_ARGS_INIT, run_linear, linear_args(s))                         \
    X(qvit_matmul_args, QVIT_MATMUL_ARGS_INIT, run_matmul, matmul_args(s))                         \
    X(qvit_attention_args, QVIT_ATTENTION_ARGS_INIT, run_attention, attention_args(s))             \
    X(qvit_unary_args, QVIT_UNARY_ARGS_INIT, run_norm,                                             \
      (s->input = &with.floats, s->output = &with.floats))

static struct heap heap;
static struct shuffled alone = {.workers = 1};
static const float one_float = 1;
static const qvit_parameter one = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &one_float};

static void ignore_line(void *user, qvit_log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

static const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};

static void float_linear(qvit_linear_options *o)
{
    o->input = o->weight = o->output = f32;
    o->weights = &with.floats;
}

static void float_matmul(qvit_matmul_options *o) { o->left = o->right = o->output = f32; }

static void float_attention(qvit_attention_options *o)
{
    o->query = o->key = o->value = o->probability = o->output = f32;
    o->heads = 1, o->head_dim = 2;
}

static void float_norm(qvit_layer_norm_options *o)
{
    o->gamma = o->beta = &with.lines;
    o->output = f32;
}

static void to_bytes(qvit_quantize_options *o)
{
    o->output = (qvit_port){QVIT_DTYPE_U8, 0, with.quantizer};
}

static float out[4];
static qvit_tensor out_square, out_cube;

static void linear_args(qvit_linear_args *a)
{
    a->input = &with.floats, a->output = &out_square;
    a->workspace_size = qvit_linear_workspace_size(with.linear, 2);
    a->workspace = workspace(a->workspace_size);
}

static void matmul_args(qvit_matmul_args *a)
{
    a->left = a->right = &with.cube, a->output = &out_cube;
    a->workspace_size = qvit_matmul_workspace_size(with.matmul, 2, 2, 2);
    a->workspace = workspace(a->workspace_size);
}

/* [batch 1, tokens 2, heads 1, head_dim 2]: the same memory with other sizes. */
static qvit_tensor tokens, out_tokens;

static void attention_args(qvit_attention_args *a)
{
    a->query = a->key = a->value = &tokens, a->output = &out_tokens;
    a->workspace_size = qvit_attention_workspace_size(with.attention, 2, 2);
    a->workspace = workspace(a->workspace_size);
}

static void set_up(void)
{
    memset(&with, 0, sizeof with);
    with.engine = engine_new();
    with.quantizer = quantizer_layer(with.engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 1, 0, 0);
    const size_t cube[4] = {1, 1, 2, 2}, line[4] = {1, 2, 1, 2};
    for (int i = 0; i < 4; i++) with.x[i] = (float)i - 1;
    qvit_tensor_init(&with.floats, with.x, QVIT_DTYPE_F32, 2, &cube[2]);
    qvit_tensor_init(&with.cube, with.x, QVIT_DTYPE_F32, 4, cube);
    qvit_tensor_init(&with.lines, with.x, QVIT_DTYPE_F32, 1, &cube[2]);
    qvit_tensor_init(&with.bytes, with.codes, QVIT_DTYPE_U8, 2, &cube[2]);
    qvit_tensor_init(&out_square, out, QVIT_DTYPE_F32, 2, &cube[2]);
    qvit_tensor_init(&out_cube, out, QVIT_DTYPE_F32, 4, cube);
    qvit_tensor_init(&tokens, with.x, QVIT_DTYPE_F32, 4, line);
    qvit_tensor_init(&out_tokens, out, QVIT_DTYPE_F32, 4, line);
    MUST(qvit_calibrator_create(with.engine, NULL, &with.calibrator, &why));

    qvit_linear_options linear = QVIT_LINEAR_OPTIONS_INIT;
    qvit_matmul_options matmul = QVIT_MATMUL_OPTIONS_INIT;
    qvit_attention_options attention = QVIT_ATTENTION_OPTIONS_INIT;
    qvit_layer_norm_options norm = QVIT_LAYER_NORM_OPTIONS_INIT;
    qvit_quantize_options quantize = QVIT_QUANTIZE_OPTIONS_INIT;
    float_linear(&linear), float_matmul(&matmul), float_attention(&attention);
    float_norm(&norm), to_bytes(&quantize);
    MUST(qvit_linear_create(with.engine, &linear, &with.linear, &why));
    MUST(qvit_matmul_create(with.engine, &matmul, &with.matmul, &why));
    MUST(qvit_attention_create(with.engine, &attention, &with.attention, &why));
    MUST(qvit_layer_norm_create(with.engine, &norm, &with.layer_norm, &why));
    MUST(qvit_quantize_create(with.engine, &quantize, &with.quantize, &why));
    qvit_plan *plans[] = {with.linear, with.matmul, with.attention, with.layer_norm, with.quantize};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) keep_plan(plans[i]);
}

static void tear_down(void)
{
    qvit_calibrator_destroy(with.calibrator);
    release();
    heap_check_empty(&heap);
}

/* ---- the rules ---- */

/* Padding has no value and is not compared: four bytes behind the flags of this one struct. */
static void clear_padding(const char *type, void *s)
{
    const size_t end = offsetof(qvit_quantizer_options, flags) + sizeof(uint32_t);
    if (strcmp(type, "qvit_quantizer_options")) return;
    memset((char *)s + end, 0, offsetof(qvit_quantizer_options, granularity) - end);
}

static void init_macros_equal_init_functions(void)
{
#define CHECK_INIT(type, INIT, use, fill)                                                          \
    {                                                                                              \
        type macro = INIT, function;                                                               \
        memset(&function, 0xA5, sizeof function);                                                  \
        type##_init(&function, sizeof function);                                                   \
        clear_padding(#type, &macro), clear_padding(#type, &function);                             \
        CHECK_EQ(macro.struct_size, sizeof(type));                                                 \
        if (memcmp(&function, &macro, sizeof macro))                                               \
            FAIL("%s_init differs from the macro", #type);                                         \
    }
    FOR_EACH_STRUCT(CHECK_INIT)
}

/* The size is that of the caller's struct, which comes from another header than the library. */
static void init_functions_write_what_the_caller_has(void)
{
#define CHECK_SIZES(type, INIT, use, fill)                                                         \
    {                                                                                              \
        union larger b;                                                                            \
        type macro = INIT;                                                                         \
        clear_padding(#type, &macro);                                                              \
        for (size_t size = 0; size <= sizeof(type) + TAIL; size++) {                               \
            memset(&b, CANARY, sizeof b);                                                          \
            type##_init((void *)&b, size);                                                         \
            size_t written = size < sizeof(size_t) ? 0 : size, own = sizeof(size_t);               \
            if (written) CHECK_EQ(b.struct_size, size);                                            \
            if (written == sizeof(type) + TAIL) clear_padding(#type, &b);                          \
            for (; written == sizeof(type) + TAIL && own < written; own++)                         \
                CHECK_EQ(b.bytes[own], own < sizeof macro ? ((unsigned char *)&macro)[own] : 0);   \
            for (size_t i = written; i < sizeof b; i++) CHECK_EQ(b.bytes[i], CANARY);              \
        }                                                                                          \
        type##_init(NULL, sizeof(type));                                                           \
    }
    FOR_EACH_STRUCT(CHECK_SIZES)
}

/* How a struct of a true size is received, as one of `size` bytes with `tail` in its last byte. */
static qvit_status received(use *call, const void *options, size_t true_size, size_t size, int tail)
{
    union larger buffer;
    memset(&buffer, 0, sizeof buffer);
    if (true_size + TAIL > sizeof buffer) FAIL("a struct of %zu bytes", true_size);
    memcpy(&buffer, options, true_size);
    buffer.struct_size = size;
    if (tail >= 0) buffer.bytes[tail] = 1;
    qvit_status status = call(&buffer);
    CHECK_EQ(why.status, status);
    return status;
}

static void check_growth(const char *name, use *call, const void *options, size_t size)
{
    const size_t small[] = {0, 1, sizeof(size_t) - 1, sizeof(size_t), size - 1};
    if (received(call, options, size, size, -1)) FAIL("%s as it is: %s", name, why.text);
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        if (received(call, options, size, small[i], -1) != QVIT_ERR_ARGUMENT)
            FAIL("%s of %zu bytes: %s", name, small[i], why.text);
    for (size_t more = 1; more <= TAIL; more += TAIL - 1) {
        if (received(call, options, size, size + more, -1))
            FAIL("%s with %zu zeros: %s", name, more, why.text);
        for (size_t at = size; at < size + more; at++)
            if (received(call, options, size, size + more, (int)at) != QVIT_ERR_UNSUPPORTED)
                FAIL("%s with an unknown field at byte %zu: %s", name, at, why.text);
    }
}

static void structs_may_be_longer_but_not_shorter(void)
{
    set_up();
#define CHECK_GROWTH(type, INIT, call, fill)                                                       \
    {                                                                                              \
        type options = INIT, *s = &options;                                                        \
        fill;                                                                                      \
        check_growth(#type, call, s, sizeof options);                                              \
    }
    FOR_EACH_STRUCT(CHECK_GROWTH)
    qvit_unary_args unary = QVIT_UNARY_ARGS_INIT;
    unary.input = &with.floats, unary.output = &with.bytes;
    check_growth("qvit_unary_args", run_quantize, &unary, sizeof unary);
    tear_down();
}

/* Options that say "NULL: all defaults" may be left out, all others not. */
static void missing_structs_are_refused(void)
{
    set_up();
    CHECK_EQ(use_engine(NULL), QVIT_OK);
    CHECK_EQ(use_calibrator(NULL), QVIT_OK);
    CHECK_EQ(use_solve(NULL), QVIT_OK);
    use *const others[] = {use_granularity, use_quantizer, use_site,      use_observation,
                           use_linear,      use_matmul,    use_attention, use_layer_norm,
                           use_quantize,    run_linear,    run_matmul,    run_attention,
                           run_norm,        run_quantize};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        qvit_status status = others[i](NULL);
        if (status != QVIT_ERR_ARGUMENT) FAIL("struct %zu: status %d", i, (int)status);
    }
    tear_down();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(init_macros_equal_init_functions);
    RUN(init_functions_write_what_the_caller_has);
    RUN(structs_may_be_longer_but_not_shorter);
    RUN(missing_structs_are_refused);
    return test_end();
}
