/* score.c - what quantization did to a site's output. */
#include "calib/score.h"

#include <math.h>

#include "base/numerics.h"

enum { SIGNAL, NOISE, OUT, PRODUCT, LOSS, SUMS };

static void add_row(const struct qvitp_outputs *o, size_t row, double sums[SUMS])
{
    const float *out = o->out + row * o->ld, *target = o->target + row * o->ld;
    const float *gradient = o->gradient ? o->gradient + row * o->ld : NULL;
    for (size_t j = 0; j < o->n; j++) {
        double x = (double)out[j], t = (double)target[j], e = x - t;
        sums[SIGNAL] += t * t;
        sums[NOISE] += e * e;
        sums[OUT] += x * x;
        sums[PRODUCT] += x * t;
        if (gradient) e *= (double)gradient[j];
        sums[LOSS] += e * e;
    }
}

void qvitp_score_add(struct qvitp_score *s, const struct qvitp_outputs *o)
{
    double sums[SUMS] = {0};
    for (size_t i = 0; i < o->m; i++) add_row(o, i, sums);
    s->count += (double)(o->m * o->n);
    s->signal += sums[SIGNAL];
    s->noise += sums[NOISE];
    s->out += sums[OUT];
    s->product += sums[PRODUCT];
    s->loss += sums[LOSS];
    s->gradient = o->gradient != NULL;
}

void qvitp_score_codes(struct qvitp_score *s, int side, const struct qvitp_coder *coder,
                       const uint8_t *codes, size_t count)
{
    int is_signed = coder->lo < 0;
    int32_t lo = (int32_t)coder->lo, hi = (int32_t)coder->hi;
    /* A softmax's 0 is exact, and its lowest code. */
    int low_counts = coder->scheme != QVIT_SCHEME_TWIN_SOFTMAX && (is_signed || coder->zero > 0);
    size_t saturated = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t code = is_signed ? (int8_t)codes[i] : codes[i];
        saturated += code == hi || (low_counts && code == lo);
    }
    s->saturated[side] += (double)saturated;
    s->codes[side] += (double)count;
}

double qvitp_score_sqnr_db(const struct qvitp_score *s)
{
    return s->count > 0 ? 10 * log10(s->signal / s->noise) : NAN;
}

double qvitp_score_cosine(const struct qvitp_score *s)
{
    return s->count > 0 && s->signal > 0 && s->out > 0 ? s->product / sqrt(s->signal * s->out)
                                                       : NAN;
}

double qvitp_score_loss(const struct qvitp_score *s)
{
    if (!s->samples) return NAN;
    double samples = (double)s->samples;
    return s->nuclear > 0 ? s->nuclear / samples * (s->noise / samples) : s->loss / samples;
}

double qvitp_score_saturation(const struct qvitp_score *s, int side)
{
    return s->codes[side] > 0 ? s->saturated[side] / s->codes[side] : NAN;
}
