/* sublayer.c - the search for scales of K-blocks, one after the other. */
#include "calib/sublayer.h"

#include <string.h>

#include "base/error.h"
#include "calib/pool.h"

/* Some K-blocks of one product as a product of their own. */
struct part {
    struct qvitp_product product;
    struct qvitp_piece piece;
    struct qvitp_k_blocks blocks;
    float *left, *right, *target;
};

struct run {
    struct qvitp_sublayer *search;
    struct qvitp_recipe recipe; /* one round at a time */
    struct qvitp_pool pool;
    float **left_over; /* [products][m][n] target less the present product */
    struct part *part; /* [products] */
    float *out;        /* [m][n], the largest of all */
};

/* ---- parts ---- */

static void copy_columns(const float *from, size_t rows, size_t width, size_t first, size_t count,
                         float *to)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * count, from + i * width + first, count * sizeof *to);
}

/* Makes a part of K-blocks [h, end) of a product. */
static void take_part(struct run *r, size_t index, size_t h, size_t end)
{
    const struct qvitp_product *whole = &r->search->product[index];
    const struct qvitp_k_blocks *b = &r->search->cut->blocks;
    struct part *p = &r->part[index];
    const size_t first = b->starts[h], k = b->starts[end] - first, m = whole->piece->m;
    copy_columns(whole->piece->left, m, whole->k, first, k, p->left);
    copy_columns(whole->piece->right, whole->n, whole->k, first, k, p->right);
    p->blocks.count = end - h;
    for (size_t i = 0; i <= end - h; i++) p->blocks.starts[i] = b->starts[h + i] - first;
    for (size_t i = 0; i < end - h; i++) p->blocks.ends[i] = b->ends[h + i] - first;
    p->blocks.packed = p->blocks.ends[end - h - 1];
    p->piece = *whole->piece;
    p->piece.left = p->left;
    p->piece.right = p->right;
    p->piece.target = p->target;
    p->product = *whole;
    p->product.k = k;
    p->product.group = 0;
    p->product.base += h * whole->scales;
    p->product.scale += h * whole->scales;
    if (whole->zero) p->product.zero += h * whole->scales;
    p->product.piece = &p->piece;
    p->product.coder_of = NULL;
    p->product.blocks = p->blocks.count > 1 ? &p->blocks : NULL;
}

/* Adds the part's product with the present choice to what is left over, or takes it off again. */
static qvit_status move(struct run *r, size_t index, const struct qvitp_coder *coder, float sign,
                        qvit_error *error)
{
    const struct part *p = &r->part[index];
    const size_t cells = p->piece.m * p->product.n;
    QVITP_TRY(qvitp_trial_present(r->search->engine, &p->product, &p->piece, coder, r->out, error));
    for (size_t i = 0; i < cells; i++) r->left_over[index][i] += sign * r->out[i];
    return QVIT_OK;
}

/* ---- searches ---- */

static qvit_status run_search(struct run *r, size_t first, size_t count,
                              const struct qvitp_span *span, struct qvitp_coder *coder,
                              qvit_error *error)
{
    struct qvitp_product *products = qvitp_engine_alloc(r->search->engine, count, sizeof *products);
    if (!products) return qvitp_no_memory(error);
    for (size_t i = 0; i < count; i++) products[i] = r->part[first + i].product;
    struct qvitp_search s = {.engine = r->search->engine,
                             .recipe = &r->recipe,
                             .metric = r->search->metric,
                             .groups = 1,
                             .span = span,
                             .coder = coder,
                             .products = count,
                             .product = products};
    qvit_status status = qvitp_search_run(&s, error);
    qvitp_engine_free(r->search->engine, products);
    return status;
}

/* The weights' scales of one K-block of one product. */
static qvit_status search_weights(struct run *r, size_t index, size_t h, qvit_error *error)
{
    const struct qvitp_cut *cut = r->search->cut;
    struct part *p = &r->part[index];
    struct qvitp_coder *coder = &cut->coder[cut->chunk_of[h]];
    struct qvitp_span span = cut->span[cut->chunk_of[h]];
    span.fixed = 1;
    take_part(r, index, h, h + 1);
    QVITP_TRY(move(r, index, coder, 1, error));
    memcpy(p->target, r->left_over[index], p->piece.m * p->product.n * sizeof *p->target);
    QVITP_TRY(run_search(r, index, 1, &span, coder, error));
    return move(r, index, coder, -1, error);
}

/* The input's coder of one chunk, which all products have in common. */
static qvit_status search_chunk(struct run *r, size_t chunk, size_t h, size_t end,
                                qvit_error *error)
{
    const struct qvitp_cut *cut = r->search->cut;
    struct qvitp_coder *coder = &cut->coder[chunk];
    if (cut->span[chunk].fixed) return QVIT_OK;
    for (size_t i = 0; i < r->search->products; i++) {
        struct part *p = &r->part[i];
        take_part(r, i, h, end);
        p->product.fixed = 1;
        QVITP_TRY(move(r, i, coder, 1, error));
        memcpy(p->target, r->left_over[i], p->piece.m * p->product.n * sizeof *p->target);
    }
    QVITP_TRY(run_search(r, 0, r->search->products, &cut->span[chunk], coder, error));
    for (size_t i = 0; i < r->search->products; i++) QVITP_TRY(move(r, i, coder, -1, error));
    return QVIT_OK;
}

static qvit_status report(struct run *r, int32_t round, size_t h, qvit_error *error)
{
    const struct qvitp_sublayer *s = r->search;
    const double blocks = (double)s->cut->blocks.count, rounds = (double)s->recipe->rounds;
    const double done = ((double)round + (double)h / blocks) / rounds;
    if (s->progress && s->progress(s->user, done))
        return qvitp_fail(error, QVIT_ERR_CANCELLED, "cancelled");
    return QVIT_OK;
}

/* Chunk after chunk: all of its K-blocks, then the chunk itself. */
static qvit_status search_round(struct run *r, int32_t round, qvit_error *error)
{
    const struct qvitp_cut *cut = r->search->cut;
    for (size_t h = 0, first = 0; h < cut->blocks.count; h++) {
        QVITP_TRY(report(r, round, h, error));
        for (size_t i = 0; i < r->search->products; i++) QVITP_TRY(search_weights(r, i, h, error));
        if (h + 1 < cut->blocks.count && cut->chunk_of[h + 1] == cut->chunk_of[h]) continue;
        QVITP_TRY(search_chunk(r, cut->chunk_of[h], first, h + 1, error));
        first = h + 1;
    }
    return QVIT_OK;
}

/* ---- the whole ---- */

static qvit_status reserve(struct run *r, size_t index, qvit_error *error)
{
    const struct qvitp_product *p = &r->search->product[index];
    const size_t m = p->piece->m, blocks = r->search->cut->blocks.count;
    struct part *part = &r->part[index];
    part->left = qvitp_pool_alloc(&r->pool, m, p->k * sizeof *part->left);
    part->right = qvitp_pool_alloc(&r->pool, p->n, p->k * sizeof *part->right);
    part->target = qvitp_pool_alloc(&r->pool, m, p->n * sizeof *part->target);
    part->blocks.starts = qvitp_pool_alloc(&r->pool, blocks + 1, sizeof(size_t));
    part->blocks.ends = qvitp_pool_alloc(&r->pool, blocks, sizeof(size_t));
    r->left_over[index] = qvitp_pool_alloc(&r->pool, m, p->n * sizeof **r->left_over);
    return part->left && part->right && part->target && part->blocks.starts && part->blocks.ends &&
                   r->left_over[index]
               ? QVIT_OK
               : qvitp_no_memory(error);
}

/* What the present choice of all blocks leaves of the targets. */
static qvit_status begin(struct run *r, qvit_error *error)
{
    const struct qvitp_sublayer *s = r->search;
    size_t most = 0;
    r->part = qvitp_pool_alloc(&r->pool, s->products, sizeof *r->part);
    r->left_over = qvitp_pool_alloc(&r->pool, s->products, sizeof *r->left_over);
    if (!r->part || !r->left_over) return qvitp_no_memory(error);
    for (size_t i = 0; i < s->products; i++) {
        QVITP_TRY(reserve(r, i, error));
        size_t cells = s->product[i].piece->m * s->product[i].n;
        if (cells > most) most = cells;
    }
    r->out = qvitp_pool_alloc(&r->pool, most, sizeof *r->out);
    if (!r->out) return qvitp_no_memory(error);
    for (size_t i = 0; i < s->products; i++) {
        const struct qvitp_product *p = &s->product[i];
        QVITP_TRY(qvitp_trial_present(s->engine, p, p->piece, s->cut->coder, r->out, error));
        for (size_t c = 0; c < p->piece->m * p->n; c++)
            r->left_over[i][c] = p->piece->target[c] - r->out[c];
    }
    return QVIT_OK;
}

qvit_status qvitp_sublayer_run(struct qvitp_sublayer *search, qvit_error *error)
{
    if (search->metric != &qvitp_metric_mse && search->metric != &qvitp_metric_hessian)
        return qvitp_fail(
            error, QVIT_ERR_UNSUPPORTED,
            "metric %s does not add up over blocks of inputs: take mse or hessian, or "
            "column-blocks=1, block-length=0 and chunks=1",
            search->metric->name);
    struct run r = {.search = search, .recipe = *search->recipe, .pool = {search->engine, NULL}};
    r.recipe.rounds = 1;
    qvit_status status = begin(&r, error);
    for (int32_t round = 0; status == QVIT_OK && round < search->recipe->rounds; round++)
        status = search_round(&r, round, error);
    qvitp_pool_free(&r.pool);
    return status;
}
