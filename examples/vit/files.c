#define _POSIX_C_SOURCE 200809L

#include "files.h"

#include <errno.h>
#include <fcntl.h>
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
