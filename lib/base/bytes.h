/*
 * bytes.h - numbers as little-endian bytes: a writer in front of a callback, and a reader that never
 * leaves its data.
 */
#ifndef QVITP_BYTES_H
#define QVITP_BYTES_H

#include <string.h>

#include "qvit.h"

static inline uint32_t qvitp_load32(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t qvitp_load64(const unsigned char *b)
{
    return qvitp_load32(b) | (uint64_t)qvitp_load32(b + 4) << 32;
}
static inline void qvitp_store32(unsigned char *b, uint32_t value)
{
    for (int i = 0; i < 4; i++) b[i] = (unsigned char)(value >> 8 * i);
}
static inline uint32_t qvitp_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float qvitp_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- checksums ---- */

/* Folds a word into a checksum. No step loses anything of either, so that a change inside one word is
 * always found, and any other with a probability of about 1 - 2^-64. */
static inline uint64_t qvitp_checksum_word(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
    return sum ^ sum >> 32;
}

/* The same with bytes, eight to a word; a rest is filled up with zeros. */
uint64_t qvitp_checksum(uint64_t sum, const unsigned char *data, size_t size);

/* ---- writing ---- */

enum { QVITP_WRITER_BUFFER = 4096 }; /* whole words */

struct qvitp_writer {
    qvit_write write; /* NULL: bytes are only counted */
    void *user;
    uint64_t size;     /* bytes put so far */
    uint64_t checksum; /* of those that were handed on */
    int32_t refused;   /* what `write` said when it was not 0; it is not called again */
    size_t used;
    unsigned char buffer[QVITP_WRITER_BUFFER];
};

void qvitp_put(struct qvitp_writer *writer, const void *data, size_t size);
void qvitp_put32(struct qvitp_writer *writer, uint32_t value);
void qvitp_put64(struct qvitp_writer *writer, uint64_t value);
void qvitp_put_floats(struct qvitp_writer *writer, const float *values, size_t count);

/* Hands on what is left: the end of bytes without a checksum. */
void qvitp_put_rest(struct qvitp_writer *writer);

/* Puts the checksum of all bytes behind them, and hands on what is left. */
void qvitp_put_checksum(struct qvitp_writer *writer);

/* ---- reading ---- */

struct qvitp_reader {
    const unsigned char *data;
    size_t size, at;
    qvit_error *error;
};

/* FORMAT, with the place that is to blame. */
qvit_status qvitp_malformed(const struct qvitp_reader *reader, size_t at, const char *what);

/* Moves past `size` bytes and shows them; FORMAT if there are fewer. */
qvit_status qvitp_get(struct qvitp_reader *reader, size_t size, const unsigned char **out);
qvit_status qvitp_get32(struct qvitp_reader *reader, uint32_t *out);
qvit_status qvitp_get64(struct qvitp_reader *reader, uint64_t *out);

/* Finite floats; FORMAT at the first that is not. `out` NULL: they are only checked. */
qvit_status qvitp_get_floats(struct qvitp_reader *reader, size_t count, float *out);

#endif
