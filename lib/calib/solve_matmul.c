/* solve_matmul.c - quantizers of the two operands of a matmul site. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
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
    int relative, by_channel; /* probabilities are relative; values have a scale for each channel */
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
    if (s->relative) flags |= QVIT_QUANTIZER_RELATIVE;
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
            if (s->relative) span->hi = 1;
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
    size_t count = s->by_channel ? site->outputs : 1;
    float *scales = qvitp_pool_alloc(&s->pool, qvitp_mul(site->heads, count), 2 * sizeof *scales);
    if (!scales) return qvitp_no_memory(error);
    for (size_t h = 0; h < site->heads; h++) {
        float lo = 0, hi = 0;
        qvitp_solve_range(recipe, recipe->input_bits, site, s->right_stream, h, h, 1, &lo, &hi);
        struct qvitp_product *p = &s->product[h];
        *p = (struct qvitp_product){.n = site->outputs,
                                    .k = site->inputs,
                                    .group = s->groups > 1 ? h : 0,
                                    .left = s->coder[s->groups > 1 ? h : 0],
                                    .by_k = !site->second_transposed && !s->by_channel,
                                    .bits = recipe->input_bits,
                                    .scales = count,
                                    .base = &scales[2 * h * count],
                                    .scale = &scales[(2 * h + 1) * count]};
        double top = (double)fmaxf(-lo, hi) * (1 + recipe->headroom / 2);
        for (size_t j = 0; j < count; j++)
            p->base[j] = p->scale[j] = qvitp_symmetric_scale(top, p->bits);
    }
    return QVIT_OK;
}

/* The range of each channel of the values, of which the kept matrices are all that is known. */
static void set_channel_scales(const struct solving *s, struct qvitp_product *p)
{
    for (size_t j = 0; j < p->n; j++) {
        float top = 0;
        for (size_t i = 0; i < p->pieces; i++)
            for (size_t c = 0; c < p->k; c++)
                top = fmaxf(top, fabsf(p->piece[i].right[j * p->k + c]));
        double room = 1 + s->common->recipe.headroom / 2;
        p->base[j] = p->scale[j] = qvitp_symmetric_scale((double)top * room, p->bits);
    }
}

/* ---- the kept matrices ---- */

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

/* Rows divided by their largest numbers, which multiply the product later. */
static qvit_status set_relative(struct solving *s, struct qvitp_piece *piece, float *left,
                                qvit_error *error)
{
    size_t k = s->site->inputs;
    float *scale = qvitp_pool_alloc(&s->pool, piece->m, sizeof *scale);
    if (!scale) return qvitp_no_memory(error);
    for (size_t i = 0; i < piece->m; i++) {
        float top = 0;
        for (size_t c = 0; c < k; c++) top = fmaxf(top, left[i * k + c]);
        for (size_t c = 0; top > 0 && c < k; c++) left[i * k + c] /= top;
        scale[i] = top;
    }
    piece->row_scale = scale;
    return QVIT_OK;
}

/* [n][k] of [k][n]. */
static const float *turned(struct solving *s, const float *x)
{
    size_t n = s->site->outputs, k = s->site->inputs;
    float *out = qvitp_pool_alloc(&s->pool, n, k * sizeof *out);
    for (size_t c = 0; out && c < k; c++)
        for (size_t j = 0; j < n; j++) out[j * k + c] = x[c * n + j];
    return out;
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
    float *x = qvitp_solve_gather(&s->pool, rows, order, count, QVITP_PART_INPUT);
    float *encoded = qvitp_solve_gather(&s->pool, rows, order, count, left);
    const float *second = qvitp_sample_part(&m->keys, key, right);
    *piece = (struct qvitp_piece){.m = count,
                                  .left = encoded,
                                  .right = s->by_channel ? turned(s, second) : second,
                                  .target = target,
                                  .sample_end = order + rows->count,
                                  .samples = 1};
    order[rows->count] = count;
    if (has_gradient)
        piece->gradient = qvitp_solve_gather(&s->pool, rows, order, count, QVITP_PART_GRADIENT);
    if (!target || !x || !encoded || !piece->right || (has_gradient && !piece->gradient))
        return qvitp_no_memory(error);
    if (s->relative) QVITP_TRY(set_relative(s, piece, encoded, error));
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
    if (s->by_channel) set_channel_scales(s, p);
    if (p->pieces || (!s->metric && !s->relative)) return QVIT_OK;
    return qvitp_fail(
        error, QVIT_ERR_STATE, "head %zu was never observed whole%s", head,
        s->metric && s->metric->gradient ? ", with the gradients that the metric needs" : "");
}

static double cut_error(const struct solving *s, const struct qvitp_coder *coder)
{
    double error = 0;
    for (size_t h = 0; h < s->site->heads; h++)
        for (size_t i = 0; i < s->product[h].pieces; i++) {
            const struct qvitp_piece *piece = &s->product[h].piece[i];
            for (size_t at = 0; at < piece->m * s->site->inputs; at++) {
                float x = piece->left[at];
                float d = qvitp_coder_decode(coder, qvitp_coder_encode(coder, x)) - x;
                d *= piece->row_scale[at / s->site->inputs];
                error += (double)d * (double)d;
            }
        }
    return error;
}

/* The cut whose codes fit the kept rows best: statistics know nothing of relative numbers. */
static void set_relative_cut(struct solving *s)
{
    double least = INFINITY;
    for (int32_t cut = 0; cut < QVITP_CUTS; cut++) {
        struct qvitp_coder coder = qvitp_span_twin(s->span, cut);
        double error = cut_error(s, &coder);
        if (error < least) least = error, *s->coder = coder;
    }
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
    size_t scales = s->product[0].scales, blocks = heads * scales;
    struct qvitp_coder *coders = qvitp_pool_alloc(&s->pool, blocks, sizeof *coders);
    if (!coders) return qvitp_no_memory(error);
    for (size_t i = 0; i < blocks; i++) coders[i].scale = s->product[i / scales].scale[i % scales];
    size_t width = site->second_transposed ? site->inputs : site->outputs / scales;
    QVITP_TRY(qvitp_solve_heads(r->engine, s->span, s->coder, s->groups > 1 ? heads : 0,
                                site->inputs, &r->input, error));
    return qvitp_solve_heads(r->engine, &right, coders, blocks > 1 ? blocks : 0, width, &r->second,
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
    if (s->relative && s->span->scheme == QVIT_SCHEME_TWIN_SOFTMAX && !s->metric)
        set_relative_cut(s);
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
    int probabilities = site->kind == QVIT_INPUT_SOFTMAX;
    s.relative = probabilities && common->recipe.relative;
    s.by_channel = probabilities && common->recipe.value_channels && s.metric;
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
