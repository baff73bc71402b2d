#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

qvit_status fail(qvit_error *error, qvit_status status, const char *format, ...)
{
    *error = (qvit_error){.status = status};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

qvit_status fail_memory(qvit_error *error)
{
    return fail(error, QVIT_ERR_NO_MEMORY, "out of memory");
}
