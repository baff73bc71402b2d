/*
 * test_calibrator_state.c - saving, resuming and merging what a calibrator observed.
 *
 * A small model with a site of every kind is observed whole, and in random pieces by several runs
 * whose states are merged: every byte of state and results must be the same. Damaged states are
 * refused, and refusing leaves no trace.
 */
#include "calibration.h"

/* Fails unless the call gives this status and a text that contains `word`. */
#define REFUSED(call, expected, word)                                                              \
    do {                                                                                           \
        memset(&why, 0xA5, sizeof why);                                                            \
        qvit_status got_ = (call);                                                                 \
        if (got_ != (expected))                                                                    \
            FAIL("%s: %s, not %s: %.100s", #call, qvit_status_name(got_),                          \
                 qvit_status_name(expected), got_ ? why.text : "");                                \
        CHECK_EQ(why.status, got_);                                                                \
        if (!strstr(why.text, (word))) FAIL("no \"%s\" in: %s", (word), why.text);                 \
    } while (0)

/* ---- the model ---- */

enum { SAMPLES = 10, ROWS = 5, INPUTS = 6, OUTPUTS = 4, HEADS = 2, WIDTH = 3 };
enum { READER, OTHER_READER, IMAGE, SCORES, VALUES, SITES };
enum tensor { INPUT, INPUT_QUANTIZED, GRADIENT, SECOND, SECOND_QUANTIZED, TENSORS };

static const struct {
    qvit_input_kind kind;
    bool matmul, transposed;
    size_t k, n;
} sites[SITES] = {
    [READER] = {QVIT_INPUT_LAYER_NORM, false, false, INPUTS, OUTPUTS},
    [OTHER_READER] = {QVIT_INPUT_LAYER_NORM, false, false, INPUTS, INPUTS},
    [IMAGE] = {QVIT_INPUT_IMAGE, false, false, INPUTS, OUTPUTS},
    [SCORES] = {QVIT_INPUT_GENERIC, true, true, WIDTH, ROWS},
    [VALUES] = {QVIT_INPUT_SOFTMAX, true, false, ROWS, WIDTH},
};

static struct {
    qvit_tensor weight[SITES], bias, tensor[SITES][TENSORS];
} model;

/* Numbers with zeros of both signs among them, whose order must not show. */
static qvit_tensor lively(size_t site, size_t rows, size_t cols)
{
    const size_t matmul[] = {SAMPLES, HEADS, rows, cols}, linear[] = {SAMPLES, rows, cols};
    qvit_tensor t = sites[site].matmul ? normals(4, matmul, 1) : normals(3, linear, 1);
    for (size_t i = 0; i < tensor_count(&t); i++) {
        double value = site == VALUES ? fabs(tensor_get(&t, i)) / 40 : tensor_get(&t, i);
        bool zero = !test_below(8) || i % cols == 0; /* one channel is nothing but zeros */
        tensor_set(&t, i, zero ? (test_below(2) ? 0.0 : -0.0) : value);
    }
    return t;
}

static void make_model(void)
{
    memset(&model, 0, sizeof model);
    for (size_t s = 0; s < SITES; s++) {
        const size_t k = sites[s].k, n = sites[s].n;
        qvit_tensor *t = model.tensor[s];
        if (!sites[s].matmul) model.weight[s] = matrix(n, k, 0.5f);
        t[INPUT] = lively(s, ROWS, k), t[INPUT_QUANTIZED] = lively(s, ROWS, k);
        t[GRADIENT] = lively(s, ROWS, n);
        if (!sites[s].matmul) continue;
        for (int q = SECOND; q <= SECOND_QUANTIZED; q++)
            t[q] = sites[s].transposed ? lively(s, n, k) : lively(s, k, n);
    }
    for (int p = INPUT; p <= INPUT_QUANTIZED; p++) {
        model.tensor[IMAGE][p] = view_dense(QVIT_DTYPE_U8, 3, (size_t[]){SAMPLES, ROWS, INPUTS}).t;
        fill_codes(&model.tensor[IMAGE][p], 0, 255);
    }
    model.bias = normals(1, (size_t[]){OUTPUTS}, 1);
}

/* Limits that keep everything, that drop rows, and that drop matrices once n is known. */
static const struct limits {
    uint64_t seed, max_bytes;
    size_t max_rows;
} limits[] = {{1, 0, 0}, {2, 0, 20}, {3, 12000, 40}, {4, 6000, 20}};
enum { LIMITS = sizeof limits / sizeof limits[0] };

static qvit_calibrator *new_run(const qvit_engine *engine, const struct limits *l)
{
    qvit_calibrator *c = calibrator_capped(engine, l->seed, l->max_bytes, l->max_rows);
    for (size_t s = 0; s < SITES; s++)
        if (sites[s].matmul) {
            add_matmul(c, sites[s].kind, HEADS, sites[s].transposed);
        } else {
            add_linear(c, sites[s].kind, &model.weight[s], s == READER ? &model.bias : NULL);
        }
    MUST(tie(c, QVIT_TIE_INPUT, READER, OTHER_READER));
    MUST(tie(c, QVIT_TIE_PRODUCER, VALUES, READER));
    return c;
}

/* ---- states ---- */

static int32_t append(void *user, const void *data, size_t size)
{
    CHECK(size > 0);
    bytes_add(user, data, size);
    return 0;
}

static struct bytes state_of(const qvit_calibrator *c)
{
    struct bytes state = {0};
    MUST(qvit_calibrator_save(c, append, &state, &why));
    return state;
}

static void load(qvit_calibrator *c, const struct bytes *state)
{
    MUST(qvit_calibrator_load(c, state->data, state->size, &why));
    CHECK_EQ(why.status, QVIT_OK);
}

static void check_state(const qvit_calibrator *c, const struct bytes *expected, const char *what)
{
    struct bytes got = state_of(c);
    bool same = bytes_equal(&got, expected);
    bytes_free(&got);
    if (!same) FAIL("another state: %s", what);
}

/* ---- pieces of observations ---- */

/* One tensor of some rows of some samples of one site. */
struct piece {
    size_t site, tensor, first_sample, samples, first_row, rows;
};

enum { MAX_PIECES = 4000 };
static struct piece pieces[MAX_PIECES];
static size_t piece_count;

/* The first `count` of them. */
static void shuffle_pieces(size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = test_below(i);
        struct piece swapped = pieces[i - 1];
        pieces[i - 1] = pieces[j], pieces[j] = swapped;
    }
}

/* Everything there is, one tensor of a site at a time, cut anywhere. */
static void cut_pieces(void)
{
    piece_count = 0;
    for (size_t s = 0; s < SITES; s++)
        for (size_t t = 0; t < TENSORS; t++) {
            if (!model.tensor[s][t].data) continue;
            for (size_t at = 0, samples; at < SAMPLES; at += samples) {
                samples = 1 + test_below(SAMPLES - at);
                for (size_t row = 0, rows; row < ROWS; row += rows) {
                    size_t left = ROWS - row; /* right operands come whole */
                    rows = t >= SECOND || test_below(2) ? left : 1 + test_below(left);
                    CHECK(piece_count < MAX_PIECES);
                    pieces[piece_count++] = (struct piece){s, t, at, samples, row, rows};
                }
            }
        }
    shuffle_pieces(piece_count);
}

static void show_piece(qvit_calibrator *c, const struct piece *p)
{
    qvit_tensor t = model.tensor[p->site][p->tensor];
    ptrdiff_t from = (ptrdiff_t)p->first_sample * t.strides[0];
    t.dims[0] = p->samples;
    if (p->tensor < SECOND) {
        from += (ptrdiff_t)p->first_row * t.strides[t.rank - 2];
        t.dims[t.rank - 2] = p->rows;
    }
    t.data = (unsigned char *)t.data + from * (t.dtype == QVIT_DTYPE_F32 ? 4 : 1);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = p->site, o.first_sample = p->first_sample, o.first_row = p->first_row;
    const qvit_tensor **tensors[TENSORS] = {&o.input, &o.input_quantized, &o.gradient, &o.second,
                                            &o.second_quantized};
    *tensors[p->tensor] = &t;
    MUST(qvit_calibrator_observe(c, &o, &why));
}

static void show_whole(qvit_calibrator *c)
{
    for (size_t s = 0; s < SITES; s++)
        for (size_t t = 0; t < TENSORS; t++)
            if (model.tensor[s][t].data) show_piece(c, &(struct piece){s, t, 0, SAMPLES, 0, ROWS});
}

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
    REFUSED(qvit_calibrator_add_site(empty, &late, NULL, &why), QVIT_ERR_STATE, "before");
    bytes_free(&state), bytes_free(&whole);
    give_back();
}

/* ---- the bytes ---- */

static uint64_t word_at(const unsigned char *b, size_t bytes)
{
    uint64_t word = 0;
    for (size_t i = bytes; i-- > 0;) word = word << 8 | b[i];
    return word;
}

static void set_word(unsigned char *b, uint64_t word, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) b[i] = (unsigned char)(word >> 8 * i);
}

/* The checksum, written down once more. */
static uint64_t checksum_of(const unsigned char *b, size_t size)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < size; at += 8) {
        sum ^= word_at(b + at, size - at < 8 ? size - at : 8);
        sum *= UINT64_C(0x9E3779B97F4A7C15);
        sum ^= sum >> 32;
    }
    return sum;
}

static void mend(struct bytes *state)
{
    set_word(state->data + state->size - 8, checksum_of(state->data, state->size - 8), 8);
}

static void bytes_are_those_of_every_machine(void)
{
    qvit_calibrator *c = calibrator_capped(engine_new(), UINT64_C(0x0807060504030201), 0x10203, 9);
    struct bytes state = state_of(c);
    const unsigned char expected[56] = {0x89, 'q', 'v', 'i', 't', '\r', '\n', 26, 1, 0, 0, 0, 0, 0,
                                        0,    0,   64,  0,   0,   0,    0,    0,  0, 0, 1, 2, 3, 4,
                                        5,    6,   7,   8,   3,   2,    1,    0,  0, 0, 0, 0, 9};
    CHECK_EQ(state.size, 64);
    CHECK(!memcmp(state.data, expected, sizeof expected));
    CHECK(word_at(state.data + 56, 8) == checksum_of(state.data, 56));
    load(c, &state);
    bytes_free(&state);
    give_back();
}

/* ---- damage ---- */

/* The state of a small run, to be damaged; the calibrators must not change by it. */
struct patient {
    qvit_engine *engine;
    qvit_calibrator *empty, *other; /* one that saw nothing, and one that saw other samples */
    struct bytes state, of_empty, of_other;
    unsigned char *end; /* of the memory that states are loaded from */
};

enum { MOST_BYTES = 1 << 20 };

static struct patient patient_new(void)
{
    make_model();
    struct patient p = {.engine = engine_new()};
    const struct limits *l = &limits[3];
    p.empty = new_run(p.engine, l), p.other = new_run(p.engine, l);
    qvit_calibrator *c = new_run(p.engine, l);
    cut_pieces();
    for (size_t i = 0; i < piece_count; i++)
        show_piece(pieces[i].first_sample < 5 ? c : p.other, &pieces[i]);
    p.end = (unsigned char *)guarded(MOST_BYTES) + MOST_BYTES;
    p.state = state_of(c), p.of_empty = state_of(p.empty), p.of_other = state_of(p.other);
    return p;
}

static void patient_free(struct patient *p)
{
    bytes_free(&p->state), bytes_free(&p->of_empty), bytes_free(&p->of_other);
    give_back();
}

/* Loads bytes behind which nobody may read. */
static qvit_status load_guarded(const struct patient *p, qvit_calibrator *c,
                                const unsigned char *data, size_t size)
{
    unsigned char *copy = p->end - size;
    memcpy(copy, data, size);
    memset(&why, 0xA5, sizeof why);
    qvit_status status = qvit_calibrator_load(c, copy, size, &why);
    CHECK_EQ(why.status, status);
    if (status) CHECK(why.text[0] && why.offset <= size);
    return status;
}

static void every_cut_is_noticed(void)
{
    struct patient p = patient_new();
    for (size_t size = 1; size < p.state.size; size++) {
        CHECK_EQ(load_guarded(&p, p.other, p.state.data, size), QVIT_ERR_FORMAT);
        CHECK(why.offset <= size);
        if (size >= 24) CHECK_EQ(why.offset, size);
        /* As a state that is said to be so short, too. */
        if (size < 64) continue;
        struct bytes cut = {0};
        bytes_add(&cut, p.state.data, size);
        set_word(cut.data + 16, size, 8);
        mend(&cut);
        qvit_status status = load_guarded(&p, p.other, cut.data, cut.size);
        if (status != QVIT_ERR_FORMAT && status != QVIT_ERR_STATE) FAIL("cut at %zu", size);
        bytes_free(&cut);
    }
    check_state(p.other, &p.of_other, "after cuts");
    struct bytes longer = {0};
    bytes_add(&longer, p.state.data, p.state.size);
    bytes_add(&longer, "", 1);
    CHECK_EQ(load_guarded(&p, p.other, longer.data, longer.size), QVIT_ERR_FORMAT);
    CHECK_EQ(why.offset, p.state.size);
    bytes_free(&longer);
    patient_free(&p);
}

static void flipped_bits_are_noticed(void)
{
    struct patient p = patient_new();
    for (size_t round = 0; round < 4000; round++) {
        size_t bit = round < 512 ? round : test_below(8 * p.state.size);
        p.state.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        qvit_status status = load_guarded(&p, p.empty, p.state.data, p.state.size);
        qvit_status expected = bit < 8 * 8    ? QVIT_ERR_FORMAT
                               : bit == 8 * 8 ? QVIT_ERR_FORMAT /* version 0 */
                               : bit < 8 * 12 ? QVIT_ERR_VERSION
                               : bit < 8 * 24 ? QVIT_ERR_FORMAT
                                              : QVIT_ERR_CHECKSUM;
        if (status != expected) FAIL("bit %zu: %s", bit, qvit_status_name(status));
        p.state.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    check_state(p.empty, &p.of_empty, "after flips");
    load(p.empty, &p.state);
    patient_free(&p);
}

static void forge(struct bytes *forged, const struct bytes *state)
{
    forged->size = 0;
    bytes_add(forged, state->data, state->size);
    for (size_t edits = 1 + test_below(2); edits > 0; edits--) {
        size_t at = 24 + test_below(forged->size - 40);
        if (test_below(2)) {
            forged->data[at] ^= (unsigned char)(1 << test_below(8));
        } else {
            set_word(forged->data + at, test_random() >> test_below(64), 1 + test_below(8));
        }
    }
    mend(forged);
}

/* What an attacker writes has a right checksum. It is refused, or taken in as what it says. */
static void forged_states_do_no_harm(void)
{
    struct patient p = patient_new();
    struct bytes forged = {0};
    size_t taken = 0;
    for (size_t round = 0; round < 2500; round++) {
        forget_calibrators();
        forge(&forged, &p.state);
        qvit_calibrator *c = new_run(p.engine, &limits[3]);
        const struct bytes *before = test_below(2) ? &p.of_empty : &p.of_other;
        load(c, before);
        qvit_status status = load_guarded(&p, c, forged.data, forged.size);
        if (status != QVIT_OK) {
            if (status != QVIT_ERR_FORMAT && status != QVIT_ERR_STATE)
                FAIL("%s: %s", qvit_status_name(status), why.text);
            check_state(c, before, "after a forged one");
            continue;
        }
        struct bytes state = state_of(c); /* is one that can be loaded */
        qvit_calibrator *again = new_run(p.engine, &limits[3]);
        load(again, &state);
        check_state(again, &state, "of a forged one");
        bytes_free(&state);
        if (taken++ % 16 == 0) (void)solve_status(again, "mse", 8, 8, "candidates=2");
    }
    CHECK(taken > 0);
    bytes_free(&forged);
    patient_free(&p);
}

static void random_bytes_are_no_state(void)
{
    struct patient p = patient_new();
    for (size_t round = 0; round < 500; round++) {
        unsigned char noise[300];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)test_random();
        if (test_below(2)) memcpy(noise, p.state.data, 12);
        CHECK_EQ(load_guarded(&p, p.empty, noise, 1 + test_below(sizeof noise)), QVIT_ERR_FORMAT);
    }
    check_state(p.empty, &p.of_empty, "after noise");
    patient_free(&p);
}

/* One site, one number: where everything lies is known. */
enum {
    AT_STREAMS = 56 + 64 + 80,
    AT_LOW = AT_STREAMS + 8,
    AT_HIGH = AT_LOW + 4,
    AT_BINS = AT_HIGH + 4,
    AT_BIN = AT_BINS + 8,
    AT_COUNT = AT_BIN + 4,
    AT_ROWS = AT_COUNT + 8,
    AT_SAMPLE = AT_ROWS + 8,
    AT_ROW = AT_SAMPLE + 8,
    AT_PARTS = AT_ROW + 8,
    AT_NUMBER = AT_PARTS + 4,
    AT_CHECKSUM = AT_NUMBER + 4
};

static const struct forgery {
    size_t at, bytes;
    uint64_t word;
    const char *text; /* what is said */
    size_t offset;    /* and of which byte */
} forgeries[] = {
    {12, 4, 1, "not 0", 12},
    {AT_STREAMS, 4, 1u << 31, "streams", AT_STREAMS},
    {AT_STREAMS, 4, 1 | 4, "streams", AT_STREAMS}, /* a second operand of a linear site */
    {AT_STREAMS + 4, 4, 1, "streams", AT_STREAMS},
    {AT_LOW, 4, 0x7F800000, "finite", AT_LOW},
    {AT_LOW, 4, 0x7F7FFFFF, "minimum", AT_LOW},
    {AT_HIGH, 4, 0xFFC00000, "finite", AT_HIGH},
    {AT_BINS, 8, UINT64_MAX, "bin", AT_BIN + 12},
    {AT_BINS, 8, 0, "more than the limits", AT_BIN},
    {AT_BIN, 4, 5120, "bin", AT_BIN},
    {AT_COUNT, 8, 0, "count", AT_COUNT},
    {AT_COUNT, 8, UINT64_MAX, "too large to add", AT_COUNT},
    {AT_ROWS, 8, 17, "more than the limits", AT_ROWS},
    {AT_ROWS, 8, UINT64_MAX, "more than the limits", AT_ROWS},
    {AT_ROWS, 8, 2, "behind the data", AT_CHECKSUM},
    {AT_ROWS, 8, 0, "nothing should follow", AT_SAMPLE},
    {AT_ROW, 8, 0x7FFFFFFF, "too large a row", AT_ROW},
    {AT_PARTS, 4, 0, "without numbers", AT_ROW},
    {AT_PARTS, 4, 1u << 31, "unknown parts", AT_PARTS},
    {AT_PARTS, 4, 3, "behind the data", AT_CHECKSUM},
    {AT_NUMBER, 4, 0x7F800001, "finite", AT_NUMBER},
};

static void every_part_is_checked(void)
{
    qvit_engine *engine = engine_new();
    qvit_tensor w = matrix(1, 1, 1), x = matrix(1, 1, 1);
    qvit_calibrator *c[2]; /* of sample 0, and of sample 1 */
    for (size_t i = 0; i < 2; i++) {
        c[i] = calibrator_capped(engine, 1, 0, 16);
        add_linear(c[i], 0, &w, NULL);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.input = &x, o.first_sample = i;
        MUST(qvit_calibrator_observe(c[i], &o, &why));
    }
    struct bytes state = state_of(c[0]), own = state_of(c[1]);
    CHECK_EQ(state.size, AT_CHECKSUM + 8);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        const struct forgery *f = &forgeries[i];
        struct bytes copy = {0};
        bytes_add(&copy, state.data, state.size);
        set_word(copy.data + f->at, f->word, f->bytes);
        mend(&copy);
        REFUSED(qvit_calibrator_load(c[1], copy.data, copy.size, &why), QVIT_ERR_FORMAT, f->text);
        CHECK_EQ(why.offset, f->offset);
        bytes_free(&copy);
    }
    check_state(c[1], &own, "after forgeries");
    load(c[1], &state);
    bytes_free(&state), bytes_free(&own);
    give_back();
}

static void newer_versions_are_refused(void)
{
    struct patient p = patient_new();
    set_word(p.state.data + 8, 2, 4);
    set_word(p.state.data + 16, 7, 8); /* whatever else it says */
    REFUSED(qvit_calibrator_load(p.empty, p.state.data, p.state.size, &why), QVIT_ERR_VERSION,
            "version 2");
    CHECK_EQ(why.offset, 8);
    patient_free(&p);
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
        REFUSED(qvit_calibrator_load(c, state.data, state.size, &why), QVIT_ERR_STATE, words[d]);
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
    REFUSED(qvit_calibrator_load(c[0], state.data, state.size, &why), QVIT_ERR_STATE,
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
            REFUSED(qvit_calibrator_load(c, state.data, state.size, &why), QVIT_ERR_STATE, "twice");
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
    REFUSED(qvit_calibrator_load(c[0], state.data, state.size, &why), QVIT_ERR_ARGUMENT,
            "max_bytes");
    check_state(c[0], &own, "after what did not fit");
    bytes_free(&own), bytes_free(&state);
    give_back();
}

/* ---- hooks that fail, pointers that are NULL ---- */

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

/* Refuses call number `at`. */
struct refusing {
    size_t calls, at;
};

static int32_t refuse(void *user, const void *data, size_t size)
{
    struct refusing *r = user;
    CHECK(data && size);
    if (r->calls > r->at) FAIL("called again");
    return r->calls++ == r->at ? -7 : 0;
}

static void refused_writes_are_reported(void)
{
    struct patient p = patient_new();
    struct refusing all = {.at = SIZE_MAX};
    MUST(qvit_calibrator_save(p.other, refuse, &all, &why));
    CHECK(all.calls > 3);
    for (size_t at = 0; at < all.calls; at++) {
        struct refusing r = {.at = at};
        REFUSED(qvit_calibrator_save(p.other, refuse, &r, &why), QVIT_ERR_IO, "-7");
        CHECK_EQ(r.calls, at + 1);
    }
    check_state(p.other, &p.of_other, "after refusals");
    patient_free(&p);
}

static void null_is_refused(void)
{
    struct patient p = patient_new();
    struct bytes out = {0};
    REFUSED(qvit_calibrator_save(NULL, append, &out, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED(qvit_calibrator_save(p.other, NULL, &out, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED(qvit_calibrator_load(NULL, p.state.data, p.state.size, &why), QVIT_ERR_ARGUMENT,
            "NULL");
    REFUSED(qvit_calibrator_load(p.other, NULL, p.state.size, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED(qvit_calibrator_load(p.other, p.state.data, 0, &why), QVIT_ERR_FORMAT, "");
    CHECK_EQ(qvit_calibrator_save(NULL, NULL, NULL, NULL), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_calibrator_load(p.other, p.state.data, 20, NULL), QVIT_ERR_FORMAT);
    p.state.data[p.state.size - 1] ^= 1;
    CHECK_EQ(qvit_calibrator_load(p.other, p.state.data, p.state.size, NULL), QVIT_ERR_CHECKSUM);
    p.state.data[8]++;
    CHECK_EQ(qvit_calibrator_load(p.other, p.state.data, p.state.size, NULL), QVIT_ERR_VERSION);
    CHECK_EQ(out.size, 0);
    check_state(p.other, &p.of_other, "after NULL");
    patient_free(&p);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(merged_runs_are_one_run);
    RUN(orders_of_any_observations_do_not_show);
    RUN(stopping_and_going_on_does_not_show);
    RUN(an_empty_state_changes_nothing);
    RUN(bytes_are_those_of_every_machine);
    RUN(every_cut_is_noticed);
    RUN(flipped_bits_are_noticed);
    RUN(forged_states_do_no_harm);
    RUN(random_bytes_are_no_state);
    RUN(every_part_is_checked);
    RUN(newer_versions_are_refused);
    RUN(states_of_other_models_are_refused);
    RUN(weights_count_by_their_numbers);
    RUN(sizes_of_products_must_agree);
    RUN(what_came_twice_is_refused);
    RUN(sizes_that_fit_apart_may_not_fit_together);
    RUN(loading_without_memory_is_none);
    RUN(refused_writes_are_reported);
    RUN(null_is_refused);
    return test_end();
}
