/*
 * test_calibrator_failures.c - failure leaves no trace: after refused observations, and allocations that
 * fail, the results must be those of a run in which nothing went wrong.
 */
#include "calibration.h"

/* ---- failure leaves nothing behind ---- */

enum { MANY = 30, ROWS = 3, K = 4, N = 5 }; /* more samples than the matrices that are kept */

static struct {
    qvit_tensor w, x, xq, g;       /* one linear site, MANY samples */
    qvit_tensor left, right, huge; /* one matmul site; `huge`: another n, of which few would fit */
} data;

static void make_data(void)
{
    data.w = matrix(N, K, 1);
    data.x = normals(3, (size_t[]){MANY, ROWS, K}, 1);
    data.xq = normals(3, (size_t[]){MANY, ROWS, K}, 1);
    data.g = normals(3, (size_t[]){MANY, ROWS, N}, 1);
    data.left = normals(4, (size_t[]){MANY, 2, ROWS, K}, 1);
    data.right = normals(4, (size_t[]){MANY, 2, N, K}, 1);
    data.huge = normals(4, (size_t[]){1, 2, 400, K}, 1);
}

static qvit_tensor samples(const qvit_tensor *t, size_t first, size_t count)
{
    qvit_tensor part = *t;
    part.data = (float *)t->data + (ptrdiff_t)first * t->strides[0];
    part.dims[0] = count;
    return part;
}

/* Bad calls of every kind, each with something good in front of the bad. */
static void disturb(qvit_calibrator *c, size_t seen)
{
    qvit_tensor x = samples(&data.x, seen, MANY - seen), xq = samples(&data.xq, seen, MANY - seen);
    qvit_tensor again = data.x, left_again = data.left;
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.first_sample = seen, o.input = &x, o.input_quantized = &xq, o.gradient = &data.left;
    CHECK(qvit_calibrator_observe(c, &o, &why) != QVIT_OK); /* wrong shape, last */
    double good = tensor_get(&xq, tensor_count(&xq) - 1);
    tensor_set(&xq, tensor_count(&xq) - 1, NAN);
    o.gradient = NULL;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_VALUE); /* the last number of all */
    tensor_set(&xq, tensor_count(&xq) - 1, good);
    if (!seen) return;
    o = (qvit_observation)QVIT_OBSERVATION_INIT;
    o.input = &again;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE); /* old rows, then new ones */
    o.site = 1, o.input = &left_again;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
}

static void show(qvit_calibrator *c, size_t first, size_t count)
{
    qvit_tensor x = samples(&data.x, first, count), xq = samples(&data.xq, first, count);
    qvit_tensor left = samples(&data.left, first, count);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.first_sample = first, o.input = &x, o.input_quantized = &xq;
    MUST(qvit_calibrator_observe(c, &o, &why));
    o = (qvit_observation)QVIT_OBSERVATION_INIT;
    o.first_sample = first, o.site = 1, o.input = &left;
    MUST(qvit_calibrator_observe(c, &o, &why));
}

/* A right operand of another n, together with a part that came before: refused as a whole. */
static void disturb_with_another_n(qvit_calibrator *c)
{
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = 1, o.input = &data.left, o.second = &data.huge;
    REFUSED(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
}

static struct bytes run_of_errors(bool disturbed, bool another_n)
{
    qvit_calibrator *c = calibrator_capped(engine_new(), 5, 150000, 32);
    add_linear(c, 0, &data.w, NULL), add_matmul(c, 0, 2, true);
    if (disturbed) disturb(c, 0);
    show(c, 0, MANY / 2);
    if (disturbed) disturb(c, MANY / 2);
    show(c, MANY / 2, MANY - MANY / 2);
    if (disturbed && another_n) disturb_with_another_n(c);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = 1, o.second = &data.right;
    MUST(qvit_calibrator_observe(c, &o, &why));
    struct bytes all = {0};
    for (int32_t quantized = 0; quantized < 2; quantized++) {
        qvit_solve_options s = QVIT_SOLVE_OPTIONS_INIT;
        s.recipe = "mse", s.use_quantized = quantized, s.weight_bits = s.input_bits = 5;
        MUST(qvit_calibrator_solve(c, &s, &why));
        struct bytes one = bytes_of_results(c, 2);
        bytes_add(&all, one.data, one.size);
        bytes_free(&one);
    }
    forget_calibrators();
    return all;
}

static void compare_runs(bool another_n)
{
    make_data();
    struct bytes clean = run_of_errors(false, another_n), got = run_of_errors(true, another_n);
    bool same = bytes_equal(&clean, &got);
    bytes_free(&clean), bytes_free(&got);
    CHECK(same);
    give_back();
}

static void failed_observations_leave_nothing_behind(void) { compare_runs(false); }

static void a_refused_size_leaves_kept_matrices_alone(void) { compare_runs(true); }

/* ---- every allocation fails once ---- */

/* One run through everything, on a heap that may fail. A call that fails must say NO_MEMORY; then
 * memory is back and the same call must work. */
struct trial {
    struct heap heap;
    size_t failures;
};

static bool again(struct trial *t, qvit_status status)
{
    if (status == QVIT_OK) return false;
    CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
    CHECK_EQ(why.status, QVIT_ERR_NO_MEMORY);
    CHECK(t->heap.fail_at);
    t->heap.fail_at = 0;
    t->failures++;
    return true;
}

/* At most one call fails in a run: afterwards the heap has memory again. */
#define TWICE(call)                                                                                \
    do {                                                                                           \
        if (again(t, (call))) MUST(call);                                                          \
    } while (0)

static void try_sites(struct trial *t, qvit_calibrator *c)
{
    qvit_site_options linear = QVIT_SITE_OPTIONS_INIT, matmul = QVIT_SITE_OPTIONS_INIT;
    linear.weight = &data.w, linear.input_kind = QVIT_INPUT_LAYER_NORM;
    matmul.type = QVIT_SITE_MATMUL, matmul.heads = 2, matmul.second_transposed = 1;
    size_t site = 0;
    TWICE(qvit_calibrator_add_site(c, &linear, &site, &why));
    CHECK_EQ(site, 0);
    TWICE(qvit_calibrator_add_site(c, &matmul, &site, &why));
    CHECK_EQ(site, 1);
    for (size_t i = 2; i < 20; i++) TWICE(qvit_calibrator_add_site(c, &linear, &site, &why));
    CHECK_EQ(site, 19);
    const size_t both[2] = {0, 2};
    TWICE(qvit_calibrator_tie(c, QVIT_TIE_INPUT, both, 2, &why));
}

static void try_observations(struct trial *t, qvit_calibrator *c)
{
    for (size_t half = 0; half < 2; half++) {
        size_t first = half * MANY / 2;
        qvit_tensor x = samples(&data.x, first, MANY / 2), xq = samples(&data.xq, first, MANY / 2);
        qvit_tensor g = samples(&data.g, first, MANY / 2);
        qvit_tensor left = samples(&data.left, first, MANY / 2);
        qvit_tensor right = samples(&data.right, first, MANY / 2);
        for (size_t site = 0; site <= 2; site += 2) {
            qvit_observation o = QVIT_OBSERVATION_INIT;
            o.site = site, o.first_sample = first, o.input = &x;
            TWICE(qvit_calibrator_observe(c, &o, &why));
            o.input = NULL, o.input_quantized = &xq, o.gradient = &g;
            TWICE(qvit_calibrator_observe(c, &o, &why));
        }
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.site = 1, o.first_sample = first, o.input = &left;
        TWICE(qvit_calibrator_observe(c, &o, &why));
        o.input = NULL, o.second = &right, o.input_quantized = &left, o.second_quantized = &right;
        TWICE(qvit_calibrator_observe(c, &o, &why));
    }
}

static void try_solving(struct trial *t, qvit_calibrator *c, struct bytes *out)
{
    const size_t sites[] = {0, 1, 2};
    const char *settings[] = {"candidates=3", "equalize=0.5"};
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.sites = sites, o.site_count = 3, o.settings = settings, o.setting_count = 2;
    o.recipe = "mse", o.weight_bits = 4, o.use_quantized = 1;
    TWICE(qvit_calibrator_solve(c, &o, &why));
    for (size_t i = 0; i < 3; i++) {
        qvit_result *r = (qvit_result *)&o;
        if (again(t, qvit_calibrator_result(c, i, &r, &why))) {
            CHECK(!r);
            MUST(qvit_calibrator_result(c, i, &r, &why));
        }
        bytes_add_result(out, r);
        qvit_result_destroy(r);
    }
}

static struct bytes try_all(struct trial *t)
{
    qvit_allocator hook = heap_hook(&t->heap);
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.allocator = &hook, options.isa_disable = isa_left_out();
    qvit_engine *engine;
    TWICE(qvit_engine_create(&options, &engine, &why));
    qvit_calibrator_options cap = QVIT_CALIBRATOR_OPTIONS_INIT;
    cap.max_rows = 40;
    qvit_calibrator *c;
    TWICE(qvit_calibrator_create(engine, &cap, &c, &why));
    struct bytes out = {0};
    try_sites(t, c);
    try_observations(t, c);
    try_solving(t, c, &out);
    qvit_calibrator_destroy(c);
    qvit_engine_destroy(engine);
    heap_check_empty(&t->heap);
    return out;
}

static void check_failures(size_t fail_count)
{
    make_data();
    struct trial t = {.heap = {0}};
    struct bytes expected = try_all(&t);
    size_t calls = t.heap.calls, missed = 0;
    CHECK(calls > 100);
    for (size_t i = 1; i <= calls; i++) {
        t = (struct trial){.heap = {.fail_at = i, .fail_count = fail_count}};
        struct bytes got = try_all(&t);
        bool same = bytes_equal(&got, &expected);
        bytes_free(&got);
        if (!same) FAIL("allocation %zu of %zu failed: other results", i, calls);
        missed += t.failures == 0;
    }
    bytes_free(&expected);
    CHECK_EQ(missed, 0); /* no failure was passed over in silence */
    give_back();
}

static void every_allocation_may_fail_once(void) { check_failures(1); }

static void every_allocation_may_be_the_first_of_many_to_fail(void) { check_failures(SIZE_MAX); }

/* Nothing was seen before, and nothing afterwards: solving must still say so. */
static void an_observation_without_memory_is_none(void)
{
    make_data();
    const size_t mark = kept.count;
    for (size_t site = 0; site < 2; site++)
        for (size_t at = 1;; at++) {
            struct heap heap = {0};
            qvit_allocator hook = heap_hook(&heap);
            qvit_engine *engine = engine_with(0, &hook, NULL);
            qvit_calibrator *c = calibrator_new(engine);
            add_linear(c, 0, &data.w, NULL), add_matmul(c, 0, 2, true);
            qvit_observation o = QVIT_OBSERVATION_INIT;
            o.site = site, o.input = site ? &data.left : &data.x;
            o.input_quantized = o.input, o.second = o.second_quantized = site ? &data.right : NULL;
            heap.fail_at = heap.calls + at, heap.fail_count = 1;
            qvit_status status = qvit_calibrator_observe(c, &o, &why);
            heap.fail_at = 0;
            qvit_solve_options s = QVIT_SOLVE_OPTIONS_INIT;
            s.sites = &site, s.site_count = 1;
            qvit_status solved = qvit_calibrator_solve(c, &s, &why);
            bool late = qvit_calibrator_add_site(c, &(qvit_site_options)QVIT_SITE_OPTIONS_INIT,
                                                 NULL, &why) == QVIT_ERR_STATE;
            forget_calibrators();
            release_to(mark);
            heap_check_empty(&heap);
            if (status == QVIT_OK) break;
            CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
            CHECK(!late);
            if (solved != QVIT_ERR_STATE)
                FAIL("site %zu, allocation %zu failed: solving gives %s", site, at,
                     qvit_status_name(solved));
        }
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(failed_observations_leave_nothing_behind);
    RUN(a_refused_size_leaves_kept_matrices_alone);
    RUN(every_allocation_may_fail_once);
    RUN(every_allocation_may_be_the_first_of_many_to_fail);
    RUN(an_observation_without_memory_is_none);
    return test_end();
}
