/*
 * test_calibrator_errors.c - what the calibrator refuses: every failed call must return the status that
 * qvit.h names, say why, and leave its objects as they were.
 */
#include <float.h>

#include "calibration.h"

/* ---- NULL ---- */

static void null_is_refused_everywhere(void)
{
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(2, 3, 1);
    qvit_calibrator *c = (qvit_calibrator *)&w;
    REFUSED(qvit_calibrator_create(NULL, NULL, &c, &why), QVIT_ERR_ARGUMENT);
    CHECK(!c);
    REFUSED(qvit_calibrator_create(engine, NULL, NULL, &why), QVIT_ERR_ARGUMENT);
    c = calibrator_new(engine);
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.weight = &w;
    REFUSED(qvit_calibrator_add_site(NULL, &site, NULL, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_add_site(c, NULL, NULL, &why), QVIT_ERR_ARGUMENT);
    MUST(qvit_calibrator_add_site(c, &site, NULL, NULL)); /* neither number nor error wanted */
    MUST(qvit_calibrator_add_site(c, &site, NULL, NULL));
    const size_t both[2] = {0, 1};
    REFUSED(qvit_calibrator_tie(NULL, QVIT_TIE_INPUT, both, 2, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_tie(c, QVIT_TIE_INPUT, NULL, 2, &why), QVIT_ERR_ARGUMENT);
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.input = &w;
    REFUSED(qvit_calibrator_observe(NULL, &seen, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_observe(c, NULL, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_solve(NULL, NULL, &why), QVIT_ERR_ARGUMENT);
    qvit_result *r = (qvit_result *)&w;
    REFUSED(qvit_calibrator_result(NULL, 0, &r, &why), QVIT_ERR_ARGUMENT);
    CHECK(!r);
    REFUSED(qvit_calibrator_result(c, 0, NULL, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_result(c, 2, &r, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_result(c, SIZE_MAX, &r, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_calibrator_observe(NULL, NULL, NULL), QVIT_ERR_ARGUMENT);
    give_back();
}

/* ---- sites ---- */

static qvit_status added(qvit_calibrator *c, qvit_site_type type, qvit_input_kind kind,
                         const qvit_tensor *weight, const qvit_tensor *bias)
{
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    o.type = type, o.input_kind = kind, o.weight = weight, o.bias = bias;
    return qvit_calibrator_add_site(c, &o, NULL, &why);
}

static void bad_sites_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), line = normals(1, (size_t[]){4}, 1);
    qvit_tensor cube = normals(3, (size_t[]){1, 3, 4}, 1);
    qvit_tensor bytes = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){3, 4}).t;
    qvit_site_options no_weight = QVIT_SITE_OPTIONS_INIT;
    size_t site = 77;
    REFUSED(qvit_calibrator_add_site(c, &no_weight, &site, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(site, 77);
    const int32_t unknown[] = {-1, 0, 3, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 5; i++) REFUSED(added(c, unknown[i], 0, &w, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_LINEAR, -1, &w, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_LINEAR, 5, &w, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, NULL, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &line, NULL), QVIT_ERR_SHAPE);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &cube, NULL), QVIT_ERR_SHAPE);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &bytes, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &w, &line), QVIT_ERR_SHAPE);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &w, &w), QVIT_ERR_SHAPE);
    REFUSED(added(c, QVIT_SITE_MATMUL, 0, &w, NULL), QVIT_ERR_ARGUMENT);
    REFUSED(added(c, QVIT_SITE_MATMUL, 0, NULL, &line), QVIT_ERR_ARGUMENT);
    for (int d = 0; d < 2; d++) {
        qvit_tensor empty = w;
        empty.dims[d] = 0;
        REFUSED(added(c, QVIT_SITE_LINEAR, 0, &empty, NULL), QVIT_ERR_SHAPE);
        empty.dims[d] = SIZE_MAX / 2;
        REFUSED(added(c, QVIT_SITE_LINEAR, 0, &empty, NULL), QVIT_ERR_SHAPE);
    }
    /* Kinds that make no sense here are never silently taken for another. */
    REFUSED(added(c, QVIT_SITE_LINEAR, QVIT_INPUT_SOFTMAX, &w, NULL), QVIT_ERR_UNSUPPORTED);
    REFUSED(added(c, QVIT_SITE_MATMUL, QVIT_INPUT_IMAGE, NULL, NULL), QVIT_ERR_UNSUPPORTED);
    REFUSED(added(c, QVIT_SITE_MATMUL, QVIT_INPUT_GELU, NULL, NULL), QVIT_ERR_UNSUPPORTED);
    REFUSED(added(c, QVIT_SITE_MATMUL, QVIT_INPUT_LAYER_NORM, NULL, NULL), QVIT_ERR_UNSUPPORTED);
    CHECK_EQ(add_linear(c, 0, &w, NULL), 0); /* none of them took a number */
    give_back();
}

static void weights_that_are_not_finite_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), bias = normals(1, (size_t[]){3}, 1);
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++)
        for (size_t i = 0; i < 15; i++) {
            qvit_tensor *t = i < 12 ? &w : &bias;
            size_t at = i < 12 ? i : i - 12;
            double good = tensor_get(t, at);
            tensor_set(t, at, bad[b]);
            REFUSED(added(c, QVIT_SITE_LINEAR, 0, &w, &bias), QVIT_ERR_VALUE);
            tensor_set(t, at, good);
        }
    tensor_set(&w, 0, (double)FLT_MAX);
    CHECK_EQ(added(c, QVIT_SITE_LINEAR, 0, &w, &bias), QVIT_OK);
    give_back();
}

static void sites_and_ties_come_before_observations(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 3, 1);
    add_linear(c, 0, &w, NULL), add_linear(c, 0, &w, NULL);
    observe(c, 1, &w);
    REFUSED(added(c, QVIT_SITE_LINEAR, 0, &w, NULL), QVIT_ERR_STATE);
    REFUSED(tie(c, QVIT_TIE_INPUT, 0, 1), QVIT_ERR_STATE);
    REFUSED(tie(c, QVIT_TIE_PRODUCER, 0, 1), QVIT_ERR_STATE);
    give_back();
}

/* A first observation that failed was none: sites may still come. */
static void a_failed_observation_is_none(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 3, 1), x = matrix(5, 3, 1);
    add_linear(c, 0, &w, NULL);
    tensor_set(&x, 14, NAN);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &x;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_VALUE);
    CHECK_EQ(add_linear(c, 0, &w, NULL), 1);
    MUST(tie(c, QVIT_TIE_INPUT, 0, 1));
    REFUSED(solve_status(c, NULL, 8, 8, NULL), QVIT_ERR_STATE);
    give_back();
}

/* ---- ties ---- */

static void ties_that_do_not_fit_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w34 = matrix(3, 4, 1), w43 = matrix(4, 3, 1);
    size_t a = add_linear(c, 0, &w34, NULL), b = add_linear(c, 0, &w34, NULL);
    size_t other_size = add_linear(c, 0, &w43, NULL);
    size_t other_kind = add_linear(c, QVIT_INPUT_GELU, &w34, NULL);
    size_t matmul = add_matmul(c, 0, 2, true);
    REFUSED(tie(c, QVIT_TIE_INPUT, a, other_size), QVIT_ERR_SHAPE);
    REFUSED(tie(c, QVIT_TIE_INPUT, a, other_kind), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_INPUT, a, matmul), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_INPUT, a, a), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_INPUT, a, 5), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_INPUT, SIZE_MAX, a), QVIT_ERR_ARGUMENT);
    const qvit_tie unknown[] = {0, 3, -1, INT32_MAX};
    for (size_t i = 0; i < 4; i++) REFUSED(tie(c, unknown[i], a, b), QVIT_ERR_ARGUMENT);
    const size_t three[3] = {a, b, other_size};
    REFUSED(qvit_calibrator_tie(c, QVIT_TIE_INPUT, three, 0, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_tie(c, QVIT_TIE_INPUT, three, 1, &why), QVIT_ERR_ARGUMENT);
    REFUSED(qvit_calibrator_tie(c, QVIT_TIE_PRODUCER, three, 3, &why), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_PRODUCER, a, b), QVIT_ERR_SHAPE); /* 3 outputs, 4 inputs */
    REFUSED(tie(c, QVIT_TIE_PRODUCER, a, matmul), QVIT_ERR_ARGUMENT);
    MUST(tie(c, QVIT_TIE_PRODUCER, a, other_size));
    REFUSED(tie(c, QVIT_TIE_PRODUCER, a, other_size), QVIT_ERR_ARGUMENT);
    REFUSED(tie(c, QVIT_TIE_PRODUCER, b, other_size), QVIT_ERR_ARGUMENT);
    MUST(tie(c, QVIT_TIE_INPUT, a, b));
    REFUSED(tie(c, QVIT_TIE_INPUT, b, a), QVIT_ERR_ARGUMENT);
    give_back();
}

static void sites_with_one_input_are_solved_together(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = matrix(9, 4, 1);
    for (int i = 0; i < 3; i++) add_linear(c, 0, &w, NULL);
    MUST(tie(c, QVIT_TIE_INPUT, 0, 2));
    for (size_t i = 0; i < 3; i++) observe(c, i, &x);
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    const size_t one[] = {0}, last[] = {2, 1}, both[] = {2, 0, 2};
    o.sites = one, o.site_count = 1;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    o.sites = last, o.site_count = 2;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    o.sites = both, o.site_count = 3;
    MUST(qvit_calibrator_solve(c, &o, &why));
    give_back();
}

/* ---- observations ---- */

static qvit_status seen_linear(qvit_calibrator *c, const qvit_tensor *input,
                               const qvit_tensor *quantized, const qvit_tensor *gradient)
{
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = input, o.input_quantized = quantized, o.gradient = gradient;
    return qvit_calibrator_observe(c, &o, &why);
}

static void bad_observations_of_linear_sites_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = normals(3, (size_t[]){2, 5, 4}, 1);
    qvit_tensor g = normals(3, (size_t[]){2, 5, 3}, 1), flat = matrix(10, 4, 1);
    add_linear(c, 0, &w, NULL);
    REFUSED(seen_linear(c, NULL, NULL, NULL), QVIT_ERR_ARGUMENT);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &x, o.site = 1;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_ARGUMENT);
    o.site = 0, o.second = &x;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_ARGUMENT);
    qvit_tensor wide = matrix(10, 5, 1), line = normals(1, (size_t[]){4}, 1);
    qvit_tensor four = normals(4, (size_t[]){1, 2, 5, 4}, 1);
    REFUSED(seen_linear(c, &wide, NULL, NULL), QVIT_ERR_SHAPE);
    REFUSED(seen_linear(c, &line, NULL, NULL), QVIT_ERR_SHAPE);
    REFUSED(seen_linear(c, &four, NULL, NULL), QVIT_ERR_SHAPE);
    REFUSED(seen_linear(c, NULL, NULL, &x), QVIT_ERR_SHAPE);  /* gradients have 3 outputs */
    REFUSED(seen_linear(c, &x, &flat, NULL), QVIT_ERR_SHAPE); /* 2 samples, and 10 */
    qvit_tensor fewer = g;
    fewer.dims[1] = 4;
    REFUSED(seen_linear(c, &x, NULL, &fewer), QVIT_ERR_SHAPE);
    qvit_tensor bytes = view_dense(QVIT_DTYPE_U8, 3, x.dims).t; /* for images only */
    CHECK(seen_linear(c, &bytes, NULL, NULL) != QVIT_OK);
    for (int d = 0; d < 3; d++) {
        qvit_tensor empty = x;
        empty.dims[d] = 0;
        REFUSED(seen_linear(c, &empty, NULL, NULL), QVIT_ERR_SHAPE);
        empty.dims[d] = SIZE_MAX / 4;
        REFUSED(seen_linear(c, &empty, NULL, NULL), QVIT_ERR_SHAPE);
    }
    MUST(seen_linear(c, &x, &x, &g)); /* and none of them left anything behind */
    solve(c, NULL, 8, 8, NULL);
    give_back();
}

static void numbers_that_are_not_finite_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1);
    add_linear(c, 0, &w, NULL), add_matmul(c, 0, 2, true);
    qvit_tensor parts[3] = {matrix(6, 4, 1), matrix(6, 4, 1), matrix(6, 3, 1)};
    qvit_tensor left = normals(4, (size_t[]){1, 2, 3, 4}, 1);
    qvit_tensor right = normals(4, (size_t[]){1, 2, 5, 4}, 1);
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++) {
        for (size_t p = 0; p < 3; p++) {
            size_t at = test_below(tensor_count(&parts[p]));
            double good = tensor_get(&parts[p], at);
            tensor_set(&parts[p], at, bad[b]);
            REFUSED(seen_linear(c, &parts[0], &parts[1], &parts[2]), QVIT_ERR_VALUE);
            tensor_set(&parts[p], at, good);
        }
        for (int side = 0; side < 2; side++) {
            qvit_tensor *t = side ? &right : &left;
            size_t at = test_below(tensor_count(t));
            double good = tensor_get(t, at);
            tensor_set(t, at, bad[b]);
            qvit_observation o = QVIT_OBSERVATION_INIT;
            o.site = 1, o.input = &left, o.second = &right;
            REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_VALUE);
            tensor_set(t, at, good);
        }
    }
    MUST(seen_linear(c, &parts[0], &parts[1], &parts[2]));
    give_back();
}

static void bad_observations_of_matmul_sites_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    add_matmul(c, 0, 2, true);
    qvit_tensor left = normals(4, (size_t[]){2, 2, 3, 4}, 1);
    qvit_tensor right = normals(4, (size_t[]){2, 2, 5, 4}, 1);
    qvit_tensor other_k = normals(4, (size_t[]){2, 2, 5, 6}, 1);
    qvit_tensor other_heads = normals(4, (size_t[]){2, 3, 5, 4}, 1);
    qvit_tensor flat = normals(3, (size_t[]){2, 5, 4}, 1);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &left;
    const qvit_tensor *bad[] = {&other_k, &other_heads, &flat};
    for (size_t i = 0; i < 3; i++) {
        o.second = bad[i];
        REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_SHAPE);
    }
    o.second = &right;
    MUST(qvit_calibrator_observe(c, &o, &why));
    o = (qvit_observation)QVIT_OBSERVATION_INIT;
    o.first_sample = 2;
    qvit_tensor other_n = normals(4, (size_t[]){2, 2, 6, 4}, 1);
    o.second = &other_n; /* n is known by now */
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_SHAPE);
    o.second = NULL, o.gradient = &left; /* gradients are as wide as n */
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_SHAPE);
    solve(c, NULL, 8, 8, NULL);
    give_back();
}

static void a_part_of_a_row_comes_once(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = matrix(6, 4, 1), g = matrix(6, 3, 1);
    add_linear(c, 0, &w, NULL);
    MUST(seen_linear(c, &x, NULL, NULL));
    REFUSED(seen_linear(c, &x, NULL, NULL), QVIT_ERR_STATE);
    REFUSED(seen_linear(c, &x, &x, &g), QVIT_ERR_STATE);
    MUST(seen_linear(c, NULL, &x, NULL));
    REFUSED(seen_linear(c, NULL, &x, NULL), QVIT_ERR_STATE);
    MUST(seen_linear(c, NULL, NULL, &g));
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &x, o.first_sample = 5; /* only its first row came before */
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
    o.first_sample = 6;
    MUST(qvit_calibrator_observe(c, &o, &why));

    c = calibrator_new(engine_new());
    add_matmul(c, 0, 1, true);
    qvit_tensor m = normals(4, (size_t[]){2, 1, 3, 4}, 1);
    observe_pair(c, 0, &m, &m);
    o = (qvit_observation)QVIT_OBSERVATION_INIT;
    o.second = &m;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
    o.second = NULL, o.input = &m;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
    o.first_row = 3;
    MUST(qvit_calibrator_observe(c, &o, &why));
    give_back();
}

/* Numbers of rows and samples must not wrap around to ones that were there before. */
static void numbers_of_rows_that_wrap_are_refused(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = normals(3, (size_t[]){1, 6, 4}, 1);
    qvit_tensor g = normals(3, (size_t[]){1, 6, 3}, 1);
    add_linear(c, 0, &w, NULL);
    const uint64_t rows[] = {UINT64_MAX - 2, UINT64_MAX, (uint64_t)1 << 32, (uint64_t)1 << 31,
                             ((uint64_t)1 << 31) - 5};
    for (size_t i = 0; i < 5; i++) {
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.first_row = rows[i], o.input = &x;
        REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_ARGUMENT);
        o.input = NULL, o.gradient = &g;
        REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_ARGUMENT);
    }
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.first_row = ((uint64_t)1 << 31) - 7, o.input = &x;
    MUST(qvit_calibrator_observe(c, &o, &why));
    give_back();
}

static void too_little_memory_is_refused(void)
{
    for (uint64_t cap = 1; cap <= 64; cap *= 8) {
        qvit_calibrator *c = calibrator_capped(engine_new(), 0, cap, 0);
        qvit_tensor w = matrix(3, 64, 1), x = matrix(6, 64, 1);
        qvit_tensor m = normals(4, (size_t[]){2, 1, 9, 9}, 1);
        add_linear(c, 0, &w, NULL), add_matmul(c, 0, 1, true);
        REFUSED(seen_linear(c, &x, NULL, NULL), QVIT_ERR_ARGUMENT);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.site = 1, o.input = &m, o.second = &m;
        REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_ARGUMENT);
        give_back();
    }
}

/* ---- solving ---- */

static void results_come_after_solving_and_solving_after_observing(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = matrix(6, 4, 1), g = matrix(6, 3, 1);
    qvit_tensor m = normals(4, (size_t[]){2, 1, 9, 9}, 1);
    add_linear(c, 0, &w, NULL), add_matmul(c, 0, 1, true);
    qvit_result *r;
    REFUSED(qvit_calibrator_result(c, 0, &r, &why), QVIT_ERR_STATE);
    REFUSED(solve_status(c, NULL, 8, 8, NULL), QVIT_ERR_STATE);
    MUST(seen_linear(c, NULL, NULL, &g)); /* a gradient alone is nothing to choose from */
    REFUSED(solve_status(c, NULL, 8, 8, NULL), QVIT_ERR_STATE);
    observe(c, 0, &x);
    REFUSED(solve_status(c, NULL, 8, 8, NULL), QVIT_ERR_STATE);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = 1, o.input = &m;
    MUST(qvit_calibrator_observe(c, &o, &why));
    REFUSED(solve_status(c, "mse", 8, 8, NULL), QVIT_ERR_STATE); /* both operands are needed */
    REFUSED(qvit_calibrator_result(c, 1, &r, &why), QVIT_ERR_STATE);
    o.input = NULL, o.second = &m;
    MUST(qvit_calibrator_observe(c, &o, &why));
    solve(c, "mse", 8, 8, "candidates=3");
    give_back();
}

/* Parts that never meet in one row are no observation of a product. */
static void searches_need_rows_that_are_whole(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    add_matmul(c, 0, 1, true);
    qvit_tensor m = normals(4, (size_t[]){1, 1, 4, 4}, 1);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &m;
    MUST(qvit_calibrator_observe(c, &o, &why));
    o.input = NULL, o.second = &m, o.first_sample = 1;
    MUST(qvit_calibrator_observe(c, &o, &why));
    REFUSED(solve_status(c, "cosine", 8, 8, NULL), QVIT_ERR_STATE);
    give_back();
}

static qvit_calibrator *ready(void)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_tensor w = matrix(3, 4, 1), x = matrix(6, 4, 1);
    add_linear(c, 0, &w, NULL);
    observe(c, 0, &x);
    return c;
}

static void unknown_recipes_settings_and_values_are_refused(void)
{
    qvit_calibrator *c = ready();
    const char *const names[] = {"", "min", "minmax ", "MINMAX", "hessian"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        REFUSED(solve_status(c, names[i], 8, 8, NULL), QVIT_ERR_ARGUMENT);
    const char *const bad[] = {
        "twin",
        "twin=",
        "twin=both",
        "twin=softmax,",
        "twin=gelu,gelu",
        "=",
        "=1",
        "nothing=1",
        "Twin=none",
        "input=",
        "input=signed",
        "weights=column",
        "weights=",
        "percentile=49.9",
        "percentile=100.1",
        "percentile=",
        "percentile=nan",
        "percentile=-60",
        "percentile=9e1",
        "percentile=0x60",
        "low=0",
        "low=-1",
        "low=inf",
        "high=0",
        "high=1,2",
        "low=1.3",
        "candidates=0",
        "candidates=1.5",
        "candidates=-1",
        "candidates=1000000",
        "rounds=0",
        "rounds=21",
        "rounds=2x",
        "refine=-1",
        "refine=101",
        "metric=best",
        "metric=",
        "ratio=2",
        "uneven=-1",
        "uneven=2.5",
        "uneven=65",
        "grid=fine",
        "channels=",
        "rounding=up",
        "bias=1",
        "equalize=1.1",
        "equalize=-0.1",
        "equalize=.",
        "equalize=1e",
        "candidates=99999999999999999999",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (solve_status(c, "mse", 8, 8, bad[i]) != QVIT_ERR_ARGUMENT) FAIL("accepted %s", bad[i]);
        CHECK(why.text[0]);
    }
    qvit_result *r;
    REFUSED(qvit_calibrator_result(c, 0, &r, &why), QVIT_ERR_STATE); /* nothing was solved */
    const char *const good[] = {
        "twin=none",        "twin=softmax",           "twin=gelu",        "twin=softmax,gelu",
        "input=symmetric",  "weights=layer",          "weights=row",      "percentile=50",
        "percentile=100",   "percentile=99.995",      "low=0.9 high=0.9", "low=0.01",
        "candidates=1",     "rounds=10 candidates=2", "equalize=1",       "equalize=0",
        "input=asymmetric",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (solve_status(c, "mse", 8, 8, good[i])) FAIL("%s: %s", good[i], why.text);
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.setting_count = 1;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    const char *none[] = {NULL};
    o.settings = none;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    give_back();
}

static void widths_out_of_range_are_refused(void)
{
    qvit_calibrator *c = ready();
    const int32_t bad[] = {-8, -1, 1, 9, 16, 32, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        REFUSED(solve_status(c, NULL, bad[i], 8, NULL), QVIT_ERR_ARGUMENT);
        REFUSED(solve_status(c, NULL, 8, bad[i], NULL), QVIT_ERR_ARGUMENT);
    }
    solve(c, NULL, 0, 0, NULL); /* the default, 8 */
    CHECK_EQ(qvit_quantizer_bits(input_of(result_of(c, 0))), 8);
    CHECK_EQ(qvit_quantizer_bits(second_of(result_of(c, 0))), 8);
    give_back();
}

static void sites_that_do_not_exist_are_not_solved(void)
{
    qvit_calibrator *c = ready();
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.site_count = 1;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    const size_t none[] = {0, 1};
    o.sites = none, o.site_count = 2;
    REFUSED(qvit_calibrator_solve(c, &o, &why), QVIT_ERR_ARGUMENT);
    qvit_result *r;
    REFUSED(qvit_calibrator_result(c, 0, &r, &why), QVIT_ERR_STATE);
    give_back();
}

static void failed_solving_keeps_older_results(void)
{
    qvit_calibrator *c = ready();
    solve(c, "mse", 3, 3, NULL);
    struct bytes before = bytes_of_results(c, 1);
    CHECK(solve_status(c, "none", 8, 8, NULL) != QVIT_OK);
    CHECK(solve_status(c, "mse", 8, 8, "rounds=99") != QVIT_OK);
    CHECK(solve_status(c, "mse", 1, 8, NULL) != QVIT_OK);
    struct bytes after = bytes_of_results(c, 1);
    bool same = bytes_equal(&before, &after);
    bytes_free(&before), bytes_free(&after);
    CHECK(same);
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(null_is_refused_everywhere);
    RUN(bad_sites_are_refused);
    RUN(weights_that_are_not_finite_are_refused);
    RUN(sites_and_ties_come_before_observations);
    RUN(a_failed_observation_is_none);
    RUN(ties_that_do_not_fit_are_refused);
    RUN(sites_with_one_input_are_solved_together);
    RUN(bad_observations_of_linear_sites_are_refused);
    RUN(numbers_that_are_not_finite_are_refused);
    RUN(bad_observations_of_matmul_sites_are_refused);
    RUN(a_part_of_a_row_comes_once);
    RUN(numbers_of_rows_that_wrap_are_refused);
    RUN(too_little_memory_is_refused);
    RUN(results_come_after_solving_and_solving_after_observing);
    RUN(searches_need_rows_that_are_whole);
    RUN(unknown_recipes_settings_and_values_are_refused);
    RUN(widths_out_of_range_are_refused);
    RUN(sites_that_do_not_exist_are_not_solved);
    RUN(failed_solving_keeps_older_results);
    return test_end();
}
