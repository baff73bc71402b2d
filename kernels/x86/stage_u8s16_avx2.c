/* stage_u8s16_avx2 - codes into the 16-bit integers that vpmaddwd reads, 16 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Sixteen codes, those of s8 plus 128. */
QVITP_INLINE256 __m256i widen(__m128i codes, __m256i sign)
{
    return _mm256_xor_si256(_mm256_cvtepu8_epi16(codes), sign);
}

QVITP_TARGET_AVX2 void qvitp_stage_u8s16_avx2(const struct qvitp_stage *row)
{
    int16_t *dst = row->dst;
    size_t n = row->n, j = 0;
    const __m256i sign = _mm256_set1_epi16(row->form == QVITP_STAGE_S8 ? 0x80 : 0);
    for (; j + 16 <= n; j += 16) {
        __m128i codes = _mm_loadu_si128((const __m128i *)(row->codes + j));
        _mm256_storeu_si256((__m256i *)(dst + j), widen(codes, sign));
    }
    if (j < n) {
        uint8_t codes[16] = {0};
        memcpy(codes, row->codes + j, n - j);
        __m256i wide = widen(_mm_loadu_si128((const __m128i *)codes), sign);
        memcpy(dst + j, &wide, (n - j) * sizeof *dst);
    }
    memset(dst + n, 0, (row->padded - n) * sizeof *dst);
}

#endif
