/*
 * stats.h - what is kept of every row: minima, maxima, histograms.
 *
 * All of it is independent of order: minimum and maximum, and counts in bins whose edges are fixed
 * for ever (they are taken from the float's own exponent and mantissa bits, so no range need be known
 * beforehand).
 */
#ifndef QVITP_STATS_H
#define QVITP_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "calib/aciq.h"
#include "qvit.h"

/* Bins: 64 to an octave from 2^-24 to 2^16, for each sign; smaller values fall into the first bin of
 * their sign, larger ones into the last. */
enum { QVITP_BINS_PER_OCTAVE = 64, QVITP_OCTAVES = 40 };
enum { QVITP_BINS = QVITP_BINS_PER_OCTAVE * QVITP_OCTAVES };

struct qvitp_stats {
    size_t groups, channels;
    float *lo, *hi;      /* [channels]; lo > hi while nothing was seen */
    uint64_t *histogram; /* [groups][2][QVITP_BINS]: of negative, then of other values */
};

/* 0 if memory runs out; what was made is freed by qvitp_stats_free. */
int qvitp_stats_init(struct qvitp_stats *stats, const qvit_engine *engine, size_t groups,
                     size_t channels);
void qvitp_stats_free(struct qvitp_stats *stats, const qvit_engine *engine);

/* Adds a value. */
void qvitp_stats_add(struct qvitp_stats *stats, size_t group, size_t channel, float value);

/* Adds what another run saw: a range of a channel, and `count` values in a bin of a group's histogram,
 * which is numbered here from the first of the negative to the last of the other values. */
enum { QVITP_SIGNED_BINS = 2 * QVITP_BINS };
void qvitp_stats_add_range(struct qvitp_stats *stats, size_t channel, float lo, float hi);
static inline uint64_t *qvitp_stats_bin(const struct qvitp_stats *s, size_t group, size_t bin)
{
    return &s->histogram[group * QVITP_SIGNED_BINS + bin];
}

/* The range of one channel; 0 and 0 if nothing was seen. Of the two zeros it shows 0 only: which of
 * them came first must not be seen. */
void qvitp_stats_range(const struct qvitp_stats *stats, size_t channel, float *lo, float *hi);

/* The values below and above which a share (1 - kept) of a group's values lies, and the value below
 * whose magnitude a share `kept` lies. Inside a bin by linear interpolation. */
void qvitp_stats_quantiles(const struct qvitp_stats *stats, size_t group, double kept, float *lo,
                           float *hi);
float qvitp_stats_magnitude(const struct qvitp_stats *stats, size_t group, double kept);

/* Mean, mean distance from it and standard deviation of a group, each bin's values taken as its middle:
 * within 1/128 of the values that the bins can tell apart. */
struct qvitp_moments qvitp_stats_moments(const struct qvitp_stats *stats, size_t group);

/* The number of values in a bin, and the value in its middle. */
static inline uint64_t qvitp_stats_count(const struct qvitp_stats *s, size_t group, int negative,
                                         size_t bin)
{
    return s->histogram[(group * 2 + (size_t)!negative) * QVITP_BINS + bin];
}
float qvitp_stats_middle(size_t bin);

/* The lower edge of a bin, of QVITP_BINS the upper one of the last. The first one reaches down to 0. */
float qvitp_stats_edge(size_t bin);

#endif
