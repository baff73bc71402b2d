/*
 * progress.h - one line on stderr that says how far a long job is; only where that is a terminal.
 */
#ifndef VIT_PROGRESS_H
#define VIT_PROGRESS_H

#include <stddef.h>

/* "float 640/1300", over the line before. The line disappears when done == total. */
void progress(const char *what, size_t done, size_t total);

#endif
