/*
 * reorder_u8_avx512vnni - a row's bytes in another order. vpermi2w looks 32 places up among 64 of the row, so
 * the row is widened, and every 64 of it are asked for every 32 places: n squared / 2048 look-ups, which is less
 * than one by one for rows of up to some 3000. (Of bytes that would take a fourth, by VBMI, which not every
 * processor with VNNI has.)
 */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

/* The bytes, as words, and zeros to a multiple of 64. */
QVITP_INLINE512 void widen(const struct qvitp_reorder *row, size_t words, uint16_t *to)
{
    for (size_t j = 0; j < words; j += 32) {
        size_t left = row->n > j ? row->n - j : 0;
        __mmask32 in = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
        _mm512_store_si512(to + j,
                           _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(in, row->bytes + j)));
    }
}

QVITP_TARGET_AVX512VNNI void qvitp_reorder_u8_avx512vnni(const struct qvitp_reorder *row)
{
    uint16_t from[QVITP_REORDER_MOST] __attribute__((aligned(64)));
    size_t n = row->n, words = (n + 63) / 64 * 64;
    widen(row, words, from);
    for (size_t j = 0; j < n; j += 32) {
        __m512i place = _mm512_load_si512(row->order + j), which = _mm512_srli_epi16(place, 6);
        __m512i found = _mm512_setzero_si512();
        for (size_t t = 0; t < words / 64; t++) {
            __m512i low = _mm512_load_si512(from + 64 * t);
            __m512i high = _mm512_load_si512(from + 64 * t + 32);
            __mmask32 here = _mm512_cmpeq_epi16_mask(which, _mm512_set1_epi16((int16_t)t));
            found = _mm512_or_si512(found, _mm512_maskz_permutex2var_epi16(here, low, place, high));
        }
        __mmask32 in = n - j >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (n - j)) - 1;
        qvitp_512_store_32_bytes(row->bytes + j, in, _mm512_cvtepi16_epi8(found));
    }
}

#endif
