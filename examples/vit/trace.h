/*
 * trace.h - writes what flows through one block of the float model, for comparing step by step.
 */
#ifndef VIT_TRACE_H
#define VIT_TRACE_H

#include "model.h"

/*
 * Writes folder/NAME.npy for x, ln1, qkv, scores, probs, context, proj, ln2, fc1, gelu, fc2 and y
 * of the block, for one image: proj and fc2 before they are added to the stream, fc1 before GELU.
 * The folder is made if it is not there.
 */
qvit_status trace_block(const vit_model *model, const qvit_engine *engine, const uint8_t *image,
                        size_t block, const char *folder, qvit_error *error);

#endif
