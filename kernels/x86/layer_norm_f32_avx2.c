/*
 * layer_norm_f32_avx2 - one row of floats to floats or codes, in three passes over the row: mean,
 * variance, output. The 16 partial sums are two registers; lanes beyond n count as +0, which
 * leaves a partial sum as it is.
 */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

QVITP_TARGET_AVX2 static void run(const struct qvitp_layer_norm *row)
{
    size_t n = row->n;
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, squares[2] = {sum[0], sum[0]};
    for (size_t j = 0; j < n; j += 16)
        for (size_t h = 0; h < 2; h++)
            sum[h] = _mm256_add_ps(sum[h], qvitp_256_load(row->x, j + 8 * h, n));
    __m256 mean = _mm256_set1_ps(qvitp_256_tree(sum[0], sum[1]) / (float)n);

    for (size_t j = 0; j < n; j += 16)
        for (size_t h = 0; h < 2; h++) {
            __m256 in = _mm256_castsi256_ps(qvitp_256_mask(j + 8 * h, n));
            __m256 d = _mm256_sub_ps(qvitp_256_load(row->x, j + 8 * h, n), mean);
            squares[h] = _mm256_add_ps(squares[h], _mm256_and_ps(_mm256_mul_ps(d, d), in));
        }
    __m128 deviation = _mm_set_ss(qvitp_256_tree(squares[0], squares[1]) / (float)n + row->eps);
    __m256 rstd = _mm256_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(deviation)));

    for (size_t j = 0; j < n; j += 8) {
        __m256 t = _mm256_mul_ps(_mm256_sub_ps(qvitp_256_load(row->x, j, n), mean), rstd);
        t = qvitp_256_step(t, qvitp_256_load(row->gamma, j, n), qvitp_256_load(row->beta, j, n));
        if (row->out == QVITP_OUT_F32) {
            qvitp_256_store(row->dst, j, n, t);
        } else {
            t = qvitp_256_clamp(t, _mm256_set1_ps(row->lo), _mm256_set1_ps(row->hi));
            qvitp_256_store_bytes(row->dst, j, n, qvitp_256_code(t));
        }
    }
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx2 = {"layer_norm_f32_avx2", run};

#endif
