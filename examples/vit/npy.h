/*
 * npy.h - reads and writes numpy's .npy files: one array each.
 *
 * Taken are the versions 1.0, 2.0 and 3.0 of the format, C order, and the little-endian types |u1,
 * <i4, <i8 and <f4. The header is a Python dictionary,
 *
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
 *
 * which is parsed as just that, never evaluated. A file is taken only if it is exactly as long as
 * its shape says; nothing is allocated for the array before that is known.
 */
#ifndef VIT_NPY_H
#define VIT_NPY_H

#include <stddef.h>

enum { NPY_MAX_RANK = 8 };

typedef enum npy_dtype { NPY_U8, NPY_I32, NPY_I64, NPY_F32 } npy_dtype;

typedef struct npy {
    npy_dtype dtype;
    unsigned rank; /* 0: a single number */
    size_t dims[NPY_MAX_RANK];
    size_t count; /* elements: the product of the dims; 0 is a valid, empty array */
    void *data;   /* row-major, aligned, in the machine's byte order */
} npy;

/*
 * Reads the file at path. Returns 0, or -1 with one sentence in message that names the file and
 * what is wrong with it; *out is empty then. message may be NULL if message_size is 0. Release with
 * npy_close.
 */
int npy_open(const char *path, npy *out, char *message, size_t message_size);

/* The same for a file in memory, which is not needed any more afterwards. */
int npy_parse(const void *bytes, size_t size, npy *out, char *message, size_t message_size);

/*
 * Writes an array, in version 1.0. The file appears under its path only when it is complete, and
 * replaces what was there; until then it is called path + ".0.part" (".1.part" if that is taken).
 * Returns 0, or -1 with one sentence in message; then nothing is left and an older file is as it
 * was.
 */
int npy_write(const char *path, npy_dtype dtype, unsigned rank, const size_t *dims,
              const void *data, char *message, size_t message_size);

/* Frees the data and leaves *array empty; an empty one may be closed again. */
void npy_close(npy *array);

#endif
