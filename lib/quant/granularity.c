/* granularity.c - how scales are shared: layer, channel, sub-layer blocks with orders. */
#include "quant/granularity.h"

#include <string.h>

#include "base/error.h"
#include "base/options.h"
#include "engine.h"

QVITP_DEFINE_INIT(qvit_granularity_options, QVIT_GRANULARITY_OPTIONS_INIT)

/* One side of the partition: rows or columns. */
struct side {
    const char *name;
    size_t size, blocks;
    const size_t *bounds, *order;
};

static qvit_status check_side(const struct side *s, qvit_error *error)
{
    if (s->size == 0) return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: the size is 0", s->name);
    if (s->size == QVIT_ANY) {
        if (s->blocks == 1 && !s->bounds && !s->order) return QVIT_OK;
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: any number of them is one block, not %zu",
                          s->name, s->blocks);
    }
    if (s->blocks > s->size || s->size > UINT32_MAX)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: %zu blocks of %zu", s->name, s->blocks,
                          s->size);
    if (!s->bounds) {
        if (s->blocks == 1 || s->blocks == s->size) return QVIT_OK;
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: %zu blocks without bounds", s->name,
                          s->blocks);
    }
    if (s->bounds[0] != 0 || s->bounds[s->blocks] != s->size)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: the bounds do not go from 0 to %zu", s->name,
                          s->size);
    for (size_t b = 0; b < s->blocks; b++)
        if (s->bounds[b] >= s->bounds[b + 1])
            return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: bound %zu does not rise", s->name, b + 1);
    return QVIT_OK;
}

/* Fills block_of (all of it UINT32_MAX before) from bounds and order; 0 if the order repeats or leaves
 * the range. */
static int fill(const struct side *s, uint32_t *block_of)
{
    size_t block = 0;
    for (size_t place = 0; place < s->size; place++) {
        if (s->bounds && place == s->bounds[block + 1]) block++;
        if (!s->bounds && s->blocks > 1) block = place;
        size_t channel = s->order ? s->order[place] : place;
        if (channel >= s->size || block_of[channel] != UINT32_MAX) return 0;
        block_of[channel] = (uint32_t)block;
    }
    return 1;
}

static qvit_status build_side(const qvit_engine *engine, const struct side *s, uint32_t **block_of,
                              qvit_error *error)
{
    QVITP_TRY(check_side(s, error));
    if (s->size == QVIT_ANY || (s->blocks == 1 && !s->order)) return QVIT_OK;
    *block_of = qvitp_engine_alloc(engine, s->size, sizeof **block_of);
    if (!*block_of) return qvitp_no_memory(error);
    memset(*block_of, 0xFF, s->size * sizeof **block_of);
    if (!fill(s, *block_of))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: the order is no permutation", s->name);
    return QVIT_OK;
}

qvit_status qvit_granularity_create(const qvit_engine *engine,
                                    const qvit_granularity_options *options, qvit_granularity **out,
                                    qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));

    qvit_granularity *g = qvitp_engine_alloc(engine, 1, sizeof *g);
    if (!g) return qvitp_no_memory(error);
    g->engine = engine;
    g->rows = o.rows;
    g->cols = o.cols;
    g->row_blocks = o.row_blocks ? o.row_blocks : 1;
    g->col_blocks = o.col_blocks ? o.col_blocks : 1;
    struct side rows = {"rows", g->rows, g->row_blocks, o.row_bounds, o.row_order};
    struct side cols = {"columns", g->cols, g->col_blocks, o.col_bounds, o.col_order};
    qvit_status status = build_side(engine, &rows, &g->row_block_of, error);
    if (status == QVIT_OK) status = build_side(engine, &cols, &g->col_block_of, error);
    if (status == QVIT_OK && g->row_blocks > SIZE_MAX / sizeof(float) / g->col_blocks)
        status = qvitp_fail(error, QVIT_ERR_SHAPE, "the number of blocks does not fit in memory");
    if (status != QVIT_OK) {
        qvit_granularity_destroy(g);
        return status;
    }
    *out = g;
    return qvitp_ok(error);
}

void qvit_granularity_destroy(qvit_granularity *g)
{
    if (!g) return;
    qvitp_engine_free(g->engine, g->row_block_of);
    qvitp_engine_free(g->engine, g->col_block_of);
    qvitp_engine_free(g->engine, g);
}

size_t qvit_granularity_blocks(const qvit_granularity *g)
{
    return g ? g->row_blocks * g->col_blocks : 0;
}

size_t qvit_granularity_block_of(const qvit_granularity *g, size_t row, size_t col)
{
    if (!g || row >= g->rows || col >= g->cols) return QVIT_ANY;
    return qvitp_row_block(g, row) * g->col_blocks + qvitp_col_block(g, col);
}

int qvitp_granularity_fits(const qvit_granularity *g, size_t rows, size_t cols)
{
    return (g->rows == QVIT_ANY || g->rows == rows) && (g->cols == QVIT_ANY || g->cols == cols);
}

qvit_granularity *qvitp_granularity_clone(const qvit_engine *engine, const qvit_granularity *g)
{
    qvit_granularity *copy = qvitp_engine_alloc(engine, 1, sizeof *copy);
    if (!copy) return NULL;
    int ok = 1;
    *copy = *g;
    copy->engine = engine;
    copy->row_block_of =
        qvitp_engine_copy(engine, g->row_block_of, g->rows, sizeof *g->row_block_of, &ok);
    copy->col_block_of =
        qvitp_engine_copy(engine, g->col_block_of, g->cols, sizeof *g->col_block_of, &ok);
    if (ok) return copy;
    qvit_granularity_destroy(copy);
    return NULL;
}
