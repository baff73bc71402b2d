/* material.h - what is multiplied: random numbers, quantizers that fit them, layers. */
#ifndef BENCH_MATERIAL_H
#define BENCH_MATERIAL_H

#include <stddef.h>

#include "qvit.h"

/* Memory aligned to QVIT_ALIGNMENT; free() it. Ends the program where there is none. */
void *material_memory(size_t bytes);

/* Random bytes; floats of a standard deviation. The same in every run, and never all zero. */
void material_bytes(void *memory, size_t bytes);
void material_floats(float *floats, size_t count, float deviation);

/* Random content, of standard deviation 1 in floats, without -128 in S8; free() its data. */
qvit_tensor material_tensor(qvit_dtype dtype, size_t rows, size_t cols);
qvit_tensor material_vector(size_t count, float deviation);

/* The quantizers of one engine: all for numbers of standard deviation 1, or for a softmax's. */
struct material {
    const qvit_engine *engine;
    qvit_quantizer *u8, *s8;      /* +-4; s8 without -128 */
    qvit_quantizer *probability;  /* u8, 0 to 1 */
    qvit_quantizer *twin_softmax; /* about 8 of a ViT's 197 probabilities in the upper range */
    qvit_quantizer *twin_softmax_dense; /* all of them */
    qvit_quantizer *twin_softmax_4;     /* of 4 bits; it and the next are a power of two apart */
    qvit_quantizer *twin_gelu;
};
void material_open(struct material *material, const qvit_engine *engine);
void material_close(struct material *material);

/* The port of a quantizer's codes; NULL: floats. */
qvit_port material_port(const qvit_quantizer *quantizer);

/* A layer of random weights; see qvit_linear_options. */
struct material_layer {
    size_t n, k;
    const char *weights;     /* "s8", "s6", "s4", "u4" or "f32" */
    const char *granularity; /* of the weights: "rows", "layer", or "k64": for every 64 of a row */
    qvit_port input, residual, output;
    qvit_activation activation;
};
/* S32 [n], a random permutation; its data is to be freed. */
qvit_tensor material_order(size_t n);

qvit_plan *material_linear(const struct material *material, const struct material_layer *layer);

#endif
