/*
 * linear_make.c - out = encode(activation(in * W^T + bias) + residual): making the plan.
 *
 * Quantizers, biases and weights know channels; the plan knows places, where the orders say what stands.
 * So the orders end here: weights are packed, and vectors filled, as the places ask.
 */
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "op/linear.h"
#include "op/order.h"
#include "plan/pack.h"
#include "tensor.h"

/* The columns of weights that a task goes through before it takes the next rows stay in the L2 cache. Where rows are
 * staged, once for each chunk, it is cheaper to read more weights from the L3 cache, unless they are expanded. */
enum { CHUNK_BYTES = 256 * 1024, CHUNK_BYTES_STAGED = 4096 * 1024 };

/* Weights of so many bits are kept two to a byte. */
enum { PACKED_BITS = 4 };

QVITP_DEFINE_INIT(qvit_linear_options, QVIT_LINEAR_OPTIONS_INIT)

/* What a plan is made of. */
struct source {
    const qvit_linear_options *options;
    size_t n, k;
    int32_t *input_order, *output_order; /* NULL: as it is */
    void *orders;                        /* the memory of both */
    struct qvitp_k_sides sides;          /* of codes */
};

/* ---- checks ---- */

/* Of asymmetric codes panels hold the distance from zero, which must fit them as 8-bit weights do. */
static qvit_status check_weight(const qvit_port *port, qvit_error *error)
{
    enum { MOST_ASYMMETRIC_BITS = 7 };
    const qvit_quantizer *q = port->quantizer;
    if (q->scheme == QVIT_SCHEME_SYMMETRIC) return qvitp_right_check(port, "weight", error);
    if (q->scheme == QVIT_SCHEME_ASYMMETRIC && q->bits <= MOST_ASYMMETRIC_BITS) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                      "weight: only symmetric codes, and asymmetric ones of up to %d bits",
                      MOST_ASYMMETRIC_BITS);
}

static qvit_status check_ports(const qvit_linear_options *o, qvit_error *error)
{
    QVITP_TRY(qvitp_port_check(&o->input, "input", error));
    QVITP_TRY(qvitp_port_check(&o->weight, "weight", error));
    if (o->residual.dtype != QVIT_DTYPE_NONE)
        QVITP_TRY(qvitp_port_check(&o->residual, "residual", error));
    const qvit_quantizer *input = o->input.quantizer, *weight = o->weight.quantizer;
    const qvit_quantizer *residual = o->residual.quantizer;
    if (!input != !weight ||
        (!input && (o->input.dtype != QVIT_DTYPE_F32 || o->weight.dtype != QVIT_DTYPE_F32)))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "input %s with weights %s: both are codes or both are f32",
                          qvitp_dtype_name(o->input.dtype), qvitp_dtype_name(o->weight.dtype));
    if (input && input->granularity->row_blocks != 1)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "input: blocks of rows");
    if (weight) QVITP_TRY(check_weight(&o->weight, error));
    if (residual && (!qvitp_quantizer_is_layer(residual) || qvitp_quantizer_is_twin(residual) ||
                     qvitp_dtype_packed(o->residual.dtype)))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "residual: only uniform layer codes");
    if (!residual && o->residual.dtype == QVIT_DTYPE_S32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "residual: s32");
    if (o->activation != QVIT_ACTIVATION_NONE && o->activation != QVIT_ACTIVATION_GELU)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown activation %d", (int)o->activation);
    return QVIT_OK;
}

static qvit_status check_sums_output(const qvit_linear_options *o, qvit_error *error)
{
    if (o->output.dtype != QVIT_DTYPE_S32) return QVIT_OK;
    if (o->input.quantizer && !qvitp_quantizer_is_twin(o->input.quantizer) && !o->activation &&
        !o->bias && o->residual.dtype == QVIT_DTYPE_NONE && !o->output_scale && !o->output_shift)
        return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                      "s32 output: the bare sums of plain codes, nothing else");
}

static qvit_status check_options(const qvit_linear_options *o, qvit_error *error)
{
    QVITP_TRY(check_ports(o, error));
    size_t any[2] = {0, 0};
    QVITP_TRY(qvitp_tensor_expect(o->weights, "weights", o->weight.dtype, QVITP_ANY_LAST_STRIDE, 2,
                                  any, error));
    size_t n = o->weights->dims[0];
    if (o->weight.quantizer &&
        !qvitp_granularity_fits(o->weight.quantizer->granularity, n, o->weights->dims[1]))
        return qvitp_fail(error, QVIT_ERR_SHAPE, "weights: %zu x %zu do not fit the granularity", n,
                          o->weights->dims[1]);
    if (o->input.quantizer &&
        !qvitp_granularity_fits(o->input.quantizer->granularity, QVIT_ANY, o->weights->dims[1]))
        return qvitp_fail(error, QVIT_ERR_SHAPE, "input: the granularity is not over %zu columns",
                          o->weights->dims[1]);
    QVITP_TRY(qvitp_vector_check(o->bias, "bias", n, error));
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, NULL};
    QVITP_TRY(qvitp_output_check(&output, n, error));
    return check_sums_output(o, error);
}

/* ---- orders ---- */

static qvit_status read_orders(const qvit_engine *engine, struct source *s, qvit_error *error)
{
    const qvit_linear_options *o = s->options;
    if (!o->input_order && !o->output_order) return QVIT_OK;
    s->orders = qvitp_engine_alloc(engine, qvitp_add(s->n, s->k), sizeof(int32_t) + 1);
    if (!s->orders) return qvitp_no_memory(error);
    int32_t *input = s->orders, *output = input + s->k;
    uint8_t *seen = (uint8_t *)(output + s->n);
    QVITP_TRY(qvitp_order_read(o->input_order, "input_order", s->k, input, seen, error));
    QVITP_TRY(qvitp_order_read(o->output_order, "output_order", s->n, output, seen, error));
    if (o->input_order) s->input_order = input;
    if (o->output_order) s->output_order = output;
    return QVIT_OK;
}

/* ---- weights ---- */

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct qvitp_linear *p = (struct qvitp_linear *)plan;
    struct qvitp_k_blocks *b = &p->k_blocks;
    size_t n = p->columns, all = qvitp_mul(n, b->count);
    size_t panels = qvitp_packed_bytes(p->left.kernel, p->n, qvitp_left_packed_k(&p->left, p->k));
    p->panels = qvitp_carve(c, p->packed ? panels / 2 : panels, 1);
    p->zero = p->packed ? qvitp_carve(c, all, sizeof *p->zero) : NULL;
    p->init = qvitp_carve(c, all, sizeof *p->init);
    p->scale = qvitp_carve(c, all, sizeof *p->scale);
    p->scale2 = p->left.twin ? qvitp_carve(c, all, sizeof *p->scale2) : NULL;
    p->bias = qvitp_carve(c, n, sizeof *p->bias);
    p->mul = qvitp_carve(c, n, sizeof *p->mul);
    p->mul_neg = qvitp_carve(c, n, sizeof *p->mul_neg);
    p->add = qvitp_carve(c, n, sizeof *p->add);
    b->starts = qvitp_carve(c, b->count + 1, sizeof *b->starts);
    b->ends = qvitp_carve(c, b->count, sizeof *b->ends);
}

/* What codes of the input's block stand for 0, as they are staged. */
static int32_t zero_point(const struct qvitp_linear *p, const struct qvitp_coder *in)
{
    return in->scheme == QVIT_SCHEME_ASYMMETRIC ? (int32_t)in->zero : p->left.zero;
}

/* The input's coder in a K-block. */
static struct qvitp_coder input_coder(const struct qvitp_linear *p, const struct source *s,
                                      size_t block)
{
    size_t channel = qvitp_order_at(s->sides.order, p->k_blocks.starts[block]);
    const qvit_quantizer *q = s->sides.input;
    return qvitp_quantizer_coder(q, qvitp_col_block(q->granularity, channel));
}

/* Where the vectors over K-blocks have an output's number in one of them. */
static size_t place(const struct qvitp_linear *p, size_t block, size_t row)
{
    return qvitp_k_place(p->left.kernel->nr, p->k_blocks.count, block, row);
}

/* The coder of an output's weights in a K-block. */
static struct qvitp_coder weight_coder(const struct qvitp_linear *p, const struct source *s,
                                       size_t row, size_t block)
{
    const qvit_granularity *g = s->sides.weight->granularity;
    size_t output = qvitp_order_at(s->output_order, row);
    size_t input = qvitp_order_at(s->sides.order, p->k_blocks.starts[block]);
    return qvitp_quantizer_coder(s->sides.weight, qvitp_row_block(g, output) * g->col_blocks +
                                                      qvitp_col_block(g, input));
}

/* Reads a row's codes of one K-block, as what they lie above zero, and checks them. */
static qvit_status read_block(const struct qvitp_linear *p, const struct source *s, size_t row,
                              size_t block, int8_t *values, qvit_error *error)
{
    const qvit_quantizer *q = s->sides.weight;
    const qvit_tensor *weights = s->options->weights;
    size_t channel = qvitp_order_at(s->output_order, row), first = p->k_blocks.starts[block];
    ptrdiff_t at = qvitp_tensor_row(weights, channel);
    int32_t zero = (int32_t)weight_coder(p, s, row, block).zero;
    for (size_t i = first; i < p->k_blocks.starts[block + 1]; i++) {
        size_t from = qvitp_order_at(s->sides.order, i);
        int32_t code = qvitp_get_int(weights, at, from);
        if ((float)code < q->lo || (float)code > q->hi)
            return qvitp_fail(error, QVIT_ERR_VALUE,
                              "weights: code %d at [%zu, %zu] is outside "
                              "%d..%d",
                              (int)code, channel, from, (int)q->lo, (int)q->hi);
        values[i - first] = (int8_t)(code - zero);
    }
    return QVIT_OK;
}

/* Packs a K-block of a row, from place `first` of the packed k on, as 4-bit codes. */
static void pack_block(struct qvitp_linear *p, const struct source *s, size_t row, size_t block,
                       size_t first, const int8_t *values)
{
    const struct qvitp_k_blocks *blocks = &p->k_blocks;
    int32_t zero = 1 << (PACKED_BITS - 1);
    if (s->sides.weight->scheme == QVIT_SCHEME_ASYMMETRIC)
        zero = (int32_t)weight_coder(p, s, row, block).zero;
    p->zero[place(p, block, row)] = (uint8_t)zero;
    qvitp_pack_codes_4(p->left.kernel, blocks->packed, row, first, blocks->ends[block] - first,
                       values, zero, p->panels);
}

/*
 * Packs one row of codes, checks them, and sets where its sums start. A sum over a block, and every part
 * of it, stays below (code_max + |zero|) * sum |w|, which must fit an int32.
 */
static qvit_status pack_codes(struct qvitp_linear *p, const struct source *s, size_t row,
                              int8_t *values, qvit_error *error)
{
    const struct qvitp_k_blocks *blocks = &p->k_blocks;
    int64_t most = 0;
    for (size_t h = 0, to = 0; h < blocks->count; to = blocks->ends[h++]) {
        struct qvitp_coder in = input_coder(p, s, h);
        int32_t zero = zero_point(p, &in);
        int64_t sum = 0, magnitude = 0;
        QVITP_TRY(read_block(p, s, row, h, values + to, error));
        for (size_t i = to; i < blocks->ends[h]; i++) {
            sum += values[i];
            magnitude += values[i] < 0 ? -values[i] : values[i];
        }
        p->init[place(p, h, row)] = (int32_t)(-zero * sum);
        if ((p->left.code_max + zero) * magnitude > most)
            most = (p->left.code_max + zero) * magnitude;
        if (p->packed) pack_block(p, s, row, h, to, values + to);
    }
    if (most > INT32_MAX)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "weights: the sums of row %zu could overflow 32 bits",
                          qvitp_order_at(s->output_order, row));
    if (!p->packed) qvitp_pack_row(p->left.kernel, blocks->packed, values, row, p->panels);
    return QVIT_OK;
}

static qvit_status pack_floats(struct qvitp_linear *p, const struct source *s, size_t row,
                               float *values, qvit_error *error)
{
    const qvit_tensor *weights = s->options->weights;
    size_t channel = qvitp_order_at(s->output_order, row);
    ptrdiff_t at = qvitp_tensor_row(weights, channel);
    for (size_t i = 0; i < p->k; i++) {
        size_t from = qvitp_order_at(s->input_order, i);
        values[i] = qvitp_get_float(weights, at, from);
        if (!isfinite(values[i]))
            return qvitp_fail(error, QVIT_ERR_VALUE, "weights: [%zu, %zu] is not finite", channel,
                              from);
    }
    qvitp_pack_row(p->left.kernel, p->k, values, row, p->panels);
    return QVIT_OK;
}

static qvit_status pack_weights(struct qvitp_linear *p, const struct source *s, qvit_error *error)
{
    /* what stands between two K-blocks stays 0 */
    void *row =
        qvitp_engine_alloc(p->base.engine, qvitp_left_packed_k(&p->left, p->k), sizeof(float));
    if (!row) return qvitp_no_memory(error);
    qvit_status status = QVIT_OK;
    for (size_t i = 0; i < p->n && status == QVIT_OK; i++)
        status =
            s->sides.weight ? pack_codes(p, s, i, row, error) : pack_floats(p, s, i, row, error);
    qvitp_engine_free(p->base.engine, row);
    return status;
}

/* ---- vectors ---- */

/* The scale of every output in one K-block: that of the input's codes times that of its weights' block.
 * The low range of twin GELU codes is negative and staged as magnitudes, so its scale carries the sign,
 * unless both are summed as one. */
static void set_scales(struct qvitp_linear *p, const struct source *s, size_t block)
{
    struct qvitp_coder in = input_coder(p, s, block);
    float sign = qvitp_low_sign(&p->left);
    for (size_t j = 0; j < p->n; j++) {
        float scale = weight_coder(p, s, j, block).scale;
        p->scale[place(p, block, j)] = sign * in.scale * scale;
        if (p->left.twin) p->scale2[place(p, block, j)] = in.scale2 * scale;
    }
}

static void set_residual(struct qvitp_epilogue *e, const qvit_port *port)
{
    e->residual = port->dtype == QVIT_DTYPE_F32  ? QVITP_RESIDUAL_F32
                  : port->dtype == QVIT_DTYPE_U8 ? QVITP_RESIDUAL_U8
                  : port->dtype == QVIT_DTYPE_S8 ? QVITP_RESIDUAL_S8
                                                 : QVITP_RESIDUAL_NONE;
    if (!port->quantizer) return;
    struct qvitp_coder coder = qvitp_quantizer_coder(port->quantizer, 0);
    e->residual_scale = coder.scale;
    e->residual_zero = coder.zero;
}

/* Whether all that output j is multiplied by, or moved by, is finite. */
static int is_finite(const struct qvitp_linear *p, size_t j)
{
    const float *const vectors[] = {p->bias, p->mul, p->mul_neg, p->add};
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++)
        if (!isfinite(vectors[v][j])) return 0;
    for (size_t h = 0; h < p->k_blocks.count; h++) {
        size_t at = place(p, h, j);
        int apart = p->left.twin && !p->left.high; /* else scale2 is not read */
        if (!isfinite(p->scale[at]) || (apart && !isfinite(p->scale2[at]))) return 0;
    }
    return 1;
}

static qvit_status check_finite(const struct qvitp_linear *p, qvit_error *error)
{
    for (size_t j = 0; j < p->n; j++)
        if (!is_finite(p, j))
            return qvitp_fail(error, QVIT_ERR_VALUE,
                              "the scales of output %zu, multiplied together, are not finite", j);
    return QVIT_OK;
}

/* Where codes follow, GELU's unit moves into what is multiplied before and after (numerics.h). */
static void fold_gelu(struct qvitp_linear *p)
{
    struct qvitp_epilogue *e = &p->epilogue;
    if (!e->gelu || e->out != QVITP_OUT_CODE || e->residual != QVITP_RESIDUAL_NONE) return;
    e->gelu = QVITP_GELU_IN_UNITS;
    for (size_t h = 0; h < p->k_blocks.count; h++)
        for (size_t j = 0; j < p->n; j++) {
            p->scale[place(p, h, j)] *= QVITP_GELU_UNITS;
            if (p->left.twin) p->scale2[place(p, h, j)] *= QVITP_GELU_UNITS;
        }
    for (size_t j = 0; j < p->n; j++) {
        p->bias[j] *= QVITP_GELU_UNITS;
        p->mul[j] *= QVITP_GELU_UNIT;
        if (e->mul_neg) p->mul_neg[j] *= QVITP_GELU_UNIT;
    }
}

static qvit_status build(struct qvitp_linear *p, const struct source *s, qvit_error *error)
{
    const qvit_linear_options *o = s->options;
    struct qvitp_epilogue *e = &p->epilogue;
    if (s->sides.input) qvitp_k_blocks_cut(&s->sides, p->left.kernel->kstep, &p->k_blocks);
    if (p->left.k_blocks) p->left.k_blocks = &p->k_blocks;
    QVITP_TRY(pack_weights(p, s, error));
    for (size_t h = 0; s->sides.input && h < p->k_blocks.count; h++) set_scales(p, s, h);
    for (size_t j = 0; o->bias && j < p->n; j++)
        p->bias[j] = qvitp_vector_get(o->bias, qvitp_order_at(s->output_order, j), 0);
    *e = (struct qvitp_epilogue){.init = p->init,
                                 .scale = p->scale,
                                 .scale2 = p->scale2,
                                 .low = p->left.low,
                                 .high = p->left.high,
                                 .bias = p->bias,
                                 .gelu = o->activation == QVIT_ACTIVATION_GELU ? QVITP_GELU_FULL
                                                                               : QVITP_GELU_NONE};
    if (p->left.k_blocks) {
        e->k_blocks = p->k_blocks.count;
        e->k_ends = p->k_blocks.ends;
    }
    set_residual(e, &o->residual);
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, s->output_order};
    qvitp_output_fill(&output, 0, p->n, p->mul, p->mul_neg, p->add, e);
    if (s->sides.input) fold_gelu(p);
    if (s->sides.input)
        qvitp_epilogue_fold(e, p->left.kernel->nr, p->n, p->scale, p->scale2, p->bias, p->mul,
                            p->add);
    return check_finite(p, error);
}

static void explain(struct qvitp_linear *p, const qvit_linear_options *o)
{
    char what[170], in[40], out[40], blocks[40] = "";
    qvitp_port_text(&o->input, in, sizeof in);
    qvitp_port_text(&o->output, out, sizeof out);
    if (p->left.k_blocks) snprintf(blocks, sizeof blocks, " in %zu blocks of k", p->k_blocks.count);
    snprintf(what, sizeof what, "linear %zu x %zu, %s x %s%s%s%s -> %s", p->n, p->k, in,
             qvitp_dtype_name(o->weight.dtype), blocks, p->epilogue.gelu ? ", gelu" : "",
             p->epilogue.residual ? ", residual" : "", out);
    p->base.kernel = p->left.kernel->name;
    qvitp_plan_explain(&p->base, what, p->base.kernel);
}

/* Columns for one task at once: as many panels as a chunk's bytes hold, at least one. */
static size_t chunk_columns(const struct qvitp_linear *p)
{
    size_t nr = p->left.kernel->nr;
    size_t panel = qvitp_packed_bytes(p->left.kernel, nr, qvitp_left_packed_k(&p->left, p->k));
    int staged = !p->packed && !qvitp_left_in_place(&p->left, p->k);
    size_t bytes = staged ? CHUNK_BYTES_STAGED : CHUNK_BYTES;
    size_t panels = panel < bytes ? bytes / panel : 1;
    return panels * nr;
}

/* A plan without memory of its own: what it computes, and how large it is. */
static qvit_status design(struct qvitp_linear *p, const struct source *s, qvit_error *error)
{
    const qvit_linear_options *o = s->options;
    const qvit_engine *engine = p->base.engine;
    QVITP_TRY(qvitp_left_init(&p->left, engine, &o->input, o->weight.quantizer, "input", error));
    p->k_blocks.count = 1;
    qvitp_left_join(&p->left, engine, qvitp_left_multiple(s->sides.input), p->k);
    if (s->sides.input) {
        p->k_blocks.count = qvitp_k_blocks_count(&s->sides);
        qvitp_left_cut(&p->left, engine, &p->k_blocks);
        qvitp_k_blocks_cut(&s->sides, p->left.kernel->kstep, &p->k_blocks);
    }
    if (p->left.k_blocks && o->output.dtype == QVIT_DTYPE_S32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "s32 output: of blocks of k");
    p->packed = s->sides.weight && s->sides.weight->bits <= PACKED_BITS;
    p->columns = qvitp_vector_columns(p->left.kernel, p->n);
    p->chunk = chunk_columns(p);
    return QVIT_OK;
}

static qvit_status make(const qvit_engine *engine, const struct source *s, qvit_plan **out,
                        qvit_error *error)
{
    const qvit_linear_options *o = s->options;
    struct qvitp_linear made = {.base = {.engine = engine, .op = QVITP_OP_LINEAR},
                                .n = s->n,
                                .k = s->k,
                                .input = o->input.dtype,
                                .residual = o->residual.dtype,
                                .output = o->output.dtype};
    QVITP_TRY(design(&made, s, error));
    struct qvitp_linear *p =
        (struct qvitp_linear *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    qvit_status status = build(p, s, error);
    if (status == QVIT_OK) explain(p, o);
    return qvitp_plan_finish(&p->base, status, out, error);
}

qvit_status qvit_linear_create(const qvit_engine *engine, const qvit_linear_options *options,
                               qvit_plan **out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    QVITP_TRY(check_options(&o, error));
    struct source s = {.options = &o, .n = o.weights->dims[0], .k = o.weights->dims[1]};
    qvit_status status = read_orders(engine, &s, error);
    s.sides = (struct qvitp_k_sides){o.input.quantizer, o.weight.quantizer, s.input_order, s.k};
    if (status == QVIT_OK) status = make(engine, &s, out, error);
    qvitp_engine_free(engine, s.orders);
    return status;
}
