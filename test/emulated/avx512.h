/*
 * avx512.h - AVX-512 in software: included before everything else when the AVX-512 kernels are compiled
 * for a machine without it (`make emulated`). Most of it is SIMDe's, under the names of the intrinsics;
 * here stand those that SIMDe 0.7.4 lacks, and those that it has but takes less strictly.
 *
 * An intrinsic that neither offers is the compiler's own, which does not compile for this target.
 */
#ifndef QVIT_EMULATED_AVX512_H
#define QVIT_EMULATED_AVX512_H

#if !__has_include(<simde/x86/avx512.h>)
#error "emulating AVX-512 takes SIMDe: package libsimde-dev of Debian"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/numerics.h"
#include "kernels/target.h"
#include "kernels/x86/x86_loop.h"

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

/* The whole file is compiled for AVX2 with FMA, which the emulation uses; no register holds 64 bytes. */
#undef QVITP_TARGET_AVX2VNNI
#define QVITP_TARGET_AVX2VNNI
#undef QVITP_TARGET_AVX512VNNI
#define QVITP_TARGET_AVX512VNNI
#undef QVITP_OPAQUE_VECTOR
#define QVITP_OPAQUE_VECTOR(vector) ((void)(vector))

#define EMULATED __attribute__((always_inline, unused)) static inline

/* ---- memory ---- */

/* Copies the lanes that the mask names, and touches no other. */
EMULATED void emulated_copy(void *dst, const void *src, size_t lanes, size_t size, uint64_t mask)
{
    for (size_t i = 0; i < lanes; i++)
        if (mask >> i & 1) memcpy((char *)dst + i * size, (const char *)src + i * size, size);
}

/* What is said to be aligned must be. */
EMULATED void *emulated_aligned(const void *p)
{
    if ((uintptr_t)p % 64) __builtin_trap();
    return (void *)(uintptr_t)p;
}

EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const void *p)
{
    __m512 r = _mm512_setzero_ps();
    emulated_copy(&r, p, 16, 4, mask);
    return r;
}

EMULATED __m512 emulated_mask_load_ps(__m512 src, __mmask16 mask, const void *p)
{
    emulated_copy(&src, emulated_aligned(p), 16, 4, mask);
    return src;
}

EMULATED __m512i emulated_maskz_loadu_epi8(__mmask64 mask, const void *p)
{
    __m512i r = _mm512_setzero_si512();
    emulated_copy(&r, p, 64, 1, mask);
    return r;
}

EMULATED __m128i emulated_128_maskz_loadu_epi8(__mmask16 mask, const void *p)
{
    __m128i r = _mm_setzero_si128();
    emulated_copy(&r, p, 16, 1, mask);
    return r;
}

EMULATED void emulated_mask_storeu_ps(void *p, __mmask16 mask, __m512 v)
{
    emulated_copy(p, &v, 16, 4, mask);
}

EMULATED void emulated_mask_storeu_epi32(void *p, __mmask16 mask, __m512i v)
{
    emulated_copy(p, &v, 16, 4, mask);
}

EMULATED void emulated_mask_storeu_epi8(void *p, __mmask64 mask, __m512i v)
{
    emulated_copy(p, &v, 64, 1, mask);
}

EMULATED void emulated_128_mask_storeu_epi8(void *p, __mmask16 mask, __m128i v)
{
    emulated_copy(p, &v, 16, 1, mask);
}

EMULATED __m512i emulated_maskz_loadu_epi32(__mmask16 mask, const void *p)
{
    __m512i r = _mm512_setzero_si512();
    emulated_copy(&r, p, 16, 4, mask);
    return r;
}

EMULATED __m256i emulated_256_maskz_loadu_epi8(__mmask32 mask, const void *p)
{
    __m256i r = _mm256_setzero_si256();
    emulated_copy(&r, p, 32, 1, mask);
    return r;
}

EMULATED void emulated_256_mask_storeu_epi8(void *p, __mmask32 mask, __m256i v)
{
    emulated_copy(p, &v, 32, 1, mask);
}

#undef _mm512_load_ps
#undef _mm512_load_si512
#undef _mm512_store_ps
#undef _mm512_store_si512
#define _mm512_load_ps(p) simde_mm512_load_ps(emulated_aligned(p))
#define _mm512_load_si512(p) simde_mm512_load_si512(emulated_aligned(p))
#define _mm512_store_ps(p, v) simde_mm512_store_ps(emulated_aligned(p), v)
#define _mm512_store_si512(p, v) simde_mm512_store_si512(emulated_aligned(p), v)
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_load_ps emulated_mask_load_ps
#define _mm512_maskz_loadu_epi8 emulated_maskz_loadu_epi8
#define _mm_maskz_loadu_epi8 emulated_128_maskz_loadu_epi8
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_epi32 emulated_mask_storeu_epi32
#define _mm512_mask_storeu_epi8 emulated_mask_storeu_epi8
#define _mm_mask_storeu_epi8 emulated_128_mask_storeu_epi8
#define _mm512_maskz_loadu_epi32 emulated_maskz_loadu_epi32
#define _mm256_maskz_loadu_epi8 emulated_256_maskz_loadu_epi8
#define _mm256_mask_storeu_epi8 emulated_256_mask_storeu_epi8

/* ---- conversions: halves, by AVX2's instructions of the same definition ---- */

EMULATED __m512 emulated_cvtepi32_ps(__m512i v)
{
    simde__m512i_private a = simde__m512i_to_private(v);
    simde__m512_private r;
    for (int i = 0; i < 2; i++) r.m256[i] = _mm256_cvtepi32_ps(a.m256i[i]);
    return simde__m512_from_private(r);
}

EMULATED __m512i emulated_cvtps_epi32(__m512 v)
{
    simde__m512_private a = simde__m512_to_private(v);
    simde__m512i_private r;
    for (int i = 0; i < 2; i++) r.m256i[i] = _mm256_cvtps_epi32(a.m256[i]);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_cvttps_epi32(__m512 v)
{
    simde__m512_private a = simde__m512_to_private(v);
    simde__m512i_private r;
    for (int i = 0; i < 2; i++) r.m256i[i] = _mm256_cvttps_epi32(a.m256[i]);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_cvtepi8_epi32(__m128i v)
{
    simde__m512i_private r;
    for (int i = 0; i < 2; i++, v = _mm_srli_si128(v, 8)) r.m256i[i] = _mm256_cvtepi8_epi32(v);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_cvtepu8_epi32(__m128i v)
{
    simde__m512i_private r;
    for (int i = 0; i < 2; i++, v = _mm_srli_si128(v, 8)) r.m256i[i] = _mm256_cvtepu8_epi32(v);
    return simde__m512i_from_private(r);
}

EMULATED __m128i emulated_cvtepi32_epi8(__m512i v)
{
    simde__m512i_private a = simde__m512i_to_private(v);
    simde__m128i_private r;
    for (int i = 0; i < 16; i++) r.i8[i] = (int8_t)a.i32[i];
    return simde__m128i_from_private(r);
}

EMULATED __m512i emulated_cvtepu8_epi16(__m256i v)
{
    simde__m512i_private r;
    for (int i = 0; i < 2; i++) {
        __m128i half = i ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);
        r.m256i[i] = _mm256_cvtepu8_epi16(half);
    }
    return simde__m512i_from_private(r);
}

EMULATED __m256i emulated_cvtepi16_epi8(__m512i v)
{
    simde__m512i_private a = simde__m512i_to_private(v);
    simde__m256i_private r;
    for (int i = 0; i < 32; i++) r.i8[i] = (int8_t)a.i16[i];
    return simde__m256i_from_private(r);
}

#define _mm512_cvtepu8_epi16 emulated_cvtepu8_epi16
#undef _mm512_cvtepi16_epi8
#define _mm512_cvtepi16_epi8 emulated_cvtepi16_epi8
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_mask_cvtps_epi32(src, mask, v)                                                      \
    _mm512_mask_mov_epi32(src, mask, emulated_cvtps_epi32(v))
#define _mm512_cvttps_epi32 emulated_cvttps_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8

/* ---- the rest ---- */

EMULATED __m256 emulated_extractf32x8_ps(__m512 v, int half)
{
    return simde__m512_to_private(v).m256[half];
}

EMULATED __m512i emulated_maskz_permutex2var_epi16(__mmask32 mask, __m512i low, __m512i place,
                                                   __m512i high)
{
    simde__m512i_private a = simde__m512i_to_private(low), b = simde__m512i_to_private(high);
    simde__m512i_private p = simde__m512i_to_private(place), r;
    for (int i = 0; i < 32; i++) {
        int from = p.i16[i] & 63;
        r.i16[i] = (mask >> i & 1) == 0 ? 0 : from < 32 ? a.i16[from] : b.i16[from - 32];
    }
    return simde__m512i_from_private(r);
}

EMULATED __mmask32 emulated_cmpeq_epi16_mask(__m512i x, __m512i y)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(y);
    __mmask32 r = 0;
    for (int i = 0; i < 32; i++) r |= (__mmask32)(a.i16[i] == b.i16[i]) << i;
    return r;
}

EMULATED __mmask16 emulated_test_epi32_mask(__m512i x, __m512i y)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(y);
    __mmask16 r = 0;
    for (int i = 0; i < 16; i++) r = (__mmask16)(r | ((a.i32[i] & b.i32[i]) != 0) << i);
    return r;
}

EMULATED __m512i emulated_permutexvar_epi32(__m512i place, __m512i v)
{
    simde__m512i_private p = simde__m512i_to_private(place), a = simde__m512i_to_private(v), r;
    for (int i = 0; i < 16; i++) r.i32[i] = a.i32[p.i32[i] & 15];
    return simde__m512i_from_private(r);
}

EMULATED __mmask32 emulated_cmplt_epu16_mask(__m512i x, __m512i y)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(y);
    __mmask32 r = 0;
    for (int i = 0; i < 32; i++) r |= (__mmask32)(a.u16[i] < b.u16[i]) << i;
    return r;
}

EMULATED __m512i emulated_maskz_srlv_epi16(__mmask32 mask, __m512i x, __m512i shift)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(shift), r;
    for (int i = 0; i < 32; i++)
        r.u16[i] = (uint16_t)((mask >> i & 1) && b.u16[i] < 16 ? a.u16[i] >> b.u16[i] : 0);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_mask_mullo_epi16(__m512i src, __mmask32 mask, __m512i x, __m512i y)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(y);
    simde__m512i_private r = simde__m512i_to_private(src);
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) r.u16[i] = (uint16_t)((uint32_t)a.u16[i] * b.u16[i]);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_mulhi_epu16(__m512i x, __m512i y)
{
    simde__m512i_private a = simde__m512i_to_private(x), b = simde__m512i_to_private(y), r;
    for (int i = 0; i < 2; i++) r.m256i[i] = _mm256_mulhi_epu16(a.m256i[i], b.m256i[i]);
    return simde__m512i_from_private(r);
}

EMULATED __m512i emulated_srai_epi32(__m512i x, int shift)
{
    simde__m512i_private a = simde__m512i_to_private(x), r;
    for (int i = 0; i < 2; i++) r.m256i[i] = _mm256_srai_epi32(a.m256i[i], shift);
    return simde__m512i_from_private(r);
}

#undef _mm512_srai_epi32
#undef _mm512_mask_mullo_epi16
#undef _mm512_maskz_permutex2var_epi16
#undef _mm512_cmpeq_epi16_mask
#undef _mm512_test_epi32_mask
#undef _mm512_permutexvar_epi32
#define _mm512_cmplt_epu16_mask emulated_cmplt_epu16_mask
#define _mm512_maskz_srlv_epi16 emulated_maskz_srlv_epi16
#define _mm512_mulhi_epu16 emulated_mulhi_epu16
#define _mm512_mask_mullo_epi16 emulated_mask_mullo_epi16
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_maskz_permutex2var_epi16 emulated_maskz_permutex2var_epi16
#define _mm512_cmpeq_epi16_mask emulated_cmpeq_epi16_mask
#define _mm512_test_epi32_mask emulated_test_epi32_mask
#define _mm512_permutexvar_epi32 emulated_permutexvar_epi32

/* SIMDe's leaves the sign of -0 and of NaN. */
EMULATED __m512 emulated_abs_ps(__m512 v)
{
    simde__m512i_private a = simde__m512i_to_private(_mm512_castps_si512(v));
    for (int i = 0; i < 16; i++) a.i32[i] &= INT32_MAX;
    return _mm512_castsi512_ps(simde__m512i_from_private(a));
}

/* No lane is NaN where this is used, and of zeros the sign is not looked at. */
EMULATED float emulated_reduce_max_ps(__m512 v)
{
    simde__m512_private a = simde__m512_to_private(v);
    float largest = a.f32[0];
    for (int i = 1; i < 16; i++) largest = a.f32[i] > largest ? a.f32[i] : largest;
    return largest;
}

#undef _mm512_abs_ps
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_abs_ps emulated_abs_ps
#define _mm512_reduce_max_ps emulated_reduce_max_ps

#endif
