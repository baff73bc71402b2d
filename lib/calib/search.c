/* search.c - choosing scales by what they do to a product. */
#include "calib/search.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "op/heads.h"
#include "op/product.h"
#include "plan/plan.h"
#include "sched/sched.h"

/* ---- the score of one candidate on one piece ---- */

struct scored {
    const struct qvitp_metric *metric;
    const struct qvitp_trial *trial;
    struct qvitp_scratch *scratch;
    size_t blocks; /* of columns, each with a score of its own */
    double *sums;  /* of rows: [blocks][QVITP_METRIC_SUMS]; of columns: [QVITP_METRIC_SUMS][n] */
};

/* One block for each column: columns are scored by their sums over all rows. */
static int by_column(const struct scored *s)
{
    return s->blocks > 1 && s->blocks == s->trial->product->n;
}

static void add_block(const struct scored *s, size_t first, size_t rows)
{
    const struct qvitp_trial *t = s->trial;
    size_t n = t->product->n;
    struct qvitp_outputs o = {.m = rows, .n = n, .ld = n, .out = s->scratch->out};
    o.target = t->piece->target + first * n;
    o.gradient = s->metric->gradient ? t->piece->gradient + first * n : NULL;
    qvitp_trial_rows(t, s->scratch, first, rows);
    if (by_column(s)) {
        s->metric->columns(&o, s->sums);
        return;
    }
    for (size_t i = 0; i < s->blocks; i++) {
        o.n = qvitp_share(n, s->blocks, i + 1) - qvitp_share(n, s->blocks, i);
        s->metric->rows(&o, s->sums + i * QVITP_METRIC_SUMS);
        o.out += o.n, o.target += o.n;
        if (o.gradient) o.gradient += o.n;
    }
}

/* Ends a sample, or all rows: their scores join the others. */
static void add_scores(const struct scored *s, double *scores)
{
    for (size_t i = 0; i < s->blocks; i++) {
        scores[i] += s->metric->score(s->sums + i * QVITP_METRIC_SUMS);
        memset(s->sums + i * QVITP_METRIC_SUMS, 0, QVITP_METRIC_SUMS * sizeof *s->sums);
    }
}

/* Multiplies and scores a piece: adds a score for each block to `scores`, or, of columns, only to the
 * sums. */
static void score_piece(const struct scored *s, double *scores)
{
    const struct qvitp_piece *piece = s->trial->piece;
    int columns = by_column(s), split = s->metric->by_sample && !columns;
    qvitp_trial_begin(s->trial, s->scratch);
    size_t first = 0;
    for (size_t i = 0; i < (split ? piece->samples : 1); i++) {
        size_t end = split ? piece->sample_end[i] : piece->m;
        for (size_t rows; first < end; first += rows) {
            rows = qvitp_min(QVITP_TRIAL_ROWS, end - first);
            add_block(s, first, rows);
        }
        if (!columns) add_scores(s, scores);
    }
}

/* ---- candidates ---- */

/* A sweep over candidate factors: the recipe's whole grid, or the neighbourhood of what is chosen, in
 * steps that divide one of the grid's. */
enum pass { WHOLE, NEAR };

static size_t factor_count(const struct qvitp_recipe *r, enum pass pass)
{
    return pass == WHOLE ? (size_t)r->candidates : (size_t)r->refine + 1;
}

static double factor_of(const struct qvitp_recipe *r, enum pass pass, double chosen,
                        size_t candidate)
{
    if (pass == WHOLE) return qvitp_factor(r, candidate);
    double side = (double)(r->refine / 2), step = (r->high - r->low) / r->candidates / (side + 1);
    double factor = chosen + ((double)candidate - side) * step;
    return factor > 1e-3 ? factor : 1e-3;
}

/* Shared by the tasks: each tries one candidate and writes its scores. */
struct sweep {
    struct qvitp_search *search;
    enum pass pass;
    size_t product; /* right sweeps: which */
    size_t group;   /* left sweeps: which */
    char *workers;  /* scratch, per_worker bytes each */
    size_t per_worker;
    struct qvitp_sizes most;
    double *scores;  /* right: [candidates][scales]; left: [candidates] */
    double *left;    /* [groups] the chosen factors */
    double **right;  /* [products][scales] */
    int32_t changed; /* whether this round chose anything new */
};

static struct qvitp_scratch scratch_of(const struct sweep *w, size_t worker)
{
    struct qvitp_scratch s;
    qvitp_scratch_carve(w->search->engine, &w->most, w->workers + worker * w->per_worker, &s);
    return s;
}

/* ---- the right operand ---- */

static void try_right(void *argument, size_t candidate, size_t worker)
{
    const struct sweep *w = argument;
    const struct qvitp_search *search = w->search;
    const struct qvitp_product *p = &search->product[w->product];
    struct qvitp_scratch s = scratch_of(w, worker);
    double *scores = w->scores + candidate * p->scales;
    for (size_t j = 0; j < p->scales; j++) {
        double chosen = w->right[w->product][j];
        s.choice[j] = p->base[j] * (float)factor_of(search->recipe, w->pass, chosen, candidate);
        scores[j] = 0;
    }
    memset(s.columns, 0, p->n * QVITP_METRIC_SUMS * sizeof *s.columns);
    for (size_t i = 0; i < p->pieces; i++) {
        const struct qvitp_piece *piece = &p->piece[i];
        qvitp_trial_encode(search->engine, p, piece, s.choice, s.right, s.panels, s.sums);
        struct qvitp_trial trial = {search->engine, p,        piece,  &search->coder[p->group],
                                    piece->codes,   s.panels, s.sums, s.choice};
        struct scored scored = {search->metric, &trial, &s, p->scales, s.columns};
        score_piece(&scored, scores);
    }
    for (size_t j = 0; p->scales == p->n && p->n > 1 && j < p->n; j++) {
        double sums[QVITP_METRIC_SUMS];
        for (size_t i = 0; i < QVITP_METRIC_SUMS; i++) sums[i] = s.columns[i * p->n + j];
        scores[j] = search->metric->column_score(sums);
    }
}

/* The candidate with the best of the scores that lie `step` apart; of equals the first. */
static size_t best_of(const double *scores, size_t candidates, size_t step)
{
    size_t best = 0;
    for (size_t c = 1; c < candidates; c++)
        if (scores[c * step] > scores[best * step]) best = c;
    return best;
}

static void encode_right(const struct qvitp_search *s, const struct sweep *w, size_t product)
{
    struct qvitp_product *p = &s->product[product];
    struct qvitp_scratch scratch = scratch_of(w, 0);
    for (size_t i = 0; i < p->pieces; i++)
        qvitp_trial_encode(s->engine, p, &p->piece[i], p->scale, scratch.right, p->piece[i].panels,
                           p->piece[i].sums);
}

static qvit_status search_right(struct qvitp_search *s, struct sweep *w, size_t product,
                                qvit_error *error)
{
    struct qvitp_product *p = &s->product[product];
    size_t candidates = factor_count(s->recipe, w->pass);
    w->product = product;
    QVITP_TRY(qvitp_parallel(&s->engine->executor, candidates, try_right, w, error));
    for (size_t j = 0; j < p->scales; j++) {
        double *chosen = &w->right[product][j];
        size_t best = best_of(w->scores + j, candidates, p->scales);
        *chosen = factor_of(s->recipe, w->pass, *chosen, best);
        float scale = p->base[j] * (float)*chosen;
        w->changed |= scale < p->scale[j] || scale > p->scale[j];
        p->scale[j] = scale;
    }
    encode_right(s, w, product);
    return QVIT_OK;
}

/* ---- the left operand ---- */

static int has_cuts(const struct qvitp_span *span)
{
    return span->scheme == QVIT_SCHEME_TWIN_SOFTMAX;
}

/* A twin softmax has its cuts for candidates, in every pass; all others are scaled. */
static struct qvitp_coder left_candidate(const struct sweep *w, size_t candidate)
{
    const struct qvitp_recipe *r = w->search->recipe;
    const struct qvitp_span *span = &w->search->span[w->group];
    if (has_cuts(span)) return qvitp_span_twin(span, (int32_t)candidate);
    return qvitp_span_coder(span, factor_of(r, w->pass, w->left[w->group], candidate));
}

static void try_left(void *argument, size_t candidate, size_t worker)
{
    const struct sweep *w = argument;
    const struct qvitp_search *search = w->search;
    struct qvitp_scratch s = scratch_of(w, worker);
    struct qvitp_coder coder = left_candidate(w, candidate);
    double score = 0;
    for (size_t i = 0; i < search->products; i++) {
        const struct qvitp_product *p = &search->product[i];
        if (p->group != w->group) continue;
        for (size_t j = 0; j < p->pieces; j++) {
            const struct qvitp_piece *piece = &p->piece[j];
            qvitp_left_encode(search->engine, p, &coder, piece->m, piece->left, s.codes);
            struct qvitp_trial trial = {search->engine, p,           piece,   &coder, s.codes,
                                        piece->panels,  piece->sums, p->scale};
            double sums[QVITP_METRIC_SUMS] = {0};
            struct scored scored = {search->metric, &trial, &s, 1, sums};
            score_piece(&scored, &score);
        }
    }
    w->scores[candidate] = score;
}

static void encode_left(const struct qvitp_search *s, size_t group)
{
    for (size_t i = 0; i < s->products; i++) {
        const struct qvitp_product *p = &s->product[i];
        for (size_t j = 0; p->group == group && j < p->pieces; j++)
            qvitp_left_encode(s->engine, p, &s->coder[group], p->piece[j].m, p->piece[j].left,
                              p->piece[j].codes);
    }
}

static qvit_status search_left(struct qvitp_search *s, struct sweep *w, size_t group,
                               qvit_error *error)
{
    int cuts = has_cuts(&s->span[group]);
    size_t candidates = cuts ? QVITP_CUTS : factor_count(s->recipe, w->pass);
    w->group = group;
    QVITP_TRY(qvitp_parallel(&s->engine->executor, candidates, try_left, w, error));
    size_t best = best_of(w->scores, candidates, 1);
    struct qvitp_coder coder = left_candidate(w, best), *chosen = &s->coder[group];
    if (!cuts) w->left[group] = factor_of(s->recipe, w->pass, w->left[group], best);
    w->changed |= coder.scale < chosen->scale || coder.scale > chosen->scale ||
                  coder.scale2 < chosen->scale2 || coder.scale2 > chosen->scale2;
    *chosen = coder;
    encode_left(s, group);
    return QVIT_OK;
}

/* ---- the whole ---- */

/* One operand: the grid in the first round, and its neighbourhood in steps of its own; once the grid
 * is refined, later rounds look at the neighbourhood alone. Cuts have no neighbourhood. */
static qvit_status search_step(struct qvitp_search *s, struct sweep *w, size_t step, int32_t round,
                               qvit_error *error)
{
    size_t group = step - s->products;
    int right = step < s->products;
    if (right ? s->product[step].fixed : s->span[group].fixed) return QVIT_OK;
    for (enum pass pass = WHOLE; pass <= NEAR; pass++) {
        int cuts = !right && has_cuts(&s->span[group]);
        int wanted =
            pass == NEAR ? s->recipe->refine && !cuts : !round || !s->recipe->refine || cuts;
        w->pass = pass;
        if (!wanted) continue;
        QVITP_TRY(right ? search_right(s, w, step, error) : search_left(s, w, group, error));
    }
    return QVIT_OK;
}

static qvit_status alternate(struct qvitp_search *s, struct sweep *w, qvit_error *error)
{
    for (size_t g = 0; g < s->groups; g++) encode_left(s, g);
    for (size_t i = 0; i < s->products; i++) encode_right(s, w, i);
    size_t steps = s->products + s->groups, done = 0;
    size_t total = steps * (size_t)s->recipe->rounds;
    for (int32_t round = 0; round < s->recipe->rounds; round++) {
        w->changed = 0;
        for (size_t step = 0; step < steps; step++, done++) {
            if (s->progress && s->progress(s->user, (double)done / (double)total))
                return qvitp_fail(error, QVIT_ERR_CANCELLED, "cancelled");
            QVITP_TRY(search_step(s, w, step, round, error));
        }
        if (!w->changed) break;
    }
    return QVIT_OK;
}

/* Kernels do not check their sums; plans do, and searches run without plans. */
static qvit_status check_sums(const struct qvitp_search *s, qvit_error *error)
{
    for (size_t i = 0; i < s->products; i++) {
        struct qvitp_left left;
        qvitp_left_codes(&left, s->engine, &s->coder[s->product[i].group], 128);
        left.zero = left.twin ? 0 : 255; /* the largest that a candidate may have */
        QVITP_TRY(qvitp_sums_fit(&left, s->product[i].k, error));
    }
    return QVIT_OK;
}

/* Lays out what the sweeps share; base NULL: only adds up. */
static size_t carve(struct qvitp_search *s, struct sweep *w, char *base)
{
    struct qvitp_carver c = {base, 0};
    struct qvitp_scratch unused;
    size_t candidates = (size_t)(s->recipe->candidates > s->recipe->refine ? s->recipe->candidates
                                                                           : s->recipe->refine + 1);
    w->per_worker = qvitp_scratch_carve(s->engine, &w->most, NULL, &unused);
    w->workers = qvitp_carve(&c, w->per_worker, s->engine->executor.workers);
    size_t scores = qvitp_add(qvitp_mul(candidates, w->most.n), QVITP_CUTS);
    w->scores = qvitp_carve(&c, scores, sizeof *w->scores);
    w->left = qvitp_carve(&c, s->groups, sizeof *w->left);
    w->right = qvitp_carve(&c, s->products, sizeof *w->right);
    for (size_t i = 0; i < s->products; i++) {
        double *factors = qvitp_carve(&c, s->product[i].scales, sizeof *factors);
        if (base) w->right[i] = factors;
    }
    size_t used = qvitp_round_up(c.used, QVIT_ALIGNMENT);
    char *pieces = base ? base + used : NULL;
    return qvitp_add(used, qvitp_pieces_carve(s->engine, s->product, s->products, pieces));
}

qvit_status qvitp_search_run(struct qvitp_search *s, qvit_error *error)
{
    QVITP_TRY(check_sums(s, error));
    struct sweep w = {.search = s, .most = qvitp_sizes_of(s->product, s->products)};
    char *memory = qvitp_engine_alloc(s->engine, carve(s, &w, NULL), 1);
    if (!memory) return qvitp_no_memory(error);
    carve(s, &w, memory);
    qvit_status status = alternate(s, &w, error);
    qvitp_engine_free(s->engine, memory);
    return status;
}
