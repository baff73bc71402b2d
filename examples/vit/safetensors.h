/*
 * safetensors.h - reads model files in the safetensors format.
 *
 * A file is an 8-byte little-endian length, a JSON header of that length, and the tensors' bytes:
 *
 *     {"__metadata__": {"key": "text"},
 *      "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
 *
 * The reader trusts nothing in it. A file is taken only if the header is exactly that (strict JSON,
 * no unknown, missing or repeated member), if every tensor's offsets agree with its shape and type,
 * and if the tensors tile the data section without a gap, an overlap or a byte left over. Whatever
 * the bytes, reading never leaves them, never recurses, and allocates at most about four times
 * the size of the file and 64 KB.
 *
 *     safetensors model;
 *     char message[256];
 *     if (safetensors_open("model.safetensors", &model, message, sizeof message)) {
 *         fprintf(stderr, "%s\n", message);
 *         return 1;
 *     }
 *     const safetensors_tensor *weight = safetensors_find(&model, "head.weight");
 *     ...
 *     safetensors_close(&model);
 */
#ifndef VIT_SAFETENSORS_H
#define VIT_SAFETENSORS_H

#include <stddef.h>

enum {
    SAFETENSORS_MAX_RANK = 8,
    SAFETENSORS_MAX_METADATA = 1024,   /* entries of __metadata__ */
    SAFETENSORS_MAX_HEADER = 100000000 /* bytes; the limit of the format's own library */
};

/* The element types that are whole bytes wide; a file that holds any other is refused. */
typedef enum safetensors_dtype {
    SAFETENSORS_BOOL,
    SAFETENSORS_U8,
    SAFETENSORS_I8,
    SAFETENSORS_F8_E4M3,
    SAFETENSORS_F8_E5M2,
    SAFETENSORS_U16,
    SAFETENSORS_I16,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_U32,
    SAFETENSORS_I32,
    SAFETENSORS_F32,
    SAFETENSORS_U64,
    SAFETENSORS_I64,
    SAFETENSORS_F64
} safetensors_dtype;

/* Everything a tensor points to belongs to the safetensors that holds it. */
typedef struct safetensors_tensor {
    const char *name;          /* UTF-8 */
    const unsigned char *data; /* little-endian, row-major; not aligned in general */
    size_t size;               /* bytes of data: the product of the dims times the element's size */
    safetensors_dtype dtype;
    unsigned rank;
    size_t dims[SAFETENSORS_MAX_RANK];
} safetensors_tensor;

typedef struct safetensors_pair {
    const char *key, *value; /* UTF-8 */
} safetensors_pair;

typedef struct safetensors {
    size_t count;
    safetensors_tensor *tensors; /* sorted by name, every name once */
    size_t metadata_count;
    safetensors_pair *metadata; /* sorted by key, every key once */
    char *text;                 /* holds the names and the metadata */
    void *file;                 /* what safetensors_open read, or NULL */
} safetensors;

/*
 * Reads the file at path into memory. Returns 0, or -1 with one sentence in message that names the
 * file, the byte and what is wrong there; *out is empty then. message may be NULL if message_size
 * is 0. Release with safetensors_close.
 */
int safetensors_open(const char *path, safetensors *out, char *message, size_t message_size);

/* The same for a file that is in memory already. The bytes are not copied: they must stay. */
int safetensors_parse(const void *bytes, size_t size, safetensors *out, char *message,
                      size_t message_size);

/* The tensor of that name, or NULL. */
const safetensors_tensor *safetensors_find(const safetensors *file, const char *name);

/* The text that __metadata__ has under key, or NULL. */
const char *safetensors_metadata(const safetensors *file, const char *key);

/*
 * Converts all elements of an F32, F16 or BF16 tensor, exactly. out has room for one float per
 * element. Returns 0, or -1 for a tensor of another type, which leaves out untouched.
 */
int safetensors_to_f32(const safetensors_tensor *tensor, float *out);

/* Frees what *file owns and leaves it empty; an empty one may be closed again. */
void safetensors_close(safetensors *file);

#endif
