/* trial.c - one product of codes, computed the way it will run. */
#include "calib/trial.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shares.h"
#include "calib/metric.h"
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
    struct qvitp_sizes most = {1, 1, 1};
    for (size_t i = 0; i < count; i++) {
        const struct qvitp_product *p = &products[i];
        if (p->n > most.n) most.n = p->n;
        if (p->k > most.k) most.k = p->k;
        for (size_t j = 0; j < p->pieces; j++)
            if (p->piece[j].m > most.m) most.m = p->piece[j].m;
    }
    return most;
}

size_t qvitp_scratch_carve(const qvit_engine *engine, const struct qvitp_sizes *most, char *base,
                           struct qvitp_scratch *s)
{
    const struct qvitp_gemm_kernel *kernel = engine->kernels.gemm_u8s8;
    struct qvitp_carver c = {base, 0};
    size_t columns = qvitp_vector_columns(kernel, most->n);
    const struct qvitp_left plain = {.kernel = kernel},
                            twin = {.kernel = engine->kernels.gemm_t8s8};
    size_t staged = qvitp_add(qvitp_left_plane_bytes(&plain, plain.kernel->mr, most->k),
                              2 * qvitp_left_plane_bytes(&twin, twin.kernel->mr, most->k));
    s->codes = qvitp_carve(&c, most->m, most->k);
    s->right = qvitp_carve(&c, most->n, most->k);
    s->panels = qvitp_carve(&c, qvitp_packed_bytes(kernel, most->n, most->k), 1);
    s->sums = qvitp_carve(&c, columns, sizeof *s->sums);
    s->out = qvitp_carve(&c, qvitp_mul(QVITP_TRIAL_ROWS, most->n), sizeof *s->out);
    s->choice = qvitp_carve(&c, most->n, sizeof *s->choice);
    s->scale = qvitp_carve(&c, columns, sizeof *s->scale);
    s->scale2 = qvitp_carve(&c, columns, sizeof *s->scale2);
    s->bias = qvitp_carve(&c, columns, sizeof *s->bias);
    s->init = qvitp_carve(&c, columns, sizeof *s->init);
    s->staged = qvitp_carve(&c, staged, 1);
    s->columns = qvitp_carve(&c, qvitp_mul(most->n, QVITP_METRIC_SUMS), sizeof *s->columns);
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

size_t qvitp_pieces_carve(const qvit_engine *engine, struct qvitp_product *products, size_t count,
                          char *base)
{
    const struct qvitp_gemm_kernel *kernel = engine->kernels.gemm_u8s8;
    struct qvitp_carver c = {base, 0};
    for (size_t i = 0; i < count; i++) {
        struct qvitp_product *p = &products[i];
        for (size_t j = 0; j < p->pieces; j++) {
            struct qvitp_piece *piece = &p->piece[j];
            piece->codes = qvitp_carve(&c, piece->m, p->k);
            piece->panels = qvitp_carve(&c, qvitp_packed_bytes(kernel, p->n, p->k), 1);
            piece->sums = qvitp_carve(&c, qvitp_vector_columns(kernel, p->n), sizeof(int32_t));
        }
    }
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

/* ---- the right operand ---- */

void qvitp_trial_pack(const qvit_engine *engine, const struct qvitp_product *p,
                      const uint8_t *codes, void *panels, int32_t *sums)
{
    struct qvitp_operand operand = {codes, (ptrdiff_t)(p->by_k ? p->n : p->k), NULL, p->by_k};
    qvitp_pack(engine->kernels.gemm_u8s8, &operand, p->n, p->k, panels);
    qvitp_operand_sums(&operand, p->n, p->k, sums);
}

struct qvitp_coder qvitp_right_coder(const struct qvitp_product *p)
{
    struct qvitp_coder coder = {.scheme = QVIT_SCHEME_SYMMETRIC};
    qvitp_scheme_range(coder.scheme, p->bits, qvitp_right_flags(p->bits), &coder.lo, &coder.hi);
    return coder;
}

void qvitp_right_encode(const qvit_engine *engine, const struct qvitp_product *p,
                        const struct qvitp_piece *piece, const float *scale, uint8_t *codes)
{
    struct qvitp_coder coder = qvitp_right_coder(p);
    size_t block = p->n / p->scales * p->k; /* the columns of one scale lie together */
    for (size_t i = 0; i < p->scales; i++) {
        coder.scale = scale[i];
        qvitp_encode_run(engine, &coder, block, piece->right + i * block, codes + i * block);
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
    struct qvitp_left left;
    qvitp_left_codes(&left, t->engine, t->coder);
    float sign = t->coder->scheme == QVIT_SCHEME_TWIN_GELU ? -1.0f : 1.0f;
    size_t columns = qvitp_vector_columns(left.kernel, t->product->n);
    for (size_t j = 0; j < columns; j++) {
        size_t i = j < t->product->n ? j : t->product->n - 1;
        float scale = t->scale[qvitp_product_block(t->product, i)];
        s->scale[j] = sign * t->coder->scale * scale;
        s->scale2[j] = t->coder->scale2 * scale;
        s->bias[j] = 0;
        s->init[j] = -left.zero * t->sums[i];
    }
}

void qvitp_trial_rows(const struct qvitp_trial *t, struct qvitp_scratch *s, size_t first,
                      size_t rows)
{
    size_t n = t->product->n, k = t->product->k;
    struct qvitp_left left;
    qvitp_left_codes(&left, t->engine, t->coder);
    struct qvitp_epilogue epilogue = {.init = s->init,
                                      .scale = s->scale,
                                      .scale2 = s->scale2,
                                      .bias = s->bias,
                                      .out = QVITP_OUT_F32};
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
    struct all a = {.trial = t, .sizes = {1, t->product->n, t->product->k}, .out = out};
    struct qvitp_scratch unused;
    a.per_worker = qvitp_scratch_carve(t->engine, &a.sizes, NULL, &unused);
    a.workers = qvitp_engine_alloc(t->engine, t->engine->executor.workers, a.per_worker);
    if (!a.workers) return qvitp_no_memory(error);
    size_t tasks = qvitp_round_up(t->piece->m, QVITP_TRIAL_ROWS) / QVITP_TRIAL_ROWS;
    qvit_status status = qvitp_parallel(&t->engine->executor, tasks, multiply_rows, &a, error);
    qvitp_engine_free(t->engine, a.workers);
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
