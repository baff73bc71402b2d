/* stats.c - minima, maxima and histograms that do not depend on order. */
#include "calib/stats.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/numerics.h"
#include "engine.h"

enum { LOWEST_EXPONENT = -24, MANTISSA_BITS = 23, BIN_BITS = 6 };

int qvitp_stats_init(struct qvitp_stats *s, const qvit_engine *engine, size_t groups,
                     size_t channels)
{
    s->groups = groups;
    s->channels = channels;
    s->lo = qvitp_engine_alloc(engine, channels, sizeof *s->lo);
    s->hi = qvitp_engine_alloc(engine, channels, sizeof *s->hi);
    s->histogram = qvitp_engine_alloc(engine, groups, 2 * QVITP_BINS * sizeof *s->histogram);
    if (!s->lo || !s->hi || !s->histogram) return 0;
    for (size_t i = 0; i < channels; i++) s->lo[i] = FLT_MAX, s->hi[i] = -FLT_MAX;
    return 1;
}

void qvitp_stats_free(struct qvitp_stats *s, const qvit_engine *engine)
{
    qvitp_engine_free(engine, s->lo);
    qvitp_engine_free(engine, s->hi);
    qvitp_engine_free(engine, s->histogram);
    memset(s, 0, sizeof *s);
}

/* The bin of a value's magnitude: its exponent and the upper bits of its mantissa, as one number. */
static size_t bin_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0x7FFFFFFFu; /* -0 is no negative value, and has a sign */
    int32_t bin = (int32_t)(bits >> (MANTISSA_BITS - BIN_BITS)) -
                  (127 + LOWEST_EXPONENT) * QVITP_BINS_PER_OCTAVE;
    return bin < 0 ? 0 : bin >= QVITP_BINS ? QVITP_BINS - 1 : (size_t)bin;
}

float qvitp_stats_edge(size_t bin)
{
    uint32_t bits = (uint32_t)(bin + (127 + LOWEST_EXPONENT) * QVITP_BINS_PER_OCTAVE)
                    << (MANTISSA_BITS - BIN_BITS);
    float value;
    memcpy(&value, &bits, sizeof value);
    return bin ? value : 0;
}

float qvitp_stats_middle(size_t bin)
{
    return bin ? (qvitp_stats_edge(bin) + qvitp_stats_edge(bin + 1)) / 2 : 0;
}

void qvitp_stats_add_range(struct qvitp_stats *s, size_t channel, float lo, float hi)
{
    if (lo < s->lo[channel]) s->lo[channel] = lo;
    if (hi > s->hi[channel]) s->hi[channel] = hi;
}

void qvitp_stats_add(struct qvitp_stats *s, size_t group, size_t channel, float value)
{
    qvitp_stats_add_range(s, channel, value, value);
    uint64_t *side = s->histogram + (group * 2 + (size_t)(value >= 0)) * QVITP_BINS;
    side[bin_of(value)]++;
}

void qvitp_stats_range(const struct qvitp_stats *s, size_t channel, float *lo, float *hi)
{
    int seen = s->lo[channel] <= s->hi[channel];
    *lo = seen && s->lo[channel] != 0 ? s->lo[channel] : 0;
    *hi = seen && s->hi[channel] != 0 ? s->hi[channel] : 0;
}

/* The value inside a bin that has `target` values above it, of which `before` lie in higher bins. */
static float inside(size_t bin, double before, uint64_t count, double target)
{
    double share = (target - before) / (double)count; /* of the bin that is above the value */
    float upper = qvitp_stats_edge(bin + 1), lower = qvitp_stats_edge(bin);
    return (float)((double)upper - share * ((double)upper - (double)lower));
}

/* The magnitude above which `target` values lie, 0 if there are fewer; FLT_MAX in the last bin, which has
 * no end. `first` and `second` (may be NULL) are the histograms of magnitudes that count. */
static float above(const uint64_t *first, const uint64_t *second, double target)
{
    double seen = 0;
    for (size_t bin = QVITP_BINS; bin-- > 0;) {
        uint64_t count = first[bin] + (second ? second[bin] : 0);
        if (count && seen + (double)count > target)
            return bin == QVITP_BINS - 1 ? FLT_MAX : inside(bin, seen, count, target);
        seen += (double)count;
    }
    return 0;
}

static double total(const uint64_t *histogram)
{
    double sum = 0;
    for (size_t bin = 0; bin < QVITP_BINS; bin++) sum += (double)histogram[bin];
    return sum;
}

void qvitp_stats_quantiles(const struct qvitp_stats *s, size_t group, double kept, float *lo,
                           float *hi)
{
    const uint64_t *negative = s->histogram + group * 2 * QVITP_BINS;
    const uint64_t *positive = negative + QVITP_BINS;
    double target = (1 - kept) * (total(negative) + total(positive));
    *lo = -above(negative, NULL, target);
    *hi = above(positive, NULL, target);
}

float qvitp_stats_magnitude(const struct qvitp_stats *s, size_t group, double kept)
{
    const uint64_t *negative = s->histogram + group * 2 * QVITP_BINS;
    const uint64_t *positive = negative + QVITP_BINS;
    return above(negative, positive, (1 - kept) * (total(negative) + total(positive)));
}

struct qvitp_moments qvitp_stats_moments(const struct qvitp_stats *s, size_t group)
{
    struct qvitp_moments m = {0, 0, 0};
    double count = 0;
    for (int side = 0; side < 2; side++)
        for (size_t bin = 0; bin < QVITP_BINS; bin++) {
            double values = (double)qvitp_stats_count(s, group, side, bin);
            count += values;
            m.mean += values * (double)(side ? -qvitp_stats_middle(bin) : qvitp_stats_middle(bin));
        }
    if (!(count > 0)) return m;
    m.mean /= count;
    for (int side = 0; side < 2; side++)
        for (size_t bin = 0; bin < QVITP_BINS; bin++) {
            double values = (double)qvitp_stats_count(s, group, side, bin) / count;
            double middle = (double)qvitp_stats_middle(bin);
            double d = (side ? -middle : middle) - m.mean;
            m.deviation += values * fabs(d);
            m.spread += values * d * d;
        }
    m.spread = sqrt(m.spread);
    return m;
}
