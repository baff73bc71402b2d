/*
 * weights.h - codes of weights that suit the inputs they will really meet: corrected for what rounding
 * does to the inputs, with scales and rounding that count errors where they matter.
 */
#ifndef QVITP_WEIGHTS_H
#define QVITP_WEIGHTS_H

#include "calib/settle.h"

/* How much every kept row of a site counts, [piece->m], mean 1. */
qvit_status qvitp_row_weights(const struct qvitp_settling *s, float *weight, qvit_error *error);

/* Chooses codes, scales and bias of s, whose product's piece has rows. */
qvit_status qvitp_weights_fit(const struct qvitp_settling *s, qvit_error *error);

#endif
