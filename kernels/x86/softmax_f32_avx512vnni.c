/*
 * softmax_f32_avx512vnni - one row of scores to probabilities or codes, in three passes over the
 * row: sum up and find the largest, exponentials and their sum, output. The 16 partial sums are one
 * register. Scores are padded, so only bias, mask and dst need a mask in the last vector.
 */
#include <math.h>

#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

/* Adds bias and mask to the scores; returns the largest sum that is a number, or -infinity. */
QVITP_INLINE512 float add_and_find_top(const struct qvitp_softmax *row)
{
    __m512 top = _mm512_set1_ps(-INFINITY);
    for (size_t j = 0; j < row->n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, row->n);
        __m512 s = _mm512_load_ps(row->scores + j);
        if (row->bias) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(in, row->bias + j));
        if (row->mask) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(in, row->mask + j));
        top = _mm512_mask_max_ps(top, in, s, top); /* NaN in s: top stays */
        if (row->bias || row->mask) _mm512_store_ps(row->scores + j, s);
    }
    return _mm512_reduce_max_ps(top);
}

/* Replaces the scores by their exponentials; returns the sum of these. */
QVITP_INLINE512 float exponentials(float *scores, size_t n, float top)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t j = 0; j < n; j += 16) {
        __m512 e = qvitp_512_exp(_mm512_sub_ps(_mm512_load_ps(scores + j), _mm512_set1_ps(top)));
        sum = _mm512_mask_add_ps(sum, qvitp_512_mask(j, n), sum, e);
        _mm512_store_ps(scores + j, e);
    }
    return qvitp_512_tree(sum);
}

/* clamp(u, 0, hi), still to be rounded. */
QVITP_INLINE512 __m512 level(__m512 e, float scale, float hi)
{
    return qvitp_512_clamp(_mm512_mul_ps(e, _mm512_set1_ps(scale)), _mm512_setzero_ps(),
                           _mm512_set1_ps(hi));
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_softmax *row)
{
    float top = add_and_find_top(row);
    float sum = 0;
    if (top != INFINITY && top != -INFINITY) sum = exponentials(row->scores, row->n, top);
    if (!(sum > 0)) {
        memset(row->dst, 0, row->n * (row->out == QVITP_OUT_F32 ? sizeof(float) : 1));
        return;
    }
    float inverse = 1.0f / sum, scale = row->mul / sum, scale2 = row->mul2 / sum, half = row->half;
    for (size_t j = 0; j < row->n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, row->n);
        __m512 e = _mm512_load_ps(row->scores + j);
        if (row->out == QVITP_OUT_F32) {
            e = _mm512_mul_ps(e, _mm512_set1_ps(inverse));
            _mm512_mask_storeu_ps((float *)row->dst + j, in, e);
            continue;
        }
        __m128i code;
        if (half > 0) {
            __m512 u = _mm512_mul_ps(e, _mm512_set1_ps(scale));
            __mmask16 low = _mm512_cmp_ps_mask(u, _mm512_set1_ps(half), _CMP_LT_OQ);
            __m128i high = _mm_add_epi8(qvitp_512_code(level(e, scale2, half - 1)),
                                        _mm_set1_epi8((char)(int32_t)half));
            code = _mm_mask_mov_epi8(high, low, qvitp_512_code(level(e, scale, half - 1)));
        } else {
            code = qvitp_512_code(level(e, scale, row->hi));
        }
        _mm_mask_storeu_epi8((uint8_t *)row->dst + j, in, code);
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx512vnni = {"softmax_f32_avx512vnni", run};

#endif
