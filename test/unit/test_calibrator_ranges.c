/* test_calibrator_ranges.c - recipes that look at ranges alone: minmax and percentile, at linear sites. */
#include "solving.h"

/* ---- minmax ---- */

static void extremes(const qvit_tensor *t, double *lo, double *hi)
{
    *lo = *hi = 0;
    for (size_t i = 0; i < tensor_count(t); i++) {
        *lo = fmin(*lo, tensor_get(t, i));
        *hi = fmax(*hi, tensor_get(t, i));
    }
}

static void minmax_of_a_linear_site_is_known_exactly(void)
{
    for (int bits = 2; bits <= 8; bits++) {
        qvit_engine *engine = engine_new();
        qvit_tensor w = matrix(7, 13, 0.3f), x = matrix(50, 13, 2);
        qvit_calibrator *c = calibrator_new(engine);
        add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
        observe(c, 0, &x);
        solve(c, NULL, bits, bits, NULL); /* minmax is the default */
        const qvit_result *r = result_of(c, 0);

        double lo, hi;
        extremes(&x, &lo, &hi);
        float scale = (float)((hi - lo) / (double)((1 << bits) - 1));
        CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_ASYMMETRIC);
        CHECK_EQ(qvit_quantizer_bits(input_of(r)), bits);
        CHECK_NEAR(scale_of(input_of(r), 0), scale, 0);
        CHECK_EQ(zero_of(input_of(r)), nearbyint(-lo / (double)scale));

        CHECK_EQ(qvit_quantizer_scheme(second_of(r)), QVIT_SCHEME_SYMMETRIC);
        CHECK_EQ(qvit_quantizer_bits(second_of(r)), bits);
        CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(second_of(r))), 7);
        for (size_t row = 0; row < 7; row++)
            CHECK_NEAR(scale_of(second_of(r), row),
                       symmetric_scale(largest(&w, row * 13, 13), bits), 0);
        give_back();
    }
}

static void ranges_always_hold_zero(void)
{
    qvit_tensor w = matrix(2, 4, 1), x = matrix(20, 4, 1);
    for (size_t i = 0; i < 80; i++) tensor_set(&x, i, fabs(tensor_get(&x, i)) + 5);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, NULL);
    const qvit_result *r = result_of(c, 0);
    CHECK_EQ(zero_of(input_of(r)), 0);
    CHECK_NEAR(scale_of(input_of(r), 0), (float)(largest(&x, 0, 80) / 255), 0);

    c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    for (size_t i = 0; i < 80; i++) tensor_set(&x, i, -tensor_get(&x, i));
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, NULL);
    CHECK_EQ(zero_of(input_of(result_of(c, 0))), 255);
    give_back();
}

static void settings_choose_symmetric_inputs_and_one_scale_of_weights(void)
{
    qvit_tensor w = matrix(5, 9, 1), x = matrix(30, 9, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 6, 6, "input=symmetric weights=layer");
    const qvit_result *r = result_of(c, 0);
    CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_SYMMETRIC);
    CHECK_NEAR(scale_of(input_of(r), 0), symmetric_scale(largest(&x, 0, 270), 6), 0);
    CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(second_of(r))), 1);
    CHECK_NEAR(scale_of(second_of(r), 0), symmetric_scale(largest(&w, 0, 45), 6), 0);
    solve(c, "minmax", 6, 6, "input=asymmetric weights=row");
    r = result_of(c, 0);
    CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_ASYMMETRIC);
    CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(second_of(r))), 5);
    give_back();
}

/* ---- percentile ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value at a share of the sorted numbers, or of their magnitudes. */
static double quantile(const qvit_tensor *t, double share, bool magnitude)
{
    size_t n = tensor_count(t);
    double *sorted = malloc(n * sizeof *sorted);
    if (!sorted) FAIL("memory");
    for (size_t i = 0; i < n; i++)
        sorted[i] = magnitude ? fabs(tensor_get(t, i)) : tensor_get(t, i);
    qsort(sorted, n, sizeof *sorted, by_value);
    double value = sorted[(size_t)(share * (double)(n - 1))];
    free(sorted);
    return value;
}

/* The histogram has 64 bins to an octave, so a percentile is known within 1.6 %. */
static void percentile_cuts_where_it_says(void)
{
    const double kept_share[] = {0.9, 0.99, 0.999};
    for (size_t i = 0; i < 3; i++)
        for (int exponent = -16; exponent <= 12; exponent += 14) {
            qvit_tensor w = matrix(2, 16, 1), x = matrix(4000, 16, ldexpf(1, exponent));
            char text[64];
            snprintf(text, sizeof text, "input=symmetric percentile=%g", 100 * kept_share[i]);
            qvit_calibrator *c = calibrator_new(engine_new());
            add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
            observe(c, 0, &x);
            solve(c, "percentile", 8, 8, text);
            double cut = (double)scale_of(input_of(result_of(c, 0)), 0) * 127.5;
            double exact = quantile(&x, kept_share[i], true);
            CHECK_NEAR(cut / exact, 1, 0.03);
            give_back();
        }
}

static void percentile_of_an_asymmetric_input_cuts_both_ends(void)
{
    qvit_tensor w = matrix(2, 16, 1), x = matrix(4000, 16, 1);
    for (size_t i = 0; i < tensor_count(&x); i++) tensor_set(&x, i, tensor_get(&x, i) + 0.5);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "percentile", 8, 8, "percentile=99");
    const qvit_quantizer *q = input_of(result_of(c, 0));
    double scale = (double)scale_of(q, 0), lo = -scale * zero_of(q), hi = lo + 255 * scale;
    CHECK_NEAR(lo / quantile(&x, 0.01, false), 1, 0.05);
    CHECK_NEAR(hi / quantile(&x, 0.99, false), 1, 0.05);
    give_back();
}

static double percentile_scale(const qvit_tensor *x, const char *recipe, const char *settings)
{
    qvit_tensor w = matrix(2, x->dims[1], 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, x);
    solve(c, recipe, 8, 8, settings);
    return (double)scale_of(input_of(result_of(c, 0)), 0);
}

/* A GELU of floats gives -0 for every very negative number. */
static void a_negative_zero_is_a_zero(void)
{
    qvit_tensor x = matrix(400, 16, 1), zeros = matrix(400, 16, 1);
    for (size_t i = 0; i < tensor_count(&x); i++) {
        tensor_set(&zeros, i, i % 10 ? tensor_get(&x, i) : 0.0);
        tensor_set(&x, i, i % 10 ? tensor_get(&x, i) : -0.0);
    }
    double expected = percentile_scale(&zeros, "percentile", "percentile=99");
    CHECK_EQ(percentile_scale(&x, "percentile", "percentile=99") == expected, 1);
    give_back();
}

/* Bins have edges of their own, and the outermost have none: values decide. */
static void percentiles_never_leave_the_data(void)
{
    for (int exponent = -40; exponent <= 40; exponent += 20) {
        qvit_tensor x = matrix(100, 4, ldexpf(1, exponent));
        double all = percentile_scale(&x, "minmax", "");
        CHECK(percentile_scale(&x, "percentile", "percentile=100") <= all);
        for (size_t i = 0; i < tensor_count(&x); i++) tensor_set(&x, i, ldexp(1.3, exponent));
        all = percentile_scale(&x, "minmax", "");
        CHECK(percentile_scale(&x, "percentile", "") <= all);
        if (exponent >= -20) CHECK_NEAR(percentile_scale(&x, "percentile", "") / all, 1, 0.02);
        give_back();
    }
}

static void percentile_100_is_minmax(void)
{
    qvit_tensor w = matrix(2, 16, 1), x = matrix(400, 16, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, "input=symmetric");
    double all = (double)scale_of(input_of(result_of(c, 0)), 0);
    solve(c, "percentile", 8, 8, "input=symmetric percentile=100");
    CHECK_NEAR((double)scale_of(input_of(result_of(c, 0)), 0) / all, 1, 0.0001);
    give_back();
}

/* ---- units ---- */

/* The input scale and the weight codes for inputs times 2^exponent. */
static double solved_in_units(const char *recipe, int exponent, struct bytes *codes)
{
    test_run.state = test_run.seed;
    qvit_tensor w = matrix(4, 8, 1), x = matrix(60, 8, 1);
    for (size_t j = 0; j < tensor_count(&x); j++)
        tensor_set(&x, j, ldexp(tensor_get(&x, j), exponent));
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, recipe, 4, 6, "candidates=20 percentile=99");
    const qvit_result *r = result_of(c, 0);
    qvit_tensor t = part_of(r, QVIT_RESULT_WEIGHT_CODES);
    bytes_add(codes, t.data, qvit_tensor_bytes(t.dtype, 2, t.dims));
    double scale = (double)scale_of(input_of(r), 0);
    give_back();
    return scale;
}

/* Recipes do not know in which unit a model counts: a power of two changes scales by itself. */
static void check_units(const char *recipe, int most)
{
    for (int exponent = -most; exponent <= most; exponent += most) {
        struct bytes plain = {0}, scaled = {0};
        double expected = ldexp(solved_in_units(recipe, 0, &plain), exponent);
        double scale = solved_in_units(recipe, exponent, &scaled);
        bool same = bytes_equal(&plain, &scaled);
        bytes_free(&plain), bytes_free(&scaled);
        if (!same || scale < expected || scale > expected)
            FAIL("%s, inputs times 2^%d: scale %.9g, not %.9g", recipe, exponent, scale, expected);
    }
}

static void units_do_not_matter_to_ranges_and_searches(void)
{
    check_units("minmax", 30);
    check_units("mse", 30);
    check_units("cosine", 30);
}

/* As long as the numbers lie in the histogram's 40 octaves. */
static void units_do_not_matter_to_percentiles(void) { check_units("percentile", 10); }

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(minmax_of_a_linear_site_is_known_exactly);
    RUN(ranges_always_hold_zero);
    RUN(settings_choose_symmetric_inputs_and_one_scale_of_weights);
    RUN(percentile_cuts_where_it_says);
    RUN(percentile_of_an_asymmetric_input_cuts_both_ends);
    RUN(percentile_100_is_minmax);
    RUN(a_negative_zero_is_a_zero);
    RUN(percentiles_never_leave_the_data);
    RUN(units_do_not_matter_to_ranges_and_searches);
    RUN(units_do_not_matter_to_percentiles);
    return test_end();
}
