/*
 * expand_u4_avx2 - 4-bit codes into the bytes of a panel, 16 columns by 4 of k at a time: 8 columns
 * from the low halves of 32 bytes, and the 8 that lie half a step behind from the high ones.
 */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

enum { KSTEP = 4, COLUMNS = 8 };

/* The zero of each of 8 columns, for all of its 4 values. */
QVITP_INLINE256 __m256i repeat(const uint8_t *zero)
{
    __m256i each = _mm256_cvtepu8_epi32(qvitp_256_load_bytes(zero, 0, COLUMNS));
    return _mm256_mullo_epi32(each, _mm256_set1_epi32(0x01010101));
}

QVITP_TARGET_AVX2 void qvitp_expand_u4_avx2(const struct qvitp_expand *panel)
{
    size_t nr = panel->nr, half = nr * KSTEP / 2;
    const __m256i low_bits = _mm256_set1_epi8(15);
    for (size_t j = 0; j < nr / 2; j += COLUMNS) {
        __m256i zero_low = repeat(panel->zero + j), zero_high = repeat(panel->zero + nr / 2 + j);
        const uint8_t *codes = panel->codes + j * KSTEP;
        int8_t *dst = panel->dst + j * KSTEP;
        for (size_t step = 0; step < panel->steps; step++, codes += half, dst += 2 * half) {
            __m256i two = _mm256_loadu_si256((const __m256i *)codes);
            __m256i low = _mm256_and_si256(two, low_bits);
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(two, 4), low_bits);
            _mm256_storeu_si256((__m256i *)dst, _mm256_sub_epi8(low, zero_low));
            _mm256_storeu_si256((__m256i *)(dst + half), _mm256_sub_epi8(high, zero_high));
        }
    }
}

#endif
