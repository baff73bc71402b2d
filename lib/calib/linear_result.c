/* linear_result.c - quantizers, codes and orders of solved linear sites, by channel again. */
#include "base/error.h"
#include "base/shares.h"
#include "calib/linear_group.h"
#include "calib/result.h"
#include "tensor.h"

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
static qvit_status column_order(struct qvitp_linear_group *g, const size_t **out, qvit_error *error)
{
    *out = NULL;
    if (!g->cut.order) return QVIT_OK;
    size_t *order = qvitp_pool_alloc(&g->pool, g->inputs, sizeof *order);
    if (!order) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->inputs; i++) order[i] = (size_t)g->cut.order[i];
    *out = order;
    return QVIT_OK;
}

static qvit_status weight_quantizer(struct qvitp_linear_group *g, const struct qvitp_linear_part *p,
                                    qvit_result *r, qvit_error *error)
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
    int32_t *zero = qvitp_pool_alloc(&g->pool, scales, blocks * sizeof *zero);
    if (!o.row_bounds || (blocks > 1 && !o.col_bounds) || !scale || !zero)
        return qvitp_no_memory(error);
    for (size_t i = 0; i < scales * blocks; i++) {
        const size_t at = i % blocks * scales + i / blocks;
        scale[i] = product->scale[at];
        zero[i] = product->zero ? product->zero[at] : 0;
    }
    qvit_granularity *granularity;
    QVITP_TRY(qvit_granularity_create(r->engine, &o, &granularity, error));
    const qvit_parameter parameters[] = {
        {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, scales * blocks, scale},
        {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, scales * blocks, zero}};
    qvit_quantizer_options made = QVIT_QUANTIZER_OPTIONS_INIT;
    made.scheme = product->zero ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    made.bits = product->bits;
    made.flags = product->zero ? 0 : qvitp_right_flags(product->bits);
    made.granularity = granularity;
    made.parameters = parameters;
    made.parameter_count = product->zero ? 2 : 1;
    qvit_status status = qvit_quantizer_create(r->engine, &made, &r->second, error);
    qvit_granularity_destroy(granularity);
    return status;
}

/* The granularity of chunks; NULL where there is one. */
static qvit_status chunk_granularity(struct qvitp_linear_group *g, qvit_granularity **out,
                                     qvit_error *error)
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

static qvit_status input_quantizer(struct qvitp_linear_group *g, qvit_result *r, qvit_error *error)
{
    qvit_granularity *chunks;
    QVITP_TRY(chunk_granularity(g, &chunks, error));
    qvit_status status =
        qvitp_solve_quantizer(r->engine, g->cut.span, g->cut.coder, chunks, &r->input, error);
    qvit_granularity_destroy(chunks);
    return status;
}

/* The narrowest type of weights for these bits. */
static qvit_dtype code_dtype(const struct qvitp_product *p)
{
    if (p->zero) return p->bits <= 4 ? QVIT_DTYPE_U4 : QVIT_DTYPE_U8;
    return p->bits <= 4 ? QVIT_DTYPE_S4 : p->bits <= 6 ? QVIT_DTYPE_S6 : QVIT_DTYPE_S8;
}

/* The codes of a row as the caller gets them: by channel, and with their zero points. */
static void row_codes(const struct qvitp_linear_group *g, const struct qvitp_linear_part *p,
                      size_t row, int32_t *codes)
{
    const struct qvitp_product *product = &p->product;
    for (size_t h = 0; h < qvitp_product_k_blocks(product); h++) {
        const size_t at = qvitp_product_at(product, h, row);
        const int32_t zero = product->zero ? product->zero[at] : 0;
        for (size_t i = qvitp_product_k_begin(product, h);
             i < qvitp_product_k_begin(product, h + 1); i++)
            codes[qvitp_order_at(g->cut.order, i)] = zero + (int8_t)p->codes[row * product->k + i];
    }
}

static qvit_status store_codes(struct qvitp_linear_group *g, const struct qvitp_linear_part *p,
                               qvit_result *r, qvit_error *error)
{
    const size_t dims[2] = {r->outputs, r->inputs};
    r->code_dtype = code_dtype(&p->product);
    r->codes = qvitp_engine_alloc(r->engine, qvit_tensor_bytes(r->code_dtype, 2, dims), 1);
    if (!r->codes) return qvitp_no_memory(error);
    qvit_tensor stored;
    qvit_tensor_init(&stored, r->codes, r->code_dtype, 2, dims);
    int32_t *codes = qvitp_pool_alloc(&g->pool, r->inputs, sizeof *codes);
    if (!codes) return qvitp_no_memory(error);
    for (size_t row = 0; row < r->outputs; row++) {
        row_codes(g, p, row, codes);
        for (size_t c = 0; c < r->inputs; c++)
            qvitp_set_int(&stored, qvitp_tensor_row(&stored, row), c, codes[c]);
    }
    return QVIT_OK;
}

qvit_status qvitp_linear_result(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                                qvit_error *error)
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
