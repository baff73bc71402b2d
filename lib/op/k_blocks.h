/*
 * k_blocks.h - how the k of a linear layer is cut into blocks, where the scale of its input or that of
 * its weights changes.
 *
 * A place is a number of k as the input's columns stand in memory; a channel is what stands there: order
 * [place], or the place itself without an order. Quantizers know channels, kernels know places.
 */
#ifndef QVITP_K_BLOCKS_H
#define QVITP_K_BLOCKS_H

#include "quant/quantizer.h"

struct qvitp_k_blocks {
    size_t count;   /* >= 1 */
    size_t packed;  /* k, when each block is padded to a multiple of the k step */
    size_t *starts; /* [count + 1] the place where each begins, and at last k */
    size_t *ends;   /* [count] where each ends in the packed k */
};

/* What is cut: the two quantizers, and the order of k (NULL: as it is). */
struct qvitp_k_sides {
    const qvit_quantizer *input, *weight;
    const int32_t *order;
    size_t k;
};

/* Number of blocks. */
size_t qvitp_k_blocks_count(const struct qvitp_k_sides *sides);

/* Fills the arrays, and so `packed`; count is set already. Arrays NULL: `packed` alone. */
void qvitp_k_blocks_cut(const struct qvitp_k_sides *sides, size_t kstep,
                        struct qvitp_k_blocks *blocks);

#endif
