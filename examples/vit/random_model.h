/*
 * random_model.h - a model of random weights in a file, and random images: enough to run everything
 * without anybody's trained weights. Its predictions mean nothing; its numbers behave like a ViT's.
 */
#ifndef VIT_RANDOM_MODEL_H
#define VIT_RANDOM_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <qvit.h>

typedef struct random_sizes {
    size_t width, depth, classes;
    size_t image, patch; /* pixels of a side */
} random_sizes;

/* The same seed gives the same file, byte for byte. */
qvit_status random_model_write(const char *path, const random_sizes *sizes, uint64_t seed,
                               qvit_error *error);

/* uint8 [n, image, image, 3]: squares of random colours. */
qvit_status random_images_write(const char *path, const random_sizes *sizes, size_t n,
                                uint64_t seed, qvit_error *error);

/* int32 [n], each below classes. */
qvit_status random_labels_write(const char *path, const random_sizes *sizes, size_t n,
                                uint64_t seed, qvit_error *error);

#endif
