/* ref_softmax.c - softmax of one row, to probabilities, uniform codes or twin codes; and the division by a
 * row's sum where it comes later. */
#include "ref/ref.h"

#include <math.h>

#include "base/numerics.h"

float qvitp_ref_softmax_exp(size_t n, const float *scores, const float *bias, const float *mask,
                            float *e)
{
    float top = -INFINITY;
    for (size_t j = 0; j < n; j++) {
        float s = scores[j];
        if (bias) s = s + bias[j];
        if (mask) s = s + mask[j];
        e[j] = s;
        if (s > top) top = s;
    }
    if (top == INFINITY || top == -INFINITY) return 0;
    for (size_t j = 0; j < n; j++) e[j] = qvitp_ref_exp(e[j] - top);
    return qvitp_ref_sum(e, n);
}

void qvitp_ref_softmax(size_t n, const float *scores, const float *bias, const float *mask,
                       float *probabilities)
{
    float sum = qvitp_ref_softmax_exp(n, scores, bias, mask, probabilities);
    float inverse = sum > 0 ? 1.0f / sum : 0;
    for (size_t j = 0; j < n; j++) probabilities[j] = sum > 0 ? probabilities[j] * inverse : 0;
}

void qvitp_ref_softmax_codes(size_t n, const float *scores, const float *bias, const float *mask,
                             float mul, float hi, float *e, uint8_t *codes, float *relative)
{
    float sum = qvitp_ref_softmax_exp(n, scores, bias, mask, e);
    float scale = sum > 0 ? mul / (relative ? 1 : sum) : 0;
    if (relative) *relative = sum > 0 ? sum : 0;
    for (size_t j = 0; j < n; j++) codes[j] = sum > 0 ? qvitp_ref_code(e[j] * scale, 0, hi) : 0;
}

void qvitp_ref_softmax_twin(size_t n, const float *scores, const float *bias, const float *mask,
                            float mul, float mul2, float half, float *e, uint8_t *codes,
                            float *relative)
{
    float sum = qvitp_ref_softmax_exp(n, scores, bias, mask, e), share = relative ? 1 : sum;
    float scale = sum > 0 ? mul / share : 0, scale2 = sum > 0 ? mul2 / share : 0;
    if (relative) *relative = sum > 0 ? sum : 0;
    for (size_t j = 0; j < n; j++) {
        if (!(sum > 0)) {
            codes[j] = 0;
        } else if (e[j] * scale < half) {
            codes[j] = qvitp_ref_code(e[j] * scale, 0, half - 1);
        } else {
            codes[j] = (uint8_t)(half + (float)qvitp_ref_code(e[j] * scale2, 0, half - 1));
        }
    }
}

float qvitp_ref_rescale(float x, float factor, const float *mul, const float *add)
{
    float t = x * factor;
    if (!mul) return t;
    t = t * *mul;
    return t + *add;
}
