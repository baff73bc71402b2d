/* linear.c - out = encode(activation(in * W^T + bias) + residual): making and running the plan. */
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "base/options.h"
#include "base/shares.h"
#include "op/product.h"
#include "op/rows.h"
#include "plan/pack.h"
#include "plan/plan.h"
#include "sched/sched.h"
#include "tensor.h"

struct linear {
    struct qvit_plan base;
    struct qvitp_left left;
    struct qvitp_epilogue epilogue;
    size_t n, k;
    size_t chunk; /* columns that one task takes at once, a multiple of nr */
    qvit_dtype input, residual, output;
    /* behind the struct: */
    void *panels;
    int32_t *init;
    float *scale, *scale2, *bias, *mul, *mul_neg, *add;
};

/* The columns of weights that a task goes through before it takes the next rows stay in the L2 cache. */
enum { CHUNK_BYTES = 256 * 1024 };

QVITP_DEFINE_INIT(qvit_linear_options, QVIT_LINEAR_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_linear_args, QVIT_LINEAR_ARGS_INIT)

/* ---- making ---- */

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
    if (input && !qvitp_quantizer_is_layer(input))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "input: only a layer quantizer");
    if (weight) QVITP_TRY(qvitp_right_check(&o->weight, "weight", error));
    if (weight && weight->granularity->col_blocks != 1)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "weight: blocks of columns");
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
    QVITP_TRY(qvitp_vector_check(o->bias, "bias", n, error));
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift};
    QVITP_TRY(qvitp_output_check(&output, n, error));
    return check_sums_output(o, error);
}

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct linear *p = (struct linear *)plan;
    size_t n = qvitp_vector_columns(p->left.kernel, p->n);
    p->panels = qvitp_carve(c, qvitp_packed_bytes(p->left.kernel, p->n, p->k), 1);
    p->init = qvitp_carve(c, n, sizeof *p->init);
    p->scale = qvitp_carve(c, n, sizeof *p->scale);
    p->scale2 = p->left.twin ? qvitp_carve(c, n, sizeof *p->scale2) : NULL;
    p->bias = qvitp_carve(c, n, sizeof *p->bias);
    p->mul = qvitp_carve(c, n, sizeof *p->mul);
    p->mul_neg = qvitp_carve(c, n, sizeof *p->mul_neg);
    p->add = qvitp_carve(c, n, sizeof *p->add);
}

/*
 * Packs one row of codes, checks them, and sets where its sums start. A sum of k terms, and every part
 * of it, stays below (code_max + |zero|) * sum |w|, which must fit an int32.
 */
static qvit_status pack_codes(struct linear *p, const qvit_linear_options *o, size_t row,
                              int8_t *codes, qvit_error *error)
{
    const qvit_quantizer *q = o->weight.quantizer;
    ptrdiff_t at = qvitp_tensor_row(o->weights, row);
    int64_t sum = 0, magnitude = 0;
    for (size_t i = 0; i < p->k; i++) {
        int32_t code = qvitp_get_int(o->weights, at, i);
        if ((float)code < q->lo || (float)code > q->hi)
            return qvitp_fail(error, QVIT_ERR_VALUE,
                              "weights: code %d at [%zu, %zu] is outside "
                              "%d..%d",
                              (int)code, row, i, (int)q->lo, (int)q->hi);
        codes[i] = (int8_t)code;
        sum += code;
        magnitude += code < 0 ? -code : code;
    }
    if ((p->left.code_max + p->left.zero) * magnitude > INT32_MAX)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "weights: the sums of row %zu could overflow 32 bits", row);
    p->init[row] = (int32_t)(-p->left.zero * sum);
    qvitp_pack_row(p->left.kernel, p->k, codes, row, p->panels);
    return QVIT_OK;
}

static qvit_status pack_floats(struct linear *p, const qvit_linear_options *o, size_t row,
                               float *values, qvit_error *error)
{
    ptrdiff_t at = qvitp_tensor_row(o->weights, row);
    for (size_t i = 0; i < p->k; i++) {
        values[i] = qvitp_get_float(o->weights, at, i);
        if (!isfinite(values[i]))
            return qvitp_fail(error, QVIT_ERR_VALUE, "weights: [%zu, %zu] is not finite", row, i);
    }
    qvitp_pack_row(p->left.kernel, p->k, values, row, p->panels);
    return QVIT_OK;
}

static qvit_status pack_weights(struct linear *p, const qvit_linear_options *o, qvit_error *error)
{
    void *row = qvitp_engine_alloc(p->base.engine, p->k, sizeof(float));
    if (!row) return qvitp_no_memory(error);
    qvit_status status = QVIT_OK;
    for (size_t i = 0; i < p->n && status == QVIT_OK; i++)
        status = o->weight.quantizer ? pack_codes(p, o, i, row, error)
                                     : pack_floats(p, o, i, row, error);
    qvitp_engine_free(p->base.engine, row);
    return status;
}

/* The scale of every output: that of the input's codes times that of its weights' row. The low range
 * of twin GELU codes is negative and staged as magnitudes, so its scale carries the sign. */
static void set_scales(struct linear *p, const qvit_linear_options *o)
{
    for (size_t j = 0; o->bias && j < p->n; j++) p->bias[j] = qvitp_vector_get(o->bias, j, 0);
    if (!o->input.quantizer) return;
    struct qvitp_coder in = qvitp_quantizer_coder(o->input.quantizer, 0);
    const qvit_quantizer *weight = o->weight.quantizer;
    float sign = in.scheme == QVIT_SCHEME_TWIN_GELU ? -1.0f : 1.0f;
    for (size_t j = 0; j < p->n; j++) {
        float scale = qvitp_quantizer_coder(weight, qvitp_row_block(weight->granularity, j)).scale;
        p->scale[j] = sign * in.scale * scale;
        if (p->left.twin) p->scale2[j] = in.scale2 * scale;
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

static qvit_status check_finite(const struct linear *p, qvit_error *error)
{
    const float *vectors[] = {p->scale, p->scale2, p->bias, p->mul, p->mul_neg, p->add};
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++)
        for (size_t j = 0; vectors[v] && j < p->n; j++)
            if (!isfinite(vectors[v][j]))
                return qvitp_fail(error, QVIT_ERR_VALUE,
                                  "the scales of output %zu, multiplied together, are not finite",
                                  j);
    return QVIT_OK;
}

static qvit_status build(struct linear *p, const qvit_linear_options *o, qvit_error *error)
{
    struct qvitp_epilogue *e = &p->epilogue;
    QVITP_TRY(pack_weights(p, o, error));
    set_scales(p, o);
    *e = (struct qvitp_epilogue){.init = p->init,
                                 .scale = p->scale,
                                 .scale2 = p->scale2,
                                 .bias = p->bias,
                                 .gelu = o->activation == QVIT_ACTIVATION_GELU};
    set_residual(e, &o->residual);
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift};
    qvitp_output_fill(&output, 0, p->n, p->mul, p->mul_neg, p->add, e);
    if (o->input.quantizer)
        qvitp_epilogue_fold(e, p->n, p->scale, p->scale2, p->bias, p->mul, p->add);
    return check_finite(p, error);
}

static void explain(struct linear *p, const qvit_linear_options *o)
{
    char what[120], in[40], out[40];
    qvitp_port_text(&o->input, in, sizeof in);
    qvitp_port_text(&o->output, out, sizeof out);
    snprintf(what, sizeof what, "linear %zu x %zu, %s x %s%s%s -> %s", p->n, p->k, in,
             qvitp_dtype_name(o->weight.dtype), p->epilogue.gelu ? ", gelu" : "",
             p->epilogue.residual ? ", residual" : "", out);
    p->base.kernel = p->left.kernel->name;
    qvitp_plan_explain(&p->base, what, p->base.kernel);
}

/* Columns for one task at once: as many panels as CHUNK_BYTES hold, at least one. */
static size_t chunk_columns(const struct linear *p)
{
    size_t nr = p->left.kernel->nr;
    size_t panel = qvitp_packed_bytes(p->left.kernel, nr, p->k);
    size_t panels = panel < CHUNK_BYTES ? CHUNK_BYTES / panel : 1;
    return panels * nr;
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
    struct linear made = {.base = {.engine = engine, .op = QVITP_OP_LINEAR},
                          .n = o.weights->dims[0],
                          .k = o.weights->dims[1],
                          .input = o.input.dtype,
                          .residual = o.residual.dtype,
                          .output = o.output.dtype};
    QVITP_TRY(qvitp_left_init(&made.left, engine, &o.input, "input", error));
    made.chunk = chunk_columns(&made);
    struct linear *p = (struct linear *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    qvit_status status = build(p, &o, error);
    if (status == QVIT_OK) explain(p, &o);
    return qvitp_plan_finish(&p->base, status, out, error);
}

/* ---- running ---- */

static size_t staged_bytes(const struct linear *p)
{
    return qvitp_left_staged_bytes(&p->left, p->left.kernel->mr, p->k);
}

size_t qvit_linear_workspace_size(const qvit_plan *plan, size_t rows)
{
    if (!plan || plan->op != QVITP_OP_LINEAR || !rows) return 0;
    const struct linear *p = (const struct linear *)plan;
    return qvitp_mul(staged_bytes(p), plan->engine->executor.workers);
}

/* One run, cut into units of (matrix, column chunk, row tile); a worker takes neighbours, so that it
 * reads one chunk of weights for as long as possible. */
struct run {
    const struct linear *plan;
    struct qvitp_rows rows;
    size_t chunk, chunks, tiles;
    char *workspace;
};

static void run_unit(void *argument, size_t unit, size_t worker)
{
    const struct run *r = argument;
    const struct linear *p = r->plan;
    const struct qvitp_rows *m = &r->rows;
    size_t tile = unit % r->tiles, chunk = unit / r->tiles % r->chunks;
    size_t matrix = unit / r->tiles / r->chunks;
    size_t first = qvitp_share(m->rows, r->tiles, tile);
    struct qvitp_block block = {
        .left = &p->left,
        .epilogue = &p->epilogue,
        .m = qvitp_share(m->rows, r->tiles, tile + 1) - first,
        .k = p->k,
        .a = qvitp_rows_at(m, QVITP_ROWS_INPUT, matrix, first),
        .lda = m->side[QVITP_ROWS_INPUT].stride * (ptrdiff_t)m->side[QVITP_ROWS_INPUT].size,
        .b = p->panels,
        .first_column = chunk * r->chunk,
        .columns = qvitp_min(r->chunk, p->n - chunk * r->chunk),
        .out = qvitp_rows_at(m, QVITP_ROWS_OUTPUT, matrix, first),
        .ldo = m->side[QVITP_ROWS_OUTPUT].stride,
        .out_size = m->side[QVITP_ROWS_OUTPUT].size,
        .staged = r->workspace ? r->workspace + worker * staged_bytes(p) : NULL,
    };
    if (p->residual != QVIT_DTYPE_NONE) {
        block.residual = qvitp_rows_at(m, QVITP_ROWS_RESIDUAL, matrix, first);
        block.ldr = m->side[QVITP_ROWS_RESIDUAL].stride;
        block.residual_size = m->side[QVITP_ROWS_RESIDUAL].size;
    }
    qvitp_block_run(&block);
}

static qvit_status check_args(const struct linear *p, const qvit_linear_args *a,
                              struct qvitp_rows *m, qvit_error *error)
{
    if (!a->residual != (p->residual == QVIT_DTYPE_NONE))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "residual: %s",
                          a->residual ? "the plan has none" : "the plan needs one");
    const struct qvitp_rows_side sides[QVITP_ROWS_SIDES] = {
        [QVITP_ROWS_INPUT] = {a->input, "input", p->input, p->k, 0},
        [QVITP_ROWS_OUTPUT] = {a->output, "output", p->output, p->n, QVITP_OUTPUT},
        [QVITP_ROWS_RESIDUAL] = {a->residual, "residual", p->residual, p->n, 0},
    };
    return qvitp_rows_init(m, sides, error);
}

qvit_status qvit_linear_run(const qvit_plan *plan, const qvit_linear_args *args, qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_LINEAR, error));
    const struct linear *p = (const struct linear *)plan;
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct run r = {.plan = p, .workspace = a.workspace};
    QVITP_TRY(check_args(p, &a, &r.rows, error));
    size_t needed = qvit_linear_workspace_size(plan, r.rows.rows);
    QVITP_TRY(qvitp_workspace_check(a.workspace, a.workspace_size, needed, error));

    size_t workers = plan->engine->executor.workers;
    r.tiles = qvitp_tiles(r.rows.rows, p->left.kernel->mr);
    r.chunk = p->chunk;
    if (workers > 1) { /* at least two shares of columns for each worker, so that none waits long */
        size_t nr = p->left.kernel->nr, share = qvitp_round_up(p->n / (2 * workers) + 1, nr);
        r.chunk = qvitp_min(r.chunk, share);
    }
    r.chunks = qvitp_tiles(p->n, r.chunk);
    size_t units = r.rows.matrices * r.chunks * r.tiles;
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, units, run_unit, &r, error));
    return qvitp_ok(error);
}
