#define _POSIX_C_SOURCE 200809L

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PART_NAMES = 100 }; /* how many leftovers of crashes a file may collect */

FILE *open_to_read(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_NONBLOCK);
    if (descriptor < 0) return NULL;
    FILE *stream = fdopen(descriptor, "rb");
    if (!stream) close(descriptor);
    return stream;
}

void *read_all(FILE *stream, size_t *size, const char **problem)
{
    struct stat status;
    if (fstat(fileno(stream), &status) || !S_ISREG(status.st_mode)) {
        *problem = "not a regular file";
        return NULL;
    }
    *size = (size_t)status.st_size;
    void *bytes = (uintmax_t)status.st_size < SIZE_MAX ? malloc(*size + 1) : NULL;
    if (!bytes) {
        *problem = "there is not enough memory to read the file";
        return NULL;
    }
    if (fread(bytes, 1, *size, stream) == *size) return bytes;
    *problem = "the file cannot be read in full";
    free(bytes);
    return NULL;
}

FILE *open_part(const char *path, char *part, size_t part_size)
{
    FILE *stream = NULL;
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        errno = ENOTSUP;
        return NULL;
    }
    errno = EEXIST;
    for (int i = 0; !stream && errno == EEXIST && i < PART_NAMES; i++) {
        snprintf(part, part_size, "%s.%d.part", path, i);
        stream = fopen(part, "wbx");
    }
    return stream;
}
