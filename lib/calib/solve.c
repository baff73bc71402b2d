/* solve.c - what solving a linear and a matmul site have in common. */
#include "calib/solve.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "quant/quantizer.h"

enum qvitp_stream qvitp_solve_stream(const struct qvitp_solving *solving,
                                     const struct qvitp_site *site, enum qvitp_stream plain)
{
    enum qvitp_stream quantized = (enum qvitp_stream)(plain + 1);
    return solving->use_quantized && qvitp_site_saw(site, quantized) ? quantized : plain;
}

/* The values between which the recipe's share of a group lies, never beyond [low, high], which hold all.
 * Bins have no exact edges, and the outermost none at all: there the true ends stand in. */
static void cut_tails(const struct qvitp_recipe *recipe, const struct qvitp_stats *stats,
                      size_t group, float *low, float *high)
{
    double kept = recipe->percentile / 100;
    float below = *low, above = *high;
    if (recipe->symmetric_input) {
        above = qvitp_stats_magnitude(stats, group, kept);
        below = -above;
    } else {
        qvitp_stats_quantiles(stats, group, kept, &below, &above);
    }
    if (below > *low) *low = below;
    if (above < *high) *high = above;
}

/* Where ACIQ's law would clip, as far as that lessens the error of the values that were seen. A twin has
 * its own way with tails. */
static void clip(const struct qvitp_recipe *recipe, int32_t bits, const struct qvitp_site *site,
                 enum qvitp_stream stream, size_t group, float *low, float *high)
{
    const struct qvitp_stats *stats = &site->stats[stream];
    const int second = stream >= QVITP_STREAM_SECOND;
    const struct qvitp_span span = {.scheme =
                                        second ? QVIT_SCHEME_SYMMETRIC
                                               : qvitp_left_scheme(recipe, site->type, site->kind),
                                    .bits = bits,
                                    .flags = second ? qvitp_right_flags(bits) : 0};
    if (span.scheme != QVIT_SCHEME_SYMMETRIC && span.scheme != QVIT_SCHEME_ASYMMETRIC) return;
    struct qvitp_moments moments = qvitp_stats_moments(stats, group);
    double distance = qvitp_aciq_clip(&moments, bits);
    float law_low = (float)fmax((double)*low, fmin(moments.mean - distance, 0));
    float law_high = (float)fmin((double)*high, fmax(moments.mean + distance, 0));
    qvitp_draw_in(&span, stats, group, law_low, law_high, low, high);
}

void qvitp_solve_range(const struct qvitp_recipe *recipe, int32_t bits,
                       const struct qvitp_site *site, enum qvitp_stream stream, size_t group,
                       size_t first, size_t channels, float *lo, float *hi)
{
    const struct qvitp_stats *stats = &site->stats[stream];
    float low = 0, high = 0;
    for (size_t c = first; c < first + channels; c++) {
        float channel_low, channel_high;
        qvitp_stats_range(stats, c, &channel_low, &channel_high);
        if (channel_low < low) low = channel_low;
        if (channel_high > high) high = channel_high;
    }
    if (recipe->range == QVITP_RANGE_PERCENTILE) cut_tails(recipe, stats, group, &low, &high);
    if (recipe->range == QVITP_RANGE_ACIQ) clip(recipe, bits, site, stream, group, &low, &high);
    if (low < *lo) *lo = low;
    if (high > *hi) *hi = high;
}

float *qvitp_solve_gather(struct qvitp_pool *pool, const struct qvitp_sample *rows,
                          const size_t *order, size_t count, enum qvitp_part part)
{
    size_t width = rows->width[part];
    float *x = qvitp_pool_alloc(pool, count, width * sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        memcpy(x + i * width, qvitp_sample_part(rows, &rows->rows[order[i]], part),
               width * sizeof *x);
    return x;
}

/* One column block for each head. */
static qvit_status head_granularity(struct qvitp_pool *pool, size_t heads, size_t width,
                                    qvit_granularity **out, qvit_error *error)
{
    size_t *bounds = qvitp_pool_alloc(pool, heads + 1, sizeof *bounds);
    if (!bounds) return qvitp_no_memory(error);
    for (size_t h = 0; h <= heads; h++) bounds[h] = h * width;
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    o.cols = heads * width;
    o.col_blocks = heads;
    o.col_bounds = bounds;
    return qvit_granularity_create(pool->engine, &o, out, error);
}

static qvit_status blocks_quantizer(struct qvitp_pool *pool, const struct qvitp_span *span,
                                    const struct qvitp_coder *coders, const qvit_granularity *g,
                                    qvit_quantizer **out, qvit_error *error)
{
    const size_t blocks = qvit_granularity_blocks(g);
    float *scale = qvitp_pool_alloc(pool, blocks, 2 * sizeof *scale), *scale2 = scale + blocks;
    int32_t *zero = qvitp_pool_alloc(pool, blocks, sizeof *zero);
    if (!scale || !zero) return qvitp_no_memory(error);
    for (size_t b = 0; b < blocks; b++) {
        scale[b] = coders[b].scale;
        scale2[b] = coders[b].scale2;
        zero[b] = (int32_t)coders[b].zero;
    }
    qvit_parameter parameters[3] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, blocks, scale}};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = span->scheme;
    o.bits = span->bits;
    o.flags = span->flags;
    o.granularity = g;
    o.parameters = parameters;
    o.parameter_count = 1;
    if (qvitp_scheme_has(span->scheme, QVIT_PARAMETER_ZERO_POINT))
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, blocks, zero};
    if (qvitp_scheme_has(span->scheme, QVIT_PARAMETER_SCALE2))
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, blocks, scale2};
    return qvit_quantizer_create(pool->engine, &o, out, error);
}

qvit_status qvitp_solve_quantizer(const qvit_engine *engine, const struct qvitp_span *span,
                                  const struct qvitp_coder *coders,
                                  const qvit_granularity *granularity, qvit_quantizer **out,
                                  qvit_error *error)
{
    if (!granularity)
        return qvitp_quantizer_layer(engine, span->scheme, span->bits, span->flags, coders->scale,
                                     coders->scale2, (int32_t)coders->zero, out, error);
    struct qvitp_pool pool = {engine, NULL};
    qvit_status status = blocks_quantizer(&pool, span, coders, granularity, out, error);
    qvitp_pool_free(&pool);
    return status;
}

qvit_status qvitp_solve_heads(const qvit_engine *engine, const struct qvitp_span *span,
                              const struct qvitp_coder *coders, size_t heads, size_t width,
                              qvit_quantizer **out, qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    qvit_granularity *granularity = NULL;
    qvit_status status =
        heads ? head_granularity(&pool, heads, width, &granularity, error) : QVIT_OK;
    if (status == QVIT_OK)
        status = qvitp_solve_quantizer(engine, span, coders, granularity, out, error);
    qvit_granularity_destroy(granularity);
    qvitp_pool_free(&pool);
    return status;
}
