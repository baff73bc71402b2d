/*
 * metric.h - how far a product of codes is from the product of floats. One file for each metric.
 *
 * Higher scores are better. Sums run in double, where no square of a float overflows, and in one fixed
 * order, so that a score is the same on every thread count.
 */
#ifndef QVITP_METRIC_H
#define QVITP_METRIC_H

#include <stddef.h>

/* Numbers that a metric sums up for one column. */
enum { QVITP_METRIC_SUMS = 2 };

struct qvitp_metric {
    const char *name;
    /* The score of m rows of n outputs against their targets, both dense; scores of rows add up. */
    double (*rows)(size_t m, size_t n, const float *out, const float *target);
    /* Adds m rows to the sums of every column ([n][QVITP_METRIC_SUMS]), and the score of a column. */
    void (*columns)(size_t m, size_t n, const float *out, const float *target, double *sums);
    double (*column_score)(const double *sums);
};

extern const struct qvitp_metric qvitp_metric_mse;
extern const struct qvitp_metric qvitp_metric_cosine;

#endif
