/* encode_f32_scalar - a run of floats to codes: one loop for each scheme, one division a value, or
 * two for twin softmax codes. */
#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

static void uniform(const struct qvitp_encode *run)
{
    const float *x = run->x;
    uint8_t *codes = run->codes;
    float scale = run->scale, zero = run->zero, lo = run->lo - zero, hi = run->hi - zero;
    for (size_t i = 0; i < run->n; i++)
        codes[i] =
            (uint8_t)(int32_t)(qvitp_scalar_round(qvitp_scalar_clamp(x[i] / scale, lo, hi)) + zero);
}

static void twin_gelu(const struct qvitp_encode *run)
{
    const float *x = run->x;
    uint8_t *codes = run->codes;
    float scale = run->scale, scale2 = run->scale2, zero = run->zero;
    float lo = run->lo - zero, hi = run->hi - zero;
    for (size_t i = 0; i < run->n; i++) {
        float u = x[i] / (x[i] < 0 ? scale : scale2);
        float bottom = x[i] < 0 ? lo : 0, top = x[i] < 0 ? 0 : hi;
        u = qvitp_scalar_round(qvitp_scalar_clamp(u, bottom, top));
        codes[i] = (uint8_t)(int32_t)(u + zero);
    }
}

static void twin_softmax(const struct qvitp_encode *run)
{
    const float *x = run->x;
    uint8_t *codes = run->codes;
    float scale = run->scale, scale2 = run->scale2, half = (run->hi + 1) / 2, last = half - 1;
    for (size_t i = 0; i < run->n; i++) {
        float u = x[i] / scale;
        float low = qvitp_scalar_round(qvitp_scalar_clamp(u, 0, last));
        float high = half + qvitp_scalar_round(qvitp_scalar_clamp(x[i] / scale2, 0, last));
        codes[i] = (uint8_t)(int32_t)(u >= half ? high : low);
    }
}

static void encode(const struct qvitp_encode *run)
{
    if (run->scheme == QVITP_ENCODE_UNIFORM) uniform(run);
    if (run->scheme == QVITP_ENCODE_TWIN_GELU) twin_gelu(run);
    if (run->scheme == QVITP_ENCODE_TWIN_SOFTMAX) twin_softmax(run);
}

const struct qvitp_named_encode qvitp_encode_f32_scalar = {"encode_f32_scalar", encode};
