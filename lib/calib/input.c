/* input.c - the quantizer of the input that linear sites share: channels, range, clipping. */
#include "calib/input.h"

#include <math.h>

#include "base/error.h"
#include "calib/clip.h"
#include "calib/weights.h"

struct choice {
    const struct qvitp_solving *solving;
    struct qvitp_pool *pool;
    struct qvitp_site *const *sites;
    size_t count, inputs;
    float *first_lo, *first_hi; /* [inputs] of the class tokens, stretched; NULL: not looked at */
    struct qvitp_input *out;
};

enum qvitp_part qvitp_input_part(const struct qvitp_solving *solving, const struct qvitp_site *s)
{
    enum qvitp_stream stream = qvitp_solve_stream(solving, s, QVITP_STREAM_INPUT);
    return stream == QVITP_STREAM_INPUT ? QVITP_PART_INPUT : QVITP_PART_INPUT_QUANTIZED;
}

/* Whether the producer of the input can apply scales and shifts. */
static int has_channels(const struct choice *g)
{
    const struct qvitp_recipe *r = &g->solving->recipe;
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->sites[i];
        if (s->kind == QVIT_INPUT_IMAGE) return 0;
        if (s->kind != QVIT_INPUT_LAYER_NORM && s->producer == SIZE_MAX) return 0;
    }
    return r->equalize > 0 || r->equalize_gelu > 0 || r->center;
}

/* The range of channel c over all sites of the group. */
static void channel_range(const struct choice *g, size_t c, float *lo, float *hi)
{
    *lo = *hi = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->sites[i];
        float low, high;
        qvitp_stats_range(&s->stats[qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT)], c, &low,
                          &high);
        *lo = i ? fminf(*lo, low) : low;
        *hi = i ? fmaxf(*hi, high) : high;
    }
    const float seen = *lo;
    double half = ((double)*hi - (double)*lo) / 2 * g->solving->recipe.headroom;
    *lo -= (float)half;
    *hi += (float)half;
    if (g->first_lo) {
        *lo = fminf(*lo, g->first_lo[c]);
        *hi = fmaxf(*hi, g->first_hi[c]);
    }
    /* Room is for what may be; GELU's negative end is known. */
    if (g->sites[0]->kind == QVIT_INPUT_GELU)
        *lo = fmaxf(*lo, fminf(seen, -(float)QVITP_GELU_LOWEST));
}

/* Widens the ranges of the class tokens, the first rows, by those of one more site; `seen` and what is
 * returned: how many they are of. */
static size_t add_first_rows(struct choice *g, const struct qvitp_site *s, size_t seen)
{
    enum qvitp_part part = qvitp_input_part(g->solving, s);
    for (size_t i = 0; i < s->rows.count; i++) {
        const struct qvitp_sample_row *row = &s->rows.rows[i];
        if (row->key.row || !(row->parts >> part & 1)) continue;
        const float *x = qvitp_sample_part(&s->rows, row, part);
        for (size_t c = 0; c < g->inputs; c++) {
            g->first_lo[c] = seen ? fminf(g->first_lo[c], x[c]) : x[c];
            g->first_hi[c] = seen ? fmaxf(g->first_hi[c], x[c]) : x[c];
        }
        seen++;
    }
    return seen;
}

/*
 * Of class tokens there is one in each image, too few to have shown how far they go, and what the model
 * answers is read from them. The largest of n values with exponential tails grows as ln n: what n images
 * showed is stretched about its middle to what MANY would.
 */
static qvit_status set_first_rows(struct choice *g, qvit_error *error)
{
    const double many = 1024, strength = g->solving->recipe.margin;
    if (strength <= 0 || g->out->span.fixed) return QVIT_OK;
    g->first_lo = qvitp_pool_alloc(g->pool, g->inputs, 2 * sizeof *g->first_lo);
    if (!g->first_lo) return qvitp_no_memory(error);
    g->first_hi = g->first_lo + g->inputs;
    size_t seen = 0;
    for (size_t i = 0; i < g->count; i++) seen = add_first_rows(g, g->sites[i], seen);
    double stretch = seen ? fmax(log(many) / log((double)seen + 1), 1) : 1;
    stretch = 1 + (stretch - 1) * strength;
    for (size_t c = 0; c < g->inputs; c++) {
        double middle = ((double)g->first_lo[c] + (double)g->first_hi[c]) / 2;
        double half = ((double)g->first_hi[c] - (double)g->first_lo[c]) / 2 * stretch;
        g->first_lo[c] = (float)(middle - half);
        g->first_hi[c] = (float)(middle + half);
    }
    return QVIT_OK;
}

/* By the kept rows of the first site: the others of a tie read the same. */
static qvit_status clip_channels(struct choice *g, qvit_error *error)
{
    const struct qvitp_sample *rows = &g->sites[0]->rows;
    enum qvitp_part input = qvitp_input_part(g->solving, g->sites[0]);
    uint32_t plain = 1u << input, judged = plain | 1u << QVITP_PART_GRADIENT;
    size_t *order = qvitp_pool_alloc(g->pool, rows->count, sizeof *order);
    if (!order) return qvitp_no_memory(error);
    size_t count = qvitp_sample_order(rows, plain, order);
    int has_gradient = count && qvitp_recipe_needs_gradient(&g->solving->recipe) &&
                       qvitp_sample_order(rows, judged, order) == count;
    if (!count) return QVIT_OK;
    if (!has_gradient) qvitp_sample_order(rows, plain, order);
    float *x = qvitp_solve_gather(g->pool, rows, order, count, input), *gradient = NULL;
    float *weight = qvitp_pool_alloc(g->pool, count, sizeof *weight);
    if (has_gradient)
        gradient = qvitp_solve_gather(g->pool, rows, order, count, QVITP_PART_GRADIENT);
    if (!x || !weight || (has_gradient && !gradient)) return qvitp_no_memory(error);
    const struct qvitp_row_sides sides = {count, g->inputs, rows->width[QVITP_PART_GRADIENT], x,
                                          gradient};
    QVITP_TRY(qvitp_row_weights(g->pool, &sides, g->solving->recipe.row_floor, weight, error));
    return qvitp_clip_channels(g->solving->engine, count, g->inputs, x, weight, g->out->span.bits,
                               g->out->channels.lo, g->out->channels.hi, error);
}

static qvit_status set_channels(struct choice *g, qvit_scheme scheme, qvit_error *error)
{
    struct qvitp_channels *c = &g->out->channels;
    struct qvitp_recipe recipe = g->solving->recipe;
    /* The 0 of other schemes must stay 0. GELU's and attention's outputs are lopsided: there the
     * middle of the range is far from where the values are. */
    if (scheme != QVIT_SCHEME_ASYMMETRIC ||
        (g->sites[0]->kind != QVIT_INPUT_LAYER_NORM && !recipe.clip))
        recipe.center = 0;
    if (g->sites[0]->kind == QVIT_INPUT_GELU && recipe.equalize_gelu > 0)
        recipe.equalize = recipe.equalize_gelu, recipe.channel_floor = recipe.gelu_floor;
    c->count = g->inputs;
    c->lo = qvitp_pool_alloc(g->pool, g->inputs, sizeof *c->lo);
    c->hi = qvitp_pool_alloc(g->pool, g->inputs, sizeof *c->hi);
    if (!c->lo || !c->hi) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->inputs; i++) {
        channel_range(g, i, &c->lo[i], &c->hi[i]);
        if (recipe.center) continue;
        c->lo[i] = fminf(c->lo[i], 0);
        c->hi[i] = fmaxf(c->hi[i], 0);
    }
    if (recipe.clip && recipe.center) QVITP_TRY(clip_channels(g, error));
    return qvitp_channels_choose(c, &recipe, g->pool, error);
}

/* The range of each channel, as the producer writes it. */
static qvit_status set_ranges(struct choice *g, qvit_error *error)
{
    const struct qvitp_channels *c = &g->out->channels;
    float *lo = qvitp_pool_alloc(g->pool, g->inputs, 2 * sizeof *lo), *hi = lo + g->inputs;
    if (!lo) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->inputs; i++) {
        if (!c->count) {
            channel_range(g, i, &lo[i], &hi[i]);
            continue;
        }
        lo[i] = qvitp_channel_apply(c, i, c->lo[i]);
        hi[i] = qvitp_channel_apply(c, i, c->hi[i]);
    }
    g->out->lo = lo;
    g->out->hi = hi;
    return QVIT_OK;
}

static void set_span(struct choice *g)
{
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *first = g->sites[0];
    struct qvitp_channels *channels = &g->out->channels;
    if (g->out->span.fixed) {
        g->out->span.hi = 255; /* so that the scale of an image is 1 */
    } else if (channels->count) {
        for (size_t c = 0; c < channels->count; c++) {
            g->out->span.lo =
                fminf(g->out->span.lo, qvitp_channel_apply(channels, c, channels->lo[c]));
            g->out->span.hi =
                fmaxf(g->out->span.hi, qvitp_channel_apply(channels, c, channels->hi[c]));
        }
    } else {
        for (size_t i = 0; i < g->count; i++) {
            const struct qvitp_site *s = g->sites[i];
            enum qvitp_stream stream = qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT);
            qvitp_solve_range(recipe, g->out->span.bits, s, stream, 0, 0, g->inputs,
                              &g->out->span.lo, &g->out->span.hi);
        }
        for (size_t c = 0; g->first_lo && c < g->inputs; c++) {
            g->out->span.lo = fminf(g->out->span.lo, g->first_lo[c]);
            g->out->span.hi = fmaxf(g->out->span.hi, g->first_hi[c]);
        }
    }
    if (g->out->span.lo == g->out->span.hi)
        qvitp_log(g->solving->engine, QVIT_LOG_WARNING, "%s: the input was always 0", first->label);
    g->out->coder = qvitp_span_coder(&g->out->span, 1);
}

/* Chunks would have zero points of their own, and sums of so many joined products must fit an int32. */
static int may_be_uneven(const struct qvitp_recipe *recipe, const struct qvitp_site *site)
{
    const size_t most = (size_t)(255 * 128) * (size_t)(recipe->uneven + 1);
    return recipe->chunks <= 1 && site->inputs <= INT32_MAX / most;
}

qvit_status qvitp_input_choose(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, struct qvitp_pool *pool, struct qvitp_input *out,
                               qvit_error *error)
{
    struct choice choice = {solving, pool, sites, count, sites[0]->inputs, NULL, NULL, out},
                  *g = &choice;
    const struct qvitp_recipe *recipe = &g->solving->recipe;
    const struct qvitp_site *first = g->sites[0];
    int image = first->kind == QVIT_INPUT_IMAGE;
    g->out->span =
        (struct qvitp_span){.scheme = qvitp_left_scheme(recipe, first->type, first->kind),
                            .bits = image ? 8 : recipe->input_bits,
                            .ratio = recipe->ratio,
                            .uneven = may_be_uneven(recipe, first) ? recipe->uneven : 0,
                            .fixed = image};
    QVITP_TRY(set_first_rows(g, error));
    if (has_channels(g)) QVITP_TRY(set_channels(g, g->out->span.scheme, error));
    set_span(g);
    if (qvitp_recipe_cuts(recipe)) QVITP_TRY(set_ranges(g, error));
    if (!isfinite(g->out->span.lo) || !isfinite(g->out->span.hi))
        return qvitp_fail(error, QVIT_ERR_VALUE, "the range of the scaled input is not finite");
    return QVIT_OK;
}
