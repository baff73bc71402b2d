/* stage_u8_avx512vnni - codes into the bytes that vpdpbusd reads, 64 at a time. */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

QVITP_INLINE512 __mmask64 mask64(size_t first, size_t n)
{
    if (n <= first) return 0;
    return n - first >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - first)) - 1;
}

/* Signed codes to how far they are below and above zero, as unsigned bytes; 0 where no code is. */
QVITP_INLINE512 void split_gelu(__mmask64 in, __m512i code, int32_t zero, __m512i *low,
                                __m512i *high)
{
    const __m512i place = _mm512_xor_si512(code, _mm512_set1_epi8((char)0x80));
    const __m512i point = _mm512_set1_epi8((char)(zero + 128));
    *low = _mm512_maskz_subs_epu8(in, point, place);
    *high = _mm512_maskz_subs_epu8(in, place, point);
}

QVITP_TARGET_AVX512VNNI void qvitp_stage_u8_avx512vnni(const struct qvitp_stage *row)
{
    const __m512i sign = _mm512_set1_epi8((char)0x80), half = _mm512_set1_epi8((char)row->half);
    const __m512i times = _mm512_set1_epi16((int16_t)row->high); /* products fit their bytes */
    for (size_t j = 0; j < row->padded; j += 64) {
        /* Lanes of `in` hold codes; those between n and padded get 0. */
        __mmask64 in = mask64(j, row->n), all = mask64(j, row->padded);
        __m512i code = _mm512_maskz_loadu_epi8(in, row->codes + j), low = code, high = code;
        if (row->form == QVITP_STAGE_S8) {
            low = _mm512_maskz_mov_epi8(in, _mm512_xor_si512(code, sign));
        } else if (row->form == QVITP_STAGE_JOINED_SOFTMAX) {
            __mmask64 is_high = _mm512_cmpge_epu8_mask(code, half);
            __m512i over = _mm512_mullo_epi16(_mm512_maskz_sub_epi8(is_high, code, half), times);
            low = _mm512_mask_mov_epi8(code, is_high, over);
        } else if (row->form == QVITP_STAGE_JOINED_GELU) {
            split_gelu(in, code, row->zero, &low, &high);
            __m512i value = _mm512_sub_epi8(_mm512_mullo_epi16(high, times), low);
            low = _mm512_maskz_mov_epi8(in, _mm512_xor_si512(value, sign));
        } else if (row->form == QVITP_STAGE_TWIN_SOFTMAX) {
            __mmask64 is_low = _mm512_cmplt_epu8_mask(code, half);
            low = _mm512_maskz_mov_epi8(is_low, code);
            high = _mm512_maskz_sub_epi8(~is_low, code, half);
        } else if (row->form == QVITP_STAGE_TWIN_GELU) {
            split_gelu(in, code, row->zero, &low, &high);
        }
        _mm512_mask_storeu_epi8((uint8_t *)row->dst + j, all, low);
        if (row->form == QVITP_STAGE_TWIN_SOFTMAX || row->form == QVITP_STAGE_TWIN_GELU)
            _mm512_mask_storeu_epi8((uint8_t *)row->dst2 + j, all, high);
    }
}

#endif
