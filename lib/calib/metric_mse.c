/* metric_mse.c - squared error of the outputs. */
#include "base/numerics.h"
#include "calib/metric.h"

static void add_rows(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        double partial[QVITP_PARTIALS] = {0};
        for (size_t j = 0; j < o->n; j += QVITP_PARTIALS)
            for (size_t p = 0; p < QVITP_PARTIALS && j + p < o->n; p++) {
                double d = (double)(out[j + p] - target[j + p]);
                partial[p] += d * d;
            }
        for (size_t p = 0; p < QVITP_PARTIALS; p++) sums[0] += partial[p];
    }
}

static void add_columns(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        for (size_t j = 0; j < o->n; j++) {
            double d = (double)(out[j] - target[j]);
            sums[j] += d * d;
        }
    }
}

static double score(const double *sums) { return -sums[0]; }

const struct qvitp_metric qvitp_metric_mse = {
    .name = "mse", .rows = add_rows, .score = score, .columns = add_columns, .column_score = score};
