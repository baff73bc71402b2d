/*
 * metric_ranking.c - Pearson's correlation of attention scores, less a loss for pairs of them that
 * change their order (Liu et al., arXiv 2106.14156, 3.2):
 *
 *     0.1 * mean of max(0, 0.2 - (out_i - out_j) sign(target_i - target_j))
 *
 * over PAIRS pairs (i, j) of every row, drawn once and for all. Departures from the paper, which sums
 * over all pairs of one row: the mean over pairs and rows, so that the factor means the same at every number
 * of tokens; and scores in units of the target row's standard deviation, as the margin presumes.
 */
#include <math.h>

#include "calib/pearson.h"
#include "calib/sample.h"

enum { PAIRS = 256, LOSS = QVITP_PEARSON_SUMS, COUNT };
static const double strength = 0.1, margin = 0.2;

/* A seed that no sample has: the pairs have nothing to do with the choice of rows. */
static const uint64_t pair_seed = 0x72616E6B696E67;

static double deviation(const float *x, size_t n)
{
    double mean = 0, square = 0;
    for (size_t j = 0; j < n; j++) mean += (double)x[j] / (double)n;
    for (size_t j = 0; j < n; j++) square += ((double)x[j] - mean) * ((double)x[j] - mean);
    return sqrt(square / (double)n);
}

struct pair {
    size_t i, j;
};

static void draw(size_t n, struct pair *pairs)
{
    for (uint64_t p = 0; p < PAIRS; p++) {
        uint64_t hash = qvitp_hash(pair_seed, 0, n, p);
        pairs[p].i = (size_t)((hash & 0xFFFFFFFF) % n);
        pairs[p].j = (size_t)((hash >> 32) % n);
    }
}

static void add_row(size_t n, const float *out, const float *target, const struct pair *pairs,
                    double *sums)
{
    double unit = deviation(target, n);
    if (unit <= 0) return; /* nothing to rank */
    for (size_t p = 0; p < PAIRS; p++) {
        size_t i = pairs[p].i, j = pairs[p].j;
        double order = (double)target[i] - (double)target[j];
        if (order <= 0 && order >= 0) continue; /* a tie has no order to keep */
        double kept = ((double)out[i] - (double)out[j]) / unit;
        sums[LOSS] += fmax(0, margin - (order > 0 ? kept : -kept));
        sums[COUNT]++;
    }
}

static void add_rows(const struct qvitp_outputs *o, double *sums)
{
    struct pair pairs[PAIRS];
    draw(o->n, pairs);
    qvitp_pearson_add(o, sums);
    for (size_t i = 0; i < o->m; i++)
        add_row(o->n, o->out + i * o->ld, o->target + i * o->ld, pairs, sums);
}

static double score(const double *sums)
{
    double loss = sums[COUNT] > 0 ? sums[LOSS] / sums[COUNT] : 0;
    return qvitp_pearson_score(sums) - strength * loss;
}

/* A column of scores is not ranked: attention compares the keys of one query. */
const struct qvitp_metric qvitp_metric_ranking = {.name = "ranking",
                                                  .by_sample = 1,
                                                  .rows = add_rows,
                                                  .score = score,
                                                  .columns = qvitp_pearson_add_columns,
                                                  .column_score = qvitp_pearson_score};
