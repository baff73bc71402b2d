/* channels.c - scales and shifts of channels. */
#include "calib/channels.h"

#include <math.h>

#include "base/error.h"
#include "base/numerics.h"

static double width(const struct qvitp_channels *c, size_t channel)
{
    return (double)c->hi[channel] - (double)c->lo[channel];
}

/* The middle of the range becomes 0: one zero point fits all (RepQ-ViT, arXiv 2212.08254, aligns the
 * zero points of per-channel quantizers; the shift is exact here, as it need not be a whole code). */
static void center(struct qvitp_channels *c)
{
    for (size_t i = 0; i < c->count; i++)
        c->shift[i] = (float)(((double)c->lo[i] + (double)c->hi[i]) / 2);
}

/* (Its range / the mean range)^strength, kept within 2^-6 and 2^6 so that a channel that was quiet in
 * calibration may still wake up. */
static void equalize(struct qvitp_channels *c, double strength)
{
    const double most = 64;
    double mean = 0;
    for (size_t i = 0; i < c->count; i++) mean += width(c, i) / (double)c->count;
    for (size_t i = 0; i < c->count; i++) {
        double ratio = mean > 0 && width(c, i) > 0 ? width(c, i) / mean : 1;
        c->scale[i] = (float)fmin(fmax(pow(ratio, strength), 1 / most), most);
    }
}

qvit_status qvitp_channels_choose(struct qvitp_channels *c, const struct qvitp_recipe *recipe,
                                  struct qvitp_pool *pool, qvit_error *error)
{
    if (recipe->center) {
        c->shift = qvitp_pool_alloc(pool, c->count, sizeof *c->shift);
        if (!c->shift) return qvitp_no_memory(error);
        center(c);
    }
    if (recipe->equalize > 0) {
        c->scale = qvitp_pool_alloc(pool, c->count, sizeof *c->scale);
        if (!c->scale) return qvitp_no_memory(error);
        equalize(c, recipe->equalize);
    }
    return QVIT_OK;
}
