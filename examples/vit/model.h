/*
 * model.h - the float weights of a plain ViT or DeiT, from a safetensors file with timm's names.
 *
 * Everything about the model is found in the file: sizes from the shapes of the tensors, the
 * normalisation of the images from the metadata ("mean" and "std", each "r,g,b"). Only the number
 * of heads cannot be seen; it is width / 64 unless given.
 *
 * The model takes pixels as they are, 0..255: (pixel / 255 - mean) / std is folded into the patch
 * embedding, whose weights become w / (255 std) and whose bias loses the sum of w mean / std. So
 * the first layer of the quantized model multiplies the bytes of the image itself.
 */
#ifndef VIT_MODEL_H
#define VIT_MODEL_H

#include <stddef.h>

#include <qvit.h>

#include "safetensors.h"

enum { VIT_CHANNELS = 3 }; /* of an image: red, green, blue */

#define VIT_LAYER_NORM_EPS 1e-6f

/* weight [outputs, inputs], bias [outputs]; bias.data is NULL if there is none */
typedef struct vit_linear {
    qvit_tensor weight, bias;
} vit_linear;

typedef struct vit_norm {
    qvit_tensor gamma, beta;
} vit_norm;

typedef struct vit_block {
    vit_norm norm1, norm2;
    vit_linear qkv, proj, fc1, fc2;
} vit_block;

/* All tensors are F32 and dense, and belong to the model. */
typedef struct vit_model {
    size_t image;   /* pixels of a side */
    size_t patch;   /* the same of a patch */
    size_t patches; /* in an image: (image / patch)^2 */
    size_t tokens;  /* patches + 1: the class token comes first */
    size_t width;   /* numbers in a token */
    size_t heads;
    size_t head_dim; /* width / heads */
    size_t hidden;   /* numbers between fc1 and fc2 */
    size_t depth;    /* blocks */
    size_t classes;
    float mean[VIT_CHANNELS], std[VIT_CHANNELS]; /* of the images, folded into: */
    vit_linear patch_embed;                      /* folded: [width, patch * patch * channels] */
    qvit_tensor first;                           /* [width]: the class token, its position added */
    qvit_tensor positions;                       /* [patches, width] */
    vit_block *blocks;
    vit_norm norm;
    vit_linear head;
    float *memory;
} vit_model;

/* What overrides the file; zeros and NULLs do not. */
typedef struct vit_model_options {
    size_t heads;
    const char *mean, *std; /* "r,g,b" */
} vit_model_options;

/* Reads the file at path. *out is empty after a failure; else release it with vit_model_close. */
qvit_status vit_model_open(const char *path, const vit_model_options *options, vit_model *out,
                           qvit_error *error);

/* The same from a file that is read already, and not needed any more afterwards. */
qvit_status vit_model_read(const safetensors *file, const vit_model_options *options,
                           vit_model *out, qvit_error *error);

/* An empty model may be closed again. */
void vit_model_close(vit_model *model);

/* Bytes of what is quantized, the weights of all layers, as floats. */
size_t vit_model_weight_bytes(const vit_model *model);

/* A tensor that may be absent, as the library wants it: NULL if it is. */
static inline const qvit_tensor *optional(const qvit_tensor *tensor)
{
    return tensor->data ? tensor : NULL;
}

#endif
