/*
 * avx2_epilogue.h - what follows the accumulators of every AVX2 product (kernels.h).
 *
 * A product leaves its tile of scaled sums on the stack. Here a row of 16 columns, two vectors, is finished
 * at a time; what lies beyond n is computed and then not stored.
 */
#ifndef QVITP_AVX2_EPILOGUE_H
#define QVITP_AVX2_EPILOGUE_H

#include "kernels/kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Adds u, of one K-block, to the sum of those before it. */
QVITP_INLINE256 void qvitp_256_add_block(size_t block, float *sum, __m256 u)
{
    if (block) u = _mm256_add_ps(_mm256_load_ps(sum), u);
    _mm256_store_ps(sum, u);
}

/* Adds the scaled sums of m rows of 16 columns, of one K-block, whose vectors begin at `column`, to those
 * of the blocks before it. m is a constant wherever this is called. */
QVITP_INLINE256 void qvitp_256_add_scaled(size_t m, const struct qvitp_epilogue *e, size_t column,
                                          size_t block, __m256i c[][2], float t[][16])
{
    __m256 scale0 = _mm256_load_ps(e->scale + column);
    __m256 scale1 = _mm256_load_ps(e->scale + column + 8);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        qvitp_256_add_block(block, t[i], _mm256_mul_ps(_mm256_cvtepi32_ps(c[i][0]), scale0));
        qvitp_256_add_block(block, t[i] + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(c[i][1]), scale1));
    }
}

/* The same rows as they are. Not by memcpy: that would take the address of registers. */
QVITP_INLINE256 void qvitp_256_store_sums(size_t m, __m256i c[][2], float t[][16])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm256_store_si256((__m256i *)t[i], c[i][0]);
        _mm256_store_si256((__m256i *)t[i] + 1, c[i][1]);
    }
}

/* Adds row i of the residual. */
QVITP_INLINE256 void qvitp_256_add_residual(size_t i, const struct qvitp_tile *tile,
                                            const struct qvitp_epilogue *e, __m256 t[2])
{
    const ptrdiff_t row = (ptrdiff_t)i * tile->ldr;
    const uint8_t *bytes = (const uint8_t *)tile->residual + row;
    for (size_t h = 0, j = 0; h < 2; h++, j += 8) {
        __m256 r;
        if (e->residual == QVITP_RESIDUAL_F32) {
            r = qvitp_256_load((const float *)tile->residual + row, j, tile->n);
        } else {
            __m128i codes = qvitp_256_load_bytes(bytes, j, tile->n);
            __m256i wide = e->residual == QVITP_RESIDUAL_U8 ? _mm256_cvtepu8_epi32(codes)
                                                            : _mm256_cvtepi8_epi32(codes);
            r = _mm256_sub_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(e->residual_zero));
            r = _mm256_mul_ps(r, _mm256_set1_ps(e->residual_scale));
        }
        t[h] = _mm256_add_ps(t[h], r);
    }
}

/* t * mul + add, of columns from `column` on. */
QVITP_INLINE256 __m256 qvitp_256_rescaled(__m256 t, size_t column, const struct qvitp_epilogue *e)
{
    __m256 mul = _mm256_load_ps(e->mul + column);
    if (e->mul_neg) mul = _mm256_blendv_ps(mul, _mm256_load_ps(e->mul_neg + column), t);
    return qvitp_256_step(t, mul, _mm256_load_ps(e->add + column));
}

/* Stores row i, floats or codes. */
QVITP_INLINE256 void qvitp_256_put(size_t i, const struct qvitp_tile *tile,
                                   const struct qvitp_epilogue *e, const __m256 t[2])
{
    const ptrdiff_t row = (ptrdiff_t)i * tile->ldo;
    if (e->out == QVITP_OUT_F32) {
        float *out = (float *)tile->out + row;
        qvitp_256_store(out, 0, tile->n, t[0]);
        if (tile->n > 8) qvitp_256_store(out, 8, tile->n, t[1]);
        return;
    }
    __m256 lo = _mm256_set1_ps(e->lo), hi = _mm256_set1_ps(e->hi);
    __m128i codes = qvitp_256_narrow_16(_mm256_cvtps_epi32(qvitp_256_clamp(t[0], lo, hi)),
                                        _mm256_cvtps_epi32(qvitp_256_clamp(t[1], lo, hi)));
    uint8_t *out = (uint8_t *)tile->out + row;
    if (tile->n >= 16)
        _mm_storeu_si128((__m128i *)out, codes);
    else
        memcpy(out, &codes, tile->n);
}

/* Whether a tile's sums are stored unscaled. */
static inline int qvitp_256_is_bare(const struct qvitp_epilogue *e)
{
    return e->out == QVITP_OUT_S32 || e->out == QVITP_OUT_SUM;
}

/* The whole tile's integer sums as floats. */
QVITP_INLINE256 void qvitp_256_put_sums(float sums[][16], const struct qvitp_tile *tile)
{
    float *out = tile->out;
    for (size_t i = 0; i < tile->m; i++, out += tile->ldo) {
        const __m256i *row = (const __m256i *)(void *)sums[i];
        _mm256_storeu_ps(out, _mm256_cvtepi32_ps(row[0]));
        _mm256_storeu_ps(out + 8, _mm256_cvtepi32_ps(row[1]));
    }
}

/* The whole tile, from its scaled sums on, or, for S32 and SUM output, from its sums, which are integers. */
QVITP_INLINE256 void qvitp_256_finish_tile(float sums[][16], const struct qvitp_tile *tile,
                                           const struct qvitp_epilogue *e)
{
    if (e->out == QVITP_OUT_S32) {
        int32_t *out = tile->out;
        for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
            memcpy(out, sums[i], tile->n * sizeof *out);
        return;
    }
    if (e->out == QVITP_OUT_SUM) {
        qvitp_256_put_sums(sums, tile);
        return;
    }
    const float *bias = e->bias + tile->column;
    for (size_t i = 0; i < tile->m; i++) {
        __m256 t[2] = {_mm256_add_ps(_mm256_load_ps(sums[i]), _mm256_load_ps(bias)),
                       _mm256_add_ps(_mm256_load_ps(sums[i] + 8), _mm256_load_ps(bias + 8))};
        if (e->gelu == QVITP_GELU_FULL) qvitp_256_gelu(t, 0);
        if (e->gelu == QVITP_GELU_IN_UNITS) qvitp_256_gelu(t, 1);
        if (e->residual != QVITP_RESIDUAL_NONE) qvitp_256_add_residual(i, tile, e, t);
        if (e->mul) {
            t[0] = qvitp_256_rescaled(t[0], tile->column, e);
            t[1] = qvitp_256_rescaled(t[1], tile->column + 8, e);
        }
        qvitp_256_put(i, tile, e, t);
    }
}

#endif
#endif
