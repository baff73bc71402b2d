/* round.c - GPTQ, coordinate descent behind it, and the correction of weights before it. */
#include "calib/round.h"

#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "calib/linalg.h"
#include "calib/pool.h"
#include "calib/range.h"
#include "op/product.h"
#include "plan/pack.h"
#include "plan/plan.h"
#include "sched/sched.h"

/* Columns of a lazy update (a multiple of every kernel's nr); rows of W that a task takes. */
enum { BLOCK = 64, ROWS = 48, DESCENT_ROWS = 32 };

static size_t pieces(size_t count, size_t size) { return count / size + (count % size != 0); }

struct code_range {
    float lo, hi;
};

/* The codes that one weight may have. */
static struct code_range code_range(const struct qvitp_rounding *r, size_t row, size_t input)
{
    struct code_range range;
    const int32_t *zero = r->zero ? &r->zero[qvitp_rounding_block(r, row, input)] : NULL;
    qvitp_right_range(r->bits, zero, &range.lo, &range.hi);
    return range;
}

/* ---- the damped, permuted factor ---- */

/* The input at each place of a factor. Places are finished from the last to the first, so the order is
 * turned round; equal diagonals stay in the inputs' order. Insertion: k^2 / 4 steps are nothing beside
 * the k^3 / 6 of factoring. */
static void set_order(size_t k, const double *gram, int by_diagonal, size_t *order)
{
    for (size_t i = 0; i < k; i++) {
        size_t place = i, input = k - 1 - i;
        double diagonal = gram[input * k + input];
        for (; by_diagonal && place; place--) {
            size_t before = order[place - 1];
            if (!(gram[before * k + before] > diagonal)) break;
            order[place] = before;
        }
        order[place] = input;
    }
}

static int alive(size_t k, const double *gram, size_t input)
{
    return !(gram[input * k + input] <= 0); /* NaN lives, so that it is found */
}

static double mean_diagonal(size_t k, const double *gram)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < k; i++)
        if (alive(k, gram, i)) sum += gram[i * k + i], count++;
    return count ? sum / (double)count : 0;
}

/* The lower triangle of gram + lambda I in this order; inputs that are always 0 stand apart, with a 1. */
static void fill_damped(size_t k, const double *gram, const size_t *order, double lambda,
                        double *out)
{
    for (size_t i = 0; i < k; i++) {
        const double *row = gram + order[i] * k;
        int live = alive(k, gram, order[i]);
        for (size_t j = 0; j < i; j++)
            out[i * k + j] = live && alive(k, gram, order[j]) ? row[order[j]] : 0;
        out[i * k + i] = live ? row[order[i]] + lambda : 1;
    }
}

/* Factors with this damping, or with the first tenfold of it that works. */
static qvit_status factor_damped(const qvit_engine *engine, size_t k, const double *gram,
                                 const size_t *order, double damping, double *factor,
                                 qvit_error *error)
{
    const double least = 1e-4, most = 10;
    double mean = mean_diagonal(k, gram), used = damping;
    for (; used <= fmax(most, damping); used = fmax(10 * used, least)) {
        int definite;
        fill_damped(k, gram, order, used * mean, factor);
        QVITP_TRY(qvitp_cholesky(engine, k, factor, &definite, error));
        if (!definite) continue;
        if (used > damping)
            qvitp_log(engine, QVIT_LOG_WARNING, "damping of a gram matrix was raised to %g", used);
        return QVIT_OK;
    }
    return qvitp_fail(error, QVIT_ERR_VALUE, "a gram matrix is not positive semidefinite");
}

/*
 * ---- GPTQ ----
 *
 * With H = L L^T, L lower triangular, the loss of one output's error e = w - q is
 *
 *     |e L|^2 = sum_j (e_j L_jj + sum_{i > j} e_i L_ij)^2
 *
 * and term j knows e_i of i >= j only. So from the last place to the first, q_j is the code nearest to
 *
 *     w_j + sum_{i > j} e_i (L_ij / L_jj)
 *
 * which makes its term as small as codes allow. These are GPTQ's codes, column by column: it updates the
 * weights by err_i U_ij, U the upper Cholesky factor of H^-1 in its order, which is the opposite of ours;
 * so U = L^-1 turned round, and undoing the inverse on paper (as QuIP 2307.13304 does with L D L^T) saves
 * computing it, and what its rounding costs. The sums over finished blocks of places are float products
 * of the errors and of panels of L_ij / L_jj, made when a block comes up.
 *
 * Why float32 will do: a sum is off by about 1e-6 of its terms, and moving the target of a code by d steps
 * changes the code only within d of a tie, where the neighbouring code is worse by no more than
 * 2 d (step L_jj)^2, a part 1e-5 of what rounding costs anyway, even if the sum is ten steps large.
 */
struct gptq {
    const struct qvitp_rounding *job;
    const qvit_engine *engine;
    struct qvitp_left floats;
    struct qvitp_epilogue epilogue;
    size_t *order;  /* [k] */
    double *factor; /* [k][k] */
    float *
        *panels; /* of each block of places: its columns of L_ij / L_jj, from its end on, packed */
    float
        *squares; /* [k][BLOCK]: row i of L_ij / L_jj inside its block, from the block's first on */
    char *scratch; /* of every worker */
    size_t scratch_bytes;
    int8_t *codes;
};

struct gptq_scratch {
    float *weight, *error; /* [ROWS][k], in the order of places */
    float *sums;           /* [ROWS][BLOCK] */
    float *column;         /* [k] */
};

static size_t carve(size_t k, char *base, struct gptq_scratch *s)
{
    struct qvitp_carver c = {base, 0};
    s->weight = qvitp_carve(&c, qvitp_mul(ROWS, k), sizeof *s->weight);
    s->error = qvitp_carve(&c, qvitp_mul(ROWS, k), sizeof *s->error);
    s->sums = qvitp_carve(&c, ROWS * BLOCK, sizeof *s->sums);
    s->column = qvitp_carve(&c, k, sizeof *s->column);
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

static size_t block_end(const struct gptq *g, size_t block)
{
    return qvitp_min((block + 1) * BLOCK, g->job->k);
}

/* Floats from the factor: a block's panel and square. */
static void pack_block(void *argument, size_t block, size_t worker)
{
    const struct gptq *g = argument;
    size_t k = g->job->k, first = block * BLOCK, end = block_end(g, block);
    struct gptq_scratch s;
    carve(k, g->scratch + worker * g->scratch_bytes, &s);
    for (size_t j = first; j < end; j++) {
        const double *column = g->factor + j * k; /* L^T: column j of L, from its diagonal on */
        for (size_t i = j + 1; i < end; i++)
            g->squares[i * BLOCK + j - first] = (float)(column[i] / column[j]);
        for (size_t i = end; i < k; i++) s.column[i - end] = (float)(column[i] / column[j]);
        if (end < k)
            qvitp_pack_row(g->floats.kernel, k - end, s.column, j - first, g->panels[block]);
    }
}

static float nearest_code(float x, struct code_range range)
{
    x = x > range.lo ? x : range.lo; /* NaN: lo */
    x = x < range.hi ? x : range.hi;
    return x + QVITP_ROUND_MAGIC - QVITP_ROUND_MAGIC;
}

static void add_error(size_t n, float e, const float *restrict factor, float *restrict sums)
{
    for (size_t j = 0; j < n; j++) sums[j] += e * factor[j];
}

/* One row's codes of one block: w, e, sums and codes' places from the block's first on. */
static void round_row(const struct gptq *g, size_t row, size_t first, size_t count, const float *w,
                      float *e, float *sums)
{
    int8_t *codes = g->codes + row * g->job->k;
    for (size_t j = count; j-- > 0;) {
        const size_t input = g->order[first + j];
        float scale = qvitp_rounding_scale(g->job, row, input);
        float code = nearest_code((w[j] + sums[j]) / scale, code_range(g->job, row, input));
        codes[input] = (int8_t)code;
        e[j] = w[j] - scale * code;
        add_error(j, e[j], g->squares + (first + j) * BLOCK, sums);
    }
}

/* What the finished places add to a block's targets, for m rows. */
static void sum_finished(const struct gptq *g, size_t block, size_t m, const struct gptq_scratch *s)
{
    size_t k = g->job->k, end = block_end(g, block);
    struct qvitp_block product = {.left = &g->floats,
                                  .epilogue = &g->epilogue,
                                  .m = m,
                                  .k = k - end,
                                  .a = s->error + end,
                                  .lda = (ptrdiff_t)(k * sizeof(float)),
                                  .b = g->panels[block],
                                  .columns = end - block * BLOCK,
                                  .out = s->sums,
                                  .ldo = BLOCK,
                                  .out_size = sizeof(float)};
    if (end < k) {
        qvitp_block_run(&product);
    } else {
        for (size_t i = 0; i < m * BLOCK; i++) s->sums[i] = 0;
    }
}

static void round_rows(void *argument, size_t index, size_t worker)
{
    const struct gptq *g = argument;
    size_t k = g->job->k, row = index * ROWS, m = qvitp_min(ROWS, g->job->n - row);
    struct gptq_scratch s;
    carve(k, g->scratch + worker * g->scratch_bytes, &s);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < k; j++)
            s.weight[i * k + j] = g->job->weight[(row + i) * k + g->order[j]];
    for (size_t block = pieces(k, BLOCK); block-- > 0;) {
        size_t first = block * BLOCK, count = block_end(g, block) - first;
        sum_finished(g, block, m, &s);
        for (size_t i = 0; i < m; i++)
            round_row(g, row + i, first, count, s.weight + i * k + first, s.error + i * k + first,
                      s.sums + i * BLOCK);
    }
}

static qvit_status allocate(struct gptq *g, struct qvitp_pool *pool, qvit_error *error)
{
    const struct qvitp_gemm_kernel *kernel = g->engine->kernels.gemm_f32;
    size_t k = g->job->k, blocks = pieces(k, BLOCK);
    struct gptq_scratch unused;
    g->scratch_bytes = carve(k, NULL, &unused);
    g->floats = (struct qvitp_left){.kernel = kernel};
    g->epilogue = (struct qvitp_epilogue){
        .bias = qvitp_pool_alloc(pool, qvitp_vector_columns(kernel, BLOCK), sizeof(float)),
        .out = QVITP_OUT_F32};
    g->order = qvitp_pool_alloc(pool, k, sizeof *g->order);
    g->factor = qvitp_pool_alloc(pool, qvitp_mul(k, k), sizeof *g->factor);
    g->panels = qvitp_pool_alloc(pool, blocks, sizeof *g->panels);
    g->squares = qvitp_pool_alloc(pool, k, BLOCK * sizeof *g->squares);
    g->scratch = qvitp_pool_alloc(pool, g->engine->executor.workers, g->scratch_bytes);
    int ok = g->epilogue.bias && g->order && g->factor && g->panels && g->squares && g->scratch;
    for (size_t b = 0; ok && b < blocks; b++) {
        size_t end = block_end(g, b);
        size_t bytes = qvitp_packed_bytes(kernel, end - b * BLOCK, k - end);
        g->panels[b] = qvitp_pool_alloc(pool, bytes, 1);
        ok = g->panels[b] != NULL;
    }
    return ok ? QVIT_OK : qvitp_no_memory(error);
}

static qvit_status gptq(struct gptq *g, struct qvitp_pool *pool, qvit_error *error)
{
    const struct qvitp_rounding *job = g->job;
    const qvit_executor *executor = &g->engine->executor;
    QVITP_TRY(allocate(g, pool, error));
    set_order(job->k, job->gram, job->by_diagonal, g->order);
    QVITP_TRY(
        factor_damped(g->engine, job->k, job->gram, g->order, job->damping, g->factor, error));
    QVITP_TRY(qvitp_parallel(executor, pieces(job->k, BLOCK), pack_block, g, error));
    return qvitp_parallel(executor, pieces(job->n, ROWS), round_rows, g, error);
}

qvit_status qvitp_round_weights(const qvit_engine *engine, const struct qvitp_rounding *rounding,
                                int8_t *codes, double *loss, qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    struct gptq g = {.job = rounding, .engine = engine, .codes = codes};
    qvit_status status = gptq(&g, &pool, error);
    qvitp_pool_free(&pool);
    if (status != QVIT_OK || (!loss && !rounding->passes)) return status;
    return qvitp_round_descend(engine, rounding, codes, loss, error);
}

/*
 * ---- coordinate descent ----
 *
 * With e = w - q and g = e H, changing code j by d steps changes the loss by
 *     -2 d step g_j + d^2 step^2 H_jj = -step^2 H_jj d (2 x - d),   x = g_j / (step H_jj)
 * which is least at d = round(x), or as near to it as the code's range allows. All in double: g is
 * updated by every change, k values at a time, and must still be right after thousands of them.
 */
struct descent {
    const struct qvitp_rounding *job;
    double *inverse; /* [k]: 1 / H_jj; 0 where the input was always 0 */
    double *scratch; /* of every worker: two times [DESCENT_ROWS][k], and a panel */
    size_t per_worker;
    int8_t *codes;
    double *loss;
};

static void subtract(size_t n, double factor, const double *restrict from, double *restrict g)
{
    for (size_t j = 0; j < n; j++) g[j] -= factor * from[j];
}

/* One sweep over a row; whether it changed anything. */
static int sweep(const struct descent *d, size_t row, double *e, double *g)
{
    /* Gains of less than this part of step^2 H_jj could be the rounding of g. */
    const double least = 1e-9;
    size_t k = d->job->k;
    int8_t *codes = d->codes + row * k;
    int changed = 0;
    for (size_t j = 0; j < k; j++) {
        double scale = (double)qvitp_rounding_scale(d->job, row, j);
        double x = g[j] / scale * d->inverse[j];
        if (!(fabs(x) > 0.5)) continue;
        const struct code_range range = code_range(d->job, row, j);
        double lowest = (double)range.lo - codes[j], highest = (double)range.hi - codes[j];
        double steps = fmin(fmax(nearbyint(x), lowest), highest);
        if (!(steps * (2 * x - steps) > least)) continue;
        codes[j] = (int8_t)(codes[j] + (int)steps);
        e[j] -= steps * scale;
        subtract(k, steps * scale, d->job->gram + j * k, g);
        changed = 1;
    }
    return changed;
}

static void descend_rows(void *argument, size_t index, size_t worker)
{
    const struct descent *d = argument;
    size_t k = d->job->k, row = index * DESCENT_ROWS;
    size_t m = qvitp_min(DESCENT_ROWS, d->job->n - row);
    double *e = d->scratch + worker * d->per_worker, *g = e + DESCENT_ROWS * k;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < k; j++) {
            size_t at = (row + i) * k + j;
            double scale = (double)qvitp_rounding_scale(d->job, row + i, j);
            e[i * k + j] = (double)d->job->weight[at] - scale * d->codes[at];
            g[i * k + j] = 0;
        }
    }
    struct qvitp_update product = {m, k, k, e, d->job->gram, g, k, k, k, 1};
    qvitp_update_run(&product, g + DESCENT_ROWS * k);
    for (size_t i = 0; i < m; i++) {
        double sum = 0;
        double *ei = e + i * k, *gi = g + i * k;
        for (int32_t pass = 0; pass < d->job->passes; pass++)
            if (!sweep(d, row + i, ei, gi)) break;
        for (size_t j = 0; j < k; j++) sum += ei[j] * gi[j];
        if (d->loss) d->loss[row + i] = sum;
    }
}

qvit_status qvitp_round_descend(const qvit_engine *engine, const struct qvitp_rounding *rounding,
                                int8_t *codes, double *loss, qvit_error *error)
{
    size_t k = rounding->k;
    struct descent d = {.job = rounding, .codes = codes, .loss = loss};
    d.per_worker = qvitp_add(qvitp_mul(2 * DESCENT_ROWS, k), QVITP_PANEL);
    size_t all = qvitp_mul(engine->executor.workers, d.per_worker);
    d.scratch = qvitp_engine_alloc(engine, qvitp_add(all, k), sizeof *d.scratch);
    if (!d.scratch) return qvitp_no_memory(error);
    d.inverse = d.scratch + all;
    for (size_t j = 0; j < k; j++) {
        double diagonal = rounding->gram[j * k + j];
        d.inverse[j] = diagonal > 0 ? 1 / diagonal : 0;
    }
    qvit_status status = qvitp_parallel(&engine->executor, pieces(rounding->n, DESCENT_ROWS),
                                        descend_rows, &d, error);
    qvitp_engine_free(engine, d.scratch);
    return status;
}

/* ---- what stands before and behind rounding ---- */

void qvitp_round_bias(const struct qvitp_rounding *rounding, const int8_t *codes,
                      const float *mean_input, const float *mean_target, float *bias)
{
    for (size_t row = 0; row < rounding->n; row++) {
        double sum = 0;
        for (size_t j = 0; mean_input && j < rounding->k; j++)
            sum += (double)qvitp_rounding_scale(rounding, row, j) *
                   (double)codes[row * rounding->k + j] * (double)mean_input[j];
        double target = mean_target ? (double)mean_target[row] : 0;
        bias[row] = (float)(target - sum);
    }
}

static void silence_dead(size_t n, size_t k, const double *gram, double *cross)
{
    for (size_t j = 0; j < k; j++)
        for (size_t i = 0; !alive(k, gram, j) && i < n; i++) cross[i * k + j] = 0;
}

qvit_status qvitp_weight_correct(const qvit_engine *engine, size_t n, size_t k, const float *weight,
                                 const double *gram, double *cross, double ridge, float *out,
                                 qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    size_t *order = qvitp_pool_alloc(&pool, k, sizeof *order);
    double *factor = qvitp_pool_alloc(&pool, qvitp_mul(k, k), sizeof *factor);
    qvit_status status = order && factor ? QVIT_OK : qvitp_no_memory(error);
    for (size_t j = 0; status == QVIT_OK && j < k; j++) order[j] = j;
    if (status == QVIT_OK) status = factor_damped(engine, k, gram, order, ridge, factor, error);
    if (status == QVIT_OK) {
        silence_dead(n, k, gram, cross);
        status = qvitp_cholesky_solve(engine, k, factor, n, cross, error);
    }
    for (size_t i = 0; status == QVIT_OK && i < n * k; i++)
        out[i] = (float)((double)weight[i] + cross[i]);
    qvitp_pool_free(&pool);
    return status;
}
