/*
 * scalar_math.h - the functions of lib/ref/ref_math.c, written so that a compiler can vectorise
 * loops over them: no branch, no call, no volatile. Every float operation is the reference's, in
 * its order.
 */
#ifndef QVITP_SCALAR_MATH_H
#define QVITP_SCALAR_MATH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/numerics.h"

/* Half to even, |x| < 2^22. */
static inline float qvitp_scalar_round(float x)
{
    return (x + QVITP_ROUND_MAGIC) - QVITP_ROUND_MAGIC;
}

/* NaN gives lo: this is exactly what the max and min instructions of x86 do. */
static inline float qvitp_scalar_clamp(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

/* x >= -86 or anything that gives 0: smaller numbers, -infinity, NaN. */
static inline float qvitp_scalar_exp(float x)
{
    /* The low bits of `shifted` are those of n, so shifting them by 23 adds n to an exponent. */
    float shifted = x * QVITP_LOG2_E + QVITP_ROUND_MAGIC;
    float n = shifted - QVITP_ROUND_MAGIC;
    float r = (x - n * QVITP_LN2_HIGH) - n * QVITP_LN2_LOW;
    float q = QVITP_EXP_Q4;
    q = q * r + QVITP_EXP_Q3;
    q = q * r + QVITP_EXP_Q2;
    q = q * r + QVITP_EXP_Q1;
    q = q * r + QVITP_EXP_Q0;
    float p = ((q * r) * r + r) + 1.0f;
    uint32_t bits, power;
    memcpy(&bits, &p, sizeof bits);
    memcpy(&power, &shifted, sizeof power);
    bits += power << 23;
    memcpy(&p, &bits, sizeof p);
    return x >= QVITP_EXP_LOW ? p : 0.0f;
}

static inline float qvitp_scalar_gelu(float x)
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

/* The fixed tree over the 16 partial sums. */
static inline float qvitp_scalar_tree(float p[QVITP_PARTIALS])
{
    for (size_t i = 0; i < 8; i++) p[i] += p[i + 8];
    for (size_t i = 0; i < 4; i++) p[i] += p[i + 4];
    return (p[0] + p[2]) + (p[1] + p[3]);
}

#endif
