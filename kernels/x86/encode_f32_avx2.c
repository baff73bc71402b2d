/* encode_f32_avx2 - a run of floats to codes, 8 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

QVITP_INLINE256 __m256i uniform(__m256 x, const struct qvitp_encode *run)
{
    __m256 u =
        qvitp_256_clamp(_mm256_div_ps(x, _mm256_set1_ps(run->scale)),
                        _mm256_set1_ps(run->lo - run->zero), _mm256_set1_ps(run->hi - run->zero));
    /* The zero point is a whole number: it may as well be added in int32. */
    return _mm256_add_epi32(_mm256_cvtps_epi32(u), _mm256_set1_epi32((int32_t)run->zero));
}

QVITP_INLINE256 __m256i twin_gelu(__m256 x, const struct qvitp_encode *run)
{
    const __m256 zero = _mm256_setzero_ps();
    __m256 low = _mm256_cmp_ps(x, zero, _CMP_LT_OQ);
    __m256 scale = _mm256_blendv_ps(_mm256_set1_ps(run->scale2), _mm256_set1_ps(run->scale), low);
    __m256 bottom = _mm256_and_ps(low, _mm256_set1_ps(run->lo - run->zero));
    __m256 top = _mm256_andnot_ps(low, _mm256_set1_ps(run->hi - run->zero));
    __m256i steps = _mm256_cvtps_epi32(qvitp_256_clamp(_mm256_div_ps(x, scale), bottom, top));
    return _mm256_add_epi32(steps, _mm256_set1_epi32((int32_t)run->zero));
}

QVITP_INLINE256 __m256i twin_softmax(__m256 x, const struct qvitp_encode *run)
{
    const __m256 zero = _mm256_setzero_ps();
    const float half = (run->hi + 1) / 2;
    const __m256 last = _mm256_set1_ps(half - 1);
    __m256 u = _mm256_div_ps(x, _mm256_set1_ps(run->scale));
    __m256 v = _mm256_div_ps(x, _mm256_set1_ps(run->scale2));
    __m256 high = _mm256_cmp_ps(u, _mm256_set1_ps(half), _CMP_GE_OQ);
    __m256i code = _mm256_cvtps_epi32(qvitp_256_clamp(v, zero, last));
    code = _mm256_add_epi32(code, _mm256_set1_epi32((int32_t)half));
    return _mm256_blendv_epi8(_mm256_cvtps_epi32(qvitp_256_clamp(u, zero, last)), code,
                              _mm256_castps_si256(high));
}

QVITP_TARGET_AVX2 static void encode(const struct qvitp_encode *run)
{
    for (size_t j = 0; j < run->n; j += 8) {
        __m256 x = qvitp_256_load(run->x, j, run->n);
        __m256i code;
        if (run->scheme == QVITP_ENCODE_UNIFORM)
            code = uniform(x, run);
        else if (run->scheme == QVITP_ENCODE_TWIN_GELU)
            code = twin_gelu(x, run);
        else
            code = twin_softmax(x, run);
        qvitp_256_store_bytes(run->codes, j, run->n, qvitp_256_narrow(code));
    }
}

const struct qvitp_named_encode qvitp_encode_f32_avx2 = {"encode_f32_avx2", encode};

#endif
