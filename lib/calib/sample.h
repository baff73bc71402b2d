/*
 * sample.h - a bounded sample of rows that depends on nothing but the rows' numbers.
 *
 * Kept are the rows with the smallest keys, ordered by (hash, sample, row). Since the hash depends only
 * on (seed, site, sample, row), so does the set: a row that is pushed out by smaller keys could never
 * come back, whatever the order in which rows arrive.
 */
#ifndef QVITP_SAMPLE_H
#define QVITP_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "qvit.h"

/* What a row is made of; each part may come in a call of its own. */
enum qvitp_part {
    QVITP_PART_INPUT,
    QVITP_PART_INPUT_QUANTIZED,
    QVITP_PART_GRADIENT,
    QVITP_PART_TARGET,
    QVITP_PARTS
};

struct qvitp_key {
    uint64_t hash, sample, row;
};

/* Negative, 0 or positive, as a comes before b, is b, or comes after it. */
int qvitp_key_compare(const struct qvitp_key *a, const struct qvitp_key *b);

/* The hash of four numbers (a chain of splitmix64's finaliser). */
uint64_t qvitp_hash(uint64_t seed, uint64_t site, uint64_t sample, uint64_t row);

struct qvitp_sample_row {
    struct qvitp_key key;
    size_t slot;    /* of its numbers in the parts */
    uint32_t parts; /* mask of the parts that came */
};

struct qvitp_sample {
    size_t capacity, count, room; /* most rows, rows, rows that memory is reserved for */
    size_t width[QVITP_PARTS];    /* floats of a part; 0: not known yet */
    float *part[QVITP_PARTS];     /* [held][width], NULL until the part is first seen */
    size_t held[QVITP_PARTS];
    struct qvitp_sample_row *rows; /* [room], rising keys */
};

void qvitp_sample_free(struct qvitp_sample *sample, const qvit_engine *engine);

/* Reserve memory for `more` further rows, and for a part of this width, up to `limit` rows, which is the
 * capacity or what the capacity is about to become. 0 if memory runs out: nothing that is kept has
 * changed then. */
int qvitp_sample_reserve_rows(struct qvitp_sample *sample, const qvit_engine *engine, size_t more,
                              size_t limit);
int qvitp_sample_reserve_part(struct qvitp_sample *sample, const qvit_engine *engine,
                              enum qvitp_part part, size_t width, size_t limit);

/* The kept row with this key, or NULL. */
struct qvitp_sample_row *qvitp_sample_find(const struct qvitp_sample *sample,
                                           const struct qvitp_key *key);

/* Whether this part of a kept row came already. */
int qvitp_sample_has(const struct qvitp_sample *sample, const struct qvitp_key *key,
                     enum qvitp_part part);

/* Makes the row one of the kept, with no parts yet, unless it is one already; NULL if its key is too
 * large for that. The caller marks the part and writes its numbers. */
struct qvitp_sample_row *qvitp_sample_put(struct qvitp_sample *sample, const struct qvitp_key *key);

/* Takes these parts off all rows. */
void qvitp_sample_forget(struct qvitp_sample *sample, uint32_t parts);

/* Numbers of the rows that have all parts of the mask, in the order of (sample, row), into `order`
 * ([count]); returns how many. */
size_t qvitp_sample_order(const struct qvitp_sample *sample, uint32_t parts, size_t *order);

/* Where each sample ends in such an order: ends [count]; returns the number of samples. */
size_t qvitp_sample_ends(const struct qvitp_sample *sample, const size_t *order, size_t count,
                         size_t *ends);

/* The numbers of a part of a row. */
static inline float *qvitp_sample_part(const struct qvitp_sample *s,
                                       const struct qvitp_sample_row *row, enum qvitp_part part)
{
    return s->part[part] + row->slot * s->width[part];
}

#endif
