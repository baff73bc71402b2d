/* error.c - reporting: how a function fails with a sentence. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

qvit_status qvitp_fail(qvit_error *error, qvit_status status, const char *format, ...)
{
    if (!error) return status;
    memset(error, 0, sizeof *error);
    error->status = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

void qvitp_fail_in(qvit_error *error, const char *where)
{
    if (!error || !error->text[0] || !where[0]) return;
    char sentence[sizeof error->text];
    memcpy(sentence, error->text, sizeof sentence);
    int used = snprintf(error->text, sizeof error->text, "%s: ", where);
    size_t room = sizeof error->text - (size_t)used; /* names are shorter than the text */
    snprintf(error->text + used, room, "%.*s", (int)room - 1, sentence);
}

qvit_status qvitp_no_memory(qvit_error *error)
{
    return qvitp_fail(error, QVIT_ERR_NO_MEMORY, "out of memory");
}

qvit_status qvitp_ok(qvit_error *error)
{
    if (error) memset(error, 0, sizeof *error);
    return QVIT_OK;
}

const char *qvit_status_name(qvit_status status)
{
    static const char *const names[] = {
        [QVIT_OK] = "ok",
        [QVIT_ERR_ARGUMENT] = "argument",
        [QVIT_ERR_SHAPE] = "shape",
        [QVIT_ERR_UNSUPPORTED] = "unsupported",
        [QVIT_ERR_NO_MEMORY] = "no memory",
        [QVIT_ERR_STATE] = "state",
        [QVIT_ERR_FORMAT] = "format",
        [QVIT_ERR_VERSION] = "version",
        [QVIT_ERR_CHECKSUM] = "checksum",
        [QVIT_ERR_IO] = "input or output",
        [QVIT_ERR_EXECUTOR] = "executor",
        [QVIT_ERR_VALUE] = "value",
        [QVIT_ERR_CANCELLED] = "cancelled",
    };
    if (status < 0 || (size_t)status >= sizeof names / sizeof names[0]) return "unknown";
    return names[status];
}
