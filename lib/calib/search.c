/* search.c - choosing scales by what they do to a product. */
#include "calib/search.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/shares.h"
#include "op/encode.h"
#include "op/heads.h"
#include "op/product.h"
#include "plan/pack.h"
#include "plan/plan.h"
#include "sched/sched.h"

/* Rows that are multiplied and then scored while they are in the cache. */
enum { BLOCK_ROWS = 64 };

/* ---- memory: one block for each worker, and one for what all share ---- */

struct scratch {
    uint8_t *codes; /* a left operand's */
    uint8_t *right; /* a right operand's codes, before packing */
    void *panels;
    int32_t *sums;
    float *out;    /* [BLOCK_ROWS][n] */
    float *choice; /* scales of a right operand on trial */
    float *scale, *scale2, *bias;
    int32_t *init;
    void *staged;
    double *columns; /* [n][QVITP_METRIC_SUMS] */
};

/* The largest sizes of a search, which one scratch fits. */
struct sizes {
    size_t m, n, k;
};

static struct sizes largest(const struct qvitp_search *s)
{
    struct sizes most = {1, 1, 1};
    for (size_t i = 0; i < s->products; i++) {
        const struct qvitp_product *p = &s->product[i];
        if (p->n > most.n) most.n = p->n;
        if (p->k > most.k) most.k = p->k;
        for (size_t j = 0; j < p->pieces; j++)
            if (p->piece[j].m > most.m) most.m = p->piece[j].m;
    }
    return most;
}

static size_t carve(const qvit_engine *engine, const struct sizes *most, char *base,
                    struct scratch *s)
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
    s->out = qvitp_carve(&c, qvitp_mul(BLOCK_ROWS, most->n), sizeof *s->out);
    s->choice = qvitp_carve(&c, most->n, sizeof *s->choice);
    s->scale = qvitp_carve(&c, columns, sizeof *s->scale);
    s->scale2 = qvitp_carve(&c, columns, sizeof *s->scale2);
    s->bias = qvitp_carve(&c, columns, sizeof *s->bias);
    s->init = qvitp_carve(&c, columns, sizeof *s->init);
    s->staged = qvitp_carve(&c, staged, 1);
    s->columns = qvitp_carve(&c, qvitp_mul(most->n, QVITP_METRIC_SUMS), sizeof *s->columns);
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

/* ---- one candidate on one piece ---- */

/* Codes of a right operand, packed, with the sums of its columns. */
static void encode_right(const qvit_engine *engine, const struct qvitp_product *p,
                         const struct qvitp_piece *piece, const float *scale, uint8_t *codes,
                         void *panels, int32_t *sums)
{
    struct qvitp_coder coder = {.scheme = QVIT_SCHEME_SYMMETRIC, .scale = scale[0]};
    qvitp_scheme_range(coder.scheme, p->bits, qvitp_right_flags(p->bits), &coder.lo, &coder.hi);
    if (p->per_column) {
        for (size_t j = 0; j < p->n; j++) {
            coder.scale = scale[j];
            qvitp_encode_run(engine, &coder, p->k, piece->right + j * p->k, codes + j * p->k);
        }
    } else {
        qvitp_encode_run(engine, &coder, p->n * p->k, piece->right, codes);
    }
    const struct qvitp_gemm_kernel *kernel = engine->kernels.gemm_u8s8;
    struct qvitp_operand operand = {codes, (ptrdiff_t)(p->by_k ? p->n : p->k), NULL, p->by_k};
    qvitp_pack(kernel, &operand, p->n, p->k, panels);
    qvitp_operand_sums(&operand, p->n, p->k, sums);
}

/* One candidate's product: coders and operands of one piece, whichever is on trial. */
struct trial {
    const struct qvitp_search *search;
    const struct qvitp_product *product;
    const struct qvitp_piece *piece;
    const struct qvitp_coder *coder;
    const uint8_t *codes;
    const void *panels;
    const int32_t *sums;
    const float *scale; /* of the right operand */
};

static void set_vectors(const struct trial *t, const struct qvitp_left *left, struct scratch *s)
{
    float sign = t->coder->scheme == QVIT_SCHEME_TWIN_GELU ? -1.0f : 1.0f;
    size_t columns = qvitp_vector_columns(left->kernel, t->product->n);
    for (size_t j = 0; j < columns; j++) {
        size_t i = j < t->product->n ? j : t->product->n - 1;
        float scale = t->scale[t->product->per_column ? i : 0];
        s->scale[j] = sign * t->coder->scale * scale;
        s->scale2[j] = t->coder->scale2 * scale;
        s->bias[j] = 0;
        s->init[j] = -left->zero * t->sums[i];
    }
}

/* Multiplies and scores: adds to the columns' sums, or returns the rows' score (columns NULL). */
static double run_trial(const struct trial *t, struct scratch *s, double *columns)
{
    const struct qvitp_metric *metric = t->search->recipe->metric;
    size_t n = t->product->n, k = t->product->k, m = t->piece->m;
    struct qvitp_left left;
    qvitp_left_codes(&left, t->search->engine, t->coder);
    set_vectors(t, &left, s);
    struct qvitp_epilogue epilogue = {.init = s->init,
                                      .scale = s->scale,
                                      .scale2 = s->scale2,
                                      .bias = s->bias,
                                      .out = QVITP_OUT_F32};
    struct qvitp_block block = {.left = &left,
                                .epilogue = &epilogue,
                                .k = k,
                                .lda = (ptrdiff_t)k,
                                .b = t->panels,
                                .columns = n,
                                .out = s->out,
                                .ldo = (ptrdiff_t)n,
                                .out_size = sizeof(float),
                                .staged = s->staged};
    double score = 0;
    for (size_t first = 0; first < m; first += BLOCK_ROWS) {
        block.m = qvitp_min(BLOCK_ROWS, m - first);
        block.a = t->codes + first * k;
        qvitp_block_run(&block);
        const float *target = t->piece->target + first * n;
        if (columns) {
            metric->columns(block.m, n, s->out, target, columns);
        } else {
            score += metric->rows(block.m, n, s->out, target);
        }
    }
    return score;
}

/* ---- searching one side ---- */

/* Shared by the tasks: each tries one candidate and writes its scores. */
struct sweep {
    const struct qvitp_search *search;
    size_t product; /* right sweeps: which */
    size_t group;   /* left sweeps: which */
    char *workers;  /* scratch, per_worker bytes each */
    size_t per_worker;
    struct sizes most;
    double *scores; /* right: [candidates][scales]; left: [candidates] */
};

static struct scratch scratch_of(const struct sweep *w, size_t worker)
{
    struct scratch s;
    carve(w->search->engine, &w->most, w->workers + worker * w->per_worker, &s);
    return s;
}

static void try_right(void *argument, size_t candidate, size_t worker)
{
    const struct sweep *w = argument;
    const struct qvitp_search *search = w->search;
    const struct qvitp_product *p = &search->product[w->product];
    struct scratch s = scratch_of(w, worker);
    size_t scales = p->per_column ? p->n : 1;
    float factor = (float)qvitp_factor(search->recipe, candidate);
    double *scores = w->scores + candidate * scales;
    for (size_t j = 0; j < scales; j++) s.choice[j] = p->base[j] * factor;
    memset(s.columns, 0, p->n * QVITP_METRIC_SUMS * sizeof *s.columns);
    double score = 0;
    for (size_t i = 0; i < p->pieces; i++) {
        const struct qvitp_piece *piece = &p->piece[i];
        encode_right(search->engine, p, piece, s.choice, s.right, s.panels, s.sums);
        struct trial trial = {search,       p,        piece,  &search->coder[p->group],
                              piece->codes, s.panels, s.sums, s.choice};
        score += run_trial(&trial, &s, p->per_column ? s.columns : NULL);
    }
    for (size_t j = 0; j < scales; j++)
        scores[j] = p->per_column
                        ? search->recipe->metric->column_score(s.columns + j * QVITP_METRIC_SUMS)
                        : score;
}

static void try_left(void *argument, size_t candidate, size_t worker)
{
    const struct sweep *w = argument;
    const struct qvitp_search *search = w->search;
    struct scratch s = scratch_of(w, worker);
    struct qvitp_coder coder =
        qvitp_span_candidate(&search->span[w->group], search->recipe, candidate);
    double score = 0;
    for (size_t i = 0; i < search->products; i++) {
        const struct qvitp_product *p = &search->product[i];
        for (size_t j = 0; p->group == w->group && j < p->pieces; j++) {
            const struct qvitp_piece *piece = &p->piece[j];
            qvitp_encode_run(search->engine, &coder, piece->m * p->k, piece->left, s.codes);
            struct trial trial = {search,        p,           piece,   &coder, s.codes,
                                  piece->panels, piece->sums, p->scale};
            score += run_trial(&trial, &s, NULL);
        }
    }
    w->scores[candidate] = score;
}

/* The candidate with the best of the scores that lie `step` apart; of equals the first. */
static size_t best_of(const double *scores, size_t candidates, size_t step)
{
    size_t best = 0;
    for (size_t c = 1; c < candidates; c++)
        if (scores[c * step] > scores[best * step]) best = c;
    return best;
}

static qvit_status search_right(struct qvitp_search *s, struct sweep *w, size_t product,
                                qvit_error *error)
{
    struct qvitp_product *p = &s->product[product];
    size_t scales = p->per_column ? p->n : 1, candidates = (size_t)s->recipe->candidates;
    w->product = product;
    QVITP_TRY(qvitp_parallel(&s->engine->executor, candidates, try_right, w, error));
    for (size_t j = 0; j < scales; j++) {
        size_t best = best_of(w->scores + j, candidates, scales);
        p->scale[j] = p->base[j] * (float)qvitp_factor(s->recipe, best);
    }
    struct scratch scratch = scratch_of(w, 0);
    for (size_t i = 0; i < p->pieces; i++)
        encode_right(s->engine, p, &p->piece[i], p->scale, scratch.right, p->piece[i].panels,
                     p->piece[i].sums);
    return QVIT_OK;
}

static void encode_left(const struct qvitp_search *s, size_t group)
{
    for (size_t i = 0; i < s->products; i++) {
        const struct qvitp_product *p = &s->product[i];
        for (size_t j = 0; p->group == group && j < p->pieces; j++)
            qvitp_encode_run(s->engine, &s->coder[group], p->piece[j].m * p->k, p->piece[j].left,
                             p->piece[j].codes);
    }
}

static qvit_status search_left(struct qvitp_search *s, struct sweep *w, size_t group,
                               qvit_error *error)
{
    size_t candidates = qvitp_span_candidates(&s->span[group], s->recipe);
    w->group = group;
    QVITP_TRY(qvitp_parallel(&s->engine->executor, candidates, try_left, w, error));
    s->coder[group] =
        qvitp_span_candidate(&s->span[group], s->recipe, best_of(w->scores, candidates, 1));
    encode_left(s, group);
    return QVIT_OK;
}

/* ---- the whole ---- */

/* Memory of the pieces' encoded forms, behind the sweep's own. */
static size_t carve_pieces(const struct qvitp_search *s, struct qvitp_carver *c)
{
    const struct qvitp_gemm_kernel *kernel = s->engine->kernels.gemm_u8s8;
    for (size_t i = 0; i < s->products; i++) {
        struct qvitp_product *p = &s->product[i];
        for (size_t j = 0; j < p->pieces; j++) {
            struct qvitp_piece *piece = &p->piece[j];
            piece->codes = qvitp_carve(c, piece->m, p->k);
            piece->panels = qvitp_carve(c, qvitp_packed_bytes(kernel, p->n, p->k), 1);
            piece->sums = qvitp_carve(c, qvitp_vector_columns(kernel, p->n), sizeof(int32_t));
        }
    }
    return c->used;
}

static size_t score_count(const struct qvitp_search *s, const struct sizes *most)
{
    enum { MOST_CUTS = 64 }; /* more than a twin softmax has candidates */
    return qvitp_add(qvitp_mul((size_t)s->recipe->candidates, most->n), MOST_CUTS);
}

static qvit_status alternate(struct qvitp_search *s, struct sweep *w, qvit_error *error)
{
    struct scratch scratch = scratch_of(w, 0);
    for (size_t g = 0; g < s->groups; g++) encode_left(s, g);
    for (size_t i = 0; i < s->products; i++)
        for (size_t j = 0; j < s->product[i].pieces; j++) {
            struct qvitp_piece *piece = &s->product[i].piece[j];
            encode_right(s->engine, &s->product[i], piece, s->product[i].scale, scratch.right,
                         piece->panels, piece->sums);
        }
    size_t steps = s->products + s->groups, done = 0;
    size_t total = steps * (size_t)s->recipe->rounds;
    for (int32_t round = 0; round < s->recipe->rounds; round++)
        for (size_t step = 0; step < steps; step++, done++) {
            if (s->progress && s->progress(s->user, (double)done / (double)total))
                return qvitp_fail(error, QVIT_ERR_CANCELLED, "cancelled");
            if (step < s->products) {
                QVITP_TRY(search_right(s, w, step, error));
            } else if (!s->span[step - s->products].fixed) {
                QVITP_TRY(search_left(s, w, step - s->products, error));
            }
        }
    return QVIT_OK;
}

/* Kernels do not check their sums; plans do, and searches run without plans. */
static qvit_status check_sums(const struct qvitp_search *s, qvit_error *error)
{
    for (size_t i = 0; i < s->products; i++) {
        struct qvitp_left left;
        qvitp_left_codes(&left, s->engine, &s->coder[s->product[i].group]);
        left.zero = left.twin ? 0 : 255; /* the largest that a candidate may have */
        QVITP_TRY(qvitp_sums_fit(&left, s->product[i].k, error));
    }
    return QVIT_OK;
}

qvit_status qvitp_search_run(struct qvitp_search *s, qvit_error *error)
{
    QVITP_TRY(check_sums(s, error));
    struct sweep w = {.search = s, .most = largest(s)};
    struct scratch unused;
    w.per_worker = carve(s->engine, &w.most, NULL, &unused);
    size_t scores = qvitp_mul(score_count(s, &w.most), sizeof *w.scores);
    size_t all_workers = qvitp_mul(w.per_worker, s->engine->executor.workers);
    struct qvitp_carver c = {NULL, qvitp_add(scores, all_workers)};
    char *memory = qvitp_engine_alloc(s->engine, carve_pieces(s, &c), 1);
    if (!memory) return qvitp_no_memory(error);
    w.workers = memory;
    w.scores = (double *)(memory + all_workers);
    c = (struct qvitp_carver){memory, scores + all_workers};
    carve_pieces(s, &c);
    qvit_status status = alternate(s, &w, error);
    qvitp_engine_free(s->engine, memory);
    return status;
}

/* ---- targets ---- */

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
