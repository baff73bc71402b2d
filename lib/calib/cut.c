/* cut.c - order and K-blocks of the inputs of linear sites. */
#include "calib/cut.h"

#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shares.h"
#include "calib/partition.h"
#include "calib/trial.h"
#include "op/product.h"
#include "tensor.h"

/* Row blocks of the weights that an order looks at one by one. */
enum { FEATURES = 8 };

struct cutting {
    const struct qvitp_solving *solving;
    struct qvitp_site *const *sites;
    size_t count, inputs;
    const struct qvitp_input *input;
    struct qvitp_pool *pool;
    struct qvitp_axis axis;
    struct qvitp_cut *out;
};

/* ---- how many ---- */

static size_t weight_blocks(const struct qvitp_recipe *r, size_t inputs)
{
    size_t length = (size_t)r->block_length;
    size_t wanted = length ? (inputs + length - 1) / length : (size_t)r->column_blocks;
    return wanted > 1 ? wanted : 1;
}

static size_t input_chunks(const struct cutting *c)
{
    size_t chunks = (size_t)c->solving->recipe.chunks;
    return chunks > 1 && !c->input->span.fixed ? chunks : 1;
}

/* Whether who writes the input can write its channels in any order; in how many runs they must stay. */
static int orderable(const struct cutting *c, size_t *segments)
{
    *segments = 1;
    for (size_t i = 0; i < c->count; i++) {
        const struct qvitp_site *s = c->sites[i];
        if (s->kind == QVIT_INPUT_LAYER_NORM) continue;
        if (s->kind == QVIT_INPUT_IMAGE || s->producer == SIZE_MAX) return 0;
        if (s->input_heads > *segments) *segments = s->input_heads;
    }
    return c->inputs % *segments == 0;
}

/* ---- what the channels are like ---- */

/* Mean square of each channel as it is encoded; without rows, that of its range. */
static qvit_status energies(const struct cutting *c, double *energy, qvit_error *error)
{
    const struct qvitp_sample *rows = &c->sites[0]->rows;
    enum qvitp_part part = qvitp_input_part(c->solving, c->sites[0]);
    size_t *order = qvitp_pool_alloc(c->pool, rows->count, sizeof *order);
    if (!order) return qvitp_no_memory(error);
    size_t seen = qvitp_sample_order(rows, 1u << part, order);
    for (size_t i = 0; i < seen; i++) {
        const float *x = qvitp_sample_part(rows, &rows->rows[order[i]], part);
        for (size_t k = 0; k < c->inputs; k++) {
            double v = (double)x[k];
            if (c->input->channels.count)
                v = (double)qvitp_channel_apply(&c->input->channels, k, x[k]);
            energy[k] += v * v / (double)seen;
        }
    }
    for (size_t k = 0; !seen && k < c->inputs; k++) {
        double width = (double)c->input->hi[k] - (double)c->input->lo[k];
        energy[k] = width * width / 12;
    }
    return QVIT_OK;
}

/* Adds a site's weights to the features of its row blocks, and to the squares of their columns. */
static void add_weights(const struct cutting *c, const struct qvitp_site *s, size_t features,
                        float *reach, double *squares)
{
    const float *scale = c->input->channels.scale;
    for (size_t row = 0; row < s->outputs; row++) {
        float *most = reach + row * features / s->outputs * c->inputs;
        ptrdiff_t at = qvitp_tensor_row(&s->weight, row);
        for (size_t k = 0; k < c->inputs; k++) {
            float w = qvitp_get_float(&s->weight, at, k) * (scale ? scale[k] : 1);
            most[k] = fmaxf(most[k], fabsf(w));
            squares[k] += (double)w * (double)w;
        }
    }
}

/*
 * What channels look like: the largest weights of each in some row blocks, which count by the energy of
 * the channel's input, and, where inputs have chunks, the range of the channel, which counts by the
 * energy of its weights. Codes of different widths count by their steps.
 */
static qvit_status describe(struct cutting *c, int weights, int inputs, qvit_error *error)
{
    const struct qvitp_recipe *r = &c->solving->recipe;
    const double step = 1.0 / (1 << (r->weight_bits - 1)), input_step = 1.0 / (1 << r->input_bits);
    size_t features = weights ? FEATURES : 0, all = features + (inputs != 0), k = c->inputs;
    size_t outputs = 0;
    for (size_t i = 0; i < c->count; i++) outputs += c->sites[i]->outputs;
    float *reach = qvitp_pool_alloc(c->pool, qvitp_mul(FEATURES + 1, k), sizeof *reach);
    double *weight = qvitp_pool_alloc(c->pool, qvitp_mul(FEATURES + 1, k), sizeof *weight);
    double *squares = qvitp_pool_alloc(c->pool, k, 2 * sizeof *squares), *energy = squares + k;
    if (!reach || !weight || !squares) return qvitp_no_memory(error);
    QVITP_TRY(energies(c, energy, error));
    for (size_t i = 0; i < c->count; i++)
        add_weights(c, c->sites[i], weights ? FEATURES : 1, reach, squares);
    for (size_t f = 0; f < features; f++)
        for (size_t j = 0; j < k; j++)
            weight[f * k + j] = step * step * (double)outputs / FEATURES * energy[j];
    for (size_t j = 0; inputs && j < k; j++) {
        reach[features * k + j] = c->input->hi[j] - c->input->lo[j];
        weight[features * k + j] = input_step * input_step * squares[j];
    }
    c->axis = (struct qvitp_axis){k, all, reach, weight};
    return QVIT_OK;
}

/* ---- the cut ---- */

/* Blocks begin at multiples of the unit; those that this leaves empty are dropped. The last one is padded
 * when its kernel is known. */
static qvit_status take_bounds(struct cutting *c, const struct qvitp_partition *p,
                               qvit_error *error)
{
    struct qvitp_k_blocks *b = &c->out->blocks;
    size_t *starts = qvitp_pool_alloc(c->pool, p->blocks + 1, 2 * sizeof *starts), count = 0;
    if (!starts) return qvitp_no_memory(error);
    for (size_t i = 0; i < p->blocks; i++) {
        size_t start = p->bounds[i] / QVITP_CUT_UNIT * QVITP_CUT_UNIT;
        if (!count || start > starts[count - 1]) starts[count++] = start;
    }
    starts[count] = c->inputs;
    *b = (struct qvitp_k_blocks){.count = count, .starts = starts, .ends = starts + p->blocks + 1};
    for (size_t i = 0; i < count; i++) b->ends[i] = starts[i + 1];
    b->packed = c->inputs;
    return QVIT_OK;
}

static qvit_status take_order(struct cutting *c, const struct qvitp_partition *p, qvit_error *error)
{
    int moved = 0;
    for (size_t i = 0; i < c->inputs; i++) moved |= p->order[i] != i;
    if (!moved) return QVIT_OK;
    c->out->order = qvitp_pool_alloc(c->pool, c->inputs, sizeof *c->out->order);
    if (!c->out->order) return qvitp_no_memory(error);
    for (size_t i = 0; i < c->inputs; i++) c->out->order[i] = (int32_t)p->order[i];
    return QVIT_OK;
}

static qvit_status partition(struct cutting *c, size_t blocks, size_t chunks, qvit_error *error)
{
    struct qvitp_partition p = {0};
    size_t segments, units = c->inputs / QVITP_CUT_UNIT;
    int free_order = orderable(c, &segments), weights = blocks > 1;
    if (blocks < chunks) blocks = chunks; /* sums end where chunks do: weights may as well change */
    if (blocks > units) blocks = units ? units : 1;
    struct qvitp_ordering o = {free_order ? c->solving->recipe.reorder : QVITP_ORDER_NONE, blocks,
                               QVITP_CUT_UNIT, segments};
    if (o.method == QVITP_ORDER_NONE || blocks % segments) o.segments = 1;
    if (o.segments != segments && segments > 1) o.method = QVITP_ORDER_NONE;
    QVITP_TRY(describe(c, weights, chunks > 1, error));
    QVITP_TRY(qvitp_partition_choose(c->solving->engine, &c->axis, &o, &p, error));
    qvit_status status = take_order(c, &p, error);
    if (status == QVIT_OK) status = take_bounds(c, &p, error);
    qvitp_partition_free(c->solving->engine, &p);
    return status;
}

/* ---- the inputs' coders ---- */

static void set_chunk(struct cutting *c, size_t chunk)
{
    struct qvitp_cut *cut = c->out;
    struct qvitp_span *span = &cut->span[chunk];
    *span = c->input->span;
    cut->coder[chunk] = c->input->coder;
    if (cut->chunks == 1) return;
    span->lo = span->hi = 0;
    for (size_t h = 0; h < cut->blocks.count; h++)
        for (size_t i = cut->blocks.starts[h];
             cut->chunk_of[h] == chunk && i < cut->blocks.starts[h + 1]; i++) {
            size_t channel = qvitp_order_at(cut->order, i);
            span->lo = fminf(span->lo, c->input->lo[channel]);
            span->hi = fmaxf(span->hi, c->input->hi[channel]);
        }
    span->lo = fmaxf(span->lo, c->input->span.lo); /* a recipe may clip the whole */
    span->hi = fminf(span->hi, c->input->span.hi);
    cut->coder[chunk] = qvitp_span_coder(span, 1);
}

static qvit_status set_chunks(struct cutting *c, size_t chunks, qvit_error *error)
{
    struct qvitp_cut *cut = c->out;
    size_t blocks = cut->blocks.count;
    cut->chunks = qvitp_min(chunks, blocks);
    cut->chunk_of = qvitp_pool_alloc(c->pool, blocks, sizeof *cut->chunk_of);
    cut->span = qvitp_pool_alloc(c->pool, cut->chunks, sizeof *cut->span);
    cut->coder = qvitp_pool_alloc(c->pool, cut->chunks, sizeof *cut->coder);
    if (!cut->chunk_of || !cut->span || !cut->coder) return qvitp_no_memory(error);
    for (size_t h = 0; h < blocks; h++) cut->chunk_of[h] = qvitp_share_of(blocks, cut->chunks, h);
    for (size_t chunk = 0; chunk < cut->chunks; chunk++) set_chunk(c, chunk);
    return QVIT_OK;
}

qvit_status qvitp_cut_choose(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                             size_t count, const struct qvitp_input *input, struct qvitp_pool *pool,
                             struct qvitp_cut *out, qvit_error *error)
{
    struct cutting c = {solving, sites, count, sites[0]->inputs, input, pool, {0}, out};
    size_t blocks = weight_blocks(&solving->recipe, c.inputs), chunks = input_chunks(&c);
    *out = (struct qvitp_cut){.blocks = {.count = 1}};
    if (blocks > 1 || chunks > 1) QVITP_TRY(partition(&c, blocks, chunks, error));
    return set_chunks(&c, chunks, error);
}
