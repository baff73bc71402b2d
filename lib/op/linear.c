/* linear.c - out = encode(activation(in * W^T + bias) + residual): running the plan. */
#include "op/linear.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "base/shares.h"
#include "op/rows.h"
#include "sched/sched.h"
#include "tensor.h"

QVITP_DEFINE_INIT(qvit_linear_args, QVIT_LINEAR_ARGS_INIT)

static size_t staged_bytes(const struct qvitp_linear *p)
{
    return qvitp_left_staged_bytes(&p->left, p->left.kernel->mr, p->k);
}

size_t qvit_linear_workspace_size(const qvit_plan *plan, size_t rows)
{
    if (!plan || plan->op != QVITP_OP_LINEAR || !rows) return 0;
    const struct qvitp_linear *p = (const struct qvitp_linear *)plan;
    return qvitp_mul(staged_bytes(p), plan->engine->executor.workers);
}

/* One run, cut into units of (matrix, column chunk, row tile); a worker takes neighbours, so that it
 * reads one chunk of weights for as long as possible. */
struct run {
    const struct qvitp_linear *plan;
    struct qvitp_rows rows;
    size_t chunk, chunks, tiles;
    char *workspace;
};

static void run_unit(void *argument, size_t unit, size_t worker)
{
    const struct run *r = argument;
    const struct qvitp_linear *p = r->plan;
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

static qvit_status check_args(const struct qvitp_linear *p, const qvit_linear_args *a,
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
    const struct qvitp_linear *p = (const struct qvitp_linear *)plan;
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
