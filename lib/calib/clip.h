/*
 * clip.h - the range of each channel that costs least when it is cut to codes of few bits.
 *
 * With few codes the tails of a channel are better clipped than covered. Each channel by itself:
 *
 *     minimise over lo and hi   sum_r weight_r (decode(encode(x_rc)) - x_rc)^2
 *
 * by drawing lo and hi, in turns, from the range that was seen towards the median.
 */
#ifndef QVITP_CLIP_H
#define QVITP_CLIP_H

#include "engine.h"

/*
 *   rows    [m][k], m >= 1
 *   weight  [m], not negative
 *   lo, hi  [k] the range to start from, and what is found inside it
 * Errors: NO_MEMORY, EXECUTOR.
 */
qvit_status qvitp_clip_channels(const qvit_engine *engine, size_t m, size_t k, const float *rows,
                                const float *weight, int32_t bits, float *lo, float *hi,
                                qvit_error *error);

#endif
