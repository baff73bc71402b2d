/*
 * avx2_simd.h - lib/ref/ref_math.c on 8 floats at once, and what every AVX2 kernel shares.
 *
 * Min and max return their second operand where one is NaN or both are zero, so the operands stand
 * in the order of the reference's comparisons. No value here may be contracted into a fused step:
 * numerics.h comes before the intrinsics and says so.
 */
#ifndef QVITP_AVX2_SIMD_H
#define QVITP_AVX2_SIMD_H

#include "kernels/target.h"

#if QVITP_X86

#include <stdint.h>
#include <string.h>

#include "base/numerics.h"
#include "x86_loop.h"

#include <immintrin.h>

#define QVITP_INLINE256 QVITP_TARGET_AVX2 __attribute__((always_inline, unused)) static inline

/* All ones in the lanes of the vector at `first` that are below n. */
QVITP_INLINE256 __m256i qvitp_256_mask(size_t first, size_t n)
{
    int32_t lanes = n <= first ? 0 : n - first >= 8 ? 8 : (int32_t)(n - first);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* x[first .. first + 8), those below n; 0 in the other lanes. Masked access is slow, hence if. */
QVITP_INLINE256 __m256 qvitp_256_load(const float *x, size_t first, size_t n)
{
    if (n >= first + 8) return _mm256_loadu_ps(x + first);
    return _mm256_maskload_ps(x + first, qvitp_256_mask(first, n));
}

QVITP_INLINE256 void qvitp_256_store(float *x, size_t first, size_t n, __m256 value)
{
    if (n >= first + 8)
        _mm256_storeu_ps(x + first, value);
    else
        _mm256_maskstore_ps(x + first, qvitp_256_mask(first, n), value);
}

/* The same for bytes, in the low half of a register. */
QVITP_INLINE256 __m128i qvitp_256_load_bytes(const uint8_t *x, size_t first, size_t n)
{
    uint64_t eight = 0;
    if (n >= first + 8)
        memcpy(&eight, x + first, 8);
    else if (n > first)
        memcpy(&eight, x + first, n - first);
    return _mm_cvtsi64_si128((int64_t)eight);
}

QVITP_INLINE256 void qvitp_256_store_bytes(uint8_t *x, size_t first, size_t n, __m128i value)
{
    int64_t eight = _mm_cvtsi128_si64(value);
    if (n >= first + 8)
        memcpy(x + first, &eight, 8);
    else if (n > first)
        memcpy(x + first, &eight, n - first);
}

QVITP_INLINE256 __m256 qvitp_256_clamp(__m256 x, __m256 lo, __m256 hi)
{
    return _mm256_min_ps(_mm256_max_ps(x, lo), hi);
}

/* The low byte of each int32 lane. */
QVITP_INLINE256 __m128i qvitp_256_narrow(__m256i x)
{
    x = _mm256_and_si256(x, _mm256_set1_epi32(0xFF));
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return _mm_packus_epi16(words, words);
}

/* The low byte of round(x), |x| < 2^22. */
QVITP_INLINE256 __m128i qvitp_256_code(__m256 x) { return qvitp_256_narrow(_mm256_cvtps_epi32(x)); }

/* q * r + c in two roundings. */
QVITP_INLINE256 __m256 qvitp_256_step(__m256 q, __m256 r, __m256 c)
{
    return _mm256_add_ps(_mm256_mul_ps(q, r), c);
}

QVITP_INLINE256 __m256 qvitp_256_exp(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(QVITP_ROUND_MAGIC);
    /* The low bits of `shifted` are those of n, so shifting them by 23 adds n to an exponent. */
    __m256 shifted = qvitp_256_step(x, _mm256_set1_ps(QVITP_LOG2_E), magic);
    __m256 n = _mm256_sub_ps(shifted, magic);
    __m256 r = _mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(QVITP_LN2_HIGH)));
    r = _mm256_sub_ps(r, _mm256_mul_ps(n, _mm256_set1_ps(QVITP_LN2_LOW)));
    __m256 q = _mm256_set1_ps(QVITP_EXP_Q4);
    q = qvitp_256_step(q, r, _mm256_set1_ps(QVITP_EXP_Q3));
    q = qvitp_256_step(q, r, _mm256_set1_ps(QVITP_EXP_Q2));
    q = qvitp_256_step(q, r, _mm256_set1_ps(QVITP_EXP_Q1));
    q = qvitp_256_step(q, r, _mm256_set1_ps(QVITP_EXP_Q0));
    __m256 p = _mm256_mul_ps(_mm256_mul_ps(q, r), r);
    p = _mm256_add_ps(_mm256_add_ps(p, r), _mm256_set1_ps(1.0f));
    __m256i power = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, _mm256_set1_ps(QVITP_EXP_LOW), _CMP_GE_OQ));
}

/* row[index] for 8 indices below 32: a lookup in each quarter, then bits 3 and 4 choose. */
QVITP_INLINE256 __m256 qvitp_256_gelu_row(const float row[QVITP_GELU_SEGMENTS], __m256i index)
{
    __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    __m256 bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(index, 27));
    __m256 a = _mm256_permutevar8x32_ps(_mm256_load_ps(row), index);
    __m256 b = _mm256_permutevar8x32_ps(_mm256_load_ps(row + 8), index);
    __m256 c = _mm256_permutevar8x32_ps(_mm256_load_ps(row + 16), index);
    __m256 d = _mm256_permutevar8x32_ps(_mm256_load_ps(row + 24), index);
    return _mm256_blendv_ps(_mm256_blendv_ps(a, b, bit3), _mm256_blendv_ps(c, d, bit3), bit4);
}

QVITP_INLINE256 __m256 qvitp_256_gelu(__m256 x)
{
    static const float table[4][QVITP_GELU_SEGMENTS] __attribute__((aligned(32))) =
        QVITP_GELU_TABLE;
    __m256 t = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    t = _mm256_mul_ps(t, _mm256_set1_ps(QVITP_GELU_SCALE));
    t = _mm256_min_ps(t, _mm256_set1_ps(QVITP_GELU_LAST));
    __m256i index = _mm256_cvttps_epi32(t);
    __m256 f = _mm256_sub_ps(t, _mm256_cvtepi32_ps(index));
    __m256 g = qvitp_256_gelu_row(table[3], index);
    g = qvitp_256_step(g, f, qvitp_256_gelu_row(table[2], index));
    g = qvitp_256_step(g, f, qvitp_256_gelu_row(table[1], index));
    g = qvitp_256_step(g, f, qvitp_256_gelu_row(table[0], index));
    return _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), x), g);
}

/* The fixed tree over the 16 partial sums, p0 to p7 and p8 to p15. */
QVITP_INLINE256 float qvitp_256_tree(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The same four bytes in every lane of 32 bits. */
QVITP_INLINE256 __m256i qvitp_256_broadcast4(const char *bytes)
{
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm256_set1_epi32(four);
}

#endif
#endif
