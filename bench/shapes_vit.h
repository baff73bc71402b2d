/*
 * shapes_vit.h - what there is to multiply in the three plain vision transformers that everybody
 * measures: 224 x 224 pixels, patches of 16, 12 blocks, heads of 64.
 */
#ifndef BENCH_SHAPES_VIT_H
#define BENCH_SHAPES_VIT_H

#include <stddef.h>

enum {
    VIT_TOKENS = 197, /* 14 * 14 patches and the class token */
    VIT_PATCHES = 196,
    VIT_PATCH_INPUTS = 16 * 16 * 3,
    VIT_DEPTH = 12,
    VIT_HEAD_DIM = 64,
    VIT_MLP = 4, /* hidden channels per channel */
    VIT_CLASSES = 1000,
    VIT_BATCH = 8 /* of the second row count: 8 * 197 = 1576 */
};

static const struct vit_arch {
    const char *name;
    size_t width;
} vit_archs[] = {{"tiny", 192}, {"small", 384}, {"base", 768}};
enum { VIT_ARCHS = sizeof vit_archs / sizeof vit_archs[0] };

/* A linear layer in units of the width: out[rows x n] from in[rows x k]. */
static const struct vit_layer {
    const char *name;
    size_t n, k;
} vit_layers[] = {{"qkv", 3, 1}, {"proj", 1, 1}, {"fc1", VIT_MLP, 1}, {"fc2", 1, VIT_MLP}};
enum { VIT_LAYERS = sizeof vit_layers / sizeof vit_layers[0] };

/* Multiplications of one image through the whole model: 1.254, 4.599 and 17.564 G. */
static inline double vit_macs(size_t width)
{
    double w = (double)width, tokens = VIT_TOKENS;
    double linear = tokens * (4 + 2 * VIT_MLP) * w * w, attention = 2 * tokens * tokens * w;
    return VIT_PATCHES * VIT_PATCH_INPUTS * w + VIT_DEPTH * (linear + attention) + VIT_CLASSES * w;
}

#endif
