/* checked.h - sizes that cannot wrap: once a sum or product does not fit, it stays SIZE_MAX. */
#ifndef QVITP_CHECKED_H
#define QVITP_CHECKED_H

#include <stddef.h>
#include <stdint.h>

static inline size_t qvitp_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static inline size_t qvitp_mul(size_t a, size_t b)
{
    return b && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

/* The next multiple of `unit`, >= 1. */
static inline size_t qvitp_round_up(size_t a, size_t unit)
{
    size_t units = a / unit + (a % unit != 0);
    return qvitp_mul(units, unit);
}

static inline size_t qvitp_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
