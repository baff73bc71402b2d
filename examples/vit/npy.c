#define _POSIX_C_SOURCE 200809L

#include "npy.h"

#include "files.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAGIC_BYTES = 6,
    PREFIX_BYTES = 12,       /* magic, version and length, where the length has four bytes */
    MAX_DICTIONARY = 0xFFFF, /* bytes; all that version 1.0 can express */
    HEADER_ROOM = 256,       /* what a header of eight dims of twenty digits needs, padded to 64 */
};

static const unsigned char magic[MAGIC_BYTES] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

static const struct {
    const char *descr;
    size_t size;
} dtypes[] = {
    [NPY_U8] = {"'|u1'", 1},
    [NPY_I32] = {"'<i4'", 4},
    [NPY_I64] = {"'<i8'", 8},
    [NPY_F32] = {"'<f4'", 4},
};

/* Multiplies the dims and the size of an element; false if memory cannot have so many bytes. */
static bool array_size(npy_dtype dtype, unsigned rank, const size_t *dims, size_t *size)
{
    *size = dtypes[dtype].size;
    for (unsigned i = 0; i < rank; i++) {
        if (dims[i] && *size > SIZE_MAX / dims[i]) return false;
        *size *= dims[i];
    }
    return true;
}

/* The files are little-endian: turns their elements into the machine's, and back, in place. */
static void swap_if_big_endian(unsigned char *bytes, size_t size, size_t width)
{
    const uint16_t probe = 1;
    if (*(const unsigned char *)&probe == 1) return;
    for (; size > 0; size -= width, bytes += width) {
        for (size_t i = 0; i < width / 2; i++) {
            unsigned char byte = bytes[i];
            bytes[i] = bytes[width - 1 - i];
            bytes[width - 1 - i] = byte;
        }
    }
}

/* ---- the header, read ---- */

/* All offsets count from the start of the file, of which the first `end` bytes can be read. */
struct parser {
    const unsigned char *bytes;
    size_t at, end;
    const char *problem;
};

static bool fail(struct parser *p, const char *problem)
{
    p->problem = problem;
    return false;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && p->bytes[p->at] == ' ') p->at++;
}

/* Steps over the text if it comes next. */
static bool take(struct parser *p, const char *wanted)
{
    skip_space(p);
    size_t length = strlen(wanted);
    if (p->end - p->at < length || memcmp(p->bytes + p->at, wanted, length)) return false;
    p->at += length;
    return true;
}

static bool expect(struct parser *p, const char *wanted, const char *problem)
{
    return take(p, wanted) || fail(p, problem);
}

static bool number(struct parser *p, size_t *out)
{
    skip_space(p);
    size_t start = p->at, value = 0;
    for (; p->at < p->end && p->bytes[p->at] >= '0' && p->bytes[p->at] <= '9'; p->at++) {
        size_t digit = (size_t)(p->bytes[p->at] - '0');
        if (value > (SIZE_MAX - digit) / 10) return fail(p, "the number is too large");
        value = value * 10 + digit;
    }
    if (p->at == start) return fail(p, "a number without sign was expected");
    if (p->bytes[start] == '0' && p->at > start + 1)
        return fail(p, "a number must not begin with a zero");
    *out = value;
    return true;
}

/* A tuple: () or (2,) or (2, 3) or (2, 3,), but (2) is a number in Python. */
static bool shape(struct parser *p, npy *out)
{
    out->rank = 0;
    if (!expect(p, "(", "the shape must be a tuple")) return false;
    while (!take(p, ")")) {
        if (out->rank == NPY_MAX_RANK) return fail(p, "the shape has more than 8 dimensions");
        if (!number(p, &out->dims[out->rank])) return false;
        out->rank++;
        if (take(p, ",")) continue;
        if (out->rank == 1) return fail(p, "a ',' must follow the only number of a shape");
        return expect(p, ")", "a ',' or ')' must follow a number of the shape");
    }
    return true;
}

static bool descr(struct parser *p, npy_dtype *out)
{
    for (unsigned i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (!take(p, dtypes[i].descr)) continue;
        *out = (npy_dtype)i;
        return true;
    }
    return fail(p, "the element type is not one of |u1, <i4, <i8 and <f4");
}

static bool row_major(struct parser *p)
{
    if (take(p, "False")) return true;
    if (take(p, "True")) return fail(p, "the array is in Fortran order, which is not read");
    return fail(p, "fortran_order must be False");
}

static bool dictionary(struct parser *p, npy *out)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    if (!expect(p, "{", "the header must be a dictionary")) return false;
    while (!take(p, "}")) {
        unsigned field = take(p, "'descr'")           ? DESCR
                         : take(p, "'fortran_order'") ? ORDER
                         : take(p, "'shape'")         ? SHAPE
                                                      : 0;
        if (field == 0) return fail(p, "'descr', 'fortran_order' or 'shape' was expected");
        if (seen & field) return fail(p, "the key is given twice");
        seen |= field;
        if (!expect(p, ":", "a ':' must follow a key")) return false;
        bool valid = field == DESCR   ? descr(p, &out->dtype)
                     : field == ORDER ? row_major(p)
                                      : shape(p, out);
        if (!valid) return false;
        if (take(p, ",")) continue;
        if (!expect(p, "}", "a ',' or '}' must follow a value")) return false;
        break;
    }
    return seen == (DESCR | ORDER | SHAPE) ||
           fail(p, "the header lacks 'descr', 'fortran_order' or 'shape'");
}

/* Magic, version and length; leaves the parser at the dictionary, and its end at the data. */
static bool prefix(struct parser *p)
{
    if (p->end < MAGIC_BYTES + 4 || memcmp(p->bytes, magic, MAGIC_BYTES))
        return fail(p, "this is not an .npy file");
    p->at = MAGIC_BYTES;
    unsigned major = p->bytes[MAGIC_BYTES], minor = p->bytes[MAGIC_BYTES + 1];
    if (major < 1 || major > 3 || minor != 0)
        return fail(p, "the version of the format is not 1.0, 2.0 or 3.0");
    p->at += 2;
    size_t width = major == 1 ? 2 : 4;
    if (p->end - p->at < width) return fail(p, "the file ends inside the length of its header");
    uint32_t length = 0;
    for (size_t i = width; i > 0; i--) length = length << 8 | p->bytes[p->at + i - 1];
    if (length > MAX_DICTIONARY) return fail(p, "the header is longer than 65535 bytes");
    if (length > p->end - p->at - width) return fail(p, "the file ends inside its header");
    p->at += width;
    p->end = p->at + length;
    return true;
}

/* Reads the header and holds the shape against the size of the file; p->end is where the data
 * begin, *size how many bytes they have. */
static bool header(struct parser *p, size_t file_size, npy *out, size_t *size)
{
    if (!prefix(p) || !dictionary(p, out)) return false;
    skip_space(p);
    if (p->at + 1 != p->end || p->bytes[p->at] != '\n')
        return fail(p, "only spaces and one line feed may follow the dictionary");
    if (!array_size(out->dtype, out->rank, out->dims, size))
        return fail(p, "the shape has more elements than memory has bytes");
    p->at = p->end;
    if (*size > file_size - p->end) return fail(p, "the file is shorter than its shape says");
    if (*size < file_size - p->end) return fail(p, "the file is longer than its shape says");
    out->count = *size / dtypes[out->dtype].size;
    /* One byte more, so that an empty array has data to point to as well. */
    out->data = malloc(*size + 1);
    return out->data || fail(p, "there is not enough memory for the array");
}

int npy_parse(const void *bytes, size_t size, npy *out, char *message, size_t message_size)
{
    struct parser p = {.bytes = bytes, .end = size};
    npy array = {0};
    size_t data_size;
    *out = array;
    if (!header(&p, size, &array, &data_size)) {
        snprintf(message, message_size, "byte %zu: %s", p.at, p.problem);
        return -1;
    }
    memcpy(array.data, p.bytes + p.end, data_size);
    swap_if_big_endian(array.data, data_size, dtypes[array.dtype].size);
    *out = array;
    return 0;
}

/* ---- a file, read ---- */

/* Reads the header through a small buffer, so that a large array is in memory only once. */
static bool read_array(FILE *stream, struct parser *p, unsigned char *head, npy *out)
{
    struct stat status;
    size_t data_size;
    if (fstat(fileno(stream), &status) || !S_ISREG(status.st_mode))
        return fail(p, "this is not a regular file");
    if ((uintmax_t)status.st_size >= SIZE_MAX)
        return fail(p, "there is not enough memory for the file");
    size_t size = (size_t)status.st_size, most = PREFIX_BYTES + MAX_DICTIONARY;
    p->bytes = head;
    p->end = fread(head, 1, size < most ? size : most, stream);
    if (!header(p, size, out, &data_size)) return false;
    if (fseek(stream, (long)p->end, SEEK_SET) ||
        fread(out->data, 1, data_size, stream) != data_size)
        return fail(p, "the array cannot be read in full");
    swap_if_big_endian(out->data, data_size, dtypes[out->dtype].size);
    return true;
}

int npy_open(const char *path, npy *out, char *message, size_t message_size)
{
    struct parser p = {0};
    npy array = {0};
    *out = array;
    FILE *stream = open_to_read(path);
    if (!stream) {
        snprintf(message, message_size, "%s: %s", path, strerror(errno));
        return -1;
    }
    unsigned char *head = malloc(PREFIX_BYTES + MAX_DICTIONARY);
    bool done = head ? read_array(stream, &p, head, &array) : fail(&p, "there is no memory left");
    free(head);
    fclose(stream);
    if (!done) {
        npy_close(&array);
        snprintf(message, message_size, "%s: byte %zu: %s", path, p.at, p.problem);
        return -1;
    }
    *out = array;
    return 0;
}

/* ---- a file, written ---- */

/* Fills in a header of version 1.0 and returns its size, a multiple of 64 as numpy makes it. */
static size_t format_header(unsigned char *out, npy_dtype dtype, unsigned rank, const size_t *dims)
{
    char *text = (char *)out;
    size_t used = MAGIC_BYTES + 4;
    used +=
        (size_t)snprintf(text + used, HEADER_ROOM - used,
                         "{'descr': %s, 'fortran_order': False, 'shape': (", dtypes[dtype].descr);
    for (unsigned i = 0; i < rank; i++) {
        const char *separator = rank == 1 ? "," : i + 1 < rank ? ", " : "";
        used += (size_t)snprintf(text + used, HEADER_ROOM - used, "%zu%s", dims[i], separator);
    }
    used += (size_t)snprintf(text + used, HEADER_ROOM - used, "), }");
    size_t size = (used + 1 + 63) / 64 * 64;
    assert(size <= HEADER_ROOM);
    memset(out + used, ' ', size - used - 1);
    out[size - 1] = '\n';
    memcpy(out, magic, MAGIC_BYTES);
    size_t length = size - MAGIC_BYTES - 4;
    const unsigned char rest[4] = {1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
    memcpy(out + MAGIC_BYTES, rest, sizeof rest);
    return size;
}

/* Elements pass through a buffer, where a big-endian machine can swap them. */
static bool write_elements(FILE *stream, const unsigned char *data, size_t size, size_t width)
{
    unsigned char buffer[4096];
    while (size > 0) {
        size_t part = size < sizeof buffer ? size : sizeof buffer;
        memcpy(buffer, data, part);
        swap_if_big_endian(buffer, part, width);
        if (fwrite(buffer, 1, part, stream) != part) return false;
        data += part;
        size -= part;
    }
    return true;
}

/* Returns only when all of it is on the disk. */
static bool write_array(FILE *stream, npy_dtype dtype, unsigned rank, const size_t *dims,
                        const void *data, size_t size)
{
    unsigned char head[HEADER_ROOM];
    size_t head_size = format_header(head, dtype, rank, dims);
    return fwrite(head, 1, head_size, stream) == head_size &&
           write_elements(stream, data, size, dtypes[dtype].size) && fflush(stream) == 0 &&
           fsync(fileno(stream)) == 0;
}

int npy_write(const char *path, npy_dtype dtype, unsigned rank, const size_t *dims,
              const void *data, char *message, size_t message_size)
{
    size_t size, part_size = strlen(path) + sizeof ".99.part";
    if (rank > NPY_MAX_RANK || !array_size(dtype, rank, dims, &size)) {
        snprintf(message, message_size, "%s: no array in memory has such a shape", path);
        return -1;
    }
    char *part = malloc(part_size);
    FILE *stream = part ? open_part(path, part, part_size) : NULL;
    bool written = stream && write_array(stream, dtype, rank, dims, data, size);
    int error = errno;
    if (stream && fclose(stream) && written) {
        error = errno;
        written = false;
    }
    if (written && rename(part, path)) {
        error = errno;
        written = false;
    }
    if (!written) {
        if (stream) remove(part);
        snprintf(message, message_size, "%s: the array cannot be written: %s", path,
                 strerror(error));
    }
    free(part);
    return written ? 0 : -1;
}

void npy_close(npy *array)
{
    free(array->data);
    *array = (npy){0};
}
