#include "output_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "files.h"

static qvit_status fail_to_write(const char *path, int reason, qvit_error *error)
{
    return fail(error, QVIT_ERR_IO, "%s: cannot be written: %s", path, strerror(reason));
}

static void release(output_file *file)
{
    free(file->path);
    free(file->part);
    *file = (output_file){0};
}

qvit_status output_file_begin(output_file *file, const char *path, qvit_error *error)
{
    size_t length = strlen(path);
    *file = (output_file){.path = malloc(length + 1), .part = malloc(length + PART_SUFFIX)};
    if (!file->path || !file->part) {
        release(file);
        return fail_memory(error);
    }
    memcpy(file->path, path, length + 1);
    file->stream = open_part(path, file->part, length + PART_SUFFIX);
    if (file->stream) return QVIT_OK;
    qvit_status status = fail_to_write(path, errno, error);
    release(file);
    return status;
}

qvit_status output_file_end(output_file *file, qvit_error *error)
{
    qvit_status status = QVIT_OK;
    int written = !ferror(file->stream) && !fflush(file->stream);
    int reason = errno;
    if (fclose(file->stream) || !written || rename(file->part, file->path)) {
        if (written) reason = errno;
        status = fail_to_write(file->path, reason, error);
        remove(file->part);
    }
    release(file);
    return status;
}
