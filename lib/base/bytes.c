/* bytes.c - numbers as little-endian bytes. */
#include "base/bytes.h"

#include <math.h>

#include "base/checked.h"
#include "base/error.h"

uint64_t qvitp_checksum(uint64_t sum, const unsigned char *data, size_t size)
{
    for (; size >= 8; data += 8, size -= 8) sum = qvitp_checksum_word(sum, qvitp_load64(data));
    if (!size) return sum;
    unsigned char rest[8] = {0};
    memcpy(rest, data, size);
    return qvitp_checksum_word(sum, qvitp_load64(rest));
}

/* ---- writing ---- */

void qvitp_put_rest(struct qvitp_writer *w)
{
    if (w->write && w->used && !w->refused) w->refused = w->write(w->user, w->buffer, w->used);
    w->used = 0;
}

void qvitp_put(struct qvitp_writer *w, const void *data, size_t size)
{
    const unsigned char *from = data;
    w->size += size;
    while (w->write && size) {
        size_t part = qvitp_min(size, QVITP_WRITER_BUFFER - w->used);
        memcpy(w->buffer + w->used, from, part);
        w->used += part, from += part, size -= part;
        if (w->used < QVITP_WRITER_BUFFER) continue;
        w->checksum = qvitp_checksum(w->checksum, w->buffer, w->used);
        qvitp_put_rest(w);
    }
}

void qvitp_put32(struct qvitp_writer *w, uint32_t value)
{
    unsigned char bytes[4];
    qvitp_store32(bytes, value);
    qvitp_put(w, bytes, sizeof bytes);
}

void qvitp_put64(struct qvitp_writer *w, uint64_t value)
{
    qvitp_put32(w, (uint32_t)value);
    qvitp_put32(w, (uint32_t)(value >> 32));
}

void qvitp_put_floats(struct qvitp_writer *w, const float *values, size_t count)
{
    if (!w->write) {
        w->size += (uint64_t)count * 4;
        return;
    }
    unsigned char bytes[4 * 64];
    for (size_t done = 0, part; done < count; done += part) {
        part = qvitp_min(count - done, 64);
        for (size_t i = 0; i < part; i++)
            qvitp_store32(bytes + 4 * i, qvitp_float_bits(values[done + i]));
        qvitp_put(w, bytes, 4 * part);
    }
}

void qvitp_put_checksum(struct qvitp_writer *w)
{
    w->checksum = qvitp_checksum(w->checksum, w->buffer, w->used);
    qvitp_put_rest(w);
    qvitp_put64(w, w->checksum);
    qvitp_put_rest(w);
}

/* ---- reading ---- */

qvit_status qvitp_malformed(const struct qvitp_reader *r, size_t at, const char *what)
{
    qvitp_fail(r->error, QVIT_ERR_FORMAT, "byte %zu: %s", at, what);
    if (r->error) r->error->offset = at;
    return QVIT_ERR_FORMAT;
}

qvit_status qvitp_get(struct qvitp_reader *r, size_t size, const unsigned char **out)
{
    if (size > r->size - r->at)
        return qvitp_malformed(r, r->at, "what begins here ends behind the data");
    *out = r->data + r->at;
    r->at += size;
    return QVIT_OK;
}

qvit_status qvitp_get32(struct qvitp_reader *r, uint32_t *out)
{
    const unsigned char *bytes = NULL;
    QVITP_TRY(qvitp_get(r, 4, &bytes));
    *out = qvitp_load32(bytes);
    return QVIT_OK;
}

qvit_status qvitp_get64(struct qvitp_reader *r, uint64_t *out)
{
    const unsigned char *bytes = NULL;
    QVITP_TRY(qvitp_get(r, 8, &bytes));
    *out = qvitp_load64(bytes);
    return QVIT_OK;
}

qvit_status qvitp_get_floats(struct qvitp_reader *r, size_t count, float *out)
{
    const size_t start = r->at;
    const unsigned char *bytes = NULL;
    QVITP_TRY(qvitp_get(r, qvitp_mul(count, 4), &bytes));
    for (size_t i = 0; i < count; i++) {
        float value = qvitp_bits_float(qvitp_load32(bytes + 4 * i));
        if (!isfinite(value)) return qvitp_malformed(r, start + 4 * i, "a number is not finite");
        if (out) out[i] = value;
    }
    return QVIT_OK;
}
