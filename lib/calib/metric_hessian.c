/*
 * metric_hessian.c - squared error of the outputs, each weighed by the squared gradient of the loss
 * there: what a second-order expansion of the loss says that the error costs, with the diagonal of the
 * Gauss-Newton matrix for the Hessian (PTQ4ViT, arXiv 2111.12293, 3.3).
 */
#include "base/numerics.h"
#include "calib/metric.h"

static double weighed(float out, float target, float gradient)
{
    double e = (double)(out - target) * (double)gradient;
    return e * e;
}

static void add_rows(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        const float *gradient = o->gradient + i * o->ld;
        double partial[QVITP_PARTIALS] = {0};
        for (size_t j = 0; j < o->n; j += QVITP_PARTIALS)
            for (size_t p = 0; p < QVITP_PARTIALS && j + p < o->n; p++)
                partial[p] += weighed(out[j + p], target[j + p], gradient[j + p]);
        for (size_t p = 0; p < QVITP_PARTIALS; p++) sums[0] += partial[p];
    }
}

static void add_columns(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        const float *gradient = o->gradient + i * o->ld;
        for (size_t j = 0; j < o->n; j++) sums[j] += weighed(out[j], target[j], gradient[j]);
    }
}

static double score(const double *sums) { return -sums[0]; }

const struct qvitp_metric qvitp_metric_hessian = {.name = "hessian",
                                                  .gradient = 1,
                                                  .rows = add_rows,
                                                  .score = score,
                                                  .columns = add_columns,
                                                  .column_score = score};
