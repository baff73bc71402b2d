/* channels.c - scales and shifts of channels. */
#include "calib/channels.h"

#include <math.h>

#include "base/error.h"
#include "base/numerics.h"

static double width(const struct qvitp_channels *c, size_t channel)
{
    return (double)c->hi[channel] - (double)c->lo[channel];
}

/* The middle of the range, a whole code from its lower end, becomes 0: one zero point fits all (RepQ-ViT, arXiv 2212.08254, aligns the
 * zero points of per-channel quantizers; the shift is exact here, as it need not be a whole code). */
static void center(struct qvitp_channels *c, int32_t bits)
{
    double levels = (double)(1 << bits) - 1, zero = (double)(1 << (bits - 1));
    for (size_t i = 0; i < c->count; i++)
        c->shift[i] = (float)((double)c->lo[i] + width(c, i) * zero / levels);
}

/* The width that a twentieth of the channels exceed. */
static double wide(const struct qvitp_channels *c, float *sorted)
{
    for (size_t i = 0; i < c->count; i++) { /* sorted by insertion: channels are few */
        float w = (float)width(c, i);
        size_t at = i;
        for (; at && sorted[at - 1] > w; at--) sorted[at] = sorted[at - 1];
        sorted[at] = w;
    }
    return (double)sorted[(c->count - 1) * 19 / 20];
}

/*
 * (Its range / the mean range)^strength, kept within 2^-6 and 2^6. A range below `floor` times that of the
 * wide channels counts as that: a channel that was quiet in calibration, as units are that fire for a
 * few classes only, may still wake up.
 */
static void equalize(struct qvitp_channels *c, double strength, double floor, float *scratch)
{
    const double most = 64, least = floor * wide(c, scratch);
    double mean = 0;
    for (size_t i = 0; i < c->count; i++) mean += fmax(width(c, i), least) / (double)c->count;
    for (size_t i = 0; i < c->count; i++) {
        double w = fmax(width(c, i), least), ratio = mean > 0 && w > 0 ? w / mean : 1;
        c->scale[i] = (float)fmin(fmax(pow(ratio, strength), 1 / most), most);
    }
}

qvit_status qvitp_channels_choose(struct qvitp_channels *c, const struct qvitp_recipe *recipe,
                                  struct qvitp_pool *pool, qvit_error *error)
{
    if (recipe->center) {
        c->shift = qvitp_pool_alloc(pool, c->count, sizeof *c->shift);
        if (!c->shift) return qvitp_no_memory(error);
        center(c, recipe->input_bits);
    }
    if (recipe->equalize > 0) {
        float *scratch = qvitp_pool_alloc(pool, c->count, sizeof *scratch);
        c->scale = qvitp_pool_alloc(pool, c->count, sizeof *c->scale);
        if (!c->scale || !scratch) return qvitp_no_memory(error);
        equalize(c, recipe->equalize, recipe->channel_floor, scratch);
    }
    return QVIT_OK;
}
