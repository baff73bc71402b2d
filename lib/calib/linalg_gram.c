/* linalg_gram.c - means and products of observed rows. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "calib/linalg.h"
#include "calib/pool.h"
#include "op/product.h"
#include "plan/pack.h"
#include "sched/sched.h"

/* Columns that are staged together (a multiple of every kernel's nr); rows of the result that a task
 * takes, and columns of it that it multiplies at once. */
enum { STAGED = 64, STRIPE = 48, WIDTH = 192 };

static size_t pieces(size_t count, size_t size) { return count / size + (count % size != 0); }

/* ---- means ---- */

struct means {
    size_t rows, width;
    const float *values, *weight;
    float *mean;
};

static void mean_of_columns(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct means *m = argument;
    size_t first = index * STAGED, columns = qvitp_min(STAGED, m->width - first);
    double sum[STAGED] = {0}, total = 0;
    for (size_t r = 0; r < m->rows; r++) {
        const float *row = m->values + r * m->width + first;
        double weight = m->weight ? (double)m->weight[r] : 1;
        total += weight;
        for (size_t j = 0; j < columns; j++) sum[j] += weight * (double)row[j];
    }
    for (size_t j = 0; j < columns; j++)
        m->mean[first + j] = total > 0 ? (float)(sum[j] / total) : 0;
}

qvit_status qvitp_column_means(const qvit_engine *engine, size_t rows, size_t width,
                               const float *values, const float *weight, float *mean,
                               qvit_error *error)
{
    struct means m = {rows, width, values, weight, mean};
    return qvitp_parallel(&engine->executor, pieces(width, STAGED), mean_of_columns, &m, error);
}

/* ---- products, one run of rows after the other ---- */

struct product {
    const qvit_engine *engine;
    struct qvitp_left floats;
    struct qvitp_epilogue epilogue;
    size_t rows;
    const struct qvitp_columns *d, *x;
    const float *weight;
    int symmetric; /* d is x: what is left of the diagonal is copied */
    double *out;   /* [d->width][x->width] */

    size_t first, depth; /* the present run of rows */
    float *left;         /* [d->width][QVITP_RUN]: d's columns as rows, with their weights */
    float *panels;       /* x's columns, packed */
    float *scratch;      /* of every worker */
};

enum { SCRATCH = QVITP_RUN * STAGED > STRIPE *WIDTH ? QVITP_RUN *STAGED : STRIPE *WIDTH };

static float centred(const struct qvitp_columns *c, size_t row, size_t column)
{
    return c->values[row * c->width + column] - (c->mean ? c->mean[column] : 0);
}

static void stage_left(const struct product *p, size_t first, size_t columns)
{
    for (size_t r = 0; r < p->depth; r++) {
        float weight = p->weight ? p->weight[p->first + r] : 1;
        for (size_t c = first; c < first + columns; c++)
            p->left[c * QVITP_RUN + r] = centred(p->d, p->first + r, c) * weight;
    }
}

static void stage_right(const struct product *p, size_t first, size_t columns, float *dense)
{
    for (size_t r = 0; r < p->depth; r++)
        for (size_t c = 0; c < columns; c++)
            dense[r * columns + c] = centred(p->x, p->first + r, first + c);
    struct qvitp_operand operand = {dense, (ptrdiff_t)columns, NULL, 1};
    qvitp_pack(p->floats.kernel, &operand, columns, p->depth, p->panels + first * p->depth);
}

static void stage(void *argument, size_t index, size_t worker)
{
    const struct product *p = argument;
    size_t lefts = pieces(p->d->width, STAGED);
    if (index < lefts) {
        size_t first = index * STAGED;
        stage_left(p, first, qvitp_min(STAGED, p->d->width - first));
    } else {
        size_t first = (index - lefts) * STAGED;
        stage_right(p, first, qvitp_min(STAGED, p->x->width - first),
                    p->scratch + worker * SCRATCH);
    }
}

/* Adds a block of products to the result; the first run finds it undefined. */
static void add_block(const struct product *p, size_t row, size_t rows, size_t column,
                      size_t columns, const float *block)
{
    for (size_t i = 0; i < rows; i++) {
        double *out = p->out + (row + i) * p->x->width + column;
        const float *from = block + i * WIDTH;
        if (p->first) {
            for (size_t j = 0; j < columns; j++) out[j] += (double)from[j];
        } else {
            for (size_t j = 0; j < columns; j++) out[j] = (double)from[j];
        }
    }
}

/* Stripes of a triangle grow shorter: long and short ones take turns, so that any contiguous share of
 * them is a fair one. */
static size_t stripe_of(const struct product *p, size_t index)
{
    size_t stripes = pieces(p->d->width, STRIPE);
    return p->symmetric && index % 2 ? stripes - 1 - index / 2 : p->symmetric ? index / 2 : index;
}

static void multiply(void *argument, size_t index, size_t worker)
{
    const struct product *p = argument;
    size_t row = stripe_of(p, index) * STRIPE, nr = p->floats.kernel->nr;
    float *scratch = p->scratch + worker * SCRATCH;
    struct qvitp_block block = {.left = &p->floats,
                                .epilogue = &p->epilogue,
                                .m = qvitp_min(STRIPE, p->d->width - row),
                                .k = p->depth,
                                .a = p->left + row * QVITP_RUN,
                                .lda = QVITP_RUN * sizeof(float),
                                .out = scratch,
                                .ldo = WIDTH,
                                .out_size = sizeof(float)};
    for (size_t column = p->symmetric ? row / nr * nr : 0; column < p->x->width; column += WIDTH) {
        block.b = p->panels + column * p->depth;
        block.columns = qvitp_min(WIDTH, p->x->width - column);
        qvitp_block_run(&block);
        add_block(p, row, block.m, column, block.columns, scratch);
    }
}

/* Copies a stripe left of the diagonal from above it, in pieces of one cache line. */
static void mirror(void *argument, size_t index, size_t worker)
{
    (void)worker;
    enum { LINE = 8 };
    const struct product *p = argument;
    size_t width = p->x->width, row = stripe_of(p, index) * STRIPE;
    size_t end = qvitp_min(row + STRIPE, width);
    for (size_t first = 0; first < end; first += LINE)
        for (size_t r = row; r < end; r++)
            for (size_t c = first; c < qvitp_min(first + LINE, r); c++)
                p->out[r * width + c] = p->out[c * width + r];
}

static qvit_status run(struct product *p, qvit_error *error)
{
    const qvit_executor *executor = &p->engine->executor;
    size_t stripes = pieces(p->d->width, STRIPE);
    size_t staged = pieces(p->d->width, STAGED) + pieces(p->x->width, STAGED);
    for (p->first = 0; p->first < p->rows; p->first += QVITP_RUN) {
        p->depth = qvitp_min(QVITP_RUN, p->rows - p->first);
        QVITP_TRY(qvitp_parallel(executor, staged, stage, p, error));
        QVITP_TRY(qvitp_parallel(executor, stripes, multiply, p, error));
    }
    return p->symmetric ? qvitp_parallel(executor, stripes, mirror, p, error) : QVIT_OK;
}

static qvit_status allocate_and_run(struct product *p, qvit_error *error)
{
    const struct qvitp_gemm_kernel *kernel = p->engine->kernels.gemm_f32;
    struct qvitp_pool pool = {p->engine, NULL};
    p->floats = (struct qvitp_left){.kernel = kernel};
    p->epilogue = (struct qvitp_epilogue){
        .bias = qvitp_pool_alloc(&pool, qvitp_vector_columns(kernel, WIDTH), sizeof(float)),
        .out = QVITP_OUT_F32};
    p->left = qvitp_pool_alloc(&pool, p->d->width, QVITP_RUN * sizeof(float));
    p->panels = qvitp_pool_alloc(&pool, qvitp_packed_bytes(kernel, p->x->width, QVITP_RUN), 1);
    p->scratch = qvitp_pool_alloc(&pool, p->engine->executor.workers, SCRATCH * sizeof(float));
    int ok = p->epilogue.bias && p->left && p->panels && p->scratch;
    qvit_status status = ok ? run(p, error) : qvitp_no_memory(error);
    qvitp_pool_free(&pool);
    return status;
}

qvit_status qvitp_gram(const qvit_engine *engine, size_t rows, const struct qvitp_columns *x,
                       const float *weight, double *gram, qvit_error *error)
{
    struct product p = {.engine = engine,
                        .rows = rows,
                        .d = x,
                        .x = x,
                        .weight = weight,
                        .symmetric = 1,
                        .out = gram};
    return allocate_and_run(&p, error);
}

qvit_status qvitp_cross(const qvit_engine *engine, size_t rows, const struct qvitp_columns *d,
                        const struct qvitp_columns *x, const float *weight, double *cross,
                        qvit_error *error)
{
    struct product p = {
        .engine = engine, .rows = rows, .d = d, .x = x, .weight = weight, .out = cross};
    return allocate_and_run(&p, error);
}
