#define _POSIX_C_SOURCE 200809L

#include "progress.h"

#include <stdio.h>
#include <unistd.h>

void progress(const char *what, size_t done, size_t total)
{
    if (!isatty(STDERR_FILENO)) return;
    const char *erase = "\r\033[K"; /* back to the start of the line, and clear it */
    if (done < total)
        fprintf(stderr, "%s%s %zu/%zu", erase, what, done, total);
    else
        fputs(erase, stderr);
}
