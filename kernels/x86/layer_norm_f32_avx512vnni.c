/*
 * layer_norm_f32_avx512vnni - one row of floats to floats or codes, in three passes over the row:
 * mean, variance, output. The 16 partial sums are one register; lanes beyond n count as +0, which
 * leaves a partial sum as it is.
 */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_layer_norm *row)
{
    size_t n = row->n;
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (size_t j = 0; j < n; j += 16)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(qvitp_512_mask(j, n), row->x + j));
    __m512 mean = _mm512_set1_ps(qvitp_512_tree(sum) / (float)n);

    for (size_t j = 0; j < n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, n);
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(in, row->x + j), mean);
        squares = _mm512_add_ps(squares, _mm512_maskz_mul_ps(in, d, d));
    }
    __m128 deviation = _mm_set_ss(qvitp_512_tree(squares) / (float)n + row->eps);
    __m512 rstd = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(deviation)));

    for (size_t j = 0; j < n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, n);
        __m512 t = _mm512_sub_ps(_mm512_maskz_loadu_ps(in, row->x + j), mean);
        t = qvitp_512_step(_mm512_mul_ps(t, rstd), _mm512_maskz_loadu_ps(in, row->gamma + j),
                           _mm512_maskz_loadu_ps(in, row->beta + j));
        if (row->out == QVITP_OUT_F32) {
            _mm512_mask_storeu_ps((float *)row->dst + j, in, t);
        } else {
            t = qvitp_512_clamp(t, _mm512_set1_ps(row->lo), _mm512_set1_ps(row->hi));
            _mm_mask_storeu_epi8((uint8_t *)row->dst + j, in, qvitp_512_code(t));
        }
    }
}

const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx512vnni = {"layer_norm_f32_avx512vnni",
                                                                       run};

#endif
