/* test_quantize.c - quantize plans give the codes of qvit_quantizer_encode, bit for bit. */
#include "support.h"

/* Numbers on and beside the boundaries between codes, far outside of them, and no numbers. */
static float awkward(float scale)
{
    static const float fixed[] = {0, -0.0f, 1e30f, -1e30f, 1e-40f, -1e-40f, 0.5f, 1};
    switch (test_below(8)) {
    case 0:
        return fixed[test_below(sizeof fixed / sizeof fixed[0])];
    case 1:
        return ((float)test_below(512) - 256) * scale;
    case 2:
        return ((float)test_below(512) - 256.5f) * scale;
    case 3:
        return nextafterf(((float)test_below(512) - 256.5f) * scale, test_uniform() * 1e9f);
    case 4:
        return test_below(3) == 0 ? NAN : test_below(2) ? INFINITY : -INFINITY;
    default:
        return test_normal() * scale * 60;
    }
}

static void fill_awkward(const qvit_quantizer *q, const qvit_tensor *t)
{
    qvit_parameter scale, scale2;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE, &scale, &why));
    if (qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE2, &scale2, NULL)) scale2 = scale;
    for (size_t i = 0; i < tensor_count(t); i++) {
        const qvit_parameter *p = test_below(2) ? &scale : &scale2;
        tensor_set(t, i, (double)awkward(((const float *)p->data)[test_below(p->count)]));
    }
}

static void run_plan(const qvit_plan *plan, const qvit_tensor *input, const qvit_tensor *output)
{
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = input, args.output = output;
    MUST(qvit_quantize_run(plan, &args, &why));
}

static qvit_plan *make_plan(const qvit_engine *engine, const qvit_quantizer *q)
{
    qvit_quantize_options make = QVIT_QUANTIZE_OPTIONS_INIT;
    make.output.quantizer = q;
    make.output.dtype = qvit_quantizer_code_dtype(q);
    qvit_plan *plan;
    MUST(qvit_quantize_create(engine, &make, &plan, &why));
    return keep_plan(plan);
}

/* One tensor of random sizes and strides through the plan, on one engine. */
static void check_codes(const qvit_engine *engine, const qvit_quantizer *q, size_t cols)
{
    size_t mark = kept.count, rank = 1 + test_below(5), dims[QVIT_MAX_RANK];
    for (size_t i = 0; i + 1 < rank; i++) dims[i] = 1 + test_below(4);
    dims[rank - 1] = cols;
    qvit_dtype dtype = qvit_quantizer_code_dtype(q);
    struct view in = view_strided(QVIT_DTYPE_F32, rank, dims, 9);
    struct view out = view_strided(dtype, rank, dims, 9), expected = view_dense(dtype, rank, dims);
    fill_awkward(q, &in.t);
    MUST(qvit_quantizer_encode(q, &in.t, &expected.t, &why));
    run_plan(make_plan(engine, q), &in.t, &out.t);
    CHECK(view_gaps_untouched(&out));
    CHECK_SAME(&out.t, &expected.t);
    release_to(mark);
}

static void codes_are_those_of_encode(qvit_scheme scheme)
{
    for (int t = 0; t < 150; t++) {
        size_t cols = 1 + test_below(1 + test_below(150));
        const qvit_engine *maker = engine_new();
        qvit_granularity *g = test_below(2) ? granularity_random(maker, QVIT_ANY, cols) : NULL;
        bool narrow = scheme == QVIT_SCHEME_SYMMETRIC && test_below(2);
        const qvit_quantizer *q =
            quantizer_random(maker, scheme, 2 + (int32_t)test_below(7),
                             narrow ? QVIT_QUANTIZER_NARROW : 0, g, random_between(0.1f, 9), -1);
        for (size_t i = 0; i < isa_variant_count(); i++) {
            struct shuffled shuffled = {.workers = 1 + test_below(7)};
            qvit_executor executor = shuffled_hook(&shuffled);
            check_codes(engine_with(isa_variants[i], NULL, &executor), q, cols);
        }
        release();
    }
}

static void symmetric_codes_are_those_of_encode(void)
{
    codes_are_those_of_encode(QVIT_SCHEME_SYMMETRIC);
}

static void asymmetric_codes_are_those_of_encode(void)
{
    codes_are_those_of_encode(QVIT_SCHEME_ASYMMETRIC);
}

static void twin_softmax_codes_are_those_of_encode(void)
{
    codes_are_those_of_encode(QVIT_SCHEME_TWIN_SOFTMAX);
}

static void twin_gelu_codes_are_those_of_encode(void)
{
    codes_are_those_of_encode(QVIT_SCHEME_TWIN_GELU);
}

/* Scales at both ends of what a quantizer allows. */
static void extreme_scales_give_the_codes_of_encode(void)
{
    static const float scales[] = {1.17549435e-38f, 1e-30f, 1e30f, 3.4e38f};
    for (size_t s = 0; s < sizeof scales / sizeof scales[0]; s++)
        for (size_t i = 0; i < isa_variant_count(); i++)
            for (qvit_scheme scheme = 1; scheme <= QVIT_SCHEME_TWIN_GELU; scheme++) {
                const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
                int32_t zero = scheme == QVIT_SCHEME_TWIN_GELU ? -31 : 131;
                check_codes(engine,
                            quantizer_layer(engine, scheme, 8, 0, scales[s], scales[s], zero), 67);
                release();
            }
}

/* One quantizer without sizes serves tensors of any. */
static void a_layer_plan_takes_any_number_of_columns(void)
{
    const qvit_engine *engine = engine_new();
    const qvit_quantizer *q = quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.02f, 0, 128);
    qvit_plan *plan = make_plan(engine, q);
    for (size_t cols = 1; cols <= 70; cols++) {
        size_t mark = kept.count, dims[2] = {2, cols};
        struct view in = view_dense(QVIT_DTYPE_F32, 2, dims),
                    out = view_dense(QVIT_DTYPE_U8, 2, dims);
        struct view expected = view_dense(QVIT_DTYPE_U8, 2, dims);
        fill_awkward(q, &in.t);
        MUST(qvit_quantizer_encode(q, &in.t, &expected.t, &why));
        run_plan(plan, &in.t, &out.t);
        CHECK(view_gaps_untouched(&out));
        CHECK_SAME(&out.t, &expected.t);
        release_to(mark);
    }
    release();
}

static void a_plan_outlives_its_quantizer(void)
{
    const qvit_engine *engine = engine_new();
    size_t cols = 40;
    qvit_granularity *g = granularity_random(engine, QVIT_ANY, cols);
    qvit_plan *plan;
    struct view in = view_vector(cols), out = view_dense(QVIT_DTYPE_S8, 1, &cols);
    struct view expected = view_dense(QVIT_DTYPE_S8, 1, &cols);
    size_t mark = kept.count;
    const qvit_quantizer *q = quantizer_random(engine, QVIT_SCHEME_TWIN_GELU, 6, 0, g, 2, 0);
    qvit_quantize_options make = QVIT_QUANTIZE_OPTIONS_INIT;
    make.output = (qvit_port){QVIT_DTYPE_S8, 0, q};
    fill_awkward(q, &in.t);
    MUST(qvit_quantizer_encode(q, &in.t, &expected.t, &why));
    MUST(qvit_quantize_create(engine, &make, &plan, &why));
    release_to(mark);
    run_plan(plan, &in.t, &out.t);
    CHECK_SAME(&out.t, &expected.t);
    qvit_plan_destroy(plan);
    release();
}

static void a_plan_tells_about_itself(void)
{
    const qvit_engine *engine = engine_new();
    const qvit_quantizer *q = quantizer_layer(engine, QVIT_SCHEME_TWIN_GELU, 8, 0, 0.02f, 0.1f, 0);
    qvit_plan *plan = make_plan(engine, q);
    char text[256];
    CHECK_EQ(qvit_plan_describe(plan, text, sizeof text), strlen(text));
    CHECK(strstr(text, "quantize"));
    CHECK(strstr(text, qvit_plan_kernel(plan)));
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(symmetric_codes_are_those_of_encode);
    RUN(asymmetric_codes_are_those_of_encode);
    RUN(twin_softmax_codes_are_those_of_encode);
    RUN(twin_gelu_codes_are_those_of_encode);
    RUN(extreme_scales_give_the_codes_of_encode);
    RUN(a_layer_plan_takes_any_number_of_columns);
    RUN(a_plan_outlives_its_quantizer);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
