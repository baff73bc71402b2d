/*
 * test_calibrator.c - from observations to results, for linear and matmul sites.
 *
 * What a result is worth is measured here without the library's arithmetic: codes are decoded,
 * multiplied in double, and compared with the product of the floats.
 */
#include <float.h>

#include "calibration.h"

static const char *const recipes[] = {"minmax", "percentile", "mse", "cosine"};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

/* The scale of a symmetric quantizer that just holds `top`: the largest value is rounded to the
 * last code, half a step below the end (PTQ4ViT's initial scale). */
static float symmetric_scale(double top, int bits)
{
    return (float)(top / ((double)(1 << (bits - 1)) - 0.5));
}

static double largest(const qvit_tensor *t, size_t first, size_t count)
{
    double top = 0;
    for (size_t i = first; i < first + count; i++) top = fmax(top, fabs(tensor_get(t, i)));
    return top;
}

static void extremes(const qvit_tensor *t, double *lo, double *hi)
{
    *lo = *hi = 0;
    for (size_t i = 0; i < tensor_count(t); i++) {
        *lo = fmin(*lo, tensor_get(t, i));
        *hi = fmax(*hi, tensor_get(t, i));
    }
}

/* ---- minmax ---- */

static void recipe_names_come_in_order(void)
{
    static const char *const names[] = {"minmax",  "percentile",   "mse",     "cosine",
                                        "ptq4vit", "ptq4vit-fast", "liu2021", "easyquant",
                                        "aciq",    "best",         "ptq-sl"};
    const size_t count = sizeof names / sizeof names[0];
    for (size_t i = 0; i < count; i++) CHECK_STR(qvit_recipe_name(i), names[i]);
    CHECK(!qvit_recipe_name(count));
    CHECK(!qvit_recipe_name(SIZE_MAX));
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

static void codes_and_bias_are_those_of_the_floats(void)
{
    for (int bits = 2; bits <= 8; bits++) {
        qvit_tensor w = matrix(6, 11, 0.2f), bias = normals(1, (size_t[]){6}, 1);
        qvit_tensor x = matrix(10, 11, 1);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_GENERIC, &w, &bias);
        observe(c, 0, &x);
        solve(c, "mse", bits, 8, "candidates=20");
        const qvit_result *r = result_of(c, 0);
        qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
        CHECK_EQ(codes.dtype, bits <= 4   ? QVIT_DTYPE_S4
                              : bits <= 6 ? QVIT_DTYPE_S6
                                          : QVIT_DTYPE_S8);
        CHECK_EQ(codes.rank, 2);
        CHECK(codes.dims[0] == 6 && codes.dims[1] == 11);
        CHECK_EQ(qvit_quantizer_flags(second_of(r)), bits == 8 ? QVIT_QUANTIZER_NARROW : 0);
        struct view again = view_dense(codes.dtype, 2, codes.dims);
        MUST(qvit_quantizer_encode(second_of(r), &w, &again.t, &why));
        CHECK_SAME(&codes, &again.t);
        for (size_t i = 0; i < 66; i++) CHECK(fabs(tensor_get(&codes, i)) <= 1 << (bits - 1));
        if (bits == 8)
            for (size_t i = 0; i < 66; i++) CHECK(tensor_get(&codes, i) > -128);
        qvit_tensor corrected = part_of(r, QVIT_RESULT_BIAS);
        CHECK_SAME(&corrected, &bias);
        size_t row = bits <= 4 ? 6 : bits <= 6 ? 9 : 11; /* bytes that 11 codes take */
        CHECK_EQ(qvit_tensor_bytes(codes.dtype, 2, codes.dims), 6 * row);
        CHECK_EQ(qvit_result_weight_bytes(r), 6 * row + 6 * sizeof(float));
        give_back();
    }
}

static void absent_parts_have_no_data(void)
{
    qvit_tensor w = matrix(3, 4, 1), x = matrix(5, 4, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, NULL, 8, 8, NULL);
    const qvit_result *r = result_of(c, 0);
    for (qvit_result_key key = QVIT_RESULT_BIAS; key <= QVIT_RESULT_OUTPUT_ORDER; key++)
        CHECK(!part_of(r, key).data);
    qvit_tensor t;
    const qvit_result_key none[] = {QVIT_RESULT_INPUT, QVIT_RESULT_SECOND, 0, -1, 11, INT32_MAX};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        CHECK_EQ(qvit_result_tensor(r, none[i], &t, &why), QVIT_ERR_ARGUMENT);
    CHECK(!qvit_result_quantizer(r, QVIT_RESULT_BIAS));
    CHECK(!qvit_result_quantizer(r, 1000));
    CHECK_EQ(qvit_result_tensor(NULL, QVIT_RESULT_BIAS, &t, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_result_tensor(r, QVIT_RESULT_BIAS, NULL, &why), QVIT_ERR_ARGUMENT);
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

/* Kernels wrap silently: whoever calls them must know the bound. */
static void searches_refuse_sums_that_overflow(void)
{
    qvit_tensor w = matrix(1, 80000, 1), x = matrix(2, 80000, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.recipe = "mse";
    CHECK_EQ(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_UNSUPPORTED);
    CHECK(strstr(why.text, "site 0 (linear)"));
    give_back();
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

/* ---- the searches ---- */

/* Weights and inputs with few, far outliers, which a range has to give up. */
static void add_outliers(const qvit_tensor *t, size_t each, double factor)
{
    for (size_t i = test_below(each); i < tensor_count(t); i += each)
        tensor_set(t, i, tensor_get(t, i) * factor);
}

/* How far a result is from the floats: the squared error, or 1 - cosine, of the product. */
static double distance_of(const qvit_result *r, const qvit_tensor *x, const qvit_tensor *w,
                          bool cosine)
{
    qvit_tensor xq = fake_of(input_of(r), x), wq = weights_of(r);
    double *exact = product_of(x, w), *coded = product_of(&xq, &wq);
    size_t n = w->dims[0], m = tensor_count(x) / w->dims[1];
    double distance =
        cosine ? 1 - mean_cosine(exact, coded, m, n) : squared_distance(exact, coded, m * n);
    free(exact), free(coded);
    return distance;
}

static void searches_beat_minmax_where_there_are_outliers(void)
{
    for (int cosine = 0; cosine < 2; cosine++)
        for (int bits = 3; bits <= 5; bits++)
            for (int layer = 0; layer < 2; layer++) {
                qvit_tensor w = matrix(12, 32, 0.1f), x = matrix(100, 32, 1);
                add_outliers(&w, 40, 4), add_outliers(&x, 150, 8);
                qvit_calibrator *c = calibrator_new(engine_new());
                add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
                observe(c, 0, &x);
                const char *settings = layer ? "weights=layer" : NULL;
                solve(c, "minmax", bits, bits, settings);
                double before = distance_of(result_of(c, 0), &x, &w, cosine);
                solve(c, cosine ? "cosine" : "mse", bits, bits, settings);
                double after = distance_of(result_of(c, 0), &x, &w, cosine);
                if (!(after < before))
                    FAIL("%s, %d bits: %g, minmax %g", cosine ? "cosine" : "mse", bits, after,
                         before);
                give_back();
            }
}

/* The quantizer of a whole tensor, on the grid of a search. */
static qvit_tensor on_grid(const qvit_engine *engine, const qvit_tensor *t, float scale, int bits,
                           bool narrow)
{
    return fake_of(quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, bits,
                                   narrow ? QVIT_QUANTIZER_NARROW : 0, scale, 0, 0),
                   t);
}

static double score(const qvit_tensor *x, const qvit_tensor *w, const double *exact, bool cosine)
{
    double *coded = product_of(x, w);
    size_t n = w->dims[0], m = tensor_count(x) / w->dims[1];
    double s = cosine ? mean_cosine(exact, coded, m, n) : -squared_distance(exact, coded, m * n);
    free(coded);
    return s;
}

/* The scores of all candidates of one side, the other held fixed. */
static double best_score(const qvit_engine *engine, const qvit_tensor *moved,
                         const qvit_tensor *fixed, bool weights, float base, int bits,
                         const double *exact, bool cosine)
{
    double best = -INFINITY;
    size_t mark = kept.count;
    for (int i = 0; i < 100; i++) {
        float scale = (float)((double)base * (0.5 + i * 0.007));
        qvit_tensor q = on_grid(engine, moved, scale, bits, false);
        double s = weights ? score(fixed, &q, exact, cosine) : score(&q, fixed, exact, cosine);
        best = fmax(best, s);
        release_to(mark);
    }
    return best;
}

/* One round: first the weights with the inputs at their largest value, then the inputs with the
 * weights as found. No candidate of the grid may be better than what was chosen. */
static void searches_find_the_best_of_their_grid(void)
{
    for (int cosine = 0; cosine < 2; cosine++)
        for (int bits = 3; bits <= 5; bits++) {
            qvit_engine *engine = engine_new();
            qvit_tensor w = matrix(8, 16, 1), x = matrix(40, 16, 1);
            qvit_calibrator *c = calibrator_new(engine);
            add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
            observe(c, 0, &x);
            solve(c, cosine ? "cosine" : "mse", bits, bits, "input=symmetric weights=layer");
            const qvit_result *r = result_of(c, 0);
            double *exact = product_of(&x, &w);
            float x_base = symmetric_scale(largest(&x, 0, tensor_count(&x)), bits);
            float w_base = symmetric_scale(largest(&w, 0, tensor_count(&w)), bits);

            qvit_tensor start = on_grid(engine, &x, x_base, bits, false), wq = weights_of(r);
            double found = score(&start, &wq, exact, cosine);
            double best = best_score(engine, &w, &start, true, w_base, bits, exact, cosine);
            CHECK(found >= best - 1e-5 * fabs(best));

            qvit_tensor xq = fake_of(input_of(r), &x);
            found = score(&xq, &wq, exact, cosine);
            best = best_score(engine, &x, &wq, false, x_base, bits, exact, cosine);
            CHECK(found >= best - 1e-5 * fabs(best));
            free(exact);
            give_back();
        }
}

static void every_row_gets_its_own_best_scale(void)
{
    const int bits = 4;
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(6, 16, 1), x = matrix(50, 16, 1);
    qvit_calibrator *c = calibrator_new(engine);
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "mse", bits, bits, "input=symmetric");
    const qvit_result *r = result_of(c, 0);
    qvit_tensor wq = weights_of(r);
    float x_base = symmetric_scale(largest(&x, 0, tensor_count(&x)), bits);
    qvit_tensor start = on_grid(engine, &x, x_base, bits, false);
    for (size_t row = 0; row < 6; row++) {
        qvit_tensor one, coded;
        qvit_tensor_init(&one, (float *)w.data + row * 16, QVIT_DTYPE_F32, 2, (size_t[]){1, 16});
        qvit_tensor_init(&coded, (float *)wq.data + row * 16, QVIT_DTYPE_F32, 2, (size_t[]){1, 16});
        double *exact = product_of(&x, &one), found = score(&start, &coded, exact, false);
        double best = best_score(engine, &one, &start, true,
                                 symmetric_scale(largest(&one, 0, 16), bits), bits, exact, false);
        free(exact);
        CHECK(found >= best - 1e-5 * fabs(best));
    }
    give_back();
}

static void grid_settings_move_the_grid(void)
{
    qvit_tensor w = matrix(4, 8, 1), x = matrix(30, 8, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "mse", 8, 8, "candidates=1 low=0.25 high=2 input=symmetric weights=layer");
    const qvit_result *r = result_of(c, 0);
    float w_base = symmetric_scale(largest(&w, 0, 32), 8),
          x_base = symmetric_scale(largest(&x, 0, 240), 8);
    CHECK_NEAR(scale_of(second_of(r), 0) / w_base, 0.25, 1e-6);
    CHECK_NEAR(scale_of(input_of(r), 0) / x_base, 0.25, 1e-6);
    solve(c, "mse", 3, 3, "candidates=7 low=0.5 high=0.9 rounds=3 weights=layer input=symmetric");
    r = result_of(c, 0);
    w_base = symmetric_scale(largest(&w, 0, 32), 3),
    x_base = symmetric_scale(largest(&x, 0, 240), 3);
    CHECK(scale_of(second_of(r), 0) >= w_base * 0.4999f &&
          scale_of(second_of(r), 0) < w_base * 0.9f);
    CHECK(scale_of(input_of(r), 0) >= x_base * 0.4999f && scale_of(input_of(r), 0) < x_base * 0.9f);
    give_back();
}

/* ---- matmul sites ---- */

/* Both operands as an engine keeps them, token by token, heads beside each other; seen as
 * [samples, heads, tokens, width] without copying. */
struct operand {
    qvit_tensor flat; /* [samples * tokens, heads * width] */
    qvit_tensor view;
};

static struct operand operand_new(size_t samples, size_t heads, size_t tokens, size_t width,
                                  float amplitude)
{
    struct operand o;
    o.flat = matrix(samples * tokens, heads * width, amplitude);
    qvit_tensor_init(&o.view, o.flat.data, QVIT_DTYPE_F32, 4,
                     (size_t[]){samples, heads, tokens, width});
    o.view.strides[0] = (ptrdiff_t)(tokens * heads * width);
    o.view.strides[1] = (ptrdiff_t)width;
    o.view.strides[2] = (ptrdiff_t)(heads * width);
    return o;
}

/* The same view of other memory of the same layout. */
static qvit_tensor same_view(const struct operand *o, const qvit_tensor *flat, qvit_dtype dtype)
{
    qvit_tensor t = o->view;
    t.data = flat->data, t.dtype = dtype;
    return t;
}

enum { HEADS = 3, TOKENS = 10, WIDTH = 8, SAMPLES = 4 };

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

/* Rows of probabilities, some flat, some with one that takes nearly all. */
static void make_softmax(const qvit_tensor *view)
{
    size_t n = view->dims[3];
    for (size_t row = 0; row < tensor_count(view) / n; row++) {
        double sum = 0, sharp = row % 3 ? 1 : 6;
        for (size_t j = 0; j < n; j++) {
            double e = exp(sharp * (double)test_normal());
            tensor_set(view, row * n + j, e);
            sum += e;
        }
        for (size_t j = 0; j < n; j++)
            tensor_set(view, row * n + j, tensor_get(view, row * n + j) / sum);
    }
}

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

static void make_gelu(const qvit_tensor *x)
{
    for (size_t i = 0; i < tensor_count(x); i++) {
        double v = (double)test_normal() * 2;
        tensor_set(x, i, v * 0.5 * (1 + erf(v / sqrt(2))));
    }
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

/* ---- ties and equalizing ---- */

/* Channels of very different sizes, as behind a LayerNorm. */
static qvit_tensor uneven(size_t rows, size_t cols)
{
    qvit_tensor x = matrix(rows, cols, 1);
    for (size_t i = 0; i < rows * cols; i++)
        tensor_set(&x, i, tensor_get(&x, i) * exp2((double)(i % cols % 5)));
    return x;
}

static void check_equalizer(const qvit_tensor *scale, const qvit_tensor *x, double strength)
{
    size_t k = scale->dims[0];
    double range[64], mean = 0;
    CHECK(k <= 64);
    for (size_t ch = 0; ch < k; ch++) {
        double lo = 0, hi = 0;
        for (size_t i = ch; i < tensor_count(x); i += k)
            lo = fmin(lo, tensor_get(x, i)), hi = fmax(hi, tensor_get(x, i));
        range[ch] = hi - lo;
        mean += range[ch] / (double)k;
    }
    for (size_t ch = 0; ch < k; ch++)
        CHECK_NEAR(tensor_get(scale, ch) / pow(range[ch] / mean, strength), 1, 1e-5);
}

/* x divided and weights multiplied by a vector, channel by channel. */
static qvit_tensor rescaled(const qvit_tensor *t, const qvit_tensor *scale, bool divide)
{
    qvit_tensor out = view_dense(QVIT_DTYPE_F32, 2, t->dims).t;
    for (size_t i = 0; i < tensor_count(t); i++) {
        double s = tensor_get(scale, i % t->dims[1]);
        tensor_set(&out, i, divide ? tensor_get(t, i) / s : tensor_get(t, i) * s);
    }
    return out;
}

static void equalizing_preserves_the_function(void)
{
    for (size_t i = 0; i < RECIPES; i++) {
        qvit_tensor w = matrix(6, 20, 1), x = uneven(80, 20);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w, NULL);
        observe(c, 0, &x);
        solve(c, recipes[i], 8, 8, "equalize=0.5");
        const qvit_result *r = result_of(c, 0);
        qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE);
        CHECK(scale.data && scale.dtype == QVIT_DTYPE_F32 && scale.rank == 1);
        CHECK_EQ(scale.dims[0], 20);
        check_equalizer(&scale, &x, 0.5);

        qvit_tensor xs = rescaled(&x, &scale, true), ws = rescaled(&w, &scale, false);
        double *exact = product_of(&x, &w), *same = product_of(&xs, &ws);
        double norm = 0;
        for (size_t j = 0; j < 480; j++) norm += exact[j] * exact[j];
        CHECK(squared_distance(exact, same, 480) < 1e-10 * norm);

        /* The codes are those of the scaled weights, the quantizer's range that of what the
         * producer will write: the whole comes near the floats. */
        struct view again = view_dense(QVIT_DTYPE_S8, 2, w.dims);
        qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
        MUST(qvit_quantizer_encode(second_of(r), &ws, &again.t, &why));
        for (size_t j = 0; j < 120; j++)
            CHECK_NEAR(tensor_get(&codes, j), tensor_get(&again.t, j), 1);
        qvit_tensor xq = fake_of(input_of(r), &xs), wq = weights_of(r);
        double *coded = product_of(&xq, &wq);
        double error = squared_distance(exact, coded, 480) / norm;
        free(exact), free(same), free(coded);
        if (!(error < 1e-3)) FAIL("%s: relative squared error %g", recipes[i], error);
        give_back();
    }
}

static void equalizing_helps_uneven_channels(void)
{
    qvit_tensor w = matrix(6, 20, 1), x = uneven(80, 20);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_LAYER_NORM, &w, NULL);
    observe(c, 0, &x);
    solve(c, "mse", 8, 4, NULL);
    double before = distance_of(result_of(c, 0), &x, &w, false);
    solve(c, "mse", 8, 4, "equalize=0.7");
    const qvit_result *r = result_of(c, 0);
    qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE);
    qvit_tensor xs = rescaled(&x, &scale, true), ws = rescaled(&w, &scale, false);
    double after = distance_of(r, &xs, &ws, false);
    if (!(after < before)) FAIL("%g, not equalized %g", after, before);
    give_back();
}

static void only_inputs_whose_producer_can_apply_it_are_equalized(void)
{
    const qvit_input_kind kinds[] = {QVIT_INPUT_GENERIC, QVIT_INPUT_GELU, QVIT_INPUT_IMAGE};
    for (size_t i = 0; i < 3; i++) {
        qvit_tensor w = matrix(3, 8, 1), x = uneven(30, 8);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, kinds[i], &w, NULL);
        observe(c, 0, &x);
        solve(c, "minmax", 8, 8, "equalize=1");
        CHECK(!part_of(result_of(c, 0), QVIT_RESULT_INPUT_SCALE).data);
        give_back();
    }
}

static void producers_carry_what_their_consumer_asks_for(void)
{
    qvit_tensor w1 = matrix(12, 6, 1), w2 = matrix(4, 12, 1), x = matrix(50, 6, 1);
    qvit_tensor hidden = uneven(50, 12);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w1, NULL);
    add_linear(c, QVIT_INPUT_GENERIC, &w2, NULL);
    MUST(tie(c, QVIT_TIE_PRODUCER, 0, 1));
    observe(c, 0, &x), observe(c, 1, &hidden);
    solve(c, "minmax", 8, 8, "equalize=0.5");
    const qvit_result *producer = result_of(c, 0), *consumer = result_of(c, 1);
    qvit_tensor asked = part_of(consumer, QVIT_RESULT_INPUT_SCALE);
    qvit_tensor carried = part_of(producer, QVIT_RESULT_OUTPUT_SCALE);
    CHECK(asked.data && carried.data);
    CHECK_EQ(carried.dims[0], 12);
    CHECK_SAME(&asked, &carried);
    CHECK(!part_of(producer, QVIT_RESULT_INPUT_SCALE).data);
    CHECK(!part_of(consumer, QVIT_RESULT_OUTPUT_SCALE).data);
    solve(c, "minmax", 8, 8, NULL);
    CHECK(!part_of(result_of(c, 0), QVIT_RESULT_OUTPUT_SCALE).data);
    give_back();
}

static void readers_of_one_tensor_get_one_quantizer(void)
{
    for (size_t i = 0; i < RECIPES; i++) {
        qvit_tensor w1 = matrix(5, 10, 1), w2 = matrix(7, 10, 4), w3 = matrix(2, 10, 1);
        qvit_tensor x = uneven(60, 10);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w1, NULL);
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w3, NULL);
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w2, NULL);
        MUST(tie(c, QVIT_TIE_INPUT, 2, 0)); /* in any order */
        for (size_t s = 0; s < 3; s++) observe(c, s, &x);
        solve(c, recipes[i], 5, 5, "equalize=0.3");
        struct bytes a = {0}, b = {0};
        bytes_add_quantizer(&a, input_of(result_of(c, 0)));
        bytes_add_quantizer(&b, input_of(result_of(c, 2)));
        bool same = bytes_equal(&a, &b);
        bytes_free(&a), bytes_free(&b);
        CHECK(same);
        qvit_tensor scale1 = part_of(result_of(c, 0), QVIT_RESULT_INPUT_SCALE);
        qvit_tensor scale2 = part_of(result_of(c, 2), QVIT_RESULT_INPUT_SCALE);
        CHECK_SAME(&scale1, &scale2);
        give_back();
    }
}

/* ---- degenerate data ---- */

static void check_usable(const qvit_quantizer *q)
{
    size_t blocks = qvit_granularity_blocks(qvit_quantizer_granularity(q));
    for (size_t b = 0; b < blocks; b++)
        CHECK(scale_of(q, b) >= FLT_MIN && scale_of(q, b) <= FLT_MAX);
}

/* Solves one linear site with every recipe: zeros stay zeros, and every number stays finite. */
static void check_all_recipes(const qvit_tensor *w, const qvit_tensor *x, qvit_input_kind kind)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 2; bits <= 8; bits += 3) {
            qvit_calibrator *c = calibrator_new(engine_new());
            add_linear(c, kind, w, NULL);
            observe(c, 0, x);
            qvit_status status =
                solve_status(c, recipes[i], bits, bits, "twin=gelu,softmax equalize=0.5");
            if (status) FAIL("%s, %d bits: %s", recipes[i], bits, why.text);
            const qvit_result *r = result_of(c, 0);
            check_usable(input_of(r)), check_usable(second_of(r));
            qvit_tensor wq = weights_of(r);
            for (size_t j = 0; j < tensor_count(w); j++) {
                CHECK(isfinite(tensor_get(&wq, j)));
                if (tensor_get(w, j) == 0) CHECK_NEAR(tensor_get(&wq, j), 0, 0);
            }
            qvit_tensor xq = fake_of(input_of(r), x);
            for (size_t j = 0; j < tensor_count(x); j++)
                if (tensor_get(x, j) == 0) CHECK_NEAR(tensor_get(&xq, j), 0, 0);
            forget_calibrators();
        }
}

static const qvit_input_kind float_kinds[] = {QVIT_INPUT_GENERIC, QVIT_INPUT_LAYER_NORM,
                                              QVIT_INPUT_GELU};

static void zeros_of_every_kind_are_solved(void)
{
    for (size_t k = 0; k < 3; k++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        qvit_tensor nothing = zeros(2, w.dims), silence = zeros(2, x.dims);
        check_all_recipes(&w, &silence, float_kinds[k]);
        check_all_recipes(&nothing, &x, float_kinds[k]);
        check_all_recipes(&nothing, &silence, float_kinds[k]);
        for (size_t j = 6; j < 12; j++) tensor_set(&w, j, 0);    /* one row */
        for (size_t j = 3; j < 54; j += 6) tensor_set(&x, j, 0); /* one channel */
        check_all_recipes(&w, &x, float_kinds[k]);
        give_back();
    }
}

static void single_rows_and_constants_are_solved(void)
{
    for (size_t k = 0; k < 3; k++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(1, 6, 1), one = matrix(1, 1, 1);
        check_all_recipes(&w, &x, float_kinds[k]);
        check_all_recipes(&one, &one, float_kinds[k]);
        const double constants[] = {1, -1, 1e-6, -0.17, 1000};
        for (size_t j = 0; j < 5; j++) {
            fill_value(&x, constants[j]);
            check_all_recipes(&w, &x, float_kinds[k]);
        }
        give_back();
    }
}

/* Weights of a dead channel may have decayed to numbers below the smallest normal one. */
static void vanishing_weights_are_solved(void)
{
    const double tiny[] = {1e-45, 1e-40, 1e-38, 1e-36, 1e-30};
    for (size_t i = 0; i < 5; i++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        for (size_t j = 6; j < 12; j++) tensor_set(&w, j, tiny[i]);
        check_all_recipes(&w, &x, QVIT_INPUT_GENERIC);
        give_back();
    }
}

static void vanishing_inputs_are_solved(void)
{
    const double tiny[] = {1e-45, 1e-40, 1e-38, 1e-36, 1e-30};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < 5; i++) {
            qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
            for (size_t j = 0; j < 54; j++) tensor_set(&x, j, tiny[i] * (j % 2 ? 1 : -1));
            check_all_recipes(&w, &x, float_kinds[k]);
            for (size_t j = 0; j < 54; j++) tensor_set(&x, j, j ? (double)j : -tiny[i]);
            check_all_recipes(&w, &x, float_kinds[k]); /* a lower end next to nothing */
            give_back();
        }
}

static void huge_numbers_are_solved(void)
{
    const double huge[] = {1e10, 1e20, 1e30, 1e38};
    for (size_t i = 0; i < 4; i++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        tensor_set(&w, 3, huge[i]);
        tensor_set(&x, 3, huge[i]), tensor_set(&x, 4, -huge[i]);
        check_all_recipes(&w, &x, QVIT_INPUT_GENERIC);
        give_back();
    }
}

static void degenerate_operands_of_matmul_sites_are_solved(void)
{
    const double values[] = {0, 1, -1, 1e-40, 1e-36, 1e20};
    for (size_t i = 0; i < RECIPES; i++)
        for (size_t v = 0; v < 6; v++)
            for (int side = 0; side < 4; side++) {
                struct operand a = operand_new(2, 2, 1, 4, 1), b = operand_new(2, 2, 4, 3, 1);
                if (side & 1) fill_value(&a.flat, values[v]);
                if (side & 2) fill_value(&b.flat, values[v]);
                qvit_calibrator *c = calibrator_new(engine_new());
                add_matmul(c, QVIT_INPUT_GENERIC, 2, false);
                add_matmul(c, QVIT_INPUT_SOFTMAX, 2, false);
                observe_pair(c, 0, &a.view, &b.view), observe_pair(c, 1, &a.view, &b.view);
                if (solve_status(c, recipes[i], 8, 5, "twin=softmax"))
                    FAIL("%s, %g, sides %d: %s", recipes[i], values[v], side, why.text);
                for (size_t s = 0; s < 2; s++) {
                    check_usable(input_of(result_of(c, s)));
                    check_usable(second_of(result_of(c, s)));
                }
                give_back();
            }
}

/* Of two settings of one key the last counts; what a recipe does not use it does not mind. */
static void later_settings_replace_earlier_ones(void)
{
    qvit_tensor w = matrix(3, 5, 1), x = matrix(20, 5, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, "input=symmetric weights=layer input=asymmetric candidates=3");
    const qvit_result *r = result_of(c, 0);
    CHECK_EQ(qvit_quantizer_scheme(input_of(r)), QVIT_SCHEME_ASYMMETRIC);
    CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(second_of(r))), 1);
    give_back();
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

/* ---- subsets and quantized prefixes ---- */

static void any_subset_is_solved(void)
{
    qvit_tensor w = matrix(3, 5, 1), x = matrix(20, 5, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    for (int i = 0; i < 4; i++) add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 1, &x), observe(c, 3, &x);
    const size_t some[] = {3, 1};
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.sites = some, o.site_count = 2;
    MUST(qvit_calibrator_solve(c, &o, &why));
    qvit_result *r = (qvit_result *)&o;
    CHECK_EQ(qvit_calibrator_result(c, 0, &r, &why), QVIT_ERR_STATE);
    CHECK(!r);
    CHECK_EQ(qvit_calibrator_result(c, 2, &r, &why), QVIT_ERR_STATE);
    result_of(c, 1), result_of(c, 3);
    CHECK_EQ(qvit_calibrator_solve(c, NULL, &why), QVIT_ERR_STATE); /* 0 and 2 saw nothing */
    observe(c, 0, &x), observe(c, 2, &x);
    MUST(qvit_calibrator_solve(c, NULL, &why));
    for (size_t i = 0; i < 4; i++) result_of(c, i);
    give_back();
}

static void sites_behind_a_quantized_prefix_fit_what_they_will_see(void)
{
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(5, 12, 1), x = matrix(60, 12, 1), seen = matrix(60, 12, 1);
    for (size_t i = 0; i < tensor_count(&x); i++) /* as a coarse prefix would give it */
        tensor_set(&seen, i, 0.6 * nearbyint(1.7 * tensor_get(&x, i)));
    qvit_calibrator *c = calibrator_new(engine);
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", 8, 8, "input=symmetric");
    CHECK_NEAR(scale_of(input_of(result_of(c, 0)), 0), symmetric_scale(largest(&x, 0, 720), 8), 0);

    qvit_observation later = QVIT_OBSERVATION_INIT; /* the same rows, once more */
    later.input_quantized = &seen;
    MUST(qvit_calibrator_observe(c, &later, &why));
    const char *settings[] = {"input=symmetric", "weights=layer"};
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.settings = settings, o.setting_count = 2;
    MUST(qvit_calibrator_solve(c, &o, &why)); /* not asked for: the float inputs count */
    CHECK_NEAR(scale_of(input_of(result_of(c, 0)), 0), symmetric_scale(largest(&x, 0, 720), 8), 0);
    o.use_quantized = 1;
    MUST(qvit_calibrator_solve(c, &o, &why));
    CHECK_NEAR(scale_of(input_of(result_of(c, 0)), 0), symmetric_scale(largest(&seen, 0, 720), 8),
               0);

    /* A search multiplies what will be seen, and aims at the product of the floats. */
    const int bits = 4;
    o.recipe = "mse", o.weight_bits = o.input_bits = bits;
    MUST(qvit_calibrator_solve(c, &o, &why));
    const qvit_result *r = result_of(c, 0);
    double *exact = product_of(&x, &w);
    float base = symmetric_scale(largest(&seen, 0, 720), bits);
    qvit_tensor start = on_grid(engine, &seen, base, bits, false), wq = weights_of(r);
    double found = score(&start, &wq, exact, false);
    double best = best_score(engine, &w, &start, true, symmetric_scale(largest(&w, 0, 60), bits),
                             bits, exact, false);
    CHECK(found >= best - 1e-5 * fabs(best));
    qvit_tensor xq = fake_of(input_of(r), &seen);
    found = score(&xq, &wq, exact, false);
    best = best_score(engine, &seen, &wq, false, base, bits, exact, false);
    free(exact);
    CHECK(found >= best - 1e-5 * fabs(best));
    give_back();
}

static void sites_without_a_quantized_part_use_the_float_one(void)
{
    qvit_tensor w = matrix(3, 6, 1), x = matrix(20, 6, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "mse", 8, 8, NULL);
    struct bytes a = bytes_of_results(c, 1);
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.recipe = "mse", o.use_quantized = 1;
    MUST(qvit_calibrator_solve(c, &o, &why));
    struct bytes b = bytes_of_results(c, 1);
    bool same = bytes_equal(&a, &b);
    bytes_free(&a), bytes_free(&b);
    CHECK(same);
    give_back();
}

/* ---- life of a result, progress ---- */

static void results_outlive_their_calibrator(void)
{
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(6, 9, 1), bias = normals(1, (size_t[]){6}, 1), x = uneven(30, 9);
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(engine, NULL, &c, &why));
    add_linear(c, QVIT_INPUT_LAYER_NORM, &w, &bias);
    observe(c, 0, &x);
    solve(c, "mse", 4, 8, "equalize=0.5");
    const qvit_result *r = result_of(c, 0);
    struct bytes before = {0}, after = {0};
    bytes_add_result(&before, r);
    solve(c, "minmax", 8, 8, NULL); /* solving again replaces the site's result, not this one */
    qvit_calibrator_destroy(c);
    fill_value(&w, 0), fill_value(&bias, 0); /* borrowed no longer */
    bytes_add_result(&after, r);
    bool same = bytes_equal(&before, &after);
    bytes_free(&before), bytes_free(&after);
    CHECK(same);
    give_back();
}

struct watch {
    size_t calls, cancel_at;
    double last;
    bool fell, outside, nameless;
};

static int32_t watch_progress(void *user, double done, const char *site)
{
    struct watch *w = user;
    w->fell |= done < w->last;
    w->outside |= !(done >= 0 && done < 1); /* 1 is when the call returns */
    w->nameless |= !site;
    w->last = done;
    return ++w->calls == w->cancel_at;
}

static qvit_status watched_solve(qvit_calibrator *c, const char *recipe, struct watch *w)
{
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.recipe = recipe, o.progress = watch_progress, o.user = w;
    return qvit_calibrator_solve(c, &o, &why);
}

/* Sites of one weight that all saw the same. */
static void add_alike(qvit_calibrator *c, size_t count, const qvit_tensor *w, const qvit_tensor *x)
{
    for (size_t i = 0; i < count; i++) add_linear(c, QVIT_INPUT_GENERIC, w, NULL);
    for (size_t i = 0; i < count; i++) observe(c, i, x);
}

static void progress_rises_and_cancelling_keeps_what_is_finished(void)
{
    enum { SITES = 4 };
    qvit_tensor w = matrix(5, 7, 1), x = matrix(20, 7, 1);
    qvit_calibrator *c = calibrator_new(engine_new()), *half;
    add_alike(c, SITES, &w, &x);
    struct watch whole = {0};
    MUST(watched_solve(c, "mse", &whole));
    CHECK(whole.calls >= SITES);
    CHECK(!whole.fell && !whole.outside && !whole.nameless);
    struct bytes finished = bytes_of_results(c, 1);

    for (size_t cancel_at = 1; cancel_at <= whole.calls; cancel_at++) {
        half = calibrator_new(engine_new());
        add_alike(half, SITES, &w, &x);
        struct watch watch = {.cancel_at = cancel_at};
        CHECK_EQ(watched_solve(half, "mse", &watch), QVIT_ERR_CANCELLED);
        CHECK_EQ(why.status, QVIT_ERR_CANCELLED);
        CHECK_EQ(watch.calls, cancel_at); /* and no call after it */
        /* Finished sites are as if nothing had happened; all others can be run, too. */
        size_t solved = 0;
        for (size_t i = 0; i < SITES; i++) {
            struct bytes b = {0};
            bytes_add_result(&b, result_of(half, i));
            solved += bytes_equal(&b, &finished) && solved == i;
            bytes_free(&b);
        }
        CHECK(solved < SITES || cancel_at == whole.calls);
        if (cancel_at > whole.calls / 2) CHECK(solved >= SITES / 2 - 1);
    }
    bytes_free(&finished);
    give_back();
}

static void cancelling_leaves_older_results(void)
{
    qvit_tensor w = matrix(5, 7, 1), x = matrix(20, 7, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_alike(c, 2, &w, &x);
    solve(c, "minmax", 3, 3, NULL);
    struct bytes before = bytes_of_results(c, 2);
    struct watch watch = {.cancel_at = 1};
    CHECK_EQ(watched_solve(c, "cosine", &watch), QVIT_ERR_CANCELLED);
    struct bytes after = bytes_of_results(c, 2);
    bool same = bytes_equal(&before, &after);
    bytes_free(&before), bytes_free(&after);
    CHECK(same);
    give_back();
}

/* ---- what runs is what was simulated ---- */

static void *room_for(size_t bytes) { return workspace(bytes ? bytes : 1); }

static void check_linear_plan(const char *recipe, int weight_bits, int input_bits,
                              qvit_input_kind kind, const char *settings)
{
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(9, 21, 0.2f), bias = normals(1, (size_t[]){9}, 1), x = matrix(17, 21, 1);
    if (kind == QVIT_INPUT_GELU) make_gelu(&x);
    qvit_calibrator *c = calibrator_new(engine);
    add_linear(c, kind, &w, &bias);
    observe(c, 0, &x);
    solve(c, recipe, weight_bits, input_bits, settings);
    const qvit_result *r = result_of(c, 0);
    qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES), b = part_of(r, QVIT_RESULT_BIAS);

    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    qvit_dtype input_type = qvit_quantizer_code_dtype(input_of(r));
    o.input = (qvit_port){input_type, 0, input_of(r)};
    o.weight = (qvit_port){codes.dtype, 0, second_of(r)};
    o.output.dtype = QVIT_DTYPE_F32;
    o.weights = &codes, o.bias = &b;
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &o, &plan, &why));
    keep_plan(plan);
    struct view xc = view_dense(input_type, 2, x.dims);
    struct view y = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){17, 9});
    MUST(qvit_quantizer_encode(input_of(r), &x, &xc.t, &why));
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &xc.t, a.output = &y.t;
    a.workspace_size = qvit_linear_workspace_size(plan, 17);
    a.workspace = room_for(a.workspace_size);
    MUST(qvit_linear_run(plan, &a, &why));

    qvit_tensor xq = fake_of(input_of(r), &x), wq = weights_of(r);
    double *simulated = product_of(&xq, &wq);
    for (size_t i = 0; i < 17 * 9; i++) {
        double expected = simulated[i] + tensor_get(&bias, i % 9);
        if (!(fabs(tensor_get(&y.t, i) - expected) <= 1e-5 * (1 + fabs(expected))))
            FAIL("%s: output %zu is %.9g, simulated %.9g", recipe, i, tensor_get(&y.t, i),
                 expected);
    }
    free(simulated);
    give_back();
}

static void linear_plans_do_what_was_simulated(void)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 2; bits <= 8; bits++) {
            check_linear_plan(recipes[i], bits, 10 - bits, QVIT_INPUT_GENERIC, NULL);
            check_linear_plan(recipes[i], bits, bits, QVIT_INPUT_GENERIC,
                              "input=symmetric weights=layer");
            check_linear_plan(recipes[i], bits, bits, QVIT_INPUT_GELU, "twin=gelu");
        }
}

static void check_matmul_plan(const char *recipe, int bits, qvit_input_kind kind, bool transposed,
                              const char *settings)
{
    enum { N = 6 };
    qvit_engine *engine = engine_new();
    struct operand left = operand_new(2, HEADS, TOKENS, WIDTH, 1);
    struct operand right =
        transposed ? operand_new(2, HEADS, N, WIDTH, 1) : operand_new(2, HEADS, WIDTH, N, 1);
    if (kind == QVIT_INPUT_SOFTMAX) make_softmax(&left.view);
    qvit_calibrator *c = calibrator_new(engine);
    add_matmul(c, kind, HEADS, transposed);
    observe_pair(c, 0, &left.view, &right.view);
    solve(c, recipe, 8, bits, settings);
    const qvit_result *r = result_of(c, 0);

    qvit_matmul_options o = QVIT_MATMUL_OPTIONS_INIT;
    qvit_dtype left_type = qvit_quantizer_code_dtype(input_of(r));
    o.left = (qvit_port){left_type, 0, input_of(r)};
    o.right = (qvit_port){QVIT_DTYPE_S8, 0, second_of(r)};
    o.output.dtype = QVIT_DTYPE_F32;
    o.heads = HEADS, o.right_transposed = transposed;
    qvit_plan *plan;
    MUST(qvit_matmul_create(engine, &o, &plan, &why));
    keep_plan(plan);
    struct view lc = view_dense(left_type, 2, left.flat.dims);
    struct view rc = view_dense(QVIT_DTYPE_S8, 2, right.flat.dims);
    struct view y = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, HEADS, TOKENS, N});
    MUST(qvit_quantizer_encode(input_of(r), &left.flat, &lc.t, &why));
    MUST(qvit_quantizer_encode(second_of(r), &right.flat, &rc.t, &why));
    qvit_tensor lv = same_view(&left, &lc.t, left_type);
    qvit_tensor rv = same_view(&right, &rc.t, QVIT_DTYPE_S8);
    qvit_matmul_args a = QVIT_MATMUL_ARGS_INIT;
    a.left = &lv, a.right = &rv, a.output = &y.t;
    a.workspace_size = qvit_matmul_workspace_size(plan, TOKENS, N, WIDTH);
    a.workspace = room_for(a.workspace_size);
    MUST(qvit_matmul_run(plan, &a, &why));

    qvit_tensor lq = fake_of(input_of(r), &left.flat), rq = fake_of(second_of(r), &right.flat);
    qvit_tensor lqv = same_view(&left, &lq, QVIT_DTYPE_F32);
    qvit_tensor rqv = same_view(&right, &rq, QVIT_DTYPE_F32);
    for (size_t i = 0; i < tensor_count(&y.t); i++) {
        size_t j = i % N, row = i / N, at = row / TOKENS * N * WIDTH;
        double expected = 0;
        for (size_t p = 0; p < WIDTH; p++)
            expected += tensor_get(&lqv, row * WIDTH + p) *
                        tensor_get(&rqv, at + (transposed ? j * WIDTH + p : p * N + j));
        if (!(fabs(tensor_get(&y.t, i) - expected) <= 1e-5 * (1 + fabs(expected))))
            FAIL("%s: output %zu is %.9g, simulated %.9g", recipe, i, tensor_get(&y.t, i),
                 expected);
    }
    give_back();
}

static void matmul_plans_do_what_was_simulated(void)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 2; bits <= 8; bits++) {
            check_matmul_plan(recipes[i], bits, QVIT_INPUT_GENERIC, true, NULL);
            check_matmul_plan(recipes[i], bits, QVIT_INPUT_SOFTMAX, false, NULL);
            check_matmul_plan(recipes[i], bits, QVIT_INPUT_SOFTMAX, false, "twin=softmax");
        }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(recipe_names_come_in_order);
    RUN(minmax_of_a_linear_site_is_known_exactly);
    RUN(ranges_always_hold_zero);
    RUN(settings_choose_symmetric_inputs_and_one_scale_of_weights);
    RUN(codes_and_bias_are_those_of_the_floats);
    RUN(absent_parts_have_no_data);
    RUN(percentile_cuts_where_it_says);
    RUN(percentile_of_an_asymmetric_input_cuts_both_ends);
    RUN(percentile_100_is_minmax);
    RUN(a_negative_zero_is_a_zero);
    RUN(percentiles_never_leave_the_data);
    RUN(searches_refuse_sums_that_overflow);
    RUN(units_do_not_matter_to_ranges_and_searches);
    RUN(units_do_not_matter_to_percentiles);
    RUN(searches_beat_minmax_where_there_are_outliers);
    RUN(searches_find_the_best_of_their_grid);
    RUN(every_row_gets_its_own_best_scale);
    RUN(grid_settings_move_the_grid);
    RUN(minmax_of_a_matmul_site_is_known_exactly);
    RUN(searches_of_matmul_sites_beat_minmax);
    RUN(softmax_inputs_share_one_quantizer_and_may_be_twins);
    RUN(gelu_inputs_may_be_twins);
    RUN(twins_are_nearer_at_few_bits);
    RUN(images_stay_as_they_are);
    RUN(equalizing_preserves_the_function);
    RUN(equalizing_helps_uneven_channels);
    RUN(only_inputs_whose_producer_can_apply_it_are_equalized);
    RUN(producers_carry_what_their_consumer_asks_for);
    RUN(readers_of_one_tensor_get_one_quantizer);
    RUN(zeros_of_every_kind_are_solved);
    RUN(single_rows_and_constants_are_solved);
    RUN(vanishing_weights_are_solved);
    RUN(vanishing_inputs_are_solved);
    RUN(huge_numbers_are_solved);
    RUN(degenerate_operands_of_matmul_sites_are_solved);
    RUN(later_settings_replace_earlier_ones);
    RUN(images_need_no_observation_without_a_search);
    RUN(any_subset_is_solved);
    RUN(sites_behind_a_quantized_prefix_fit_what_they_will_see);
    RUN(sites_without_a_quantized_part_use_the_float_one);
    RUN(results_outlive_their_calibrator);
    RUN(progress_rises_and_cancelling_keeps_what_is_finished);
    RUN(cancelling_leaves_older_results);
    RUN(linear_plans_do_what_was_simulated);
    RUN(matmul_plans_do_what_was_simulated);
    return test_end();
}
