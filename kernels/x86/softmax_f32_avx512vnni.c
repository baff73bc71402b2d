/*
 * softmax_f32_avx512vnni - rows of scores to probabilities or codes, in three passes over some rows:
 * sum up and find the largest, exponentials and their sum, output. So nothing waits for what a row's pass
 * gives. The 16 partial sums are one
 * register. Scores are padded, so whole vectors are read everywhere; the last, partial one stands
 * apart, so that no loop computes masks, and each form of output has a loop of its own.
 */
#include <math.h>

#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

/* Adds a row of bias or mask to the scores. */
QVITP_INLINE512 void add_to_scores(float *scores, const float *x, size_t n)
{
    for (size_t j = 0; j < n; j += 16) {
        __m512 more = _mm512_maskz_loadu_ps(qvitp_512_mask(j, n), x + j);
        _mm512_store_ps(scores + j, _mm512_add_ps(_mm512_load_ps(scores + j), more));
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

/* The codes of 16 exponentials. Nothing is negative, and what is not a number is converted to a number whose byte is 0,
 * if the minimum lets it pass: so no maximum is taken. */
QVITP_INLINE512 __m128i plain_codes(__m512 e, __m512 scale, __m512 hi)
{
    return qvitp_512_code(_mm512_min_ps(hi, _mm512_mul_ps(e, scale)));
}

QVITP_INLINE512 __m128i twin_codes(__m512 e, __m512 scale, __m512 scale2, __m512 half)
{
    __m512 most = _mm512_sub_ps(half, _mm512_set1_ps(1)), low = _mm512_mul_ps(e, scale);
    __m512 high = _mm512_min_ps(most, _mm512_mul_ps(e, scale2));
    __mmask16 is_low = _mm512_cmp_ps_mask(low, half, _CMP_LT_OQ);
    __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(high), _mm512_cvtps_epi32(half));
    code = _mm512_mask_cvtps_epi32(code, is_low, _mm512_min_ps(most, low));
    return _mm512_cvtepi32_epi8(code);
}

QVITP_INLINE512 void write_floats(const float *e, float *dst, size_t whole, __mmask16 last,
                                  float sum)
{
    __m512 inverse = _mm512_set1_ps(1.0f / sum);
    for (size_t j = 0; j < whole; j += 16)
        _mm512_storeu_ps(dst + j, _mm512_mul_ps(_mm512_load_ps(e + j), inverse));
    _mm512_mask_storeu_ps(dst + whole, last, _mm512_mul_ps(_mm512_load_ps(e + whole), inverse));
}

QVITP_INLINE512 void write_codes(const float *e, uint8_t *dst, size_t whole, __mmask16 last,
                                 float share, const struct qvitp_softmax *rows)
{
    __m512 scale = _mm512_set1_ps(rows->mul / share), hi = _mm512_set1_ps(rows->hi);
    for (size_t j = 0; j < whole; j += 16)
        _mm_storeu_si128((__m128i *)(dst + j), plain_codes(_mm512_load_ps(e + j), scale, hi));
    _mm_mask_storeu_epi8(dst + whole, last, plain_codes(_mm512_load_ps(e + whole), scale, hi));
}

QVITP_INLINE512 void write_twins(const float *e, uint8_t *dst, size_t whole, __mmask16 last,
                                 float share, const struct qvitp_softmax *rows)
{
    __m512 scale = _mm512_set1_ps(rows->mul / share), scale2 = _mm512_set1_ps(rows->mul2 / share);
    __m512 half = _mm512_set1_ps(rows->half);
    for (size_t j = 0; j < whole; j += 16)
        _mm_storeu_si128((__m128i *)(dst + j),
                         twin_codes(_mm512_load_ps(e + j), scale, scale2, half));
    _mm_mask_storeu_epi8(dst + whole, last,
                         twin_codes(_mm512_load_ps(e + whole), scale, scale2, half));
}

QVITP_INLINE512 void write_row(const struct qvitp_softmax *rows, ptrdiff_t i, size_t whole,
                               __mmask16 last, float sum)
{
    const float *e = rows->scores + i * rows->lds;
    float *floats = (float *)rows->dst + i * rows->ldd;
    uint8_t *codes = (uint8_t *)rows->dst + i * rows->ldd;
    float share = rows->sum ? 1 : sum; /* what codes are divided by */
    if (rows->sum) rows->sum[i] = sum > 0 ? sum : 0;
    if (!(sum > 0) && rows->out == QVITP_OUT_F32)
        memset(floats, 0, rows->n * sizeof(float));
    else if (!(sum > 0))
        memset(codes, 0, rows->n);
    else if (rows->out == QVITP_OUT_F32)
        write_floats(e, floats, whole, last, sum);
    else if (rows->half > 0)
        write_twins(e, codes, whole, last, share, rows);
    else
        write_codes(e, codes, whole, last, share, rows);
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_softmax *rows)
{
    enum { ROWS = 16 };
    float top[ROWS], sum[ROWS];
    /* The last vector is partial or, where 16 divides n, whole. */
    size_t n = rows->n, whole = (n - 1) / 16 * 16;
    __mmask16 last = qvitp_512_mask(whole, n);
    for (ptrdiff_t done = 0, m = (ptrdiff_t)rows->m; done < m; done += ROWS) {
        ptrdiff_t count = m - done < ROWS ? m - done : ROWS;
        for (ptrdiff_t i = 0; i < count; i++) {
            float *scores = rows->scores + (done + i) * rows->lds;
            if (rows->bias) add_to_scores(scores, rows->bias + (done + i) * rows->ldb, n);
            if (rows->mask) add_to_scores(scores, rows->mask + (done + i) * rows->ldm, n);
            top[i] = find_top(scores, whole, last);
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            int finite = top[i] != INFINITY && top[i] != -INFINITY;
            float *scores = rows->scores + (done + i) * rows->lds;
            sum[i] = finite ? exponentials(scores, whole, last, top[i]) : 0;
        }
        for (ptrdiff_t i = 0; i < count; i++) write_row(rows, done + i, whole, last, sum[i]);
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx512vnni = {"softmax_f32_avx512vnni", run};

#endif
