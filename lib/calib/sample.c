/* sample.c - a bounded sample of rows that depends on nothing but the rows' numbers. */
#include "calib/sample.h"

#include <string.h>

#include "base/checked.h"
#include "engine.h"

static uint64_t mix(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t qvitp_hash(uint64_t seed, uint64_t site, uint64_t sample, uint64_t row)
{
    return mix(mix(mix(mix(seed) ^ site) ^ sample) ^ row);
}

int qvitp_key_compare(const struct qvitp_key *a, const struct qvitp_key *b)
{
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    if (a->sample != b->sample) return a->sample < b->sample ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

void qvitp_sample_free(struct qvitp_sample *s, const qvit_engine *engine)
{
    for (size_t i = 0; i < QVITP_PARTS; i++) qvitp_engine_free(engine, s->part[i]);
    qvitp_engine_free(engine, s->rows);
    memset(s, 0, sizeof *s);
}

/* Replaces *array by a larger copy; 0 if memory runs out. */
static int grow(const qvit_engine *engine, void *array, size_t used, size_t room, size_t size)
{
    void *old, *larger = qvitp_engine_alloc(engine, room, size);
    if (!larger) return 0;
    memcpy(&old, array, sizeof old);
    if (old) memcpy(larger, old, used * size);
    qvitp_engine_free(engine, old);
    memcpy(array, &larger, sizeof larger);
    return 1;
}

/* Whether a kept row has this part. */
static int in_use(const struct qvitp_sample *s, size_t part)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->rows[i].parts >> part & 1) return 1;
    return 0;
}

static int grow_part(struct qvitp_sample *s, const qvit_engine *engine, size_t part, size_t rows)
{
    if (rows <= s->held[part]) return 1;
    if (!grow(engine, &s->part[part], s->held[part], rows, s->width[part] * sizeof(float)))
        return 0;
    s->held[part] = rows;
    return 1;
}

int qvitp_sample_reserve_rows(struct qvitp_sample *s, const qvit_engine *engine, size_t more,
                              size_t limit)
{
    size_t needed = qvitp_min(limit, qvitp_add(s->count, more));
    if (needed <= s->room) return 1;
    size_t room = qvitp_min(limit, needed + needed / 2);
    for (size_t i = 0; i < QVITP_PARTS; i++)
        if (in_use(s, i) && !grow_part(s, engine, i, room)) return 0;
    if (!grow(engine, &s->rows, s->count, room, sizeof *s->rows)) return 0;
    s->room = room;
    return 1;
}

int qvitp_sample_reserve_part(struct qvitp_sample *s, const qvit_engine *engine,
                              enum qvitp_part part, size_t width, size_t limit)
{
    if (s->width[part] != width) { /* left by a call that failed, if at all: nothing lies there */
        qvitp_engine_free(engine, s->part[part]);
        s->part[part] = NULL;
        s->held[part] = 0;
        s->width[part] = width;
    }
    return grow_part(s, engine, part, qvitp_min(s->room, limit));
}

/* The first row whose key is not smaller. */
static size_t find(const struct qvitp_sample *s, const struct qvitp_key *key)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (qvitp_key_compare(&s->rows[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int is_at(const struct qvitp_sample *s, size_t place, const struct qvitp_key *key)
{
    return place < s->count && qvitp_key_compare(&s->rows[place].key, key) == 0;
}

struct qvitp_sample_row *qvitp_sample_find(const struct qvitp_sample *s,
                                           const struct qvitp_key *key)
{
    size_t place = find(s, key);
    return is_at(s, place, key) ? &s->rows[place] : NULL;
}

int qvitp_sample_has(const struct qvitp_sample *s, const struct qvitp_key *key,
                     enum qvitp_part part)
{
    const struct qvitp_sample_row *row = qvitp_sample_find(s, key);
    return row && row->parts >> part & 1;
}

struct qvitp_sample_row *qvitp_sample_put(struct qvitp_sample *s, const struct qvitp_key *key)
{
    size_t place = find(s, key);
    if (!is_at(s, place, key)) {
        if (place == s->capacity) return NULL;
        /* The slot of the largest key is taken over once all are in use. */
        size_t slot = s->count;
        if (s->count == s->capacity) slot = s->rows[--s->count].slot;
        memmove(s->rows + place + 1, s->rows + place, (s->count - place) * sizeof *s->rows);
        s->rows[place] = (struct qvitp_sample_row){*key, slot, 0};
        s->count++;
    }
    return &s->rows[place];
}

/* Whether a comes before b in (sample, row). */
static int before(const struct qvitp_key *a, const struct qvitp_key *b)
{
    return a->sample != b->sample ? a->sample < b->sample : a->row < b->row;
}

static void sift_down(const struct qvitp_sample *s, size_t *order, size_t root, size_t count)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && before(&s->rows[order[child]].key, &s->rows[order[child + 1]].key))
            child++;
        if (!before(&s->rows[order[root]].key, &s->rows[order[child]].key)) return;
        size_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
    }
}

size_t qvitp_sample_order(const struct qvitp_sample *s, uint32_t parts, size_t *order)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        if ((s->rows[i].parts & parts) == parts) order[count++] = i;
    /* Heap sort: qsort may allocate, and has no argument for the rows. */
    for (size_t root = count / 2; root-- > 0;) sift_down(s, order, root, count);
    for (size_t end = count; end-- > 1;) {
        size_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift_down(s, order, 0, end);
    }
    return count;
}

size_t qvitp_sample_ends(const struct qvitp_sample *s, const size_t *order, size_t count,
                         size_t *ends)
{
    size_t samples = 0;
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || s->rows[order[i]].key.sample != s->rows[order[i + 1]].key.sample)
            ends[samples++] = i + 1;
    return samples;
}

void qvitp_sample_forget(struct qvitp_sample *s, uint32_t parts)
{
    for (size_t i = 0; i < s->count; i++) s->rows[i].parts &= ~parts;
}
