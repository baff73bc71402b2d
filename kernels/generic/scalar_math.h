/*
 * scalar_math.h - the functions of lib/ref/ref_math.c, written so that a compiler can vectorise
 * loops over them: no branch, no call, no volatile. Every float operation is the reference's, in
 * its order.
 */
#ifndef QVITP_SCALAR_MATH_H
#define QVITP_SCALAR_MATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/numerics.h"

/* Half to even, |x| < 2^22. */
static inline float qvitp_scalar_round(float x)
{
    return (x + QVITP_ROUND_MAGIC) - QVITP_ROUND_MAGIC;
}

/* Whether the sign is set, also of -0. */
static inline int qvitp_scalar_sign(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0;
}

/* NaN gives lo: this is exactly what the max and min instructions of x86 do. */
static inline float qvitp_scalar_clamp(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

/* x >= QVITP_EXP_LOW or anything that gives 0: smaller numbers, -infinity, NaN. */
static inline float qvitp_scalar_exp(float x)
{
    static const float roots[QVITP_EXP_ROOTS] = {QVITP_EXP_ROOTS_OF_2};
    /* The low bits of `shifted` are those of n. */
    float t = x * QVITP_EXP_SCALE, shifted = t + QVITP_ROUND_MAGIC;
    float r = t - (shifted - QVITP_ROUND_MAGIC), root;
    uint32_t n, bits;
    memcpy(&n, &shifted, sizeof n);
    memcpy(&bits, &roots[n % QVITP_EXP_ROOTS], sizeof bits);
    bits += n / QVITP_EXP_ROOTS << 23;
    memcpy(&root, &bits, sizeof root);
    float e = root + (root * r) * (QVITP_EXP_C2 * r + QVITP_EXP_C1);
    return x >= QVITP_EXP_LOW ? e : 0.0f;
}

/* Adds bias and mask, unless they are NULL, to the scores; returns the largest sum that is a number, or
 * -infinity. */
static inline float qvitp_scalar_top(size_t n, float *s, const float *bias, const float *mask)
{
    float top = -INFINITY;
    if (bias)
        for (size_t j = 0; j < n; j++) s[j] += bias[j];
    if (mask)
        for (size_t j = 0; j < n; j++) s[j] += mask[j];
    for (size_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
    return top;
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

static inline float qvitp_scalar_gelu_units(float x)
{
    static const float cubics[16][4] = {QVITP_GELU_UNIT_CUBICS(QVITP_GELU_CUBIC)};
    float t = x < 0 ? -x : x;
    t = t < QVITP_GELU_LAST_UNIT ? t : QVITP_GELU_LAST_UNIT;
    const float *c = cubics[(int32_t)t];
    float g = ((c[3] * t + c[2]) * t + c[1]) * t + c[0];
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
