/*
 * aciq.c - where to clip, from two moments alone.
 *
 * The expected squared error of clipping at distance a and rounding to 2^M levels in between (ACIQ,
 * arXiv 1810.05723, eq. 5 and 6):
 *
 *     Laplace, b = E|x - mean|:  2 b^2 exp(-a/b) + a^2 / (3 4^M)
 *     normal, s = deviation:     (s^2 + a^2) (1 - erf(a / (s sqrt 2))) - sqrt(2/pi) a s exp(-a^2 / (2 s^2))
 *                                + a^2 / (3 4^M)
 *
 * Both have one minimum, where the derivative by a, halved and in units of b or s, changes its sign.
 */
#include "calib/aciq.h"

#include <math.h>

#include "base/numerics.h"

static const double root_half = 0.70710678118654752440, root_2_pi = 0.79788456080286535588;

static double laplace_slope(double a, double step) { return a * step - exp(-a); }

static double normal_slope(double a, double step)
{
    return a * step + a * erfc(a * root_half) - root_2_pi * exp(-a * a / 2);
}

/* The root of a rising slope. */
static double root(double (*slope)(double a, double step), double step)
{
    double low = 0, high = 64;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (slope(middle, step) < 0) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}

double qvitp_aciq_clip(const struct qvitp_moments *m, int32_t bits)
{
    double step = 1 / (3 * ldexp(1, 2 * bits));
    /* E|x - mean| / deviation is sqrt(1/2) of Laplace's law and sqrt(2/pi) of the normal one. */
    double ratio = m->spread > 0 ? m->deviation / m->spread : 0;
    if (ratio < (root_half + root_2_pi) / 2) return m->deviation * root(laplace_slope, step);
    return m->spread * root(normal_slope, step);
}

struct qvitp_moments qvitp_moments_of(size_t count, const float *x)
{
    struct qvitp_moments m = {0, 0, 0};
    for (size_t i = 0; i < count; i++) m.mean += (double)x[i] / (double)count;
    for (size_t i = 0; i < count; i++) {
        double d = (double)x[i] - m.mean;
        m.deviation += fabs(d) / (double)count;
        m.spread += d * d / (double)count;
    }
    m.spread = sqrt(m.spread);
    return m;
}
