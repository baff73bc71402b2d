/* state_save.c - writing what a calibrator observed. */
#include "base/bytes.h"
#include "base/error.h"
#include "calib/state.h"
#include "tensor.h"

const unsigned char qvitp_state_magic[QVITP_STATE_MAGIC] = {0x89, 'q',  'v',  'i',
                                                            't',  '\r', '\n', 26};

/* ---- what the sites are ---- */

/* Of the elements row by row, whatever the strides; 0 if there is no tensor. */
static uint64_t hash_tensor(const qvit_tensor *t)
{
    if (!t->data) return 0;
    uint64_t hash = 1;
    for (size_t row = 0; row < qvitp_tensor_rows(t); row++) {
        const float *from = (const float *)t->data + qvitp_tensor_row(t, row);
        ptrdiff_t stride = qvitp_stride(t, t->rank - 1);
        for (size_t col = 0; col < qvitp_tensor_cols(t); col++)
            hash = qvitp_checksum_word(hash, qvitp_float_bits(from[(ptrdiff_t)col * stride]));
    }
    return hash;
}

void qvitp_state_describe(const struct qvitp_site *site, uint64_t field[QVITP_STATE_FIELDS])
{
    int matmul = site->type == QVIT_SITE_MATMUL;
    field[QVITP_STATE_TYPE] = (uint64_t)site->type;
    field[QVITP_STATE_KIND] = (uint64_t)site->kind;
    field[QVITP_STATE_HEADS] = matmul ? site->heads : 0;
    field[QVITP_STATE_TRANSPOSED] = matmul && site->second_transposed;
    field[QVITP_STATE_INPUTS] = site->inputs;
    field[QVITP_STATE_OUTPUTS] = site->outputs;
    field[QVITP_STATE_INPUT_TIE] = site->group;
    field[QVITP_STATE_PRODUCER] = site->producer == SIZE_MAX ? 0 : (uint64_t)site->producer + 1;
    field[QVITP_STATE_WEIGHT] = hash_tensor(&site->weight);
    field[QVITP_STATE_BIAS] = hash_tensor(&site->bias);
}

static void put_site(struct qvitp_writer *w, const struct qvitp_site *site)
{
    uint64_t field[QVITP_STATE_FIELDS] = {0};
    if (w->write) qvitp_state_describe(site, field); /* which takes its time */
    qvitp_put(w, site->name, QVITP_STATE_NAME);
    for (int i = 0; i < QVITP_STATE_FIELDS; i++) qvitp_put64(w, field[i]);
}

/* ---- what they saw ---- */

static void put_histogram(struct qvitp_writer *w, const struct qvitp_stats *stats, size_t group)
{
    uint64_t bins = 0;
    for (size_t bin = 0; bin < QVITP_SIGNED_BINS; bin++)
        bins += *qvitp_stats_bin(stats, group, bin) != 0;
    qvitp_put64(w, bins);
    for (size_t bin = 0; bin < QVITP_SIGNED_BINS; bin++) {
        uint64_t count = *qvitp_stats_bin(stats, group, bin);
        if (!count) continue;
        qvitp_put32(w, (uint32_t)bin);
        qvitp_put64(w, count);
    }
}

static void put_stats(struct qvitp_writer *w, const struct qvitp_stats *stats)
{
    for (int high = 0; high < 2; high++)
        for (size_t channel = 0; channel < stats->channels; channel++) {
            float range[2];
            qvitp_stats_range(stats, channel, &range[0], &range[1]);
            qvitp_put_floats(w, &range[high], 1);
        }
    for (size_t group = 0; group < stats->groups; group++) put_histogram(w, stats, group);
}

/* The mask of parts, then their numbers. */
static void put_parts(struct qvitp_writer *w, const struct qvitp_sample *rows,
                      const struct qvitp_sample_row *row)
{
    qvitp_put32(w, row->parts & ~(uint32_t)QVITP_HELD);
    for (int p = 0; p < QVITP_PARTS; p++)
        if (row->parts >> p & 1)
            qvitp_put_floats(w, qvitp_sample_part(rows, row, (enum qvitp_part)p), rows->width[p]);
}

static void put_row(struct qvitp_writer *w, const struct qvitp_sample *rows,
                    const struct qvitp_sample_row *row)
{
    qvitp_put64(w, row->key.row & UINT32_MAX); /* without the head */
    put_parts(w, rows, row);
}

static void put_rows(struct qvitp_writer *w, const struct qvitp_sample *rows)
{
    qvitp_put64(w, rows->count);
    for (size_t i = 0; i < rows->count; i++) {
        qvitp_put64(w, rows->rows[i].key.sample);
        put_row(w, rows, &rows->rows[i]);
    }
}

static void put_matrices(struct qvitp_writer *w, const struct qvitp_matrices *m)
{
    qvitp_put64(w, m->keys.count);
    for (size_t i = 0; i < m->keys.count; i++) {
        const struct qvitp_sample_row *matrix = &m->keys.rows[i];
        const struct qvitp_sample *left = &m->left[matrix->slot];
        qvitp_put64(w, matrix->key.sample);
        put_parts(w, &m->keys, matrix);
        qvitp_put64(w, left->count);
        for (size_t row = 0; row < left->count; row++) put_row(w, left, &left->rows[row]);
    }
}

static void put_seen(struct qvitp_writer *w, const struct qvitp_site *site)
{
    qvitp_put32(w, site->seen);
    qvitp_put32(w, 0);
    for (int i = 0; i < QVITP_STREAMS; i++)
        if (qvitp_site_saw(site, (enum qvitp_stream)i)) put_stats(w, &site->stats[i]);
    if (site->type == QVIT_SITE_LINEAR) {
        put_rows(w, &site->rows);
    } else if (site->inputs || site->outputs) {
        for (size_t head = 0; head < site->heads; head++) put_matrices(w, &site->matrices[head]);
    }
}

/* ---- the whole ---- */

/* `size`: what the writer will have counted in the end. */
static void put_all(struct qvitp_writer *w, const qvit_calibrator *c, uint64_t size)
{
    qvitp_put(w, qvitp_state_magic, QVITP_STATE_MAGIC);
    qvitp_put32(w, QVITP_STATE_VERSION);
    qvitp_put32(w, 0);
    const uint64_t header[] = {size, c->seed, c->max_bytes, c->max_rows, c->count};
    for (size_t i = 0; i < sizeof header / sizeof header[0]; i++) qvitp_put64(w, header[i]);
    for (size_t i = 0; i < c->count; i++) put_site(w, c->sites[i]);
    for (size_t i = 0; i < c->count; i++) put_seen(w, c->sites[i]);
    qvitp_put_checksum(w);
}

qvit_status qvit_calibrator_save(const qvit_calibrator *c, qvit_write write, void *user,
                                 qvit_error *error)
{
    if (!c || !write) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator or write is NULL");
    struct qvitp_writer counting = {0}, writer = {.write = write, .user = user};
    put_all(&counting, c, 0);
    put_all(&writer, c, counting.size);
    if (writer.refused)
        return qvitp_fail(error, QVIT_ERR_IO, "the writing callback returned %d",
                          (int)writer.refused);
    return qvitp_ok(error);
}
