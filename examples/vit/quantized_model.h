/*
 * quantized_model.h - the plans of a quantized ViT, made from what calibration found.
 *
 * Between the plans go codes: LayerNorm writes those that the next product reads, the qkv layer one
 * tensor of S8 codes for all heads, attention goes from codes to codes, fc1 applies GELU and writes
 * the codes of fc2. Only the stream that the blocks add to, and the logits, are floats.
 */
#ifndef VIT_QUANTIZED_MODEL_H
#define VIT_QUANTIZED_MODEL_H

#include "calibrate.h"
#include "network.h"

/*
 * Makes the network for up to `batch` images at once. The engine may be another than the one that
 * calibrated. The model must outlive the network, the results need not. *out is empty after a
 * failure.
 */
qvit_status quantized_model_create(const vit_model *model, const qvit_engine *engine,
                                   const calibration_results *results, size_t batch, network *out,
                                   qvit_error *error);

/*
 * The same plan by plan, for a host that solves one site after the other: each makes, or makes again,
 * one step of a network that was begun with network_begin.
 *
 *   FINAL      as in the whole network
 *   FLOATS     a step that writes codes writes floats instead, channel by channel, so that the site which
 *              reads them need not be solved yet
 *   UNORDERED  the qkv layer before such an attention: its codes are those of its own sites, in the order
 *              of the channels, whatever proj asked for when it was solved last
 */
typedef enum quantized_form {
    QUANTIZED_FINAL,
    QUANTIZED_FLOATS,
    QUANTIZED_UNORDERED
} quantized_form;

qvit_status quantized_model_embedding(network *net, const qvit_engine *engine,
                                      const calibration_results *results, qvit_error *error);
qvit_status quantized_model_step(network *net, const qvit_engine *engine,
                                 const calibration_results *results, size_t block, size_t step,
                                 quantized_form form, qvit_error *error);

#endif
