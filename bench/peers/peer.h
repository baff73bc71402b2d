/* peer.h - a contestant written in C, as a shared object that native.py loads;
 * it mirrors this. */
#ifndef PEERS_PEER_H
#define PEERS_PEER_H

#include <stddef.h>
#include <stdint.h>

/*
 * A layer: output[m, n] = encode(input[m, k] * weights[n, k]^T + bias). Of
 * codes, or, with 32 bits, of floats, which leave out all that is below `bias`.
 * Input and output must outlive the contestant.
 */
struct peer_layer {
    size_t m, n, k;
    int32_t bits;        /* of the weights: 8, 7 or 4, a code in a byte; 32: floats */
    const void *input;   /* u8 or f32 */
    const void *weights; /* s8 or f32 */
    void *output;        /* u8 or f32 */
    const float *bias;   /* [n] */
    const float *scales; /* [n], of the weights */
    float input_scale, output_scale;
    int32_t input_zero, output_zero;
};

struct peer;

/* form: one of the ways that the contestant knows. NULL: it cannot do this. */
struct peer *peer_create_layer(const struct peer_layer *layer, const char *form, size_t threads);

/* libqvit's only: an encoder of bench/encoder.h, with random weights and
 * content. */
struct peer *peer_create_encoder(size_t width, size_t batch, const char *bits, int twin,
                                 size_t threads);

/* Runs `calls` times, back to back. */
void peer_run(struct peer *peer, size_t calls);

/* What computes, for the table's head. */
const char *peer_describe(struct peer *peer);

void peer_destroy(struct peer *peer);

#endif
