/* attention_make.c - from Q, K and V to the context, head by head, in one call: making the plan. */
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "op/attention.h"
#include "op/heads.h"
#include "op/order.h"
#include "tensor.h"

QVITP_DEFINE_INIT(qvit_attention_options, QVIT_ATTENTION_OPTIONS_INIT)

/* ---- checks ---- */

static qvit_status check_probability(const qvit_port *port, qvit_error *error)
{
    const qvit_quantizer *q = port->quantizer;
    QVITP_TRY(qvitp_port_check_codes(port, "probability", error));
    if (!qvitp_quantizer_is_layer(q) || q->scheme == QVIT_SCHEME_TWIN_GELU ||
        qvitp_dtype_packed(port->dtype) || (q->zero_point && q->zero_point[0]))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "probability: a layer quantizer, plain with "
                          "zero point 0 or twin softmax");
    return QVIT_OK;
}

static qvit_status check_codes(const qvit_attention_options *o, qvit_error *error)
{
    const qvit_quantizer *query = o->query.quantizer;
    QVITP_TRY(qvitp_right_check(&o->key, "key", error));
    QVITP_TRY(qvitp_right_check(&o->value, "value", error));
    QVITP_TRY(check_probability(&o->probability, error));
    if (qvitp_quantizer_is_twin(query) || qvitp_dtype_packed(o->key.dtype) ||
        qvitp_dtype_packed(o->value.dtype))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "query, key, value: plain codes, one to a byte");
    QVITP_TRY(qvitp_left_heads_check(query, o->heads, o->head_dim, "query", error));
    QVITP_TRY(qvitp_heads_check(o->key.quantizer, o->heads, o->head_dim, "key", error));
    return qvitp_columns_check(o->value.quantizer, o->heads, o->head_dim, "value", error);
}

static qvit_status check_options(const qvit_attention_options *o, qvit_error *error)
{
    const qvit_port *ports[] = {&o->query, &o->key, &o->value, &o->probability};
    static const char *const names[] = {"query", "key", "value", "probability"};
    size_t coded = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i < 3 || !ports[i]->quantizer) QVITP_TRY(qvitp_port_check(ports[i], names[i], error));
        coded += ports[i]->quantizer != NULL;
        if (ports[i]->dtype == QVIT_DTYPE_S32)
            return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: s32", names[i]);
    }
    if (coded != 0 && coded != 4)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "query, key, value and probability: all codes, or all f32");
    if (o->output.dtype == QVIT_DTYPE_S32 ||
        (o->output.quantizer && qvitp_quantizer_is_twin(o->output.quantizer)))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: s32 or twin codes");
    size_t columns = qvitp_mul(o->heads, o->head_dim);
    if (!columns || columns == SIZE_MAX)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%zu heads of %zu", o->heads, o->head_dim);
    if (!isfinite(o->score_scale))
        return qvitp_fail(error, QVIT_ERR_VALUE, "score_scale is not finite");
    if (coded) QVITP_TRY(check_codes(o, error));
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, NULL};
    return qvitp_output_check(&output, columns, error);
}

/* ---- vectors ---- */

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct qvitp_attention *p = (struct qvitp_attention *)plan;
    size_t columns = qvitp_mul(p->heads, p->head_columns);
    p->score_scale = qvitp_carve(c, p->heads, sizeof(float));
    p->sum_steps = qvitp_carve(c, p->heads, sizeof(float));
    p->init = qvitp_carve(c, columns, sizeof *p->init);
    p->scale = qvitp_carve(c, columns, sizeof(float));
    p->scale2 = qvitp_carve(c, columns, sizeof(float));
    p->bias = qvitp_carve(c, columns, sizeof(float));
    p->mul = qvitp_carve(c, columns, sizeof(float));
    p->add = qvitp_carve(c, columns, sizeof(float));
}

/* Codes to scores, and codes to the context, of one head. */
static void set_scales(struct qvitp_attention *p, const qvit_attention_options *o,
                       const int32_t *order, size_t h)
{
    struct qvitp_coder query = qvitp_head_coder(o->query.quantizer, h);
    struct qvitp_coder key = qvitp_head_coder(o->key.quantizer, h);
    struct qvitp_coder probability = qvitp_quantizer_coder(o->probability.quantizer, 0);
    p->score_scale[h] = query.scale * key.scale * o->score_scale;
    float steps = p->score_scale[h] * QVITP_SOFTMAX_STEPS;
    int small = p->dim <= QVITP_SOFTMAX_SUM_DIM && steps <= QVITP_SOFTMAX_SUM_STEPS;
    p->sum_steps[h] = small && steps >= 0 ? steps : -1;
    for (size_t j = 0; j < p->dim; j++) {
        size_t channel = qvitp_order_at(order, h * p->dim + j);
        struct qvitp_coder value = qvitp_column_coder(o->value.quantizer, channel);
        p->scale[h * p->head_columns + j] = probability.scale * value.scale;
        p->scale2[h * p->head_columns + j] = probability.scale2 * value.scale;
    }
}

/* What stands behind the sums of P V moves behind the division of their rows. */
static void set_rescale(struct qvitp_attention *p, struct qvitp_epilogue *e)
{
    p->rescale = (struct qvitp_rescale){.n = p->dim, .lo = e->lo, .hi = e->hi, .out = e->out};
    if (e->mul) p->rescale.mul = p->mul, p->rescale.add = p->add;
    *e = (struct qvitp_epilogue){.out = QVITP_OUT_F32};
}

/* The vectors of one head's context: scale of P's codes times that of V's, then the output's. */
static void set_head(struct qvitp_attention *p, const qvit_attention_options *o,
                     const int32_t *order, size_t h)
{
    size_t at = h * p->head_columns;
    struct qvitp_epilogue e = {0};
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, order};
    qvitp_output_fill(&output, h * p->dim, p->dim, p->mul + at, NULL, p->add + at, &e);
    if (o->query.quantizer) set_scales(p, o, order, h);
    if (p->relative)
        set_rescale(p, &e);
    else if (o->query.quantizer)
        qvitp_epilogue_fold(&e, 1, p->dim, p->scale + at, p->scale2 + at, p->bias + at, p->mul + at,
                            p->add + at);
    e.init = p->init, e.scale = p->scale, e.scale2 = p->scale2, e.bias = p->bias;
    p->context = e;
    if (e.mul) p->context.mul = p->mul, p->context.add = p->add;
}

/* Reads an order in which channels stay in their heads; *out is allocated, or NULL without one. */
static qvit_status read_order(const struct qvitp_attention *p, const qvit_tensor *order,
                              int32_t **out, qvit_error *error)
{
    const size_t n = p->heads * p->dim;
    if (!order) return QVIT_OK;
    int32_t *read = *out = qvitp_engine_alloc(p->base.engine, n, sizeof *read + 1);
    if (!read) return qvitp_no_memory(error);
    QVITP_TRY(qvitp_order_read(order, "output_order", n, read, (uint8_t *)(read + n), error));
    for (size_t j = 0; j < n; j++)
        if ((size_t)read[j] / p->dim != j / p->dim)
            return qvitp_fail(error, QVIT_ERR_VALUE, "output_order: %d at place %zu left its head",
                              (int)read[j], j);
    return QVIT_OK;
}

static qvit_status set_heads(struct qvitp_attention *p, const qvit_attention_options *o,
                             qvit_error *error)
{
    int32_t *order = NULL;
    qvit_status status = read_order(p, o->output_order, &order, error);
    for (size_t h = 0; h < p->heads && status == QVIT_OK; h++) set_head(p, o, order, h);
    qvitp_engine_free(p->base.engine, order);
    return status;
}

/* Kernels that read bytes read the probabilities as the softmax writes them: joined, in two planes, or plain. */
static void set_softmax(struct qvitp_attention *p, const qvit_port *port)
{
    const struct qvitp_left *left = &p->probability;
    if (!port->quantizer) return;
    p->writes_ready = left->kernel->a_form == QVITP_A_U8;
    if (p->writes_ready && left->stage_form == QVITP_STAGE_JOINED_SOFTMAX)
        p->softmax.high = left->high;
    struct qvitp_coder c = qvitp_quantizer_coder(port->quantizer, 0);
    p->softmax.hi = c.hi;
    p->softmax.mul = 1.0f / c.scale;
    if (c.scheme != QVIT_SCHEME_TWIN_SOFTMAX) return;
    p->softmax.mul2 = 1.0f / c.scale2;
    p->softmax.half = (c.hi + 1) / 2;
}

static qvit_status check_finite(const struct qvitp_attention *p, qvit_error *error)
{
    size_t columns = p->heads * p->head_columns;
    for (size_t h = 0; h < p->heads; h++)
        if (!isfinite(p->score_scale[h]))
            return qvitp_fail(error, QVIT_ERR_VALUE, "the score scale of head %zu is not finite",
                              h);
    const float *vectors[] = {p->scale, p->scale2, p->bias, p->mul, p->add};
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++)
        for (size_t j = 0; j < columns; j++)
            if (!isfinite(vectors[v][j]))
                return qvitp_fail(error, QVIT_ERR_VALUE,
                                  "the scales of the context, multiplied, are not finite");
    return QVIT_OK;
}

static void explain(struct qvitp_attention *p, const qvit_attention_options *o)
{
    char what[120], probability[40], kernels[120];
    qvitp_port_text(&o->probability, probability, sizeof probability);
    snprintf(what, sizeof what, "attention, %zu heads of %zu, %s x %s, P %s, -> %s", p->heads,
             p->dim, qvitp_dtype_name(o->query.dtype), qvitp_dtype_name(o->key.dtype), probability,
             qvitp_dtype_name(o->output.dtype));
    snprintf(kernels, sizeof kernels, "%s, %s, %s", p->query.kernel->name,
             o->query.quantizer ? p->base.engine->kernels.softmax_codes->name
                                : p->base.engine->kernels.softmax->name,
             p->probability.kernel->name);
    p->base.kernel = p->query.kernel->name;
    qvitp_plan_explain(&p->base, what, kernels);
}

qvit_status qvit_attention_create(const qvit_engine *engine, const qvit_attention_options *options,
                                  qvit_plan **out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    QVITP_TRY(check_options(&o, error));
    if (o.score_scale == 0) o.score_scale = 1.0f / sqrtf((float)o.head_dim);
    struct qvitp_attention made = {
        .base = {.engine = engine, .op = QVITP_OP_ATTENTION},
        .heads = o.heads,
        .dim = o.head_dim,
        .types = {o.query.dtype, o.key.dtype, o.value.dtype, o.output.dtype},
        .float_scale = o.score_scale};
    QVITP_TRY(qvitp_left_init(&made.query, engine, &o.query, o.key.quantizer, "query", error));
    QVITP_TRY(qvitp_left_init(&made.probability, engine, &o.probability, o.value.quantizer,
                              "probability", error));
    if (made.probability.stage_form == QVITP_STAGE_S8) {
        /* Symmetric codes of probabilities are never negative: they are unsigned codes too. */
        made.probability.stage_form = QVITP_STAGE_U8;
        made.probability.zero = 0;
    }
    qvitp_left_join(&made.probability, engine, qvitp_left_multiple(o.probability.quantizer), 0);
    QVITP_TRY(qvitp_sums_fit(&made.query, o.head_dim, error));
    made.relative =
        o.probability.quantizer && (o.probability.quantizer->flags & QVIT_QUANTIZER_RELATIVE) != 0;
    made.head_columns = qvitp_vector_columns(made.probability.kernel, o.head_dim);
    struct qvitp_attention *p =
        (struct qvitp_attention *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    qvit_status status = set_heads(p, &o, error);
    set_softmax(p, &o.probability);
    if (status == QVIT_OK) status = check_finite(p, error);
    if (status == QVIT_OK) explain(p, &o);
    return qvitp_plan_finish(&p->base, status, out, error);
}
