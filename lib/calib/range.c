/* range.c - from the range that values have to the coders that a search may choose from. */
#include "calib/range.h"
#include "base/numerics.h"

#include <math.h>

qvit_scheme qvitp_left_scheme(const struct qvitp_recipe *r, qvit_site_type type,
                              qvit_input_kind kind)
{
    if (kind == QVIT_INPUT_IMAGE) return QVIT_SCHEME_ASYMMETRIC;
    if (kind == QVIT_INPUT_SOFTMAX && r->twin_softmax) return QVIT_SCHEME_TWIN_SOFTMAX;
    if (kind == QVIT_INPUT_GELU && r->twin_gelu) return QVIT_SCHEME_TWIN_GELU;
    if (type == QVIT_SITE_MATMUL && kind == QVIT_INPUT_GENERIC) return QVIT_SCHEME_SYMMETRIC;
    return r->symmetric_input ? QVIT_SCHEME_SYMMETRIC : QVIT_SCHEME_ASYMMETRIC;
}

uint32_t qvitp_right_flags(int32_t bits) { return bits == 8 ? QVIT_QUANTIZER_NARROW : 0; }

void qvitp_right_range(int32_t bits, const int32_t *zero, float *lo, float *hi)
{
    const qvit_scheme scheme = zero ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    qvitp_scheme_range(scheme, bits, qvitp_right_flags(bits), lo, hi);
    if (zero) *lo -= (float)*zero, *hi -= (float)*zero;
}

int32_t qvitp_right_max(int32_t bits, int has_zero)
{
    const int32_t lowest = 0;
    float lo, hi;
    qvitp_right_range(bits, has_zero ? &lowest : NULL, &lo, &hi);
    return (int32_t)(has_zero ? hi : -lo);
}

/* Where a channel is all but dead its scale stops here: times any factor of a search, and times other
 * scales, it is still a normal number. */
static const float least_scale = 1e-30f;

static float scale_of(double scale)
{
    return scale < (double)least_scale ? least_scale : (float)scale;
}

float qvitp_scale_over(double width, double steps)
{
    return width > 0 ? scale_of(width / steps) : 1;
}

double qvitp_symmetric_steps(int32_t bits) { return (double)(1 << (bits - 1)) - 0.5; }

float qvitp_symmetric_scale(double top, int32_t bits)
{
    return qvitp_scale_over(top, qvitp_symmetric_steps(bits));
}

/* What coding does to a value, squared. */
static double value_error(const struct qvitp_coder *c, float x)
{
    double d = (double)(qvitp_coder_decode(c, qvitp_coder_encode(c, x)) - x);
    return d * d;
}

/* What rounding with this scale costs, as a sum of squares. */
static double weight_error(size_t count, const float *weight, int32_t bits, float scale)
{
    struct qvitp_coder c = {.scheme = QVIT_SCHEME_SYMMETRIC, .scale = scale};
    qvitp_right_range(bits, NULL, &c.lo, &c.hi);
    double error = 0;
    for (size_t i = 0; i < count; i++) error += value_error(&c, weight[i]);
    return error;
}

/* From the largest weight towards where ACIQ's law would clip, as far as that lessens the error. */
static double draw_in_weights(size_t count, const float *weight, int32_t bits, double top)
{
    const struct qvitp_moments moments = qvitp_moments_of(count, weight);
    const double law = fmin(top, fabs(moments.mean) + qvitp_aciq_clip(&moments, bits));
    double best = top, least = INFINITY;
    for (int i = 0; i <= QVITP_DRAWS; i++) {
        double candidate = top + (law - top) * i / QVITP_DRAWS;
        double error = weight_error(count, weight, bits, qvitp_symmetric_scale(candidate, bits));
        if (error < least) least = error, best = candidate;
    }
    return best;
}

int qvitp_weights_have_zero(const struct qvitp_recipe *r)
{
    return r->asymmetric_weights && r->weight_bits < 8;
}

float qvitp_weight_scale(const struct qvitp_recipe *r, size_t count, const float *weight,
                         int32_t *zero)
{
    double lo = 0, hi = 0;
    for (size_t i = 0; i < count; i++) {
        lo = fmin(lo, (double)weight[i]);
        hi = fmax(hi, (double)weight[i]);
    }
    *zero = 0;
    if (qvitp_weights_have_zero(r)) return qvitp_asymmetric_scale(lo, hi, r->weight_bits, 1, zero);
    double top = fmax(-lo, hi);
    if (r->range == QVITP_RANGE_ACIQ) top = draw_in_weights(count, weight, r->weight_bits, top);
    return qvitp_symmetric_scale(top, r->weight_bits);
}

static struct qvitp_coder start(const struct qvitp_span *s)
{
    struct qvitp_coder c = {.scheme = s->scheme, .scale = 1};
    qvitp_scheme_range(s->scheme, s->bits, s->flags, &c.lo, &c.hi);
    return c;
}

float qvitp_asymmetric_scale(double lo, double hi, int32_t bits, double factor, int32_t *zero)
{
    const double top = (double)((1 << bits) - 1), width = factor * (hi - lo);
    const float scale = qvitp_scale_over(width, top);
    *zero = width > 0 ? (int32_t)fmin(nearbyint(-factor * lo / (double)scale), top) : 0;
    return scale;
}

static struct qvitp_coder asymmetric(const struct qvitp_span *s, double factor)
{
    struct qvitp_coder c = start(s);
    int32_t zero;
    c.scale = qvitp_asymmetric_scale((double)s->lo, (double)s->hi, s->bits, factor, &zero);
    c.zero = (float)zero;
    return c;
}

struct qvitp_coder qvitp_span_twin(const struct qvitp_span *s, int32_t cut)
{
    struct qvitp_coder c = start(s);
    double half = (double)(1 << (s->bits - 1));
    c.scale2 = (float)(1 / (half - 1));
    c.scale = (float)ldexp(1 / (half - 1), -cut);
    return c;
}

/* A scale without the bits that would not let its whole multiples be exact. */
static float exact(float scale)
{
    enum { EXACT_BITS = 16 }; /* of 24; the multiple takes 8 */
    int exponent;
    double part = frexp((double)scale, &exponent);
    return (float)ldexp(nearbyint(ldexp(part, EXACT_BITS)), exponent - EXACT_BITS);
}

/* The high one of a twin GELU's scales goes to the nearest whole multiple of the low one. */
static void make_whole(struct qvitp_coder *c)
{
    const double scale = (double)exact(c->scale), high = nearbyint((double)c->scale2 / scale);
    if (high < 1 || high > QVITP_JOINED_MOST) return;
    c->scale = (float)scale;
    c->scale2 = (float)(scale * high);
}

/* The scales become a power of two apart: the low one grows as far as it must, or the high one goes to the
 * nearest. */
static void make_power(struct qvitp_coder *c, int32_t ratio)
{
    int shift; /* the largest power that is no larger than the ratio, between half and all of it */
    double part = frexp((double)c->scale2 / (double)c->scale, &shift);
    shift--;
    if (ratio == QVITP_RATIO_LOW) {
        c->scale = ldexpf(c->scale2, -shift);
        return;
    }
    if (part * part > 0.5) shift++;
    c->scale2 = ldexpf(c->scale, shift);
}

/* Makes a twin GELU's second scale a multiple of the first, so that its products are cheaper, if it is none
 * of the largest (op/left.h). */
static void join_ranges(struct qvitp_coder *c, int32_t ratio)
{
    if (ratio == QVITP_RATIO_WHOLE)
        make_whole(c);
    else if (ratio != QVITP_RATIO_FREE)
        make_power(c, ratio);
}

/* Half of the codes for either range. The low one is fixed: it just covers GELU's negative values. Searches
 * move the other. */
static struct qvitp_coder even_twin(const struct qvitp_span *s, double low, double high)
{
    struct qvitp_coder c = start(s);
    c.scale = scale_of(low / (double)(1 << (s->bits - 1)));
    c.scale2 = qvitp_symmetric_scale(high, s->bits);
    join_ranges(&c, s->ratio);
    return c;
}

/* One step of the high range is so many of the low one: that divides the codes among them. */
static struct qvitp_coder uneven_twin(const struct qvitp_span *s, double low, double high)
{
    struct qvitp_coder c = start(s);
    const double steps = (double)((1 << s->bits) - 1), ratio = s->uneven;
    double below = nearbyint(steps * low * ratio / (high + low * ratio));
    below = fmin(fmax(below, 1), steps - 1);
    double scale = high / (steps - below + 0.5) / ratio;
    scale = fmax(scale,
                 low / (below + 1)); /* of the least share for high ones the low ones get no more */
    c.scale = exact(scale_of(scale));
    c.scale2 = (float)(ratio * (double)c.scale);
    c.zero = c.lo + (float)below;
    return c;
}

struct qvitp_coder qvitp_span_coder(const struct qvitp_span *s, double factor)
{
    if (s->scheme == QVIT_SCHEME_ASYMMETRIC) return asymmetric(s, factor);
    if (s->scheme == QVIT_SCHEME_TWIN_SOFTMAX) return qvitp_span_twin(s, 0);
    if (s->scheme == QVIT_SCHEME_TWIN_GELU) {
        double low = s->lo < 0 ? -(double)s->lo : QVITP_GELU_LOWEST, high = factor * (double)s->hi;
        return s->uneven ? uneven_twin(s, low, high) : even_twin(s, low, high);
    }
    struct qvitp_coder c = start(s);
    double top = fmax(-(double)s->lo, (double)s->hi);
    c.scale = qvitp_symmetric_scale(factor * top, s->bits);
    return c;
}

double qvitp_factor(const struct qvitp_recipe *r, size_t candidate)
{
    double factor = r->low + (double)candidate * (r->high - r->low) / r->candidates;
    return r->inverse_grid ? 1 / factor : factor;
}

/* Of one side's values of a group. */
static double histogram_error(const struct qvitp_coder *c, const struct qvitp_stats *stats,
                              size_t group, int negative)
{
    double error = 0;
    for (size_t bin = 0; bin < QVITP_BINS; bin++) {
        uint64_t count = qvitp_stats_count(stats, group, negative, bin);
        float x = qvitp_stats_middle(bin);
        if (count) error += (double)count * value_error(c, negative ? -x : x);
    }
    return error;
}

void qvitp_draw_in(const struct qvitp_span *span, const struct qvitp_stats *stats, size_t group,
                   float law_lo, float law_hi, float *lo, float *hi)
{
    const float whole_lo = *lo, whole_hi = *hi;
    double least = INFINITY;
    for (int i = 0; i <= QVITP_DRAWS; i++) {
        struct qvitp_span s = *span;
        s.lo = whole_lo + (law_lo - whole_lo) * (float)i / QVITP_DRAWS;
        s.hi = whole_hi + (law_hi - whole_hi) * (float)i / QVITP_DRAWS;
        struct qvitp_coder c = qvitp_span_coder(&s, 1);
        double error = histogram_error(&c, stats, group, 0) + histogram_error(&c, stats, group, 1);
        if (error < least) least = error, *lo = s.lo, *hi = s.hi;
    }
}

int32_t qvitp_best_cut(const struct qvitp_span *s, const struct qvitp_stats *stats)
{
    int32_t best = 0;
    double best_error = INFINITY;
    for (int32_t cut = 0; cut < QVITP_CUTS; cut++) {
        struct qvitp_coder c = qvitp_span_twin(s, cut);
        double error = 0;
        for (size_t g = 0; g < stats->groups; g++) error += histogram_error(&c, stats, g, 0);
        if (error < best_error) best = cut, best_error = error;
    }
    return best;
}
