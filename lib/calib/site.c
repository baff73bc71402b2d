/* site.c - taking in what flows through a site. */
#include "calib/site.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "engine.h"
#include "tensor.h"

/* ---- a tensor as [samples][heads][rows][columns] ---- */

struct block {
    const qvit_tensor *tensor; /* NULL: not given */
    size_t samples, heads, rows, cols;
    ptrdiff_t stride[4];
};

static float value_at(const struct block *b, ptrdiff_t offset)
{
    if (b->tensor->dtype == QVIT_DTYPE_U8) return ((const uint8_t *)b->tensor->data)[offset];
    return ((const float *)b->tensor->data)[offset];
}

static ptrdiff_t row_at(const struct block *b, size_t sample, size_t head, size_t row)
{
    return (ptrdiff_t)sample * b->stride[0] + (ptrdiff_t)head * b->stride[1] +
           (ptrdiff_t)row * b->stride[2];
}

static void copy_row(const struct block *b, ptrdiff_t offset, float *to)
{
    for (size_t j = 0; j < b->cols; j++) to[j] = value_at(b, offset + (ptrdiff_t)j * b->stride[3]);
}

static qvit_status check_finite(const struct block *b, const char *name, qvit_error *error)
{
    if (b->tensor->dtype == QVIT_DTYPE_U8) return QVIT_OK;
    for (size_t s = 0; s < b->samples; s++)
        for (size_t h = 0; h < b->heads; h++)
            for (size_t r = 0; r < b->rows; r++) {
                ptrdiff_t at = row_at(b, s, h, r);
                for (size_t j = 0; j < b->cols; j++)
                    if (!isfinite(value_at(b, at + (ptrdiff_t)j * b->stride[3])))
                        return qvitp_fail(error, QVIT_ERR_VALUE,
                                          "%s: sample %zu, row %zu, column %zu is not finite", name,
                                          s, r, j);
            }
    return QVIT_OK;
}

/* Checks one tensor of an observation and sees it as a block. NULL gives an empty block. */
static qvit_status read_block(const struct qvitp_site *site, const qvit_tensor *t, const char *name,
                              struct block *b, qvit_error *error)
{
    memset(b, 0, sizeof *b);
    if (!t) return QVIT_OK;
    QVITP_TRY(qvitp_tensor_check(t, name, QVIT_DTYPE_NONE, QVITP_ANY_LAST_STRIDE, error));
    int image = site->kind == QVIT_INPUT_IMAGE && t->dtype == QVIT_DTYPE_U8;
    if (t->dtype != QVIT_DTYPE_F32 && !image)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s is %s, not f32", name,
                          qvitp_dtype_name(t->dtype));
    int matmul = site->type == QVIT_SITE_MATMUL;
    if (matmul ? t->rank != 4 : t->rank != 2 && t->rank != 3)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has rank %d, not %s", name, (int)t->rank,
                          matmul ? "4" : "2 or 3");
    int32_t last = t->rank - 1;
    b->tensor = t;
    b->samples = t->dims[0], b->stride[0] = t->strides[0];
    b->heads = matmul ? t->dims[1] : 1, b->stride[1] = matmul ? t->strides[1] : 0;
    b->rows = t->rank > 2 ? t->dims[last - 1] : 1;
    b->stride[2] = t->rank > 2 ? t->strides[last - 1] : 0;
    b->cols = t->dims[last], b->stride[3] = t->strides[last];
    if (matmul && b->heads != site->heads)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has %zu heads, the site %zu", name, b->heads,
                          site->heads);
    return check_finite(b, name, error);
}

/* ---- one observation, checked ---- */

/* Left rows come in three parts; the right operand in two. */
struct seen {
    struct block part[QVITP_PARTS];
    struct block second[2];
    uint64_t first_sample, first_row;
    size_t inputs, outputs, second_rows; /* k and n as this call says them; 0: it does not */
};

static const char *const part_names[QVITP_PARTS] = {"input", "input_quantized", "gradient",
                                                    "target"};
static const char *const second_names[2] = {"second", "second_quantized"};

/* Joins what the tensors say about one size; 0 says nothing. */
static qvit_status agree(size_t *size, size_t said, const char *name, const char *what,
                         qvit_error *error)
{
    if (!said) return QVIT_OK;
    if (!*size) *size = said;
    if (*size == said) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: %s is %zu, not %zu", name, what, said, *size);
}

static qvit_status read_parts(const struct qvitp_site *site, const qvit_observation *o,
                              struct seen *seen, qvit_error *error)
{
    const qvit_tensor *parts[QVITP_PARTS] = {o->input, o->input_quantized, o->gradient, o->target};
    size_t rows = 0, samples = 0;
    for (int p = 0; p < QVITP_PARTS; p++) {
        struct block *b = &seen->part[p];
        if (parts[p] && p == QVITP_PART_TARGET && site->type != QVIT_SITE_LINEAR)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "target: a matmul site has none");
        QVITP_TRY(read_block(site, parts[p], part_names[p], b, error));
        size_t *width = qvitp_part_is_output((enum qvitp_part)p) ? &seen->outputs : &seen->inputs;
        QVITP_TRY(agree(width, b->cols, part_names[p], "the last size", error));
        QVITP_TRY(agree(&rows, b->rows, part_names[p], "the number of rows", error));
        QVITP_TRY(agree(&samples, b->samples, part_names[p], "the number of samples", error));
    }
    return QVIT_OK;
}

static qvit_status read_seconds(const struct qvitp_site *site, const qvit_observation *o,
                                struct seen *seen, qvit_error *error)
{
    const qvit_tensor *seconds[2] = {o->second, o->second_quantized};
    for (int p = 0; p < 2; p++) {
        struct block *b = &seen->second[p];
        if (seconds[p] && site->type != QVIT_SITE_MATMUL)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: a linear site has none",
                              second_names[p]);
        QVITP_TRY(read_block(site, seconds[p], second_names[p], b, error));
        int swapped = site->second_transposed;
        QVITP_TRY(agree(&seen->inputs, swapped ? b->cols : b->rows, second_names[p], "k", error));
        QVITP_TRY(agree(&seen->outputs, swapped ? b->rows : b->cols, second_names[p], "n", error));
    }
    return QVIT_OK;
}

static qvit_status read_observation(const struct qvitp_site *site, const qvit_observation *o,
                                    struct seen *seen, qvit_error *error)
{
    memset(seen, 0, sizeof *seen);
    seen->first_sample = o->first_sample;
    seen->first_row = o->first_row;
    seen->inputs = site->inputs;
    seen->outputs = site->outputs;
    if (!o->input && !o->input_quantized && !o->gradient && !o->target && !o->second &&
        !o->second_quantized)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the observation has no tensor");
    QVITP_TRY(read_parts(site, o, seen, error));
    return read_seconds(site, o, seen, error);
}

/* ---- memory, before anything is changed ---- */

static int reserve_stats(struct qvitp_site *site, const qvit_engine *engine, uint32_t streams)
{
    for (int i = 0; i < QVITP_STREAMS; i++) {
        if (!(streams >> i & 1) || site->stats[i].lo) continue;
        struct qvitp_stats made = {0};
        if (!qvitp_stats_init(&made, engine, qvitp_site_groups(site), qvitp_site_channels(site))) {
            qvitp_stats_free(&made, engine);
            return 0;
        }
        site->stats[i] = made;
    }
    return 1;
}

/* What a kept row costs beside its numbers: one constant on every machine, or they would not keep the
 * same rows. */
enum { ROW_BYTES = 40 };
_Static_assert(sizeof(struct qvitp_sample_row) <= ROW_BYTES, "rows take more than they count for");

/* How many rows of a linear site fit its memory, if every part comes. */
static size_t row_capacity(const struct qvitp_site *site, const struct qvitp_bounds *bounds)
{
    uint64_t one = 2 * ((uint64_t)site->inputs + site->outputs) * sizeof(float) + ROW_BYTES;
    return (size_t)(bounds->bytes / one < bounds->rows ? bounds->bytes / one : bounds->rows);
}

/* Left rows of one matrix, and matrices of one head, that fit; n 0: not known yet. */
size_t qvitp_left_capacity(const struct qvitp_bounds *bounds)
{
    size_t rows = bounds->rows / QVITP_MATRICES;
    return rows ? rows : 1;
}
static size_t matrix_capacity(size_t k, size_t n, size_t heads, const struct qvitp_bounds *bounds)
{
    if (!n) return QVITP_MATRICES;
    size_t right = qvitp_mul(2, qvitp_mul(n, k));
    size_t left = qvitp_mul(qvitp_left_capacity(bounds), qvitp_add(2 * k, n));
    uint64_t fit = bounds->bytes / heads / qvitp_mul(qvitp_add(left, right), sizeof(float));
    return (size_t)(fit < QVITP_MATRICES ? fit : QVITP_MATRICES);
}

size_t qvitp_site_capacity(const struct qvitp_site *site, const struct qvitp_bounds *bounds,
                           size_t inputs, size_t outputs)
{
    if (site->type == QVIT_SITE_LINEAR) return row_capacity(site, bounds);
    return matrix_capacity(inputs, outputs, site->heads, bounds);
}

/* Cuts the number of matrices, once n is known. No right operand is kept yet, so only the left rows
 * move: those of the smallest keys to the first slots, then memory that is free again. */
static void shrink_matrices(struct qvitp_matrices *m, const qvit_engine *engine, size_t capacity)
{
    if (!m->keys.capacity) m->keys.capacity = capacity;
    if (m->keys.capacity == capacity) return;
    struct qvitp_sample left[QVITP_MATRICES];
    int moved[QVITP_MATRICES] = {0};
    size_t next = qvitp_min(m->keys.count, capacity);
    memcpy(left, m->left, sizeof left);
    memset(m->left, 0, sizeof m->left);
    for (size_t i = 0; i < next; i++) {
        size_t slot = m->keys.rows[i].slot;
        m->left[i] = left[slot];
        moved[slot] = 1;
        m->keys.rows[i].slot = i;
    }
    m->keys.count = next;
    m->keys.capacity = capacity;
    m->keys.room = qvitp_min(m->keys.room, capacity);
    for (size_t slot = 0; slot < QVITP_MATRICES; slot++) {
        if (moved[slot]) continue;
        left[slot].count = 0;
        if (next < capacity) {
            m->left[next++] = left[slot];
        } else {
            qvitp_sample_free(&left[slot], engine);
        }
    }
}

static int reserve_parts(struct qvitp_sample *rows, const qvit_engine *engine,
                         const struct qvitp_need *need, size_t limit)
{
    for (int p = 0; p < QVITP_PARTS; p++) {
        enum qvitp_part part = (enum qvitp_part)p;
        size_t width = qvitp_part_is_output(part) ? need->outputs : need->inputs;
        if (need->parts >> p & 1 && !qvitp_sample_reserve_part(rows, engine, part, width, limit))
            return 0;
    }
    return 1;
}

/* `capacity` is what the number of matrices is about to become. */
static int reserve_head(struct qvitp_matrices *m, const qvit_engine *engine,
                        const struct qvitp_bounds *bounds, const struct qvitp_need *need,
                        size_t capacity)
{
    if (!qvitp_sample_reserve_rows(&m->keys, engine, need->rows, capacity)) return 0;
    for (int p = 0; p < 2; p++)
        if (need->seconds >> p & 1 &&
            !qvitp_sample_reserve_part(&m->keys, engine, (enum qvitp_part)p,
                                       qvitp_mul(need->inputs, need->outputs), capacity))
            return 0;
    for (size_t slot = 0; slot < m->keys.room; slot++) {
        struct qvitp_sample *left = &m->left[slot];
        left->capacity = qvitp_left_capacity(bounds);
        if (!qvitp_sample_reserve_rows(left, engine, need->left, left->capacity) ||
            !reserve_parts(left, engine, need, left->capacity))
            return 0;
    }
    return 1;
}

static qvit_status reserve_matmul(struct qvitp_site *site, const qvit_engine *engine,
                                  const struct qvitp_bounds *bounds, const struct qvitp_need *need,
                                  qvit_error *error)
{
    size_t capacity = matrix_capacity(need->inputs, need->outputs, site->heads, bounds);
    if (!capacity)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "max_bytes holds not one matrix of this site");
    if (!site->matrices)
        site->matrices = qvitp_engine_alloc(engine, site->heads, sizeof *site->matrices);
    if (!site->matrices) return qvitp_no_memory(error);
    for (size_t h = 0; h < site->heads; h++)
        if (!reserve_head(&site->matrices[h], engine, bounds, need, capacity))
            return qvitp_no_memory(error);
    return QVIT_OK;
}

static qvit_status reserve_linear(struct qvitp_site *site, const qvit_engine *engine,
                                  const struct qvitp_bounds *bounds, const struct qvitp_need *need,
                                  qvit_error *error)
{
    size_t capacity = site->rows.capacity = row_capacity(site, bounds);
    if (!capacity)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "max_bytes holds not one row of this site");
    if (!qvitp_sample_reserve_rows(&site->rows, engine, need->rows, capacity) ||
        !reserve_parts(&site->rows, engine, need, capacity))
        return qvitp_no_memory(error);
    return QVIT_OK;
}

qvit_status qvitp_site_reserve(struct qvitp_site *site, const qvit_engine *engine,
                               const struct qvitp_bounds *bounds, const struct qvitp_need *need,
                               qvit_error *error)
{
    if (!reserve_stats(site, engine, need->streams)) return qvitp_no_memory(error);
    if (site->type == QVIT_SITE_MATMUL) return reserve_matmul(site, engine, bounds, need, error);
    return reserve_linear(site, engine, bounds, need, error);
}

void qvitp_site_settle(struct qvitp_site *site, const qvit_engine *engine,
                       const struct qvitp_bounds *bounds, const struct qvitp_need *need)
{
    site->inputs = need->inputs;
    site->outputs = need->outputs;
    site->seen |= need->streams;
    if (site->type != QVIT_SITE_MATMUL) return;
    size_t capacity = matrix_capacity(site->inputs, site->outputs, site->heads, bounds);
    for (size_t h = 0; h < site->heads; h++) shrink_matrices(&site->matrices[h], engine, capacity);
}

/* ---- keys ---- */

/* The first row of a sample is a transformer's class token, the only one that the last block's output is
 * read from: it is drawn as if it came this many times. */
enum { FIRST_ROW_TIMES = 16 };

struct qvitp_key qvitp_site_key(const struct qvitp_site *site, const struct qvitp_bounds *bounds,
                                uint64_t sample, size_t head, uint64_t row)
{
    uint64_t number = (uint64_t)head << 32 | row; /* heads apart */
    uint64_t hash = qvitp_hash(bounds->seed, site->index, sample, number);
    return (struct qvitp_key){row ? hash : hash / FIRST_ROW_TIMES, sample, number};
}

struct qvitp_sample_row *qvitp_matrix_put(struct qvitp_matrices *m, const struct qvitp_key *key)
{
    struct qvitp_sample_row *matrix = qvitp_sample_put(&m->keys, key);
    if (!matrix) return NULL;
    /* A new key takes over the slot of an evicted one, with what lay there. */
    if (!matrix->parts) m->left[matrix->slot].count = 0;
    matrix->parts |= QVITP_HELD;
    return matrix;
}

/* ---- taking in ---- */

static void add_stats(struct qvitp_site *site, enum qvitp_stream stream, const struct block *b)
{
    struct qvitp_stats *stats = &site->stats[stream];
    int linear = site->type == QVIT_SITE_LINEAR;
    for (size_t s = 0; s < b->samples; s++)
        for (size_t h = 0; h < b->heads; h++)
            for (size_t r = 0; r < b->rows; r++) {
                ptrdiff_t at = row_at(b, s, h, r);
                for (size_t j = 0; j < b->cols; j++, at += b->stride[3])
                    qvitp_stats_add(stats, h, linear ? j : h, value_at(b, at));
            }
}

/* Calls for one row of a part, when only looking (`found` says whether it came before) or when keeping. */
struct visit {
    struct qvitp_site *site;
    const struct qvitp_bounds *bounds;
    const struct seen *seen;
    int keep;
};

/* Returns 1 if looking and the part came already. */
static int visit_row(const struct visit *v, struct qvitp_sample *rows, enum qvitp_part part,
                     size_t sample, size_t head, size_t row)
{
    const struct block *b = &v->seen->part[part];
    struct qvitp_key key = qvitp_site_key(v->site, v->bounds, v->seen->first_sample + sample, head,
                                          v->seen->first_row + row);
    if (!v->keep) return qvitp_sample_has(rows, &key, part);
    struct qvitp_sample_row *kept = qvitp_sample_put(rows, &key);
    if (!kept) return 0;
    kept->parts |= 1u << part;
    copy_row(b, row_at(b, sample, head, row), qvitp_sample_part(rows, kept, part));
    return 0;
}

static int visit_second(const struct visit *v, struct qvitp_matrices *m,
                        struct qvitp_sample_row *matrix, enum qvitp_part part, size_t sample,
                        size_t head)
{
    const struct block *b = &v->seen->second[part];
    if (!v->keep) return matrix->parts >> part & 1;
    matrix->parts |= 1u << part;
    float *to = qvitp_sample_part(&m->keys, matrix, part);
    for (size_t r = 0; r < b->rows; r++) copy_row(b, row_at(b, sample, head, r), to + r * b->cols);
    return 0;
}

/* The matrix of one sample and head: when keeping, made one of the kept; NULL if it is none. */
static struct qvitp_sample_row *find_matrix(const struct visit *v, struct qvitp_matrices *m,
                                            size_t sample, size_t head)
{
    struct qvitp_key key = qvitp_site_key(v->site, v->bounds, v->seen->first_sample + sample, head,
                                          QVITP_WHOLE_MATRIX);
    return v->keep ? qvitp_matrix_put(m, &key) : qvitp_sample_find(&m->keys, &key);
}

static int visit_matmul(const struct visit *v)
{
    for (size_t head = 0; v->site->matrices && head < v->site->heads; head++) {
        struct qvitp_matrices *m = &v->site->matrices[head];
        for (int p = 0; p < QVITP_PARTS; p++)
            for (size_t sample = 0; sample < v->seen->part[p].samples; sample++) {
                struct qvitp_sample_row *matrix = find_matrix(v, m, sample, head);
                for (size_t row = 0; matrix && row < v->seen->part[p].rows; row++)
                    if (visit_row(v, &m->left[matrix->slot], (enum qvitp_part)p, sample, head, row))
                        return 1;
            }
        for (int p = 0; p < 2; p++)
            for (size_t sample = 0; sample < v->seen->second[p].samples; sample++) {
                struct qvitp_sample_row *matrix = find_matrix(v, m, sample, head);
                if (matrix && visit_second(v, m, matrix, (enum qvitp_part)p, sample, head))
                    return 1;
            }
    }
    return 0;
}

static int visit_all(const struct visit *v)
{
    if (v->site->type == QVIT_SITE_MATMUL) return visit_matmul(v);
    for (int p = 0; p < QVITP_PARTS; p++)
        for (size_t sample = 0; sample < v->seen->part[p].samples; sample++)
            for (size_t row = 0; row < v->seen->part[p].rows; row++)
                if (visit_row(v, &v->site->rows, (enum qvitp_part)p, sample, 0, row)) return 1;
    return 0;
}

/* What an observation brings. All its parts have the same samples and rows. */
static struct qvitp_need need_of(const struct qvitp_site *site, const struct qvitp_bounds *bounds,
                                 const struct seen *seen)
{
    struct qvitp_need need = {
        .inputs = seen->inputs, .outputs = seen->outputs, .left = qvitp_left_capacity(bounds)};
    for (int p = 0; p < QVITP_PARTS; p++) {
        const struct block *b = &seen->part[p];
        if (!b->tensor) continue;
        need.parts |= 1u << p;
        if (p <= QVITP_PART_INPUT_QUANTIZED) need.streams |= 1u << (QVITP_STREAM_INPUT + p);
        need.rows = site->type == QVIT_SITE_LINEAR ? qvitp_mul(b->samples, b->rows) : b->samples;
    }
    for (int p = 0; p < 2; p++) {
        if (!seen->second[p].tensor) continue;
        need.seconds |= 1u << p;
        need.streams |= 1u << (QVITP_STREAM_SECOND + p);
        need.rows = qvitp_add(need.rows, seen->second[p].samples);
    }
    return need;
}

qvit_status qvitp_site_observe(struct qvitp_site *site, const qvit_engine *engine,
                               const struct qvitp_bounds *bounds, const qvit_observation *o,
                               qvit_error *error)
{
    struct seen seen;
    QVITP_TRY(read_observation(site, o, &seen, error));
    for (int p = 0; p < QVITP_PARTS; p++)
        if (seen.part[p].rows > QVITP_WHOLE_MATRIX ||
            seen.first_row > QVITP_WHOLE_MATRIX - seen.part[p].rows)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "row numbers go up to 2^31");
    struct visit visit = {site, bounds, &seen, 0};
    if (visit_all(&visit)) return qvitp_fail(error, QVIT_ERR_STATE, "a part of a row came twice");
    struct qvitp_need need = need_of(site, bounds, &seen);
    QVITP_TRY(qvitp_site_reserve(site, engine, bounds, &need, error));

    qvitp_site_settle(site, engine, bounds, &need); /* nothing can fail from here on */
    visit.keep = 1;
    visit_all(&visit);
    for (int p = 0; p <= QVITP_PART_INPUT_QUANTIZED; p++)
        if (seen.part[p].tensor)
            add_stats(site, (enum qvitp_stream)(QVITP_STREAM_INPUT + p), &seen.part[p]);
    for (int p = 0; p < 2; p++)
        if (seen.second[p].tensor)
            add_stats(site, (enum qvitp_stream)(QVITP_STREAM_SECOND + p), &seen.second[p]);
    return QVIT_OK;
}

void qvitp_site_forget(struct qvitp_site *site, const qvit_engine *engine)
{
    const uint32_t parts = 1u << QVITP_PART_INPUT_QUANTIZED | 1u << QVITP_PART_TARGET;
    const int streams[] = {QVITP_STREAM_INPUT_QUANTIZED, QVITP_STREAM_SECOND_QUANTIZED};
    for (int i = 0; i < 2; i++) {
        qvitp_stats_free(&site->stats[streams[i]], engine);
        site->seen &= ~(1u << streams[i]);
    }
    qvitp_sample_forget(&site->rows, parts);
    for (size_t h = 0; site->matrices && h < site->heads; h++) {
        qvitp_sample_forget(&site->matrices[h].keys, parts);
        for (int i = 0; i < QVITP_MATRICES; i++)
            qvitp_sample_forget(&site->matrices[h].left[i], parts);
    }
}

void qvitp_site_free(struct qvitp_site *site, const qvit_engine *engine)
{
    for (int i = 0; i < QVITP_STREAMS; i++) qvitp_stats_free(&site->stats[i], engine);
    qvitp_sample_free(&site->rows, engine);
    for (size_t h = 0; site->matrices && h < site->heads; h++) {
        qvitp_sample_free(&site->matrices[h].keys, engine);
        for (int i = 0; i < QVITP_MATRICES; i++)
            qvitp_sample_free(&site->matrices[h].left[i], engine);
    }
    qvitp_engine_free(engine, site->matrices);
    qvit_result_destroy(site->result);
}
