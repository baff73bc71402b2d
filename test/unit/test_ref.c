/*
 * test_ref.c - lib/ref, the specification of every kernel, against double precision and libm.
 *
 * What is bounded here is the distance between the library's defined functions and the mathematical
 * ones; the bounds are those that ref.h and numerics.h state.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/numerics.h"
#include "ref/ref.h"
#include "test.h"

enum { N = 1000 };

/* ---- ref_math.c ---- */

static void rounds_half_to_even(void)
{
    for (int i = -2000; i <= 2000; i++) {
        float x = (float)i / 4;
        CHECK_EQ(qvitp_ref_round(x), nearbyintf(x));
    }
    for (int i = 0; i < 100000; i++) {
        float x = test_uniform() * 4194303.0f;
        CHECK_EQ(qvitp_ref_round(x), nearbyintf(x));
    }
}

static void clamps_and_gives_lo_for_nan(void)
{
    CHECK_EQ(qvitp_ref_clamp(3, -1, 2), 2);
    CHECK_EQ(qvitp_ref_clamp(-3, -1, 2), -1);
    CHECK_NEAR(qvitp_ref_clamp(1.5f, -1, 2), 1.5, 0);
    CHECK_EQ(qvitp_ref_clamp(NAN, -1, 2), -1);
    CHECK_EQ(qvitp_ref_clamp(INFINITY, -1, 2), 2);
    CHECK_EQ(qvitp_ref_clamp(-INFINITY, -1, 2), -1);
    CHECK_EQ(qvitp_ref_code(NAN, -8, 7), 0xF8);
    CHECK_EQ(qvitp_ref_code(2.5f, 0, 255), 2);
    CHECK_EQ(qvitp_ref_code(-3.5f, -8, 7), 0xFC);
}

/* A multiple of 70 / 2^21, and a random number beside it. */
static void exp_is_within_its_bound(void)
{
    const double bound = 5.5e-7, growth = 9e-8;
    for (int i = 0; i <= 1 << 21; i++)
        for (int j = 0; j < 2; j++) {
            float x = (float)i * (-70.0f / (1 << 21)) + (j ? test_uniform() * 1e-5f : 0);
            if (x > 0 || x < QVITP_EXP_LOW) continue;
            double exact = exp((double)x), gap = fabs((double)qvitp_ref_exp(x) - exact);
            if (!(gap <= (bound - growth * (double)x) * exact))
                FAIL("exp(%.9g): %.3g relative", (double)x, gap / exact);
        }
    CHECK_NEAR(qvitp_ref_exp(0), 1, 0);
    CHECK_NEAR(qvitp_ref_exp(-0.0f), 1, 0);
    CHECK_NEAR(qvitp_ref_exp(nextafterf(QVITP_EXP_LOW, -INFINITY)), 0, 0);
    CHECK_NEAR(qvitp_ref_exp(-INFINITY), 0, 0);
    CHECK_NEAR(qvitp_ref_exp(NAN), 0, 0);
    CHECK(qvitp_ref_exp(QVITP_EXP_LOW) > FLT_MIN);
}

static void gelu_is_within_its_bound(void)
{
    const double bound = 1.4e-6, root_half = 0.70710678118654752;
    for (int i = -(1 << 20); i <= 1 << 20; i++) {
        float x = (float)i * (8.0f / (1 << 20)) + test_uniform() * 4e-6f;
        double exact = 0.5 * (double)x * erfc(-(double)x * root_half);
        double gap = fabs((double)qvitp_ref_gelu(x) - exact);
        if (!(gap <= bound)) FAIL("gelu(%.9g): off by %.3g", (double)x, gap);
    }
    CHECK(isnan(qvitp_ref_gelu(NAN)));
    CHECK_NEAR(qvitp_ref_gelu(0), 0, 0);
    CHECK_NEAR(qvitp_ref_gelu(1e6f), 1e6, 0.1);
    CHECK_NEAR(qvitp_ref_gelu(-1e6f), 0, bound);
    CHECK(isinf(qvitp_ref_gelu(INFINITY)));
    CHECK_NEAR(qvitp_ref_gelu(-INFINITY), 0, bound);
}

static void gelu_in_units_is_within_its_bound(void)
{
    const double bound = 6e-6, root_half = 0.70710678118654752, unit = (double)QVITP_GELU_UNIT;
    for (int i = -(1 << 20); i <= 1 << 20; i++) {
        float t = (float)i * (24.0f / (1 << 20)) + test_uniform() * 1e-5f;
        double x = (double)t * unit, exact = 0.5 * x * erfc(-x * root_half);
        double gap = fabs((double)qvitp_ref_gelu_units(t) * unit - exact);
        if (!(gap <= bound + 1e-7 * fabs(x))) FAIL("gelu(%.9g): off by %.3g", x, gap);
    }
    CHECK(isnan(qvitp_ref_gelu_units(NAN)));
    CHECK_NEAR(qvitp_ref_gelu_units(0), 0, 0);
    CHECK_NEAR(qvitp_ref_gelu_units(1e6f), 1e6, 0.1);
    CHECK_NEAR(qvitp_ref_gelu_units(-1e6f), 0, bound / unit);
    CHECK(isinf(qvitp_ref_gelu_units(INFINITY)));
    CHECK_NEAR(qvitp_ref_gelu_units(-INFINITY), 0, bound / unit);
}

static void sums_are_ordered_and_close(void)
{
    static float x[N];
    for (size_t n = 0; n <= N; n += n < 40 ? 1 : 97) {
        long double exact = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = test_normal();
            exact += (long double)x[i];
            size += fabsl((long double)x[i]);
        }
        /* At most n / 16 additions and 4 levels of the tree lie on the way of any element. */
        double bound = (double)size * ((double)n / 16 + 5) * (FLT_EPSILON / 2);
        CHECK_NEAR(qvitp_ref_sum(x, n), (double)exact, bound);
    }
    /* 16 partial sums: element 16 meets element 0 first, where the 1 is not lost. */
    for (size_t i = 0; i < 32; i++) x[i] = 0;
    x[0] = 1e8f, x[1] = 1, x[16] = -1e8f;
    CHECK_EQ(qvitp_ref_sum(x, 32), 1);
}

/* ---- ref_encode.c ---- */

static void uniform_codes_round_ties_to_even(void)
{
    for (int i = -300; i <= 300; i++)
        for (int zero = 0; zero < 256; zero += 85) {
            float x = ((float)i + 0.5f) * 0.25f; /* exact, and so is the quotient */
            double code = nearbyint((double)x / 0.25) + zero;
            code = code < 0 ? 0 : code > 255 ? 255 : code;
            CHECK_EQ(qvitp_ref_encode_uniform(x, 0.25f, (float)zero, 0, 255), code);
        }
    CHECK_EQ(qvitp_ref_encode_uniform(NAN, 1, 7, 0, 255), 0);
    CHECK_EQ(qvitp_ref_encode_uniform(INFINITY, 1, 7, 0, 255), 255);
    CHECK_EQ(qvitp_ref_encode_uniform(NAN, 1, 0, -127, 127), -127);
}

/* Every code of every scheme comes back from its value. */
static void codes_survive_decoding(void)
{
    const float s = 0.013f, s2 = 0.11f;
    for (int code = 0; code < 256; code++) {
        float x = qvitp_ref_decode_uniform(code, s, 100);
        CHECK_EQ(qvitp_ref_encode_uniform(x, s, 100, 0, 255), code);
        for (int zero = -128; zero < 128; zero += 51) {
            x = qvitp_ref_decode_twin_gelu(code - 128, s, s2, (float)zero);
            CHECK_EQ(qvitp_ref_encode_twin_gelu(x, s, s2, (float)zero, -128, 127), code - 128);
        }
        x = qvitp_ref_decode_twin_softmax(code, 1e-4f, 1.0f / 127, 255);
        /* The two ranges overlap: the lowest high codes come back as low ones. */
        if (code < 128 || code > 129)
            CHECK_EQ(qvitp_ref_encode_twin_softmax(x, 1e-4f, 1.0f / 127, 255), code);
    }
    CHECK_EQ(qvitp_ref_encode_twin_gelu(NAN, s, s2, -9, -128, 127), -9);
    CHECK_EQ(qvitp_ref_encode_twin_softmax(NAN, s, s2, 255), 0);
    CHECK_EQ(qvitp_ref_encode_twin_softmax(-1, s, s2, 255), 0);
    CHECK_EQ(qvitp_ref_encode_twin_gelu(-INFINITY, s, s2, -9, -128, 127), -128);
    CHECK_EQ(qvitp_ref_encode_twin_softmax(INFINITY, s, s2, 255), 255);
}

/* ---- ref_gemm.c ---- */

static void products_are_those_of_decoded_codes(void)
{
    enum { M = 3, COLUMNS = 5, K = 77 };
    const double low = 0.003, high = 0.05;
    static uint8_t a[M * K];
    static int8_t signed_a[M * K], b[COLUMNS * K];
    int32_t plain[M * COLUMNS], shifted[M * COLUMNS], lo[M * COLUMNS], hi[M * COLUMNS];
    for (size_t i = 0; i < M * K; i++) {
        a[i] = (uint8_t)test_random();
        signed_a[i] = (int8_t)(a[i] - 128);
    }
    for (size_t i = 0; i < COLUMNS * K; i++) b[i] = (int8_t)test_random();

    qvitp_ref_gemm_u8s8(M, COLUMNS, K, a, K, 128, b, K, shifted, COLUMNS);
    qvitp_ref_gemm_s8s8(M, COLUMNS, K, signed_a, K, b, K, plain, COLUMNS);
    CHECK(!memcmp(plain, shifted, sizeof plain));

    for (int32_t scheme = 0; scheme < 3; scheme++) {
        int32_t half = scheme ? 0 : 128, zero = scheme == 2 ? -70 : 0;
        qvitp_ref_gemm_t8s8(M, COLUMNS, K, a, K, half, zero, b, K, lo, hi, COLUMNS);
        for (size_t i = 0; i < M; i++)
            for (size_t j = 0; j < COLUMNS; j++) {
                double sum = 0, got = lo[i * COLUMNS + j] * low + hi[i * COLUMNS + j] * high;
                for (size_t p = 0; p < K; p++) {
                    int code = half ? a[i * K + p] : (int8_t)a[i * K + p] - zero;
                    int in_low = half ? code < half : code < 0;
                    sum += (in_low ? code * low : (code - half) * high) * b[j * K + p];
                }
                CHECK_NEAR(got, sum, 1e-9);
            }
    }
}

static void epilogue_follows_its_equations(void)
{
    struct qvitp_ref_epilogue e = {.scale = 0.5f, .scale2 = 0.25f, .bias = 1};
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), 4, 0);
    e.twin = 1;
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), 29, 0);
    e.has_residual = 1, e.residual = -30;
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), -1, 0);
    e.has_mul = 1, e.mul = 3, e.mul_neg = 7, e.add = 0.5f;
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), -6.5, 0);
    e.residual = -28;
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), 3.5, 0);
    e.gelu = 1, e.residual = 0, e.bias = -28; /* gelu(0) */
    CHECK_NEAR(qvitp_ref_epilogue(6, 100, &e), 0.5, 0);
}

/* ---- ref_softmax.c ---- */

static void softmax_is_close(void)
{
    static float scores[N], bias[N], mask[N], got[N];
    for (int repeat = 0; repeat < 50; repeat++) {
        size_t n = 1 + test_below(N);
        double top = -INFINITY, sum = 0, total = 0;
        for (size_t j = 0; j < n; j++) {
            scores[j] = test_normal() * 5;
            bias[j] = test_normal();
            mask[j] = test_below(4) ? 0 : -INFINITY;
            top = fmax(top, (double)(scores[j] + bias[j] + mask[j]));
        }
        if (isinf(top)) continue;
        for (size_t j = 0; j < n; j++) sum += exp((double)(scores[j] + bias[j] + mask[j]) - top);
        qvitp_ref_softmax(n, scores, bias, mask, got);
        for (size_t j = 0; j < n; j++) {
            double exact = exp((double)(scores[j] + bias[j] + mask[j]) - top) / sum;
            CHECK_NEAR(got[j], exact, 1e-5 * exact);
            total += (double)got[j];
        }
        CHECK_NEAR(total, 1, 1e-5);
    }
}

static void softmax_of_nothing_is_zero(void)
{
    const struct qvitp_ref_softmax_form form = {QVITP_SOFTMAX_STEPS, 255, 0, 255, 0};
    float scores[3] = {-INFINITY, -INFINITY, -INFINITY}, got[3] = {1, 1, 1}, x[3], sum = 1;
    uint16_t depths[3];
    uint8_t codes[3] = {1, 1, 1};
    qvitp_ref_softmax(3, scores, NULL, NULL, got);
    qvitp_ref_softmax_codes(3, scores, NULL, NULL, &form, x, depths, codes, &sum);
    for (int j = 0; j < 3; j++) {
        CHECK_NEAR(got[j], 0, 0);
        CHECK_EQ(codes[j], 0);
    }
    CHECK_NEAR(sum, 0, 0);
    scores[1] = INFINITY;
    qvitp_ref_softmax(3, scores, NULL, NULL, got);
    CHECK_NEAR(got[1], 0, 0);
    scores[1] = 2, scores[2] = NAN; /* NaN is passed over, and what is masked is 0 */
    qvitp_ref_softmax(3, scores, NULL, NULL, got);
    qvitp_ref_softmax_codes(3, scores, NULL, NULL, &form, x, depths, codes, NULL);
    CHECK_NEAR(got[1], 1, 0);
    CHECK_NEAR(got[2], 0, 0);
    CHECK_EQ(codes[0], 0);
    CHECK_EQ(codes[1], 255);
    CHECK_EQ(codes[2], 0);
}

/* Every depth: within the error that numerics.h names, and half of a unit. */
static void exp2_is_within_its_bound(void)
{
    for (uint32_t depth = 0; depth < 65536; depth++) {
        double exact = 32767.5 * exp2(-(double)depth / 1024);
        CHECK_NEAR(qvitp_ref_exp2(depth), exact, 9e-5 * exact + 0.5001);
    }
    CHECK_EQ(qvitp_ref_exp2(0), 32767);
    CHECK_EQ(qvitp_ref_exp2(65535), 0);
}

/* Exponentials are off by 4.3e-4, relative, and by half of a 2^15th; so are sums of them, or codes. */
static double code_bound(const float *p, size_t n, size_t j, float mul)
{
    double top = 0;
    for (size_t i = 0; i < n; i++) top = fmax(top, (double)p[i]);
    double unit = top / 32768 * (0.51 + 0.51 * (double)n * (double)p[j]);
    return 0.5 + (double)mul * (9e-4 * (double)p[j] + unit) + 2.0 / 128;
}

static void softmax_codes_are_those_of_the_probabilities(void)
{
    static float scores[N], p[N], x[N];
    static uint16_t depths[N];
    static uint8_t codes[N];
    const float half = 128;
    for (int repeat = 0; repeat < 300; repeat++) {
        size_t n = 1 + test_below(300);
        float spread = 1 + 9 * fabsf(test_normal());
        for (size_t j = 0; j < n; j++) scores[j] = test_normal() * spread;
        qvitp_ref_softmax(n, scores, NULL, NULL, p);
        struct qvitp_ref_softmax_form form = {.steps = QVITP_SOFTMAX_STEPS, .hi = 255};
        form.mul =
            255 * (float)(1 << test_below(9)); /* codes of all probabilities or the small ones */
        qvitp_ref_softmax_codes(n, scores, NULL, NULL, &form, x, depths, codes, NULL);
        for (size_t j = 0; j < n; j++)
            CHECK_NEAR(codes[j], fminf(p[j] * form.mul, 255), code_bound(p, n, j, form.mul));

        form.mul = (half - 1) * (float)(1 << test_below(16)), form.mul2 = half - 1,
        form.half = half;
        qvitp_ref_softmax_codes(n, scores, NULL, NULL, &form, x, depths, codes, NULL);
        for (size_t j = 0; j < n; j++) {
            /* Without the half of a 2^15th of its own: a twin's codes come from the mantissa. */
            double slack = 0.5 + (double)p[j] * (1e-3 + 0.51 * (double)n / 32768) *
                                     (double)(codes[j] < half ? form.mul : form.mul2);
            if (codes[j] < 128)
                CHECK_NEAR(codes[j], fminf(p[j] * form.mul, 127), slack + 0.01);
            else
                CHECK_NEAR(codes[j] - 128, p[j] * 127, slack + 0.01);
        }
    }
}

/* Relative codes are those of what a probability is of the largest, and the sum divides that. */
static void relative_codes_are_those_of_the_ratios(void)
{
    static float scores[N], p[N], x[N];
    static uint16_t depths[N];
    static uint8_t codes[N];
    for (int repeat = 0; repeat < 100; repeat++) {
        size_t n = 1 + test_below(300), top = 0;
        for (size_t j = 0; j < n; j++) scores[j] = test_normal() * 4;
        for (size_t j = 0; j < n; j++) top = scores[j] > scores[top] ? j : top;
        qvitp_ref_softmax(n, scores, NULL, NULL, p);
        const struct qvitp_ref_softmax_form form = {QVITP_SOFTMAX_STEPS, 255, 0, 255, 0};
        float sum;
        qvitp_ref_softmax_codes(n, scores, NULL, NULL, &form, x, depths, codes, &sum);
        CHECK_NEAR(sum, 1 / p[top], (1e-3 + (double)n / 65536) * (double)sum);
        for (size_t j = 0; j < n; j++) CHECK_NEAR(codes[j], 255 * p[j] / p[top], 0.6);
    }
}

/* ---- ref_layer_norm.c ---- */

static void layer_norm_is_close(void)
{
    static float x[N], gamma[N], beta[N], scratch[N], y[N];
    const double bound = 2e-6; /* of 1 + |mean| / deviation, the condition of the problem */
    for (int repeat = 0; repeat < 60; repeat++) {
        size_t n = 2 + test_below(N - 1);
        float shift = repeat % 2 ? 0 : test_normal() * 30;
        double mean = 0, variance = 0;
        for (size_t j = 0; j < n; j++) {
            x[j] = test_normal() * 3 + shift;
            gamma[j] = test_normal();
            beta[j] = test_normal();
            mean += (double)x[j] / (double)n;
        }
        for (size_t j = 0; j < n; j++)
            variance += ((double)x[j] - mean) * ((double)x[j] - mean) / (double)n;
        double deviation = sqrt(variance + 1e-6), size = 1 + fabs(mean) / deviation;
        qvitp_ref_layer_norm(n, x, gamma, beta, 1e-6f, scratch, y);
        for (size_t j = 0; j < n; j++) {
            double unit = ((double)x[j] - mean) / deviation;
            double weight =
                fabs((double)gamma[j]) * (1 + fabs(unit)) * size + fabs((double)beta[j]);
            CHECK_NEAR(y[j], unit * (double)gamma[j] + (double)beta[j], bound * weight);
        }
    }
    for (size_t j = 0; j < 10; j++) x[j] = 2.5f; /* no deviation: beta */
    qvitp_ref_layer_norm(10, x, gamma, beta, 1e-6f, scratch, x);
    for (size_t j = 0; j < 10; j++) CHECK_NEAR(x[j], beta[j], 0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(rounds_half_to_even);
    RUN(clamps_and_gives_lo_for_nan);
    RUN(exp_is_within_its_bound);
    RUN(gelu_is_within_its_bound);
    RUN(gelu_in_units_is_within_its_bound);
    RUN(sums_are_ordered_and_close);
    RUN(uniform_codes_round_ties_to_even);
    RUN(codes_survive_decoding);
    RUN(products_are_those_of_decoded_codes);
    RUN(epilogue_follows_its_equations);
    RUN(softmax_is_close);
    RUN(softmax_of_nothing_is_zero);
    RUN(exp2_is_within_its_bound);
    RUN(softmax_codes_are_those_of_the_probabilities);
    RUN(relative_codes_are_those_of_the_ratios);
    RUN(layer_norm_is_close);
    return test_end();
}
