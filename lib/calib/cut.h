/*
 * cut.h - how the inputs of linear sites are cut into K-blocks while the sites are solved: in which order
 * they stand, where the blocks begin, and which coder each has (PTQ-SL, arXiv 2110.07809).
 *
 * Solving works on places: weights, rows and channels are read in the order that is chosen here, and only
 * the result speaks of channels again.
 */
#ifndef QVITP_CUT_H
#define QVITP_CUT_H

#include "calib/input.h"
#include "op/k_blocks.h"
#include "op/order.h"

struct qvitp_cut {
    int32_t *order;               /* [inputs] the channel at each place; NULL: itself */
    struct qvitp_k_blocks blocks; /* count 1: not cut */
    size_t chunks;                /* coders of the input: runs of K-blocks */
    size_t *chunk_of;             /* [blocks] */
    struct qvitp_span *span;      /* [chunks] */
    struct qvitp_coder *coder;    /* [chunks] */
};

/* Chooses it for sites [0, count), which read one tensor. Memory is the pool's. Errors: NO_MEMORY. */
qvit_status qvitp_cut_choose(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                             size_t count, const struct qvitp_input *input, struct qvitp_pool *pool,
                             struct qvitp_cut *out, qvit_error *error);

#endif
