/* linear.c - out = encode(activation(in * W^T + bias) + residual): running the plan. */
#include "op/linear.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "base/shares.h"
#include "op/rows.h"
#include "plan/pack.h"
#include "sched/sched.h"
#include "tensor.h"

QVITP_DEFINE_INIT(qvit_linear_args, QVIT_LINEAR_ARGS_INIT)

/* One worker's part of the workspace: a staged tile of rows, and behind it a chunk of expanded columns. */
static size_t staged_bytes(const struct qvitp_linear *p)
{
    return qvitp_left_staged_bytes(&p->left, p->k);
}

static size_t expanded_bytes(const struct qvitp_linear *p)
{
    if (!p->packed) return 0;
    size_t columns = qvitp_min(p->chunk, p->n), k = qvitp_left_packed_k(&p->left, p->k);
    return qvitp_round_up(qvitp_packed_bytes(p->left.kernel, columns, k), QVIT_ALIGNMENT);
}

static size_t worker_bytes(const struct qvitp_linear *p)
{
    return qvitp_add(staged_bytes(p), expanded_bytes(p));
}

size_t qvit_linear_workspace_size(const qvit_plan *plan, size_t rows)
{
    if (!plan || plan->op != QVITP_OP_LINEAR || !rows) return 0;
    const struct qvitp_linear *p = (const struct qvitp_linear *)plan;
    return qvitp_mul(worker_bytes(p), plan->engine->executor.workers);
}

/* One run, cut into units of (column chunk, matrix, row tile); a worker takes neighbours, so that it
 * reads one chunk of weights for as long as possible. */
struct run {
    const struct qvitp_linear *plan;
    struct qvitp_rows rows;
    size_t panels, chunks, tiles, units, shares;
    char *workspace;
};

/* Expands the panels of columns [first, end), which are packed. */
static void expand(const struct qvitp_linear *p, size_t first, size_t end, int8_t *dst)
{
    const struct qvitp_gemm_kernel *kernel = p->left.kernel;
    struct qvitp_expand panel = {.nr = kernel->nr, .kstep = kernel->kstep};
    panel.codes = (const uint8_t *)p->panels + first * p->k_blocks.packed / 2;
    panel.dst = dst;
    for (size_t column = first; column < end; column += kernel->nr)
        for (size_t h = 0, k = 0; h < p->k_blocks.count; k = p->k_blocks.ends[h++]) {
            size_t bytes = kernel->nr * (p->k_blocks.ends[h] - k);
            panel.steps = (p->k_blocks.ends[h] - k) / kernel->kstep;
            panel.zero = p->zero + qvitp_k_place(kernel->nr, p->k_blocks.count, h, column);
            p->base.engine->kernels.expand(&panel);
            panel.codes += bytes / 2;
            panel.dst += bytes;
        }
}

/* The columns of a chunk: its share of all panels. */
static size_t chunk_begin(const struct run *r, size_t chunk)
{
    return qvitp_share(r->panels, r->chunks, chunk) * r->plan->left.kernel->nr;
}
static size_t chunk_end(const struct run *r, size_t chunk)
{
    return qvitp_min(chunk_begin(r, chunk + 1), r->plan->n);
}

/* Its panels, as the kernel reads them. */
static const void *chunk_panels(const struct run *r, size_t chunk, char *workspace)
{
    const struct qvitp_linear *p = r->plan;
    size_t first = chunk_begin(r, chunk), k = qvitp_left_packed_k(&p->left, p->k);
    if (!p->packed) return (const char *)p->panels + qvitp_packed_bytes(p->left.kernel, first, k);
    int8_t *expanded = (int8_t *)workspace + staged_bytes(p);
    expand(p, first, chunk_end(r, chunk), expanded);
    return expanded;
}

/* Units [unit, end), which are row tiles of one matrix and one chunk. */
static void run_units(const struct run *r, size_t unit, size_t end, const void *panels,
                      char *workspace)
{
    const struct qvitp_linear *p = r->plan;
    const struct qvitp_rows *m = &r->rows;
    size_t tile = unit % r->tiles, matrix = unit / r->tiles % m->matrices;
    size_t chunk = unit / r->tiles / m->matrices, first = qvitp_share(m->rows, r->tiles, tile);
    struct qvitp_block block = {
        .left = &p->left,
        .epilogue = &p->epilogue,
        .m = qvitp_share(m->rows, r->tiles, tile + end - unit) - first,
        .k = p->k,
        .a = qvitp_rows_at(m, QVITP_ROWS_INPUT, matrix, first),
        .lda = m->side[QVITP_ROWS_INPUT].stride * (ptrdiff_t)m->side[QVITP_ROWS_INPUT].size,
        .b = panels,
        .first_column = chunk_begin(r, chunk),
        .columns = chunk_end(r, chunk) - chunk_begin(r, chunk),
        .out = qvitp_rows_at(m, QVITP_ROWS_OUTPUT, matrix, first),
        .ldo = m->side[QVITP_ROWS_OUTPUT].stride,
        .out_size = m->side[QVITP_ROWS_OUTPUT].size,
        .staged = workspace,
    };
    if (p->residual != QVIT_DTYPE_NONE) {
        block.residual = qvitp_rows_at(m, QVITP_ROWS_RESIDUAL, matrix, first);
        block.ldr = m->side[QVITP_ROWS_RESIDUAL].stride;
        block.residual_size = m->side[QVITP_ROWS_RESIDUAL].size;
    }
    qvitp_block_run(&block);
}

static void run_share(void *argument, size_t share, size_t worker)
{
    const struct run *r = argument;
    char *workspace = r->workspace ? r->workspace + worker * worker_bytes(r->plan) : NULL;
    const void *panels = NULL;
    size_t first = qvitp_share(r->units, r->shares, share);
    size_t end = qvitp_share(r->units, r->shares, share + 1);
    for (size_t unit = first, next; unit < end; unit = next) {
        size_t of_chunk = r->tiles * r->rows.matrices;
        if (unit == first || unit % of_chunk == 0)
            panels = chunk_panels(r, unit / of_chunk, workspace);
        next = qvitp_min(end, (unit / r->tiles + 1) * r->tiles);
        run_units(r, unit, next, panels, workspace);
    }
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
    r.panels = qvitp_tiles(p->n, p->left.kernel->nr);
    /* As many chunks for each worker as for the others, if there are so many panels. */
    size_t most = p->chunk / p->left.kernel->nr, each = qvitp_tiles(r.panels, most * workers);
    r.chunks = workers > 1 ? qvitp_min(each * workers, r.panels) : qvitp_tiles(r.panels, most);
    r.units = r.rows.matrices * r.chunks * r.tiles;
    r.shares = qvitp_min(workers, r.units);
    QVITP_TRY(qvitp_parallel(&plan->engine->executor, r.shares, run_share, &r, error));
    return qvitp_ok(error);
}
