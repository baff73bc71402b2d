/* ref_encode.c - one float to its code and back, for every scheme (ONNX QuantizeLinear semantics;
 * the twin ranges after PTQ4ViT, arXiv 2111.12293, section 3.2, in their piecewise form). */
#include "ref/ref.h"

#include "base/numerics.h"

int32_t qvitp_ref_encode_uniform(float x, float scale, float zero, float lo, float hi)
{
    return (int32_t)(qvitp_ref_round(qvitp_ref_clamp(x / scale, lo - zero, hi - zero)) + zero);
}

int32_t qvitp_ref_encode_twin_gelu(float x, float scale, float scale2, float zero, float lo,
                                   float hi)
{
    float low = qvitp_ref_clamp(x / scale, lo - zero, 0);
    float high = qvitp_ref_clamp(x / scale2, 0, hi - zero);
    return (int32_t)(qvitp_ref_round(x < 0 ? low : high) + zero);
}

int32_t qvitp_ref_encode_twin_softmax(float x, float scale, float scale2, float hi)
{
    float half = (hi + 1) / 2;
    float low = x / scale;
    if (!(low >= half)) return (int32_t)qvitp_ref_round(qvitp_ref_clamp(low, 0, half - 1));
    return (int32_t)(half + qvitp_ref_round(qvitp_ref_clamp(x / scale2, 0, half - 1)));
}

float qvitp_ref_decode_uniform(int32_t code, float scale, float zero)
{
    return ((float)code - zero) * scale;
}

float qvitp_ref_decode_twin_gelu(int32_t code, float scale, float scale2, float zero)
{
    float steps = (float)code - zero;
    return steps * (steps < 0 ? scale : scale2);
}

float qvitp_ref_decode_twin_softmax(int32_t code, float scale, float scale2, float hi)
{
    int32_t half = ((int32_t)hi + 1) / 2;
    return code < half ? (float)code * scale : (float)(code - half) * scale2;
}
