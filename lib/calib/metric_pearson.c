/* metric_pearson.c - Pearson's correlation of outputs, over all of a sample's rows together, or of each
 * output over the rows (Liu et al., arXiv 2106.14156, 3.1). */
#include <math.h>

#include "base/numerics.h"
#include "calib/pearson.h"

void qvitp_pearson_add(const struct qvitp_outputs *o, double *sums)
{
    sums[0] += (double)(o->m * o->n);
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        double partial[QVITP_PEARSON_SUMS][QVITP_PARTIALS] = {{0}};
        for (size_t j = 0; j < o->n; j += QVITP_PARTIALS)
            for (size_t p = 0; p < QVITP_PARTIALS && j + p < o->n; p++) {
                double x = (double)out[j + p], y = (double)target[j + p];
                partial[1][p] += x;
                partial[2][p] += y;
                partial[3][p] += x * x;
                partial[4][p] += y * y;
                partial[5][p] += x * y;
            }
        for (size_t s = 1; s < QVITP_PEARSON_SUMS; s++)
            for (size_t p = 0; p < QVITP_PARTIALS; p++) sums[s] += partial[s][p];
    }
}

void qvitp_pearson_add_columns(const struct qvitp_outputs *o, double *sums)
{
    size_t n = o->n;
    for (size_t j = 0; j < n; j++) sums[j] += (double)o->m;
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        for (size_t j = 0; j < n; j++) {
            double x = (double)out[j], y = (double)target[j];
            sums[n + j] += x;
            sums[2 * n + j] += y;
            sums[3 * n + j] += x * x;
            sums[4 * n + j] += y * y;
            sums[5 * n + j] += x * y;
        }
    }
}

double qvitp_pearson_score(const double *s)
{
    if (s[0] <= 0) return 0;
    double xx = s[3] - s[1] * s[1] / s[0], yy = s[4] - s[2] * s[2] / s[0];
    double xy = s[5] - s[1] * s[2] / s[0];
    double error = s[3] - 2 * s[5] + s[4];
    double relative = s[4] > 0 ? fmin(error / s[4], 1) : 0;
    /* Of constants there is no correlation: two are alike, one and anything else are not. */
    double correlation = xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : xx <= 0 && yy <= 0 ? 1 : 0;
    return correlation - 1e-6 * relative;
}

const struct qvitp_metric qvitp_metric_pearson = {.name = "pearson",
                                                  .by_sample = 1,
                                                  .rows = qvitp_pearson_add,
                                                  .score = qvitp_pearson_score,
                                                  .columns = qvitp_pearson_add_columns,
                                                  .column_score = qvitp_pearson_score};
