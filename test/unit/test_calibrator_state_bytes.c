/*
 * test_calibrator_state_bytes.c - states as bytes: they are those of every machine, and damaged ones are
 * refused, which leaves no trace.
 */
#include "observed_model.h"

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
        REFUSED_FOR(qvit_calibrator_load(c[1], copy.data, copy.size, &why), QVIT_ERR_FORMAT,
                    f->text);
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
    REFUSED_FOR(qvit_calibrator_load(p.empty, p.state.data, p.state.size, &why), QVIT_ERR_VERSION,
                "version 2");
    CHECK_EQ(why.offset, 8);
    patient_free(&p);
}

/* ---- writers that fail, pointers that are NULL ---- */

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
    make_model();
    qvit_calibrator *c = new_run(engine_new(), &limits[0]);
    show_whole(c); /* nothing is dropped: some buffers full, whatever the seed */
    struct bytes state = state_of(c);
    struct refusing all = {.at = SIZE_MAX};
    MUST(qvit_calibrator_save(c, refuse, &all, &why));
    CHECK(all.calls > 3);
    for (size_t at = 0; at < all.calls; at++) {
        struct refusing r = {.at = at};
        REFUSED_FOR(qvit_calibrator_save(c, refuse, &r, &why), QVIT_ERR_IO, "-7");
        CHECK_EQ(r.calls, at + 1);
    }
    check_state(c, &state, "after refusals");
    bytes_free(&state);
    give_back();
}

static void null_is_refused(void)
{
    struct patient p = patient_new();
    struct bytes out = {0};
    REFUSED_FOR(qvit_calibrator_save(NULL, append, &out, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED_FOR(qvit_calibrator_save(p.other, NULL, &out, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED_FOR(qvit_calibrator_load(NULL, p.state.data, p.state.size, &why), QVIT_ERR_ARGUMENT,
                "NULL");
    REFUSED_FOR(qvit_calibrator_load(p.other, NULL, p.state.size, &why), QVIT_ERR_ARGUMENT, "NULL");
    REFUSED_FOR(qvit_calibrator_load(p.other, p.state.data, 0, &why), QVIT_ERR_FORMAT, "");
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
    RUN(bytes_are_those_of_every_machine);
    RUN(every_cut_is_noticed);
    RUN(flipped_bits_are_noticed);
    RUN(forged_states_do_no_harm);
    RUN(random_bytes_are_no_state);
    RUN(every_part_is_checked);
    RUN(newer_versions_are_refused);
    RUN(refused_writes_are_reported);
    RUN(null_is_refused);
    return test_end();
}
