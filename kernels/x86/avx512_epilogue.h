/*
 * avx512_epilogue.h - what follows the accumulators of every AVX-512 product (kernels.h).
 *
 * A product leaves its tile of accumulators on the stack: with 28 of 32 registers full there is no
 * room for the epilogue's constants, and the stores overlap with the arithmetic of earlier rows.
 * Rows are 32 columns, two vectors; what lies beyond n is computed and then not stored.
 */
#ifndef QVITP_AVX512_EPILOGUE_H
#define QVITP_AVX512_EPILOGUE_H

#include "kernels/kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

/* 16 columns' sums of a twin's ranges, whose vectors begin at `column`, scaled. */
QVITP_INLINE512 __m512 qvitp_512_scaled_twin(__m512i lo, __m512i hi, size_t column,
                                             const struct qvitp_epilogue *e)
{
    __m512 scale = _mm512_load_ps(e->scale + column);
    if (e->high) {
        lo = _mm512_mullo_epi32(lo, _mm512_set1_epi32(e->low));
        hi = _mm512_mullo_epi32(hi, _mm512_set1_epi32(e->high));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(lo, hi)), scale);
    }
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(hi), _mm512_load_ps(e->scale2 + column));
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(lo), scale), t);
}

/* One vector of the residual. */
QVITP_INLINE512 __m512 qvitp_512_residual(const struct qvitp_tile *tile,
                                          const struct qvitp_epilogue *e, ptrdiff_t at,
                                          __mmask16 mask)
{
    __m512i code;
    if (e->residual == QVITP_RESIDUAL_F32)
        return _mm512_maskz_loadu_ps(mask, (const float *)tile->residual + at);
    __m128i bytes = _mm_maskz_loadu_epi8(mask, (const uint8_t *)tile->residual + at);
    if (e->residual == QVITP_RESIDUAL_U8)
        code = _mm512_cvtepu8_epi32(bytes);
    else
        code = _mm512_cvtepi8_epi32(bytes);
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(e->residual_zero)),
                         _mm512_set1_ps(e->residual_scale));
}

/* Everything after the bias, for one vector: row i, columns j to j + 16 of the tile. */
QVITP_INLINE512 void qvitp_512_finish(__m512 t, size_t i, size_t j, __mmask16 mask,
                                      const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    size_t column = tile->column + j;
    ptrdiff_t at = (ptrdiff_t)i * tile->ldo + (ptrdiff_t)j;
    if (e->gelu) t = qvitp_512_gelu(t);
    if (e->residual != QVITP_RESIDUAL_NONE)
        t = _mm512_add_ps(
            t, qvitp_512_residual(tile, e, (ptrdiff_t)i * tile->ldr + (ptrdiff_t)j, mask));
    if (e->mul) {
        __m512 mul = _mm512_load_ps(e->mul + column);
        if (e->mul_neg) {
            __mmask16 negative = _mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_LT_OQ);
            mul = _mm512_mask_load_ps(mul, negative, e->mul_neg + column);
        }
        t = qvitp_512_step(t, mul, _mm512_load_ps(e->add + column));
    }
    if (e->out == QVITP_OUT_F32) {
        _mm512_mask_storeu_ps((float *)tile->out + at, mask, t);
    } else {
        t = qvitp_512_clamp(t, _mm512_set1_ps(e->lo), _mm512_set1_ps(e->hi));
        _mm_mask_storeu_epi8((uint8_t *)tile->out + at, mask, qvitp_512_code(t));
    }
}

#endif
#endif
