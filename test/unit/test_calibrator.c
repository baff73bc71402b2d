/*
 * test_calibrator.c - from observations to results: what is solved and what a result holds, progress, and
 * that plans do what was simulated.
 */
#include "solving.h"

/* ---- recipes and settings ---- */

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

/* ---- results ---- */

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

/* ---- progress ---- */

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
    RUN(codes_and_bias_are_those_of_the_floats);
    RUN(absent_parts_have_no_data);
    RUN(later_settings_replace_earlier_ones);
    RUN(any_subset_is_solved);
    RUN(results_outlive_their_calibrator);
    RUN(progress_rises_and_cancelling_keeps_what_is_finished);
    RUN(cancelling_leaves_older_results);
    RUN(linear_plans_do_what_was_simulated);
    RUN(matmul_plans_do_what_was_simulated);
    return test_end();
}
