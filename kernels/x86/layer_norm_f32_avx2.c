/*
 * layer_norm_f32_avx2 - rows of floats to floats or codes, some at a time, in three passes: means,
 * variances, output. The 16 partial sums are two registers; lanes beyond n count as +0, which
 * leaves a partial sum as it is.
 */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

enum { ROWS = 4 }; /* each of which is a chain of additions */

/* Of each row the sum of x or, if means are given, of the squares of x - mean, divided by n. count is a
 * constant wherever this and the next are called. */
QVITP_INLINE256 void average(size_t count, const struct qvitp_layer_norm *rows, ptrdiff_t first,
                             const float *mean, float *average)
{
    const float *x = rows->x + first * rows->ldx;
    __m256 sum[ROWS][2];
    size_t n = rows->n;
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j += 16) {
        QVITP_UNROLL
        for (size_t i = 0; i < 2 * count; i++) {
            size_t row = i / 2, at = j + 8 * (i % 2);
            __m256 d = qvitp_256_load(x + (ptrdiff_t)row * rows->ldx, at, n);
            if (mean) {
                d = _mm256_sub_ps(d, _mm256_set1_ps(mean[row]));
                __m256 in = _mm256_castsi256_ps(qvitp_256_mask(at, n));
                d = _mm256_and_ps(_mm256_mul_ps(d, d), in);
            }
            sum[row][i % 2] = _mm256_add_ps(sum[row][i % 2], d);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) average[i] = qvitp_256_tree(sum[i][0], sum[i][1]) / (float)n;
}

QVITP_INLINE256 void write_row(const struct qvitp_layer_norm *rows, ptrdiff_t i, __m256 mean,
                               __m256 rstd)
{
    const float *x = rows->x + i * rows->ldx;
    for (size_t j = 0, n = rows->n; j < n; j += 8) {
        __m256 t = _mm256_mul_ps(_mm256_sub_ps(qvitp_256_load(x, j, n), mean), rstd);
        t = qvitp_256_step(t, qvitp_256_load(rows->gamma, j, n), qvitp_256_load(rows->beta, j, n));
        if (rows->out == QVITP_OUT_F32) {
            qvitp_256_store((float *)rows->dst + i * rows->ldd, j, n, t);
        } else {
            t = qvitp_256_clamp(t, _mm256_set1_ps(rows->lo), _mm256_set1_ps(rows->hi));
            qvitp_256_store_bytes((uint8_t *)rows->dst + i * rows->ldd, j, n, qvitp_256_code(t));
        }
    }
}

QVITP_INLINE256 void run_rows(size_t count, const struct qvitp_layer_norm *rows, ptrdiff_t first)
{
    float mean[ROWS], variance[ROWS];
    average(count, rows, first, NULL, mean);
    average(count, rows, first, mean, variance);
    for (size_t i = 0; i < count; i++) {
        __m128 deviation = _mm_sqrt_ss(_mm_set_ss(variance[i] + rows->eps));
        __m256 rstd = _mm256_set1_ps(1.0f / _mm_cvtss_f32(deviation));
        write_row(rows, first + (ptrdiff_t)i, _mm256_set1_ps(mean[i]), rstd);
    }
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_layer_norm *rows)
{
    ptrdiff_t i = 0, m = (ptrdiff_t)rows->m;
    for (; i + ROWS <= m; i += ROWS) run_rows(ROWS, rows, i);
    for (; i < m; i++) run_rows(1, rows, i);
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx2 = {"layer_norm_f32_avx2", run};

#endif
