/* metric_mse.c - squared error of the outputs. */
#include "base/numerics.h"
#include "calib/metric.h"

static double rows_score(size_t m, size_t n, const float *out, const float *target)
{
    double error = 0;
    for (size_t i = 0; i < m; i++, out += n, target += n) {
        double partial[QVITP_PARTIALS] = {0};
        for (size_t j = 0; j < n; j += QVITP_PARTIALS)
            for (size_t p = 0; p < QVITP_PARTIALS && j + p < n; p++) {
                double d = (double)(out[j + p] - target[j + p]);
                partial[p] += d * d;
            }
        for (size_t p = 0; p < QVITP_PARTIALS; p++) error += partial[p];
    }
    return -error;
}

static void add_columns(size_t m, size_t n, const float *out, const float *target, double *sums)
{
    for (size_t i = 0; i < m; i++, out += n, target += n)
        for (size_t j = 0; j < n; j++) {
            double d = (double)(out[j] - target[j]);
            sums[j * QVITP_METRIC_SUMS] += d * d;
        }
}

static double column_score(const double *sums) { return -sums[0]; }

const struct qvitp_metric qvitp_metric_mse = {"mse", rows_score, add_columns, column_score};
