#define _POSIX_C_SOURCE 200809L

#include "photo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../vit/fail.h"
#include "../vit/files.h"

static const unsigned char jpeg_begin[] = {0xFF, 0xD8, 0xFF};
static const unsigned char png_begin[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

#define INSTALL                                                                                    \
    "\n  Debian, Ubuntu   apt install pkg-config libjpeg-dev libpng-dev"                           \
    "\n  Fedora           dnf install pkgconf libjpeg-turbo-devel libpng-devel"                    \
    "\n  macOS            brew install pkg-config jpeg-turbo libpng"                               \
    "\nand build again"

const char *photo_missing_libraries(void)
{
#if defined QVIT_HAVE_JPEG && defined QVIT_HAVE_PNG
    return NULL;
#elif defined QVIT_HAVE_JPEG
    return "this program was built without libpng, and reads JPEG only. For PNG files:" INSTALL;
#elif defined QVIT_HAVE_PNG
    return "this program was built without libjpeg, and reads PNG only. For JPEG files:" INSTALL;
#else
    return "this program was built without libjpeg and libpng, and reads nothing. "
           "To let it:" INSTALL;
#endif
}

bool photo_reads_nothing(void)
{
#if defined QVIT_HAVE_JPEG || defined QVIT_HAVE_PNG
    return false;
#else
    return true;
#endif
}

qvit_status photo_allocate(size_t width, size_t height, photo *out, qvit_error *error)
{
    if (width == 0 || height == 0)
        return fail(error, QVIT_ERR_FORMAT, "the picture has no pixels: %zu x %zu", width, height);
    if (width > PHOTO_MAX_SIDE || height > PHOTO_MAX_SIDE || width > PHOTO_MAX_AREA / height)
        return fail(
            error, QVIT_ERR_FORMAT,
            "the picture claims %zu x %zu pixels; at most %d in all, and %d a side, are read",
            width, height, PHOTO_MAX_AREA, PHOTO_MAX_SIDE);
    if (width > SIZE_MAX / PHOTO_CHANNELS / height) return fail_memory(error);
    *out = (photo){width, height, malloc(width * height * PHOTO_CHANNELS)};
    return out->pixels ? QVIT_OK : fail_memory(error);
}

void photo_close(photo *picture)
{
    free(picture->pixels);
    picture->pixels = NULL;
    picture->width = picture->height = 0;
}

uint8_t *photo_row(const photo *picture, size_t y)
{
    return picture->pixels + y * picture->width * PHOTO_CHANNELS;
}

uint8_t *photo_last_third(const photo *picture, size_t y)
{
    return photo_row(picture, y) + picture->width * (PHOTO_CHANNELS - 1);
}

static qvit_status decode(const unsigned char *bytes, size_t size, photo *out, qvit_error *error)
{
    if (size == 0) return fail(error, QVIT_ERR_FORMAT, "the file is empty");
    if (size >= sizeof jpeg_begin && !memcmp(bytes, jpeg_begin, sizeof jpeg_begin))
        return photo_decode_jpeg(bytes, size, out, error);
    if (size >= sizeof png_begin && !memcmp(bytes, png_begin, sizeof png_begin))
        return photo_decode_png(bytes, size, out, error);
    return fail(error, QVIT_ERR_FORMAT, "the file is neither JPEG nor PNG");
}

static qvit_status read_bytes(FILE *stream, unsigned char **bytes, size_t *size, qvit_error *error)
{
    struct stat status;
    const char *problem;
    if (fstat(fileno(stream), &status) == 0 && status.st_size > PHOTO_MAX_BYTES)
        return fail(error, QVIT_ERR_FORMAT, "the file has more than %d bytes", PHOTO_MAX_BYTES);
    *bytes = read_all(stream, size, &problem);
    return *bytes ? QVIT_OK : fail(error, QVIT_ERR_IO, "%s", problem);
}

qvit_status photo_open(const char *path, photo *out, qvit_error *error)
{
    unsigned char *bytes = NULL;
    size_t size;
    *out = (photo){0};
    FILE *stream = open_to_read(path);
    if (!stream) return fail(error, QVIT_ERR_IO, "%s", strerror(errno));
    qvit_status status = read_bytes(stream, &bytes, &size, error);
    fclose(stream);
    if (status == QVIT_OK) status = decode(bytes, size, out, error);
    free(bytes);
    if (status != QVIT_OK) photo_close(out);
    return status;
}
