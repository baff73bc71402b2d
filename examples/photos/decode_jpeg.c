/*
 * JPEG by libjpeg or libjpeg-turbo, with the settings that PIL leaves as they are: the accurate
 * integer DCT and smooth upsampling.
 */
#include "photo.h"

#include "../vit/fail.h"

#ifdef QVIT_HAVE_JPEG

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

/* Every scan of a progressive file goes over all of the picture, and may take but a few bytes. */
enum { MAX_SCANS = 500 };

/* What has to be found again after a jump. */
struct decoder {
    struct jpeg_error_mgr errors; /* first: libjpeg knows the address of this only */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf leave;
    char text[JMSG_LENGTH_MAX];
    photo *out;
    uint8_t *cmyk; /* a row */
    qvit_error *error;
    qvit_status status; /* of a failure that libjpeg does not know of */
};

/* Instead of libjpeg's own, which ends the process. */
static void leave(j_common_ptr jpeg)
{
    struct decoder *d = (struct decoder *)jpeg->err;
    jpeg->err->format_message(jpeg, d->text);
    longjmp(d->leave, 1);
}

/* Warnings (level -1) tell of damage: the file ends too early, a code does not exist. */
static void take_message(j_common_ptr jpeg, int level)
{
    if (level < 0) leave(jpeg);
}

static void count_scans(j_common_ptr jpeg)
{
    struct decoder *d = (struct decoder *)jpeg->err;
    if (d->jpeg.input_scan_number <= MAX_SCANS) return;
    snprintf(d->text, sizeof d->text, "the picture has more than %d scans", MAX_SCANS);
    longjmp(d->leave, 1);
}

/* a * b / 255, rounded to the nearest. */
static unsigned scale255(unsigned a, unsigned b)
{
    unsigned product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

/* Adobe's CMYK, where 255 is no ink; in PIL's two steps, of which the second rounds. */
static void convert_cmyk(const uint8_t *cmyk, size_t width, uint8_t *rgb)
{
    for (size_t x = 0; x < width; x++, cmyk += 4, rgb += PHOTO_CHANNELS) {
        for (int c = 0; c < PHOTO_CHANNELS; c++)
            rgb[c] = (uint8_t)(cmyk[3] - scale255(255u - cmyk[c], cmyk[3]));
    }
}

static void give_up(struct decoder *d, qvit_status status)
{
    d->status = status;
    longjmp(d->leave, 1);
}

static void read_header(struct decoder *d, const unsigned char *bytes, size_t size)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_create_decompress(jpeg);
    d->progress.progress_monitor = count_scans;
    jpeg->progress = &d->progress;
    jpeg_mem_src(jpeg, bytes, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_RGB;
    qvit_status status = photo_allocate(jpeg->image_width, jpeg->image_height, d->out, d->error);
    if (status != QVIT_OK) give_up(d, status);
}

static void read_rows(struct decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    const bool is_cmyk = jpeg->out_color_space == JCS_CMYK;
    if (is_cmyk && !(d->cmyk = malloc(d->out->width * 4))) give_up(d, fail_memory(d->error));
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = photo_row(d->out, jpeg->output_scanline);
        JSAMPROW row = is_cmyk ? d->cmyk : rgb;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (is_cmyk) convert_cmyk(d->cmyk, d->out->width, rgb);
    }
    jpeg_finish_decompress(jpeg);
}

/* A function without variables of its own, which would be undefined behind a jump. */
static bool read_all_of_it(struct decoder *d, const unsigned char *bytes, size_t size)
{
    if (setjmp(d->leave)) return false;
    read_header(d, bytes, size);
    read_rows(d);
    return true;
}

qvit_status photo_decode_jpeg(const unsigned char *bytes, size_t size, photo *out,
                              qvit_error *error)
{
    struct decoder d = {.out = out, .error = error};
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.errors.error_exit = leave;
    d.errors.emit_message = take_message;
    if (!read_all_of_it(&d, bytes, size) && d.status == QVIT_OK)
        d.status = fail(error, QVIT_ERR_FORMAT, "%s", d.text);
    jpeg_destroy_decompress(&d.jpeg);
    free(d.cmyk);
    return d.status;
}

#else

qvit_status photo_decode_jpeg(const unsigned char *bytes, size_t size, photo *out,
                              qvit_error *error)
{
    (void)bytes, (void)size, (void)out;
    return fail(error, QVIT_ERR_UNSUPPORTED, "JPEG cannot be read without libjpeg");
}

#endif
