/*
 * half.h - the two 16-bit floating-point formats of model files, widened to float.
 *
 * Both conversions are exact for every one of the 65,536 inputs; the payload of a NaN is kept.
 */
#ifndef VIT_HALF_H
#define VIT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: 5 bits of exponent with bias 15, 10 bits of fraction. */
static inline float half_to_float(uint16_t half)
{
    uint32_t sign = (half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 31u, fraction = half & 0x3FFu;
    if (exponent == 31) return float_from_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent > 0) return float_from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    /* A subnormal half is a normal float, so plain arithmetic is exact in every rounding mode. */
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

/* bfloat16 is the upper half of a float. */
static inline float bfloat16_to_float(uint16_t bfloat16)
{
    return float_from_bits((uint32_t)bfloat16 << 16);
}

#endif
