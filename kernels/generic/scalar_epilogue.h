/*
 * scalar_epilogue.h - what follows the accumulators of every scalar product: one row of float
 * values goes through GELU, residual and multiplier to where it is stored. A step is one loop over
 * the row.
 */
#ifndef QVITP_SCALAR_EPILOGUE_H
#define QVITP_SCALAR_EPILOGUE_H

#include "kernels/kernels.h"
#include "scalar_math.h"

/* The inner loop of a product, in a function of its own: inlined, compilers see its accumulators
 * escape, or its end vary, and vectorise it badly or not at all. */
#if defined(__GNUC__)
#define QVITP_SCALAR_LOOP __attribute__((noinline)) static
#else
#define QVITP_SCALAR_LOOP static
#endif

/* Adds residual[row][0..n). */
static inline void qvitp_scalar_residual(float *t, size_t row, const struct qvitp_tile *tile,
                                         const struct qvitp_epilogue *e)
{
    ptrdiff_t first = (ptrdiff_t)row * tile->ldr;
    float zero = e->residual_zero, scale = e->residual_scale;
    if (e->residual == QVITP_RESIDUAL_F32) {
        const float *r = (const float *)tile->residual + first;
        for (size_t j = 0; j < tile->n; j++) t[j] = t[j] + r[j];
    } else if (e->residual == QVITP_RESIDUAL_U8) {
        const uint8_t *r = (const uint8_t *)tile->residual + first;
        for (size_t j = 0; j < tile->n; j++) t[j] = t[j] + ((float)r[j] - zero) * scale;
    } else if (e->residual == QVITP_RESIDUAL_S8) {
        const int8_t *r = (const int8_t *)tile->residual + first;
        for (size_t j = 0; j < tile->n; j++) t[j] = t[j] + ((float)r[j] - zero) * scale;
    }
}

/* t[0..n), row `row` of the tile, is scaled and has its bias; out is F32 or CODE. */
static inline void qvitp_scalar_finish(float *t, size_t row, const struct qvitp_tile *tile,
                                       const struct qvitp_epilogue *e)
{
    size_t n = tile->n;
    ptrdiff_t first = (ptrdiff_t)row * tile->ldo;
    if (e->gelu == QVITP_GELU_FULL)
        for (size_t j = 0; j < n; j++) t[j] = qvitp_scalar_gelu(t[j]);
    if (e->gelu == QVITP_GELU_IN_UNITS)
        for (size_t j = 0; j < n; j++) t[j] = qvitp_scalar_gelu_units(t[j]);
    qvitp_scalar_residual(t, row, tile, e);
    if (e->mul) {
        const float *mul = e->mul + tile->column, *add = e->add + tile->column;
        const float *neg = e->mul_neg ? e->mul_neg + tile->column : mul;
        for (size_t j = 0; j < n; j++)
            t[j] = t[j] * (qvitp_scalar_sign(t[j]) ? neg[j] : mul[j]) + add[j];
    }
    if (e->out == QVITP_OUT_F32) {
        float *out = (float *)tile->out + first;
        for (size_t j = 0; j < n; j++) out[j] = t[j];
    } else {
        uint8_t *out = (uint8_t *)tile->out + first;
        float lo = e->lo, hi = e->hi;
        for (size_t j = 0; j < n; j++)
            out[j] = (uint8_t)(int32_t)qvitp_scalar_round(qvitp_scalar_clamp(t[j], lo, hi));
    }
}

#endif
