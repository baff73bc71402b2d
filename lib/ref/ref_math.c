/* ref_math.c - the scalar functions of the specification: rounding, exp, GELU, the ordered sum. */
#include "ref/ref.h"

#include <string.h>

#include "base/numerics.h"

float qvitp_ref_round(float x)
{
    volatile float shifted = x + QVITP_ROUND_MAGIC; /* volatile: the two steps must both happen */
    return shifted - QVITP_ROUND_MAGIC;
}

float qvitp_ref_clamp(float x, float lo, float hi)
{
    if (!(x > lo)) return lo;
    if (!(x < hi)) return hi;
    return x;
}

/* 2^n for -126 <= n <= 127, by writing the exponent field. */
static float power_of_two(int32_t n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float qvitp_ref_exp(float x)
{
    static const float roots[QVITP_EXP_ROOTS] = {QVITP_EXP_ROOTS_OF_2};
    if (!(x >= QVITP_EXP_LOW)) return 0;
    float t = x * QVITP_EXP_SCALE;
    float n = qvitp_ref_round(t);
    float r = t - n;
    int32_t sixteenths = (int32_t)n, i = sixteenths & (QVITP_EXP_ROOTS - 1);
    float root = roots[i] * power_of_two((sixteenths - i) / QVITP_EXP_ROOTS);
    return root + (root * r) * (QVITP_EXP_C2 * r + QVITP_EXP_C1);
}

float qvitp_ref_gelu(float x)
{
    static const float cubics[QVITP_GELU_SEGMENTS][4] = {QVITP_GELU_CUBICS(QVITP_GELU_CUBIC)};
    float t = (x < 0 ? -x : x) * QVITP_GELU_SCALE;
    t = t < QVITP_GELU_LAST ? t : QVITP_GELU_LAST;
    int32_t i = (int32_t)t;
    float f = t - (float)i;
    const float *c = cubics[i];
    float g = ((c[3] * f + c[2]) * f + c[1]) * f + c[0];
    return (x < 0 ? 0.0f : x) - g;
}

float qvitp_ref_gelu_units(float x)
{
    static const float cubics[16][4] = {QVITP_GELU_UNIT_CUBICS(QVITP_GELU_CUBIC)};
    float t = x < 0 ? -x : x;
    t = t < QVITP_GELU_LAST_UNIT ? t : QVITP_GELU_LAST_UNIT;
    const float *c = cubics[(int32_t)t];
    float g = ((c[3] * t + c[2]) * t + c[1]) * t + c[0];
    return (x < 0 ? 0.0f : x) - g;
}

float qvitp_ref_sum(const float *x, size_t n)
{
    float p[QVITP_PARTIALS] = {0};
    for (size_t i = 0; i < n; i++) p[i % QVITP_PARTIALS] += x[i];
    for (size_t width = QVITP_PARTIALS / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++) p[i] += p[i + width];
    return p[0];
}
