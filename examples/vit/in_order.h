/*
 * in_order.h - solves a ViT's sites one after the other, each for the inputs that the part of the
 * model that is quantized already really gives it, and towards outputs that make up for what that part
 * did to the stream.
 */
#ifndef VIT_IN_ORDER_H
#define VIT_IN_ORDER_H

#include "calibrate.h"

/*
 * c        has been shown the images, in this order
 * images   count of them, from number `first` on, as they were shown
 * results  as calibration_solve leaves them
 *
 * Works in memory of two streams of floats for each image besides the calibrator's own.
 */
qvit_status solve_in_order(calibration *c, const qvit_engine *engine,
                           const calibration_recipe *recipe, const uint8_t *images, size_t first,
                           size_t count, calibration_results *results, qvit_error *error);

#endif
