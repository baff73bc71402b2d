/*
 * softmax_f32_avx512vnni - one row of scores to probabilities or codes, in three passes over the
 * row: sum up and find the largest, exponentials and their sum, output. The 16 partial sums are one
 * register. Scores are padded, so whole vectors are read everywhere; the last, partial one stands
 * apart, so that no loop computes masks, and each form of output has a loop of its own.
 */
#include <math.h>

#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

/* Adds bias and mask to the scores. */
QVITP_INLINE512 void add_to_scores(const struct qvitp_softmax *row)
{
    for (size_t j = 0; j < row->n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, row->n);
        __m512 s = _mm512_load_ps(row->scores + j);
        if (row->bias) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(in, row->bias + j));
        if (row->mask) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(in, row->mask + j));
        _mm512_store_ps(row->scores + j, s);
    }
}

/* The largest score that is a number, or -infinity. Where one operand is NaN the second comes out. */
QVITP_INLINE512 float find_top(const float *scores, size_t whole, __mmask16 last)
{
    __m512 a = _mm512_set1_ps(-INFINITY), b = a;
    size_t j = 0;
    for (; j + 32 <= whole; j += 32) {
        a = _mm512_max_ps(_mm512_load_ps(scores + j), a);
        b = _mm512_max_ps(_mm512_load_ps(scores + j + 16), b);
    }
    if (j < whole) a = _mm512_max_ps(_mm512_load_ps(scores + j), a);
    b = _mm512_mask_max_ps(b, last, _mm512_load_ps(scores + whole), b);
    return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

/* e = exp(s - top) of `count` vectors, a constant. */
QVITP_INLINE512 void exponentials_of(size_t count, const float *scores, __m512 top, __m512 e[])
{
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) e[i] = _mm512_sub_ps(_mm512_load_ps(scores + 16 * i), top);
    qvitp_512_exp(count, e);
}

/* Replaces the scores by their exponentials; returns the sum of these. */
QVITP_INLINE512 float exponentials(float *scores, size_t whole, __mmask16 last, float largest)
{
    __m512 sum = _mm512_setzero_ps(), top = _mm512_set1_ps(largest), e[4];
    size_t j = 0;
    for (; j + 64 <= whole; j += 64) {
        exponentials_of(4, scores + j, top, e);
        QVITP_UNROLL
        for (size_t i = 0; i < 4; i++) {
            _mm512_store_ps(scores + j + 16 * i, e[i]);
            sum = _mm512_add_ps(sum, e[i]);
        }
    }
    for (; j <= whole; j += 16) {
        exponentials_of(1, scores + j, top, e);
        _mm512_store_ps(scores + j, e[0]);
        sum = _mm512_mask_add_ps(sum, j < whole ? 0xFFFF : last, sum, e[0]);
    }
    return qvitp_512_tree(sum);
}

/* The codes of 16 exponentials. */
QVITP_INLINE512 __m128i plain_codes(__m512 e, __m512 scale, __m512 hi)
{
    return qvitp_512_code(qvitp_512_clamp(_mm512_mul_ps(e, scale), _mm512_setzero_ps(), hi));
}

QVITP_INLINE512 __m128i twin_codes(__m512 e, __m512 scale, __m512 scale2, __m512 half)
{
    __m512 most = _mm512_sub_ps(half, _mm512_set1_ps(1)), zero = _mm512_setzero_ps();
    __m512 low = _mm512_mul_ps(e, scale);
    __m512 high = qvitp_512_clamp(_mm512_mul_ps(e, scale2), zero, most);
    __mmask16 is_low = _mm512_cmp_ps_mask(low, half, _CMP_LT_OQ);
    __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(high), _mm512_cvtps_epi32(half));
    code = _mm512_mask_cvtps_epi32(code, is_low, qvitp_512_clamp(low, zero, most));
    return _mm512_cvtepi32_epi8(code);
}

QVITP_INLINE512 void write_floats(const struct qvitp_softmax *row, size_t whole, __mmask16 last,
                                  float sum)
{
    __m512 inverse = _mm512_set1_ps(1.0f / sum);
    float *dst = row->dst;
    for (size_t j = 0; j < whole; j += 16)
        _mm512_storeu_ps(dst + j, _mm512_mul_ps(_mm512_load_ps(row->scores + j), inverse));
    __m512 p = _mm512_mul_ps(_mm512_load_ps(row->scores + whole), inverse);
    _mm512_mask_storeu_ps(dst + whole, last, p);
}

QVITP_INLINE512 void write_codes(const struct qvitp_softmax *row, size_t whole, __mmask16 last,
                                 float share)
{
    __m512 scale = _mm512_set1_ps(row->mul / share), hi = _mm512_set1_ps(row->hi);
    uint8_t *dst = row->dst;
    for (size_t j = 0; j < whole; j += 16)
        _mm_storeu_si128((__m128i *)(dst + j),
                         plain_codes(_mm512_load_ps(row->scores + j), scale, hi));
    _mm_mask_storeu_epi8(dst + whole, last,
                         plain_codes(_mm512_load_ps(row->scores + whole), scale, hi));
}

QVITP_INLINE512 void write_twins(const struct qvitp_softmax *row, size_t whole, __mmask16 last,
                                 float share)
{
    __m512 scale = _mm512_set1_ps(row->mul / share), scale2 = _mm512_set1_ps(row->mul2 / share);
    __m512 half = _mm512_set1_ps(row->half);
    uint8_t *dst = row->dst;
    for (size_t j = 0; j < whole; j += 16)
        _mm_storeu_si128((__m128i *)(dst + j),
                         twin_codes(_mm512_load_ps(row->scores + j), scale, scale2, half));
    _mm_mask_storeu_epi8(dst + whole, last,
                         twin_codes(_mm512_load_ps(row->scores + whole), scale, scale2, half));
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_softmax *row)
{
    /* The last vector is partial or, where 16 divides n, whole. */
    size_t whole = (row->n - 1) / 16 * 16;
    __mmask16 last = qvitp_512_mask(whole, row->n);
    if (row->bias || row->mask) add_to_scores(row);
    float top = find_top(row->scores, whole, last), sum = 0;
    if (top != INFINITY && top != -INFINITY) sum = exponentials(row->scores, whole, last, top);
    float share = row->sum ? 1 : sum; /* what codes are divided by */
    if (row->sum) *row->sum = sum > 0 ? sum : 0;
    if (!(sum > 0)) {
        memset(row->dst, 0, row->n * (row->out == QVITP_OUT_F32 ? sizeof(float) : 1));
    } else if (row->out == QVITP_OUT_F32) {
        write_floats(row, whole, last, sum);
    } else if (row->half > 0) {
        write_twins(row, whole, last, share);
    } else {
        write_codes(row, whole, last, share);
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx512vnni = {"softmax_f32_avx512vnni", run};

#endif
