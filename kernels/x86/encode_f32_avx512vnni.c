/* encode_f32_avx512vnni - a run of floats to codes, 16 at a time; the last vector is masked. */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

QVITP_INLINE512 __m128i uniform(__m512 x, const struct qvitp_encode *run)
{
    __m512 u =
        qvitp_512_clamp(_mm512_div_ps(x, _mm512_set1_ps(run->scale)),
                        _mm512_set1_ps(run->lo - run->zero), _mm512_set1_ps(run->hi - run->zero));
    /* The zero point is a whole number: it may as well be added in int32. */
    __m512i code = _mm512_cvtps_epi32(u);
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(code, _mm512_set1_epi32((int32_t)run->zero)));
}

QVITP_INLINE512 __m128i twin_gelu(__m512 x, const struct qvitp_encode *run)
{
    __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    __m512 scale = _mm512_mask_mov_ps(_mm512_set1_ps(run->scale2), low, _mm512_set1_ps(run->scale));
    __m512 bottom = _mm512_maskz_mov_ps(low, _mm512_set1_ps(run->lo - run->zero));
    __m512 top = _mm512_maskz_mov_ps(~low, _mm512_set1_ps(run->hi - run->zero));
    __m512i steps = _mm512_cvtps_epi32(qvitp_512_clamp(_mm512_div_ps(x, scale), bottom, top));
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(steps, _mm512_set1_epi32((int32_t)run->zero)));
}

QVITP_INLINE512 __m128i twin_softmax(__m512 x, const struct qvitp_encode *run)
{
    const __m512 zero = _mm512_setzero_ps();
    const float half = (run->hi + 1) / 2;
    const __m512 last = _mm512_set1_ps(half - 1);
    __m512 u = _mm512_div_ps(x, _mm512_set1_ps(run->scale));
    __m512 v = _mm512_div_ps(x, _mm512_set1_ps(run->scale2));
    __mmask16 high = _mm512_cmp_ps_mask(u, _mm512_set1_ps(half), _CMP_GE_OQ);
    __m128i code = qvitp_512_code(qvitp_512_clamp(v, zero, last));
    code = _mm_add_epi8(code, _mm_set1_epi8((char)(int32_t)half));
    return _mm_mask_mov_epi8(qvitp_512_code(qvitp_512_clamp(u, zero, last)), high, code);
}

QVITP_TARGET_AVX512VNNI static void encode(const struct qvitp_encode *run)
{
    for (size_t j = 0; j < run->n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, run->n);
        __m512 x = _mm512_maskz_loadu_ps(in, run->x + j);
        __m128i code;
        if (run->scheme == QVITP_ENCODE_UNIFORM)
            code = uniform(x, run);
        else if (run->scheme == QVITP_ENCODE_TWIN_GELU)
            code = twin_gelu(x, run);
        else
            code = twin_softmax(x, run);
        qvitp_512_store_16_bytes(run->codes + j, in, code);
    }
}

const struct qvitp_named_encode qvitp_encode_f32_avx512vnni = {"encode_f32_avx512vnni", encode};

#endif
