/* linalg_cholesky.c - the product of doubles, and on it the Cholesky factor and solving with it. */
#include <float.h>
#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "calib/linalg.h"
#include "sched/sched.h"

/* Tile of sums: 2 x 8, in 8 registers of the two doubles that every x86-64 has. Depth and columns of a
 * packed panel (128 KB); columns of a factored block; rows of a task. */
enum { MR = 2, NR = 8, DEPTH = 256, COLUMNS = 64, BLOCK = COLUMNS, ROWS = 32 };

/* ---- the product ---- */

/* Packs b [depth][n], n <= COLUMNS, as panels of NR columns, padded with zeros. */
static void pack(size_t depth, size_t n, const double *b, size_t ldb, double *panel)
{
    for (size_t first = 0; first < n; first += NR, panel += depth * NR)
        for (size_t p = 0; p < depth; p++)
            for (size_t j = 0; j < NR; j++)
                panel[p * NR + j] = first + j < n ? b[p * ldb + first + j] : 0;
}

/* Interleaves m <= MR rows; those beyond m are the last one again, and their sums are not stored. Reading
 * rows side by side, gcc 12 vectorises over the depth, and shuffles more than it multiplies. */
static void interleave(size_t depth, size_t m, const double *a, size_t lda, double *out)
{
    for (size_t i = 0; i < MR; i++)
        for (size_t p = 0; p < depth; p++) out[p * MR + i] = a[(i < m ? i : m - 1) * lda + p];
}

static void multiply(size_t depth, const double *a, const double *panel, double out[MR][NR])
{
    double sum[MR][NR] = {{0}};
    for (size_t p = 0; p < depth; p++, a += MR, panel += NR)
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < NR; j++) sum[i][j] += a[i] * panel[j];
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < NR; j++) out[i][j] = sum[i][j];
}

/* m <= MR rows of c from interleaved rows of a and the panels of n <= COLUMNS columns. */
static void update_row_tile(const struct qvitp_update *u, size_t m, size_t n, size_t depth,
                            const double *a, const double *panel, double *c)
{
    double sum[MR][NR];
    for (size_t first = 0; first < n; first += NR, panel += depth * NR) {
        multiply(depth, a, panel, sum);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < qvitp_min(NR, n - first); j++)
                c[i * u->ldc + first + j] += u->sign * sum[i][j];
    }
}

void qvitp_update_run(const struct qvitp_update *u, double *panel)
{
    double *rows = panel + DEPTH * COLUMNS;
    for (size_t p = 0; p < u->depth; p += DEPTH)
        for (size_t first = 0; first < u->n; first += COLUMNS) {
            size_t depth = qvitp_min(DEPTH, u->depth - p), n = qvitp_min(COLUMNS, u->n - first);
            pack(depth, n, u->b + p * u->ldb + first, u->ldb, panel);
            for (size_t i = 0; i < u->m; i += MR) {
                size_t m = qvitp_min(MR, u->m - i);
                interleave(depth, m, u->a + i * u->lda + p, u->lda, rows);
                update_row_tile(u, m, n, depth, rows, panel, u->c + i * u->ldc + first);
            }
        }
}

/* ---- solving with triangles of one block, `ld` elements from row to row ---- */

/* x := x L^-T, reading L^T above the diagonal. */
static void solve_forward(size_t n, const double *restrict l, size_t ld, double *restrict x)
{
    for (size_t p = 0; p < n; p++) {
        double solved = x[p] /= l[p * ld + p];
        for (size_t j = p + 1; j < n; j++) x[j] -= solved * l[p * ld + j];
    }
}

/* x := x L^-1, reading L. */
static void solve_backward(size_t n, const double *restrict l, size_t ld, double *restrict x)
{
    for (size_t p = n; p-- > 0;) {
        double solved = x[p] /= l[p * ld + p];
        for (size_t j = 0; j < p; j++) x[j] -= solved * l[p * ld + j];
    }
}

/* ---- factoring, one block of columns after the other (left-looking) ---- */

struct factoring {
    size_t k, first, width; /* the present block of columns */
    double *a;
    double *diagonal; /* of the matrix that is factored */
    double *panels;   /* of every worker */
};

/* Takes what the finished columns contribute off ROWS rows of the block. Above the diagonal the finished
 * columns lie as rows already. */
static void update_rows(void *argument, size_t index, size_t worker)
{
    const struct factoring *f = argument;
    size_t row = f->first + index * ROWS, k = f->k;
    struct qvitp_update update = {.m = qvitp_min(ROWS, k - row),
                                  .n = f->width,
                                  .depth = f->first,
                                  .a = f->a + row * k,
                                  .b = f->a + f->first,
                                  .c = f->a + row * k + f->first,
                                  .lda = k,
                                  .ldb = k,
                                  .ldc = k,
                                  .sign = -1};
    qvitp_update_run(&update, f->panels + worker * QVITP_PANEL);
}

/*
 * Factors the square on the diagonal. A pivot must stand out from what rounding alone leaves of its
 * element, k 2^-53 of it (Higham, Accuracy and Stability, theorem 10.3): dividing by less than that would
 * spread noise.
 */
static int factor_square(const struct factoring *f)
{
    const double noise = (double)f->k * (DBL_EPSILON / 2);
    size_t k = f->k;
    double *square = f->a + f->first * k + f->first;
    for (size_t p = 0; p < f->width; p++) {
        double pivot = square[p * k + p];
        if (!(pivot > noise * f->diagonal[f->first + p] && pivot <= DBL_MAX)) return 0;
        square[p * k + p] = pivot = sqrt(pivot);
        for (size_t i = p + 1; i < f->width; i++) square[p * k + i] = square[i * k + p] /= pivot;
        for (size_t i = p + 1; i < f->width; i++)
            for (size_t j = p + 1; j <= i; j++)
                square[i * k + j] -= square[i * k + p] * square[p * k + j];
    }
    return 1;
}

/* Finishes ROWS rows below the square, and writes them above the diagonal too. */
static void finish_rows(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct factoring *f = argument;
    size_t k = f->k, row = f->first + f->width + index * ROWS, end = qvitp_min(row + ROWS, k);
    const double *square = f->a + f->first * k + f->first;
    for (size_t i = row; i < end; i++) solve_forward(f->width, square, k, f->a + i * k + f->first);
    for (size_t j = f->first; j < f->first + f->width; j++)
        for (size_t i = row; i < end; i++) f->a[j * k + i] = f->a[i * k + j];
}

static size_t tasks_of(size_t rows) { return rows / ROWS + (rows % ROWS != 0); }

static qvit_status factor(const qvit_engine *engine, struct factoring *f, int *definite,
                          qvit_error *error)
{
    size_t k = f->k;
    *definite = 1;
    for (f->first = 0; f->first < k; f->first += BLOCK) {
        f->width = qvitp_min(BLOCK, k - f->first);
        size_t rest = k - f->first;
        if (f->first)
            QVITP_TRY(qvitp_parallel(&engine->executor, tasks_of(rest), update_rows, f, error));
        *definite = factor_square(f);
        if (!*definite) break;
        QVITP_TRY(
            qvitp_parallel(&engine->executor, tasks_of(rest - f->width), finish_rows, f, error));
    }
    return QVIT_OK;
}

/* A panel for each worker, and `more` doubles. */
static double *alloc_panels(const qvit_engine *engine, size_t more)
{
    size_t panels = qvitp_mul(engine->executor.workers, QVITP_PANEL);
    return qvitp_engine_alloc(engine, qvitp_add(panels, more), sizeof(double));
}

qvit_status qvitp_cholesky(const qvit_engine *engine, size_t k, double *a, int *definite,
                           qvit_error *error)
{
    struct factoring f = {.k = k, .a = a, .panels = alloc_panels(engine, k)};
    if (!f.panels) return qvitp_no_memory(error);
    f.diagonal = f.panels + engine->executor.workers * QVITP_PANEL;
    for (size_t i = 0; i < k; i++) f.diagonal[i] = a[i * k + i];
    qvit_status status = factor(engine, &f, definite, error);
    qvitp_engine_free(engine, f.panels);
    return status;
}

/* ---- solving ---- */

struct solving {
    size_t k, n;
    const double *factor;
    double *rows, *panels;
};

/* ROWS rows: forwards through L^T, then backwards through L, block by block; each block first loses what
 * the finished ones contribute. */
static void solve_rows(void *argument, size_t index, size_t worker)
{
    const struct solving *s = argument;
    size_t k = s->k, m = qvitp_min(ROWS, s->n - index * ROWS);
    double *rows = s->rows + index * ROWS * k, *panel = s->panels + worker * QVITP_PANEL;
    struct qvitp_update u = {.m = m, .lda = k, .ldb = k, .ldc = k, .sign = -1};
    for (size_t first = 0; first < k; first += BLOCK) {
        u.n = qvitp_min(BLOCK, k - first), u.depth = first;
        u.a = rows, u.b = s->factor + first, u.c = rows + first;
        qvitp_update_run(&u, panel);
        for (size_t i = 0; i < m; i++)
            solve_forward(u.n, s->factor + first * k + first, k, rows + i * k + first);
    }
    for (size_t first = (k - 1) / BLOCK * BLOCK;; first -= BLOCK) {
        size_t end = qvitp_min(first + BLOCK, k);
        u.n = end - first, u.depth = k - end;
        u.a = rows + end, u.b = s->factor + end * k + first, u.c = rows + first;
        qvitp_update_run(&u, panel);
        for (size_t i = 0; i < m; i++)
            solve_backward(u.n, s->factor + first * k + first, k, rows + i * k + first);
        if (!first) break;
    }
}

qvit_status qvitp_cholesky_solve(const qvit_engine *engine, size_t k, const double *factor,
                                 size_t n, double *rows, qvit_error *error)
{
    struct solving s = {k, n, factor, rows, alloc_panels(engine, 0)};
    if (!s.panels) return qvitp_no_memory(error);
    qvit_status status = qvitp_parallel(&engine->executor, tasks_of(n), solve_rows, &s, error);
    qvitp_engine_free(engine, s.panels);
    return status;
}
