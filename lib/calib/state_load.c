/*
 * state_load.c - taking in what another calibrator, or this one in another life, observed.
 *
 * Every byte is read twice by the same code: once to check it and to find out how much memory it needs,
 * and, when all of that is reserved for all sites and nothing can fail any more, once to keep it.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "calib/state.h"
#include "engine.h"

/* What comes to one site. */
struct arrival {
    struct qvitp_need need;
    size_t at; /* where its part of the data begins */
};

struct loading {
    struct qvitp_reader in;
    struct qvitp_bounds bounds;
    struct qvitp_site *site;
    struct arrival *arrival; /* of the site */
    size_t inputs, outputs;  /* of the site as the state says; 0: it did not know */
    int keep;                /* put what is read; else check it */
};

/* ---- what comes before the sites ---- */

static qvit_status check_header(struct qvitp_reader *in, size_t size)
{
    for (size_t i = 0; i < QVITP_STATE_MAGIC && i < size; i++)
        if (in->data[i] != qvitp_state_magic[i])
            return qvitp_malformed(in, i, "this is not the state of a calibrator");
    const unsigned char *magic = NULL;
    uint32_t version = 0, zero = 0;
    uint64_t total = 0;
    QVITP_TRY(qvitp_get(in, QVITP_STATE_MAGIC, &magic));
    QVITP_TRY(qvitp_get32(in, &version));
    if (version > QVITP_STATE_VERSION) {
        qvitp_fail(in->error, QVIT_ERR_VERSION, "a state of version %u; this library reads %d",
                   (unsigned)version, QVITP_STATE_VERSION);
        if (in->error) in->error->offset = QVITP_STATE_MAGIC;
        return QVIT_ERR_VERSION;
    }
    if (!version) return qvitp_malformed(in, QVITP_STATE_MAGIC, "there is no version 0");
    QVITP_TRY(qvitp_get32(in, &zero));
    if (zero) return qvitp_malformed(in, in->at - 4, "not 0");
    QVITP_TRY(qvitp_get64(in, &total));
    if (total < QVITP_STATE_HEADER + 8) return qvitp_malformed(in, in->at - 8, "too small a size");
    if (size < total) return qvitp_malformed(in, size, "the data end here, and are said to go on");
    if (size > total)
        return qvitp_malformed(in, (size_t)total, "more data follow than are said to");
    return QVIT_OK;
}

static qvit_status check_checksum(struct qvitp_reader *in)
{
    in->size -= 8; /* from here on all but the checksum */
    if (qvitp_checksum(0, in->data, in->size) == qvitp_load64(in->data + in->size)) return QVIT_OK;
    qvitp_fail(in->error, QVIT_ERR_CHECKSUM, "the data do not match their checksum");
    if (in->error) in->error->offset = in->size;
    return QVIT_ERR_CHECKSUM;
}

static qvit_status check_limits(struct qvitp_reader *in, const qvit_calibrator *c)
{
    static const char *const names[] = {"seed", "max_bytes", "max_rows"};
    const uint64_t ours[] = {c->seed, c->max_bytes, c->max_rows};
    uint64_t said = 0;
    for (int i = 0; i < 3; i++) {
        QVITP_TRY(qvitp_get64(in, &said));
        if (said != ours[i])
            return qvitp_fail(in->error, QVIT_ERR_STATE,
                              "the state was saved with %s %llu, not %llu", names[i],
                              (unsigned long long)said, (unsigned long long)ours[i]);
    }
    QVITP_TRY(qvitp_get64(in, &said));
    if (said == c->count) return QVIT_OK;
    return qvitp_fail(in->error, QVIT_ERR_STATE,
                      "a state of another model: it has %llu sites, the calibrator %zu",
                      (unsigned long long)said, c->count);
}

/* ---- what the sites are ---- */

/* Numbers that say nothing to people are not shown. */
static const struct {
    const char *name;
    int shown;
} fields[QVITP_STATE_FIELDS] = {
    [QVITP_STATE_TYPE] = {"type", 1},
    [QVITP_STATE_KIND] = {"input kind", 1},
    [QVITP_STATE_HEADS] = {"number of heads", 1},
    [QVITP_STATE_TRANSPOSED] = {"second_transposed", 1},
    [QVITP_STATE_INPUTS] = {"number of inputs", 1},
    [QVITP_STATE_OUTPUTS] = {"number of outputs", 1},
    [QVITP_STATE_INPUT_TIE] = {"tied input", 0},
    [QVITP_STATE_PRODUCER] = {"producer", 0},
    [QVITP_STATE_WEIGHT] = {"weight", 0},
    [QVITP_STATE_BIAS] = {"bias", 0},
};

/* `may_differ`: one of the two may be 0 and say nothing. */
static qvit_status check_field(struct qvitp_reader *in, int i, uint64_t ours, int may_differ)
{
    uint64_t said = 0;
    QVITP_TRY(qvitp_get64(in, &said));
    if (said == ours || (may_differ && !said)) return QVIT_OK;
    if (may_differ && !ours) {
        if (said <= PTRDIFF_MAX / sizeof(float)) return QVIT_OK;
        return qvitp_malformed(in, in->at - 8, "too large a size");
    }
    if (fields[i].shown)
        return qvitp_fail(in->error, QVIT_ERR_STATE, "a state of another model: %s %llu, not %llu",
                          fields[i].name, (unsigned long long)said, (unsigned long long)ours);
    return qvitp_fail(in->error, QVIT_ERR_STATE, "a state of another model: another %s",
                      fields[i].name);
}

static qvit_status check_site(struct qvitp_reader *in, const struct qvitp_site *site)
{
    const unsigned char *name = NULL;
    QVITP_TRY(qvitp_get(in, QVITP_STATE_NAME, &name));
    if (memcmp(name, site->name, QVITP_STATE_NAME))
        return qvitp_fail(in->error, QVIT_ERR_STATE, "a state of another model: called \"%.63s\"",
                          (const char *)name);
    uint64_t ours[QVITP_STATE_FIELDS];
    qvitp_state_describe(site, ours);
    for (int i = 0; i < QVITP_STATE_FIELDS; i++) {
        int size = i == QVITP_STATE_INPUTS || i == QVITP_STATE_OUTPUTS;
        QVITP_TRY(check_field(in, i, ours[i], size && site->type == QVIT_SITE_MATMUL));
    }
    return QVIT_OK;
}

static qvit_status check_sites(struct qvitp_reader *in, const qvit_calibrator *c)
{
    for (size_t i = 0; i < c->count; i++) {
        qvit_status status = check_site(in, c->sites[i]);
        if (status == QVIT_OK) continue;
        qvitp_fail_in(in->error, c->sites[i]->label);
        return status;
    }
    return QVIT_OK;
}

/* ---- statistics ---- */

static qvit_status read_ranges(struct loading *l, struct qvitp_stats *stats)
{
    const size_t channels = qvitp_site_channels(l->site), start = l->in.at;
    QVITP_TRY(qvitp_get_floats(&l->in, qvitp_mul(2, channels), NULL));
    const unsigned char *lows = l->in.data + start, *highs = lows + 4 * channels;
    for (size_t i = 0; i < channels; i++) {
        float lo = qvitp_bits_float(qvitp_load32(lows + 4 * i));
        float hi = qvitp_bits_float(qvitp_load32(highs + 4 * i));
        if (lo > hi) return qvitp_malformed(&l->in, start + 4 * i, "a minimum above its maximum");
        if (l->keep) qvitp_stats_add_range(stats, i, lo, hi);
    }
    return QVIT_OK;
}

/* `stats` has no memory yet if the stream was never seen here. */
static qvit_status read_histogram(struct loading *l, struct qvitp_stats *stats, size_t group)
{
    uint64_t bins = 0, count = 0;
    uint32_t bin = 0, least = 0;
    QVITP_TRY(qvitp_get64(&l->in, &bins));
    for (uint64_t i = 0; i < bins; i++, least = bin + 1) {
        const size_t at = l->in.at;
        QVITP_TRY(qvitp_get32(&l->in, &bin));
        QVITP_TRY(qvitp_get64(&l->in, &count));
        if (bin < least || bin >= QVITP_SIGNED_BINS)
            return qvitp_malformed(&l->in, at, "a bin that does not follow");
        uint64_t *ours = stats->histogram ? qvitp_stats_bin(stats, group, bin) : NULL;
        if (!count || (ours && count > UINT64_MAX - *ours))
            return qvitp_malformed(&l->in, at + 4, "a count of 0, or too large to add");
        if (l->keep) *ours += count;
    }
    return QVIT_OK;
}

static qvit_status read_streams(struct loading *l)
{
    uint32_t streams = 0, zero = 0;
    const size_t at = l->in.at;
    QVITP_TRY(qvitp_get32(&l->in, &streams));
    QVITP_TRY(qvitp_get32(&l->in, &zero));
    if (streams >> QVITP_STREAMS || zero) return qvitp_malformed(&l->in, at, "unknown streams");
    uint32_t second = 1u << QVITP_STREAM_SECOND | 1u << QVITP_STREAM_SECOND_QUANTIZED;
    int matmul = l->site->type == QVIT_SITE_MATMUL;
    if (matmul ? !streams != !l->inputs || (streams & second && !l->outputs) : streams & second)
        return qvitp_malformed(&l->in, at, "streams that this site cannot have");
    l->arrival->need.streams = streams;
    for (int i = 0; i < QVITP_STREAMS; i++) {
        if (!(streams >> i & 1)) continue;
        QVITP_TRY(read_ranges(l, &l->site->stats[i]));
        for (size_t group = 0; group < qvitp_site_groups(l->site); group++)
            QVITP_TRY(read_histogram(l, &l->site->stats[i], group));
    }
    return QVIT_OK;
}

/* ---- rows ---- */

/* The number of rows or matrices of a list, which are no more than a calibrator keeps. */
static qvit_status read_count(struct loading *l, size_t capacity, size_t *out)
{
    uint64_t count = 0;
    QVITP_TRY(qvitp_get64(&l->in, &count));
    if (count > capacity)
        return qvitp_malformed(&l->in, l->in.at - 8, "more than the limits let a site keep");
    *out = (size_t)count;
    return QVIT_OK;
}

/* A key must be larger than the one before it, if any. */
static qvit_status check_order(const struct loading *l, size_t at, const struct qvitp_key *key,
                               struct qvitp_key *last, size_t number)
{
    if (number && qvitp_key_compare(last, key) >= 0)
        return qvitp_malformed(&l->in, at, "a row that does not follow");
    *last = *key;
    return QVIT_OK;
}

/* The mask of parts, all of them among `possible`. `row`: of the same key, or NULL. When looking, the
 * kept one, which must not have any of them; when keeping, where they go. */
static qvit_status read_mask(struct loading *l, uint32_t possible,
                             const struct qvitp_sample_row *row, uint32_t *parts)
{
    QVITP_TRY(qvitp_get32(&l->in, parts));
    if (*parts & ~possible) return qvitp_malformed(&l->in, l->in.at - 4, "unknown parts");
    if (l->keep || !row || !(row->parts & *parts)) return QVIT_OK;
    return qvitp_fail(l->in.error, QVIT_ERR_STATE,
                      "a part of sample %llu came twice: here and in the state",
                      (unsigned long long)row->key.sample);
}

/* The numbers of one part. */
static qvit_status read_part(struct loading *l, const struct qvitp_sample *rows,
                             struct qvitp_sample_row *row, enum qvitp_part part, size_t width)
{
    int keep = l->keep && row;
    if (keep) row->parts |= 1u << part;
    return qvitp_get_floats(&l->in, width, keep ? qvitp_sample_part(rows, row, part) : NULL);
}

/* `rows`: the sample that the row is to become a part of, NULL if it is not kept. */
static qvit_status read_row(struct loading *l, struct qvitp_sample *rows, uint64_t sample,
                            size_t head, struct qvitp_key *last, size_t number)
{
    const size_t at = l->in.at;
    uint64_t row_number = 0;
    uint32_t parts = 0, possible = 0;
    QVITP_TRY(qvitp_get64(&l->in, &row_number));
    if (row_number >= QVITP_WHOLE_MATRIX) return qvitp_malformed(&l->in, at, "too large a row");
    struct qvitp_key key = qvitp_site_key(l->site, &l->bounds, sample, head, row_number);
    QVITP_TRY(check_order(l, at, &key, last, number));
    struct qvitp_sample_row *row = NULL;
    if (rows) row = l->keep ? qvitp_sample_put(rows, &key) : qvitp_sample_find(rows, &key);
    for (int p = 0; p < QVITP_PARTS; p++)
        if (qvitp_part_is_output((enum qvitp_part)p) ? l->outputs : l->inputs) possible |= 1u << p;
    QVITP_TRY(read_mask(l, possible, row, &parts));
    if (!parts) return qvitp_malformed(&l->in, at, "a row without numbers");
    l->arrival->need.parts |= parts;
    for (int p = 0; p < QVITP_PARTS; p++) {
        size_t width = qvitp_part_is_output((enum qvitp_part)p) ? l->outputs : l->inputs;
        if (parts >> p & 1) QVITP_TRY(read_part(l, rows, row, (enum qvitp_part)p, width));
    }
    return QVIT_OK;
}

static qvit_status read_linear(struct loading *l)
{
    size_t count = 0;
    uint64_t sample = 0;
    struct qvitp_key last = {0};
    QVITP_TRY(
        read_count(l, qvitp_site_capacity(l->site, &l->bounds, l->inputs, l->outputs), &count));
    l->arrival->need.rows = count;
    for (size_t i = 0; i < count; i++) {
        QVITP_TRY(qvitp_get64(&l->in, &sample));
        QVITP_TRY(read_row(l, &l->site->rows, sample, 0, &last, i));
    }
    return QVIT_OK;
}

/* ---- matrices ---- */

static qvit_status read_seconds(struct loading *l, struct qvitp_matrices *m,
                                struct qvitp_sample_row *matrix)
{
    uint32_t parts = 0, possible = 1u << QVITP_PART_INPUT | 1u << QVITP_PART_INPUT_QUANTIZED;
    size_t width = qvitp_mul(l->inputs, l->outputs);
    QVITP_TRY(read_mask(l, width ? possible : 0, matrix, &parts));
    l->arrival->need.seconds |= parts;
    for (int p = 0; p < QVITP_PARTS; p++)
        if (parts >> p & 1)
            QVITP_TRY(read_part(l, m ? &m->keys : NULL, matrix, (enum qvitp_part)p, width));
    return QVIT_OK;
}

static qvit_status read_matrix(struct loading *l, struct qvitp_matrices *m, size_t head,
                               struct qvitp_key *last, size_t number)
{
    const size_t at = l->in.at;
    uint64_t sample = 0;
    QVITP_TRY(qvitp_get64(&l->in, &sample));
    struct qvitp_key key = qvitp_site_key(l->site, &l->bounds, sample, head, QVITP_WHOLE_MATRIX);
    QVITP_TRY(check_order(l, at, &key, last, number));
    struct qvitp_sample_row *matrix = NULL;
    if (m) matrix = l->keep ? qvitp_matrix_put(m, &key) : qvitp_sample_find(&m->keys, &key);
    QVITP_TRY(read_seconds(l, m, matrix));
    struct qvitp_sample *left = matrix ? &m->left[matrix->slot] : NULL;
    struct qvitp_need *need = &l->arrival->need;
    struct qvitp_key last_row = {0};
    size_t rows = 0;
    QVITP_TRY(read_count(l, qvitp_left_capacity(&l->bounds), &rows));
    if (rows > need->left) need->left = rows;
    for (size_t i = 0; i < rows; i++) QVITP_TRY(read_row(l, left, sample, head, &last_row, i));
    return QVIT_OK;
}

static qvit_status read_matmul(struct loading *l)
{
    if (!l->inputs && !l->outputs) return QVIT_OK;
    size_t capacity = qvitp_site_capacity(l->site, &l->bounds, l->inputs, l->outputs);
    for (size_t head = 0; head < l->site->heads; head++) {
        struct qvitp_matrices *m = l->site->matrices ? &l->site->matrices[head] : NULL;
        struct qvitp_key last = {0};
        size_t count = 0;
        QVITP_TRY(read_count(l, capacity, &count));
        if (count > l->arrival->need.rows) l->arrival->need.rows = count;
        for (size_t i = 0; i < count; i++) QVITP_TRY(read_matrix(l, m, head, &last, i));
    }
    return QVIT_OK;
}

/* ---- one site, all sites ---- */

/* Reads what comes to site number i: checks it and sets its arrival, or keeps it. */
static qvit_status read_site(struct loading *l, const qvit_calibrator *c, size_t i,
                             struct arrival *arrivals)
{
    /* What the site is was checked: its sizes lie at a known place. */
    const unsigned char *field = l->in.data + QVITP_STATE_HEADER + i * QVITP_STATE_SITE;
    field += QVITP_STATE_NAME;
    l->inputs = (size_t)qvitp_load64(field + 8 * QVITP_STATE_INPUTS);
    l->outputs = (size_t)qvitp_load64(field + 8 * QVITP_STATE_OUTPUTS);
    l->site = c->sites[i];
    l->arrival = &arrivals[i];
    if (l->keep) {
        l->in.at = arrivals[i].at;
    } else {
        arrivals[i].at = l->in.at;
        arrivals[i].need.inputs = l->inputs ? l->inputs : l->site->inputs;
        arrivals[i].need.outputs = l->outputs ? l->outputs : l->site->outputs;
    }
    QVITP_TRY(read_streams(l));
    return l->site->type == QVIT_SITE_LINEAR ? read_linear(l) : read_matmul(l);
}

/* Whether anything comes to a site. */
static int brings(const struct qvitp_site *site, const struct qvitp_need *need)
{
    return need->streams || need->rows || (site->type == QVIT_SITE_MATMUL && need->outputs);
}

static qvit_status in_site(const qvit_calibrator *c, size_t i, qvit_status status,
                           qvit_error *error)
{
    if (status != QVIT_OK) qvitp_fail_in(error, c->sites[i]->label);
    return status;
}

/* Everything that can fail. */
static qvit_status prepare(struct loading *l, const qvit_calibrator *c, struct arrival *arrivals)
{
    qvit_error *error = l->in.error;
    for (size_t i = 0; i < c->count; i++)
        QVITP_TRY(in_site(c, i, read_site(l, c, i, arrivals), error));
    if (l->in.at != l->in.size) return qvitp_malformed(&l->in, l->in.at, "nothing should follow");
    for (size_t i = 0; i < c->count; i++) {
        struct qvitp_site *site = c->sites[i];
        const struct qvitp_need *need = &arrivals[i].need;
        if (brings(site, need))
            QVITP_TRY(
                in_site(c, i, qvitp_site_reserve(site, c->engine, &l->bounds, need, error), error));
    }
    return QVIT_OK;
}

static qvit_status load_sites(struct loading *l, qvit_calibrator *c, struct arrival *arrivals)
{
    QVITP_TRY(prepare(l, c, arrivals));
    l->keep = 1; /* nothing can fail from here on */
    for (size_t i = 0; i < c->count; i++) {
        if (!brings(c->sites[i], &arrivals[i].need)) continue;
        qvitp_site_settle(c->sites[i], c->engine, &l->bounds, &arrivals[i].need);
        QVITP_TRY(read_site(l, c, i, arrivals));
        c->observed = 1;
    }
    return QVIT_OK;
}

qvit_status qvit_calibrator_load(qvit_calibrator *c, const void *data, size_t size,
                                 qvit_error *error)
{
    if (!c || !data) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator or data is NULL");
    struct loading l = {.in = {data, size, 0, error}};
    QVITP_TRY(check_header(&l.in, size));
    QVITP_TRY(check_checksum(&l.in));
    QVITP_TRY(check_limits(&l.in, c));
    QVITP_TRY(check_sites(&l.in, c));
    if (c->count) l.bounds = qvitp_calibrator_bounds(c);
    struct arrival *arrivals = qvitp_engine_alloc(c->engine, c->count, sizeof *arrivals);
    if (!arrivals) return qvitp_no_memory(error);
    qvit_status status = load_sites(&l, c, arrivals);
    qvitp_engine_free(c->engine, arrivals);
    return status == QVIT_OK ? qvitp_ok(error) : status;
}
