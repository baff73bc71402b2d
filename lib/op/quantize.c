/* quantize.c - floats to codes, exactly as qvit_quantizer_encode does it: the plan with kernels. */
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "op/encode.h"
#include "op/product.h"
#include "op/rows.h"
#include "plan/plan.h"
#include "sched/sched.h"
#include "tensor.h"

/* A stretch of columns that share a block, so that one call of the kernel encodes it. */
struct stretch {
    size_t first, n;
    struct qvitp_coder coder;
};

struct quantize {
    struct qvit_plan base;
    qvit_dtype output;
    size_t cols; /* QVIT_ANY: any number, in one stretch */
    size_t stretches;
    struct stretch *stretch;
};

QVITP_DEFINE_INIT(qvit_quantize_options, QVIT_QUANTIZE_OPTIONS_INIT)

static qvit_status check_options(const qvit_quantize_options *o, qvit_error *error)
{
    const qvit_quantizer *q = o->output.quantizer;
    if (!q) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "output: no quantizer");
    QVITP_TRY(qvitp_port_check(&o->output, "output", error));
    if (qvitp_dtype_packed(o->output.dtype))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: packed codes");
    if (q->granularity->row_blocks != 1 || q->granularity->rows != QVIT_ANY)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: the granularity has rows");
    return QVIT_OK;
}

/* Writes the stretches where `out` is not NULL; returns their number. */
static size_t find_stretches(const qvit_quantizer *q, struct stretch *out)
{
    const qvit_granularity *g = q->granularity;
    if (g->cols == QVIT_ANY) {
        if (out) out[0] = (struct stretch){0, QVIT_ANY, qvitp_quantizer_coder(q, 0)};
        return 1;
    }
    size_t count = 0;
    for (size_t first = 0, next; first < g->cols; first = next, count++) {
        size_t block = qvitp_col_block(g, first);
        for (next = first + 1; next < g->cols && qvitp_col_block(g, next) == block;) next++;
        if (out)
            out[count] = (struct stretch){first, next - first, qvitp_quantizer_coder(q, block)};
    }
    return count;
}

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct quantize *p = (struct quantize *)plan;
    p->stretch = qvitp_carve(c, p->stretches, sizeof *p->stretch);
}

qvit_status qvit_quantize_create(const qvit_engine *engine, const qvit_quantize_options *options,
                                 qvit_plan **out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_quantize_options o = QVIT_QUANTIZE_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    QVITP_TRY(check_options(&o, error));
    const qvit_quantizer *q = o.output.quantizer;
    struct quantize made = {.base = {.engine = engine, .op = QVITP_OP_QUANTIZE},
                            .output = o.output.dtype,
                            .cols = q->granularity->cols,
                            .stretches = find_stretches(q, NULL)};
    struct quantize *p =
        (struct quantize *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    find_stretches(q, p->stretch);

    char what[80], port[40];
    qvitp_port_text(&o.output, port, sizeof port);
    snprintf(what, sizeof what, "quantize, f32 -> %s", port);
    p->base.kernel = engine->kernels.encode->name;
    qvitp_plan_explain(&p->base, what, p->base.kernel);
    return qvitp_plan_finish(&p->base, QVIT_OK, out, error);
}

struct run {
    const struct quantize *plan;
    struct qvitp_rows rows;
    size_t cols;
};

static void run_row(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct run *r = argument;
    const struct quantize *p = r->plan;
    size_t matrix = index / r->rows.rows, place = index % r->rows.rows;
    const float *x = qvitp_rows_at(&r->rows, QVITP_ROWS_INPUT, matrix, place);
    uint8_t *codes = qvitp_rows_at(&r->rows, QVITP_ROWS_OUTPUT, matrix, place);
    for (size_t s = 0; s < p->stretches; s++) {
        const struct stretch *t = &p->stretch[s];
        qvitp_encode_run(p->base.engine, &t->coder, qvitp_min(t->n, r->cols), x + t->first,
                         codes + t->first);
    }
}

qvit_status qvit_quantize_run(const qvit_plan *plan, const qvit_unary_args *args, qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_QUANTIZE, error));
    const struct quantize *p = (const struct quantize *)plan;
    qvit_unary_args a = QVIT_UNARY_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct run r = {.plan = p};
    size_t cols = p->cols == QVIT_ANY ? 0 : p->cols;
    const struct qvitp_rows_side sides[QVITP_ROWS_SIDES] = {
        [QVITP_ROWS_INPUT] = {a.input, "input", QVIT_DTYPE_F32, cols, 0},
        [QVITP_ROWS_OUTPUT] = {a.output, "output", p->output, cols, QVITP_OUTPUT},
    };
    QVITP_TRY(qvitp_rows_init(&r.rows, sides, error));
    r.cols = qvitp_tensor_cols(a.input);
    size_t rows = r.rows.matrices * r.rows.rows;
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, rows, run_row, &r, error));
    return qvitp_ok(error);
}
