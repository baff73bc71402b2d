/*
 * softmax_f32_avx512vnni - rows of scores to probabilities, in three passes over some rows: sum up and find the
 * largest, exponentials and their sum, output. So nothing waits for what a row's pass gives. The 16 partial sums are
 * one register. Scores are padded, so whole vectors are read everywhere; the last, partial one stands apart, so that no
 * loop computes masks.
 */
#include <math.h>

#include "avx512vnni_kernels.h"
#include "avx512_scores.h"

#if QVITP_X86

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

QVITP_INLINE512 void write_floats(const float *e, float *dst, size_t whole, __mmask16 last,
                                  float sum)
{
    __m512 inverse = _mm512_set1_ps(1.0f / sum);
    for (size_t j = 0; j < whole; j += 16)
        _mm512_storeu_ps(dst + j, _mm512_mul_ps(_mm512_load_ps(e + j), inverse));
    _mm512_mask_storeu_ps(dst + whole, last, _mm512_mul_ps(_mm512_load_ps(e + whole), inverse));
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
            if (rows->bias) qvitp_512_add_row(scores, rows->bias + (done + i) * rows->ldb, n);
            if (rows->mask) qvitp_512_add_row(scores, rows->mask + (done + i) * rows->ldm, n);
            top[i] = qvitp_512_top(scores, whole, last);
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            int finite = top[i] != INFINITY && top[i] != -INFINITY;
            float *scores = rows->scores + (done + i) * rows->lds;
            sum[i] = finite ? exponentials(scores, whole, last, top[i]) : 0;
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            float *dst = rows->dst + (done + i) * rows->ldd;
            if (sum[i] > 0)
                write_floats(rows->scores + (done + i) * rows->lds, dst, whole, last, sum[i]);
            else
                memset(dst, 0, n * sizeof *dst);
        }
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx512vnni = {"softmax_f32_avx512vnni", run};

#endif
