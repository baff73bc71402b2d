/*
 * probe.h - gradients of a loss at the logits that say how much each class matters to a prediction.
 *
 * A float model has no loss against its own predictions: the gradient of KL(p || p) is zero. What
 * matters to such a loss is its curvature, the Fisher matrix F = diag(p) - p p^T of p =
 * softmax(logits). So the gradient is a random vector v with E[v v^T] = F,
 *
 *     v = sqrt(p) r - p <sqrt(p), r>,   r = +1 or -1 for each class
 *
 * and the square of what it becomes at a layer's output is, on average, the diagonal of the
 * Gauss-Newton matrix there. No label is needed, and v is never zero but for a p of exactly 0 and 1.
 */
#ifndef VIT_PROBE_H
#define VIT_PROBE_H

#include <stddef.h>
#include <stdint.h>

/* The signs are a hash of seed, image, draw and class: nothing depends on how images are batched. */
void probe_draw(uint64_t seed, uint64_t image, uint64_t draw, const float *logits, size_t classes,
                float *v);

#endif
