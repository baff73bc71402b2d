/*
 * avx2_epilogue.h - what follows the accumulators of every AVX2 product (kernels.h).
 *
 * A product leaves its tile of scaled sums on the stack and hands on vectors of 8 columns; what lies
 * beyond n is computed and then not stored.
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

/* Residual of row i, columns j to j + 8 of the tile. */
QVITP_INLINE256 __m256 qvitp_256_residual(size_t i, size_t j, const struct qvitp_tile *tile,
                                          const struct qvitp_epilogue *e)
{
    ptrdiff_t row = (ptrdiff_t)i * tile->ldr;
    __m256i code;
    if (e->residual == QVITP_RESIDUAL_F32)
        return qvitp_256_load((const float *)tile->residual + row, j, tile->n);
    __m128i bytes = qvitp_256_load_bytes((const uint8_t *)tile->residual + row, j, tile->n);
    if (e->residual == QVITP_RESIDUAL_U8)
        code = _mm256_cvtepu8_epi32(bytes);
    else
        code = _mm256_cvtepi8_epi32(bytes);
    return _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(e->residual_zero)),
                         _mm256_set1_ps(e->residual_scale));
}

/* Everything after the bias, for one vector: row i, columns j to j + 8 of the tile. */
QVITP_INLINE256 void qvitp_256_finish(__m256 t, size_t i, size_t j, const struct qvitp_tile *tile,
                                      const struct qvitp_epilogue *e)
{
    size_t column = tile->column + j;
    ptrdiff_t row = (ptrdiff_t)i * tile->ldo;
    if (e->gelu) t = qvitp_256_gelu(t);
    if (e->residual != QVITP_RESIDUAL_NONE) t = _mm256_add_ps(t, qvitp_256_residual(i, j, tile, e));
    if (e->mul) {
        __m256 mul = _mm256_load_ps(e->mul + column);
        if (e->mul_neg) {
            __m256 negative = _mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_LT_OQ);
            mul = _mm256_blendv_ps(mul, _mm256_load_ps(e->mul_neg + column), negative);
        }
        t = qvitp_256_step(t, mul, _mm256_load_ps(e->add + column));
    }
    if (e->out == QVITP_OUT_F32) {
        qvitp_256_store((float *)tile->out + row, j, tile->n, t);
    } else {
        t = qvitp_256_clamp(t, _mm256_set1_ps(e->lo), _mm256_set1_ps(e->hi));
        qvitp_256_store_bytes((uint8_t *)tile->out + row, j, tile->n, qvitp_256_code(t));
    }
}

/* The whole tile, from its scaled sums on, or, for S32 output, from its sums, which are integers. */
QVITP_INLINE256 void qvitp_256_finish_tile(float sums[][16], const struct qvitp_tile *tile,
                                           const struct qvitp_epilogue *e)
{
    if (e->out == QVITP_OUT_S32) {
        int32_t *out = tile->out;
        for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
            memcpy(out, sums[i], tile->n * sizeof *out);
        return;
    }
    for (size_t j = 0; j < tile->n; j += 8) {
        __m256 bias = _mm256_load_ps(e->bias + tile->column + j);
        for (size_t i = 0; i < tile->m; i++)
            qvitp_256_finish(_mm256_add_ps(_mm256_load_ps(sums[i] + j), bias), i, j, tile, e);
    }
}

#endif
#endif
