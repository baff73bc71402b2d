/* ref_gemm.c - products of codes, and the epilogue that turns accumulators into outputs. */
#include "ref/ref.h"

#include <math.h>

#include "base/numerics.h"

/* int32 sums are exact by the plan's bound; the int64 makes this true of any input. */
void qvitp_ref_gemm_u8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda, int32_t zero,
                         const int8_t *b, size_t ldb, int32_t *acc, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t sum = 0;
            for (size_t p = 0; p < k; p++) sum += (int64_t)(a[i * lda + p] - zero) * b[j * ldb + p];
            acc[i * ldc + j] = (int32_t)sum;
        }
}

void qvitp_ref_gemm_s8s8(size_t m, size_t n, size_t k, const int8_t *a, size_t lda, const int8_t *b,
                         size_t ldb, int32_t *acc, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t sum = 0;
            for (size_t p = 0; p < k; p++) sum += (int64_t)a[i * lda + p] * b[j * ldb + p];
            acc[i * ldc + j] = (int32_t)sum;
        }
}

/* The two parts of one twin code, as the integers that its range's scale multiplies. */
static void split(uint8_t code, int32_t half, int32_t zero, int32_t *lo, int32_t *hi)
{
    int32_t value = half ? code : (int8_t)code - zero;
    int32_t low_range = half ? value < half : value < 0;
    *lo = low_range ? value : 0;
    *hi = low_range ? 0 : value - half;
}

void qvitp_ref_gemm_t8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda, int32_t half,
                         int32_t zero, const int8_t *b, size_t ldb, int32_t *lo, int32_t *hi,
                         size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t sum_lo = 0, sum_hi = 0;
            for (size_t p = 0; p < k; p++) {
                int32_t l, h;
                split(a[i * lda + p], half, zero, &l, &h);
                sum_lo += (int64_t)l * b[j * ldb + p];
                sum_hi += (int64_t)h * b[j * ldb + p];
            }
            lo[i * ldc + j] = (int32_t)sum_lo;
            hi[i * ldc + j] = (int32_t)sum_hi;
        }
}

float qvitp_ref_k_sum(size_t blocks, const int32_t *lo, const int32_t *hi, int32_t high,
                      const float *scale, const float *scale2)
{
    float sum = 0;
    for (size_t h = 0; h < blocks; h++) {
        float u = (float)(high ? lo[h] + high * hi[h] : lo[h]) * scale[h];
        if (scale2 && !high) u = u + (float)hi[h] * scale2[h];
        sum = h ? sum + u : u; /* 0 + u would lose the sign of -0 */
    }
    return sum;
}

float qvitp_ref_finish(float sum, const struct qvitp_ref_epilogue *e)
{
    float t = sum + e->bias;
    if (e->gelu == QVITP_GELU_FULL) t = qvitp_ref_gelu(t);
    if (e->gelu == QVITP_GELU_IN_UNITS) t = qvitp_ref_gelu_units(t);
    if (e->has_residual) t = t + e->residual;
    if (e->has_mul) t = t * (signbit(t) ? e->mul_neg : e->mul) + e->add;
    return t;
}

float qvitp_ref_epilogue(int32_t lo, int32_t hi, const struct qvitp_ref_epilogue *e)
{
    float sum = qvitp_ref_k_sum(1, &lo, &hi, e->high, &e->scale, e->twin ? &e->scale2 : NULL);
    return qvitp_ref_finish(sum, e);
}

uint8_t qvitp_ref_code(float t, float lo, float hi)
{
    return (uint8_t)(int32_t)qvitp_ref_round(qvitp_ref_clamp(t, lo, hi));
}
