/* stage_u8s16_avx2 - codes into the 16-bit integers that vpmaddwd reads, 16 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Sixteen codes to the low and the high plane's values. */
QVITP_INLINE256 void widen(__m128i codes, const struct qvitp_stage *row, __m256i *low,
                           __m256i *high)
{
    __m256i is_low, code;
    *low = *high = _mm256_cvtepu8_epi16(codes);
    if (row->form == QVITP_STAGE_S8) {
        *low = _mm256_xor_si256(*low, _mm256_set1_epi16(0x80));
    } else if (row->form == QVITP_STAGE_TWIN_SOFTMAX) {
        const __m256i half = _mm256_set1_epi16((int16_t)row->half);
        code = *low;
        is_low = _mm256_cmpgt_epi16(half, code);
        *low = _mm256_and_si256(is_low, code);
        *high = _mm256_andnot_si256(is_low, _mm256_sub_epi16(code, half));
    } else if (row->form == QVITP_STAGE_TWIN_GELU) {
        code = _mm256_cvtepi8_epi16(codes);
        is_low = _mm256_srai_epi16(code, 15);
        *low = _mm256_and_si256(is_low, _mm256_abs_epi16(code));
        *high = _mm256_andnot_si256(is_low, code);
    }
}

QVITP_TARGET_AVX2 void qvitp_stage_u8s16_avx2(const struct qvitp_stage *row)
{
    int16_t *dst = row->dst, *dst2 = row->dst2;
    size_t n = row->n, j = 0, rest = row->padded - n;
    int twin = row->form == QVITP_STAGE_TWIN_SOFTMAX || row->form == QVITP_STAGE_TWIN_GELU;
    __m256i low, high;
    for (; j + 16 <= n; j += 16) {
        widen(_mm_loadu_si128((const __m128i *)(row->codes + j)), row, &low, &high);
        _mm256_storeu_si256((__m256i *)(dst + j), low);
        if (twin) _mm256_storeu_si256((__m256i *)(dst2 + j), high);
    }
    if (j < n) {
        uint8_t codes[16] = {0};
        memcpy(codes, row->codes + j, n - j);
        widen(_mm_loadu_si128((const __m128i *)codes), row, &low, &high);
        memcpy(dst + j, &low, (n - j) * sizeof *dst);
        if (twin) memcpy(dst2 + j, &high, (n - j) * sizeof *dst);
    }
    memset(dst + n, 0, rest * sizeof *dst);
    if (twin) memset(dst2 + n, 0, rest * sizeof *dst);
}

#endif
