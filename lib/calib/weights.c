/* weights.c - codes of weights that suit the inputs they will really meet. */
#include "calib/weights.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "calib/linalg.h"
#include "calib/range.h"
#include "calib/round.h"
#include "sched/sched.h"

/* ---- what a row counts ---- */

static double row_energy(const float *x, size_t n)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++) sum += (double)x[j] * (double)x[j];
    return sum;
}

/* Scales weights to a mean of 1; all of them 0 become 1. */
static void normalise(double *weight, size_t m)
{
    double mean = 0;
    for (size_t i = 0; i < m; i++) mean += weight[i] / (double)m;
    for (size_t i = 0; i < m; i++) weight[i] = mean > 0 ? weight[i] / mean : 1;
}

/*
 * A row counts by the square of the loss's gradient at its output (algorithms: the Hessian of PTQ4ViT
 * with one weight for each row), and a little by the inverse of its own energy. The first makes
 * tokens count that the loss looks at; the second keeps rows in play that it does not, which the last
 * block's patches are, and keeps tokens with outputs a hundred times larger than others', as ViTs
 * have them, from counting alone.
 */
qvit_status qvitp_row_weights(struct qvitp_pool *pool, const struct qvitp_row_sides *r,
                              double floor, float *weight, qvit_error *error)
{
    double *by_gradient = qvitp_pool_alloc(pool, r->m, 2 * sizeof *by_gradient);
    if (!by_gradient) return qvitp_no_memory(error);
    double *by_energy = by_gradient + r->m, mean = 0;
    for (size_t i = 0; i < r->m; i++)
        mean += row_energy(r->value + i * r->width, r->width) / (double)r->m;
    for (size_t i = 0; i < r->m; i++) {
        double energy = row_energy(r->value + i * r->width, r->width);
        by_energy[i] = 1 / (energy + 1e-6 * mean + 1e-30);
        by_gradient[i] =
            r->gradient ? row_energy(r->gradient + i * r->gradient_width, r->gradient_width) : 0;
    }
    normalise(by_energy, r->m);
    normalise(by_gradient, r->m);
    if (!r->gradient) floor = 1;
    for (size_t i = 0; i < r->m; i++)
        weight[i] = (float)((1 - floor) * by_gradient[i] + floor * by_energy[i]);
    return QVIT_OK;
}

/* ---- scales ---- */

/* The scale of a block of weights whose rounding errors, each counted by the energy of its input, are
 * least: on a geometric grid down from the one that holds them all, around every zero point near its. */
struct rescale {
    const struct qvitp_settling *settling;
    const float *weight;
    const double *gram;
};

/* Rows [row, end), inputs [first, last). */
struct area {
    size_t row, end, first, last;
};

static double rounding_error(const struct rescale *r, const struct area *a,
                             const struct qvitp_coder *coder)
{
    const size_t k = r->settling->product->k;
    const float scale = coder->scale, lo = coder->lo, hi = coder->hi;
    double error = 0;
    for (size_t row = a->row; row < a->end; row++)
        for (size_t c = a->first; c < a->last; c++) {
            float w = r->weight[row * k + c], t = w / scale;
            t = (t + QVITP_ROUND_MAGIC) - QVITP_ROUND_MAGIC;
            t = t < lo ? lo : t > hi ? hi : t;
            double d = (double)(t * scale - w);
            error += d * d * r->gram[c * k + c];
        }
    return error;
}

/* The least error that a grid of scales reaches, down from where so many steps span the width. */
static double search_grid(const struct rescale *r, const struct area *a, struct qvitp_coder coder,
                          double width, double steps, float *best)
{
    enum { STEPS = 56 };
    const double ratio = 0.94;
    double least = INFINITY, factor = 1;
    *best = qvitp_scale_over(width, steps);
    for (int i = 0; i < STEPS; i++, factor *= ratio) {
        coder.scale = qvitp_scale_over(width * factor, steps);
        double error = rounding_error(r, a, &coder);
        if (error < least) least = error, *best = coder.scale;
    }
    return least;
}

static void set_symmetric(const struct rescale *r, const struct area *a, double top, size_t at)
{
    const struct qvitp_product *p = r->settling->product;
    search_grid(r, a, qvitp_right_coder(p, at), top, qvitp_symmetric_steps(p->bits), &p->scale[at]);
}

static void set_asymmetric(const struct rescale *r, const struct area *a, double lo, double hi,
                           size_t at)
{
    enum { NEAR = 1 };
    const struct qvitp_product *p = r->settling->product;
    const int32_t top = (1 << p->bits) - 1;
    int32_t zero, chosen;
    p->scale[at] = qvitp_asymmetric_scale(lo, hi, p->bits, 1, &zero);
    chosen = zero;
    double least = INFINITY;
    for (int32_t z = zero - NEAR; z <= zero + NEAR; z++) {
        float scale;
        if (z < 0 || z > top) continue;
        p->zero[at] = z;
        double error = search_grid(r, a, qvitp_right_coder(p, at), hi - lo, top, &scale);
        if (error < least) least = error, p->scale[at] = scale, chosen = z;
    }
    p->zero[at] = chosen;
}

static void set_scale(const struct rescale *r, const struct area *a, size_t at)
{
    const struct qvitp_product *p = r->settling->product;
    float lo = 0, hi = 0;
    for (size_t row = a->row; row < a->end; row++)
        for (size_t c = a->first; c < a->last; c++) {
            lo = fminf(lo, r->weight[row * p->k + c]);
            hi = fmaxf(hi, r->weight[row * p->k + c]);
        }
    if (p->zero)
        set_asymmetric(r, a, (double)lo, (double)hi, at);
    else
        set_symmetric(r, a, (double)fmaxf(-lo, hi), at);
}

/* All K-blocks of one share of the rows. */
static void rescale_share(void *argument, size_t share, size_t worker)
{
    (void)worker;
    const struct rescale *r = argument;
    const struct qvitp_product *p = r->settling->product;
    struct area a = {.row = qvitp_share(p->n, p->scales, share),
                     .end = qvitp_share(p->n, p->scales, share + 1)};
    for (size_t h = 0; h < qvitp_product_k_blocks(p); h++) {
        a.first = qvitp_product_k_begin(p, h), a.last = qvitp_product_k_begin(p, h + 1);
        set_scale(r, &a, h * p->scales + share);
    }
}

/* ---- the fit ---- */

struct fit {
    size_t m, n, k;
    float *input, *error; /* [m][k] what the codes of the input mean; [m][n] target - W input */
    float *weight;        /* [n][k] corrected */
    float *row_weight, *mean_input, *mean_error;
    double *gram, *cross;
};

static qvit_status reserve(const struct qvitp_settling *s, struct fit *f, qvit_error *error)
{
    f->m = s->product->piece->m, f->n = s->product->n, f->k = s->product->k;
    f->input = qvitp_pool_alloc(s->pool, f->m, f->k * sizeof *f->input);
    f->error = qvitp_pool_alloc(s->pool, f->m, f->n * sizeof *f->error);
    f->weight = qvitp_pool_alloc(s->pool, f->n, f->k * sizeof *f->weight);
    f->row_weight = qvitp_pool_alloc(s->pool, f->m, sizeof *f->row_weight);
    f->mean_input = qvitp_pool_alloc(s->pool, f->k, sizeof *f->mean_input);
    f->mean_error = qvitp_pool_alloc(s->pool, f->n, sizeof *f->mean_error);
    f->gram = qvitp_pool_alloc(s->pool, f->k, f->k * sizeof *f->gram);
    f->cross = qvitp_pool_alloc(s->pool, f->n, f->k * sizeof *f->cross);
    int ok = f->input && f->error && f->weight && f->row_weight && f->mean_input && f->mean_error &&
             f->gram && f->cross;
    return ok ? QVIT_OK : qvitp_no_memory(error);
}

/* One K-block of the inputs, as its codes mean them. */
static void decode_block(const struct qvitp_settling *s, struct fit *f, size_t h,
                         const uint8_t *codes)
{
    const struct qvitp_product *p = s->product;
    const struct qvitp_coder *coder = &s->coder[p->coder_of ? p->coder_of[h] : 0];
    size_t first = qvitp_product_k_begin(p, h), last = qvitp_product_k_begin(p, h + 1);
    int is_signed = coder->lo < 0;
    float meaning[256];
    for (int code = 0; code < 256; code++)
        meaning[code] = qvitp_coder_decode(coder, is_signed && code > 127 ? code - 256 : code);
    for (size_t i = 0; i < f->m; i++)
        for (size_t c = first; c < last; c++) f->input[i * f->k + c] = meaning[codes[i * f->k + c]];
}

/* The inputs as their codes mean them, and what the float weights leave of the target on them. */
static qvit_status set_inputs(const struct qvitp_settling *s, struct fit *f, qvit_error *error)
{
    const struct qvitp_piece *piece = s->product->piece;
    uint8_t *codes = qvitp_pool_alloc(s->pool, f->m, f->k);
    if (!codes) return qvitp_no_memory(error);
    qvitp_left_encode(s->engine, s->product, s->coder, f->m, piece->left, codes);
    for (size_t h = 0; h < qvitp_product_k_blocks(s->product); h++) decode_block(s, f, h, codes);
    QVITP_TRY(qvitp_float_product(s->engine, f->m, f->n, f->k, f->input, piece->right, 0, f->error,
                                  error));
    for (size_t i = 0; i < f->m * f->n; i++) f->error[i] = piece->target[i] - f->error[i];
    return QVIT_OK;
}

static qvit_status set_moments(const struct qvitp_settling *s, struct fit *f, qvit_error *error)
{
    const struct qvitp_piece *piece = s->product->piece;
    const struct qvitp_row_sides sides = {f->m, f->n, f->n, piece->target, piece->gradient};
    QVITP_TRY(qvitp_row_weights(s->pool, &sides, s->recipe->row_floor, f->row_weight, error));
    QVITP_TRY(
        qvitp_column_means(s->engine, f->m, f->k, f->input, f->row_weight, f->mean_input, error));
    QVITP_TRY(
        qvitp_column_means(s->engine, f->m, f->n, f->error, f->row_weight, f->mean_error, error));
    if (!s->recipe->correct) { /* the bias must stay: errors count as they are */
        memset(f->mean_input, 0, f->k * sizeof *f->mean_input);
        memset(f->mean_error, 0, f->n * sizeof *f->mean_error);
    }
    const struct qvitp_columns x = {f->k, f->input, f->mean_input};
    const struct qvitp_columns e = {f->n, f->error, f->mean_error};
    QVITP_TRY(qvitp_gram(s->engine, f->m, &x, f->row_weight, f->gram, error));
    return qvitp_cross(s->engine, f->m, &e, &x, f->row_weight, f->cross, error);
}

/* Scales that the parts of a layer share stay as they were found. */
static qvit_status set_scales(const struct qvitp_settling *s, struct fit *f, qvit_error *error)
{
    struct rescale r = {s, f->weight, f->gram};
    if (s->recipe->layer_weights) return QVIT_OK;
    return qvitp_parallel(&s->engine->executor, s->product->scales, rescale_share, &r, error);
}

/* The best bias for the codes: with it the weighted mean of the errors is 0. */
static void set_bias(const struct qvitp_settling *s, const struct fit *f,
                     const struct qvitp_rounding *rounding)
{
    const struct qvitp_product *p = s->product;
    for (size_t j = 0; j < f->n; j++) {
        double moved = 0;
        for (size_t c = 0; c < f->k; c++) {
            double q = (double)qvitp_rounding_scale(rounding, j, c) *
                       (double)(int8_t)s->codes[j * f->k + c];
            moved += (q - (double)p->piece->right[j * f->k + c]) * (double)f->mean_input[c];
        }
        s->bias[j] = (float)((double)s->bias[j] + (double)f->mean_error[j] - moved);
    }
}

/* The scales and zero points of all rows, [n][K-blocks], and the K-block of each input. */
static qvit_status spread_scales(const struct qvitp_settling *s, const struct fit *f,
                                 struct qvitp_rounding *rounding, qvit_error *error)
{
    const struct qvitp_product *p = s->product;
    const size_t blocks = qvitp_product_k_blocks(p);
    float *scale = qvitp_pool_alloc(s->pool, f->n, blocks * sizeof *scale);
    int32_t *zero = qvitp_pool_alloc(s->pool, f->n, blocks * sizeof *zero);
    uint32_t *block = qvitp_pool_alloc(s->pool, f->k, sizeof *block);
    if (!scale || !zero || !block) return qvitp_no_memory(error);
    for (size_t j = 0; j < f->n; j++)
        for (size_t h = 0; h < blocks; h++) {
            const size_t at = qvitp_product_at(p, h, j);
            scale[j * blocks + h] = p->scale[at];
            zero[j * blocks + h] = p->zero ? p->zero[at] : 0;
        }
    for (size_t h = 0; h < blocks; h++)
        for (size_t c = qvitp_product_k_begin(p, h); c < qvitp_product_k_begin(p, h + 1); c++)
            block[c] = (uint32_t)h;
    rounding->scale = scale;
    rounding->zero = p->zero ? zero : NULL;
    rounding->scale_stride = blocks;
    rounding->block = block;
    return QVIT_OK;
}

static qvit_status round_weights(const struct qvitp_settling *s, const struct fit *f,
                                 qvit_error *error)
{
    int8_t *codes = qvitp_pool_alloc(s->pool, f->n, f->k);
    if (!codes) return qvitp_no_memory(error);
    struct qvitp_rounding rounding = {.n = f->n,
                                      .k = f->k,
                                      .weight = f->weight,
                                      .bits = s->product->bits,
                                      .gram = f->gram,
                                      .damping = s->recipe->damping,
                                      .by_diagonal = 1,
                                      .passes = s->recipe->passes};
    QVITP_TRY(spread_scales(s, f, &rounding, error));
    QVITP_TRY(qvitp_round_weights(s->engine, &rounding, codes, NULL, error));
    memcpy(s->codes, codes, f->n * f->k);
    if (s->recipe->correct) set_bias(s, f, &rounding);
    return QVIT_OK;
}

qvit_status qvitp_weights_fit(const struct qvitp_settling *s, qvit_error *error)
{
    struct fit f = {0};
    QVITP_TRY(reserve(s, &f, error));
    QVITP_TRY(set_inputs(s, &f, error));
    QVITP_TRY(set_moments(s, &f, error));
    memcpy(f.weight, s->product->piece->right, f.n * f.k * sizeof *f.weight);
    if (s->recipe->ridge > 0)
        QVITP_TRY(qvitp_weight_correct(s->engine, f.n, f.k, f.weight, f.gram, f.cross,
                                       s->recipe->ridge, f.weight, error));
    QVITP_TRY(set_scales(s, &f, error));
    return round_weights(s, &f, error);
}
