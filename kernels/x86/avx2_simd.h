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

/* The low byte of each of 16 int32 lanes that hold codes, -128 to 255. */
QVITP_INLINE256 __m128i qvitp_256_narrow_16(__m256i first, __m256i second)
{
    __m256i words = _mm256_packs_epi32(first, second); /* 0..3 8..11 | 4..7 12..15 */
    words = _mm256_and_si256(_mm256_permute4x64_epi64(words, 0xD8), _mm256_set1_epi16(0xFF));
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

/* The same of 8, to the low half. */
QVITP_INLINE256 __m128i qvitp_256_narrow(__m256i x)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    words = _mm_and_si128(words, _mm_set1_epi16(0xFF));
    return _mm_packus_epi16(words, words);
}

/* The code that x, of a code's range, rounds to. */
QVITP_INLINE256 __m128i qvitp_256_code(__m256 x) { return qvitp_256_narrow(_mm256_cvtps_epi32(x)); }

/* q * r + c in two roundings. */
QVITP_INLINE256 __m256 qvitp_256_step(__m256 q, __m256 r, __m256 c)
{
    return _mm256_add_ps(_mm256_mul_ps(q, r), c);
}

/* The root of 2 that each n names by its low four bits: two permutations and a choice. The bits of root i are
 * those of 2^(i / 16) less i / 16 of an exponent, so that n, shifted by 19, adds what is left of it. */
QVITP_INLINE256 __m256 qvitp_256_root(__m256i n)
{
    static const float table[QVITP_EXP_ROOTS] __attribute__((aligned(32))) = {QVITP_EXP_ROOTS_OF_2};
    const __m256i i = _mm256_slli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), 19);
    const __m256i half = _mm256_set1_epi32(8 << 19);
    __m256i low = _mm256_sub_epi32(_mm256_load_si256((const __m256i *)table), i);
    __m256i high = _mm256_sub_epi32(_mm256_load_si256((const __m256i *)(table + 8)),
                                    _mm256_add_epi32(i, half));
    __m256 root = _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low, n)),
                                   _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high, n)),
                                   _mm256_castsi256_ps(_mm256_slli_epi32(n, 28)));
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(root), _mm256_slli_epi32(n, 19)));
}

/*
 * x = exp(x) of `count` vectors, a constant wherever this is called. Each operation of one waits for that
 * before it: they advance together, step by step, since a core looks ahead by two or three such chains.
 */
QVITP_INLINE256 void qvitp_256_exp(size_t count, __m256 x[])
{
    enum { MOST = 4 };
    const __m256 magic = _mm256_set1_ps(QVITP_ROUND_MAGIC);
    const __m256 c1 = _mm256_set1_ps(QVITP_EXP_C1), c2 = _mm256_set1_ps(QVITP_EXP_C2);
    __m256 r[MOST], root[MOST];
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        __m256 t = _mm256_mul_ps(x[i], _mm256_set1_ps(QVITP_EXP_SCALE));
        __m256 shifted = _mm256_add_ps(t, magic); /* its low bits are those of n */
        r[i] = _mm256_sub_ps(t, _mm256_sub_ps(shifted, magic));
        root[i] = qvitp_256_root(_mm256_castps_si256(shifted));
    }
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) {
        __m256 p = qvitp_256_step(c2, r[i], c1);
        __m256 e = _mm256_add_ps(root[i], _mm256_mul_ps(_mm256_mul_ps(root[i], r[i]), p));
        __m256 not_zero = _mm256_cmp_ps(x[i], _mm256_set1_ps(QVITP_EXP_LOW), _CMP_GE_OQ);
        x[i] = _mm256_and_ps(e, not_zero);
    }
}

/*
 * The coefficients of 8 cubics, whose places in the table are given in bytes: each is one load of 16 bytes,
 * and what is loaded is transposed. vpermps in tables of registers takes twice as long.
 */
QVITP_INLINE256 void qvitp_256_cubics(const float table[][4], const uint32_t at[8], __m256 c[4])
{
    __m256 row[4];
    QVITP_UNROLL
    for (size_t i = 0; i < 4; i++) {
        __m128 low = _mm_load_ps((const float *)((const char *)table + at[i]));
        __m128 high = _mm_load_ps((const float *)((const char *)table + at[i + 4]));
        row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
    }
    __m256d c01_of_01 = _mm256_castps_pd(_mm256_unpacklo_ps(row[0], row[1]));
    __m256d c23_of_01 = _mm256_castps_pd(_mm256_unpackhi_ps(row[0], row[1]));
    __m256d c01_of_23 = _mm256_castps_pd(_mm256_unpacklo_ps(row[2], row[3]));
    __m256d c23_of_23 = _mm256_castps_pd(_mm256_unpackhi_ps(row[2], row[3]));
    c[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(c01_of_01, c01_of_23));
    c[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(c01_of_01, c01_of_23));
    c[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c23_of_01, c23_of_23));
    c[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c23_of_01, c23_of_23));
}

/* x = GELU(x) of two vectors, together as by qvitp_256_exp, or, if in_units, a constant, of numbers in units. */
QVITP_INLINE256 void qvitp_256_gelu(__m256 x[2], int in_units)
{
    static const float full[QVITP_GELU_SEGMENTS][4]
        __attribute__((aligned(64))) = {QVITP_GELU_CUBICS(QVITP_GELU_CUBIC)};
    static const float units[16][4]
        __attribute__((aligned(64))) = {QVITP_GELU_UNIT_CUBICS(QVITP_GELU_CUBIC)};
    uint32_t at[2][8] __attribute__((aligned(32)));
    __m256 f[2], last = _mm256_set1_ps(in_units ? QVITP_GELU_LAST_UNIT : QVITP_GELU_LAST);
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m256 t = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x[i]);
        if (!in_units) t = _mm256_mul_ps(t, _mm256_set1_ps(QVITP_GELU_SCALE));
        t = _mm256_min_ps(t, last);
        __m256i segment = _mm256_cvttps_epi32(t);
        f[i] = in_units ? t : _mm256_sub_ps(t, _mm256_cvtepi32_ps(segment));
        _mm256_store_si256((__m256i *)at[i], _mm256_slli_epi32(segment, 4));
    }
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m256 c[4];
        qvitp_256_cubics(in_units ? units : full, at[i], c);
        __m256 g = qvitp_256_step(c[3], f[i], c[2]);
        g = qvitp_256_step(qvitp_256_step(g, f[i], c[1]), f[i], c[0]);
        x[i] = _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), x[i]), g);
    }
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
