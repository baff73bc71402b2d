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

#endif
