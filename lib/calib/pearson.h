/* pearson.h - what the metrics that begin with Pearson's correlation share. */
#ifndef QVITP_PEARSON_H
#define QVITP_PEARSON_H

#include "calib/metric.h"

/* The first sums of a metric: count, and sums of out, target, out^2, target^2, out target. */
enum { QVITP_PEARSON_SUMS = 6 };
void qvitp_pearson_add(const struct qvitp_outputs *o, double *sums);
void qvitp_pearson_add_columns(const struct qvitp_outputs *o, double *sums);

/* The correlation, less a millionth of the relative squared error: correlation does not see a gain, so
 * between candidates that it finds alike the nearer one wins. */
double qvitp_pearson_score(const double *sums);

#endif
