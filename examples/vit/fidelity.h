/*
 * fidelity.h - how much of the float model reaches each site of the quantized one: what all sites before
 * it have done together, where the scores of a result tell what one does alone.
 */
#ifndef VIT_FIDELITY_H
#define VIT_FIDELITY_H

#include "calibrate.h"

/* Images that suffice for it; more are not looked at. */
enum { FIDELITY_IMAGES = 32 };

/*
 * Runs both networks over images and compares the inputs of the sites, codes as the numbers that they
 * mean. out: [site_count]; NaN where there is nothing to compare, which are the pixels and, inside of
 * attention, the probabilities. Of Q K^T the queries are compared. The networks' batches are equal.
 */
qvit_status fidelity_measure(const network *plain, const network *quantized,
                             const calibration_results *results, const uint8_t *images,
                             size_t count, qvit_fidelity *out, qvit_error *error);

#endif
