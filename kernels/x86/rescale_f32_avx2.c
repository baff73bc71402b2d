/* rescale_f32_avx2 - one row of sums, times its own factor, to floats or codes, 8 at a time. */
#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

QVITP_TARGET_AVX2 static void run(const struct qvitp_rescale *row)
{
    const __m256 factor = _mm256_set1_ps(row->factor);
    const __m256 lo = _mm256_set1_ps(row->lo), hi = _mm256_set1_ps(row->hi);
    for (size_t j = 0; j < row->n; j += 8) {
        __m256 t = _mm256_mul_ps(qvitp_256_load(row->x, j, row->n), factor);
        if (row->mul)
            t = qvitp_256_step(t, qvitp_256_load(row->mul, j, row->n),
                               qvitp_256_load(row->add, j, row->n));
        if (row->out == QVITP_OUT_F32)
            qvitp_256_store(row->dst, j, row->n, t);
        else
            qvitp_256_store_bytes(row->dst, j, row->n, qvitp_256_code(qvitp_256_clamp(t, lo, hi)));
    }
}

const struct qvitp_named_rescale qvitp_rescale_f32_avx2 = {"rescale_f32_avx2", run};

#endif
