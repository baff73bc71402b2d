/*
 * photo.h - pictures from JPEG and PNG files, as PIL's Image.open(path).convert("RGB") sees them.
 *
 * The pixels are PIL's, byte for byte, where both use the same libjpeg: others may differ by one or
 * so. As there,
 *   - an alpha channel and transparent colours are dropped, nothing is blended with a background;
 *   - colour profiles and gamma are ignored;
 *   - the EXIF orientation is ignored, as timm does not apply it;
 *   - CMYK is taken to be inverted, as Adobe writes it;
 *   - 16-bit colours keep their high byte.
 *
 * Different from PIL:
 *   - 16-bit grey PNG keeps its high byte as colours do. PIL (9.4) clips it to 255, so that nearly
 *     all is white.
 *   - what is damaged is refused as a whole: data that libjpeg warns of, a PNG without its end, and
 *     indices beyond the palette. PIL shows what there is of some of these.
 */
#ifndef PHOTOS_PHOTO_H
#define PHOTOS_PHOTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <qvit.h>

enum {
    PHOTO_CHANNELS = 3,
    PHOTO_MAX_SIDE = 1000000,  /* pixels */
    PHOTO_MAX_AREA = 1 << 28,  /* a small file may claim to hold more than memory does */
    PHOTO_MAX_BYTES = 1 << 29, /* of a file */
};

typedef struct photo {
    size_t width, height; /* >= 1 */
    uint8_t *pixels;      /* [height, width, 3] */
} photo;

/*
 * What a file is, its first bytes tell, not its name. On failure *out is empty, and the error's
 * text does not name the file. Release with photo_close.
 */
qvit_status photo_open(const char *path, photo *out, qvit_error *error);

/* An empty one may be closed again. */
void photo_close(photo *picture);

/* What to install so that more can be read; NULL if the program was built with both libraries. */
const char *photo_missing_libraries(void);

/* Whether it was built with neither. */
bool photo_reads_nothing(void);

/* ---- for the decoders ---- */

/* The whole of a file's bytes. The caller closes *out, also on failure. */
qvit_status photo_decode_jpeg(const unsigned char *bytes, size_t size, photo *out,
                              qvit_error *error);
qvit_status photo_decode_png(const unsigned char *bytes, size_t size, photo *out,
                             qvit_error *error);

/* Checks the sizes that a file claims to have, and allocates the pixels. */
qvit_status photo_allocate(size_t width, size_t height, photo *out, qvit_error *error);

/* One row of the photo. */
uint8_t *photo_row(const photo *picture, size_t y);

/* Where one byte for each pixel of a row can be stored before photo_row is filled from the left. */
uint8_t *photo_last_third(const photo *picture, size_t y);

#endif
