/* recipe.c - named sets of choices. */
#include "calib/recipe.h"

#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/options.h"
#include "calib/partition.h"
#include "calib/setting.h"
#include "calib/trial.h"

/* What a recipe does not say: the grid of Base PTQ, and no search to use it. */
#define DEFAULTS                                                                                   \
    .percentile = 99.99, .low = 0.5, .high = 1.2, .candidates = 100, .rounds = 1, .damping = 0.01, \
    .row_floor = 0.1

static const struct qvitp_recipe recipes[] = {
    {DEFAULTS, .name = "minmax"},
    {DEFAULTS, .name = "percentile", .range = QVITP_RANGE_PERCENTILE},
    {DEFAULTS, .name = "mse", .metric = &qvitp_metric_mse},
    {DEFAULTS, .name = "cosine", .metric = &qvitp_metric_cosine},
    {.name = "ptq4vit",
     .metric = &qvitp_metric_hessian,
     .percentile = 99.99,
     .row_floor = 0.1,
     .low = 0.3,
     .high = 1.2,
     .candidates = 100,
     .rounds = 3,
     .twin_softmax = 1,
     .twin_gelu = 1,
     .symmetric_input = 1,
     .layer_weights = 1},
    {.name = "ptq4vit-fast",
     .metric = &qvitp_metric_hessian,
     .percentile = 99.99,
     .row_floor = 0.1,
     .low = 0.3,
     .high = 1.2,
     .candidates = 16,
     .refine = 6,
     .rounds = 2,
     .twin_softmax = 1,
     .twin_gelu = 1,
     .symmetric_input = 1,
     .layer_weights = 1},
    {.name = "liu2021",
     .metric = &qvitp_metric_ranking,
     .percentile = 99.99,
     .row_floor = 0.1,
     .low = 0.8,
     .high = 1.2,
     .candidates = 40,
     .rounds = 20,
     .correct = 1},
    {.name = "easyquant",
     .metric = &qvitp_metric_cosine,
     .percentile = 99.99,
     .row_floor = 0.1,
     .low = 0.8,
     .high = 1.25,
     .candidates = 40,
     .rounds = 20,
     .inverse_grid = 1,
     .in_order = 1},
    {DEFAULTS, .name = "aciq", .range = QVITP_RANGE_ACIQ, .correct = 1},
    {DEFAULTS, .name = "best", .twin_softmax = 1, .uneven = 8, .equalize = 1, .equalize_gelu = 0.75,
     .channel_floor = 0.5, .gelu_floor = 0.7, .margin = 1, .headroom = 0.3, .center = 1, .gptq = 1,
     .correct = 1, .passes = 2, .ridge = 1, .in_order = 1, .block_length = 64,
     .reorder = QVITP_ORDER_CLUSTER},
    {.name = "ptq-sl",
     .metric = &qvitp_metric_hessian,
     .percentile = 99.99,
     .low = 0.4,
     .high = 1.2,
     .candidates = 16,
     .refine = 6,
     .rounds = 2,
     .damping = 0.01,
     .row_floor = 0.1,
     .twin_softmax = 1,
     .row_blocks = 4,
     .column_blocks = 4,
     .reorder = QVITP_ORDER_CLUSTER},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

const char *qvit_recipe_name(size_t index) { return index < RECIPES ? recipes[index].name : NULL; }

/* Ranking is for the scores of attention; Liu et al. judge everything else by correlation alone. */
const struct qvitp_metric *qvitp_recipe_metric(const struct qvitp_recipe *r, qvit_site_type type,
                                               qvit_input_kind kind)
{
    int scores = type == QVIT_SITE_MATMUL && kind == QVIT_INPUT_GENERIC;
    return r->metric == &qvitp_metric_ranking && !scores ? &qvitp_metric_pearson : r->metric;
}

int qvitp_recipe_needs_rows(const struct qvitp_recipe *r)
{
    return r->metric || r->gptq || r->correct || r->relative;
}

int qvitp_recipe_needs_gradient(const struct qvitp_recipe *r)
{
    return (r->metric && r->metric->gradient) || r->gptq;
}

void qvitp_recipe_use_ranges(struct qvitp_recipe *r)
{
    r->metric = NULL;
    r->gptq = r->correct = r->relative = 0;
}

/*
 * What of `best` depends on the widths, as measured on a ViT-Tiny whose few channels are far larger than
 * the rest (the README has the numbers). Wide codes can afford room for what calibration did not show;
 * with 4 bits tails are clipped, channel by channel, and searches decide, but not on more than half of a
 * range: a loss that 32 images measure would clip further than others bear. For the same reason weights
 * learn reluctantly to make up for the quantized prefix, with 4 bits from all tokens, and the less the
 * less there is to make up for. Twins for GELU, their codes shared unevenly, are worth two decibels with 8
 * bits and one and a half with 6; where weights have 4 bits and inputs more, the weights decide. A zero
 * point for each block of inputs takes a decibel off the noise of weights of 4 bits, and loses two points
 * of top-1 where inputs have 4, too.
 */
static void suit_widths(struct qvitp_recipe *r)
{
    r->twin_gelu = r->weight_bits >= 6 || r->input_bits < 6;
    if (r->weight_bits >= 6 && r->input_bits == 8) r->ridge = r->weight_bits == 8 ? 100 : 10;
    if (r->input_bits < 8) {
        r->ridge = 5;
        r->relative = 1;
        r->margin = 0.5;
        r->headroom = 0.1;
        r->channel_floor = 0.4;
        r->gelu_floor = 0.5;
    }
    /* of 5 bits they would take a byte */
    r->asymmetric_weights = r->weight_bits <= 4 && r->input_bits >= 6;
    if (r->weight_bits < 6 || r->input_bits < 6) {
        r->ridge = 3;
        r->damping = 0.3;
        r->row_floor = 0.5;
    }
    if (r->input_bits < 6) {
        r->margin = r->headroom = 0;
        r->equalize = 0.75;
        r->channel_floor = 0.5;
        r->gelu_floor = 0.8;
        r->clip = r->value_channels = 1;
        r->metric = &qvitp_metric_hessian;
        r->candidates = 16;
        r->refine = 6;
    } else if (r->weight_bits < 6) {
        r->equalize = r->equalize_gelu = 0.5;
    }
}

uint32_t qvit_recipe_needs(const qvit_solve_options *options)
{
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    struct qvitp_recipe r;
    if (options && QVITP_READ(&o, options, NULL) != QVIT_OK) return 0;
    if (qvitp_recipe_read(&o, &r, NULL) != QVIT_OK) return 0;
    uint32_t rows = qvitp_recipe_needs_rows(&r) ? QVIT_NEEDS_ROWS : 0;
    uint32_t gradient = qvitp_recipe_needs_gradient(&r) ? QVIT_NEEDS_GRADIENT : 0;
    uint32_t many = r.gptq ? QVIT_NEEDS_MANY_ROWS : 0;
    return rows | gradient | many | (r.in_order ? QVIT_NEEDS_PREFIX : 0);
}

static qvit_status read_bits(int32_t bits, const char *name, int32_t *out, qvit_error *error)
{
    if (bits && (bits < 2 || bits > 8))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: %d, not 2 to 8", name, (int)bits);
    *out = bits ? bits : 8;
    return QVIT_OK;
}

qvit_status qvitp_recipe_read(const qvit_solve_options *o, struct qvitp_recipe *r,
                              qvit_error *error)
{
    const char *name = o->recipe ? o->recipe : recipes[0].name;
    size_t i = 0;
    while (i < RECIPES && strcmp(recipes[i].name, name) != 0) i++;
    if (i == RECIPES) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown recipe \"%s\"", name);
    *r = recipes[i];
    QVITP_TRY(read_bits(o->weight_bits, "weight_bits", &r->weight_bits, error));
    QVITP_TRY(read_bits(o->input_bits, "input_bits", &r->input_bits, error));
    if (!strcmp(name, "best")) suit_widths(r);
    if (o->setting_count && !o->settings)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "settings is NULL");
    for (size_t s = 0; s < o->setting_count; s++)
        QVITP_TRY(qvitp_setting_apply(o->settings[s], r, error));
    if (r->block_length % QVITP_CUT_UNIT)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting block-length=%d: no multiple of %d",
                          (int)r->block_length, QVITP_CUT_UNIT);
    if (r->low <= r->high) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting low=%g is above high=%g", r->low, r->high);
}
