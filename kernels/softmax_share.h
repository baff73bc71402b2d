/*
 * softmax_share.h - what a row's exponentials are multiplied by to become codes: a positive factor as a whole
 * number of 16 bits and a power of 2, the same for every instruction set (lib/ref/ref_softmax.c).
 */
#ifndef QVITP_SOFTMAX_SHARE_H
#define QVITP_SOFTMAX_SHARE_H

#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

struct qvitp_softmax_share {
    uint16_t factor;
    uint16_t up; /* and so many times doubled */
};

/* 2^n, -126 <= n <= 127 */
static inline float qvitp_power_of_two(int n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* x * 2^shift, shift in 1..31, halved until it is below 2^16, but at most `most` times. */
static inline struct qvitp_softmax_share qvitp_take_apart(float x, int shift, int most)
{
    uint32_t bits;
    x = x * qvitp_power_of_two(shift);
    memcpy(&bits, &x, sizeof bits);
    int up = (int)(bits >> 23) - 127 - 15; /* x is below 2^(up + 16) */
    up = up < 0 ? 0 : up > most ? most : up;
    x = x * qvitp_power_of_two(-up);
    x = x < 65535 ? x : 65535;
    return (struct qvitp_softmax_share){(uint16_t)((x + QVITP_ROUND_MAGIC) - QVITP_ROUND_MAGIC),
                                        (uint16_t)up};
}

/* The bits behind the point that plain codes have before they are rounded, or 0: they are made as a twin's are. */
static inline int qvitp_plain_fraction(float mul)
{
    int fraction = 15;
    while (fraction > 0 && !(mul * qvitp_power_of_two(fraction) <= 32767)) fraction--;
    return fraction < QVITP_SOFTMAX_FRACTION ? 0 : fraction;
}
static inline struct qvitp_softmax_share qvitp_plain_share(float share, int fraction)
{
    return qvitp_take_apart(share, 16 + fraction, 0);
}

/* The product of a mantissa and this, shifted by octaves + 15 - up, is twice a code. */
static inline struct qvitp_softmax_share qvitp_fine_share(float share)
{
    return qvitp_take_apart(share, 31, 40);
}

#endif
