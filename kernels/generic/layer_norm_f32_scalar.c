/*
 * layer_norm_f32_scalar - one row of floats to floats or codes, in three passes over the row: mean,
 * variance, output. The differences from the mean are computed twice and never stored.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

static float sum(const float *x, size_t n)
{
    float p[QVITP_PARTIALS] = {0};
    size_t j = 0;
    for (; j + QVITP_PARTIALS <= n; j += QVITP_PARTIALS)
        for (size_t i = 0; i < QVITP_PARTIALS; i++) p[i] += x[j + i];
    for (size_t i = 0; j + i < n; i++) p[i] += x[j + i];
    return qvitp_scalar_tree(p);
}

static float sum_of_squares(const float *x, size_t n, float mean)
{
    float p[QVITP_PARTIALS] = {0};
    size_t j = 0;
    for (; j + QVITP_PARTIALS <= n; j += QVITP_PARTIALS)
        for (size_t i = 0; i < QVITP_PARTIALS; i++) p[i] += (x[j + i] - mean) * (x[j + i] - mean);
    for (size_t i = 0; j + i < n; i++) p[i] += (x[j + i] - mean) * (x[j + i] - mean);
    return qvitp_scalar_tree(p);
}

static void run(const struct qvitp_layer_norm *row)
{
    size_t n = row->n;
    const float *x = row->x, *gamma = row->gamma, *beta = row->beta;
    float mean = sum(x, n) / (float)n;
    float rstd = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + row->eps);

    if (row->out == QVITP_OUT_F32) {
        float *dst = row->dst;
        for (size_t j = 0; j < n; j++) dst[j] = ((x[j] - mean) * rstd) * gamma[j] + beta[j];
    } else {
        uint8_t *dst = row->dst;
        float lo = row->lo, hi = row->hi;
        for (size_t j = 0; j < n; j++) {
            float t = ((x[j] - mean) * rstd) * gamma[j] + beta[j];
            dst[j] = (uint8_t)(int32_t)qvitp_scalar_round(qvitp_scalar_clamp(t, lo, hi));
        }
    }
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_scalar = {"layer_norm_f32_scalar", run};
