/*
 * softmax_f32_avx2 - rows of scores to probabilities, in three passes over some rows: sum up and find the largest,
 * exponentials and their sum, output. So nothing waits for what a row's pass gives. The 16 partial sums are two
 * registers. Scores are padded, so whole vectors are read everywhere; the last 16, of which some may be missing, stand
 * apart, so that no loop computes masks.
 */
#include <math.h>

#include "avx2_kernels.h"
#include "avx2_scores.h"

#if QVITP_X86

/* e = exp(s - top) of `count` vectors, which is a constant. */
QVITP_INLINE256 void exponentials_of(size_t count, const float *scores, __m256 top, __m256 e[])
{
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) e[i] = _mm256_sub_ps(_mm256_load_ps(scores + 8 * i), top);
    qvitp_256_exp(count, e);
}

/* Replaces the scores by their exponentials; returns the sum of these. */
QVITP_INLINE256 float exponentials(float *scores, size_t whole, const __m256 in[2], float largest)
{
    __m256 even = _mm256_setzero_ps(), odd = even, top = _mm256_set1_ps(largest), e[4];
    size_t j = 0;
    for (; j + 32 <= whole; j += 32) {
        exponentials_of(4, scores + j, top, e);
        QVITP_UNROLL
        for (size_t i = 0; i < 4; i++) _mm256_store_ps(scores + j + 8 * i, e[i]);
        even = _mm256_add_ps(_mm256_add_ps(even, e[0]), e[2]);
        odd = _mm256_add_ps(_mm256_add_ps(odd, e[1]), e[3]);
    }
    for (; j <= whole; j += 16) {
        exponentials_of(2, scores + j, top, e);
        _mm256_store_ps(scores + j, e[0]), _mm256_store_ps(scores + j + 8, e[1]);
        if (j == whole) e[0] = _mm256_and_ps(e[0], in[0]), e[1] = _mm256_and_ps(e[1], in[1]);
        even = _mm256_add_ps(even, e[0]), odd = _mm256_add_ps(odd, e[1]);
    }
    return qvitp_256_tree(even, odd);
}

QVITP_INLINE256 void write_floats(const float *e, size_t n, float *dst, float sum)
{
    __m256 inverse = _mm256_set1_ps(1.0f / sum);
    for (size_t j = 0; j < n; j += 8)
        qvitp_256_store(dst, j, n, _mm256_mul_ps(_mm256_load_ps(e + j), inverse));
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_softmax *rows)
{
    enum { ROWS = 16 };
    float top[ROWS], sum[ROWS];
    size_t n = rows->n, whole = (n - 1) / 16 * 16; /* the last 16 are some or all */
    __m256 in[2];
    qvitp_256_last_lanes(whole, n, in);
    for (ptrdiff_t done = 0, m = (ptrdiff_t)rows->m; done < m; done += ROWS) {
        ptrdiff_t count = m - done < ROWS ? m - done : ROWS;
        for (ptrdiff_t i = 0; i < count; i++) {
            float *scores = rows->scores + (done + i) * rows->lds;
            if (rows->bias) qvitp_256_add_row(scores, rows->bias + (done + i) * rows->ldb, n);
            if (rows->mask) qvitp_256_add_row(scores, rows->mask + (done + i) * rows->ldm, n);
            top[i] = qvitp_256_top(scores, whole, in);
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            int finite = top[i] != INFINITY && top[i] != -INFINITY;
            float *scores = rows->scores + (done + i) * rows->lds;
            sum[i] = finite ? exponentials(scores, whole, in, top[i]) : 0;
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            float *dst = rows->dst + (done + i) * rows->ldd;
            if (sum[i] > 0)
                write_floats(rows->scores + (done + i) * rows->lds, n, dst, sum[i]);
            else
                memset(dst, 0, n * sizeof *dst);
        }
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx2 = {"softmax_f32_avx2", run};

#endif
