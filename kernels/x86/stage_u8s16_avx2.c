/* stage_u8s16_avx2 - codes into the 16-bit integers that vpmaddwd reads, 16 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Sixteen codes: as they are, those of s8 plus 128, or a joined twin's values. */
QVITP_INLINE256 __m256i widen(__m128i codes, const struct qvitp_stage *row)
{
    __m256i code = _mm256_cvtepu8_epi16(codes), zero = _mm256_setzero_si256();
    __m256i high = _mm256_set1_epi16((int16_t)row->high);
    if (row->form == QVITP_STAGE_S8) return _mm256_xor_si256(code, _mm256_set1_epi16(0x80));
    if (row->form == QVITP_STAGE_JOINED_SOFTMAX) {
        __m256i over = _mm256_sub_epi16(code, _mm256_set1_epi16((int16_t)row->half));
        __m256i is_low = _mm256_cmpgt_epi16(zero, over);
        return _mm256_blendv_epi8(_mm256_mullo_epi16(over, high), code, is_low);
    }
    if (row->form == QVITP_STAGE_JOINED_GELU) {
        code = _mm256_sub_epi16(_mm256_cvtepi8_epi16(codes), _mm256_set1_epi16((int16_t)row->zero));
        __m256i is_low = _mm256_cmpgt_epi16(zero, code);
        return _mm256_blendv_epi8(_mm256_mullo_epi16(code, high), code, is_low);
    }
    return code;
}

QVITP_TARGET_AVX2 static void stage_row(const struct qvitp_stage *row)
{
    int16_t *dst = row->dst;
    size_t n = row->n, j = 0;
    for (; j + 16 <= n; j += 16) {
        __m128i codes = _mm_loadu_si128((const __m128i *)(row->codes + j));
        _mm256_storeu_si256((__m256i *)(dst + j), widen(codes, row));
    }
    if (j < n) {
        uint8_t codes[16] = {0};
        memcpy(codes, row->codes + j, n - j);
        __m256i wide = widen(_mm_loadu_si128((const __m128i *)codes), row);
        memcpy(dst + j, &wide, (n - j) * sizeof *dst);
    }
    memset(dst + n, 0, (row->padded - n) * sizeof *dst);
}

QVITP_TARGET_AVX2 void qvitp_stage_u8s16_avx2(const struct qvitp_stage *rows)
{
    qvitp_stage_each(rows, sizeof(int16_t), stage_row);
}

#endif
