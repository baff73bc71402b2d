/* test_quantizer.c - numbers to codes and back, against the schemes' definitions written again
 * here. */
#include <float.h>

#include "support.h"

enum { COUNT = 600 }; /* values that each quantizer is tried with */

static const qvit_scheme schemes[] = {QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC,
                                      QVIT_SCHEME_TWIN_SOFTMAX, QVIT_SCHEME_TWIN_GELU};
enum { SCHEMES = sizeof schemes / sizeof schemes[0] };

/* ---- the definition ---- */

/* A scheme with the parameters of one block. */
struct rule {
    qvit_scheme scheme;
    int bits;
    bool narrow;
    float scale, scale2;
    int zero;
};

/* A float divided by a float: in double, rounded once, it is what a float division gives. */
static double quotient(float x, float scale) { return (double)(float)((double)x / (double)scale); }

/* Half to even, by hand: the rounding mode of the process has no say here. */
static double half_even(double x)
{
    double below = floor(x), part = x - below;
    if (part > 0.5 || (part == 0.5 && fmod(below, 2) != 0)) return below + 1;
    return below;
}

static long saturated(double x, long lo, long hi)
{
    return x < (double)lo ? lo : x > (double)hi ? hi : (long)x;
}

/* Saturation comes last, so infinities reach it. */
static long rounded(double x, long lo, long hi)
{
    return saturated(isinf(x) ? x : half_even(x), lo, hi);
}

static long defined_code(const struct rule *r, float x)
{
    const long b = 1L << (r->bits - 1);
    switch (r->scheme) {
    case QVIT_SCHEME_SYMMETRIC: {
        long lowest = r->narrow ? -(b - 1) : -b;
        return isnan(x) ? lowest : rounded(quotient(x, r->scale), lowest, b - 1);
    }
    case QVIT_SCHEME_ASYMMETRIC: {
        if (isnan(x)) return 0;
        double q = quotient(x, r->scale);
        return saturated((isinf(q) ? q : half_even(q)) + r->zero, 0, 2 * b - 1);
    }
    case QVIT_SCHEME_TWIN_SOFTMAX:
        if (isnan(x)) return 0;
        if ((double)x < (double)b * (double)r->scale)
            return rounded(quotient(x, r->scale), 0, b - 1);
        return b + rounded(quotient(x, r->scale2), 0, b - 1);
    default:
        if (isnan(x)) return r->zero;
        if (x < 0) return r->zero + rounded(quotient(x, r->scale), -b - r->zero, 0);
        return r->zero + rounded(quotient(x, r->scale2), 0, b - 1 - r->zero);
    }
}

static double defined_value(const struct rule *r, long code)
{
    const long b = 1L << (r->bits - 1);
    switch (r->scheme) {
    case QVIT_SCHEME_SYMMETRIC:
        return (double)code * (double)r->scale;
    case QVIT_SCHEME_ASYMMETRIC:
        return (double)(code - r->zero) * (double)r->scale;
    case QVIT_SCHEME_TWIN_SOFTMAX:
        return code < b ? (double)code * (double)r->scale : (double)(code - b) * (double)r->scale2;
    default:
        return (double)(code - r->zero) * (double)(code < r->zero ? r->scale : r->scale2);
    }
}

/* ---- what it is tried with ---- */

/* A scale between 2^-20 and 2^8, sometimes a power of two, sometimes at the end of what is allowed.
 * */
static float random_scale(void)
{
    if (test_below(20) == 0) return FLT_MIN;
    if (test_below(20) == 0) return FLT_MAX;
    double mantissa = test_below(3) ? 1.5 + (double)test_uniform() / 2 : 1;
    return (float)ldexp(mantissa, (int)test_below(28) - 20);
}

static struct rule random_rule(qvit_scheme scheme, int bits)
{
    struct rule r = {.scheme = scheme, .bits = bits, .scale = random_scale()};
    r.scale2 = test_below(2) ? random_scale() : r.scale;
    if (scheme == QVIT_SCHEME_SYMMETRIC) r.narrow = test_below(2);
    if (scheme == QVIT_SCHEME_ASYMMETRIC) r.zero = (int)test_below((size_t)1 << bits);
    if (scheme == QVIT_SCHEME_TWIN_GELU && test_below(2))
        r.zero = (int)test_below((size_t)1 << bits) - (1 << (bits - 1));
    return r;
}

/* Ties, their neighbours, ends of the ranges, everything that is special, and numbers at random. */
static float probe(const struct rule *r, size_t i)
{
    static const float special[] = {0.0f,    -0.0f,    INFINITY,    -INFINITY,    NAN,
                                    -NAN,    FLT_MIN,  -FLT_MIN,    FLT_TRUE_MIN, -FLT_TRUE_MIN,
                                    FLT_MAX, -FLT_MAX, FLT_EPSILON, 1e-40f,       -1e-40f};
    if (i < sizeof special / sizeof special[0]) return special[i];
    float scale = test_below(2) ? r->scale : r->scale2;
    long span = 2L << r->bits, step = (long)test_below((size_t)(2 * span)) - span;
    float x = (float)((double)step * 0.5 * (double)scale); /* every other one is a tie */
    switch (test_below(5)) {
    case 0:
        return nextafterf(x, INFINITY);
    case 1:
        return nextafterf(x, -INFINITY);
    case 2:
        return test_uniform() * (float)(1 << r->bits) * scale;
    case 3:
        return (float)(1 << (r->bits - 1)) * r->scale; /* where a twin's second range begins */
    default:
        return x;
    }
}

static qvit_quantizer *made(const qvit_engine *engine, const struct rule *r)
{
    return quantizer_layer(engine, r->scheme, r->bits, r->narrow ? QVIT_QUANTIZER_NARROW : 0,
                           r->scale, r->scale2, r->zero);
}

static bool is_signed(qvit_scheme scheme)
{
    return scheme == QVIT_SCHEME_SYMMETRIC || scheme == QVIT_SCHEME_TWIN_GELU;
}

/* Floats, the codes as bytes, and the floats that they mean, of one quantizer. */
static float input[COUNT], meant[COUNT], faked[COUNT];
static unsigned char coded[COUNT];

static long code_at(qvit_scheme scheme, size_t i)
{
    return is_signed(scheme) ? (long)(int8_t)coded[i] : (long)coded[i];
}

static void run_all(const qvit_quantizer *q)
{
    const size_t dims[2] = {COUNT / 30, 30};
    qvit_tensor in, codes, values, fakes;
    qvit_tensor_init(&in, input, QVIT_DTYPE_F32, 2, dims);
    qvit_tensor_init(&codes, coded, qvit_quantizer_code_dtype(q), 2, dims);
    qvit_tensor_init(&values, meant, QVIT_DTYPE_F32, 2, dims);
    qvit_tensor_init(&fakes, faked, QVIT_DTYPE_F32, 2, dims);
    MUST(qvit_quantizer_encode(q, &in, &codes, &why));
    MUST(qvit_quantizer_decode(q, &codes, &values, &why));
    MUST(qvit_quantizer_fake(q, &in, &fakes, &why));
}

/* Runs the check for many quantizers of every scheme and width. */
static void for_each_rule(void (*check)(qvit_engine *engine, struct rule *r,
                                        const qvit_quantizer *q))
{
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SCHEMES; s++)
        for (int bits = 2; bits <= 8; bits++)
            for (int round = 0; round < 25; round++) {
                size_t mark = kept.count;
                struct rule r = random_rule(schemes[s], bits);
                for (size_t i = 0; i < COUNT; i++) input[i] = probe(&r, i);
                check(engine, &r, made(engine, &r));
                release_to(mark);
            }
    release();
}

/* ---- encode, decode, fake ---- */

static void check_codes(qvit_engine *engine, struct rule *r, const qvit_quantizer *q)
{
    (void)engine;
    run_all(q);
    for (size_t i = 0; i < COUNT; i++)
        if (code_at(r->scheme, i) != defined_code(r, input[i]))
            FAIL("scheme %d, %d bits, scale %.9g, %.9g, zero %d: %.9g is %ld, not %ld",
                 (int)r->scheme, r->bits, (double)r->scale, (double)r->scale2, r->zero,
                 (double)input[i], code_at(r->scheme, i), defined_code(r, input[i]));
}

static void encode_is_what_the_schemes_say(void) { for_each_rule(check_codes); }

static void check_values(qvit_engine *engine, struct rule *r, const qvit_quantizer *q)
{
    (void)engine;
    run_all(q);
    for (size_t i = 0; i < COUNT; i++) {
        float value = (float)defined_value(r, code_at(r->scheme, i));
        if (memcmp(&meant[i], &value, sizeof value) && !(meant[i] == 0 && value == 0))
            FAIL("code %ld means %.9g, not %.9g", code_at(r->scheme, i), (double)meant[i],
                 (double)value);
    }
}

static void decode_is_what_the_schemes_say(void) { for_each_rule(check_values); }

static void decode_knows_every_code(void)
{
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SCHEMES; s++)
        for (int bits = 2; bits <= 8; bits++) {
            struct rule r = {schemes[s], bits, false, 0.25f, 0.5f, 0};
            const qvit_quantizer *q = made(engine, &r);
            qvit_tensor codes, values;
            size_t count = (size_t)1 << bits;
            qvit_tensor_init(&codes, coded, qvit_quantizer_code_dtype(q), 1, &count);
            qvit_tensor_init(&values, meant, QVIT_DTYPE_F32, 1, &count);
            long first = is_signed(r.scheme) ? -(long)(count / 2) : 0;
            for (size_t i = 0; i < count; i++) coded[i] = (unsigned char)(first + (long)i);
            MUST(qvit_quantizer_decode(q, &codes, &values, &why));
            for (size_t i = 0; i < count; i++)
                CHECK_NEAR(meant[i], defined_value(&r, first + (long)i), 0);
        }
    release();
}

static void check_fake(qvit_engine *engine, struct rule *r, const qvit_quantizer *q)
{
    (void)engine, (void)r;
    run_all(q);
    CHECK(!memcmp(meant, faked, sizeof meant));
}

static void fake_is_decode_of_encode(void) { for_each_rule(check_fake); }

static void fake_may_write_over_its_input(void)
{
    const qvit_quantizer *q =
        quantizer_layer(engine_new(), QVIT_SCHEME_SYMMETRIC, 5, 0, 0.3f, 0, 0);
    for (size_t i = 0; i < COUNT; i++) input[i] = test_normal();
    run_all(q);
    qvit_tensor same;
    qvit_tensor_init(&same, input, QVIT_DTYPE_F32, 1, (size_t[]){COUNT});
    MUST(qvit_quantizer_fake(q, &same, &same, &why));
    CHECK(!memcmp(input, faked, sizeof faked));
    release();
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void check_order(qvit_engine *engine, struct rule *r, const qvit_quantizer *q)
{
    (void)engine;
    for (size_t i = 0; i < COUNT; i++)
        if (isnan(input[i])) input[i] = 0;
    qsort(input, COUNT, sizeof input[0], by_value);
    run_all(q);
    for (size_t i = 1; i < COUNT; i++) CHECK(code_at(r->scheme, i) >= code_at(r->scheme, i - 1));
}

static void codes_rise_with_the_numbers(void) { for_each_rule(check_order); }

/* A second quantization changes nothing. Of twin softmax this holds for ranges whose scales differ
 * by a power of two, as they do in the paper. FLT_MAX times a code is not finite: it stays away. */
static void check_again(qvit_engine *engine, struct rule *r, const qvit_quantizer *q)
{
    if (r->scale > 1e30f || r->scale2 > 1e30f) r->scale = r->scale2 = 0.7f;
    if (r->scheme == QVIT_SCHEME_TWIN_SOFTMAX) r->scale2 = ldexpf(r->scale, (int)test_below(16));
    q = made(engine, r);
    run_all(q);
    memcpy(input, faked, sizeof input);
    run_all(q);
    for (size_t i = 0; i < COUNT; i++) CHECK_NEAR(faked[i], input[i], 0);
}

static void quantizing_again_changes_nothing(void) { for_each_rule(check_again); }

static void numbers_come_within_half_a_step(void)
{
    qvit_engine *engine = engine_new();
    for (int bits = 2; bits <= 8; bits++) {
        float top = (float)(1 << (bits - 1)) - 0.5f;
        struct rule r = {QVIT_SCHEME_SYMMETRIC, bits, false, 1 / top, 0, 0};
        for (size_t i = 0; i < COUNT; i++) input[i] = test_uniform();
        run_all(made(engine, &r));
        for (size_t i = 0; i < COUNT; i++) CHECK_NEAR(faked[i], input[i], 0.5000001 / (double)top);
    }
    release();
}

/* The published code adds both ranges' roundings; the definition is one or the other. At 0.75,
 * which is in the upper range, the sum would be too large by all that the lower range holds. */
static void twin_softmax_is_one_range_or_the_other(void)
{
    struct rule r = {QVIT_SCHEME_TWIN_SOFTMAX, 4, false, 1 / 56.0f, 1 / 7.0f, 0};
    for (size_t i = 0; i < COUNT; i++) input[i] = (float)i / (COUNT - 1);
    input[0] = 0.75f;
    run_all(made(engine_new(), &r));
    CHECK_EQ(coded[0], 8 + 5);
    CHECK_NEAR(faked[0], 5 / 7.0, 1e-7);
    for (size_t i = 1; i < COUNT; i++) {
        bool upper = input[i] >= 8 / 56.0f;
        CHECK_EQ(coded[i] >> 3, upper);
        double step = upper ? 1 / 7.0 : 1 / 56.0;
        double half = coded[i] == 7 ? step : step / 2; /* the lower range ends half a step early */
        CHECK_NEAR(faked[i], input[i], half + 1e-6);
    }
    CHECK_NEAR(faked[COUNT - 1], 1, 1e-7); /* a probability of 1 is exact */
    release();
}

/* With 8 codes on either side, and with 3 and 12: the high ones are nearer then. */
static void twin_gelu_is_told_apart_by_the_zero_point(void)
{
    static const struct rule rules[] = {{QVIT_SCHEME_TWIN_GELU, 4, false, 0.17f / 8, 0.5f, 0},
                                        {QVIT_SCHEME_TWIN_GELU, 4, false, 0.17f / 3, 0.3f, -5}};
    for (size_t i = 0; i < COUNT; i++) input[i] = -0.17f + (float)i * 0.006f;
    for (size_t n = 0; n < 2; n++) {
        const struct rule *r = &rules[n];
        run_all(made(engine_new(), r));
        for (size_t i = 0; i < COUNT; i++) {
            int code = (int8_t)coded[i];
            CHECK(input[i] < 0 ? code <= r->zero : code >= r->zero);
            CHECK_NEAR(faked[i], input[i],
                       (double)(input[i] < 0 ? r->scale : r->scale2) / 2 + 1e-6);
        }
        CHECK_EQ((int8_t)coded[0], -8);
    }
    release();
}

/* ---- packed tensors ---- */

/* Whether a packed type is wide enough for a rule's codes. */
static bool packs(qvit_dtype dtype, const struct rule *r)
{
    if (dtype == QVIT_DTYPE_U4) return !is_signed(r->scheme) && r->bits <= 4;
    if (dtype == QVIT_DTYPE_S4) return is_signed(r->scheme) && r->bits <= 4;
    return dtype == QVIT_DTYPE_S6 && is_signed(r->scheme) && r->bits <= 6;
}

static void check_packed(const qvit_quantizer *q, const struct rule *r, qvit_dtype dtype)
{
    size_t mark = kept.count;
    const size_t dims[3] = {3, 4, 5};
    struct view in = view_dense(QVIT_DTYPE_F32, 3, dims);
    struct view whole = view_dense(qvit_quantizer_code_dtype(q), 3, dims);
    struct view packed = view_strided(dtype, 3, dims, 9);
    struct view a = view_dense(QVIT_DTYPE_F32, 3, dims), b = view_dense(QVIT_DTYPE_F32, 3, dims);
    for (size_t i = 0; i < 60; i++) tensor_set(&in.t, i, (double)probe(r, i));
    MUST(qvit_quantizer_encode(q, &in.t, &whole.t, &why));
    MUST(qvit_quantizer_encode(q, &in.t, &packed.t, &why));
    CHECK_SAME(&whole.t, &packed.t);
    CHECK(view_gaps_untouched(&packed));
    MUST(qvit_quantizer_decode(q, &whole.t, &a.t, &why));
    MUST(qvit_quantizer_decode(q, &packed.t, &b.t, &why));
    CHECK_SAME(&a.t, &b.t);
    release_to(mark);
}

static void packed_codes_equal_whole_ones(void)
{
    qvit_engine *engine = engine_new();
    size_t checked = 0;
    for (size_t s = 0; s < SCHEMES; s++)
        for (int bits = 2; bits <= 8; bits++) {
            struct rule r = random_rule(schemes[s], bits);
            const qvit_quantizer *q = made(engine, &r);
            for (qvit_dtype dtype = QVIT_DTYPE_U4; dtype <= QVIT_DTYPE_S6; dtype++) {
                if (!packs(dtype, &r)) continue;
                check_packed(q, &r, dtype);
                checked++;
            }
        }
    CHECK_EQ(checked, SCHEMES * 3 + SCHEMES / 2 * 5); /* half of the schemes are signed */
    release();
}

static void types_that_cannot_hold_the_codes_are_refused(void)
{
    qvit_engine *engine = engine_new();
    const size_t dims[2] = {2, 2};
    qvit_tensor in, codes;
    qvit_tensor_init(&in, input, QVIT_DTYPE_F32, 2, dims);
    for (size_t s = 0; s < SCHEMES; s++)
        for (int bits = 2; bits <= 8; bits++)
            for (qvit_dtype dtype = QVIT_DTYPE_F32; dtype <= QVIT_DTYPE_S6 + 1; dtype++) {
                struct rule r = {schemes[s], bits, false, 1, 1, 0};
                const qvit_quantizer *q = made(engine, &r);
                bool fits = dtype == qvit_quantizer_code_dtype(q) || packs(dtype, &r);
                qvit_status expected = fits                     ? QVIT_OK
                                       : dtype <= QVIT_DTYPE_S6 ? QVIT_ERR_UNSUPPORTED
                                                                : QVIT_ERR_ARGUMENT;
                memset(meant, 0, sizeof meant);
                qvit_tensor_init(&codes, meant, dtype, 2, dims);
                CHECK_EQ(qvit_quantizer_encode(q, &in, &codes, &why), expected);
                qvit_tensor out;
                qvit_tensor_init(&out, faked, QVIT_DTYPE_F32, 2, dims);
                CHECK_EQ(qvit_quantizer_decode(q, &codes, &out, &why), expected);
            }
    release();
}

/* ---- granularity ---- */

static void every_block_uses_its_own_scale(void)
{
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SCHEMES; s++)
        for (int round = 0; round < 20; round++) {
            size_t mark = kept.count, rows = 1 + test_below(9), cols = 1 + test_below(9);
            qvit_granularity *g = granularity_random(engine, rows, cols);
            float scale[81], scale2[81];
            int32_t zero[81];
            struct rule r = random_rule(schemes[s], 2 + (int)test_below(7));
            bool has_zero = r.scheme == QVIT_SCHEME_ASYMMETRIC || r.scheme == QVIT_SCHEME_TWIN_GELU;
            for (size_t i = 0; i < 81; i++) {
                scale[i] = random_scale(), scale2[i] = random_scale();
                zero[i] = (int32_t)test_below((size_t)1 << r.bits);
                if (is_signed(r.scheme)) zero[i] -= 1 << (r.bits - 1);
            }
            const qvit_quantizer *q =
                quantizer_with(engine, r.scheme, r.bits, 0, g, scale,
                               scheme_is_twin(r.scheme) ? scale2 : NULL, has_zero ? zero : NULL);
            qvit_tensor in, codes;
            /* The last dimension is the columns, all others together are the rows. */
            qvit_tensor_init(&in, input, QVIT_DTYPE_F32, 3, (size_t[]){rows, 1, cols});
            qvit_tensor_init(&codes, coded, qvit_quantizer_code_dtype(q), 3,
                             (size_t[]){rows, 1, cols});
            r.narrow = false;
            for (size_t i = 0; i < rows * cols; i++) input[i] = test_normal() * scale[i] * 50;
            MUST(qvit_quantizer_encode(q, &in, &codes, &why));
            for (size_t i = 0; i < rows * cols; i++) {
                size_t block = qvit_granularity_block_of(g, i / cols, i % cols);
                r.scale = scale[block], r.scale2 = scale2[block], r.zero = zero[block];
                CHECK_EQ(code_at(r.scheme, i), defined_code(&r, input[i]));
            }
            release_to(mark);
        }
    release();
}

static void a_matrix_of_another_size_is_refused(void)
{
    qvit_engine *engine = engine_new();
    qvit_granularity *g = granularity_columns(engine, 6, 2);
    const float scale[2] = {1, 2};
    const qvit_quantizer *q =
        quantizer_with(engine, QVIT_SCHEME_SYMMETRIC, 8, 0, g, scale, NULL, NULL);
    for (size_t cols = 5; cols <= 7; cols++) {
        qvit_tensor in, codes, out;
        qvit_tensor_init(&in, input, QVIT_DTYPE_F32, 2, (size_t[]){3, cols});
        qvit_tensor_init(&codes, coded, QVIT_DTYPE_S8, 2, (size_t[]){3, cols});
        qvit_tensor_init(&out, meant, QVIT_DTYPE_F32, 2, (size_t[]){3, cols});
        qvit_status expected = cols == 6 ? QVIT_OK : QVIT_ERR_SHAPE;
        CHECK_EQ(qvit_quantizer_encode(q, &in, &codes, &why), expected);
        CHECK_EQ(qvit_quantizer_decode(q, &codes, &out, &why), expected);
        CHECK_EQ(qvit_quantizer_fake(q, &in, &out, &why), expected);
    }
    release();
}

/* ---- what it is made of ---- */

static void parameters_are_found_by_their_keys(void)
{
    qvit_engine *engine = engine_new();
    qvit_granularity *g = granularity_columns(engine, 3, 3);
    float scale[3] = {1, 2, 3};
    int32_t zero[3] = {4, 5, 255};
    const qvit_quantizer *q =
        quantizer_with(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, g, scale, NULL, zero);
    const float scale_given[3] = {1, 2, 3};
    memset(scale, 0, sizeof scale); /* everything was copied */
    qvit_parameter p;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE, &p, &why));
    CHECK_EQ(p.key, QVIT_PARAMETER_SCALE);
    CHECK_EQ(p.dtype, QVIT_DTYPE_F32);
    CHECK_EQ(p.count, 3);
    CHECK(!memcmp(p.data, scale_given, sizeof scale_given));
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_ZERO_POINT, &p, &why));
    CHECK_EQ(p.key, QVIT_PARAMETER_ZERO_POINT);
    CHECK_EQ(p.dtype, QVIT_DTYPE_S32);
    CHECK_EQ(p.count, 3);
    CHECK(!memcmp(p.data, zero, sizeof zero));
    const qvit_parameter nothing = {0};
    const qvit_parameter_key others[] = {QVIT_PARAMETER_SCALE2, 0, -1, 4, 1000, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        memset(&p, 0xA5, sizeof p);
        CHECK_EQ(qvit_quantizer_parameter(q, others[i], &p, &why), QVIT_ERR_ARGUMENT);
        CHECK(p.key == nothing.key && p.dtype == nothing.dtype && !p.count && !p.data);
    }
    CHECK_EQ(qvit_quantizer_parameter(NULL, QVIT_PARAMETER_SCALE, &p, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE, NULL, &why), QVIT_ERR_ARGUMENT);
    release();
}

static void it_says_what_it_was_made_of(void)
{
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SCHEMES; s++)
        for (int bits = 2; bits <= 8; bits++) {
            struct rule r = random_rule(schemes[s], bits);
            const qvit_quantizer *q = made(engine, &r);
            CHECK_EQ(qvit_quantizer_scheme(q), r.scheme);
            CHECK_EQ(qvit_quantizer_bits(q), bits);
            CHECK_EQ(qvit_quantizer_flags(q), r.narrow ? QVIT_QUANTIZER_NARROW : 0);
            CHECK_EQ(qvit_quantizer_code_dtype(q),
                     is_signed(r.scheme) ? QVIT_DTYPE_S8 : QVIT_DTYPE_U8);
            CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(q)), 1);
        }
    release();
}

static void its_granularity_outlives_the_one_it_was_given(void)
{
    qvit_engine *engine = engine_new();
    size_t mark = kept.count;
    qvit_granularity *g = granularity_columns(engine, 4, 2);
    const float scale[2] = {1, 2};
    qvit_parameter p = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 2, scale};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.granularity = g, o.parameters = &p, o.parameter_count = 1;
    qvit_quantizer *q;
    MUST(qvit_quantizer_create(engine, &o, &q, &why));
    release_to(mark);
    CHECK_EQ(qvit_granularity_block_of(qvit_quantizer_granularity(q), 7, 3), 1);
    qvit_quantizer_destroy(q);
    release();
}

static void zero_point_may_be_left_out(void)
{
    const float scale = 1;
    const qvit_quantizer *q =
        quantizer_with(engine_new(), QVIT_SCHEME_ASYMMETRIC, 8, 0, NULL, &scale, NULL, NULL);
    for (size_t i = 0; i < COUNT; i++) input[i] = (float)i - 100;
    run_all(q);
    for (size_t i = 0; i < COUNT; i++) CHECK_EQ(coded[i], i < 100 ? 0 : i > 355 ? 255 : i - 100);
    release();
}

/* ---- what is refused ---- */

static qvit_status created(const qvit_quantizer_options *o)
{
    qvit_quantizer *q = (qvit_quantizer *)&why;
    qvit_status status = qvit_quantizer_create(engine_new(), o, &q, &why);
    CHECK_EQ(why.status, status);
    CHECK((status == QVIT_OK) == (q != NULL));
    qvit_quantizer_destroy(q);
    release();
    return status;
}

static qvit_status created_with(qvit_scheme scheme, int32_t bits, const qvit_parameter *p, size_t n)
{
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = scheme, o.bits = bits, o.parameters = p, o.parameter_count = n;
    return created(&o);
}

static const float one = 1;
static const int32_t none = 0;
static const qvit_parameter scale_1 = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &one};
static const qvit_parameter scale2_1 = {QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, 1, &one};
static const qvit_parameter zero_0 = {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &none};

static void bad_scales_are_refused(void)
{
    const float bad[] = {0.0f,      -0.0f,        -1,          NAN,           INFINITY,
                         -INFINITY, FLT_TRUE_MIN, FLT_MIN / 2, -FLT_TRUE_MIN, -FLT_MIN};
    const float good[] = {FLT_MIN, 1, FLT_MAX};
    for (size_t s = 0; s < SCHEMES; s++)
        for (size_t key = 0; key < (scheme_is_twin(schemes[s]) ? 2 : 1); key++) {
            qvit_parameter p[2] = {scale_1, scale2_1};
            size_t count = scheme_is_twin(schemes[s]) ? 2 : 1;
            for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                p[key].data = &bad[i];
                CHECK_EQ(created_with(schemes[s], 8, p, count), QVIT_ERR_VALUE);
            }
            for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
                p[key].data = &good[i];
                CHECK_EQ(created_with(schemes[s], 8, p, count), QVIT_OK);
            }
        }
}

static void bad_zero_points_are_refused(void)
{
    for (int32_t bits = 2; bits <= 8; bits++) {
        const int32_t top = (1 << bits) - 1;
        const int32_t values[] = {0, top, top + 1, -1, INT32_MIN, INT32_MAX};
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            const qvit_parameter p[2] = {
                scale_1, {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &values[i]}};
            CHECK_EQ(created_with(QVIT_SCHEME_ASYMMETRIC, bits, p, 2),
                     i < 2 ? QVIT_OK : QVIT_ERR_VALUE);
        }
        const int32_t lowest = -(1 << (bits - 1)), highest = -lowest - 1;
        const int32_t of_twins[] = {0, lowest, highest, lowest - 1, highest + 1, INT32_MIN};
        for (size_t i = 0; i < sizeof of_twins / sizeof of_twins[0]; i++) {
            const qvit_parameter p[3] = {
                scale_1, {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &of_twins[i]}, scale2_1};
            CHECK_EQ(created_with(QVIT_SCHEME_TWIN_GELU, bits, p, 3),
                     i < 3 ? QVIT_OK : QVIT_ERR_VALUE);
        }
    }
}

static void keys_must_be_known_and_come_once(void)
{
    for (size_t s = 0; s < SCHEMES; s++) {
        bool twin = scheme_is_twin(schemes[s]), asymmetric = schemes[s] == QVIT_SCHEME_ASYMMETRIC;
        bool gelu = schemes[s] == QVIT_SCHEME_TWIN_GELU;
        const qvit_parameter all[3] = {scale_1, scale2_1, zero_0};
        CHECK_EQ(created_with(schemes[s], 8, all, 2), twin ? QVIT_OK : QVIT_ERR_ARGUMENT);
        CHECK_EQ(created_with(schemes[s], 8, all, 3), gelu ? QVIT_OK : QVIT_ERR_ARGUMENT);
        const qvit_parameter shifted[2] = {scale_1, zero_0};
        CHECK_EQ(created_with(schemes[s], 8, shifted, 2), asymmetric ? QVIT_OK : QVIT_ERR_ARGUMENT);
        CHECK_EQ(created_with(schemes[s], 8, shifted, 1), twin ? QVIT_ERR_ARGUMENT : QVIT_OK);
        CHECK_EQ(created_with(schemes[s], 8, NULL, 0), QVIT_ERR_ARGUMENT);
        CHECK_EQ(created_with(schemes[s], 8, NULL, 1), QVIT_ERR_ARGUMENT);
        const qvit_parameter twice[3] = {scale_1, twin ? scale2_1 : scale_1, scale_1};
        CHECK_EQ(created_with(schemes[s], 8, twice, twin ? 3 : 2), QVIT_ERR_ARGUMENT);
        const qvit_parameter_key unknown[] = {0, -1, 4, 31, 32, 33, 1000, INT32_MIN, INT32_MAX};
        for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
            const qvit_parameter p[3] = {scale_1, {unknown[i], QVIT_DTYPE_F32, 1, &one}, scale2_1};
            CHECK_EQ(created_with(schemes[s], 8, p, twin ? 3 : 2), QVIT_ERR_ARGUMENT);
        }
    }
}

static void arrays_must_fit(void)
{
    const float scales[2] = {1, 1};
    qvit_parameter p = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 2, scales};
    CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, 8, &p, 1), QVIT_ERR_SHAPE);
    p.count = 0;
    CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, 8, &p, 1), QVIT_ERR_SHAPE);
    p.count = SIZE_MAX;
    CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, 8, &p, 1), QVIT_ERR_SHAPE);
    p.count = 1, p.data = NULL;
    CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, 8, &p, 1), QVIT_ERR_ARGUMENT);
    p.data = scales, p.dtype = QVIT_DTYPE_S32;
    CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, 8, &p, 1), QVIT_ERR_ARGUMENT);
}

static void unknown_schemes_widths_and_flags_are_refused(void)
{
    const qvit_scheme unknown[] = {0, 5, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        CHECK_EQ(created_with(unknown[i], 8, &scale_1, 1), QVIT_ERR_ARGUMENT);
    const int32_t widths[] = {-8, 0, 1, 9, 16, 32, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        CHECK_EQ(created_with(QVIT_SCHEME_SYMMETRIC, widths[i], &scale_1, 1), QVIT_ERR_ARGUMENT);
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.parameters = &scale_1, o.parameter_count = 1;
    o.flags = 4;
    CHECK_EQ(created(&o), QVIT_ERR_ARGUMENT);
    o.flags = UINT32_MAX;
    CHECK_EQ(created(&o), QVIT_ERR_ARGUMENT);
    o.flags = QVIT_QUANTIZER_NARROW;
    CHECK_EQ(created(&o), QVIT_OK);
    o.scheme = QVIT_SCHEME_ASYMMETRIC; /* only symmetric codes leave one out */
    CHECK_EQ(created(&o), QVIT_ERR_ARGUMENT);
}

static void null_is_refused(void)
{
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.parameters = &scale_1, o.parameter_count = 1;
    qvit_quantizer *q;
    CHECK_EQ(qvit_quantizer_create(NULL, &o, &q, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_create(engine_new(), NULL, &q, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_create(engine_new(), &o, NULL, &why), QVIT_ERR_ARGUMENT);
    qvit_tensor t;
    qvit_tensor_init(&t, input, QVIT_DTYPE_F32, 1, (size_t[]){1});
    CHECK_EQ(qvit_quantizer_encode(NULL, &t, &t, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_decode(NULL, &t, &t, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_fake(NULL, &t, &t, &why), QVIT_ERR_ARGUMENT);
    MUST(qvit_quantizer_create(engine_new(), &o, &q, &why));
    CHECK_EQ(qvit_quantizer_fake(q, NULL, &t, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_fake(q, &t, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantizer_decode(q, NULL, &t, &why), QVIT_ERR_ARGUMENT);
    qvit_quantizer_destroy(q);
    release();
}

static void every_allocation_may_fail(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    qvit_granularity *g = granularity_columns(engine, 4, 2);
    const float scales[2] = {1, 2};
    const qvit_parameter p[2] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 2, scales},
                                 {QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, 2, scales}};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = QVIT_SCHEME_TWIN_GELU, o.granularity = g, o.parameters = p, o.parameter_count = 2;
    size_t live = heap.live, failures = 0;
    for (qvit_quantizer *q = NULL; !q;) {
        heap.fail_at = heap.calls + failures + 1, heap.fail_count = 1;
        qvit_status status = qvit_quantizer_create(engine, &o, &q, &why);
        if (!q) {
            CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
            CHECK_EQ(heap.live, live);
            failures++;
        }
        qvit_quantizer_destroy(q);
    }
    CHECK(failures >= 3);
    heap.fail_at = 0;
    release();
    heap_check_empty(&heap);
}

/* ---- describe ---- */

static void describe_is_cut_like_snprintf(void)
{
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SCHEMES; s++) {
        struct rule r = {schemes[s], 8, false, 0.0123f, 0.5f, 117};
        const qvit_quantizer *q = made(engine, &r);
        char whole[300], text[300];
        size_t length = qvit_quantizer_describe(q, whole, sizeof whole);
        CHECK_EQ(strlen(whole), length);
        CHECK(!strchr(whole, '\n'));
        CHECK_EQ(qvit_quantizer_describe(q, NULL, 0), length);
        CHECK_EQ(qvit_quantizer_describe(q, NULL, 100), length);
        for (size_t size = 0; size <= length + 1; size++) {
            memset(text, CANARY, sizeof text);
            CHECK_EQ(qvit_quantizer_describe(q, text, size), length);
            size_t copied = size ? (size - 1 < length ? size - 1 : length) : 0;
            CHECK(!memcmp(text, whole, copied));
            if (size) CHECK_EQ(text[copied], 0);
            for (size_t i = size; i < sizeof text; i++) CHECK_EQ((unsigned char)text[i], CANARY);
        }
    }
    release();
}

static void describe_gives_the_line_of_the_header(void)
{
    struct rule r = {QVIT_SCHEME_ASYMMETRIC, 8, false, 0.0123f, 0, 117};
    char text[300];
    qvit_quantizer_describe(made(engine_new(), &r), text, sizeof text);
    release();
    CHECK_STR(text, "asymmetric u8, 8 bits, 1 x 1 blocks, scale 0.0123, zero point 117");
}

/* The copy that a quantizer makes belongs to its own engine, not to the granularity's. */
static void a_granularity_may_come_from_another_engine(void)
{
    qvit_engine *other, *own;
    MUST(qvit_engine_create(NULL, &other, &why));
    MUST(qvit_engine_create(NULL, &own, &why));
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = o.row_blocks = 3;
    qvit_granularity *granularity;
    MUST(qvit_granularity_create(other, &o, &granularity, &why));
    const float scales[3] = {1, 2, 3};
    const qvit_parameter parameter = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 3, scales};
    qvit_quantizer_options make = QVIT_QUANTIZER_OPTIONS_INIT;
    make.granularity = granularity, make.parameters = &parameter, make.parameter_count = 1;
    qvit_quantizer *q;
    MUST(qvit_quantizer_create(own, &make, &q, &why));
    qvit_granularity_destroy(granularity);
    qvit_engine_destroy(other);
    CHECK_EQ(qvit_granularity_block_of(qvit_quantizer_granularity(q), 2, 0), 2);
    qvit_quantizer_destroy(q);
    qvit_engine_destroy(own);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(encode_is_what_the_schemes_say);
    RUN(decode_is_what_the_schemes_say);
    RUN(decode_knows_every_code);
    RUN(fake_is_decode_of_encode);
    RUN(fake_may_write_over_its_input);
    RUN(codes_rise_with_the_numbers);
    RUN(quantizing_again_changes_nothing);
    RUN(numbers_come_within_half_a_step);
    RUN(twin_softmax_is_one_range_or_the_other);
    RUN(twin_gelu_is_told_apart_by_the_zero_point);
    RUN(packed_codes_equal_whole_ones);
    RUN(types_that_cannot_hold_the_codes_are_refused);
    RUN(every_block_uses_its_own_scale);
    RUN(a_matrix_of_another_size_is_refused);
    RUN(parameters_are_found_by_their_keys);
    RUN(it_says_what_it_was_made_of);
    RUN(its_granularity_outlives_the_one_it_was_given);
    RUN(zero_point_may_be_left_out);
    RUN(bad_scales_are_refused);
    RUN(bad_zero_points_are_refused);
    RUN(keys_must_be_known_and_come_once);
    RUN(arrays_must_fit);
    RUN(unknown_schemes_widths_and_flags_are_refused);
    RUN(null_is_refused);
    RUN(every_allocation_may_fail);
    RUN(describe_is_cut_like_snprintf);
    RUN(describe_gives_the_line_of_the_header);
    RUN(a_granularity_may_come_from_another_engine);
    return test_end();
}
