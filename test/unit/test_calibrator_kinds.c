/*
 * test_calibrator_kinds.c - matmul sites, and inputs of every kind: behind a softmax or a GELU, images.
 */
#include "solving.h"

/* ---- matmul sites ---- */

static double head_top(const qvit_tensor *view, size_t head)
{
    double top = 0;
    for (size_t i = 0; i < tensor_count(view); i++)
        if (i / (view->dims[2] * view->dims[3]) % view->dims[1] == head)
            top = fmax(top, fabs(tensor_get(view, i)));
    return top;
}

static void minmax_of_a_matmul_site_is_known_exactly(void)
{
    struct operand q = operand_new(SAMPLES, HEADS, TOKENS, WIDTH, 1);
    struct operand k = operand_new(SAMPLES, HEADS, TOKENS + 2, WIDTH, 3);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_matmul(c, QVIT_INPUT_GENERIC, HEADS, true);
    observe_pair(c, 0, &q.view, &k.view);
    solve(c, "minmax", 4, 7, NULL); /* both operands have the inputs' width */
    const qvit_result *r = result_of(c, 0);
    const qvit_quantizer *sides[2] = {input_of(r), second_of(r)};
    const qvit_tensor *views[2] = {&q.view, &k.view};
    for (int s = 0; s < 2; s++) {
        CHECK_EQ(qvit_quantizer_scheme(sides[s]), QVIT_SCHEME_SYMMETRIC);
        CHECK_EQ(qvit_quantizer_bits(sides[s]), 7);
        const qvit_granularity *g = qvit_quantizer_granularity(sides[s]);
        CHECK_EQ(qvit_granularity_blocks(g), HEADS);
        for (size_t h = 0; h < HEADS; h++) {
            CHECK_EQ(qvit_granularity_block_of(g, 5, h * WIDTH), h);
            CHECK_EQ(qvit_granularity_block_of(g, 5, h * WIDTH + WIDTH - 1), h);
            CHECK_NEAR(scale_of(sides[s], h), symmetric_scale(head_top(views[s], h), 7), 0);
        }
        CHECK(qvit_granularity_block_of(g, 0, HEADS * WIDTH) == QVIT_ANY);
    }
    CHECK(!part_of(r, QVIT_RESULT_WEIGHT_CODES).data);
    CHECK_EQ(qvit_result_weight_bytes(r), 0);
    solve(c, "minmax", 8, 8, NULL);
    CHECK_EQ(qvit_quantizer_flags(second_of(result_of(c, 0))), QVIT_QUANTIZER_NARROW);
    give_back();
}

/* The squared error, or 1 - cosine, of all heads' products. right: [.., n, k] or [.., k, n]. */
static double matmul_distance(const qvit_tensor *left, const qvit_tensor *right,
                              const qvit_tensor *left_coded, const qvit_tensor *right_coded,
                              bool transposed, bool cosine)
{
    size_t samples = left->dims[0], heads = left->dims[1], m = left->dims[2], k = left->dims[3];
    size_t n = transposed ? right->dims[2] : right->dims[3];
    double distance = 0, *sums = malloc(2 * n * sizeof *sums);
    if (!sums) FAIL("memory");
    for (size_t i = 0; i < samples * heads * m; i++) {
        size_t matrix_at = i / m * n * k;
        for (size_t j = 0; j < n; j++) {
            sums[j] = sums[n + j] = 0;
            for (size_t p = 0; p < k; p++) {
                size_t at = matrix_at + (transposed ? j * k + p : p * n + j);
                sums[j] += tensor_get(left, i * k + p) * tensor_get(right, at);
                sums[n + j] += tensor_get(left_coded, i * k + p) * tensor_get(right_coded, at);
            }
        }
        distance +=
            cosine ? 1 - mean_cosine(sums, sums + n, 1, n) : squared_distance(sums, sums + n, n);
    }
    free(sums);
    return distance;
}

/* What the quantizers of a result make of two operands, measured. */
static double matmul_result_distance(const qvit_result *r, const struct operand *left,
                                     const struct operand *right, bool transposed, bool cosine)
{
    qvit_tensor a = fake_of(input_of(r), &left->flat), b = fake_of(second_of(r), &right->flat);
    qvit_tensor av = same_view(left, &a, QVIT_DTYPE_F32), bv = same_view(right, &b, QVIT_DTYPE_F32);
    return matmul_distance(&left->view, &right->view, &av, &bv, transposed, cosine);
}

static void searches_of_matmul_sites_beat_minmax(void)
{
    for (int cosine = 0; cosine < 2; cosine++)
        for (int transposed = 0; transposed < 2; transposed++)
            for (int bits = 3; bits <= 5; bits++) {
                struct operand a = operand_new(SAMPLES, HEADS, TOKENS, WIDTH, 1);
                struct operand b = transposed ? operand_new(SAMPLES, HEADS, TOKENS + 3, WIDTH, 1)
                                              : operand_new(SAMPLES, HEADS, WIDTH, TOKENS + 3, 1);
                add_outliers(&a.flat, 97, 3), add_outliers(&b.flat, 97, 3);
                qvit_calibrator *c = calibrator_new(engine_new());
                add_matmul(c, QVIT_INPUT_GENERIC, HEADS, transposed);
                observe_pair(c, 0, &a.view, &b.view);
                solve(c, "minmax", 8, bits, NULL);
                double before = matmul_result_distance(result_of(c, 0), &a, &b, transposed, cosine);
                solve(c, cosine ? "cosine" : "mse", 8, bits, NULL);
                double after = matmul_result_distance(result_of(c, 0), &a, &b, transposed, cosine);
                if (!(after < before))
                    FAIL("%s, %d bits: %g, minmax %g", cosine ? "cosine" : "mse", bits, after,
                         before);
                give_back();
            }
}

/* ---- kinds of inputs ---- */

static void softmax_inputs_share_one_quantizer_and_may_be_twins(void)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 4; bits <= 8; bits += 2) {
            struct operand p = operand_new(SAMPLES, HEADS, TOKENS, 40, 1);
            struct operand v = operand_new(SAMPLES, HEADS, 40, WIDTH, 1);
            make_softmax(&p.view);
            qvit_calibrator *c = calibrator_new(engine_new());
            add_matmul(c, QVIT_INPUT_SOFTMAX, HEADS, false);
            observe_pair(c, 0, &p.view, &v.view);
            solve(c, recipes[i], 8, bits, NULL);
            const qvit_result *r = result_of(c, 0);
            CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_ASYMMETRIC);
            CHECK_EQ(zero_of(input_of(r)), 0);
            CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(input_of(r))), 1);
            CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(second_of(r))), HEADS);

            solve(c, recipes[i], 8, bits, "twin=softmax");
            r = result_of(c, 0);
            CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_TWIN_SOFTMAX);
            CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(input_of(r))), 1);
            double scale2 = 1.0 / ((1 << (bits - 1)) - 1); /* 1.0 is exact */
            CHECK_NEAR(scale2_of(input_of(r)), (float)scale2, 0);
            double cut = log2(scale2 / (double)scale_of(input_of(r), 0));
            CHECK(cut > -0.001 && cut < 15.001);
            CHECK_NEAR(cut, nearbyint(cut), 1e-5);
            solve(c, recipes[i], 8, bits, "twin=gelu"); /* says nothing about softmax */
            CHECK_EQ(qvit_quantizer_scheme(input_of(result_of(c, 0))), QVIT_SCHEME_ASYMMETRIC);
            give_back();
        }
}

static bool is_power_of_two(double x)
{
    int exponent;
    return frexp(x, &exponent) == 0.5;
}

static void gelu_inputs_may_be_twins(void)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 4; bits <= 8; bits += 2) {
            qvit_tensor w = matrix(5, 24, 1), x = matrix(200, 24, 1);
            make_gelu(&x);
            qvit_calibrator *c = calibrator_new(engine_new());
            add_linear(c, QVIT_INPUT_GELU, &w, NULL);
            add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
            observe(c, 0, &x), observe(c, 1, &x);
            solve(c, recipes[i], 8, bits, "twin=softmax,gelu");
            const qvit_quantizer *q = input_of(result_of(c, 0));
            CHECK_EQ(qvit_quantizer_scheme(q), QVIT_SCHEME_TWIN_GELU);
            CHECK_NEAR(scale_of(q, 0) * (float)(1 << (bits - 1)), 0.17, 0.01);
            CHECK(scale2_of(q) > scale_of(q, 0));
            CHECK_EQ(qvit_quantizer_scheme(input_of(result_of(c, 1))), QVIT_SCHEME_ASYMMETRIC);
            solve(c, recipes[i], 8, bits, "twin=none");
            CHECK_EQ(qvit_quantizer_scheme(input_of(result_of(c, 0))), QVIT_SCHEME_ASYMMETRIC);
            give_back();
        }
}

/* The scales of a twin GELU may be a power of two apart, whichever of them moves, or the high one may become
 * a whole multiple of the other, as long as that can be joined. */
static void scales_of_twins_are_multiples(float deviation)
{
    qvit_tensor w = matrix(5, 24, 1), x = matrix(200, 24, deviation);
    make_gelu(&x);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GELU, &w, NULL);
    observe(c, 0, &x);
    for (int bits = 4; bits <= 8; bits++) {
        solve(c, "minmax", 8, bits, "twin=gelu");
        double low = scale_of(input_of(result_of(c, 0)), 0),
               high = scale2_of(input_of(result_of(c, 0)));
        solve(c, "minmax", 8, bits, "twin=gelu ratio=low");
        const qvit_quantizer *q = input_of(result_of(c, 0));
        CHECK_EQ(scale2_of(q), high);
        CHECK(is_power_of_two(high / scale_of(q, 0)));
        CHECK(scale_of(q, 0) >= low && scale_of(q, 0) < 2 * low);
        solve(c, "minmax", 8, bits, "twin=gelu ratio=high");
        q = input_of(result_of(c, 0));
        CHECK_EQ(scale_of(q, 0), low);
        CHECK(is_power_of_two(scale2_of(q) / low));
        CHECK(fabs(log2(scale2_of(q) / high)) <= 0.5 + 1e-6);
        solve(c, "minmax", 8, bits, "twin=gelu ratio=whole");
        q = input_of(result_of(c, 0));
        const double multiple = (double)scale2_of(q) / (double)scale_of(q, 0);
        CHECK_NEAR(scale_of(q, 0) / low, 1, ldexp(1, -15));
        CHECK_EQ(multiple == nearbyint(multiple), high / low < 256.5);
        CHECK_NEAR(scale2_of(q), high, high / low < 256.5 ? 0.50001 * low : 0);
    }
    give_back();
}

static void scales_of_twins_may_be_multiples(void)
{
    scales_of_twins_are_multiples(1);
    scales_of_twins_are_multiples(0.1f);
    scales_of_twins_are_multiples(1000); /* too far apart to be joined */
}

/* Uneven ranges: the scales are so many times apart, every code has its place in what was seen, and both ends
 * are within half a step of it; which leaves the high range a finer step than half of the codes would. */
static void codes_of_twins_may_be_shared_unevenly(void)
{
    qvit_tensor w = matrix(5, 24, 1), x = matrix(200, 24, 1);
    make_gelu(&x);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GELU, &w, NULL);
    observe(c, 0, &x);
    double low = 0, high = 0;
    for (size_t i = 0; i < 200 * 24; i++) {
        low = fmax(low, -(double)((const float *)x.data)[i]);
        high = fmax(high, (double)((const float *)x.data)[i]);
    }
    for (int bits = 4; bits <= 8; bits++)
        for (int ratio = 2; ratio <= 16; ratio *= 2) {
            char settings[40];
            solve(c, "minmax", 8, bits, "twin=gelu");
            const double even = scale2_of(input_of(result_of(c, 0)));
            snprintf(settings, sizeof settings, "twin=gelu uneven=%d", ratio);
            solve(c, "minmax", 8, bits, settings);
            const qvit_quantizer *q = input_of(result_of(c, 0));
            const double scale = scale_of(q, 0), below = zero_of(q) + (1 << (bits - 1));
            CHECK_EQ(scale2_of(q), ratio * scale);
            CHECK_NEAR(below * scale, low, (0.5 + ratio / 2.0) * scale);
            CHECK_NEAR(((1 << bits) - 1 - below + 0.5) * ratio * scale, high, 1e-4 * high);
            CHECK_EQ(scale2_of(q) < even, below < (1 << (bits - 1)));
        }
    give_back();
}

/* Where nothing positive was seen the low range has all codes but one, and holds what was. */
static void uneven_twins_bear_one_sided_values(void)
{
    qvit_tensor w = matrix(5, 24, 1), x = matrix(200, 24, 0.05f);
    for (size_t i = 0; i < 200 * 24; i++) tensor_set(&x, i, -fabs(tensor_get(&x, i)));
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GELU, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, "twin=gelu uneven=4");
    const qvit_quantizer *q = input_of(result_of(c, 0));
    double low = 0;
    for (size_t i = 0; i < 200 * 24; i++) low = fmax(low, -tensor_get(&x, i));
    CHECK_EQ(zero_of(q), 126);
    CHECK_NEAR(scale_of(q, 0), low / 255, 1e-4 * low);
    give_back();
}

/* The kernels that multiply uneven twins differ with instruction sets and widths, and pad blocks of inputs
 * differently; the results do not. */
static void uneven_twins_are_alike_everywhere(void)
{
    static const struct {
        int bits;
        const char *settings;
    } cases[] = {
        {8, "twin=gelu uneven=8 bias=corrected block-length=16"},
        {8, "twin=gelu uneven=8 metric=mse candidates=12 block-length=16"},
        {7, "twin=gelu uneven=8 weight-codes=asymmetric bias=corrected block-length=16"},
        {7, "twin=gelu uneven=34 weight-codes=asymmetric metric=mse candidates=12 low=0.8"},
        {6, "twin=gelu uneven=8 metric=mse candidates=12 block-length=16"},
    };
    for (size_t inputs = 65; inputs <= 67; inputs++) {
        qvit_tensor w = matrix(33, inputs, 1), x = matrix(60, inputs, 1);
        make_gelu(&x);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            double first = 0;
            for (size_t v = 0; v < isa_variant_count(); v++) {
                qvit_calibrator *c = calibrator_new(engine_with(isa_variants[v], NULL, NULL));
                add_linear(c, QVIT_INPUT_GELU, &w, NULL);
                observe(c, 0, &x);
                solve(c, "minmax", cases[i].bits, 8, cases[i].settings);
                double sqnr = qvit_result_score(result_of(c, 0), QVIT_SCORE_SQNR_DB);
                if (!v) first = sqnr;
                CHECK_EQ(sqnr, first);
                CHECK(sqnr > 25);
            }
        }
        give_back();
    }
}

/* Few bits and small values that matter are what twins are for. */
static void twins_are_nearer_at_few_bits(void)
{
    struct operand p = operand_new(SAMPLES, HEADS, TOKENS, 100, 1);
    struct operand v = operand_new(SAMPLES, HEADS, 100, WIDTH, 1);
    make_softmax(&p.view);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_matmul(c, QVIT_INPUT_SOFTMAX, HEADS, false);
    observe_pair(c, 0, &p.view, &v.view);
    for (int bits = 5; bits <= 6; bits++) {
        solve(c, "mse", 8, bits, NULL);
        double plain = matmul_result_distance(result_of(c, 0), &p, &v, false, false);
        solve(c, "mse", 8, bits, "twin=softmax");
        double twin = matmul_result_distance(result_of(c, 0), &p, &v, false, false);
        if (!(twin < plain)) FAIL("%d bits: %g, plain %g", bits, twin, plain);
    }
    give_back();
}

static void images_stay_as_they_are(void)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 4; bits <= 8; bits += 4)
            for (int floats = 0; floats < 2; floats++) {
                qvit_tensor w = matrix(4, 12, 1);
                qvit_tensor x =
                    view_dense(floats ? QVIT_DTYPE_F32 : QVIT_DTYPE_U8, 3, (size_t[]){3, 7, 12}).t;
                fill_codes(&x, 10, 200);
                qvit_calibrator *c = calibrator_new(engine_new());
                add_linear(c, QVIT_INPUT_IMAGE, &w, NULL);
                observe(c, 0, &x);
                solve(c, recipes[i], bits, bits, "twin=softmax,gelu input=symmetric");
                const qvit_result *r = result_of(c, 0);
                CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_ASYMMETRIC);
                CHECK_EQ(qvit_quantizer_bits(input_of(r)), 8);
                CHECK_NEAR(scale_of(input_of(r), 0), 1, 0);
                CHECK_EQ(zero_of(input_of(r)), 0);
                CHECK_EQ(qvit_quantizer_bits(second_of(r)), bits);
                give_back();
            }
}

static void images_need_no_observation_without_a_search(void)
{
    qvit_tensor w = matrix(3, 5, 1);
    for (size_t i = 0; i < RECIPES; i++) {
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_IMAGE, &w, NULL);
        CHECK_EQ(solve_status(c, recipes[i], 8, 8, NULL), i < 2 ? QVIT_OK : QVIT_ERR_STATE);
        forget_calibrators();
    }
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(minmax_of_a_matmul_site_is_known_exactly);
    RUN(searches_of_matmul_sites_beat_minmax);
    RUN(softmax_inputs_share_one_quantizer_and_may_be_twins);
    RUN(gelu_inputs_may_be_twins);
    RUN(scales_of_twins_may_be_multiples);
    RUN(codes_of_twins_may_be_shared_unevenly);
    RUN(uneven_twins_bear_one_sided_values);
    RUN(uneven_twins_are_alike_everywhere);
    RUN(twins_are_nearer_at_few_bits);
    RUN(images_stay_as_they_are);
    RUN(images_need_no_observation_without_a_search);
    return test_end();
}
