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

/* What the forms need of a row. */
struct form {
    __m512i half, times; /* times: products fit their bytes */
    int32_t zero;
};

/* The 64 codes of `in` as one or two planes. form, QVITP_STAGE_*, is a constant wherever this is called. */
QVITP_INLINE512 void convert(int32_t form, const struct form *f, __mmask64 in, __m512i code,
                             __m512i *low, __m512i *high)
{
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    *low = *high = code;
    if (form == QVITP_STAGE_S8) *low = _mm512_maskz_mov_epi8(in, _mm512_xor_si512(code, sign));
    if (form == QVITP_STAGE_JOINED_SOFTMAX || form == QVITP_STAGE_TWIN_SOFTMAX) {
        __mmask64 is_high = _mm512_cmpge_epu8_mask(code, f->half);
        *high = _mm512_maskz_sub_epi8(is_high, code, f->half);
        *low = _mm512_maskz_mov_epi8(~is_high, code);
    }
    if (form == QVITP_STAGE_JOINED_GELU || form == QVITP_STAGE_TWIN_GELU)
        split_gelu(in, code, f->zero, low, high);
    if (form == QVITP_STAGE_JOINED_SOFTMAX)
        *low = _mm512_or_si512(*low, _mm512_mullo_epi16(*high, f->times));
    if (form == QVITP_STAGE_JOINED_GELU) {
        __m512i value = _mm512_sub_epi8(_mm512_mullo_epi16(*high, f->times), *low);
        *low = _mm512_maskz_mov_epi8(in, _mm512_xor_si512(value, sign));
    }
}

/* form is a constant wherever this and the next are called. */
QVITP_INLINE512 void stage_row(int32_t form, const struct form *f, const struct qvitp_stage *rows,
                               const uint8_t *codes, uint8_t *dst, uint8_t *dst2)
{
    size_t n = rows->n, padded = rows->padded, j = 0;
    int two = form == QVITP_STAGE_TWIN_SOFTMAX || form == QVITP_STAGE_TWIN_GELU;
    __m512i low, high;
    for (; j + 64 <= n; j += 64) {
        convert(form, f, ~(__mmask64)0, _mm512_loadu_si512(codes + j), &low, &high);
        _mm512_storeu_si512(dst + j, low);
        if (two) _mm512_storeu_si512(dst2 + j, high);
    }
    for (; j < padded; j += 64) {
        /* Lanes of `in` hold codes; those between n and padded get 0. */
        __mmask64 in = mask64(j, n), all = mask64(j, padded);
        convert(form, f, in, _mm512_maskz_loadu_epi8(in, codes + j), &low, &high);
        _mm512_mask_storeu_epi8(dst + j, all, low);
        if (two) _mm512_mask_storeu_epi8(dst2 + j, all, high);
    }
}

QVITP_INLINE512 void stage(int32_t form, const struct qvitp_stage *rows)
{
    const struct form f = {_mm512_set1_epi8((char)rows->half),
                           _mm512_set1_epi16((int16_t)rows->high), rows->zero};
    const uint8_t *codes = rows->codes;
    uint8_t *dst = rows->dst, *dst2 = rows->dst2;
    for (size_t i = 0; i < rows->m; i++, codes += rows->ldc, dst += rows->ldd) {
        stage_row(form, &f, rows, codes, dst, dst2);
        if (dst2) dst2 += rows->ldd;
    }
}

QVITP_TARGET_AVX512VNNI void qvitp_stage_u8_avx512vnni(const struct qvitp_stage *rows)
{
    switch (rows->form) {
    case QVITP_STAGE_S8:
        stage(QVITP_STAGE_S8, rows);
        break;
    case QVITP_STAGE_TWIN_SOFTMAX:
        stage(QVITP_STAGE_TWIN_SOFTMAX, rows);
        break;
    case QVITP_STAGE_TWIN_GELU:
        stage(QVITP_STAGE_TWIN_GELU, rows);
        break;
    case QVITP_STAGE_JOINED_SOFTMAX:
        stage(QVITP_STAGE_JOINED_SOFTMAX, rows);
        break;
    case QVITP_STAGE_JOINED_GELU:
        stage(QVITP_STAGE_JOINED_GELU, rows);
        break;
    default:
        stage(QVITP_STAGE_U8, rows);
    }
}

#endif
