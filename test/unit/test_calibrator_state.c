/*
 * test_calibrator_state.c - saving, resuming and merging what a calibrator observed.
 *
 * A small model with a site of every kind is observed whole, and in random pieces by several runs
 * whose states are merged: every byte of state and results must be the same. States that do not belong
 * together are refused, and refusing leaves no trace.
 */
#include "observed_model.h"

/* ---- splits do not show ---- */

static struct bytes results_of(qvit_calibrator *c)
{
    struct bytes all = {0};
    for (int i = 0; i < 2; i++) {
        solve(c, i ? "mse" : "minmax", 8, 6, i ? "candidates=5" : "twin=softmax");
        struct bytes one = bytes_of_results(c, SITES);
        bytes_add(&all, one.data, one.size);
        bytes_free(&one);
    }
    return all;
}

static void check_results(qvit_calibrator *c, const struct bytes *expected)
{
    struct bytes got = results_of(c);
    bool same = bytes_equal(&got, expected);
    bytes_free(&got);
    CHECK(same);
}

/* Random runs that see the first `count` pieces between them; one that merged them all. */
static qvit_calibrator *merged_runs(const qvit_engine *engine, const struct limits *l, size_t count)
{
    enum { MOST = 4 };
    qvit_calibrator *run[MOST];
    size_t runs = 1 + test_below(MOST);
    for (size_t i = 0; i < runs; i++) run[i] = new_run(engine, l);
    for (size_t i = 0; i < count; i++) show_piece(run[test_below(runs)], &pieces[i]);
    /* Sometimes into a fresh one, sometimes into one that saw things itself. */
    qvit_calibrator *into = test_below(2) ? new_run(engine, l) : run[--runs];
    while (runs) {
        size_t pick = test_below(runs);
        struct bytes state = state_of(run[pick]);
        load(into, &state);
        check_state(run[pick], &state, "saving changed it");
        bytes_free(&state);
        run[pick] = run[--runs];
    }
    return into;
}

static void merged_runs_are_one_run(void)
{
    for (size_t round = 0; round < 10; round++)
        for (size_t i = 0; i < LIMITS; i++) {
            make_model();
            qvit_engine *engine = engine_new();
            qvit_calibrator *whole = new_run(engine, &limits[i]);
            show_whole(whole);
            struct bytes state = state_of(whole), results = results_of(whole);
            cut_pieces();
            qvit_calibrator *merged = merged_runs(engine, &limits[i], piece_count);
            check_state(merged, &state, "merged from parts");
            check_results(merged, &results);
            bytes_free(&state), bytes_free(&results);
            give_back();
        }
}

/* Some of the pieces only: sizes may be unknown, rows may lack parts. */
static void orders_of_any_observations_do_not_show(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 200; round++) {
        const struct limits *l = &limits[round % LIMITS];
        cut_pieces();
        size_t count = test_below(piece_count + 1) >> test_below(5);
        qvit_calibrator *c = new_run(engine, l);
        for (size_t i = 0; i < count; i++) show_piece(c, &pieces[i]);
        struct bytes state = state_of(c);
        shuffle_pieces(count);
        check_state(merged_runs(engine, l, count), &state, "of some pieces");
        bytes_free(&state);
        forget_calibrators();
    }
    give_back();
}

static void stopping_and_going_on_does_not_show(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    for (size_t i = 0; i < LIMITS; i++) {
        qvit_calibrator *whole = new_run(engine, &limits[i]), *c = new_run(engine, &limits[i]);
        show_whole(whole);
        struct bytes expected = state_of(whole), results = results_of(whole);
        cut_pieces();
        for (size_t p = 0; p < piece_count; p++) {
            show_piece(c, &pieces[p]);
            if (test_below(8)) continue;
            struct bytes state = state_of(c);
            c = new_run(engine, &limits[i]);
            load(c, &state);
            check_state(c, &state, "loaded");
            bytes_free(&state);
        }
        check_state(c, &expected, "after stops");
        check_results(c, &results);
        bytes_free(&expected), bytes_free(&results);
        forget_calibrators();
    }
    give_back();
}

static void an_empty_state_changes_nothing(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    qvit_calibrator *empty = new_run(engine, &limits[0]), *c = new_run(engine, &limits[0]);
    struct bytes state = state_of(empty);
    load(c, &state);
    check_state(c, &state, "of nothing");
    add_linear(c, 0, &model.weight[READER], NULL); /* the set of sites is open still */
    c = new_run(engine, &limits[0]);
    show_whole(c);
    struct bytes whole = state_of(c);
    load(c, &state);
    check_state(c, &whole, "nothing added");
    load(empty, &whole);
    qvit_site_options late = QVIT_SITE_OPTIONS_INIT;
    late.weight = &model.weight[READER];
    REFUSED_FOR(qvit_calibrator_add_site(empty, &late, NULL, &why), QVIT_ERR_STATE, "before");
    bytes_free(&state), bytes_free(&whole);
    give_back();
}

/* ---- what does not belong together ---- */

/* Two linear sites of 3 inputs, a matmul, and one thing that differs. */
enum difference {
    SAME,
    NAME,
    KIND,
    SHAPE,
    WEIGHT,
    BIAS,
    A_HEAD,
    TRANSPOSED,
    TIE,
    PRODUCER,
    ONE_MORE,
    SEED,
    BYTES,
    ROW_LIMIT,
    DIFFERENCES
};

static qvit_calibrator *different(const qvit_engine *engine, enum difference d)
{
    static float w[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                 other[9] = {1, 2, 3, 4, 5, 6, 7, 8};
    qvit_tensor weight, bias;
    qvit_tensor_init(&weight, d == WEIGHT ? other : w, QVIT_DTYPE_F32, 2,
                     (size_t[]){d == SHAPE ? 4 : 3, 3});
    qvit_tensor_init(&bias, d == BIAS ? w + 1 : w, QVIT_DTYPE_F32, 1, (size_t[]){weight.dims[0]});
    qvit_calibrator *c =
        calibrator_capped(engine, d == SEED, 100000 + (d == BYTES), 100 + (d == ROW_LIMIT));
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.name = "first", site.weight = &weight;
    MUST(qvit_calibrator_add_site(c, &site, NULL, &why));
    site.name = d == NAME ? "third" : "second", site.bias = &bias;
    site.input_kind = d == KIND ? QVIT_INPUT_LAYER_NORM : QVIT_INPUT_GENERIC;
    MUST(qvit_calibrator_add_site(c, &site, NULL, &why));
    add_matmul(c, 0, d == A_HEAD ? 2 : 1, d == TRANSPOSED);
    if (d == TIE) MUST(tie(c, QVIT_TIE_INPUT, 0, 1));
    if (d == PRODUCER) MUST(tie(c, QVIT_TIE_PRODUCER, 2, 1));
    if (d == ONE_MORE) add_matmul(c, 0, 1, false);
    return c;
}

static void states_of_other_models_are_refused(void)
{
    static const char *const words[DIFFERENCES] = {
        [NAME] = "site 1 (second): a state of another model: called \"third\"",
        [KIND] = "site 1 (second): a state of another model: input kind 1, not 0",
        [SHAPE] = "site 0 (first): a state of another model: number of outputs 4, not 3",
        [WEIGHT] = "site 0 (first): a state of another model: another weight",
        [BIAS] = "site 1 (second): a state of another model: another bias",
        [A_HEAD] = "site 2 (matmul): a state of another model: number of heads 2, not 1",
        [TRANSPOSED] = "second_transposed 1, not 0",
        [TIE] = "another tied input",
        [PRODUCER] = "another producer",
        [ONE_MORE] = "a state of another model: it has 4 sites, the calibrator 3",
        [SEED] = "seed 1, not 0",
        [BYTES] = "max_bytes 100001, not 100000",
        [ROW_LIMIT] = "max_rows 101, not 100"};
    qvit_engine *engine = engine_new();
    qvit_calibrator *c = different(engine, SAME);
    struct bytes own = state_of(c);
    for (enum difference d = NAME; d < DIFFERENCES; d++) {
        struct bytes state = state_of(different(engine, d));
        REFUSED_FOR(qvit_calibrator_load(c, state.data, state.size, &why), QVIT_ERR_STATE,
                    words[d]);
        CHECK_EQ(why.offset, 0);
        bytes_free(&state);
    }
    check_state(c, &own, "after others");
    load(c, &own);
    bytes_free(&own);
    give_back();
}

static void weights_count_by_their_numbers(void)
{
    qvit_engine *engine = engine_new();
    qvit_tensor dense = matrix(7, 5, 1);
    struct view far = view_strided(QVIT_DTYPE_F32, 2, (size_t[]){7, 5}, 9);
    for (size_t i = 0; i < 35; i++) tensor_set(&far.t, i, tensor_get(&dense, i));
    qvit_calibrator *a = calibrator_new(engine), *b = calibrator_new(engine);
    add_linear(a, 0, &dense, NULL), add_linear(b, 0, &far.t, NULL);
    struct bytes state = state_of(a);
    check_state(b, &state, "other strides");
    bytes_free(&state);
    give_back();
}

/* k and n of a matmul come with what is observed. */
static void sizes_of_products_must_agree(void)
{
    qvit_engine *engine = engine_new();
    qvit_calibrator *c[2];
    for (size_t i = 0; i < 2; i++) {
        c[i] = calibrator_new(engine);
        add_matmul(c[i], 0, 1, false);
        qvit_tensor left = normals(4, (size_t[]){1, 1, 2, 3 + i}, 1);
        observe(c[i], 0, &left);
    }
    struct bytes own = state_of(c[0]), state = state_of(c[1]);
    REFUSED_FOR(qvit_calibrator_load(c[0], state.data, state.size, &why), QVIT_ERR_STATE,
                "number of inputs 4, not 3");
    check_state(c[0], &own, "after another k");
    bytes_free(&own), bytes_free(&state);
    give_back();
}

static void what_came_twice_is_refused(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    for (size_t s = 0; s < SITES; s++)
        for (size_t t = 0; t < TENSORS; t++) {
            if (!model.tensor[s][t].data) continue;
            qvit_calibrator *c = new_run(engine, &limits[0]), *one = new_run(engine, &limits[0]);
            show_whole(c);
            size_t row = t < SECOND ? test_below(ROWS) : 0;
            show_piece(one, &(struct piece){s, t, test_below(SAMPLES), 1, row, 1});
            struct bytes own = state_of(c), state = state_of(one);
            REFUSED_FOR(qvit_calibrator_load(c, state.data, state.size, &why), QVIT_ERR_STATE,
                        "twice");
            check_state(c, &own, "after a part that came twice");
            bytes_free(&own), bytes_free(&state);
            forget_calibrators();
        }
    give_back();
}

/* A run that knows k alone and one that knows n alone: one matrix of both is more than the limit. */
static void sizes_that_fit_apart_may_not_fit_together(void)
{
    qvit_engine *engine = engine_new();
    qvit_calibrator *c[2];
    for (size_t i = 0; i < 2; i++) {
        c[i] = calibrator_capped(engine, 0, 1000, 16);
        add_matmul(c[i], 0, 1, false);
        qvit_tensor x = normals(4, (size_t[]){1, 1, 2, 30}, 1);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        if (i) {
            o.gradient = &x;
        } else {
            o.input = &x;
        }
        MUST(qvit_calibrator_observe(c[i], &o, &why));
    }
    struct bytes own = state_of(c[0]), state = state_of(c[1]);
    REFUSED_FOR(qvit_calibrator_load(c[0], state.data, state.size, &why), QVIT_ERR_ARGUMENT,
                "max_bytes");
    check_state(c[0], &own, "after what did not fit");
    bytes_free(&own), bytes_free(&state);
    give_back();
}

/* ---- memory that fails ---- */

static void loading_without_memory_is_none(void)
{
    make_model();
    cut_pieces();
    size_t failures = 0;
    for (size_t half = 0; half < 2; half++)
        for (size_t at = 1;; at++) {
            struct heap heap = {0};
            qvit_allocator hook = heap_hook(&heap);
            const size_t mark = kept.count;
            qvit_engine *engine = engine_with(0, &hook, NULL);
            qvit_calibrator *c = new_run(engine, &limits[2]), *from = new_run(engine, &limits[2]);
            /* Into one that saw nothing, and into one that saw half, some sizes not among it. */
            for (size_t i = 0; i < piece_count; i++)
                show_piece(half && i < piece_count / 16 ? c : from, &pieces[i]);
            struct bytes own = state_of(c), state = state_of(from);
            heap.fail_at = heap.calls + at, heap.fail_count = test_below(2) ? 1 : SIZE_MAX;
            qvit_status status = qvit_calibrator_load(c, state.data, state.size, &why);
            heap.fail_at = 0;
            if (status != QVIT_OK) {
                CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
                failures++;
                check_state(c, &own, "after a failed allocation");
                load(c, &state);
            }
            qvit_calibrator *whole = new_run(engine, &limits[2]);
            show_whole(whole);
            struct bytes expected = state_of(whole);
            check_state(c, &expected, "at last");
            bytes_free(&own), bytes_free(&state), bytes_free(&expected);
            forget_calibrators();
            release_to(mark);
            heap_check_empty(&heap);
            if (status == QVIT_OK) break;
        }
    CHECK(failures > 50);
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(merged_runs_are_one_run);
    RUN(orders_of_any_observations_do_not_show);
    RUN(stopping_and_going_on_does_not_show);
    RUN(an_empty_state_changes_nothing);
    RUN(states_of_other_models_are_refused);
    RUN(weights_count_by_their_numbers);
    RUN(sizes_of_products_must_agree);
    RUN(what_came_twice_is_refused);
    RUN(sizes_that_fit_apart_may_not_fit_together);
    RUN(loading_without_memory_is_none);
    return test_end();
}
