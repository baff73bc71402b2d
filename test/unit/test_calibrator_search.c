/*
 * test_calibrator_search.c - recipes that search, at linear sites: what they find is the best of their
 * grid, for the inputs that the site will see.
 */
#include "solving.h"

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

/* ---- the best of the grid ---- */

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

/* ---- behind a quantized prefix ---- */

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

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(searches_refuse_sums_that_overflow);
    RUN(searches_beat_minmax_where_there_are_outliers);
    RUN(searches_find_the_best_of_their_grid);
    RUN(every_row_gets_its_own_best_scale);
    RUN(grid_settings_move_the_grid);
    RUN(sites_behind_a_quantized_prefix_fit_what_they_will_see);
    RUN(sites_without_a_quantized_part_use_the_float_one);
    return test_end();
}
