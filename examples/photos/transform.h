/*
 * transform.h - which pixels of a picture a model sees: timm's transform for evaluation.
 *
 * The shorter side is resized to floor(size / crop), the longer one in proportion and rounded
 * down; then the size x size pixels in the centre are cut out, where an odd number of pixels left
 * over puts the window at the even one of the two places. These are torchvision's Resize and
 * CenterCrop.
 */
#ifndef PHOTOS_TRANSFORM_H
#define PHOTOS_TRANSFORM_H

#include "photo.h"
#include "resample.h"

typedef struct transform {
    size_t size;       /* pixels of a side that the model sees */
    size_t short_side; /* to resize to; >= size */
} transform;

/* The two directions of the resizing, for a photo of that many pixels. */
void transform_axes(const transform *t, size_t width, size_t height, resample_axis *columns,
                    resample_axis *rows);

/* out [size, size, 3]. Errors: NO_MEMORY; VALUE, where the longer side would be absurd. */
qvit_status transform_apply(const transform *t, const photo *picture, uint8_t *out,
                            qvit_error *error);

#endif
