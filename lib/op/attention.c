/*
 * attention.c - from Q, K and V to the context, head by head, in one call: running the plan.
 *
 * For each (batch, head) a worker packs K and V, and then takes the queries a tile at a time: scores into a small
 * float buffer, softmax from there to the rows that V's product reads. When that is done for a group of tiles, V's
 * product follows, to the output. So the first-level cache holds K and a tile's scores, and then V.
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
    float *tops;          /* [tile][16]: of each row's scores, where a kernel stores that */
    uint8_t *codes;       /* [group][score_stride]: probabilities as the softmax writes them */
    uint8_t *codes2;      /* likewise: the second plane of twins, where it writes two */
    void *staged;         /* queries of the group, where they cannot be read in place */
    void *staged_codes;   /* probabilities, where they are not ready */
    float *sums;          /* [group] of each row's exponentials, where probabilities are relative */
    float *context;       /* [group][dim], likewise */
};

/* Rows that go from scores to probabilities together: two tiles of the first product, whose last panels are
 * finished while others are summed. More of them would, beside K, leave the first-level cache. */
static size_t tile_rows(const struct qvitp_attention *p) { return 2u * p->query.kernel->mr; }

/* Between rows of scores, in elements; leaves the padding that the kernels may touch. */
static size_t score_stride(const struct qvitp_attention *p, size_t keys)
{
    return qvitp_round_up(qvitp_packed_n(p->query.kernel, keys), 32);
}

static int is_float(const struct qvitp_attention *p) { return p->types[0] == QVIT_DTYPE_F32; }

/* Whether softmax writes twin codes as two planes. */
static int writes_planes(const struct qvitp_attention *p)
{
    return p->writes_ready && p->probability.twin;
}

/* Rows whose probabilities become context together, in whole tiles: many, if they are codes, so that K is no longer in
 * the way when V is read; but not so many that these would leave the second-level cache. */
enum { GROUP_BYTES = 65536, GROUP_ROWS = 256 };
static size_t group_rows(const struct qvitp_attention *p, size_t queries, size_t keys)
{
    size_t tile = tile_rows(p), most = qvitp_min(GROUP_BYTES / score_stride(p, keys), GROUP_ROWS);
    size_t tiles = qvitp_min(most / tile, qvitp_tiles(queries, tile));
    return is_float(p) || tiles == 0 ? tile : tiles * tile;
}

/* Bytes of a group's codes: of so many keys or, then in larger groups, of fewer. */
static size_t group_bytes(const struct qvitp_attention *p, size_t queries, size_t keys)
{
    size_t tile = tile_rows(p), stride = score_stride(p, keys);
    size_t all = qvitp_mul(qvitp_mul(qvitp_tiles(queries, tile), tile), stride);
    size_t most = qvitp_min(all, GROUP_BYTES), least = qvitp_mul(tile, stride);
    return most > least ? most : least;
}

/* No part is smaller with more queries or more keys: what is large enough for these is so for fewer. */
static size_t carve_scratch(const struct qvitp_attention *p, size_t queries, size_t keys,
                            void *base, struct scratch *s)
{
    struct qvitp_carver c = {base, 0};
    size_t columns = qvitp_vector_columns(p->query.kernel, keys);
    size_t stride = score_stride(p, keys), group = group_rows(p, queries, 1); /* the largest */
    size_t codes = is_float(p) ? 0 : group_bytes(p, queries, keys);
    qvitp_right_carve(&s->key, &p->query, keys, p->dim, &c);
    qvitp_right_carve(&s->value, &p->probability, p->dim, keys, &c);
    s->score_vectors = qvitp_carve(&c, columns, sizeof(float));
    s->zeros = qvitp_carve(&c, columns, sizeof(float));
    s->scores = qvitp_carve(&c, qvitp_mul(tile_rows(p), stride), sizeof(float));
    s->tops = qvitp_carve(&c, p->query.kernel->gives_tops ? tile_rows(p) : 0, 16 * sizeof(float));
    s->codes = qvitp_carve(&c, codes, 1);
    s->codes2 = qvitp_carve(&c, writes_planes(p) ? codes : 0, 1);
    s->staged = qvitp_carve(&c, qvitp_mul(group, qvitp_left_row_bytes(&p->query, p->dim)), 1);
    size_t staged = p->writes_ready ? 0 : qvitp_left_staged_bytes(&p->probability, keys);
    s->staged_codes = qvitp_carve(&c, staged, 1);
    if (!p->relative) group = 0;
    s->sums = qvitp_carve(&c, group, sizeof(float));
    s->context = qvitp_carve(&c, qvitp_mul(group, p->dim), sizeof(float));
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

size_t qvit_attention_workspace_size(const qvit_plan *plan, size_t query_tokens, size_t key_tokens)
{
    if (!plan || plan->op != QVITP_OP_ATTENTION || !query_tokens || !key_tokens) return 0;
    struct scratch unused;
    size_t one = carve_scratch((const struct qvitp_attention *)plan, query_tokens, key_tokens, NULL,
                               &unused);
    return qvitp_mul(one, plan->engine->executor.workers);
}

/* ---- work ---- */

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
    const struct qvitp_attention_run *run;
    struct scratch scratch;
    size_t batch, head;
    struct head_view query, output;
    size_t group; /* the first query of those whose probabilities stand in the scratch memory */
    struct qvitp_block queries; /* the left operand of the group's scores */
};

static void pack_head(struct head_run *h)
{
    const struct qvitp_attention_run *r = h->run;
    const struct qvitp_attention *p = r->plan;
    struct head_view key = view(r->args->key, r->args->key_rows, h->batch, h->head);
    struct head_view value = view(r->args->value, r->args->key_rows, h->batch, h->head);
    struct qvitp_operand keys = {key.data, key.stride, key.rows, 0};
    struct qvitp_operand values = {value.data, value.stride, value.rows, 1};
    qvitp_right_pack(&h->scratch.key, &p->query, &keys, r->keys, p->dim, h->scratch.staged);
    qvitp_right_pack(&h->scratch.value, &p->probability, &values, p->dim, r->keys,
                     h->scratch.staged_codes);
    size_t columns = qvitp_vector_columns(p->query.kernel, r->keys);
    int floats = is_float(p);
    for (size_t j = 0; j < columns; j++) {
        h->scratch.score_vectors[j] = floats ? p->float_scale : p->score_scale[h->head];
        h->scratch.zeros[j] = 0;
    }
}

/* Whether the sums of Q K^T are scores enough for the softmax. */
static int takes_sums(const struct head_run *h)
{
    const struct qvitp_attention_run *r = h->run;
    return !is_float(r->plan) && !r->args->bias && !r->args->mask &&
           r->plan->sum_steps[h->head] >= 0;
}

/* Scores of the queries [first, first + rows) into the scratch rows: scaled, unless the softmax does that, or the caller
 * wants to see them raw. */
static void compute_scores(const struct head_run *h, size_t first, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    const struct scratch *s = &h->scratch;
    int floats = is_float(p);
    struct qvitp_epilogue epilogue = {
        .init = s->key.init, .scale = s->score_vectors, .bias = s->zeros, .out = QVITP_OUT_F32};
    if (takes_sums(h)) epilogue.out = QVITP_OUT_SUM;
    if (takes_sums(h) && p->query.kernel->gives_tops) epilogue.tops = s->tops;
    if (floats && !h->run->args->scores) epilogue.mul = s->score_vectors, epilogue.add = s->zeros;
    struct qvitp_block block = h->queries;
    block.epilogue = &epilogue;
    block.m = rows;
    block.a = (const char *)block.a + (ptrdiff_t)(first - h->group) * block.lda;
    block.b = s->key.panels;
    block.columns = h->run->keys;
    block.out = s->scores;
    block.ldo = (ptrdiff_t)score_stride(p, h->run->keys);
    block.out_size = sizeof(float);
    qvitp_block_run(&block);
}

/* The caller's scores: raw, and then scaled for the softmax. */
static void show_scores(const struct head_run *h, size_t first, size_t rows, size_t stride)
{
    const struct qvitp_attention_run *r = h->run;
    for (size_t i = 0; i < rows; i++) {
        float *raw = cell_row(r->args->scores, h->batch, h->head, first + i);
        float *scores = h->scratch.scores + i * stride;
        for (size_t j = 0; j < r->keys; j++) {
            raw[j] = scores[j];
            scores[j] *= r->plan->float_scale;
        }
    }
}

/* Softmax of the scratch rows in their place. */
static void compute_probabilities(const struct head_run *h, size_t first, size_t count)
{
    const struct qvitp_attention_run *r = h->run;
    const qvit_attention_args *a = r->args;
    size_t stride = score_stride(r->plan, r->keys);
    float *scores = h->scratch.scores;
    struct qvitp_softmax rows = {.m = count, .n = r->keys, .scores = scores, .dst = scores};
    rows.lds = rows.ldd = (ptrdiff_t)stride;
    rows.bias = cell_row(a->bias, h->batch, h->head, first);
    rows.mask = cell_row(a->mask, h->batch, h->head, first);
    if (a->bias) rows.ldb = a->bias->strides[2];
    if (a->mask) rows.ldm = a->mask->strides[2];
    if (a->scores) show_scores(h, first, count, stride);
    r->plan->base.engine->kernels.softmax->run(&rows);
    for (size_t i = 0; a->probabilities && i < count; i++)
        memcpy(cell_row(a->probabilities, h->batch, h->head, first + i), scores + i * stride,
               r->keys * sizeof(float));
}

/* Codes are padded with zeros to whole k steps, so that they are read in place. */
static void pad_codes(const struct head_run *h, uint8_t *codes, size_t rows)
{
    size_t keys = h->run->keys, stride = score_stride(h->run->plan, keys);
    size_t padding = qvitp_packed_k(h->run->plan->probability.kernel, keys) - keys;
    for (uint8_t *row = codes + keys; rows > 0; rows--, row += stride)
        for (size_t j = 0; j < padding; j++) row[j] = 0;
}

/* Softmax of the scratch rows to the codes that the second product reads. */
static void compute_probability_codes(const struct head_run *h, size_t first, size_t count)
{
    const struct qvitp_attention_run *r = h->run;
    const struct qvitp_attention *p = r->plan;
    const qvit_attention_args *a = r->args;
    struct qvitp_softmax_codes rows = p->softmax;
    rows.m = count, rows.n = r->keys;
    rows.scores = h->scratch.scores;
    rows.bias = cell_row(a->bias, h->batch, h->head, first);
    rows.mask = cell_row(a->mask, h->batch, h->head, first);
    size_t stride = score_stride(p, r->keys), place = first - h->group;
    rows.dst = h->scratch.codes + place * stride;
    if (writes_planes(p)) rows.dst2 = h->scratch.codes2 + place * stride;
    rows.sum = p->relative ? h->scratch.sums + place : NULL;
    rows.lds = rows.ldd = (ptrdiff_t)stride;
    if (a->bias) rows.ldb = a->bias->strides[2];
    if (a->mask) rows.ldm = a->mask->strides[2];
    rows.sums = takes_sums(h);
    if (rows.sums && p->query.kernel->gives_tops) rows.tops = h->scratch.tops;
    rows.steps = rows.sums ? p->sum_steps[h->head] : QVITP_SOFTMAX_STEPS;
    p->base.engine->kernels.softmax_codes->run(&rows);
    pad_codes(h, rows.dst, count);
    if (rows.dst2) pad_codes(h, rows.dst2, count);
}

/* Divides rows of P V by the sums of their exponentials, on their way to the output. */
static void rescale_context(const struct head_run *h, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    const struct scratch *s = &h->scratch;
    struct qvitp_rescale row = p->rescale;
    if (row.mul) row.mul += h->head * p->head_columns, row.add += h->head * p->head_columns;
    for (size_t i = 0; i < rows; i++) {
        row.x = s->context + i * p->dim;
        row.dst = view_row(&h->output, h->group + i);
        row.factor = s->sums[i] > 0 ? 1 / s->sums[i] : 0;
        p->base.engine->kernels.rescale->run(&row);
    }
}

/* Rows of P V to the places of their tokens, neighbours together. */
static void run_windows(const struct head_run *h, struct qvitp_block *block, size_t rows)
{
    const int32_t *token = h->output.rows + h->group;
    for (size_t i = 0, run; i < rows; i += run) {
        for (run = 1; i + run < rows && token[i + run] == token[i] + (int32_t)run;) run++;
        block->m = run;
        block->out = view_row(&h->output, h->group + i);
        qvitp_block_run(block);
        block->a = (const char *)block->a + (ptrdiff_t)run * block->lda;
        if (block->a2) block->a2 = (const char *)block->a2 + (ptrdiff_t)run * block->lda;
    }
}

/* P V for the group's rows. */
static void compute_context(const struct head_run *h, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    size_t at = h->head * p->head_columns, stride = score_stride(p, h->run->keys);
    int floats = is_float(p);
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
        .out = view_row(&h->output, h->group),
        .ldo = h->output.stride,
        .out_size = h->output.size,
        .staged = h->scratch.staged_codes,
        .ready = p->writes_ready,
        .a2 = writes_planes(p) ? h->scratch.codes2 : NULL,
    };
    if (p->relative) {
        block.out = h->scratch.context, block.ldo = (ptrdiff_t)p->dim;
        block.out_size = sizeof(float);
        qvitp_block_run(&block);
        rescale_context(h, rows);
    } else if (h->output.rows) {
        run_windows(h, &block, rows);
    } else {
        qvitp_block_run(&block);
    }
}

/* Reads the group's queries where they lie, or stages them. */
static void take_queries(struct head_run *h, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    const struct head_view *v = &h->query;
    h->queries = (struct qvitp_block){.left = &p->query,
                                      .k = p->dim,
                                      .a = v->rows ? v->data : view_row(v, h->group),
                                      .lda = v->stride * (ptrdiff_t)v->size,
                                      .a_index = v->rows ? v->rows + h->group : NULL};
    qvitp_block_stage(&h->queries, rows, h->scratch.staged);
}

/* The group's queries, `rows` of them. */
static void run_group(struct head_run *h, size_t rows)
{
    const struct qvitp_attention *p = h->run->plan;
    size_t tiles = qvitp_tiles(rows, tile_rows(p));
    take_queries(h, rows);
    for (size_t i = 0; i < tiles; i++) {
        size_t first = qvitp_share(rows, tiles, i), count = qvitp_share(rows, tiles, i + 1) - first;
        compute_scores(h, h->group + first, count);
        if (is_float(p))
            compute_probabilities(h, h->group + first, count);
        else
            compute_probability_codes(h, h->group + first, count);
    }
    compute_context(h, rows);
}

static void run_unit(void *argument, size_t unit, size_t worker)
{
    const struct qvitp_attention_run *r = argument;
    const struct qvitp_attention *p = r->plan;
    size_t split = unit % r->units.splits, pair = unit / r->units.splits;
    struct head_run h = {.run = r, .batch = pair / p->heads, .head = pair % p->heads};
    carve_scratch(p, r->queries, r->keys, (char *)r->args->workspace + worker * r->per_worker,
                  &h.scratch);
    h.query = view(r->args->query, r->args->query_rows, h.batch, h.head);
    h.output = view(r->args->output, r->args->query_rows, h.batch, h.head);
    pack_head(&h);
    size_t begin = qvitp_share(r->queries, r->units.splits, split);
    size_t rows = qvitp_share(r->queries, r->units.splits, split + 1) - begin;
    size_t groups = qvitp_tiles(rows, group_rows(p, r->queries, r->keys));
    for (size_t i = 0; i < groups; i++) {
        h.group = begin + qvitp_share(rows, groups, i);
        run_group(&h, begin + qvitp_share(rows, groups, i + 1) - h.group);
    }
}

qvit_status qvit_attention_run(const qvit_plan *plan, const qvit_attention_args *args,
                               qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_ATTENTION, error));
    qvit_attention_args a = QVIT_ATTENTION_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct qvitp_attention_run r = {.plan = (const struct qvitp_attention *)plan, .args = &a};
    QVITP_TRY(qvitp_attention_check(&r, error));
    size_t workers = plan->engine->executor.workers;
    size_t needed = qvit_attention_workspace_size(plan, r.queries, r.keys);
    QVITP_TRY(qvitp_workspace_check(a.workspace, a.workspace_size, needed, error));
    r.per_worker = needed / workers;
    qvitp_units_init(&r.units, r.batch, r.plan->heads, r.queries, workers);
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, r.units.units, run_unit, &r, error));
    return qvitp_ok(error);
}
