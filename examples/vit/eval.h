/*
 * eval.h - runs a network over images, and says how good its logits are.
 */
#ifndef VIT_EVAL_H
#define VIT_EVAL_H

#include "network.h"
#include "sha256.h"

/* Seconds on a clock that only runs forward. */
double eval_seconds(void);

/*
 * Computes the logits [n, classes] of n images, in the network's batches. ms_per_image: from pixels
 * to logits, the median over the batches. what: for the progress line.
 */
qvit_status eval_run(network *net, const char *what, const uint8_t *images, size_t n, float *logits,
                     double *ms_per_image, qvit_error *error);

/* Shares of the images, in percent. */
typedef struct eval_accuracy {
    double top1, top5;
} eval_accuracy;

/* An image counts for top-k if fewer than k logits are greater than that of its label. */
eval_accuracy eval_accuracy_of(const float *logits, const int32_t *labels, size_t n,
                               size_t classes);

/* Percentage of the images for which both logits have the same largest class. */
double eval_agreement(const float *logits, const float *others, size_t n, size_t classes);

/* How far `others` are from `logits`, over all of them: the more, the closer; infinite if equal. */
double eval_sqnr_db(const float *logits, const float *others, size_t count);

/* Of the bytes of the values as little-endian floats. */
void eval_sha256(const float *values, size_t count, char hex[SHA256_HEX]);

#endif
