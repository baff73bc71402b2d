/*
 * float_model.h - the plans of a float32 ViT: what the quantized one is measured against, and what
 * the calibrator watches.
 */
#ifndef VIT_FLOAT_MODEL_H
#define VIT_FLOAT_MODEL_H

#include "network.h"

/*
 * Makes the network for up to `batch` images at once; observed: passes may take an observer. The
 * model must outlive it. *out is empty after a failure.
 */
qvit_status float_model_create(const vit_model *model, const qvit_engine *engine, size_t batch,
                               bool observed, network *out, qvit_error *error);

/* One float layer; `residual` is whether each run adds a tensor to the output. */
qvit_status float_linear_create(const qvit_engine *engine, const vit_linear *layer,
                                qvit_activation activation, bool residual, qvit_plan **out,
                                qvit_error *error);

#endif
