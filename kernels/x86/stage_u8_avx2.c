/* stage_u8_avx2 - codes into the bytes that vpmaddubsw reads, 32 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Two bytes at once: the products fit bytes, so none reaches its neighbour. */
QVITP_INLINE256 __m256i times(__m256i x, int32_t factor)
{
    return _mm256_mullo_epi16(x, _mm256_set1_epi16((int16_t)factor));
}

/* Signed codes to how far they are below and above zero, as unsigned bytes. */
QVITP_INLINE256 void split_gelu(__m256i code, int32_t zero, __m256i *low, __m256i *high)
{
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    const __m256i place = _mm256_xor_si256(code, sign),
                  point = _mm256_set1_epi8((char)(zero + 128));
    *low = _mm256_subs_epu8(point, place);
    *high = _mm256_subs_epu8(place, point);
}

/* 32 codes to the low and the high plane's values, or to those of the one that there is. */
QVITP_INLINE256 void split(__m256i code, const struct qvitp_stage *row, __m256i *low, __m256i *high)
{
    *low = *high = code;
    if (row->form == QVITP_STAGE_S8) {
        *low = _mm256_xor_si256(code, _mm256_set1_epi8((char)0x80));
    } else if (row->form == QVITP_STAGE_JOINED_SOFTMAX) {
        __m256i half = _mm256_set1_epi8((char)row->half);
        __m256i is_high = _mm256_cmpeq_epi8(_mm256_max_epu8(code, half), code);
        __m256i over = times(_mm256_and_si256(is_high, _mm256_sub_epi8(code, half)), row->high);
        *low = _mm256_blendv_epi8(code, over, is_high);
    } else if (row->form == QVITP_STAGE_JOINED_GELU) {
        split_gelu(code, row->zero, low, high);
        __m256i value = _mm256_sub_epi8(times(*high, row->high), *low);
        *low = _mm256_xor_si256(value, _mm256_set1_epi8((char)0x80));
    } else if (row->form == QVITP_STAGE_TWIN_SOFTMAX) {
        __m256i half = _mm256_set1_epi8((char)row->half);
        __m256i is_high = _mm256_cmpeq_epi8(_mm256_max_epu8(code, half), code);
        *low = _mm256_andnot_si256(is_high, code);
        *high = _mm256_and_si256(is_high, _mm256_sub_epi8(code, half));
    } else if (row->form == QVITP_STAGE_TWIN_GELU) {
        split_gelu(code, row->zero, low, high);
    }
}

QVITP_TARGET_AVX2 static void stage_row(const struct qvitp_stage *row)
{
    uint8_t *dst = row->dst, *dst2 = row->dst2;
    size_t n = row->n, j = 0;
    int twin = row->form == QVITP_STAGE_TWIN_SOFTMAX || row->form == QVITP_STAGE_TWIN_GELU;
    __m256i low, high;
    for (; j + 32 <= n; j += 32) {
        split(_mm256_loadu_si256((const __m256i *)(row->codes + j)), row, &low, &high);
        _mm256_storeu_si256((__m256i *)(dst + j), low);
        if (twin) _mm256_storeu_si256((__m256i *)(dst2 + j), high);
    }
    if (j < n) {
        uint8_t codes[32] = {0};
        memcpy(codes, row->codes + j, n - j);
        split(_mm256_loadu_si256((const __m256i *)codes), row, &low, &high);
        memcpy(dst + j, &low, n - j);
        if (twin) memcpy(dst2 + j, &high, n - j);
    }
    memset(dst + n, 0, row->padded - n);
    if (twin) memset(dst2 + n, 0, row->padded - n);
}

QVITP_TARGET_AVX2 void qvitp_stage_u8_avx2(const struct qvitp_stage *rows)
{
    qvitp_stage_each(rows, sizeof(uint8_t), stage_row);
}

#endif
