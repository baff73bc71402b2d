/* files.h - opening files so that nothing waits, and nothing that stands at a path is lost. */
#ifndef VIT_FILES_H
#define VIT_FILES_H

#include <stddef.h>
#include <stdio.h>

/* Opens a file to read. Does not wait for a writer where the path is a pipe. NULL, and errno. */
FILE *open_to_read(const char *path);

/* All bytes of a regular file, to be freed; NULL, and why in *problem, if that fails. */
void *read_all(FILE *stream, size_t *size, const char **problem);

/*
 * Opens a new file next to the one to be written, and writes its name to `part`. Exclusively: no other
 * writer has the name, and no link that somebody left there is followed. NULL, and errno; ENOTSUP where
 * the path is something else than a regular file, which a rename would replace.
 */
FILE *open_part(const char *path, char *part, size_t part_size);

/* Bytes that a part's name has beyond the path's, with the NUL. */
enum { PART_SUFFIX = sizeof ".99.part" };

#endif
