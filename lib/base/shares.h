/* shares.h - a number of things cut into contiguous shares of almost equal size. */
#ifndef QVITP_SHARES_H
#define QVITP_SHARES_H

#include <stddef.h>

/* The first thing of share i of `shares`; share `shares` begins behind the last. The first shares have
 * one thing more where the number does not divide. */
static inline size_t qvitp_share(size_t count, size_t shares, size_t i)
{
    size_t small = count / shares, larger = count % shares;
    return i * small + (i < larger ? i : larger);
}

/* The share that a thing is in; count >= shares. */
static inline size_t qvitp_share_of(size_t count, size_t shares, size_t thing)
{
    size_t small = count / shares, larger = count % shares;
    size_t in_larger = larger * (small + 1);
    return thing < in_larger ? thing / (small + 1) : larger + (thing - in_larger) / small;
}

#endif
