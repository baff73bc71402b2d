/* linear_read.c - weights and rows of linear sites, as they are encoded and in the order of places. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shares.h"
#include "calib/linear_group.h"
#include "tensor.h"

/* ---- the weights ---- */

/* What the producer takes off the channels comes back as a part of the bias. */
static void set_bias(struct qvitp_linear_group *g, struct qvitp_linear_part *p)
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

static qvit_status read_weight(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                               qvit_error *error)
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
            size_t c = qvitp_order_at(g->cut.order, i);
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

/* What a block of weights starts from: share `share` of the rows, K-block h. */
static void set_first_scale(const struct qvitp_recipe *recipe, const struct qvitp_linear_part *p,
                            size_t share, size_t h, float *block)
{
    const struct qvitp_product *product = &p->product;
    const size_t end = qvitp_share(product->n, product->scales, share + 1);
    size_t count = 0, at = h * product->scales + share;
    int32_t zero;
    for (size_t row = qvitp_share(product->n, product->scales, share); row < end; row++)
        for (size_t i = qvitp_product_k_begin(product, h);
             i < qvitp_product_k_begin(product, h + 1); i++)
            block[count++] = p->weight[row * product->k + i];
    product->scale[at] = product->base[at] = qvitp_weight_scale(recipe, count, block, &zero);
    if (product->zero) product->zero[at] = zero;
}

/* All products of a group have the same kernel. */
static void pad_last_block(struct qvitp_linear_group *g, const struct qvitp_product *p)
{
    struct qvitp_k_blocks *b = &g->cut.blocks;
    const size_t step = qvitp_product_kernel(g->solving->engine, p)->kstep;
    b->packed = b->ends[b->count - 1] = qvitp_round_up(p->k, step);
}

static qvit_status set_product(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                               qvit_error *error)
{
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *s = p->site;
    const struct qvitp_k_blocks *blocks = g->cut.blocks.count > 1 ? &g->cut.blocks : NULL;
    const size_t scales = count_scales(recipe, s), all = g->cut.blocks.count * scales;
    float *base = qvitp_pool_alloc(&g->pool, all, 2 * sizeof *base);
    float *block = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *block);
    int32_t *zero = NULL;
    if (qvitp_weights_have_zero(recipe)) {
        zero = qvitp_pool_alloc(&g->pool, all, sizeof *zero);
        if (!zero) return qvitp_no_memory(error);
    }
    if (!base || !block) return qvitp_no_memory(error);
    /* Uneven ranges of 8 bits may be too large for planes of bytes, but for small weights. */
    const struct qvitp_span *span = &g->input.span;
    const int joined =
        span->bits == 8 && qvitp_right_max(recipe->weight_bits, zero != NULL) > QVITP_S7_MAX;
    p->product = (struct qvitp_product){.n = s->outputs,
                                        .k = s->inputs,
                                        .left = g->input.coder,
                                        .joined = joined ? span->uneven : 0,
                                        .bits = recipe->weight_bits,
                                        .scales = scales,
                                        .base = base,
                                        .scale = base + all,
                                        .zero = zero,
                                        .pieces = 1,
                                        .piece = &p->piece,
                                        .blocks = blocks,
                                        .coder_of = g->cut.chunks > 1 ? g->cut.chunk_of : NULL};
    if (blocks) pad_last_block(g, &p->product);
    for (size_t i = 0; i < all; i++) set_first_scale(recipe, p, i % scales, i / scales, block);
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
static qvit_status choose_rows(struct qvitp_linear_group *g, struct rows *r, qvit_error *error)
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

static float *gather(struct qvitp_linear_group *g, const struct rows *r, enum qvitp_part part)
{
    return qvitp_solve_gather(&g->pool, &r->site->rows, r->order, r->count, part);
}

/* The float weights as they are, for the target. */
static float *plain_weight(struct qvitp_linear_group *g, const struct qvitp_linear_part *p)
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
static qvit_status set_target(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                              const struct rows *r, float **out, qvit_error *error)
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
static void encode_ready(const struct qvitp_linear_group *g, float *x, float *row)
{
    memcpy(row, x, g->inputs * sizeof *row);
    for (size_t i = 0; i < g->inputs; i++) {
        size_t c = qvitp_order_at(g->cut.order, i);
        x[i] =
            g->input.channels.count ? qvitp_channel_apply(&g->input.channels, c, row[c]) : row[c];
    }
}

static qvit_status set_piece(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                             qvit_error *error)
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

qvit_status qvitp_linear_read(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                              qvit_error *error)
{
    QVITP_TRY(read_weight(g, p, error));
    QVITP_TRY(set_product(g, p, error));
    return set_piece(g, p, error);
}
