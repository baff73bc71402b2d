/*
 * latency.h - measures where the time of a network goes, for a choice between alternatives.
 */
#ifndef VIT_LATENCY_H
#define VIT_LATENCY_H

#include "network.h"

/* Nanoseconds for an image: half a block, the mean over all blocks, and all that is in no block. */
typedef struct latency {
    uint64_t attend, transform, rest;
} latency;

/*
 * Runs networks of one model in turn, so that whatever else the machine does hits them alike; of each
 * part the fastest of several passes counts. Blocks have one shape and so one time, but are measured
 * where they are: one block that ran again and again would find its weights in the cache.
 *
 * images: `count` of them, at most the networks' batch
 */
qvit_status latency_measure(const network *const *nets, size_t net_count, const uint8_t *images,
                            size_t count, latency *out, qvit_error *error);

#endif
