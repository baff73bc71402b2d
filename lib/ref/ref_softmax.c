/* ref_softmax.c - softmax of one row, to probabilities, uniform codes or twin codes; and the division by a
 * row's sum where it comes later. */
#include "ref/ref.h"

#include <math.h>
#include <string.h>

#include "base/numerics.h"

/* x = scores, bias and mask added; returns the largest that is a number, or -infinity. */
static float add_and_find_top(size_t n, const float *scores, const float *bias, const float *mask,
                              float *x)
{
    float top = -INFINITY;
    for (size_t j = 0; j < n; j++) {
        x[j] = scores[j];
        if (bias) x[j] = x[j] + bias[j];
        if (mask) x[j] = x[j] + mask[j];
        if (x[j] > top) top = x[j];
    }
    return top;
}

void qvitp_ref_softmax(size_t n, const float *scores, const float *bias, const float *mask,
                       float *probabilities)
{
    float *e = probabilities, top = add_and_find_top(n, scores, bias, mask, e), inverse = 0;
    if (top != INFINITY && top != -INFINITY) {
        for (size_t j = 0; j < n; j++) e[j] = qvitp_ref_exp(e[j] - top);
        inverse = 1.0f / qvitp_ref_sum(e, n);
    }
    for (size_t j = 0; j < n; j++) e[j] = inverse > 0 ? e[j] * inverse : 0;
}

/* ---- codes ---- */

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* 2^(-depth % 1024 / 1024) in 65536ths. */
static uint32_t mantissa(uint32_t depth)
{
    static const uint16_t coarse[32] = {QVITP_SOFTMAX_COARSE};
    return coarse[depth / 32 % 32] * (uint32_t)QVITP_SOFTMAX_FINE(depth % 32) >> 16;
}

/* x / 2^shift, half of a unit upwards. */
static uint32_t shifted(uint32_t x, uint32_t shift)
{
    return ((shift < 32 ? x >> shift : 0) + 1) / 2;
}

uint32_t qvitp_ref_exp2(uint32_t depth)
{
    return shifted(mantissa(depth), depth / QVITP_SOFTMAX_OCTAVE);
}

/* How far x lies below the largest. */
static uint16_t depth_of(float x, float top, float steps)
{
    float depth = (top - x) * steps;
    if (!(depth < QVITP_SOFTMAX_DEEPEST)) depth = QVITP_SOFTMAX_DEEPEST; /* NaN too */
    return (uint16_t)qvitp_ref_round(depth);
}

/* A positive factor as a whole number of 16 bits times a power of 2: factor * 2^shift, halved until it is
 * below 2^16, `most` times at most. Returns the number. */
static uint32_t take_apart(float factor, int shift, int most, int *halved)
{
    factor = ldexpf(factor, shift);
    for (*halved = 0; factor >= 65536 && *halved < most; ++*halved) factor = factor / 2;
    return (uint32_t)qvitp_ref_round(factor < 65535 ? factor : 65535);
}

/* Twice the code of a depth, whole, by a share that is factor * 2^(up - 31). */
static uint32_t twice(uint16_t depth, uint32_t factor, int up)
{
    int down = depth / QVITP_SOFTMAX_OCTAVE + 15 - up;
    uint32_t product = mantissa(depth) * factor >> 16;
    return down < 0 ? product : down < 32 ? product >> down : 0;
}

/* Codes by the shifted exponentials, 2^15ths: e * share, with `fraction` bits behind the point. */
static void coarse_codes(size_t n, const uint16_t *depths, float share, int fraction, float hi,
                         uint8_t *codes)
{
    int unused;
    uint32_t factor = take_apart(share, 16 + fraction, 0, &unused);
    for (size_t j = 0; j < n; j++) {
        uint32_t code = qvitp_ref_exp2(depths[j]) * factor >> 16;
        code = (code + (1u << (fraction - 1))) >> fraction;
        codes[j] = (uint8_t)smaller(code, (uint32_t)hi);
    }
}

static void plain_codes(size_t n, const uint16_t *depths, const struct qvitp_ref_softmax_form *form,
                        float divisor, uint8_t *codes)
{
    int fraction = 15, up;
    while (fraction > 0 && !(ldexpf(form->mul, fraction) <= 32767)) fraction--;
    if (fraction >= QVITP_SOFTMAX_FRACTION) {
        coarse_codes(n, depths, form->mul / divisor, fraction, form->hi, codes);
        return;
    }
    uint32_t factor = take_apart(form->mul / divisor, 31, 40, &up);
    for (size_t j = 0; j < n; j++)
        codes[j] = (uint8_t)smaller((twice(depths[j], factor, up) + 1) / 2, (uint32_t)form->hi);
}

static void twin_codes(size_t n, const uint16_t *depths, const struct qvitp_ref_softmax_form *form,
                       float divisor, uint8_t *codes)
{
    int up, up2;
    uint32_t factor = take_apart(form->mul / divisor, 31, 40, &up);
    uint32_t factor2 = take_apart(form->mul2 / divisor, 31, 40, &up2), half = (uint32_t)form->half;
    for (size_t j = 0; j < n; j++) {
        uint32_t low = twice(depths[j], factor, up), high = twice(depths[j], factor2, up2);
        codes[j] = (uint8_t)(low < 2 * half ? smaller((low + 1) / 2, half - 1)
                                            : half + smaller((high + 1) / 2, half - 1));
    }
}

void qvitp_ref_softmax_codes(size_t n, const float *scores, const float *bias, const float *mask,
                             const struct qvitp_ref_softmax_form *form, float *x, uint16_t *depths,
                             uint8_t *codes, float *relative)
{
    float top = add_and_find_top(n, scores, bias, mask, x);
    uint64_t sum = 0;
    if (relative) *relative = 0;
    memset(codes, 0, n);
    if (top == INFINITY || top == -INFINITY) return;
    for (size_t j = 0; j < n; j++) {
        depths[j] = depth_of(x[j], top, form->steps);
        sum += qvitp_ref_exp2(depths[j]);
    }
    float divisor = relative ? QVITP_SOFTMAX_ONE : (float)sum;
    if (relative) *relative = (float)sum / QVITP_SOFTMAX_ONE;
    if (form->half > 0)
        twin_codes(n, depths, form, divisor, codes);
    else
        plain_codes(n, depths, form, divisor, codes);
}

float qvitp_ref_rescale(float x, float factor, const float *mul, const float *add)
{
    float t = x * factor;
    if (!mul) return t;
    t = t * *mul;
    return t + *add;
}
