/* rescale_f32_avx512vnni - one row of sums, times its own factor, to floats or codes, 16 at a time. */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_rescale *row)
{
    const __m512 factor = _mm512_set1_ps(row->factor);
    const __m512 lo = _mm512_set1_ps(row->lo), hi = _mm512_set1_ps(row->hi);
    for (size_t j = 0; j < row->n; j += 16) {
        __mmask16 in = qvitp_512_mask(j, row->n);
        __m512 t = _mm512_mul_ps(_mm512_maskz_loadu_ps(in, row->x + j), factor);
        if (row->mul)
            t = qvitp_512_step(t, _mm512_maskz_loadu_ps(in, row->mul + j),
                               _mm512_maskz_loadu_ps(in, row->add + j));
        if (row->out == QVITP_OUT_F32)
            qvitp_512_store_16_floats((float *)row->dst + j, in, t);
        else
            qvitp_512_store_16_bytes((uint8_t *)row->dst + j, in,
                                     qvitp_512_code(qvitp_512_clamp(t, lo, hi)));
    }
}

const struct qvitp_named_rescale qvitp_rescale_f32_avx512vnni = {"rescale_f32_avx512vnni", run};

#endif
