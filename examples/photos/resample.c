#include "resample.h"

#include <math.h>
#include <stdlib.h>

#include "../vit/fail.h"

enum { WEIGHT_BITS = 22 };

/* Which pixels a new one is made of, and how much of each. */
struct taps {
    size_t count; /* new pixels */
    size_t room;  /* weights that each has room for */
    size_t *first, *length;
    int32_t *weights; /* [count, room] */
};

static void free_taps(struct taps *t)
{
    free(t->first);
    free(t->length);
    free(t->weights);
}

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static int32_t fixed_point(double weight)
{
    weight *= 1 << WEIGHT_BITS;
    return (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
}

/*
 * The order of the operations is PIL's, so that the same doubles come out. Weights of one pixel
 * add up to 1; those below zero are an eighth of the others at most, so that 255 times all of them
 * fits 32 bits.
 */
static void weigh(const resample_axis *axis, struct taps *t, double *weights)
{
    const double scale = (double)axis->from / (double)axis->to;
    const double stretch = scale < 1 ? 1 : scale, reach = 2 * stretch;
    for (size_t i = 0; i < axis->count; i++) {
        const double center = ((double)(axis->first + i) + 0.5) * scale;
        const double low = center - reach + 0.5, high = center + reach + 0.5;
        const size_t first = low < 0 ? 0 : (size_t)low;
        const size_t end = high > (double)axis->from ? axis->from : (size_t)high;
        double sum = 0;
        for (size_t k = first; k < end; k++) {
            double weight = cubic(((double)k - center + 0.5) * (1 / stretch));
            weights[k - first] = weight;
            sum += weight;
        }
        for (size_t k = 0; k < end - first; k++)
            t->weights[i * t->room + k] = fixed_point(weights[k] / sum);
        t->first[i] = first;
        t->length[i] = end - first;
    }
}

static qvit_status make_taps(const resample_axis *axis, struct taps *t, qvit_error *error)
{
    const double scale = (double)axis->from / (double)axis->to;
    t->count = axis->count;
    t->room = (size_t)ceil(2 * (scale < 1 ? 1 : scale)) * 2 + 1;
    t->first = calloc(t->count, sizeof *t->first);
    t->length = calloc(t->count, sizeof *t->length);
    t->weights =
        t->room <= SIZE_MAX / t->count ? calloc(t->count * t->room, sizeof *t->weights) : NULL;
    double *weights = calloc(t->room, sizeof *weights);
    if (!t->first || !t->length || !t->weights || !weights) {
        free(weights);
        return fail_memory(error);
    }
    weigh(axis, t, weights);
    free(weights);
    return QVIT_OK;
}

static uint8_t clip(int32_t sum)
{
    if (sum < 0) return 0;
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

/* One new pixel of those that lie `stride` bytes apart. */
static void blend(const uint8_t *pixel, size_t stride, const int32_t *weights, size_t length,
                  uint8_t *out)
{
    const int32_t half = 1 << (WEIGHT_BITS - 1);
    int32_t red = half, green = half, blue = half;
    for (size_t k = 0; k < length; k++, pixel += stride) {
        red += weights[k] * pixel[0];
        green += weights[k] * pixel[1];
        blue += weights[k] * pixel[2];
    }
    out[0] = clip(red);
    out[1] = clip(green);
    out[2] = clip(blue);
}

/* Makes a row shorter or longer. */
static void resample_row(const uint8_t *row, const struct taps *columns, uint8_t *out)
{
    for (size_t x = 0; x < columns->count; x++)
        blend(row + columns->first[x] * RESAMPLE_CHANNELS, RESAMPLE_CHANNELS,
              columns->weights + x * columns->room, columns->length[x],
              out + x * RESAMPLE_CHANNELS);
}

/* Both passes, with as many rows in between as the wanted ones are made of. */
static qvit_status resample(const uint8_t *pixels, size_t width, const struct taps *columns,
                            const struct taps *rows, uint8_t *out, qvit_error *error)
{
    const size_t first = rows->first[0], last = rows->count - 1;
    const size_t height = rows->first[last] + rows->length[last] - first;
    const size_t stride = columns->count * RESAMPLE_CHANNELS;
    uint8_t *between = height <= SIZE_MAX / stride ? malloc(height * stride) : NULL;
    if (!between) return fail_memory(error);
    for (size_t y = 0; y < height; y++)
        resample_row(pixels + (first + y) * width * RESAMPLE_CHANNELS, columns,
                     between + y * stride);
    for (size_t y = 0; y < rows->count; y++) {
        const uint8_t *top = between + (rows->first[y] - first) * stride;
        for (size_t x = 0; x < stride; x += RESAMPLE_CHANNELS)
            blend(top + x, stride, rows->weights + y * rows->room, rows->length[y],
                  out + y * stride + x);
    }
    free(between);
    return QVIT_OK;
}

qvit_status resample_bicubic(const uint8_t *pixels, const resample_axis *columns,
                             const resample_axis *rows, uint8_t *out, qvit_error *error)
{
    struct taps across = {0}, down = {0};
    qvit_status status = make_taps(columns, &across, error);
    if (status == QVIT_OK) status = make_taps(rows, &down, error);
    if (status == QVIT_OK) status = resample(pixels, columns->from, &across, &down, out, error);
    free_taps(&down);
    free_taps(&across);
    return status;
}
