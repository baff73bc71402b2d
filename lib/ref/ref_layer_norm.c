/* ref_layer_norm.c - layer normalisation of one row (Ba, Kiros, Hinton 2016), biased variance. */
#include "ref/ref.h"

#include <math.h>

#include "base/numerics.h"

void qvitp_ref_layer_norm(size_t n, const float *x, const float *gamma, const float *beta,
                          float eps, float *scratch, float *y)
{
    float mean = qvitp_ref_sum(x, n) / (float)n;
    for (size_t j = 0; j < n; j++) scratch[j] = (x[j] - mean) * (x[j] - mean);
    float variance = qvitp_ref_sum(scratch, n) / (float)n;
    float rstd = 1.0f / sqrtf(variance + eps);
    for (size_t j = 0; j < n; j++) y[j] = ((x[j] - mean) * rstd) * gamma[j] + beta[j];
}
