/* solve_linear.c - quantizers, codes and bias of linear sites that read one tensor. */
#include <string.h>

#include "base/error.h"
#include "base/numerics.h"
#include "base/shares.h"
#include "calib/cut.h"
#include "calib/result.h"
#include "calib/search.h"
#include "calib/settle.h"
#include "calib/solve.h"
#include "calib/sublayer.h"
#include "quant/quantizer.h"
#include "tensor.h"

/* One site while it is solved. Of inputs all arrays are in the order of places (cut.h). */
struct part {
    struct qvitp_site *site;
    float *weight; /* [outputs][inputs], times the channels' scales */
    float *offset; /* [outputs] the weights times the channels' shifts; NULL: 0 */
    float *bias;   /* [outputs] the site's and the offset, corrected in the end */
    uint8_t *codes;
    struct qvitp_product product;
    struct qvitp_piece piece;
    struct qvitp_score score;
    qvit_result *result;
};

struct group {
    const struct qvitp_solving *solving;
    struct qvitp_pool pool;
    size_t count, inputs;
    struct part *part;
    struct qvitp_input input;
    struct qvitp_cut cut;
};

/* ---- the weights ---- */

/* What the producer takes off the channels comes back as a part of the bias. */
static void set_bias(struct group *g, struct part *p)
{
    const struct qvitp_site *s = p->site;
    for (size_t row = 0; row < s->outputs; row++) {
        double shift = 0;
        ptrdiff_t at = qvitp_tensor_row(&s->weight, row);
        for (size_t c = 0; p->offset && c < s->inputs; c++)
            shift +=
                (double)qvitp_get_float(&s->weight, at, c) * (double)g->input.channels.shift[c];
        double bias = s->bias.data ? (double)qvitp_get_float(&s->bias, 0, row) : 0;
        if (p->offset) p->offset[row] = (float)shift;
        p->bias[row] = (float)(bias + shift);
    }
}

static qvit_status read_weight(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    const struct qvitp_channels *channels = &g->input.channels;
    p->weight = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *p->weight);
    p->bias = qvitp_pool_alloc(&g->pool, s->outputs, sizeof *p->bias);
    p->codes = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs);
    if (channels->shift) p->offset = qvitp_pool_alloc(&g->pool, s->outputs, sizeof *p->offset);
    if (!p->weight || !p->bias || !p->codes || (channels->shift && !p->offset))
        return qvitp_no_memory(error);
    for (size_t row = 0; row < s->outputs; row++) {
        ptrdiff_t at = qvitp_tensor_row(&s->weight, row);
        for (size_t i = 0; i < s->inputs; i++) {
            size_t c = qvitp_cut_channel(&g->cut, i);
            float scale = channels->scale ? channels->scale[c] : 1;
            p->weight[row * s->inputs + i] = qvitp_get_float(&s->weight, at, c) * scale;
        }
    }
    set_bias(g, p);
    return QVIT_OK;
}

/* Shares of the rows that have a scale: each row, the parts that the outputs are made of, or as many as
 * the recipe says. */
static size_t count_scales(const struct qvitp_recipe *recipe, const struct qvitp_site *s)
{
    size_t blocks = (size_t)recipe->row_blocks;
    if (blocks) return blocks < s->outputs ? blocks : s->outputs;
    return recipe->layer_weights ? s->output_parts : s->outputs;
}

/* The scale that a block of weights starts from: rows [first, end) of inputs [at, to). */
static float first_scale(const struct qvitp_recipe *recipe, const struct part *p, size_t first,
                         size_t end, size_t at, size_t to, float *block)
{
    size_t count = 0;
    for (size_t row = first; row < end; row++)
        for (size_t i = at; i < to; i++) block[count++] = p->weight[row * p->site->inputs + i];
    return qvitp_weight_scale(recipe, count, block);
}

static qvit_status set_product(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *s = p->site;
    const struct qvitp_k_blocks *blocks = g->cut.blocks.count > 1 ? &g->cut.blocks : NULL;
    const size_t scales = count_scales(recipe, s), all = g->cut.blocks.count * scales;
    float *base = qvitp_pool_alloc(&g->pool, all, 2 * sizeof *base);
    float *block = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *block);
    if (!base || !block) return qvitp_no_memory(error);
    p->product = (struct qvitp_product){.n = s->outputs,
                                        .k = s->inputs,
                                        .bits = recipe->weight_bits,
                                        .scales = scales,
                                        .base = base,
                                        .scale = base + all,
                                        .pieces = 1,
                                        .piece = &p->piece,
                                        .blocks = blocks,
                                        .coder_of = g->cut.chunks > 1 ? g->cut.chunk_of : NULL};
    for (size_t i = 0; i < all; i++) {
        size_t h = i / scales, share = i % scales;
        base[all + i] = base[i] =
            first_scale(recipe, p, qvitp_share(s->outputs, scales, share),
                        qvitp_share(s->outputs, scales, share + 1), blocks ? blocks->starts[h] : 0,
                        blocks ? blocks->starts[h + 1] : s->inputs, block);
    }
    return QVIT_OK;
}

/* ---- the rows ---- */

/* The kept rows that a site is solved with. */
struct rows {
    const struct qvitp_site *site;
    size_t *order, count;
    enum qvitp_part input; /* what is encoded */
    int has_target, has_gradient;
};

static size_t choose(const struct rows *r, uint32_t parts)
{
    return qvitp_sample_order(&r->site->rows, parts, r->order);
}

/* The rows that have all that is needed; the gradient is needed by some metrics, and welcome if every
 * row has it. */
static qvit_status choose_rows(struct group *g, struct rows *r, qvit_error *error)
{
    const struct qvitp_solving *solving = g->solving;
    const struct qvitp_site *s = r->site;
    const struct qvitp_metric *metric = qvitp_recipe_metric(&solving->recipe, s->type, s->kind);
    const uint32_t gradient = 1u << QVITP_PART_GRADIENT, target = 1u << QVITP_PART_TARGET;
    r->input = qvitp_input_part(solving, s);
    r->order = qvitp_pool_alloc(&g->pool, s->rows.count, sizeof *r->order);
    if (!r->order) return qvitp_no_memory(error);
    uint32_t input = 1u << r->input, whole = input | 1u << QVITP_PART_INPUT;
    r->has_target = choose(r, input | target) > 0;
    if (r->has_target) whole = input | target;
    size_t all = choose(r, whole), judged = choose(r, whole | gradient);
    int must = metric && metric->gradient;
    if (must && all && !judged)
        return qvitp_fail(error, QVIT_ERR_STATE, "metric %s needs gradients, and none was observed",
                          metric->name);
    r->has_gradient = must || judged == all;
    r->count = choose(r, r->has_gradient ? whole | gradient : whole);
    if (!r->count && qvitp_recipe_needs_rows(&solving->recipe))
        return qvitp_fail(error, QVIT_ERR_STATE, "no row was observed whole");
    return QVIT_OK;
}

static float *gather(struct group *g, const struct rows *r, enum qvitp_part part)
{
    return qvitp_solve_gather(&g->pool, &r->site->rows, r->order, r->count, part);
}

/* The float weights as they are, for the target. */
static float *plain_weight(struct group *g, const struct part *p)
{
    const struct qvitp_site *s = p->site;
    if (!g->input.channels.scale && !g->cut.order) return p->weight;
    float *w = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *w);
    for (size_t row = 0; w && row < s->outputs; row++)
        for (size_t c = 0; c < s->inputs; c++)
            w[row * s->inputs + c] =
                qvitp_get_float(&s->weight, qvitp_tensor_row(&s->weight, row), c);
    return w;
}

/* What the product of codes should be: the observed target, or the float product of the plain rows;
 * less what comes with the bias. */
static qvit_status set_target(struct group *g, struct part *p, const struct rows *r, float **out,
                              qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    float *target = r->has_target
                        ? gather(g, r, QVITP_PART_TARGET)
                        : qvitp_pool_alloc(&g->pool, r->count, s->outputs * sizeof *target);
    if (!target) return qvitp_no_memory(error);
    if (!r->has_target) {
        float *x = gather(g, r, QVITP_PART_INPUT), *w = plain_weight(g, p);
        if (!x || !w) return qvitp_no_memory(error);
        QVITP_TRY(qvitp_float_product(g->solving->engine, r->count, s->outputs, s->inputs, x, w, 0,
                                      target, error));
    }
    const float *apart = r->has_target ? p->bias : p->offset; /* what comes with the bias */
    for (size_t i = 0; apart && i < r->count; i++)
        for (size_t j = 0; j < s->outputs; j++) target[i * s->outputs + j] -= apart[j];
    *out = target;
    return QVIT_OK;
}

/* Turns a row of channels into what is encoded: as the producer writes it, in the order of places. */
static void encode_ready(const struct group *g, float *x, float *row)
{
    memcpy(row, x, g->inputs * sizeof *row);
    for (size_t i = 0; i < g->inputs; i++) {
        size_t c = qvitp_cut_channel(&g->cut, i);
        x[i] =
            g->input.channels.count ? qvitp_channel_apply(&g->input.channels, c, row[c]) : row[c];
    }
}

static qvit_status set_piece(struct group *g, struct part *p, qvit_error *error)
{
    struct rows r = {.site = p->site};
    p->piece.right = p->weight;
    QVITP_TRY(choose_rows(g, &r, error));
    if (!r.count) return QVIT_OK;
    float *left = gather(g, &r, r.input), *target = NULL;
    float *row = qvitp_pool_alloc(&g->pool, g->inputs, sizeof *row);
    if (!left || !row) return qvitp_no_memory(error);
    for (size_t i = 0; i < r.count; i++) encode_ready(g, left + i * g->inputs, row);
    QVITP_TRY(set_target(g, p, &r, &target, error));
    size_t *ends = qvitp_pool_alloc(&g->pool, r.count, sizeof *ends);
    p->piece.m = r.count;
    p->piece.left = left;
    p->piece.target = target;
    p->piece.sample_end = ends;
    if (ends) p->piece.samples = qvitp_sample_ends(&p->site->rows, r.order, r.count, ends);
    if (r.has_gradient) p->piece.gradient = gather(g, &r, QVITP_PART_GRADIENT);
    return ends && (!r.has_gradient || p->piece.gradient) ? QVIT_OK : qvitp_no_memory(error);
}

static qvit_status search(struct group *g, qvit_error *error)
{
    const struct qvitp_solving *solving = g->solving;
    const struct qvitp_recipe *recipe = &solving->recipe;
    const struct qvitp_site *first = g->part[0].site;
    const struct qvitp_metric *metric = qvitp_recipe_metric(recipe, first->type, first->kind);
    struct qvitp_product *products = qvitp_pool_alloc(&g->pool, g->count, sizeof *products);
    if (!products) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->count; i++) products[i] = g->part[i].product;
    struct qvitp_search s = {.engine = solving->engine,
                             .recipe = recipe,
                             .metric = metric,
                             .groups = 1,
                             .span = g->cut.span,
                             .coder = g->cut.coder,
                             .products = g->count,
                             .product = products,
                             .progress = solving->progress,
                             .user = solving->user};
    struct qvitp_sublayer blocks = {.engine = solving->engine,
                                    .recipe = recipe,
                                    .metric = metric,
                                    .cut = &g->cut,
                                    .products = g->count,
                                    .product = products,
                                    .progress = solving->progress,
                                    .user = solving->user};
    if (!metric) return QVIT_OK;
    return g->cut.blocks.count > 1 ? qvitp_sublayer_run(&blocks, error)
                                   : qvitp_search_run(&s, error);
}

/* ---- results ---- */

/* Bounds of `count` equal shares, or, where K-blocks are given, of these. */
static size_t *bounds_of(struct qvitp_pool *pool, size_t size, size_t count,
                         const struct qvitp_k_blocks *blocks)
{
    size_t *bounds = qvitp_pool_alloc(pool, count + 1, sizeof *bounds);
    for (size_t i = 0; bounds && i <= count; i++)
        bounds[i] = blocks ? blocks->starts[i] : qvitp_share(size, count, i);
    return bounds;
}

/* The order of places as granularities take it; NULL without one. */
static qvit_status column_order(struct group *g, const size_t **out, qvit_error *error)
{
    *out = NULL;
    if (!g->cut.order) return QVIT_OK;
    size_t *order = qvitp_pool_alloc(&g->pool, g->inputs, sizeof *order);
    if (!order) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->inputs; i++) order[i] = (size_t)g->cut.order[i];
    *out = order;
    return QVIT_OK;
}

static qvit_status weight_quantizer(struct group *g, const struct part *p, qvit_result *r,
                                    qvit_error *error)
{
    const struct qvitp_product *product = &p->product;
    const size_t blocks = g->cut.blocks.count, scales = product->scales;
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.rows = r->outputs;
    o.cols = r->inputs;
    o.row_blocks = scales;
    o.col_blocks = blocks;
    o.row_bounds = bounds_of(&g->pool, r->outputs, scales, NULL);
    if (blocks > 1) {
        o.col_bounds = bounds_of(&g->pool, r->inputs, blocks, &g->cut.blocks);
        QVITP_TRY(column_order(g, &o.col_order, error));
    }
    float *scale = qvitp_pool_alloc(&g->pool, scales, blocks * sizeof *scale);
    if (!o.row_bounds || (blocks > 1 && !o.col_bounds) || !scale) return qvitp_no_memory(error);
    for (size_t i = 0; i < scales * blocks; i++)
        scale[i] = product->scale[i % blocks * scales + i / blocks];
    qvit_granularity *granularity;
    QVITP_TRY(qvit_granularity_create(r->engine, &o, &granularity, error));
    const qvit_parameter parameter = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, scales * blocks, scale};
    qvit_quantizer_options made = QVIT_QUANTIZER_OPTIONS_INIT;
    made.bits = product->bits;
    made.flags = qvitp_right_flags(product->bits);
    made.granularity = granularity;
    made.parameters = &parameter;
    made.parameter_count = 1;
    qvit_status status = qvit_quantizer_create(r->engine, &made, &r->second, error);
    qvit_granularity_destroy(granularity);
    return status;
}

/* The granularity of chunks; NULL where there is one. */
static qvit_status chunk_granularity(struct group *g, qvit_granularity **out, qvit_error *error)
{
    const struct qvitp_cut *cut = &g->cut;
    *out = NULL;
    if (cut->chunks == 1) return QVIT_OK;
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    size_t *bounds = qvitp_pool_alloc(&g->pool, cut->chunks + 1, sizeof *bounds);
    if (!bounds) return qvitp_no_memory(error);
    for (size_t h = cut->blocks.count; h-- > 0;) bounds[cut->chunk_of[h]] = cut->blocks.starts[h];
    bounds[cut->chunks] = g->inputs;
    o.cols = g->inputs;
    o.col_blocks = cut->chunks;
    o.col_bounds = bounds;
    QVITP_TRY(column_order(g, &o.col_order, error));
    return qvit_granularity_create(g->solving->engine, &o, out, error);
}

static qvit_status input_quantizer(struct group *g, qvit_result *r, qvit_error *error)
{
    qvit_granularity *chunks;
    QVITP_TRY(chunk_granularity(g, &chunks, error));
    qvit_status status =
        qvitp_solve_quantizer(r->engine, g->cut.span, g->cut.coder, chunks, &r->input, error);
    qvit_granularity_destroy(chunks);
    return status;
}

/* The narrowest type of weights for these bits. */
static qvit_dtype code_dtype(int32_t bits)
{
    return bits <= 4 ? QVIT_DTYPE_S4 : bits <= 6 ? QVIT_DTYPE_S6 : QVIT_DTYPE_S8;
}

static qvit_status store_codes(struct group *g, const struct part *p, qvit_result *r,
                               qvit_error *error)
{
    const size_t dims[2] = {r->outputs, r->inputs};
    r->code_dtype = code_dtype(p->product.bits);
    r->codes = qvitp_engine_alloc(r->engine, qvit_tensor_bytes(r->code_dtype, 2, dims), 1);
    if (!r->codes) return qvitp_no_memory(error);
    qvit_tensor stored;
    qvit_tensor_init(&stored, r->codes, r->code_dtype, 2, dims);
    int8_t *codes = qvitp_pool_alloc(&g->pool, r->inputs, 1); /* of a row, by channel */
    if (!codes) return qvitp_no_memory(error);
    for (size_t row = 0; row < r->outputs; row++) {
        for (size_t i = 0; i < r->inputs; i++)
            codes[qvitp_cut_channel(&g->cut, i)] = (int8_t)p->codes[row * r->inputs + i];
        for (size_t c = 0; c < r->inputs; c++)
            qvitp_set_int(&stored, qvitp_tensor_row(&stored, row), c, codes[c]);
    }
    return QVIT_OK;
}

static qvit_status fill_result(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    const struct qvitp_channels *channels = &g->input.channels;
    qvit_result *r = p->result;
    const size_t one = sizeof(float);
    int ok = 1, biased = s->bias.data || p->offset || g->solving->recipe.correct;
    r->inputs = s->inputs;
    r->outputs = s->outputs;
    r->score = p->score;
    r->input_scale = qvitp_engine_copy(r->engine, channels->scale, r->inputs, one, &ok);
    r->input_shift = qvitp_engine_copy(r->engine, channels->shift, r->inputs, one, &ok);
    r->input_order = qvitp_engine_copy(r->engine, g->cut.order, r->inputs, sizeof(int32_t), &ok);
    r->bias = qvitp_engine_copy(r->engine, biased ? p->bias : NULL, r->outputs, one, &ok);
    if (!ok) return qvitp_no_memory(error);
    QVITP_TRY(input_quantizer(g, r, error));
    QVITP_TRY(weight_quantizer(g, p, r, error));
    return store_codes(g, p, r, error);
}

static qvit_status check_observed(const struct group *g, qvit_error *error)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->part[i].site;
        if (s->kind != QVIT_INPUT_IMAGE &&
            !qvitp_site_saw(s, qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT)))
            return qvitp_fail(error, QVIT_ERR_STATE, "site %zu (%s): nothing was observed",
                              s->index, s->name);
    }
    return QVIT_OK;
}

static qvit_status settle(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_settling s = {.engine = g->solving->engine,
                                     .recipe = &g->solving->recipe,
                                     .pool = &g->pool,
                                     .product = &p->product,
                                     .coder = g->cut.coder,
                                     .offset = p->offset,
                                     .codes = p->codes,
                                     .bias = p->bias};
    QVITP_TRY(qvitp_settle_linear(&s, &p->score, error));
    p->result = qvitp_engine_alloc(g->solving->engine, 1, sizeof *p->result);
    if (!p->result) return qvitp_no_memory(error);
    p->result->engine = g->solving->engine;
    p->result->recipe = g->solving->recipe;
    p->result->use_quantized = g->solving->use_quantized != 0;
    return fill_result(g, p, error);
}

static int solved_before(const struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (!g->part[i].site->result) return 0;
    return 1;
}

/* What was found before a cancel is settled too, where there is nothing older. */
static qvit_status solve(struct group *g, struct qvitp_site *const *sites, qvit_error *error)
{
    QVITP_TRY(check_observed(g, error));
    QVITP_TRY(qvitp_input_choose(g->solving, sites, g->count, &g->pool, &g->input, error));
    QVITP_TRY(qvitp_cut_choose(g->solving, sites, g->count, &g->input, &g->pool, &g->cut, error));
    for (size_t i = 0; i < g->count; i++) {
        QVITP_TRY(read_weight(g, &g->part[i], error));
        QVITP_TRY(set_product(g, &g->part[i], error));
        QVITP_TRY(set_piece(g, &g->part[i], error));
    }
    qvit_status searched = search(g, error);
    if (searched != QVIT_OK && (searched != QVIT_ERR_CANCELLED || solved_before(g)))
        return searched;
    for (size_t i = 0; i < g->count; i++) QVITP_TRY(settle(g, &g->part[i], error));
    return searched == QVIT_OK ? QVIT_OK : qvitp_fail(error, searched, "cancelled");
}

static void keep_result(struct part *p)
{
    if (!p->result) return;
    qvit_result_destroy(p->site->result);
    p->site->result = p->result;
}

qvit_status qvitp_solve_linear(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, qvit_error *error)
{
    struct group g = {.solving = solving,
                      .pool = {solving->engine, NULL},
                      .count = count,
                      .inputs = sites[0]->inputs};
    g.part = qvitp_pool_alloc(&g.pool, count, sizeof *g.part);
    for (size_t i = 0; g.part && i < count; i++) g.part[i].site = sites[i];
    qvit_status status = g.part ? solve(&g, sites, error) : qvitp_no_memory(error);
    for (size_t i = 0; g.part && i < count; i++) {
        if (status == QVIT_OK || status == QVIT_ERR_CANCELLED) {
            keep_result(&g.part[i]);
        } else {
            qvit_result_destroy(g.part[i].result);
        }
    }
    qvitp_pool_free(&g.pool);
    return status;
}
