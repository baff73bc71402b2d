/* test_granularity.c - partitions: every element's block against a map made the obvious way. */
#include "support.h"

enum { MOST = 40 };

/* One side of a random partition, and the block of every channel. */
struct side {
    size_t size, blocks;
    size_t bounds[MOST + 1], order[MOST], block_of[MOST];
    bool with_bounds, with_order;
};

static void random_side(struct side *s)
{
    s->size = 1 + test_below(MOST);
    s->blocks = 0;
    size_t chance = test_below(s->size + 1);
    s->bounds[s->blocks++] = 0;
    for (size_t i = 1; i < s->size; i++)
        if (test_below(s->size) < chance) s->bounds[s->blocks++] = i;
    s->bounds[s->blocks] = s->size;
    for (size_t i = 0; i < s->size; i++) {
        size_t j = test_below(i + 1);
        s->order[i] = s->order[j];
        s->order[j] = i;
    }
    s->with_order = test_below(2);
    /* One block and a block for each channel need no bounds. */
    s->with_bounds = (s->blocks != 1 && s->blocks != s->size) || test_below(2);
    for (size_t b = 0; b < s->blocks; b++)
        for (size_t place = s->bounds[b]; place < s->bounds[b + 1]; place++)
            s->block_of[s->with_order ? s->order[place] : place] = b;
}

static qvit_granularity *create(qvit_engine *engine, struct side *rows, struct side *cols)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = rows->size, o.cols = cols->size;
    o.row_blocks = rows->blocks, o.col_blocks = cols->blocks;
    o.row_bounds = rows->with_bounds ? rows->bounds : NULL;
    o.col_bounds = cols->with_bounds ? cols->bounds : NULL;
    o.row_order = rows->with_order ? rows->order : NULL;
    o.col_order = cols->with_order ? cols->order : NULL;
    qvit_granularity *g;
    MUST(qvit_granularity_create(engine, &o, &g, &why));
    return keep(KEPT_GRANULARITY, g, 0);
}

static void random_partitions_equal_the_obvious_map(void)
{
    qvit_engine *engine = engine_new();
    for (int round = 0; round < 400; round++) {
        size_t mark = kept.count;
        struct side rows, cols;
        random_side(&rows), random_side(&cols);
        qvit_granularity *g = create(engine, &rows, &cols);
        /* Arrays are copied: what becomes of them has no say. */
        memset(rows.bounds, 0xFF, sizeof rows.bounds), memset(rows.order, 0xFF, sizeof rows.order);
        memset(cols.bounds, 0xFF, sizeof cols.bounds), memset(cols.order, 0xFF, sizeof cols.order);
        CHECK_EQ(qvit_granularity_blocks(g), rows.blocks * cols.blocks);
        for (size_t r = 0; r < rows.size; r++)
            for (size_t c = 0; c < cols.size; c++)
                CHECK_EQ(qvit_granularity_block_of(g, r, c),
                         rows.block_of[r] * cols.blocks + cols.block_of[c]);
        CHECK(qvit_granularity_block_of(g, rows.size, 0) == QVIT_ANY);
        CHECK(qvit_granularity_block_of(g, 0, cols.size) == QVIT_ANY);
        CHECK(qvit_granularity_block_of(g, QVIT_ANY, QVIT_ANY) == QVIT_ANY);
        release_to(mark);
    }
    release();
}

static void every_size_in_one_block_is_a_layer(void)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    qvit_granularity *g;
    MUST(qvit_granularity_create(engine_new(), &o, &g, &why));
    CHECK_EQ(qvit_granularity_blocks(g), 1);
    CHECK_EQ(qvit_granularity_block_of(g, 0, 0), 0);
    CHECK_EQ(qvit_granularity_block_of(g, 1000000, 1000000), 0);
    qvit_granularity_destroy(g);
    release();
}

static void any_size_of_one_side_goes_with_blocks_of_the_other(void)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    const size_t bounds[] = {0, 2, 6};
    o.cols = 6, o.col_blocks = 2, o.col_bounds = bounds;
    qvit_granularity *g;
    MUST(qvit_granularity_create(engine_new(), &o, &g, &why));
    CHECK_EQ(qvit_granularity_blocks(g), 2);
    CHECK_EQ(qvit_granularity_block_of(g, 12345, 1), 0);
    CHECK_EQ(qvit_granularity_block_of(g, 12345, 2), 1);
    CHECK(qvit_granularity_block_of(g, 12345, 6) == QVIT_ANY);
    qvit_granularity_destroy(g);
    release();
}

static void no_blocks_mean_one(void)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = 3, o.cols = 4, o.row_blocks = o.col_blocks = 0;
    qvit_granularity *g;
    MUST(qvit_granularity_create(engine_new(), &o, &g, &why));
    CHECK_EQ(qvit_granularity_blocks(g), 1);
    qvit_granularity_destroy(g);
    release();
}

/* ---- what is refused ---- */

/* Tries a side as rows and as columns: both must answer the same. */
static qvit_status refused(size_t size, size_t blocks, const size_t *bounds, const size_t *order)
{
    qvit_status answer[2];
    for (int cols = 0; cols < 2; cols++) {
        qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
        *(cols ? &o.cols : &o.rows) = size;
        *(cols ? &o.col_blocks : &o.row_blocks) = blocks;
        *(cols ? &o.col_bounds : &o.row_bounds) = bounds;
        *(cols ? &o.col_order : &o.row_order) = order;
        qvit_granularity *g = (qvit_granularity *)&o;
        answer[cols] = qvit_granularity_create(engine_new(), &o, &g, &why);
        CHECK_EQ(why.status, answer[cols]);
        CHECK((answer[cols] == QVIT_OK) == (g != NULL));
        qvit_granularity_destroy(g);
    }
    CHECK_EQ(answer[0], answer[1]);
    release();
    return answer[0];
}

static void bad_bounds_are_refused(void)
{
    CHECK_EQ(refused(4, 2, (size_t[]){0, 3, 4}, NULL), QVIT_OK);
    CHECK_EQ(refused(4, 2, (size_t[]){1, 3, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 2, (size_t[]){0, 3, 5}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 2, (size_t[]){0, 3, 3}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 2, (size_t[]){0, 0, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 2, (size_t[]){0, 4, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 2, (size_t[]){0, 7, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 3, (size_t[]){0, 3, 2, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(4, 3, (size_t[]){0, SIZE_MAX, 3, 4}, NULL), QVIT_ERR_SHAPE);
    CHECK(refused(4, 3, NULL, NULL) != QVIT_OK); /* neither one block nor all */
}

static void bad_orders_are_refused(void)
{
    const size_t bounds[] = {0, 3, 4};
    CHECK_EQ(refused(4, 2, bounds, (size_t[]){3, 1, 0, 2}), QVIT_OK);
    CHECK_EQ(refused(4, 2, bounds, (size_t[]){3, 1, 0, 0}), QVIT_ERR_ARGUMENT);
    CHECK_EQ(refused(4, 2, bounds, (size_t[]){4, 1, 0, 2}), QVIT_ERR_ARGUMENT);
    CHECK_EQ(refused(4, 2, bounds, (size_t[]){3, 1, SIZE_MAX, 2}), QVIT_ERR_ARGUMENT);
    CHECK_EQ(refused(4, 1, NULL, (size_t[]){0, 0, 1, 2}), QVIT_ERR_ARGUMENT);
    CHECK_EQ(refused(4, 4, NULL, (size_t[]){0, 0, 1, 2}), QVIT_ERR_ARGUMENT);
}

static void sizes_of_0_and_too_many_blocks_are_refused(void)
{
    CHECK_EQ(refused(0, 1, NULL, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(0, 0, NULL, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(2, 3, (size_t[]){0, 1, 2, 2}, NULL), QVIT_ERR_SHAPE);
    CHECK_EQ(refused(2, SIZE_MAX - 1, NULL, NULL), QVIT_ERR_SHAPE);
}

static void any_size_is_one_block_without_order(void)
{
    CHECK_EQ(refused(QVIT_ANY, 1, NULL, NULL), QVIT_OK);
    CHECK(refused(QVIT_ANY, 2, NULL, NULL) != QVIT_OK);
    CHECK(refused(QVIT_ANY, QVIT_ANY, NULL, NULL) != QVIT_OK);
    CHECK(refused(QVIT_ANY, 2, (size_t[]){0, 1, 2}, NULL) != QVIT_OK);
    CHECK(refused(QVIT_ANY, 1, NULL, (size_t[]){0}) != QVIT_OK);
}

static void null_is_refused(void)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    qvit_granularity *g = (qvit_granularity *)&o;
    CHECK_EQ(qvit_granularity_create(NULL, &o, &g, &why), QVIT_ERR_ARGUMENT);
    CHECK(!g);
    g = (qvit_granularity *)&o;
    CHECK_EQ(qvit_granularity_create(engine_new(), NULL, &g, &why), QVIT_ERR_ARGUMENT);
    CHECK(!g);
    CHECK_EQ(qvit_granularity_create(engine_new(), &o, NULL, &why), QVIT_ERR_ARGUMENT);
    release();
}

static void every_allocation_may_fail(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    size_t live = heap.live, failures = 0;
    const size_t bounds[] = {0, 1, 5}, order[] = {4, 3, 2, 1, 0};
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = o.cols = 5, o.row_blocks = o.col_blocks = 2;
    o.row_bounds = o.col_bounds = bounds, o.row_order = o.col_order = order;
    qvit_granularity *g = NULL;
    for (size_t i = 1; !g; i++) {
        heap.fail_at = heap.calls + i, heap.fail_count = 1;
        qvit_status status = qvit_granularity_create(engine, &o, &g, &why);
        if (g) break;
        CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
        CHECK_EQ(heap.live, live);
        failures++;
    }
    heap.fail_at = 0;
    CHECK(failures >= 1);
    qvit_granularity_destroy(g);
    release();
    heap_check_empty(&heap);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(random_partitions_equal_the_obvious_map);
    RUN(every_size_in_one_block_is_a_layer);
    RUN(any_size_of_one_side_goes_with_blocks_of_the_other);
    RUN(no_blocks_mean_one);
    RUN(bad_bounds_are_refused);
    RUN(bad_orders_are_refused);
    RUN(sizes_of_0_and_too_many_blocks_are_refused);
    RUN(any_size_is_one_block_without_order);
    RUN(null_is_refused);
    RUN(every_allocation_may_fail);
    return test_end();
}
