/* solve_matmul.c - quantizers of the two operands of a matmul site. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "calib/result.h"
#include "calib/search.h"
#include "calib/settle.h"
#include "calib/solve.h"
#include "quant/quantizer.h"

struct solving {
    const struct qvitp_solving *common;
    struct qvitp_site *site;
    struct qvitp_pool pool;
    const struct qvitp_metric *metric;
    enum qvitp_stream left_stream, right_stream;
    size_t groups; /* of left coders: one for each head, or one for all behind a softmax */
    struct qvitp_span *span;
    struct qvitp_coder *coder;
    struct qvitp_product *product; /* [heads] */
};

static qvit_status check_observed(const struct solving *s, qvit_error *error)
{
    const struct qvitp_site *site = s->site;
    if (qvitp_site_saw(site, s->left_stream) && qvitp_site_saw(site, s->right_stream))
        return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_STATE, "both operands must be observed");
}

static void set_spans(struct solving *s)
{
    const struct qvitp_recipe *recipe = &s->common->recipe;
    const struct qvitp_site *site = s->site;
    const struct qvitp_stats *stats = &site->stats[s->left_stream];
    qvit_scheme scheme = qvitp_left_scheme(recipe, site->type, site->kind);
    /* Symmetric left codes have the range of right ones, so that Q can lie in one tensor with K, V. */
    uint32_t flags = scheme == QVIT_SCHEME_SYMMETRIC ? qvitp_right_flags(recipe->input_bits) : 0;
    for (size_t g = 0; g < s->groups; g++)
        s->span[g] =
            (struct qvitp_span){.scheme = scheme, .bits = recipe->input_bits, .flags = flags};
    for (size_t h = 0; h < site->heads; h++) {
        struct qvitp_span *span = &s->span[s->groups > 1 ? h : 0];
        qvitp_solve_range(recipe, span->bits, site, s->left_stream, h, h, 1, &span->lo, &span->hi);
    }
    for (size_t g = 0; g < s->groups; g++) {
        struct qvitp_span *span = &s->span[g];
        if (span->lo == span->hi)
            qvitp_log(s->common->engine, QVIT_LOG_WARNING,
                      "%s: the left operand of group %zu was always 0", site->label, g);
        /* Probabilities are never negative: their zero point is 0 whatever was seen. */
        if (site->kind == QVIT_INPUT_SOFTMAX) {
            span->lo = 0;
        } else {
            span->lo *= (float)(1 + recipe->headroom / 2);
            span->hi *= (float)(1 + recipe->headroom / 2);
        }
        s->coder[g] = span->scheme == QVIT_SCHEME_TWIN_SOFTMAX
                          ? qvitp_span_twin(span, qvitp_best_cut(span, stats))
                          : qvitp_span_coder(span, 1);
    }
}

static qvit_status set_products(struct solving *s, qvit_error *error)
{
    const struct qvitp_recipe *recipe = &s->common->recipe;
    const struct qvitp_site *site = s->site;
    float *scales = qvitp_pool_alloc(&s->pool, site->heads, 2 * sizeof *scales);
    if (!scales) return qvitp_no_memory(error);
    for (size_t h = 0; h < site->heads; h++) {
        float lo = 0, hi = 0;
        qvitp_solve_range(recipe, recipe->input_bits, site, s->right_stream, h, h, 1, &lo, &hi);
        struct qvitp_product *p = &s->product[h];
        *p = (struct qvitp_product){.n = site->outputs,
                                    .k = site->inputs,
                                    .group = s->groups > 1 ? h : 0,
                                    .by_k = !site->second_transposed,
                                    .bits = recipe->input_bits,
                                    .scales = 1,
                                    .base = &scales[2 * h],
                                    .scale = &scales[2 * h + 1]};
        double top = (double)fmaxf(-lo, hi) * (1 + recipe->headroom / 2);
        p->base[0] = p->scale[0] = qvitp_symmetric_scale(top, p->bits);
    }
    return QVIT_OK;
}

/* ---- the kept matrices ---- */

static float *gather(struct solving *s, const struct qvitp_sample *rows, const size_t *order,
                     size_t count, enum qvitp_part part)
{
    size_t width = rows->width[part];
    float *x = qvitp_pool_alloc(&s->pool, count, width * sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        memcpy(x + i * width, qvitp_sample_part(rows, &rows->rows[order[i]], part),
               width * sizeof *x);
    return x;
}

/* The rows of one matrix that have all that is needed, and the gradient, if it is needed or every one
 * has it. */
static size_t choose_rows(const struct solving *s, const struct qvitp_sample *rows,
                          enum qvitp_part left, size_t *order, int *has_gradient)
{
    const struct qvitp_metric *metric = s->metric;
    uint32_t whole = 1u << QVITP_PART_INPUT | 1u << left;
    size_t all = qvitp_sample_order(rows, whole, order);
    size_t judged = qvitp_sample_order(rows, whole | 1u << QVITP_PART_GRADIENT, order);
    *has_gradient = (metric && metric->gradient) || judged == all;
    return *has_gradient ? judged : qvitp_sample_order(rows, whole, order);
}

/* One kept matrix as a piece; m stays 0 if none of its rows came whole. */
static qvit_status set_piece(struct solving *s, const struct qvitp_matrices *m, size_t matrix,
                             struct qvitp_piece *piece, qvit_error *error)
{
    const struct qvitp_site *site = s->site;
    const struct qvitp_sample_row *key = &m->keys.rows[matrix];
    const struct qvitp_sample *rows = &m->left[key->slot];
    enum qvitp_part left = (enum qvitp_part)(s->left_stream - QVITP_STREAM_INPUT);
    enum qvitp_part right = (enum qvitp_part)(s->right_stream - QVITP_STREAM_SECOND);
    size_t *order = qvitp_pool_alloc(&s->pool, rows->count, 2 * sizeof *order);
    if (!order) return qvitp_no_memory(error);
    int has_gradient;
    size_t count = choose_rows(s, rows, left, order, &has_gradient);
    if (!count) return QVIT_OK;
    float *target = qvitp_pool_alloc(&s->pool, count, site->outputs * sizeof *target);
    float *x = gather(s, rows, order, count, QVITP_PART_INPUT);
    *piece = (struct qvitp_piece){.m = count,
                                  .left = gather(s, rows, order, count, left),
                                  .right = qvitp_sample_part(&m->keys, key, right),
                                  .target = target,
                                  .sample_end = order + rows->count,
                                  .samples = 1};
    order[rows->count] = count;
    if (has_gradient) piece->gradient = gather(s, rows, order, count, QVITP_PART_GRADIENT);
    if (!target || !x || !piece->left || (has_gradient && !piece->gradient))
        return qvitp_no_memory(error);
    return qvitp_float_product(s->common->engine, count, site->outputs, site->inputs, x,
                               qvitp_sample_part(&m->keys, key, QVITP_PART_INPUT),
                               !site->second_transposed, target, error);
}

static qvit_status set_pieces(struct solving *s, size_t head, qvit_error *error)
{
    const struct qvitp_matrices *m = &s->site->matrices[head];
    struct qvitp_product *p = &s->product[head];
    size_t order[QVITP_MATRICES];
    uint32_t parts = 1u << QVITP_PART_INPUT | 1u << (s->right_stream - QVITP_STREAM_SECOND);
    size_t count = qvitp_sample_order(&m->keys, parts, order);
    p->piece = qvitp_pool_alloc(&s->pool, count, sizeof *p->piece);
    if (!p->piece) return qvitp_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        QVITP_TRY(set_piece(s, m, order[i], &p->piece[p->pieces], error));
        if (p->piece[p->pieces].m) p->pieces++;
    }
    if (p->pieces || !s->metric) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_STATE, "head %zu was never observed whole%s", head,
                      s->metric->gradient ? ", with the gradients that the metric needs" : "");
}

static qvit_status search(struct solving *s, qvit_error *error)
{
    struct qvitp_search run = {.engine = s->common->engine,
                               .recipe = &s->common->recipe,
                               .metric = s->metric,
                               .groups = s->groups,
                               .span = s->span,
                               .coder = s->coder,
                               .products = s->site->heads,
                               .product = s->product,
                               .progress = s->common->progress,
                               .user = s->common->user};
    return s->metric ? qvitp_search_run(&run, error) : QVIT_OK;
}

/* ---- result ---- */

static qvit_status fill_result(struct solving *s, qvit_result *r, qvit_error *error)
{
    const struct qvitp_site *site = s->site;
    size_t heads = site->heads, bits = (size_t)s->product[0].bits;
    const struct qvitp_span right = {.scheme = QVIT_SCHEME_SYMMETRIC,
                                     .bits = (int32_t)bits,
                                     .flags = qvitp_right_flags((int32_t)bits)};
    struct qvitp_coder *coders = qvitp_pool_alloc(&s->pool, heads, sizeof *coders);
    if (!coders) return qvitp_no_memory(error);
    for (size_t h = 0; h < heads; h++) coders[h].scale = s->product[h].scale[0];
    QVITP_TRY(qvitp_solve_quantizer(r->engine, s->span, s->coder, s->groups > 1 ? heads : 0,
                                    site->inputs, &r->input, error));
    return qvitp_solve_quantizer(r->engine, &right, coders, heads > 1 ? heads : 0,
                                 site->second_transposed ? site->inputs : site->outputs, &r->second,
                                 error);
}

static qvit_status solve(struct solving *s, qvit_result *r, qvit_error *error)
{
    QVITP_TRY(check_observed(s, error));
    s->span = qvitp_pool_alloc(&s->pool, s->groups, sizeof *s->span);
    s->coder = qvitp_pool_alloc(&s->pool, s->groups, sizeof *s->coder);
    s->product = qvitp_pool_alloc(&s->pool, s->site->heads, sizeof *s->product);
    if (!s->span || !s->coder || !s->product) return qvitp_no_memory(error);
    set_spans(s);
    QVITP_TRY(set_products(s, error));
    for (size_t h = 0; h < s->site->heads; h++) QVITP_TRY(set_pieces(s, h, error));
    qvit_status searched = search(s, error);
    if (searched != QVIT_OK && (searched != QVIT_ERR_CANCELLED || s->site->result)) return searched;
    for (size_t h = 0; h < s->site->heads; h++)
        QVITP_TRY(qvitp_settle_score(s->common->engine, &s->product[h],
                                     &s->coder[s->product[h].group], &r->score, error));
    QVITP_TRY(fill_result(s, r, error));
    return searched == QVIT_OK ? QVIT_OK : qvitp_fail(error, searched, "cancelled");
}

qvit_status qvitp_solve_matmul(const struct qvitp_solving *common, struct qvitp_site *site,
                               qvit_error *error)
{
    struct solving s = {.common = common,
                        .site = site,
                        .pool = {common->engine, NULL},
                        .metric = qvitp_recipe_metric(&common->recipe, site->type, site->kind),
                        .left_stream = qvitp_solve_stream(common, site, QVITP_STREAM_INPUT),
                        .right_stream = qvitp_solve_stream(common, site, QVITP_STREAM_SECOND),
                        .groups = site->kind == QVIT_INPUT_SOFTMAX ? 1 : site->heads};
    qvit_result *r = qvitp_engine_alloc(common->engine, 1, sizeof *r);
    if (!r) return qvitp_no_memory(error);
    r->engine = common->engine;
    r->recipe = common->recipe;
    r->use_quantized = common->use_quantized != 0;
    qvit_status status = solve(&s, r, error);
    qvitp_pool_free(&s.pool);
    if (status != QVIT_OK && (status != QVIT_ERR_CANCELLED || site->result)) {
        qvit_result_destroy(r);
        return status;
    }
    qvit_result_destroy(site->result);
    site->result = r;
    return status;
}
