/*
 * width_losses.h - what a model loses if the weights of one layer have so many bits: measured, at the
 * logits.
 *
 * The float model gets the rounded weights of one layer, as its codes mean them, and nothing else of it is
 * quantized. The loss is the squared difference that this makes to the logits, as a part of their energy,
 * for images that the weights were not fitted to: one half of the calibration's images fits and the other
 * judges, then they change places. Weights that are judged by what they were fitted to seem to lose too
 * little, the more so the fewer rows they are fitted to, as in the head; and how the errors of tokens and
 * channels add up or cancel on their way to the logits shows there alone.
 *
 * Everything else stays as floats since the least change to a quantized model rounds all codes behind it
 * anew, which differs from before by more than what most layers lose.
 */
#ifndef VIT_WIDTH_LOSSES_H
#define VIT_WIDTH_LOSSES_H

#include "calibrate.h"

/* Who judges, and how images are shown to a calibration. */
typedef struct width_judges {
    const qvit_engine *engine;
    calibration_options options;
    const uint8_t *images; /* `count` of them, from number `first` on */
    size_t first, count;
} width_judges;

/* Images of a half that judge, at most. */
enum { WIDTH_JUDGES = 8 };

/*
 *   recipe   with settings and the width of inputs
 *   sites    [count], linear
 *   widths   [width_count]
 *   out      [count][width_count]: the loss, and the bytes of the weights
 *
 * Layers are solved for the float model's inputs. Works in memory of a calibration of half of the images,
 * and of a stream of floats for each block and image that judges. A single image fits and judges.
 */
qvit_status width_losses_measure(const width_judges *judges, const vit_model *model,
                                 const calibration_recipe *recipe, const size_t *sites,
                                 size_t count, const int32_t *widths, size_t width_count,
                                 qvit_alternative *out, qvit_error *error);

#endif
