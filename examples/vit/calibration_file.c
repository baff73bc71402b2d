#include "calibration_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "files.h"
#include "output_file.h"

static int32_t write_piece(void *user, const void *data, size_t size)
{
    return fwrite(data, 1, size, user) != size;
}

qvit_status calibration_file_save(const char *path, const qvit_calibrator *calibrator,
                                  qvit_error *error)
{
    output_file file;
    TRY(output_file_begin(&file, path, error));
    qvit_status saved = qvit_calibrator_save(calibrator, write_piece, file.stream, error);
    qvit_status ended = output_file_end(&file, error); /* knows why a write failed */
    return ended != QVIT_OK ? ended : saved;
}

qvit_status calibration_file_load(const char *path, qvit_calibrator *calibrator, qvit_error *error)
{
    const char *problem;
    size_t size;
    FILE *stream = open_to_read(path);
    if (!stream) return fail(error, QVIT_ERR_IO, "%s: %s", path, strerror(errno));
    void *bytes = read_all(stream, &size, &problem);
    fclose(stream);
    if (!bytes) return fail(error, QVIT_ERR_IO, "%s: %s", path, problem);
    qvit_error why;
    qvit_status status = qvit_calibrator_load(calibrator, bytes, size, &why);
    free(bytes);
    return status == QVIT_OK ? status : fail(error, status, "%s: %s", path, why.text);
}
