/* granularity.h - the only place that knows which scale an element has. */
#ifndef QVITP_GRANULARITY_H
#define QVITP_GRANULARITY_H

#include "qvit.h"

struct qvit_granularity {
    const qvit_engine *engine;
    size_t rows, cols; /* QVIT_ANY: any number                                           */
    size_t row_blocks, col_blocks;
    uint32_t *row_block_of; /* [rows] block of each row; NULL where there is one block        */
    uint32_t *col_block_of; /* [cols]                                                         */
};

/* The block of a row, and of a column. */
static inline size_t qvitp_row_block(const qvit_granularity *g, size_t row)
{
    return g->row_block_of ? g->row_block_of[row] : 0;
}
static inline size_t qvitp_col_block(const qvit_granularity *g, size_t col)
{
    return g->col_block_of ? g->col_block_of[col] : 0;
}

/* Whether a matrix of this size may have this granularity. */
int qvitp_granularity_fits(const qvit_granularity *g, size_t rows, size_t cols);

/* A copy that belongs to `engine`, whatever engine the original was made with. */
qvit_granularity *qvitp_granularity_clone(const qvit_engine *engine, const qvit_granularity *g);

#endif
