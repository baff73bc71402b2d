/*
 * resample.h - resizing as PIL's Image.resize(size, BICUBIC) does it, byte for byte.
 *
 * The kernel is cubic convolution with a = -1/2 (Keys 1981, "Cubic convolution interpolation for
 * digital image processing"). Where a picture shrinks, it is as much wider, so that
 * every pixel counts: the antialiasing that training took for granted. Beyond the border there is
 * nothing; the weights that are left are scaled to a sum of 1.
 *
 * Rows first, then columns, with 8-bit pixels in between. A weight is an integer with 22 bits
 * behind the point, rounded to the nearest, halves away from zero; a sum of products is rounded
 * once, halves up, and clipped to 0..255.
 */
#ifndef PHOTOS_RESAMPLE_H
#define PHOTOS_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include <qvit.h>

/* One direction: `from` pixels become `to`, and of these `count` are wanted, from `first` on. */
typedef struct resample_axis {
    size_t from, to;
    size_t first, count;
} resample_axis;

enum { RESAMPLE_CHANNELS = 3, RESAMPLE_MAX = 1 << 30 };

/*
 * pixels [rows->from, columns->from, 3] to out [rows->count, columns->count, 3]. What is not
 * wanted is not computed. Sizes are 1 to RESAMPLE_MAX. Errors: NO_MEMORY.
 */
qvit_status resample_bicubic(const uint8_t *pixels, const resample_axis *columns,
                             const resample_axis *rows, uint8_t *out, qvit_error *error);

#endif
