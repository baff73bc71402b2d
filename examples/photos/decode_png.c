/*
 * PNG by libpng. Not by its simplified interface, as that corrects for the gamma that a file may
 * state, and takes 16-bit samples for linear light; PIL does neither.
 */
#include "photo.h"

#include "../vit/fail.h"

#ifdef QVIT_HAVE_PNG

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

/* What has to be found again after a jump. */
struct decoder {
    png_structp png;
    png_infop info;
    jmp_buf leave;
    char text[128];
    const unsigned char *next; /* of the file's bytes */
    size_t left;
    photo *out;
    qvit_error *error;
    qvit_status status; /* of a failure that libpng does not know of */
};

static void leave(png_structp png, png_const_charp text)
{
    struct decoder *d = png_get_error_ptr(png);
    snprintf(d->text, sizeof d->text, "%s", text);
    longjmp(d->leave, 1);
}

/* Warnings tell of chunks around the pixels: profiles, texts. */
static void ignore_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void read_bytes(png_structp png, png_bytep to, size_t size)
{
    struct decoder *d = png_get_io_ptr(png);
    if (size > d->left) png_error(png, "the file ends too early");
    memcpy(to, d->next, size);
    d->next += size;
    d->left -= size;
}

static void give_up(struct decoder *d, qvit_status status)
{
    d->status = status;
    longjmp(d->leave, 1);
}

static bool has_palette(const struct decoder *d)
{
    return png_get_color_type(d->png, d->info) == PNG_COLOR_TYPE_PALETTE;
}

static void read_header(struct decoder *d)
{
    png_set_read_fn(d->png, d, read_bytes);
    /* photo_allocate is to have the say, and the last word */
    png_set_user_limits(d->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(d->png, d->info);
    qvit_status status = photo_allocate(png_get_image_width(d->png, d->info),
                                        png_get_image_height(d->png, d->info), d->out, d->error);
    if (status != QVIT_OK) give_up(d, status);
}

/* A byte for each channel, red, green and blue; or a byte for each index. Returns the passes. */
static int transform_samples(struct decoder *d)
{
    if (has_palette(d)) {
        png_set_packing(d->png);
    } else {
        if (png_get_bit_depth(d->png, d->info) < 8) png_set_expand_gray_1_2_4_to_8(d->png);
        png_set_strip_16(d->png);
        png_set_strip_alpha(d->png);
        if (!(png_get_color_type(d->png, d->info) & PNG_COLOR_MASK_COLOR))
            png_set_gray_to_rgb(d->png);
    }
    int passes = png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    return passes;
}

/* Row by row, the last third of which holds the indices. */
static void apply_palette(struct decoder *d)
{
    png_colorp palette;
    int colors = 0;
    png_get_PLTE(d->png, d->info, &palette, &colors);
    for (size_t y = 0; y < d->out->height; y++) {
        const uint8_t *index = photo_last_third(d->out, y);
        uint8_t *rgb = photo_row(d->out, y);
        for (size_t x = 0; x < d->out->width; x++, index++, rgb += PHOTO_CHANNELS) {
            if (*index >= colors) png_error(d->png, "a pixel has no colour in the palette");
            const png_color color = palette[*index];
            rgb[0] = color.red, rgb[1] = color.green, rgb[2] = color.blue;
        }
    }
}

static void read_rows(struct decoder *d)
{
    const int passes = transform_samples(d);
    const bool indexed = has_palette(d);
    if (png_get_rowbytes(d->png, d->info) != d->out->width * (indexed ? 1 : PHOTO_CHANNELS))
        png_error(d->png, "the samples are of an unknown kind");
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < d->out->height; y++)
            png_read_row(d->png, indexed ? photo_last_third(d->out, y) : photo_row(d->out, y),
                         NULL);
    }
    png_read_end(d->png, NULL);
    if (indexed) apply_palette(d);
}

/* A function without variables of its own, which would be undefined behind a jump. */
static bool read_all_of_it(struct decoder *d)
{
    if (setjmp(d->leave)) return false;
    read_header(d);
    read_rows(d);
    return true;
}

qvit_status photo_decode_png(const unsigned char *bytes, size_t size, photo *out, qvit_error *error)
{
    struct decoder d = {.next = bytes, .left = size, .out = out, .error = error};
    d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, leave, ignore_warning);
    d.info = d.png ? png_create_info_struct(d.png) : NULL;
    if (!d.info)
        d.status = fail_memory(error);
    else if (!read_all_of_it(&d) && d.status == QVIT_OK)
        d.status = fail(error, QVIT_ERR_FORMAT, "%s", d.text);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    return d.status;
}

#else

qvit_status photo_decode_png(const unsigned char *bytes, size_t size, photo *out, qvit_error *error)
{
    (void)bytes, (void)size, (void)out;
    return fail(error, QVIT_ERR_UNSUPPORTED, "PNG cannot be read without libpng");
}

#endif
