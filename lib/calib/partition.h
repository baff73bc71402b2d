/*
 * partition.h - the order of an operand's channels, and where it is cut into blocks that share a scale.
 *
 * Along k, channels that share a scale are rounded in steps that the largest of them sets. Seen by one
 * feature (a row block of the weights, or the activation), a channel has a reach m, its largest magnitude
 * there, and a weight s, what squared rounding noise in it counts. What a partition into blocks costs is
 *
 *     noise = sum over features f and blocks b of  M_fb^2 sum_{c in b} s_fc,   M_fb = max_{c in b} m_fc
 *
 * in units of 1 / (12 (qmax - 1/2)^2). For weights s_c = rows E[x_c^2], for activations s_c is rows times
 * |W_c|^2. PTQ-SL (arXiv 2110.07809) found that moving channels between blocks pays; how its orders are
 * searched is not known, the methods here are our own:
 *
 *   SORT     orders by size, cuts by dynamic programming. One feature: no partition has less noise,
 *            unless `multiple` or `segments` bind. More features: sorted once by the sum of log reaches,
 *            once along the first principal direction of log reaches, each feature weighed by its share
 *            of the noise without cuts. Neither is always the better one, so both are cut, and the given
 *            order too; the best is taken, the given order where nothing is gained. More blocks never
 *            mean more noise, and there is never more than with NONE.
 *   CLUSTER  blocks of equal size: k-means of log reaches from two sets of seeds (farthest first, and
 *            evenly along the principal direction), channels given to clusters by regret, then swaps
 *            of channels while the noise falls. Never more than NONE.
 *   SEARCH   an evolutionary search from SORT's and CLUSTER's partitions: a population of 16, children by
 *            swaps of channels and moves of `multiple` of them, then swaps as above. Never more than
 *            either.
 *
 * All results are the same on every machine: IEEE operations in a written order, a fixed seed.
 */
#ifndef QVITP_PARTITION_H
#define QVITP_PARTITION_H

#include "calib/pool.h"

/* The channels of one side of an operand. Numbers are >= 0, and all noise is finite. */
struct qvitp_axis {
    size_t channels, features; /* both >= 1 */
    const float *reach;        /* [features][channels] */
    const double *weight;      /* [features][channels] */
};

enum { QVITP_ORDER_NONE, QVITP_ORDER_SORT, QVITP_ORDER_CLUSTER, QVITP_ORDER_SEARCH };

/* What is wanted. */
struct qvitp_ordering {
    int32_t method;  /* QVITP_ORDER_*; NONE cuts the given order evenly */
    size_t blocks;   /* >= 1, see below */
    size_t multiple; /* >= 1: a block's size is a multiple of it, but for the last of a segment */
    size_t segments; /* >= 1, divides channels: a channel stays in its one of so many equal runs */
};

/* Which channels lie where. In a block, channels rise. */
struct qvitp_partition {
    size_t blocks;
    uint32_t *order; /* [channels] the channel that comes to each place */
    size_t *bounds;  /* [blocks + 1] places, from 0 to channels */
};

/* The noise of a partition, see above; relative to it, rounding is below channels * features * 2^-52. */
double qvitp_partition_noise(const struct qvitp_axis *axis,
                             const struct qvitp_partition *partition);

/*
 * Chooses a partition. The number of blocks:
 *   blocks >= segments   blocks / segments in each segment, rounded down, and no more than it has
 *                        multiples of `multiple` (the rest counted as one): `multiple` is never broken
 *   blocks < segments    as many as asked for, of whole segments each, in the given order; all methods
 *                        but NONE find the best cuts
 *
 * With c channels in a segment, n blocks of them, f features, g = min(c / multiple, about 1024 or 2 n)
 * places where to cut: SORT takes O(c f^2 + g^2 (f + n)) and 4 g^2 bytes (one feature: its sorted order
 * is cut at any multiple, in O(c n log c)), CLUSTER O(c n f) a round of k-means or swaps and c^2 in all,
 * SEARCH some thousand mutations more of O(c + n f).
 *
 * Errors: NO_MEMORY, and *partition is empty then.
 */
qvit_status qvitp_partition_choose(const qvit_engine *engine, const struct qvitp_axis *axis,
                                   const struct qvitp_ordering *ordering,
                                   struct qvitp_partition *partition, qvit_error *error);
void qvitp_partition_free(const qvit_engine *engine, struct qvitp_partition *partition);

/* ---- between the files of this: partition.c, partition_sort.c, partition_cluster.c, partition_search.c ---- */

/* Features come in fours, filled up with zeros: sums have four partials. */
enum { QVITP_LANES = 4 };

/* The channels of a segment, which may change places; all, if segments are joined. */
struct qvitp_segment {
    size_t channels, features, blocks, multiple;
    size_t step; /* cuts are looked for at multiples of this, itself one of `multiple` */
    int single;  /* there is one feature */
    int fixed;   /* channels stay where they are */
    double *square, *weight; /* [channels][features] reach^2, and s */
};

/* Who is in which block, and what that means. */
struct qvitp_layout {
    uint32_t *home;             /* [channels] */
    size_t *size;               /* [blocks] */
    double *peak, *below, *sum; /* [blocks][features] largest square, the next, sum of weights */
    double *noise, total;       /* [blocks], and their sum */
};

/* Memory for `count` layouts; 0 if it runs out. */
int qvitp_layouts_make(struct qvitp_pool *pool, const struct qvitp_segment *segment, size_t count,
                       struct qvitp_layout *layouts);
/* Everything from `home`. */
void qvitp_layout_fill(const struct qvitp_segment *segment, struct qvitp_layout *layout);
/* One block from `home`, and the total. */
void qvitp_layout_recount(const struct qvitp_segment *segment, struct qvitp_layout *layout,
                          size_t block);

/* Swaps channels of different blocks while that lessens the noise, or until a share of the work is done
 * that CLUSTER and SEARCH may take. 0: no memory. */
int qvitp_layout_descend(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                         struct qvitp_layout *layout);

/* Channels by rising key; those with equal keys rise. */
struct qvitp_keyed {
    double key;
    uint32_t channel;
};
void qvitp_keyed_sort(struct qvitp_keyed *keyed, size_t count);

/* Even cuts: the block of each channel in the given order. */
void qvitp_segment_cut_evenly(const struct qvitp_segment *segment, uint32_t *home);

/* What k-means and directions see: [channels][features] log2 of the reach over the feature's largest one,
 * -10 at least, times the root of the feature's share of the noise without cuts. 0: no memory. */
int qvitp_segment_levels(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                         float *level);
/* The channels, sorted along the first principal direction of the levels. 0: no memory. */
int qvitp_segment_principal_order(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                                  const float *level, uint32_t *order);

/* The methods: home [channels]. */
qvit_status qvitp_order_sort(const qvit_engine *engine, const struct qvitp_segment *segment,
                             uint32_t *home, qvit_error *error);
qvit_status qvitp_order_cluster(const qvit_engine *engine, const struct qvitp_segment *segment,
                                uint32_t *home, qvit_error *error);
qvit_status qvitp_order_search(const qvit_engine *engine, const struct qvitp_segment *segment,
                               uint32_t *home, qvit_error *error);

#endif
