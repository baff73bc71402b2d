/* trial.c - one product of codes, computed the way it will run. */
#include "calib/trial.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shares.h"
#include "calib/metric.h"
#include "calib/pool.h"
#include "calib/range.h"
#include "op/encode.h"
#include "op/heads.h"
#include "op/product.h"
#include "plan/pack.h"
#include "plan/plan.h"
#include "sched/sched.h"

/* ---- memory ---- */

struct qvitp_sizes qvitp_sizes_of(const struct qvitp_product *products, size_t count)
{
    struct qvitp_sizes most = {1, 1, 1, 1};
    for (size_t i = 0; i < count; i++) {
        const struct qvitp_product *p = &products[i];
        if (p->n > most.n) most.n = p->n;
        if (p->k > most.k) most.k = p->k;
        if (qvitp_product_k_blocks(p) > most.k_blocks) most.k_blocks = qvitp_product_k_blocks(p);
        for (size_t j = 0; j < p->pieces; j++)
            if (p->piece[j].m > most.m) most.m = p->piece[j].m;
    }
    return most;
}

/*
 * What the products of one scratch need of any kernel: plain ones, twins, those of small weights and those in
 * K-blocks may have kernels of different forms.
 */
struct most {
    size_t columns, panels, staged;
};

static void widen(struct most *most, const struct qvitp_gemm_kernel *kernel, size_t n, size_t k)
{
    const struct qvitp_left left = {.kernel = kernel};
    size_t columns = qvitp_vector_columns(kernel, n), panels = qvitp_packed_bytes(kernel, n, k);
    size_t staged = qvitp_mul(2, qvitp_left_plane_bytes(&left, k));
    if (columns > most->columns) most->columns = columns;
    if (panels > most->panels) most->panels = panels;
    if (staged > most->staged) most->staged = staged;
}

static struct most most_of(const qvit_engine *engine, size_t n, size_t k)
{
    const struct qvitp_kernels *e = &engine->kernels;
    struct most most = {0, 0, 0};
    widen(&most, e->gemm_u8s8, n, k);
    widen(&most, e->gemm_u8s7, n, k);
    widen(&most, e->gemm_t8s8, n, k);
    widen(&most, e->gemm_u8s8_k, n, k);
    widen(&most, e->gemm_u8s7_k, n, k);
    widen(&most, e->gemm_t8s8_k, n, k);
    return most;
}

size_t qvitp_scratch_carve(const qvit_engine *engine, const struct qvitp_sizes *sizes, char *base,
                           struct qvitp_scratch *s)
{
    struct qvitp_carver c = {base, 0};
    const struct most most = most_of(engine, sizes->n, sizes->k);
    size_t all = qvitp_mul(most.columns, sizes->k_blocks);
    s->codes = qvitp_carve(&c, sizes->m, sizes->k);
    s->right = qvitp_carve(&c, sizes->n, sizes->k);
    s->panels = qvitp_carve(&c, most.panels, 1);
    s->sums = qvitp_carve(&c, all, sizeof *s->sums);
    s->out = qvitp_carve(&c, qvitp_mul(QVITP_TRIAL_ROWS, sizes->n), sizeof *s->out);
    s->choice = qvitp_carve(&c, qvitp_mul(sizes->n, sizes->k_blocks), sizeof *s->choice);
    s->scale = qvitp_carve(&c, all, sizeof *s->scale);
    s->scale2 = qvitp_carve(&c, all, sizeof *s->scale2);
    s->bias = qvitp_carve(&c, most.columns, sizeof *s->bias);
    s->init = qvitp_carve(&c, all, sizeof *s->init);
    s->staged = qvitp_carve(&c, most.staged, 1);
    s->columns = qvitp_carve(&c, qvitp_mul(sizes->n, QVITP_METRIC_SUMS), sizeof *s->columns);
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

size_t qvitp_pieces_carve(const qvit_engine *engine, struct qvitp_product *products, size_t count,
                          char *base)
{
    struct qvitp_carver c = {base, 0};
    for (size_t i = 0; i < count; i++) {
        struct qvitp_product *p = &products[i];
        for (size_t j = 0; j < p->pieces; j++) {
            struct qvitp_piece *piece = &p->piece[j];
            piece->codes = qvitp_carve(&c, piece->m, p->k);
            piece->panels = qvitp_carve(&c, qvitp_panel_bytes(engine, p), 1);
            piece->sums = qvitp_carve(&c, qvitp_sum_count(engine, p), sizeof(int32_t));
        }
    }
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

static int32_t right_max_of(const struct qvitp_product *p)
{
    return qvitp_right_max(p->bits, p->zero != NULL);
}

/* The left operand of a product, in K-blocks where the product is. */
static struct qvitp_left left_of(const qvit_engine *engine, const struct qvitp_product *p,
                                 const struct qvitp_coder *coder)
{
    struct qvitp_left left;
    qvitp_left_codes(&left, engine, coder, right_max_of(p));
    if (p->joined) qvitp_left_join(&left, engine, p->joined, p->k);
    if (p->blocks) qvitp_left_cut(&left, engine, p->blocks);
    return left;
}

const struct qvitp_gemm_kernel *qvitp_product_kernel(const qvit_engine *engine,
                                                     const struct qvitp_product *p)
{
    return left_of(engine, p, &p->left).kernel;
}

size_t qvitp_panel_bytes(const qvit_engine *engine, const struct qvitp_product *p)
{
    return qvitp_packed_bytes(qvitp_product_kernel(engine, p), p->n, p->k);
}

size_t qvitp_sum_count(const qvit_engine *engine, const struct qvitp_product *p)
{
    return qvitp_mul(qvitp_product_k_blocks(p),
                     qvitp_vector_columns(qvitp_product_kernel(engine, p), p->n));
}

/* ---- the operands ---- */

void qvitp_left_encode(const qvit_engine *engine, const struct qvitp_product *p,
                       const struct qvitp_coder *coder, size_t m, const float *left, uint8_t *codes)
{
    if (!p->coder_of) {
        qvitp_encode_run(engine, coder, m * p->k, left, codes);
        return;
    }
    const struct qvitp_k_blocks *b = p->blocks;
    for (size_t i = 0; i < m; i++, left += p->k, codes += p->k)
        for (size_t h = 0; h < b->count; h++)
            qvitp_encode_run(engine, &coder[p->coder_of[h]], b->starts[h + 1] - b->starts[h],
                             left + b->starts[h], codes + b->starts[h]);
}

void qvitp_trial_pack(const qvit_engine *engine, const struct qvitp_product *p,
                      const uint8_t *codes, void *panels, int32_t *sums)
{
    const struct qvitp_gemm_kernel *kernel = qvitp_product_kernel(engine, p);
    const size_t stride = qvitp_vector_columns(kernel, p->n);
    struct qvitp_operand operand = {codes, (ptrdiff_t)(p->by_k ? p->n : p->k), NULL, p->by_k};
    qvitp_pack(kernel, &operand, p->n, p->k, panels);
    for (size_t h = 0; h < qvitp_product_k_blocks(p); h++) {
        size_t first = qvitp_product_k_begin(p, h);
        size_t length = qvitp_product_k_begin(p, h + 1) - first;
        operand.data = codes + first;
        qvitp_operand_sums(&operand, p->n, length, sums + h * stride);
    }
}

struct qvitp_coder qvitp_right_coder(const struct qvitp_product *p, size_t at)
{
    struct qvitp_coder coder = {.scheme = QVIT_SCHEME_SYMMETRIC};
    qvitp_right_range(p->bits, p->zero ? &p->zero[at] : NULL, &coder.lo, &coder.hi);
    return coder;
}

/* One row of a right operand that is cut into K-blocks. */
static void encode_row(const qvit_engine *engine, const struct qvitp_product *p, size_t row,
                       const float *right, const float *scale, uint8_t *codes)
{
    const struct qvitp_k_blocks *b = p->blocks;
    for (size_t h = 0; h < b->count; h++) {
        const size_t at = qvitp_product_at(p, h, row);
        struct qvitp_coder coder = qvitp_right_coder(p, at);
        coder.scale = scale[at];
        qvitp_encode_run(engine, &coder, b->starts[h + 1] - b->starts[h],
                         right + row * p->k + b->starts[h], codes + row * p->k + b->starts[h]);
    }
}

void qvitp_right_encode(const qvit_engine *engine, const struct qvitp_product *p,
                        const struct qvitp_piece *piece, const float *scale, uint8_t *codes)
{
    for (size_t row = 0; qvitp_product_k_blocks(p) > 1 && row < p->n; row++)
        encode_row(engine, p, row, piece->right, scale, codes);
    for (size_t i = 0; qvitp_product_k_blocks(p) == 1 && i < p->scales; i++) {
        size_t first = qvitp_share(p->n, p->scales, i) * p->k;
        size_t end = qvitp_share(p->n, p->scales, i + 1) * p->k;
        struct qvitp_coder coder = qvitp_right_coder(p, i);
        coder.scale = scale[i]; /* the columns of one scale lie together */
        qvitp_encode_run(engine, &coder, end - first, piece->right + first, codes + first);
    }
}

void qvitp_trial_encode(const qvit_engine *engine, const struct qvitp_product *p,
                        const struct qvitp_piece *piece, const float *scale, uint8_t *codes,
                        void *panels, int32_t *sums)
{
    qvitp_right_encode(engine, p, piece, scale, codes);
    qvitp_trial_pack(engine, p, codes, panels, sums);
}

/* ---- the product ---- */

void qvitp_trial_begin(const struct qvitp_trial *t, struct qvitp_scratch *s)
{
    const struct qvitp_product *p = t->product;
    const size_t blocks = qvitp_product_k_blocks(p);
    for (size_t h = 0; h < blocks; h++) {
        const struct qvitp_coder *coder = &t->coder[p->coder_of ? p->coder_of[h] : 0];
        const struct qvitp_left left = left_of(t->engine, p, coder);
        const float sign = qvitp_low_sign(&left);
        size_t columns = qvitp_vector_columns(left.kernel, p->n);
        for (size_t j = 0; j < columns; j++) {
            size_t at = qvitp_k_place(left.kernel->nr, blocks, h, j), i = j < p->n ? j : p->n - 1;
            float scale = t->scale[qvitp_product_at(p, h, i)];
            s->scale[at] = sign * coder->scale * scale;
            s->scale2[at] = coder->scale2 * scale;
            s->bias[j] = 0;
            s->init[at] = -left.zero * t->sums[h * columns + i];
        }
    }
}

void qvitp_trial_rows(const struct qvitp_trial *t, struct qvitp_scratch *s, size_t first,
                      size_t rows)
{
    const struct qvitp_product *p = t->product;
    const size_t n = p->n, k = p->k;
    const struct qvitp_left left = left_of(t->engine, p, t->coder);
    struct qvitp_epilogue epilogue = {.init = s->init,
                                      .scale = s->scale,
                                      .scale2 = s->scale2,
                                      .low = left.low,
                                      .high = left.high,
                                      .bias = s->bias,
                                      .out = QVITP_OUT_F32};
    if (left.k_blocks) {
        epilogue.k_blocks = left.k_blocks->count;
        epilogue.k_ends = left.k_blocks->ends;
    }
    struct qvitp_block block = {.left = &left,
                                .epilogue = &epilogue,
                                .m = rows,
                                .k = k,
                                .a = t->codes + first * k,
                                .lda = (ptrdiff_t)k,
                                .b = t->panels,
                                .columns = n,
                                .out = s->out,
                                .ldo = (ptrdiff_t)n,
                                .out_size = sizeof(float),
                                .staged = s->staged};
    qvitp_block_run(&block);
    const float *row_scale = t->piece->row_scale;
    for (size_t i = 0; row_scale && i < rows; i++)
        for (size_t j = 0; j < n; j++) s->out[i * n + j] *= row_scale[first + i];
}

struct all {
    const struct qvitp_trial *trial;
    struct qvitp_sizes sizes;
    char *workers;
    size_t per_worker;
    float *out;
};

static void multiply_rows(void *argument, size_t index, size_t worker)
{
    const struct all *a = argument;
    size_t n = a->trial->product->n, first = index * QVITP_TRIAL_ROWS;
    size_t rows = qvitp_min(QVITP_TRIAL_ROWS, a->trial->piece->m - first);
    struct qvitp_scratch s;
    qvitp_scratch_carve(a->trial->engine, &a->sizes, a->workers + worker * a->per_worker, &s);
    qvitp_trial_begin(a->trial, &s);
    qvitp_trial_rows(a->trial, &s, first, rows);
    memcpy(a->out + first * n, s.out, rows * n * sizeof *s.out);
}

qvit_status qvitp_trial_all(const struct qvitp_trial *t, float *out, qvit_error *error)
{
    struct all a = {.trial = t, .sizes = {1, t->product->n, t->product->k, 1}, .out = out};
    a.sizes.k_blocks = qvitp_product_k_blocks(t->product);
    struct qvitp_scratch unused;
    a.per_worker = qvitp_scratch_carve(t->engine, &a.sizes, NULL, &unused);
    a.workers = qvitp_engine_alloc(t->engine, t->engine->executor.workers, a.per_worker);
    if (!a.workers) return qvitp_no_memory(error);
    size_t tasks = qvitp_round_up(t->piece->m, QVITP_TRIAL_ROWS) / QVITP_TRIAL_ROWS;
    qvit_status status = qvitp_parallel(&t->engine->executor, tasks, multiply_rows, &a, error);
    qvitp_engine_free(t->engine, a.workers);
    return status;
}

static qvit_status present(struct qvitp_pool *pool, const struct qvitp_product *p,
                           const struct qvitp_piece *piece, const struct qvitp_coder *coder,
                           float *out, qvit_error *error)
{
    const qvit_engine *engine = pool->engine;
    uint8_t *codes = qvitp_pool_alloc(pool, piece->m, p->k);
    uint8_t *right = qvitp_pool_alloc(pool, p->n, p->k);
    void *panels = qvitp_pool_alloc(pool, qvitp_panel_bytes(engine, p), 1);
    int32_t *sums = qvitp_pool_alloc(pool, qvitp_sum_count(engine, p), sizeof *sums);
    if (!codes || !right || !panels || !sums) return qvitp_no_memory(error);
    qvitp_left_encode(engine, p, coder, piece->m, piece->left, codes);
    qvitp_trial_encode(engine, p, piece, p->scale, right, panels, sums);
    struct qvitp_trial trial = {engine, p, piece, coder, codes, panels, sums, p->scale};
    return qvitp_trial_all(&trial, out, error);
}

qvit_status qvitp_trial_present(const qvit_engine *engine, const struct qvitp_product *product,
                                const struct qvitp_piece *piece, const struct qvitp_coder *coder,
                                float *out, qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    qvit_status status = present(&pool, product, piece, coder, out, error);
    qvitp_pool_free(&pool);
    return status;
}

/* ---- products of floats ---- */

struct float_product {
    const struct qvitp_left *left;
    const struct qvitp_epilogue *epilogue;
    size_t m, n, k, tasks;
    const float *a;
    const void *panels;
    float *out;
};

static void multiply(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct float_product *f = argument;
    size_t first = qvitp_share(f->m, f->tasks, index);
    struct qvitp_block block = {.left = f->left,
                                .epilogue = f->epilogue,
                                .k = f->k,
                                .m = qvitp_share(f->m, f->tasks, index + 1) - first,
                                .a = f->a + first * f->k,
                                .lda = (ptrdiff_t)(f->k * sizeof(float)),
                                .b = f->panels,
                                .columns = f->n,
                                .out = f->out + first * f->n,
                                .ldo = (ptrdiff_t)f->n,
                                .out_size = sizeof(float)};
    qvitp_block_run(&block);
}

qvit_status qvitp_float_product(const qvit_engine *engine, size_t m, size_t n, size_t k,
                                const float *left, const float *right, int by_k, float *out,
                                qvit_error *error)
{
    struct qvitp_left floats = {.kernel = engine->kernels.gemm_f32};
    size_t bytes = qvitp_packed_bytes(floats.kernel, n, k);
    size_t bias = qvitp_mul(qvitp_vector_columns(floats.kernel, n), sizeof(float));
    char *memory = qvitp_engine_alloc(engine, qvitp_add(bias, bytes), 1);
    if (!memory) return qvitp_no_memory(error);
    struct qvitp_operand operand = {right, (ptrdiff_t)(by_k ? n : k), NULL, by_k};
    qvitp_pack(floats.kernel, &operand, n, k, memory + bias);
    struct qvitp_epilogue epilogue = {.bias = (float *)memory, .out = QVITP_OUT_F32};
    struct float_product f = {&floats, &epilogue, m, n, k, 0, left, memory + bias, out};
    f.tasks = qvitp_min(engine->executor.workers, m);
    qvit_status status = qvitp_parallel(&engine->executor, f.tasks, multiply, &f, error);
    qvitp_engine_free(engine, memory);
    return status;
}
