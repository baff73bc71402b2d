/*
 * channels.h - what the producer of an input does to its channels, (x - shift) / scale, so that one
 * quantizer suits them all; the next layer's weights and bias take it back.
 */
#ifndef QVITP_CHANNELS_H
#define QVITP_CHANNELS_H

#include "calib/pool.h"
#include "calib/recipe.h"

struct qvitp_channels {
    size_t count;
    float *lo, *hi;       /* the range of each, with 0 in it unless it is centred */
    float *scale, *shift; /* NULL: 1, 0 */
};

/* Chooses scale and shift from lo and hi, as the recipe says. */
qvit_status qvitp_channels_choose(struct qvitp_channels *channels,
                                  const struct qvitp_recipe *recipe, struct qvitp_pool *pool,
                                  qvit_error *error);

static inline float qvitp_channel_apply(const struct qvitp_channels *c, size_t channel, float x)
{
    if (c->shift) x -= c->shift[channel];
    return c->scale ? x / c->scale[channel] : x;
}

#endif
