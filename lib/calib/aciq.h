/* aciq.h - where to clip, from two moments alone (ACIQ, arXiv 1810.05723). */
#ifndef QVITP_ACIQ_H
#define QVITP_ACIQ_H

#include <stddef.h>
#include <stdint.h>

/* What ACIQ looks at: the mean, the mean of |x - mean|, and the standard deviation. */
struct qvitp_moments {
    double mean, deviation, spread;
};
struct qvitp_moments qvitp_moments_of(size_t count, const float *values);

/* The distance from the mean beyond which values are clipped, so that the expected squared error of
 * clipping and of rounding to 2^bits levels is least: of a Laplace or of a normal distribution, whichever
 * the moments are nearer to. */
double qvitp_aciq_clip(const struct qvitp_moments *moments, int32_t bits);

#endif
