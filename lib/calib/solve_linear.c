/* solve_linear.c - quantizers, codes and bias of linear sites that read one tensor. */
#include <math.h>

#include "base/error.h"
#include "base/numerics.h"
#include "calib/result.h"
#include "calib/search.h"
#include "calib/solve.h"
#include "op/encode.h"
#include "quant/quantizer.h"
#include "tensor.h"

/* One site while it is solved. */
struct part {
    struct qvitp_site *site;
    float *weight; /* [outputs][inputs], times the input's scale */
    struct qvitp_product product;
    struct qvitp_piece piece;
    qvit_result *result;
};

struct group {
    const struct qvitp_solving *solving;
    struct qvitp_pool pool;
    size_t count, inputs;
    struct part *part;
    float *equalizer; /* NULL: none; [inputs] */
    struct qvitp_span span;
    struct qvitp_coder coder;
};

/* ---- the input's range ---- */

static int may_equalize(const struct group *g)
{
    if (g->solving->recipe.equalize <= 0) return 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->part[i].site;
        if (s->kind == QVIT_INPUT_IMAGE) return 0;
        if (s->kind != QVIT_INPUT_LAYER_NORM && s->producer == SIZE_MAX) return 0;
    }
    return 1;
}

/* The range of channel c over all sites of the group, with 0 in it. */
static void channel_range(const struct group *g, size_t c, float *lo, float *hi)
{
    *lo = *hi = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->part[i].site;
        float low, high;
        qvitp_stats_range(&s->stats[qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT)], c, &low,
                          &high);
        if (low < *lo) *lo = low;
        if (high > *hi) *hi = high;
    }
}

static double channel_width(const struct group *g, size_t c)
{
    float lo, hi;
    channel_range(g, c, &lo, &hi);
    return (double)hi - (double)lo;
}

/* The divisor of every channel: (its range / the mean range)^strength, kept within 2^-6 and 2^6 so that
 * a channel that was quiet in calibration may still wake up. */
static qvit_status set_equalizer(struct group *g, qvit_error *error)
{
    const double strength = g->solving->recipe.equalize, most = 64;
    g->equalizer = qvitp_pool_alloc(&g->pool, g->inputs, sizeof *g->equalizer);
    if (!g->equalizer) return qvitp_no_memory(error);
    double mean = 0;
    for (size_t c = 0; c < g->inputs; c++) mean += channel_width(g, c) / (double)g->inputs;
    for (size_t c = 0; c < g->inputs; c++) {
        double width = channel_width(g, c), ratio = mean > 0 && width > 0 ? width / mean : 1;
        g->equalizer[c] = (float)fmin(fmax(pow(ratio, strength), 1 / most), most);
    }
    return QVIT_OK;
}

static void set_span(struct group *g)
{
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *first = g->part[0].site;
    int image = first->kind == QVIT_INPUT_IMAGE;
    g->span = (struct qvitp_span){.scheme = qvitp_left_scheme(recipe, first->type, first->kind),
                                  .bits = image ? 8 : recipe->input_bits,
                                  .fixed = image};
    if (image) g->span.hi = 255; /* so that the scale is 1 */
    for (size_t i = 0; !image && !g->equalizer && i < g->count; i++) {
        const struct qvitp_site *s = g->part[i].site;
        qvitp_solve_range(recipe, &s->stats[qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT)],
                          0, 0, g->inputs, &g->span.lo, &g->span.hi);
    }
    for (size_t c = 0; g->equalizer && c < g->inputs; c++) {
        float lo, hi;
        channel_range(g, c, &lo, &hi);
        g->span.lo = fminf(g->span.lo, lo / g->equalizer[c]);
        g->span.hi = fmaxf(g->span.hi, hi / g->equalizer[c]);
    }
    if (g->span.lo == g->span.hi)
        qvitp_log(g->solving->engine, QVIT_LOG_WARNING, "%s: the input was always 0", first->label);
    g->coder = qvitp_span_coder(&g->span, 1);
}

/* ---- the weights ---- */

static qvit_status read_weight(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    p->weight = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *p->weight);
    if (!p->weight) return qvitp_no_memory(error);
    for (size_t row = 0; row < s->outputs; row++) {
        ptrdiff_t at = qvitp_tensor_row(&s->weight, row);
        for (size_t c = 0; c < s->inputs; c++) {
            float scale = g->equalizer ? g->equalizer[c] : 1;
            p->weight[row * s->inputs + c] = qvitp_get_float(&s->weight, at, c) * scale;
        }
    }
    return QVIT_OK;
}

/* The scale of each row, or of all, that just holds its largest weight. */
static qvit_status set_product(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *s = p->site;
    struct qvitp_product *product = &p->product;
    *product = (struct qvitp_product){.n = s->outputs,
                                      .k = s->inputs,
                                      .bits = recipe->weight_bits,
                                      .per_column = !recipe->layer_weights,
                                      .pieces = 1,
                                      .piece = &p->piece};
    size_t scales = product->per_column ? s->outputs : 1;
    product->base = qvitp_pool_alloc(&g->pool, scales, 2 * sizeof *product->base);
    if (!product->base) return qvitp_no_memory(error);
    product->scale = product->base + scales;
    for (size_t row = 0; row < s->outputs; row++) {
        float *top = &product->base[product->per_column ? row : 0];
        for (size_t c = 0; c < s->inputs; c++)
            *top = fmaxf(*top, fabsf(p->weight[row * s->inputs + c]));
    }
    for (size_t i = 0; i < scales; i++)
        product->scale[i] = product->base[i] =
            qvitp_symmetric_scale((double)product->base[i], product->bits);
    return QVIT_OK;
}

/* ---- the rows ---- */

/* The kept rows' numbers of one part, in index order, divided by the equalizer if asked. */
static float *gather(struct group *g, const struct qvitp_site *s, const size_t *order, size_t rows,
                     enum qvitp_part part, int equalized)
{
    float *x = qvitp_pool_alloc(&g->pool, rows, s->inputs * sizeof *x);
    for (size_t i = 0; x && i < rows; i++) {
        const float *from = qvitp_sample_part(&s->rows, &s->rows.rows[order[i]], part);
        for (size_t c = 0; c < s->inputs; c++)
            x[i * s->inputs + c] = equalized && g->equalizer ? from[c] / g->equalizer[c] : from[c];
    }
    return x;
}

/* The float weights as they are, for the target. */
static float *plain_weight(struct group *g, const struct part *p)
{
    if (!g->equalizer) return p->weight;
    const struct qvitp_site *s = p->site;
    float *w = qvitp_pool_alloc(&g->pool, s->outputs, s->inputs * sizeof *w);
    for (size_t row = 0; w && row < s->outputs; row++)
        for (size_t c = 0; c < s->inputs; c++)
            w[row * s->inputs + c] =
                qvitp_get_float(&s->weight, qvitp_tensor_row(&s->weight, row), c);
    return w;
}

static qvit_status set_piece(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    enum qvitp_stream stream = qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT);
    enum qvitp_part part =
        stream == QVITP_STREAM_INPUT ? QVITP_PART_INPUT : QVITP_PART_INPUT_QUANTIZED;
    size_t *order = qvitp_pool_alloc(&g->pool, s->rows.count, sizeof *order);
    if (!order) return qvitp_no_memory(error);
    size_t rows = qvitp_sample_order(&s->rows, 1u << QVITP_PART_INPUT | 1u << part, order);
    if (!rows) return qvitp_fail(error, QVIT_ERR_STATE, "no row was observed whole");
    float *target = qvitp_pool_alloc(&g->pool, rows, s->outputs * sizeof *target);
    float *x = gather(g, s, order, rows, QVITP_PART_INPUT, 0), *w = plain_weight(g, p);
    p->piece = (struct qvitp_piece){.m = rows,
                                    .left = gather(g, s, order, rows, part, 1),
                                    .right = p->weight,
                                    .target = target};
    if (!target || !x || !w || !p->piece.left) return qvitp_no_memory(error);
    return qvitp_float_product(g->solving->engine, rows, s->outputs, s->inputs, x, w, 0, target,
                               error);
}

static qvit_status search(struct group *g, qvit_error *error)
{
    struct qvitp_product *products = qvitp_pool_alloc(&g->pool, g->count, sizeof *products);
    if (!products) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->count; i++) {
        QVITP_TRY(set_piece(g, &g->part[i], error));
        products[i] = g->part[i].product;
    }
    struct qvitp_search s = {.engine = g->solving->engine,
                             .recipe = &g->solving->recipe,
                             .groups = 1,
                             .span = &g->span,
                             .coder = &g->coder,
                             .products = g->count,
                             .product = products,
                             .progress = g->solving->progress,
                             .user = g->solving->user};
    return qvitp_search_run(&s, error);
}

/* ---- results ---- */

static qvit_status weight_quantizer(const struct part *p, qvit_result *r, qvit_error *error)
{
    const struct qvitp_product *product = &p->product;
    qvit_granularity_options rows = QVIT_GRANULARITY_OPTIONS_INIT;
    rows.rows = r->outputs;
    rows.cols = r->inputs;
    rows.row_blocks = product->per_column ? r->outputs : 1;
    qvit_granularity *granularity;
    QVITP_TRY(qvit_granularity_create(r->engine, &rows, &granularity, error));
    const qvit_parameter scale = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, rows.row_blocks,
                                  product->scale};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.bits = product->bits;
    o.flags = qvitp_right_flags(product->bits);
    o.granularity = granularity;
    o.parameters = &scale;
    o.parameter_count = 1;
    qvit_status status = qvit_quantizer_create(r->engine, &o, &r->second, error);
    qvit_granularity_destroy(granularity);
    return status;
}

/* The narrowest type of weights for these bits. */
static qvit_dtype code_dtype(int32_t bits)
{
    return bits <= 4 ? QVIT_DTYPE_S4 : bits <= 6 ? QVIT_DTYPE_S6 : QVIT_DTYPE_S8;
}

static qvit_status weight_codes(const struct part *p, qvit_result *r, qvit_error *error)
{
    const size_t dims[2] = {r->outputs, r->inputs};
    r->code_dtype = code_dtype(p->product.bits);
    r->codes = qvitp_engine_alloc(r->engine, qvit_tensor_bytes(r->code_dtype, 2, dims), 1);
    if (!r->codes) return qvitp_no_memory(error);
    qvit_tensor weight, codes;
    qvit_tensor_init(&weight, p->weight, QVIT_DTYPE_F32, 2, dims);
    qvit_tensor_init(&codes, r->codes, r->code_dtype, 2, dims);
    return qvit_quantizer_encode(r->second, &weight, &codes, error);
}

static qvit_status fill_result(struct group *g, struct part *p, qvit_error *error)
{
    const struct qvitp_site *s = p->site;
    qvit_result *r = p->result;
    r->engine = g->solving->engine;
    r->inputs = s->inputs;
    r->outputs = s->outputs;
    int ok = 1;
    r->input_scale =
        qvitp_engine_copy(r->engine, g->equalizer, r->inputs, sizeof *g->equalizer, &ok);
    if (s->bias.data) {
        r->bias = qvitp_engine_alloc(r->engine, r->outputs, sizeof *r->bias);
        for (size_t j = 0; r->bias && j < r->outputs; j++)
            r->bias[j] = qvitp_get_float(&s->bias, 0, j);
        ok = ok && r->bias;
    }
    if (!ok) return qvitp_no_memory(error);
    QVITP_TRY(qvitp_solve_quantizer(r->engine, &g->span, &g->coder, 0, 0, &r->input, error));
    QVITP_TRY(weight_quantizer(p, r, error));
    return weight_codes(p, r, error);
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

static qvit_status solve(struct group *g, qvit_error *error)
{
    QVITP_TRY(check_observed(g, error));
    if (may_equalize(g)) QVITP_TRY(set_equalizer(g, error));
    set_span(g);
    if (!isfinite(g->span.lo) || !isfinite(g->span.hi))
        return qvitp_fail(error, QVIT_ERR_VALUE, "the equalised input's range is not finite");
    for (size_t i = 0; i < g->count; i++) {
        QVITP_TRY(read_weight(g, &g->part[i], error));
        QVITP_TRY(set_product(g, &g->part[i], error));
    }
    if (g->solving->recipe.metric) QVITP_TRY(search(g, error));
    for (size_t i = 0; i < g->count; i++) {
        struct part *p = &g->part[i];
        p->result = qvitp_engine_alloc(g->solving->engine, 1, sizeof *p->result);
        if (!p->result) return qvitp_no_memory(error);
        p->result->engine = g->solving->engine;
        QVITP_TRY(fill_result(g, p, error));
    }
    return QVIT_OK;
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
    qvit_status status = g.part ? solve(&g, error) : qvitp_no_memory(error);
    for (size_t i = 0; g.part && i < count; i++) {
        qvit_result **kept = &sites[i]->result;
        if (status == QVIT_OK) {
            qvit_result_destroy(*kept);
            *kept = g.part[i].result;
        } else {
            qvit_result_destroy(g.part[i].result);
        }
    }
    qvitp_pool_free(&g.pool);
    return status;
}
