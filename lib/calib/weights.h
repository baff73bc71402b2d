/*
 * weights.h - codes of weights that suit the inputs they will really meet: corrected for what rounding
 * does to the inputs, with scales and rounding that count errors where they matter.
 */
#ifndef QVITP_WEIGHTS_H
#define QVITP_WEIGHTS_H

#include "calib/settle.h"

/* What kept rows are weighed by: their numbers, of input or output, and the gradients behind them. */
struct qvitp_row_sides {
    size_t m, width, gradient_width;
    const float *value;    /* [m][width] */
    const float *gradient; /* [m][gradient_width], or NULL */
};

/* How much each counts, [m], mean 1; `floor` of it whatever the gradient. */
qvit_status qvitp_row_weights(struct qvitp_pool *pool, const struct qvitp_row_sides *rows,
                              double floor, float *weight, qvit_error *error);

/* Chooses codes, scales and bias of s, whose product's piece has rows. */
qvit_status qvitp_weights_fit(const struct qvitp_settling *s, qvit_error *error);

#endif
