/* settle.c - codes, bias and score, once all scales are chosen. */
#include "calib/settle.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "calib/nuclear.h"
#include "calib/weights.h"

/* A piece with memory of its own for its encoded form, and the product of its codes. */
struct work {
    struct qvitp_pool pool;
    struct qvitp_piece piece;
    struct qvitp_trial trial;
    float *out; /* [m][n] */
};

static qvit_status begin(struct work *w, const qvit_engine *engine, const struct qvitp_product *p,
                         const struct qvitp_coder *coder, const struct qvitp_piece *piece,
                         qvit_error *error)
{
    w->piece = *piece;
    w->piece.codes = qvitp_pool_alloc(&w->pool, piece->m, p->k);
    w->piece.panels = qvitp_pool_alloc(&w->pool, qvitp_panel_bytes(engine, p), 1);
    w->piece.sums = qvitp_pool_alloc(&w->pool, qvitp_sum_count(engine, p), sizeof(int32_t));
    w->out = qvitp_pool_alloc(&w->pool, piece->m, p->n * sizeof *w->out);
    if (!w->piece.codes || !w->piece.panels || !w->piece.sums || !w->out)
        return qvitp_no_memory(error);
    qvitp_left_encode(engine, p, coder, piece->m, piece->left, w->piece.codes);
    w->trial = (struct qvitp_trial){
        engine, p, &w->piece, coder, w->piece.codes, w->piece.panels, w->piece.sums, p->scale};
    return QVIT_OK;
}

/* ---- linear ---- */

/*
 * The mean error of every output is taken off the bias (Liu et al., arXiv 2106.14156, 3.4; Bias
 * Compensation, arXiv 2404.01892), and off the outputs, so that they are scored as they will be. Rows count
 * as qvitp_row_weights says: in the plain mean, a few tokens with outputs a hundred times larger than
 * others', where ranges are clipped, would move the bias of all.
 */
static qvit_status correct_bias(const struct qvitp_settling *s, struct work *w, qvit_error *error)
{
    size_t m = w->piece.m, n = s->product->n;
    const float *out = w->out, *target = w->piece.target;
    const float *gradient = qvitp_recipe_needs_gradient(s->recipe) ? w->piece.gradient : NULL;
    const struct qvitp_row_sides rows = {m, n, n, target, gradient};
    float *weight = qvitp_pool_alloc(&w->pool, m, sizeof *weight);
    if (!weight) return qvitp_no_memory(error);
    QVITP_TRY(qvitp_row_weights(&w->pool, &rows, s->recipe->row_floor, weight, error));
    for (size_t j = 0; j < n; j++) {
        double mean = 0;
        for (size_t i = 0; i < m; i++)
            mean += ((double)out[i * n + j] - (double)target[i * n + j]) * (double)weight[i];
        mean /= (double)m;
        s->bias[j] = (float)((double)s->bias[j] - mean);
        for (size_t i = 0; i < m; i++) w->out[i * n + j] -= (float)mean;
    }
    return QVIT_OK;
}

/* Moves the outputs by what the bias was moved by. */
static void shift_out(const struct qvitp_settling *s, struct work *w, const float *before)
{
    size_t n = s->product->n;
    for (size_t i = 0; i < w->piece.m; i++)
        for (size_t j = 0; j < n; j++) w->out[i * n + j] += s->bias[j] - before[j];
}

/* Adds the part of the output that codes do not see to both sides. */
static void add_offset(const struct qvitp_settling *s, struct work *w, float *target)
{
    size_t n = s->product->n;
    for (size_t i = 0; i < w->piece.m; i++)
        for (size_t j = 0; j < n; j++) {
            float offset = s->offset ? s->offset[j] : 0;
            target[i * n + j] = w->piece.target[i * n + j] + offset;
            w->out[i * n + j] += offset;
        }
}

static qvit_status add_nuclear(struct qvitp_pool *pool, size_t m, size_t n, const float *target,
                               struct qvitp_score *score, qvit_error *error)
{
    double *scratch = qvitp_pool_alloc(pool, qvitp_nuclear_scratch(m, n), sizeof *scratch);
    if (!scratch) return qvitp_no_memory(error);
    score->nuclear += qvitp_nuclear_norm(m, n, target, n, scratch);
    return QVIT_OK;
}

/* Codes that lie at an end of their block's range. */
static void score_right(const struct qvitp_product *p, const uint8_t *codes,
                        struct qvitp_score *score)
{
    for (size_t row = 0; row < p->n; row++)
        for (size_t h = 0; h < qvitp_product_k_blocks(p); h++) {
            const size_t first = qvitp_product_k_begin(p, h), end = qvitp_product_k_begin(p, h + 1);
            struct qvitp_coder right = qvitp_right_coder(p, qvitp_product_at(p, h, row));
            qvitp_score_codes(score, 1, &right, codes + row * p->k + first, end - first);
        }
}

static qvit_status score_linear(const struct qvitp_settling *s, struct work *w,
                                struct qvitp_score *score, qvit_error *error)
{
    size_t m = w->piece.m, n = s->product->n;
    float *target = qvitp_pool_alloc(&w->pool, m, n * sizeof *target);
    if (!target) return qvitp_no_memory(error);
    add_offset(s, w, target);
    struct qvitp_outputs o = {m, n, n, w->out, target, w->piece.gradient};
    qvitp_score_add(score, &o);
    qvitp_score_codes(score, 0, s->coder, w->piece.codes, m * s->product->k);
    score_right(s->product, s->codes, score);
    score->samples = w->piece.samples;
    return s->recipe->nuclear ? add_nuclear(&w->pool, m, n, target, score, error) : QVIT_OK;
}

static qvit_status settle_rows(const struct qvitp_settling *s, struct work *w,
                               struct qvitp_score *score, qvit_error *error)
{
    const struct qvitp_product *p = s->product;
    float *found = qvitp_pool_alloc(&w->pool, p->n, sizeof *found);
    if (!found) return qvitp_no_memory(error);
    memcpy(found, s->bias, p->n * sizeof *found);
    if (s->recipe->gptq) QVITP_TRY(qvitp_weights_fit(s, error));
    QVITP_TRY(begin(w, s->engine, p, s->coder, p->piece, error));
    qvitp_trial_pack(s->engine, p, s->codes, w->piece.panels, w->piece.sums);
    QVITP_TRY(qvitp_trial_all(&w->trial, w->out, error));
    if (s->recipe->correct && !s->recipe->gptq)
        QVITP_TRY(correct_bias(s, w, error));
    else
        shift_out(s, w, found);
    return score_linear(s, w, score, error);
}

qvit_status qvitp_settle_linear(const struct qvitp_settling *s, struct qvitp_score *score,
                                qvit_error *error)
{
    const struct qvitp_product *p = s->product;
    qvitp_right_encode(s->engine, p, p->piece, p->scale, s->codes);
    if (!p->piece->m) return QVIT_OK;
    struct work w = {.pool = {s->engine, NULL}};
    qvit_status status = settle_rows(s, &w, score, error);
    qvitp_pool_free(&w.pool);
    return status;
}

/* ---- matmul ---- */

static qvit_status score_piece(struct work *w, const qvit_engine *engine,
                               const struct qvitp_product *p, const struct qvitp_coder *coder,
                               const struct qvitp_piece *piece, struct qvitp_score *score,
                               qvit_error *error)
{
    QVITP_TRY(begin(w, engine, p, coder, piece, error));
    uint8_t *right = qvitp_pool_alloc(&w->pool, p->n, p->k);
    if (!right) return qvitp_no_memory(error);
    qvitp_trial_encode(engine, p, piece, p->scale, right, w->piece.panels, w->piece.sums);
    QVITP_TRY(qvitp_trial_all(&w->trial, w->out, error));
    struct qvitp_outputs o = {piece->m, p->n, p->n, w->out, piece->target, piece->gradient};
    struct qvitp_coder right_ends = qvitp_right_coder(p, 0);
    qvitp_score_add(score, &o);
    qvitp_score_codes(score, 0, coder, w->piece.codes, piece->m * p->k);
    qvitp_score_codes(score, 1, &right_ends, right, p->n * p->k);
    return QVIT_OK;
}

qvit_status qvitp_settle_score(const qvit_engine *engine, const struct qvitp_product *p,
                               const struct qvitp_coder *coder, struct qvitp_score *score,
                               qvit_error *error)
{
    for (size_t i = 0; i < p->pieces; i++) {
        struct work w = {.pool = {engine, NULL}};
        qvit_status status = score_piece(&w, engine, p, coder, &p->piece[i], score, error);
        qvitp_pool_free(&w.pool);
        if (status != QVIT_OK) return status;
    }
    if (p->pieces > score->samples) score->samples = p->pieces;
    return QVIT_OK;
}
