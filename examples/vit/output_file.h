/*
 * output_file.h - files that appear under their names only when they are complete.
 *
 *     output_file file;
 *     TRY(output_file_begin(&file, path, error));
 *     fprintf(file.stream, ...);
 *     TRY(output_file_end(&file, error));
 *
 * Until the end the file is called path + ".part"; what was under the path before stays untouched.
 */
#ifndef VIT_OUTPUT_FILE_H
#define VIT_OUTPUT_FILE_H

#include <stdio.h>

#include <qvit.h>

typedef struct output_file {
    FILE *stream;
    char *path, *part;
} output_file;

/* On failure nothing needs to be ended. */
qvit_status output_file_begin(output_file *file, const char *path, qvit_error *error);

/* Closes and renames. If that or any write before it failed, nothing is left. */
qvit_status output_file_end(output_file *file, qvit_error *error);

#endif
