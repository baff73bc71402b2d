/*
 * softmax_f32_avx2 - one row of scores to probabilities or codes, in three passes over the row: sum
 * up and find the largest, exponentials and their sum, output. The 16 partial sums are two
 * registers. Scores are padded, so only bias, mask and dst need care in the last vector.
 */
#include <math.h>

#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Adds bias and mask to the scores; returns the largest sum that is a number, or -infinity. */
QVITP_INLINE256 float add_and_find_top(const struct qvitp_softmax *row)
{
    const __m256 nothing = _mm256_set1_ps(-INFINITY);
    __m256 top = nothing;
    for (size_t j = 0; j < row->n; j += 8) {
        __m256 in = _mm256_castsi256_ps(qvitp_256_mask(j, row->n));
        __m256 s = _mm256_load_ps(row->scores + j);
        if (row->bias) s = _mm256_add_ps(s, qvitp_256_load(row->bias, j, row->n));
        if (row->mask) s = _mm256_add_ps(s, qvitp_256_load(row->mask, j, row->n));
        if (row->bias || row->mask) _mm256_store_ps(row->scores + j, s);
        top = _mm256_max_ps(_mm256_blendv_ps(nothing, s, in), top); /* NaN in s: top stays */
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Replaces the scores by their exponentials; returns the sum of these. */
QVITP_INLINE256 float exponentials(float *scores, size_t n, float top)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t j = 0; j < n; j += 16)
        for (size_t h = 0; h < 2; h++) {
            float *s = scores + j + 8 * h;
            __m256 in = _mm256_castsi256_ps(qvitp_256_mask(j + 8 * h, n));
            __m256 e = qvitp_256_exp(_mm256_sub_ps(_mm256_load_ps(s), _mm256_set1_ps(top)));
            sum[h] = _mm256_add_ps(sum[h], _mm256_and_ps(e, in));
            _mm256_store_ps(s, e);
        }
    return qvitp_256_tree(sum[0], sum[1]);
}

/* clamp(u, 0, hi), still to be rounded. */
QVITP_INLINE256 __m256 level(__m256 e, float scale, float hi)
{
    return qvitp_256_clamp(_mm256_mul_ps(e, _mm256_set1_ps(scale)), _mm256_setzero_ps(),
                           _mm256_set1_ps(hi));
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_softmax *row)
{
    size_t n = row->n;
    float top = add_and_find_top(row);
    float sum = 0;
    if (top != INFINITY && top != -INFINITY) sum = exponentials(row->scores, n, top);
    if (row->sum) *row->sum = sum > 0 ? sum : 0;
    if (!(sum > 0)) {
        memset(row->dst, 0, n * (row->out == QVITP_OUT_F32 ? sizeof(float) : 1));
        return;
    }
    float inverse = 1.0f / sum, half = row->half;
    float share = row->sum ? 1 : sum; /* what codes are divided by */
    float scale = row->mul / share, scale2 = row->mul2 / share;
    for (size_t j = 0; j < n; j += 8) {
        __m256 e = _mm256_load_ps(row->scores + j);
        if (row->out == QVITP_OUT_F32) {
            qvitp_256_store(row->dst, j, n, _mm256_mul_ps(e, _mm256_set1_ps(inverse)));
            continue;
        }
        __m256i code;
        if (half > 0) {
            __m256 u = _mm256_mul_ps(e, _mm256_set1_ps(scale));
            __m256 low = _mm256_cmp_ps(u, _mm256_set1_ps(half), _CMP_LT_OQ);
            __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(level(e, scale2, half - 1)),
                                            _mm256_set1_epi32((int32_t)half));
            code = _mm256_blendv_epi8(high, _mm256_cvtps_epi32(level(e, scale, half - 1)),
                                      _mm256_castps_si256(low));
        } else {
            code = _mm256_cvtps_epi32(level(e, scale, row->hi));
        }
        qvitp_256_store_bytes(row->dst, j, n, qvitp_256_narrow(code));
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx2 = {"softmax_f32_avx2", run};

#endif
