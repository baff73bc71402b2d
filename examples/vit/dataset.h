/*
 * dataset.h - images and labels from .npy files, checked against the model that is to see them.
 */
#ifndef VIT_DATASET_H
#define VIT_DATASET_H

#include "model.h"
#include "npy.h"

/* uint8 [n, image, image, 3], n >= 1. Release with npy_close; *out is empty after a failure. */
qvit_status dataset_open_images(const char *path, const vit_model *model, npy *out,
                                qvit_error *error);

/* int32 [n], classes of the model. */
qvit_status dataset_open_labels(const char *path, const vit_model *model, size_t n, npy *out,
                                qvit_error *error);

/* Writes n images, uint8 [n, side, side, 3], and their labels: both files or none. Errors: IO. */
qvit_status dataset_write(const char *images, const char *labels, size_t n, size_t side,
                          const uint8_t *pixels, const int32_t *classes, qvit_error *error);

/* The pixels from image `first` on. */
const uint8_t *dataset_image(const npy *images, size_t first);

#endif
