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
    static const float higher[] = {QVITP_EXP_Q3, QVITP_EXP_Q2, QVITP_EXP_Q1, QVITP_EXP_Q0};
    const __m512 magic = _mm512_set1_ps(QVITP_ROUND_MAGIC), one = _mm512_set1_ps(1.0f);
    __m512 shifted[MOST], r[MOST], p[MOST];
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        /* The low bits of `shifted` are those of n, so shifting them by 23 adds n to an exponent. */
        shifted[i] = qvitp_512_step(x[i], _mm512_set1_ps(QVITP_LOG2_E), magic);
        __m512 n = _mm512_sub_ps(shifted[i], magic);
        r[i] = _mm512_sub_ps(x[i], _mm512_mul_ps(n, _mm512_set1_ps(QVITP_LN2_HIGH)));
        r[i] = _mm512_sub_ps(r[i], _mm512_mul_ps(n, _mm512_set1_ps(QVITP_LN2_LOW)));
        p[i] = _mm512_set1_ps(QVITP_EXP_Q4);
    }
    QVITP_UNROLL
    for (size_t c = 0; c < sizeof higher / sizeof higher[0]; c++) {
        QVITP_UNROLL
        for (size_t i = 0; i < count; i++) {
            p[i] = qvitp_512_step(p[i], r[i], _mm512_set1_ps(higher[c]));
            QVITP_OPAQUE_VECTOR(p[i]);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        p[i] = _mm512_mul_ps(_mm512_mul_ps(p[i], r[i]), r[i]);
        QVITP_OPAQUE_VECTOR(p[i]);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        __m512i e = _mm512_castps_si512(_mm512_add_ps(_mm512_add_ps(p[i], r[i]), one));
        __m512i power = _mm512_slli_epi32(_mm512_castps_si512(shifted[i]), 23);
        __mmask16 not_zero = _mm512_cmp_ps_mask(x[i], _mm512_set1_ps(QVITP_EXP_LOW), _CMP_GE_OQ);
        x[i] = _mm512_castsi512_ps(_mm512_maskz_add_epi32(not_zero, e, power));
    }
}

/* One coefficient of 16 cubics: all 32 are two registers, and vpermt2ps looks 16 indices up in them. */
QVITP_INLINE512 __m512 qvitp_512_coefficient(const float of[QVITP_GELU_SEGMENTS], __m512i index)
{
    return _mm512_permutex2var_ps(_mm512_load_ps(of), index, _mm512_load_ps(of + 16));
}

QVITP_INLINE512 __m512 qvitp_512_gelu(__m512 x)
{
#define C0(c0, c1, c2, c3) c0
#define C1(c0, c1, c2, c3) c1
#define C2(c0, c1, c2, c3) c2
#define C3(c0, c1, c2, c3) c3
    static const float table[4][QVITP_GELU_SEGMENTS]
        __attribute__((aligned(64))) = {{QVITP_GELU_CUBICS(C0)},
                                        {QVITP_GELU_CUBICS(C1)},
                                        {QVITP_GELU_CUBICS(C2)},
                                        {QVITP_GELU_CUBICS(C3)}};
#undef C0
#undef C1
#undef C2
#undef C3
    __m512 t = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(QVITP_GELU_SCALE));
    t = _mm512_min_ps(t, _mm512_set1_ps(QVITP_GELU_LAST));
    __m512i index = _mm512_cvttps_epi32(t);
    __m512 f = _mm512_sub_ps(t, _mm512_cvtepi32_ps(index));
    __m512 g = qvitp_512_coefficient(table[3], index);
    g = qvitp_512_step(g, f, qvitp_512_coefficient(table[2], index));
    g = qvitp_512_step(g, f, qvitp_512_coefficient(table[1], index));
    g = qvitp_512_step(g, f, qvitp_512_coefficient(table[0], index));
    return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), g);
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

#endif
#endif
