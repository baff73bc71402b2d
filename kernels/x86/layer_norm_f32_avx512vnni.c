/*
 * layer_norm_f32_avx512vnni - rows of floats to floats or codes, some at a time, in three passes:
 * means, variances, output. The 16 partial sums are one register; lanes beyond n count as +0, which
 * leaves a partial sum as it is.
 */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

enum { ROWS = 8 }; /* each of which is a chain of additions */

/* Adds one vector of each row, x or, if means are given, (x - mean)^2. count and whole, whether all lanes are
 * in, are constants wherever this and the following are called. */
QVITP_INLINE512 void add_vectors(size_t count, const float *x, ptrdiff_t ldx, int whole,
                                 __mmask16 in, const float *mean, __m512 sum[])
{
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++, x += ldx) {
        __m512 d = whole ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(in, x);
        if (mean) d = _mm512_sub_ps(d, _mm512_set1_ps(mean[i]));
        if (mean) d = whole ? _mm512_mul_ps(d, d) : _mm512_maskz_mul_ps(in, d, d);
        sum[i] = _mm512_add_ps(sum[i], d);
    }
}

/* Of each row the sum of these, divided by n. */
QVITP_INLINE512 void average(size_t count, const struct qvitp_layer_norm *rows, ptrdiff_t first,
                             const float *mean, float *average)
{
    const float *x = rows->x + first * rows->ldx;
    size_t n = rows->n, j = 0;
    __m512 sum[ROWS];
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) sum[i] = _mm512_setzero_ps();
    for (; j + 16 <= n; j += 16) add_vectors(count, x + j, rows->ldx, 1, 0, mean, sum);
    if (j < n) add_vectors(count, x + j, rows->ldx, 0, qvitp_512_mask(j, n), mean, sum);
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) average[i] = qvitp_512_tree(sum[i]) / (float)n;
}

/* One vector before it is stored. */
QVITP_INLINE512 __m512 normalize(const float *x, const float *gamma, const float *beta, int whole,
                                 __mmask16 in, __m512 mean, __m512 rstd)
{
    __m512 t = whole ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(in, x);
    t = _mm512_mul_ps(_mm512_sub_ps(t, mean), rstd);
    return qvitp_512_step(t, whole ? _mm512_loadu_ps(gamma) : _mm512_maskz_loadu_ps(in, gamma),
                          whole ? _mm512_loadu_ps(beta) : _mm512_maskz_loadu_ps(in, beta));
}

/* What a row needs is copied first: a byte that is stored may be any of the caller's struct. */
QVITP_INLINE512 void write_floats(const struct qvitp_layer_norm *rows, ptrdiff_t i, __m512 mean,
                                  __m512 rstd)
{
    const float *x = rows->x + i * rows->ldx, *gamma = rows->gamma, *beta = rows->beta;
    float *dst = (float *)rows->dst + i * rows->ldd;
    size_t n = rows->n, j = 0;
    for (; j + 16 <= n; j += 16)
        _mm512_storeu_ps(dst + j, normalize(x + j, gamma + j, beta + j, 1, 0, mean, rstd));
    __mmask16 in = qvitp_512_mask(j, n);
    if (in)
        _mm512_mask_storeu_ps(dst + j, in,
                              normalize(x + j, gamma + j, beta + j, 0, in, mean, rstd));
}

QVITP_INLINE512 void write_codes(const struct qvitp_layer_norm *rows, ptrdiff_t i, __m512 mean,
                                 __m512 rstd)
{
    const float *x = rows->x + i * rows->ldx, *gamma = rows->gamma, *beta = rows->beta;
    const __m512 lo = _mm512_set1_ps(rows->lo), hi = _mm512_set1_ps(rows->hi);
    uint8_t *dst = (uint8_t *)rows->dst + i * rows->ldd;
    size_t n = rows->n, j = 0;
    for (; j + 16 <= n; j += 16) {
        __m512 t = normalize(x + j, gamma + j, beta + j, 1, 0, mean, rstd);
        _mm_storeu_si128((__m128i *)(dst + j), qvitp_512_code(qvitp_512_clamp(t, lo, hi)));
    }
    __mmask16 in = qvitp_512_mask(j, n);
    if (in) {
        __m512 t = normalize(x + j, gamma + j, beta + j, 0, in, mean, rstd);
        _mm_mask_storeu_epi8(dst + j, in, qvitp_512_code(qvitp_512_clamp(t, lo, hi)));
    }
}

QVITP_INLINE512 void run_rows(size_t count, const struct qvitp_layer_norm *rows, ptrdiff_t first)
{
    float mean[ROWS], variance[ROWS];
    average(count, rows, first, NULL, mean);
    average(count, rows, first, mean, variance);
    for (size_t i = 0; i < count; i++) {
        __m128 deviation = _mm_sqrt_ss(_mm_set_ss(variance[i] + rows->eps));
        __m512 rstd = _mm512_set1_ps(1.0f / _mm_cvtss_f32(deviation));
        if (rows->out == QVITP_OUT_F32)
            write_floats(rows, first + (ptrdiff_t)i, _mm512_set1_ps(mean[i]), rstd);
        else
            write_codes(rows, first + (ptrdiff_t)i, _mm512_set1_ps(mean[i]), rstd);
    }
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_layer_norm *rows)
{
    ptrdiff_t i = 0, m = (ptrdiff_t)rows->m;
    for (; i + ROWS <= m; i += ROWS) run_rows(ROWS, rows, i);
    for (; i + ROWS / 2 <= m; i += ROWS / 2) run_rows(ROWS / 2, rows, i);
    for (; i < m; i++) run_rows(1, rows, i);
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx512vnni = {"layer_norm_f32_avx512vnni",
                                                                       run};

#endif
