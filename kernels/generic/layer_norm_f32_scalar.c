/*
 * layer_norm_f32_scalar - rows of floats to floats or codes, one by one, in three passes over a row: mean,
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

static void run_row(const struct qvitp_layer_norm *rows, ptrdiff_t i)
{
    size_t n = rows->n;
    const float *x = rows->x + i * rows->ldx, *gamma = rows->gamma, *beta = rows->beta;
    float mean = sum(x, n) / (float)n;
    float rstd = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + rows->eps);

    if (rows->out == QVITP_OUT_F32) {
        float *dst = (float *)rows->dst + i * rows->ldd;
        for (size_t j = 0; j < n; j++) dst[j] = ((x[j] - mean) * rstd) * gamma[j] + beta[j];
    } else {
        uint8_t *dst = (uint8_t *)rows->dst + i * rows->ldd;
        float lo = rows->lo, hi = rows->hi;
        for (size_t j = 0; j < n; j++) {
            float t = ((x[j] - mean) * rstd) * gamma[j] + beta[j];
            dst[j] = (uint8_t)(int32_t)qvitp_scalar_round(qvitp_scalar_clamp(t, lo, hi));
        }
    }
}

static void run(const struct qvitp_layer_norm *rows)
{
    for (size_t i = 0; i < rows->m; i++) run_row(rows, (ptrdiff_t)i);
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_scalar = {"layer_norm_f32_scalar", run};
