/* layer_norm.c - layer normalisation that writes floats or codes: making and running the plan. */
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "op/order.h"
#include "op/product.h"
#include "op/rows.h"
#include "plan/plan.h"
#include "sched/sched.h"
#include "tensor.h"

struct layer_norm {
    struct qvit_plan base;
    size_t n;
    qvit_dtype output;
    struct qvitp_epilogue form; /* of the output: what is stored, and between which codes */
    float eps;
    float *gamma, *beta; /* with the output's scale, shift and zero point folded in */
    int32_t ordered;     /* a row's outputs are put in order: by one of these, the other is NULL */
    uint16_t *order;     /* for the kernel */
    int32_t *moves;      /* one by one */
    size_t move_count;
};

QVITP_DEFINE_INIT(qvit_layer_norm_options, QVIT_LAYER_NORM_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_unary_args, QVIT_UNARY_ARGS_INIT)

static qvit_status check_options(const qvit_layer_norm_options *o, qvit_error *error)
{
    size_t any = 0;
    QVITP_TRY(qvitp_tensor_expect(o->gamma, "gamma", QVIT_DTYPE_F32, QVITP_ANY_LAST_STRIDE, 1, &any,
                                  error));
    size_t n = o->gamma->dims[0];
    if (!o->beta) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "beta is NULL");
    QVITP_TRY(qvitp_vector_check(o->gamma, "gamma", n, error));
    QVITP_TRY(qvitp_vector_check(o->beta, "beta", n, error));
    if (!(o->eps >= 0 && isfinite(o->eps)))
        return qvitp_fail(error, QVIT_ERR_VALUE, "eps is %g", (double)o->eps);
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, NULL};
    QVITP_TRY(qvitp_output_check(&output, n, error));
    if (o->output.quantizer && qvitp_quantizer_is_twin(o->output.quantizer))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: twin codes");
    if (!o->output.quantizer && o->output.dtype != QVIT_DTYPE_F32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: %s",
                          qvitp_dtype_name(o->output.dtype));
    return QVIT_OK;
}

/* Whether a kernel puts rows in order: of bytes, and not too many; else they are moved one by one. */
static int reorders(const struct layer_norm *p)
{
    return p->output != QVIT_DTYPE_F32 && p->n <= QVITP_REORDER_MOST;
}

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct layer_norm *p = (struct layer_norm *)plan;
    p->gamma = qvitp_carve(c, p->n, sizeof *p->gamma);
    p->beta = qvitp_carve(c, p->n, sizeof *p->beta);
    if (!p->ordered) return;
    if (reorders(p))
        p->order = qvitp_carve(c, qvitp_round_up(p->n, 32), sizeof *p->order);
    else
        p->moves = qvitp_carve(c, 2 * p->n, sizeof *p->moves);
}

static qvit_status set_order(struct layer_norm *p, const qvit_tensor *order, qvit_error *error)
{
    if (!order) return QVIT_OK;
    int32_t *read = qvitp_engine_alloc(p->base.engine, p->n, sizeof *read + 1);
    if (!read) return qvitp_no_memory(error);
    uint8_t *seen = (uint8_t *)(read + p->n);
    qvit_status status = qvitp_order_read(order, "output_order", p->n, read, seen, error);
    if (status == QVIT_OK && p->moves)
        p->move_count = qvitp_order_moves(read, p->n, p->moves, seen);
    for (size_t j = 0; status == QVIT_OK && p->order && j < qvitp_round_up(p->n, 32); j++)
        p->order[j] = j < p->n ? (uint16_t)read[j] : 0;
    qvitp_engine_free(p->base.engine, read);
    return status;
}

/* gamma and beta arrive as the caller's; the output's multiplication and addition are folded in. */
static qvit_status build(struct layer_norm *p, const qvit_layer_norm_options *o, qvit_error *error)
{
    QVITP_TRY(set_order(p, o->output_order, error));
    float *mul = qvitp_engine_alloc(p->base.engine, p->n, 2 * sizeof *mul);
    if (!mul) return qvitp_no_memory(error);
    float *add = mul + p->n;
    struct qvitp_output output = {&o->output, o->output_scale, o->output_shift, NULL};
    qvitp_output_fill(&output, 0, p->n, mul, NULL, add, &p->form);
    for (size_t j = 0; j < p->n; j++) {
        p->gamma[j] = qvitp_vector_get(o->gamma, j, 1);
        p->beta[j] = qvitp_vector_get(o->beta, j, 0);
    }
    qvitp_epilogue_fold(&p->form, 1, p->n, p->gamma, NULL, p->beta, mul, add);
    qvitp_engine_free(p->base.engine, mul);
    for (size_t j = 0; j < p->n; j++)
        if (!isfinite(p->gamma[j]) || !isfinite(p->beta[j]))
            return qvitp_fail(
                error, QVIT_ERR_VALUE,
                "gamma, beta and the output's scale at %zu, multiplied, are not finite", j);
    return QVIT_OK;
}

static void explain(struct layer_norm *p, const qvit_layer_norm_options *o)
{
    char what[80];
    snprintf(what, sizeof what, "layer norm %zu, f32 -> %s", p->n,
             qvitp_dtype_name(o->output.dtype));
    p->base.kernel = p->base.engine->kernels.layer_norm->name;
    qvitp_plan_explain(&p->base, what, p->base.kernel);
}

qvit_status qvit_layer_norm_create(const qvit_engine *engine,
                                   const qvit_layer_norm_options *options, qvit_plan **out,
                                   qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_layer_norm_options o = QVIT_LAYER_NORM_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    QVITP_TRY(check_options(&o, error));
    struct layer_norm made = {.base = {.engine = engine, .op = QVITP_OP_LAYER_NORM},
                              .n = o.gamma->dims[0],
                              .output = o.output.dtype,
                              .eps = o.eps,
                              .ordered = o.output_order != NULL};
    struct layer_norm *p =
        (struct layer_norm *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    qvit_status status = build(p, &o, error);
    if (status == QVIT_OK) explain(p, &o);
    return qvitp_plan_finish(&p->base, status, out, error);
}

struct run {
    const struct layer_norm *plan;
    struct qvitp_rows rows;
};

/* Rows of one matrix that a kernel is given at once. */
enum { GROUP = 8 };

static void order_row(const struct layer_norm *p, size_t size, void *row)
{
    const struct qvitp_reorder bytes = {.n = p->n, .order = p->order, .bytes = row};
    if (p->order)
        p->base.engine->kernels.reorder(&bytes);
    else
        qvitp_order_row(p->moves, p->move_count, size, row);
}

static void run_group(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct run *r = argument;
    const struct layer_norm *p = r->plan;
    size_t groups = qvitp_tiles(r->rows.rows, GROUP), matrix = index / groups;
    size_t first = index % groups * GROUP;
    struct qvitp_layer_norm rows = {
        .m = qvitp_min(GROUP, r->rows.rows - first),
        .n = p->n,
        .x = qvitp_rows_at(&r->rows, QVITP_ROWS_INPUT, matrix, first),
        .gamma = p->gamma,
        .beta = p->beta,
        .dst = qvitp_rows_at(&r->rows, QVITP_ROWS_OUTPUT, matrix, first),
        .ldx = r->rows.side[QVITP_ROWS_INPUT].stride,
        .ldd = r->rows.side[QVITP_ROWS_OUTPUT].stride,
        .eps = p->eps,
        .lo = p->form.lo,
        .hi = p->form.hi,
        .out = p->form.out,
    };
    p->base.engine->kernels.layer_norm->run(&rows);
    size_t size = r->rows.side[QVITP_ROWS_OUTPUT].size;
    for (size_t i = 0; p->ordered && i < rows.m; i++)
        order_row(p, size, (char *)rows.dst + (ptrdiff_t)i * rows.ldd * (ptrdiff_t)size);
}

qvit_status qvit_layer_norm_run(const qvit_plan *plan, const qvit_unary_args *args,
                                qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_LAYER_NORM, error));
    const struct layer_norm *p = (const struct layer_norm *)plan;
    qvit_unary_args a = QVIT_UNARY_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct run r = {.plan = p};
    const struct qvitp_rows_side sides[QVITP_ROWS_SIDES] = {
        [QVITP_ROWS_INPUT] = {a.input, "input", QVIT_DTYPE_F32, p->n, 0},
        [QVITP_ROWS_OUTPUT] = {a.output, "output", p->output, p->n, QVITP_OUTPUT},
    };
    QVITP_TRY(qvitp_rows_init(&r.rows, sides, error));
    size_t groups = r.rows.matrices * qvitp_tiles(r.rows.rows, GROUP);
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, groups, run_group, &r, error));
    return qvitp_ok(error);
}
