/*
 * attention.c - from Q, K and V to the context, head by head, in one call: running the plan.
 *
 * For each (batch, head) a worker packs K and V, and then takes the queries a tile at a time: scores
 * into a small float buffer, softmax from there to the rows that V's product reads, context to the
 * output. A tile's scores and probabilities stay in the first-level cache.
 */
#include "op/attention.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "base/shares.h"
#include "op/heads.h"
#include "sched/sched.h"
#include "tensor.h"

QVITP_DEFINE_INIT(qvit_attention_args, QVIT_ATTENTION_ARGS_INIT)

/* ---- workspace ---- */

/* One worker's part of the workspace. */
struct scratch {
    struct qvitp_right key, value;
    float *score_vectors; /* scale, or mul; for every key token */
    float *zeros;         /* bias, or add */
    float *scores;        /* [tile][score_stride] */
    uint8_t *codes;       /* [tile][score_stride]: probabilities as the softmax writes them */
    void *staged;         /* queries */
    void *staged_codes;   /* probabilities */
    float *sums;          /* [tile] of each row's exponentials, where probabilities are relative */
    float *context;       /* [tile][dim], likewise */
};

/* Rows that go from scores to context together: two tiles of the first product, whose last panels are
 * finished while others are summed; more would leave the first-level cache. */
static size_t tile_rows(const struct qvitp_attention *p) { return 2u * p->query.kernel->mr; }

/* Between rows of scores, in elements; leaves the padding that the softmax kernel may touch. */
static size_t score_stride(const struct qvitp_attention *p, size_t keys)
{
    return qvitp_round_up(qvitp_packed_n(p->query.kernel, keys), QVIT_ALIGNMENT / sizeof(float));
}

static size_t carve_scratch(const struct qvitp_attention *p, size_t keys, void *base,
                            struct scratch *s)
{
    struct qvitp_carver c = {base, 0};
    size_t columns = qvitp_vector_columns(p->query.kernel, keys);
    size_t cells = qvitp_mul(tile_rows(p), score_stride(p, keys));
    qvitp_right_carve(&s->key, &p->query, keys, p->dim, &c);
    qvitp_right_carve(&s->value, &p->probability, p->dim, keys, &c);
    s->score_vectors = qvitp_carve(&c, columns, sizeof(float));
    s->zeros = qvitp_carve(&c, columns, sizeof(float));
    s->scores = qvitp_carve(&c, cells, sizeof(float));
    s->codes = qvitp_carve(&c, cells, 1);
    s->staged = qvitp_carve(&c, qvitp_left_plane_bytes(&p->query, p->dim), 1);
    size_t plane = qvitp_left_plane_bytes(&p->probability, keys);
    s->staged_codes = qvitp_carve(&c, qvitp_mul(plane, 2), 1);
    size_t rows = p->relative ? tile_rows(p) : 0;
    s->sums = qvitp_carve(&c, rows, sizeof(float));
    s->context = qvitp_carve(&c, qvitp_mul(rows, p->dim), sizeof(float));
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

size_t qvit_attention_workspace_size(const qvit_plan *plan, size_t query_tokens, size_t key_tokens)
{
    if (!plan || plan->op != QVITP_OP_ATTENTION || !query_tokens || !key_tokens) return 0;
    struct scratch unused;
    size_t one = carve_scratch((const struct qvitp_attention *)plan, key_tokens, NULL, &unused);
    return qvitp_mul(one, plan->engine->executor.workers);
}

/* ---- work ---- */

struct run {
    const struct qvitp_attention *plan;
    const qvit_attention_args *args;
    size_t batch, queries, keys, per_worker;
    struct qvitp_units units;
};

/* Where one head's part of a [batch, tokens, heads, dim] tensor begins, and its rows' numbers. */
struct head_view {
    char *data;
    ptrdiff_t stride;    /* between tokens, elements */
    size_t size;         /* bytes of an element */
    const int32_t *rows; /* NULL, or the token of each row */
};

static struct head_view view(const qvit_tensor *t, const qvit_tensor *rows, size_t batch,
                             size_t head)
{
    struct head_view v = {.stride = qvitp_stride(t, 1), .size = qvitp_dtype_bits(t->dtype) / 8};
    ptrdiff_t offset = (ptrdiff_t)head * qvitp_stride(t, 2);
    if (rows) {
        v.rows = (const int32_t *)rows->data + (ptrdiff_t)batch * rows->strides[0];
    } else {
        offset += (ptrdiff_t)batch * qvitp_stride(t, 0);
    }
    v.data = (char *)t->data + offset * (ptrdiff_t)v.size;
    return v;
}

static char *view_row(const struct head_view *v, size_t row)
{
    ptrdiff_t token = v->rows ? v->rows[row] : (ptrdiff_t)row;
    return v->data + token * v->stride * (ptrdiff_t)v->size;
}

/* Row of a [batch or 1, heads or 1, queries, keys] tensor; NULL stays NULL. */
static float *cell_row(const qvit_tensor *t, size_t batch, size_t head, size_t query)
{
    if (!t) return NULL;
    ptrdiff_t offset = (ptrdiff_t)query * t->strides[2];
    if (t->dims[0] > 1) offset += (ptrdiff_t)batch * t->strides[0];
    if (t->dims[1] > 1) offset += (ptrdiff_t)head * t->strides[1];
    return (float *)t->data + offset;
}

/* One (batch, head) while it is worked on. */
struct head_run {
    const struct run *run;
    struct scratch scratch;
    size_t batch, head;
    struct head_view query, output;
};

/* Codes are padded with zeros to whole k steps, so that plain ones are read in place. */
static void pad_codes(const struct head_run *h)
{
    const struct run *r = h->run;
    size_t padding = qvitp_packed_k(r->plan->probability.kernel, r->keys) - r->keys;
    size_t stride = score_stride(r->plan, r->keys);
    for (size_t i = 0; padding && i < tile_rows(r->plan); i++)
        memset(h->scratch.codes + i * stride + r->keys, 0, padding);
}

static void pack_head(struct head_run *h)
{
    const struct run *r = h->run;
    const struct qvitp_attention *p = r->plan;
    struct head_view key = view(r->args->key, r->args->key_rows, h->batch, h->head);
    struct head_view value = view(r->args->value, r->args->key_rows, h->batch, h->head);
    struct qvitp_operand keys = {key.data, key.stride, key.rows, 0};
    struct qvitp_operand values = {value.data, value.stride, value.rows, 1};
    qvitp_right_pack(&h->scratch.key, &p->query, &keys, r->keys, p->dim, h->scratch.staged);
    qvitp_right_pack(&h->scratch.value, &p->probability, &values, p->dim, r->keys,
                     h->scratch.staged_codes);
    size_t columns = qvitp_vector_columns(p->query.kernel, r->keys);
    int floats = p->types[0] == QVIT_DTYPE_F32;
    for (size_t j = 0; j < columns; j++) {
        h->scratch.score_vectors[j] = floats ? p->float_scale : p->score_scale[h->head];
        h->scratch.zeros[j] = 0;
    }
}

/* Scores of the queries [first, first + rows) into the scratch rows: scaled, unless the caller wants to
 * see them raw. */
static void compute_scores(const struct head_run *h, size_t first, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    const struct scratch *s = &h->scratch;
    int floats = p->types[0] == QVIT_DTYPE_F32;
    struct qvitp_epilogue epilogue = {
        .init = s->key.init, .scale = s->score_vectors, .bias = s->zeros, .out = QVITP_OUT_F32};
    if (floats && !h->run->args->scores) epilogue.mul = s->score_vectors, epilogue.add = s->zeros;
    struct qvitp_block block = {
        .left = &p->query,
        .epilogue = &epilogue,
        .m = rows,
        .k = p->dim,
        .a = h->query.rows ? h->query.data : view_row(&h->query, first),
        .lda = h->query.stride * (ptrdiff_t)h->query.size,
        .a_index = h->query.rows ? h->query.rows + first : NULL,
        .b = s->key.panels,
        .columns = h->run->keys,
        .out = s->scores,
        .ldo = (ptrdiff_t)score_stride(p, h->run->keys),
        .out_size = sizeof(float),
        .staged = s->staged,
    };
    qvitp_block_run(&block);
}

/* The caller's scores: raw, and then scaled for the softmax. */
static void show_scores(const struct head_run *h, size_t first, size_t rows, size_t stride)
{
    const struct run *r = h->run;
    for (size_t i = 0; i < rows; i++) {
        float *raw = cell_row(r->args->scores, h->batch, h->head, first + i);
        float *scores = h->scratch.scores + i * stride;
        for (size_t j = 0; j < r->keys; j++) {
            raw[j] = scores[j];
            scores[j] *= r->plan->float_scale;
        }
    }
}

/* Softmax of the scratch rows, in the place or to the codes that the second product reads. */
static void compute_probabilities(const struct head_run *h, size_t first, size_t count)
{
    const struct run *r = h->run;
    const struct qvitp_attention *p = r->plan;
    const qvit_attention_args *a = r->args;
    size_t stride = score_stride(p, r->keys);
    struct qvitp_softmax rows = p->softmax;
    rows.m = count, rows.n = r->keys;
    rows.scores = h->scratch.scores;
    rows.bias = cell_row(a->bias, h->batch, h->head, first);
    rows.mask = cell_row(a->mask, h->batch, h->head, first);
    rows.dst = rows.out == QVITP_OUT_F32 ? (void *)rows.scores : h->scratch.codes;
    rows.sum = p->relative ? h->scratch.sums : NULL;
    rows.lds = rows.ldd = (ptrdiff_t)stride;
    if (a->bias) rows.ldb = a->bias->strides[2];
    if (a->mask) rows.ldm = a->mask->strides[2];
    if (a->scores) show_scores(h, first, count, stride);
    p->base.engine->kernels.softmax->run(&rows);
    for (size_t i = 0; a->probabilities && i < count; i++)
        memcpy(cell_row(a->probabilities, h->batch, h->head, first + i), rows.scores + i * stride,
               r->keys * sizeof(float));
}

/* Divides rows of P V by the sums of their exponentials, on their way to the output. */
static void rescale_context(const struct head_run *h, size_t first, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    const struct scratch *s = &h->scratch;
    struct qvitp_rescale row = p->rescale;
    if (row.mul) row.mul += h->head * p->head_columns, row.add += h->head * p->head_columns;
    for (size_t i = 0; i < rows; i++) {
        row.x = s->context + i * p->dim;
        row.dst = view_row(&h->output, first + i);
        row.factor = s->sums[i] > 0 ? 1 / s->sums[i] : 0;
        p->base.engine->kernels.rescale->run(&row);
    }
}

/* P V for the scratch rows; with window rows, to the places of their tokens. */
static void compute_context(const struct head_run *h, size_t first, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    size_t at = h->head * p->head_columns, stride = score_stride(p, h->run->keys);
    int floats = p->types[0] == QVIT_DTYPE_F32;
    struct qvitp_epilogue epilogue = p->context;
    epilogue.init += at, epilogue.scale += at, epilogue.scale2 += at, epilogue.bias += at;
    if (epilogue.mul) epilogue.mul += at, epilogue.add += at;
    struct qvitp_block block = {
        .left = &p->probability,
        .epilogue = &epilogue,
        .m = rows,
        .k = qvitp_packed_k(p->probability.kernel, h->run->keys),
        .a = floats ? (void *)h->scratch.scores : (void *)h->scratch.codes,
        .lda = (ptrdiff_t)(stride * (floats ? sizeof(float) : 1)),
        .b = h->scratch.value.panels,
        .columns = p->dim,
        .out = view_row(&h->output, first),
        .ldo = h->output.stride,
        .out_size = h->output.size,
        .staged = h->scratch.staged_codes,
    };
    if (p->relative) {
        block.out = h->scratch.context, block.ldo = (ptrdiff_t)p->dim;
        block.out_size = sizeof(float);
        qvitp_block_run(&block);
        rescale_context(h, first, rows);
        return;
    }
    if (!h->output.rows) {
        qvitp_block_run(&block);
        return;
    }
    const int32_t *token = h->output.rows + first; /* neighbours are written together */
    for (size_t i = 0, run; i < rows; i += run) {
        for (run = 1; i + run < rows && token[i + run] == token[i] + (int32_t)run;) run++;
        block.m = run;
        block.out = view_row(&h->output, first + i);
        qvitp_block_run(&block);
        block.a = (const char *)block.a + (ptrdiff_t)run * block.lda;
    }
}

static void run_unit(void *argument, size_t unit, size_t worker)
{
    const struct run *r = argument;
    const struct qvitp_attention *p = r->plan;
    size_t split = unit % r->units.splits, pair = unit / r->units.splits;
    struct head_run h = {.run = r, .batch = pair / p->heads, .head = pair % p->heads};
    carve_scratch(p, r->keys, (char *)r->args->workspace + worker * r->per_worker, &h.scratch);
    h.query = view(r->args->query, r->args->query_rows, h.batch, h.head);
    h.output = view(r->args->output, r->args->query_rows, h.batch, h.head);
    pack_head(&h);
    pad_codes(&h);
    size_t begin = qvitp_share(r->queries, r->units.splits, split);
    size_t rows = qvitp_share(r->queries, r->units.splits, split + 1) - begin;
    size_t tiles = qvitp_tiles(rows, tile_rows(p));
    for (size_t i = 0; i < tiles; i++) {
        size_t first = begin + qvitp_share(rows, tiles, i);
        size_t count = begin + qvitp_share(rows, tiles, i + 1) - first;
        compute_scores(&h, first, count);
        compute_probabilities(&h, first, count);
        compute_context(&h, first, count);
    }
}

/* ---- arguments ---- */

/* Checks a row index and that all its rows lie inside a tensor of `tokens` rows. */
static qvit_status check_rows(const qvit_tensor *rows, const char *name, size_t tokens,
                              qvit_error *error)
{
    size_t any[2] = {0, 0};
    QVITP_TRY(qvitp_tensor_expect(rows, name, QVIT_DTYPE_S32, 0, 2, any, error));
    for (size_t b = 0; b < rows->dims[0]; b++)
        for (size_t t = 0; t < rows->dims[1]; t++) {
            int32_t row = qvitp_get_int(rows, (ptrdiff_t)b * rows->strides[0], t);
            if (row < 0 || (size_t)row >= tokens)
                return qvitp_fail(error, QVIT_ERR_VALUE, "%s: row %d of %zu", name, (int)row,
                                  tokens);
        }
    return QVIT_OK;
}

/* A [batch or 1, heads or 1, queries, keys] tensor, or NULL. `exact`: no 1 stands for many. */
static qvit_status check_cells(const struct run *r, const qvit_tensor *t, const char *name,
                               int exact, qvit_error *error)
{
    if (!t) return QVIT_OK;
    size_t heads = r->plan->heads;
    size_t dims[4] = {exact ? r->batch : 0, exact ? heads : 0, r->queries, r->keys};
    QVITP_TRY(
        qvitp_tensor_expect(t, name, QVIT_DTYPE_F32, exact ? QVITP_OUTPUT : 0, 4, dims, error));
    if ((t->dims[0] == 1 || t->dims[0] == r->batch) && (t->dims[1] == 1 || t->dims[1] == heads))
        return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE,
                      "%s: %zu batches and %zu heads fit neither 1 nor %zu "
                      "and %zu",
                      name, t->dims[0], t->dims[1], r->batch, heads);
}

/* Reads the sizes off the tensors that have them, then checks all the others against these. */
static qvit_status check_tensors(struct run *r, qvit_error *error)
{
    const struct qvitp_attention *p = r->plan;
    const qvit_attention_args *a = r->args;
    size_t any[4] = {a->query_rows ? 1 : 0, 0, p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->query, "query", p->types[0], 0, 4, any, error));
    size_t same[4] = {a->query->dims[0], a->query->dims[1], p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->output, "output", p->types[3], QVITP_OUTPUT, 4, same, error));
    r->batch = a->query->dims[0];
    r->queries = a->query->dims[1];
    if (a->query_rows) {
        QVITP_TRY(check_rows(a->query_rows, "query_rows", a->query->dims[1], error));
        r->batch = a->query_rows->dims[0];
        r->queries = a->query_rows->dims[1];
    }
    size_t keys[4] = {a->key_rows ? 1 : r->batch, 0, p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->key, "key", p->types[1], 0, 4, keys, error));
    r->keys = keys[1] = a->key->dims[1];
    QVITP_TRY(qvitp_tensor_expect(a->value, "value", p->types[2], 0, 4, keys, error));
    if (!a->key_rows) return QVIT_OK;
    QVITP_TRY(check_rows(a->key_rows, "key_rows", a->key->dims[1], error));
    r->keys = a->key_rows->dims[1];
    if (a->key_rows->dims[0] == r->batch) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE, "key_rows has %zu batches, not %zu",
                      a->key_rows->dims[0], r->batch);
}

static qvit_status check_args(struct run *r, qvit_error *error)
{
    const qvit_attention_args *a = r->args;
    QVITP_TRY(check_tensors(r, error));
    QVITP_TRY(check_cells(r, a->bias, "bias", 0, error));
    QVITP_TRY(check_cells(r, a->mask, "mask", 0, error));
    if ((a->scores || a->probabilities) && r->plan->types[0] != QVIT_DTYPE_F32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "scores and probabilities are written by float plans only");
    QVITP_TRY(check_cells(r, a->scores, "scores", 1, error));
    QVITP_TRY(check_cells(r, a->probabilities, "probabilities", 1, error));
    return qvitp_sums_fit(&r->plan->probability, r->keys, error);
}

qvit_status qvit_attention_run(const qvit_plan *plan, const qvit_attention_args *args,
                               qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_ATTENTION, error));
    qvit_attention_args a = QVIT_ATTENTION_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct run r = {.plan = (const struct qvitp_attention *)plan, .args = &a};
    QVITP_TRY(check_args(&r, error));
    size_t workers = plan->engine->executor.workers;
    size_t needed = qvit_attention_workspace_size(plan, r.queries, r.keys);
    QVITP_TRY(qvitp_workspace_check(a.workspace, a.workspace_size, needed, error));
    r.per_worker = needed / workers;
    qvitp_units_init(&r.units, r.batch, r.plan->heads, r.queries, workers);
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, r.units.units, run_unit, &r, error));
    return qvitp_ok(error);
}
