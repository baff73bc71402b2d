/*
 * avx512_simd.h - lib/ref/ref_math.c on 16 floats at once, and what every AVX-512 kernel shares.
 *
 * Min and max return their second operand where one is NaN or both are zero, so the operands stand
 * in the order of the reference's comparisons. No value here may be contracted into a fused step:
 * numerics.h comes before the intrinsics and says so.
 */
#ifndef QVITP_AVX512_SIMD_H
#define QVITP_AVX512_SIMD_H

#include "kernels/target.h"

#if QVITP_X86

#include <stdint.h>
#include <string.h>

#include "base/numerics.h"
#include "x86_loop.h"

#include <immintrin.h>

#define QVITP_INLINE512 QVITP_TARGET_AVX512VNNI __attribute__((always_inline, unused)) static inline

/* The lanes of the vector at `first` that are below n. */
QVITP_INLINE512 __mmask16 qvitp_512_mask(size_t first, size_t n)
{
    if (n <= first) return 0;
    return (__mmask16)(n - first >= 16 ? 0xFFFF : (1u << (n - first)) - 1);
}

/* Stores the lanes of `in`. A masked store costs more than another on Zen 4, and most are whole. */
QVITP_INLINE512 void qvitp_512_store_16_floats(float *dst, __mmask16 in, __m512 x)
{
    if (in == 0xFFFF)
        _mm512_storeu_ps(dst, x);
    else
        _mm512_mask_storeu_ps(dst, in, x);
}
QVITP_INLINE512 void qvitp_512_store_16_bytes(void *dst, __mmask16 in, __m128i bytes)
{
    if (in == 0xFFFF)
        _mm_storeu_si128((__m128i *)dst, bytes);
    else
        _mm_mask_storeu_epi8(dst, in, bytes);
}
QVITP_INLINE512 void qvitp_512_store_32_bytes(void *dst, __mmask32 in, __m256i bytes)
{
    if (in == 0xFFFFFFFF)
        _mm256_storeu_si256((__m256i *)dst, bytes);
    else
        _mm256_mask_storeu_epi8(dst, in, bytes);
}

QVITP_INLINE512 __m512 qvitp_512_clamp(__m512 x, __m512 lo, __m512 hi)
{
    return _mm512_min_ps(_mm512_max_ps(x, lo), hi);
}

/* The low byte of each int32 lane of round(x), |x| < 2^22. */
QVITP_INLINE512 __m128i qvitp_512_code(__m512 x)
{
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
}

/* q * r + c in two roundings. */
QVITP_INLINE512 __m512 qvitp_512_step(__m512 q, __m512 r, __m512 c)
{
    return _mm512_add_ps(_mm512_mul_ps(q, r), c);
}

/*
 * x = exp(x) of `count` vectors, a constant wherever this is called. Each operation of one waits for that
 * before it: they advance together, step by step, since a core looks ahead by two or three such chains.
 */
QVITP_INLINE512 void qvitp_512_exp(size_t count, __m512 x[])
{
    enum { MOST = 4 };
    static const float table[QVITP_EXP_ROOTS] __attribute__((aligned(64))) = {QVITP_EXP_ROOTS_OF_2};
    const __m512 magic = _mm512_set1_ps(QVITP_ROUND_MAGIC);
    const __m512 c1 = _mm512_set1_ps(QVITP_EXP_C1), c2 = _mm512_set1_ps(QVITP_EXP_C2);
    /* The bits of root i less i / 16 of an exponent, so that n, shifted by 19, adds what is left of it. */
    const __m512i i16 = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i roots = _mm512_sub_epi32(_mm512_load_si512(table), _mm512_slli_epi32(i16, 19));
    __m512 r[MOST], root[MOST];
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        __m512 t = _mm512_mul_ps(x[i], _mm512_set1_ps(QVITP_EXP_SCALE));
        __m512 shifted = _mm512_add_ps(t, magic); /* its low bits are those of n */
        __m512i n = _mm512_castps_si512(shifted);
        r[i] = _mm512_sub_ps(t, _mm512_sub_ps(shifted, magic));
        root[i] = _mm512_castsi512_ps(
            _mm512_add_epi32(_mm512_permutexvar_epi32(n, roots), _mm512_slli_epi32(n, 19)));
    }
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        __mmask16 not_zero = _mm512_cmp_ps_mask(x[i], _mm512_set1_ps(QVITP_EXP_LOW), _CMP_GE_OQ);
        __m512 p = qvitp_512_step(c2, r[i], c1);
        p = _mm512_mul_ps(_mm512_mul_ps(root[i], r[i]), p);
        x[i] = _mm512_maskz_add_ps(not_zero, root[i], p);
    }
}

/* The coefficients c, a constant, of GELU's cubics; as a table. */
#define QVITP_512_COEFFICIENTS(cubics)                                                             \
    {                                                                                              \
        {cubics(QVITP_512_C0)}, {cubics(QVITP_512_C1)}, {cubics(QVITP_512_C2)},                    \
        {                                                                                          \
            cubics(QVITP_512_C3)                                                                   \
        }                                                                                          \
    }
#define QVITP_512_C0(c0, c1, c2, c3) c0
#define QVITP_512_C1(c0, c1, c2, c3) c1
#define QVITP_512_C2(c0, c1, c2, c3) c2
#define QVITP_512_C3(c0, c1, c2, c3) c3

/* Coefficient c of the cubics of 16 segments: all 32 are two registers, in which vpermt2ps looks up. */
QVITP_INLINE512 __m512 qvitp_512_gelu_coefficient(size_t c, __m512i segment)
{
    static const float table[4][QVITP_GELU_SEGMENTS] __attribute__((aligned(64))) =
        QVITP_512_COEFFICIENTS(QVITP_GELU_CUBICS);
    return _mm512_permutex2var_ps(_mm512_load_ps(table[c]), segment, _mm512_load_ps(table[c] + 16));
}
/* Of GELU in units: all 16 are one register, in which a look-up costs nothing beside products. */
QVITP_INLINE512 __m512 qvitp_512_unit_coefficient(size_t c, __m512i segment)
{
    static const float table[4][16] __attribute__((aligned(64))) =
        QVITP_512_COEFFICIENTS(QVITP_GELU_UNIT_CUBICS);
    return _mm512_permutexvar_ps(segment, _mm512_load_ps(table[c]));
}

QVITP_INLINE512 __m512 qvitp_512_gelu_end(__m512 x, __m512 bump)
{
    return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), bump);
}

QVITP_INLINE512 __m512 qvitp_512_gelu(__m512 x)
{
    __m512 t = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(QVITP_GELU_SCALE));
    t = _mm512_min_ps(t, _mm512_set1_ps(QVITP_GELU_LAST));
    __m512i segment = _mm512_cvttps_epi32(t);
    t = _mm512_sub_ps(t, _mm512_cvtepi32_ps(segment));
    __m512 g = qvitp_512_gelu_coefficient(3, segment);
    g = qvitp_512_step(g, t, qvitp_512_gelu_coefficient(2, segment));
    g = qvitp_512_step(g, t, qvitp_512_gelu_coefficient(1, segment));
    g = qvitp_512_step(g, t, qvitp_512_gelu_coefficient(0, segment));
    return qvitp_512_gelu_end(x, g);
}

/* |x|, no further than the last segment, where NaN is too. */
QVITP_INLINE512 __m512 qvitp_512_unit_place(__m512 x)
{
    enum { SMALLER_MAGNITUDE = 0xA };
    return _mm512_range_ps(x, _mm512_set1_ps(QVITP_GELU_LAST_UNIT), SMALLER_MAGNITUDE);
}

QVITP_INLINE512 __m512 qvitp_512_gelu_units(__m512 x)
{
    __m512 t = qvitp_512_unit_place(x);
    __m512i segment = _mm512_cvttps_epi32(t);
    __m512 g = qvitp_512_unit_coefficient(3, segment);
    g = qvitp_512_step(g, t, qvitp_512_unit_coefficient(2, segment));
    g = qvitp_512_step(g, t, qvitp_512_unit_coefficient(1, segment));
    g = qvitp_512_step(g, t, qvitp_512_unit_coefficient(0, segment));
    return qvitp_512_gelu_end(x, g);
}

/* The fixed tree over the 16 partial sums. */
QVITP_INLINE512 float qvitp_512_tree(__m512 p)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Four bytes, wherever they lie, in every lane. */
QVITP_INLINE512 __m512i qvitp_512_broadcast4(const uint8_t *bytes)
{
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Those of row i % 4 of the four that begin at `rows`; lda3 is 3 lda. One pointer, since there are few registers. */
QVITP_INLINE512 __m512i qvitp_512_broadcast_row(const uint8_t *rows, size_t i, ptrdiff_t lda,
                                                ptrdiff_t lda3)
{
    ptrdiff_t away = i % 4 == 0 ? 0 : i % 4 == 1 ? lda : i % 4 == 2 ? 2 * lda : lda3;
    return qvitp_512_broadcast4(rows + away);
}

#endif
#endif
