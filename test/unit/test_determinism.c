/*
 * test_determinism.c - decision (a): how observations come cannot change a byte of a result.
 *
 * One small model with a site of every kind is observed whole, in pieces, in any order, its parts
 * together or apart, by any number of workers, with and without caps that make it drop rows. Every
 * byte of every result must be the same.
 */
#include "calibration.h"

enum { SAMPLES = 24, ROWS = 9, INPUTS = 10, HIDDEN = 12, HEADS = 2, WIDTH = 6, MAX_PIECES = 20000 };
enum { READER, OTHER_READER, CONSUMER, IMAGE, SCORES, VALUES, SITES };

/* The five tensors of an observation; data NULL: the site has none of that kind. */
enum part { INPUT, INPUT_QUANTIZED, GRADIENT, SECOND, SECOND_QUANTIZED, PARTS };

static struct {
    qvit_tensor weight[SITES], bias, part[SITES][PARTS];
} model;

static const struct {
    qvit_input_kind kind;
    bool matmul, transposed;
} sites[SITES] = {
    [READER] = {QVIT_INPUT_LAYER_NORM, false, false},
    [OTHER_READER] = {QVIT_INPUT_LAYER_NORM, false, false},
    [CONSUMER] = {QVIT_INPUT_GELU, false, false},
    [IMAGE] = {QVIT_INPUT_IMAGE, false, false},
    [SCORES] = {QVIT_INPUT_GENERIC, true, true},
    [VALUES] = {QVIT_INPUT_SOFTMAX, true, false},
};

/* The same numbers as another tensor, behind a quantized prefix: a little off. */
static qvit_tensor disturbed(const qvit_tensor *t)
{
    qvit_tensor out = view_dense(QVIT_DTYPE_F32, (size_t)t->rank, t->dims).t;
    for (size_t i = 0; i < tensor_count(t); i++)
        tensor_set(&out, i, tensor_get(t, i) + 0.02 * (double)test_uniform());
    return out;
}

/* Rows that differ much from each other, so that it shows which were kept. */
static qvit_tensor lively(size_t rank, const size_t *dims)
{
    qvit_tensor t = normals(rank, dims, 1);
    size_t last = dims[rank - 1];
    for (size_t row = 0; row < tensor_count(&t) / last; row++) {
        double gain = exp2((double)test_normal());
        for (size_t j = 0; j < last; j++)
            tensor_set(&t, row * last + j, tensor_get(&t, row * last + j) * gain);
    }
    return t;
}

static void make_linear(size_t site, size_t inputs, size_t outputs)
{
    qvit_tensor *p = model.part[site];
    model.weight[site] = matrix(outputs, inputs, 0.5f);
    p[INPUT] = lively(3, (size_t[]){SAMPLES, ROWS, inputs});
    p[INPUT_QUANTIZED] = disturbed(&p[INPUT]);
    p[GRADIENT] = lively(3, (size_t[]){SAMPLES, ROWS, outputs});
}

static void make_matmul(size_t site, size_t k, size_t n, bool transposed)
{
    qvit_tensor *p = model.part[site];
    p[INPUT] = lively(4, (size_t[]){SAMPLES, HEADS, ROWS, k});
    if (site == VALUES)
        for (size_t i = 0; i < tensor_count(&p[INPUT]); i++)
            tensor_set(&p[INPUT], i, fabs(tensor_get(&p[INPUT], i)) / 40);
    p[INPUT_QUANTIZED] = disturbed(&p[INPUT]);
    p[GRADIENT] = lively(4, (size_t[]){SAMPLES, HEADS, ROWS, n});
    p[SECOND] = lively(4, (size_t[]){SAMPLES, HEADS, transposed ? n : k, transposed ? k : n});
    p[SECOND_QUANTIZED] = disturbed(&p[SECOND]);
}

static void make_model(void)
{
    memset(&model, 0, sizeof model);
    make_linear(READER, INPUTS, 5);
    make_linear(OTHER_READER, INPUTS, HIDDEN);
    memcpy(model.part[OTHER_READER], model.part[READER], 2 * sizeof(qvit_tensor));
    make_linear(CONSUMER, HIDDEN, 4);
    make_linear(IMAGE, 8, 4);
    for (int p = 0; p < 2; p++) {
        model.part[IMAGE][p] = view_dense(QVIT_DTYPE_U8, 3, (size_t[]){SAMPLES, ROWS, 8}).t;
        fill_codes(&model.part[IMAGE][p], 0, 255);
    }
    make_matmul(SCORES, WIDTH, ROWS, true);
    make_matmul(VALUES, ROWS, WIDTH, false);
    model.bias = normals(1, (size_t[]){5}, 1);
}

static qvit_calibrator *new_calibrator(const qvit_engine *engine, const qvit_calibrator_options *o)
{
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(engine, o, &c, &why));
    for (size_t s = 0; s < SITES; s++)
        if (sites[s].matmul) {
            add_matmul(c, sites[s].kind, HEADS, sites[s].transposed);
        } else {
            add_linear(c, sites[s].kind, &model.weight[s], s == READER ? &model.bias : NULL);
        }
    MUST(tie(c, QVIT_TIE_INPUT, READER, OTHER_READER));
    MUST(tie(c, QVIT_TIE_PRODUCER, OTHER_READER, CONSUMER));
    return hold_calibrator(c);
}

/* ---- pieces of observations ---- */

/* Some parts of some rows of some samples of one site. */
struct piece {
    size_t site, first_sample, samples, first_row, rows;
    unsigned parts; /* mask */
};

static struct piece pieces[MAX_PIECES];
static size_t piece_count;

static void add_piece(struct piece p)
{
    if (piece_count == MAX_PIECES) FAIL("too many pieces");
    pieces[piece_count++] = p;
}

enum { ROW_PARTS = 1u << INPUT | 1u << INPUT_QUANTIZED | 1u << GRADIENT };

/* Cuts one block of samples into pieces: parts apart if asked, and rows. Only the second operand of
 * a product comes whole. */
static void cut_block(size_t site, size_t first, size_t count, bool parts_apart, bool rows_apart)
{
    for (size_t part = 0; part < PARTS; part++) {
        unsigned mask = parts_apart ? 1u << part : part ? 0 : ROW_PARTS;
        if (!(mask & ROW_PARTS)) continue;
        for (size_t row = 0, rows; row < ROWS; row += rows) {
            rows = rows_apart ? 1 + test_below(ROWS - row) : ROWS;
            add_piece((struct piece){site, first, count, row, rows, mask});
        }
    }
    if (!sites[site].matmul) return;
    for (size_t part = SECOND; part <= SECOND_QUANTIZED; part++)
        add_piece((struct piece){site, first, count, 0, 0, 1u << part});
}

static void cut(size_t samples_together, bool parts_apart, bool rows_apart, bool shuffle)
{
    piece_count = 0;
    for (size_t s = 0; s < SITES; s++)
        for (size_t first = 0, count; first < SAMPLES; first += count) {
            count = samples_together < SAMPLES - first ? samples_together : SAMPLES - first;
            cut_block(s, first, count, parts_apart, rows_apart);
        }
    for (size_t i = piece_count; shuffle && i > 1; i--) {
        size_t j = test_below(i);
        struct piece swapped = pieces[j];
        pieces[j] = pieces[i - 1];
        pieces[i - 1] = swapped;
    }
}

/* The part of a tensor that a piece shows, as a view. */
static qvit_tensor shown(const struct piece *p, size_t part)
{
    qvit_tensor t = model.part[p->site][part];
    size_t element = t.dtype == QVIT_DTYPE_U8 ? 1 : sizeof(float), at = 0;
    int32_t rows = t.rank - 2;
    at += p->first_sample * (size_t)t.strides[0];
    t.dims[0] = p->samples;
    if (p->rows) {
        at += p->first_row * (size_t)t.strides[rows];
        t.dims[rows] = p->rows;
    }
    t.data = (char *)t.data + at * element;
    return t;
}

static void observe_piece(qvit_calibrator *c, const struct piece *p)
{
    qvit_tensor views[PARTS];
    const qvit_tensor *given[PARTS] = {0};
    for (size_t part = 0; part < PARTS; part++) {
        if (!(p->parts >> part & 1) || !model.part[p->site][part].data) continue;
        views[part] = shown(p, part);
        given[part] = &views[part];
    }
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = p->site, o.first_sample = p->first_sample, o.first_row = p->first_row;
    o.input = given[INPUT], o.input_quantized = given[INPUT_QUANTIZED];
    o.second = given[SECOND], o.second_quantized = given[SECOND_QUANTIZED];
    o.gradient = given[GRADIENT];
    MUST(qvit_calibrator_observe(c, &o, &why));
}

/* Everything in one call for each site, the second operand with it. */
static void cut_whole(void)
{
    piece_count = 0;
    for (size_t s = 0; s < SITES; s++)
        add_piece((struct piece){s, 0, SAMPLES, 0, 0, (1u << PARTS) - 1});
}

/* ---- comparing ---- */

static const struct plan_of_solving {
    const char *recipe, *settings;
    int32_t use_quantized;
} solvings[] = {
    {"minmax", "twin=softmax,gelu equalize=0.5", 0},
    {"percentile", "percentile=99", 1},
    {"mse", "candidates=9 twin=softmax,gelu equalize=0.5", 1},
    {"cosine", "candidates=9 weights=layer rounds=2", 0},
};
enum { SOLVINGS = sizeof solvings / sizeof solvings[0] };

static struct bytes all_results(qvit_calibrator *c)
{
    struct bytes all = {0};
    for (size_t i = 0; i < SOLVINGS; i++) {
        const char *settings[8];
        qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
        o.recipe = solvings[i].recipe, o.use_quantized = solvings[i].use_quantized;
        o.weight_bits = 4 + (int32_t)i, o.input_bits = 5;
        o.setting_count = split_settings(solvings[i].settings, settings, 8), o.settings = settings;
        MUST(qvit_calibrator_solve(c, &o, &why));
        struct bytes one = bytes_of_results(c, SITES);
        bytes_add(&all, one.data, one.size);
        bytes_free(&one);
    }
    return all;
}

static struct bytes observed(const qvit_engine *engine, const qvit_calibrator_options *o)
{
    qvit_calibrator *c = new_calibrator(engine, o);
    for (size_t i = 0; i < piece_count; i++) observe_piece(c, &pieces[i]);
    struct bytes all = all_results(c);
    forget_calibrators();
    return all;
}

static void check_same(struct bytes *got, const struct bytes *expected, const char *how)
{
    size_t at = 0;
    while (at < got->size && at < expected->size && got->data[at] == expected->data[at]) at++;
    bool same = bytes_equal(got, expected);
    bytes_free(got);
    if (!same) FAIL("%s: byte %zu of %zu differs", how, at, expected->size);
}

/* Caps: none, and such as drop most rows and some whole matrices. */
static const qvit_calibrator_options caps[] = {
    {sizeof(qvit_calibrator_options), 0, 0, 0},
    {sizeof(qvit_calibrator_options), 7, 0, 50},
    {sizeof(qvit_calibrator_options), 8, 90000, 0},
    {sizeof(qvit_calibrator_options), 9, 100000, 64},
    {sizeof(qvit_calibrator_options), UINT64_MAX, 0, 1},
};
enum { CAPS = sizeof caps / sizeof caps[0] };

static void batches_order_and_parts_do_not_matter(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    for (size_t k = 0; k < CAPS; k++) {
        cut_whole();
        struct bytes expected = observed(engine, &caps[k]);
        const size_t together[] = {1, 5, 24};
        for (size_t i = 0; i < 3; i++)
            for (int apart = 0; apart < 4; apart++)
                for (int shuffle = 0; shuffle < 2; shuffle++) {
                    cut(together[i], apart & 1, apart & 2, shuffle);
                    struct bytes got = observed(engine, &caps[k]);
                    char how[120];
                    snprintf(how, sizeof how, "cap %zu, %zu samples together, apart %d, shuffle %d",
                             k, together[i], apart, shuffle);
                    check_same(&got, &expected, how);
                }
        bytes_free(&expected);
    }
    give_back();
}

static void workers_do_not_matter(void)
{
    make_model();
    for (size_t k = 0; k < CAPS; k += 3) {
        cut_whole();
        struct bytes expected = observed(engine_new(), &caps[k]);
        const size_t workers[] = {1, 2, 3, 7};
        for (size_t i = 0; i < 4; i++) {
            struct shuffled shuffled = {.workers = workers[i]};
            qvit_executor executor = shuffled_hook(&shuffled);
            qvit_engine *engine = engine_with(0, NULL, &executor);
            cut(3, i & 1, i & 1, true);
            struct bytes got = observed(engine, &caps[k]);
            if (workers[i] > 1) CHECK(shuffled.tasks > 0);
            check_same(&got, &expected, "workers");
        }
        bytes_free(&expected);
    }
    give_back();
}

/* Searches compare with products of floats, which may differ; ranges come from what was seen. */
static void instruction_sets_do_not_matter_without_a_search(void)
{
    make_model();
    cut_whole();
    struct bytes expected = {0};
    for (size_t i = 0; i < isa_variant_count(); i++)
        for (int percentile = 0; percentile < 2; percentile++) {
            qvit_calibrator *c = new_calibrator(engine_with(isa_variants[i], NULL, NULL), NULL);
            for (size_t p = 0; p < piece_count; p++) observe_piece(c, &pieces[p]);
            solve(c, percentile ? "percentile" : "minmax", 5, 6, "twin=softmax,gelu");
            struct bytes got = bytes_of_results(c, SITES);
            if (!i) {
                bytes_add(&expected, got.data, got.size);
                bytes_free(&got);
                continue;
            }
            struct bytes part = {expected.data + (percentile ? expected.size - got.size : 0),
                                 got.size, 0};
            check_same(&got, &part, "instruction set");
        }
    bytes_free(&expected);
    give_back();
}

/* Sites are solved from what was seen so far; that they were solved before leaves no trace. */
static void solving_in_between_does_not_matter(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    cut(1, true, false, true);
    struct bytes expected = observed(engine, &caps[3]);
    qvit_calibrator *c = new_calibrator(engine, &caps[3]);
    for (size_t i = 0; i < piece_count; i++) {
        if (i % 100 == 99) (void)solve_status(c, "mse", 8, 8, "candidates=3");
        observe_piece(c, &pieces[i]);
    }
    struct bytes got = all_results(c);
    check_same(&got, &expected, "solved in between");
    bytes_free(&expected);
    give_back();
}

/* An operand of a product may come before anything says how wide the other one is, and so before it
 * is known how many fit the memory. */
static void what_comes_first_does_not_matter(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    for (size_t k = 0; k < CAPS; k++) {
        cut_whole();
        struct bytes expected = observed(engine, &caps[k]);
        for (int seconds_first = 0; seconds_first < 2; seconds_first++) {
            cut(2, true, true, true);
            qvit_calibrator *c = new_calibrator(engine, &caps[k]);
            for (int turn = 0; turn < 2; turn++)
                for (size_t i = 0; i < piece_count; i++)
                    if ((pieces[i].parts >= 1u << SECOND) == (turn != seconds_first))
                        observe_piece(c, &pieces[i]);
            struct bytes got = all_results(c);
            check_same(&got, &expected, seconds_first ? "second first" : "second last");
        }
        bytes_free(&expected);
    }
    give_back();
}

static void the_same_run_twice_is_the_same(void)
{
    make_model();
    cut_whole();
    struct bytes a = observed(engine_new(), &caps[3]), b = observed(engine_new(), &caps[3]);
    check_same(&b, &a, "twice");
    bytes_free(&a);
    give_back();
}

static void another_seed_keeps_other_rows(void)
{
    make_model();
    qvit_engine *engine = engine_new();
    cut_whole();
    struct bytes first = {0};
    size_t different = 0;
    for (uint64_t seed = 0; seed < 5; seed++) {
        qvit_calibrator_options o = QVIT_CALIBRATOR_OPTIONS_INIT;
        o.seed = seed, o.max_rows = 16;
        struct bytes got = observed(engine, &o);
        if (!seed) {
            first = got;
            continue;
        }
        different += !bytes_equal(&first, &got);
        bytes_free(&got);
    }
    bytes_free(&first);
    CHECK_EQ(different, 4);
    give_back();
}

/* ---- memory ---- */

/* A heap that remembers the most that was out at once. */
struct peak {
    struct heap heap;
    size_t most;
};

static void *peak_alloc(void *user, size_t size, size_t alignment)
{
    struct peak *p = user;
    void *memory = heap_alloc(&p->heap, size, alignment);
    if (p->heap.live_bytes > p->most) p->most = p->heap.live_bytes;
    return memory;
}

static void peak_free(void *user, void *memory, size_t size, size_t alignment)
{
    heap_free(&((struct peak *)user)->heap, memory, size, alignment);
}

static void observe_samples(qvit_calibrator *c, size_t from, size_t to, qvit_tensor *parts)
{
    for (size_t i = from; i < to; i++) {
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.first_sample = i, o.site = 0;
        o.input = &parts[0], o.input_quantized = &parts[1], o.gradient = &parts[2];
        MUST(qvit_calibrator_observe(c, &o, &why));
        o = (qvit_observation)QVIT_OBSERVATION_INIT;
        o.first_sample = i, o.site = 1;
        o.input = &parts[3], o.second = &parts[4];
        MUST(qvit_calibrator_observe(c, &o, &why));
    }
}

/* 50 rows an observation: the cap of 256 rows is reached before the tenth. */
static void memory_is_flat_from_10_to_500_observations(void)
{
    enum { TOKENS = 50, CAP = 1 << 20 };
    struct peak peak = {0};
    qvit_allocator hook = QVIT_ALLOCATOR_INIT;
    hook.user = &peak, hook.alloc = peak_alloc, hook.free = peak_free;
    qvit_engine *engine = engine_with(0, &hook, NULL);
    qvit_tensor w = matrix(8, 32, 1);
    qvit_tensor parts[5] = {
        normals(3, (size_t[]){1, TOKENS, 32}, 1), normals(3, (size_t[]){1, TOKENS, 32}, 1),
        normals(3, (size_t[]){1, TOKENS, 8}, 1), normals(4, (size_t[]){1, 2, TOKENS, 16}, 1),
        normals(4, (size_t[]){1, 2, TOKENS, 16}, 1)};
    qvit_calibrator *c = calibrator_capped(engine, 3, CAP, 256);
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    add_matmul(c, QVIT_INPUT_GENERIC, 2, true);
    size_t before = peak.heap.live_bytes;
    observe_samples(c, 0, 10, parts);
    size_t warm = peak.heap.live_bytes;
    observe_samples(c, 10, 20, parts); /* up to 16 matrices are kept */
    size_t early = peak.heap.live_bytes, early_peak = peak.most;
    observe_samples(c, 20, 500, parts);
    CHECK(warm <= early);
    CHECK_EQ(peak.heap.live_bytes, early);
    CHECK_EQ(peak.most, early_peak);
    /* Besides the rows: 41 KB of histograms for each tensor and head. */
    CHECK(early - before < CAP + 6 * 48 * 1024);
    give_back();
    heap_check_empty(&peak.heap);
}

/* The cap holds at every moment: neither few large observations nor many small ones pass it by. */
static void memory_stays_within_its_cap(void)
{
    for (uint64_t cap = 20000; cap <= 2000000; cap *= 10) {
        struct peak peak = {0};
        qvit_allocator hook = QVIT_ALLOCATOR_INIT;
        hook.user = &peak, hook.alloc = peak_alloc, hook.free = peak_free;
        qvit_engine *engine = engine_with(0, &hook, NULL);
        qvit_tensor w = matrix(8, 16, 1), x = normals(3, (size_t[]){40, 100, 16}, 1);
        qvit_calibrator *c = calibrator_capped(engine, 3, cap, 1000000);
        add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
        size_t before = peak.heap.live_bytes;
        observe(c, 0, &x);
        CHECK(peak.heap.live_bytes - before < cap + 48 * 1024);
        give_back();
        heap_check_empty(&peak.heap);
    }
}

/* What is executed allocates nothing; solving gives back all but its results. */
static void solving_gives_back_what_it_used(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    make_model();
    cut_whole();
    qvit_calibrator *c = new_calibrator(engine, NULL);
    for (size_t i = 0; i < piece_count; i++) observe_piece(c, &pieces[i]);
    solve(c, "mse", 8, 8, "candidates=5");
    size_t live = heap.live, bytes = heap.live_bytes;
    for (int i = 0; i < 3; i++) {
        solve(c, "mse", 8, 8, "candidates=5");
        CHECK_EQ(heap.live, live);
        CHECK_EQ(heap.live_bytes, bytes);
    }
    give_back();
    heap_check_empty(&heap);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(batches_order_and_parts_do_not_matter);
    RUN(workers_do_not_matter);
    RUN(instruction_sets_do_not_matter_without_a_search);
    RUN(solving_in_between_does_not_matter);
    RUN(what_comes_first_does_not_matter);
    RUN(the_same_run_twice_is_the_same);
    RUN(another_seed_keeps_other_rows);
    RUN(memory_is_flat_from_10_to_500_observations);
    RUN(memory_stays_within_its_cap);
    RUN(solving_gives_back_what_it_used);
    return test_end();
}
