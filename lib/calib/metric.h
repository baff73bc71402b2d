/*
 * metric.h - how far a product of codes is from the product of floats. One file for each metric.
 *
 * Higher scores are better. Sums run in double, where no square of a float overflows, and in one fixed
 * order, so that a score is the same on every thread count.
 */
#ifndef QVITP_METRIC_H
#define QVITP_METRIC_H

#include <stddef.h>
#include <stdint.h>

/* Some rows of a site's output: of codes, of floats, and the gradient of the loss there. */
struct qvitp_outputs {
    size_t m, n;
    size_t ld; /* floats from one row to the next, in all three */
    const float *out, *target;
    const float *gradient; /* NULL unless the metric asks for it */
};

/* Numbers that a metric sums up, over rows or for one column. */
enum { QVITP_METRIC_SUMS = 8 };

struct qvitp_metric {
    const char *name;
    int32_t gradient;  /* it weighs by the gradient */
    int32_t by_sample; /* rows of one sample are scored together, and samples' scores add up; else
                          every sum adds up over all rows, and one score is taken at the end */
    void (*rows)(const struct qvitp_outputs *o, double *sums);
    double (*score)(const double *sums);
    /* Adds rows to the sums of every column ([QVITP_METRIC_SUMS][n]), and the score of one column
     * from its sums. */
    void (*columns)(const struct qvitp_outputs *o, double *sums);
    double (*column_score)(const double *sums);
};

extern const struct qvitp_metric qvitp_metric_mse;
extern const struct qvitp_metric qvitp_metric_cosine;
extern const struct qvitp_metric qvitp_metric_pearson;
extern const struct qvitp_metric qvitp_metric_hessian;
extern const struct qvitp_metric qvitp_metric_ranking;

#endif
