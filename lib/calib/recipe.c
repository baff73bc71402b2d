/* recipe.c - named sets of choices, and the settings that change single ones. */
#include "calib/recipe.h"

#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/options.h"
#include "calib/partition.h"
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
     .low = 0.8,
     .high = 1.2,
     .candidates = 40,
     .rounds = 20,
     .correct = 1},
    {.name = "easyquant",
     .metric = &qvitp_metric_cosine,
     .percentile = 99.99,
     .low = 0.8,
     .high = 1.25,
     .candidates = 40,
     .rounds = 20,
     .inverse_grid = 1},
    {DEFAULTS, .name = "aciq", .range = QVITP_RANGE_ACIQ, .correct = 1},
    {DEFAULTS, .name = "best", .twin_softmax = 1, .equalize = 1, .equalize_gelu = 0.75,
     .channel_floor = 0.5, .gelu_floor = 0.7, .margin = 1, .headroom = 0.3, .center = 1, .gptq = 1,
     .correct = 1, .passes = 2, .ridge = 1, .in_order = 1},
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

/* ---- metrics ---- */

static const struct qvitp_metric *const metrics[] = {&qvitp_metric_mse, &qvitp_metric_cosine,
                                                     &qvitp_metric_pearson, &qvitp_metric_hessian,
                                                     &qvitp_metric_ranking};

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
 * that learn much behind the quantized prefix learn reluctantly, from all tokens. Weights of 4 bits have a
 * scale for every 64 inputs, which are put together so that they suit each other: 1.5 points and 9 % more
 * bytes than with a scale for a row.
 */
static void suit_widths(struct qvitp_recipe *r)
{
    if (r->weight_bits == 8 && r->input_bits == 8) {
        r->ridge = 10;
        r->twin_gelu = 1;
    }
    if (r->input_bits < 8) {
        r->relative = 1;
        r->margin = 0.5;
        r->headroom = 0.1;
        r->channel_floor = 0.4;
        r->gelu_floor = 0.5;
    }
    if (r->weight_bits < 6) {
        r->block_length = 64;
        r->reorder = QVITP_ORDER_CLUSTER;
    }
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
        r->twin_gelu = r->clip = r->value_channels = 1;
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
    uint32_t gradient = (r.metric && r.metric->gradient) || r.gptq ? QVIT_NEEDS_GRADIENT : 0;
    uint32_t many = r.gptq ? QVIT_NEEDS_MANY_ROWS : 0;
    return rows | gradient | many | (r.in_order ? QVIT_NEEDS_PREFIX : 0);
}

/* ---- settings ---- */

/* A plain decimal number, "0.5" or "100"; the locale has no say. 0 if it is none. */
static int parse_number(const char *text, double *out)
{
    double value = 0, unit = 1;
    size_t digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 15; text++, digits++)
        value = value * 10 + (*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, digits++) {
            if (digits >= 15) continue; /* beyond what a double tells apart */
            value = value * 10 + (*text - '0');
            unit *= 10;
        }
    *out = value / unit;
    return digits && !*text;
}

enum kind { REAL, WHOLE, CHOICE, TWINS, METRIC, REORDER };

/* Every setting: where it goes and what it may be. CHOICE: `yes` sets the field to 1, `no` to 0. */
static const struct setting {
    const char *key;
    enum kind kind;
    size_t offset;
    double least, most;
    const char *yes, *no;
} settings[] = {
    {"twin", TWINS, 0, 0, 0, NULL, NULL},
    {"input", CHOICE, offsetof(struct qvitp_recipe, symmetric_input), 0, 0, "symmetric",
     "asymmetric"},
    {"weights", CHOICE, offsetof(struct qvitp_recipe, layer_weights), 0, 0, "layer", "row"},
    {"percentile", REAL, offsetof(struct qvitp_recipe, percentile), 50, 100, NULL, NULL},
    {"low", REAL, offsetof(struct qvitp_recipe, low), 0.001, 10, NULL, NULL},
    {"high", REAL, offsetof(struct qvitp_recipe, high), 0.001, 10, NULL, NULL},
    {"metric", METRIC, 0, 0, 0, NULL, NULL},
    {"ratio", CHOICE, offsetof(struct qvitp_recipe, ratio_power), 0, 0, "power", "free"},
    {"grid", CHOICE, offsetof(struct qvitp_recipe, inverse_grid), 0, 0, "inverse", "linear"},
    {"channels", CHOICE, offsetof(struct qvitp_recipe, center), 0, 0, "centered", "as-is"},
    {"clip", CHOICE, offsetof(struct qvitp_recipe, clip), 0, 0, "channels", "none"},
    {"rounding", CHOICE, offsetof(struct qvitp_recipe, gptq), 0, 0, "gptq", "nearest"},
    {"probabilities", CHOICE, offsetof(struct qvitp_recipe, relative), 0, 0, "relative",
     "absolute"},
    {"values", CHOICE, offsetof(struct qvitp_recipe, value_channels), 0, 0, "channel", "head"},
    {"sensitivity", CHOICE, offsetof(struct qvitp_recipe, nuclear), 0, 0, "nuclear", "gradient"},
    {"order", CHOICE, offsetof(struct qvitp_recipe, in_order), 0, 0, "prefix", "any"},
    {"bias", CHOICE, offsetof(struct qvitp_recipe, correct), 0, 0, "corrected", "as-is"},
    {"candidates", WHOLE, offsetof(struct qvitp_recipe, candidates), 1, 10000, NULL, NULL},
    {"ridge", REAL, offsetof(struct qvitp_recipe, ridge), 0, 1000, NULL, NULL},
    {"damping", REAL, offsetof(struct qvitp_recipe, damping), 0, 1000, NULL, NULL},
    {"row-floor", REAL, offsetof(struct qvitp_recipe, row_floor), 0, 1, NULL, NULL},
    {"passes", WHOLE, offsetof(struct qvitp_recipe, passes), 0, 100, NULL, NULL},
    {"refine", WHOLE, offsetof(struct qvitp_recipe, refine), 0, 100, NULL, NULL},
    {"rounds", WHOLE, offsetof(struct qvitp_recipe, rounds), 1, 20, NULL, NULL},
    {"equalize-gelu", REAL, offsetof(struct qvitp_recipe, equalize_gelu), 0, 1, NULL, NULL},
    {"channel-floor", REAL, offsetof(struct qvitp_recipe, channel_floor), 0, 1, NULL, NULL},
    {"gelu-floor", REAL, offsetof(struct qvitp_recipe, gelu_floor), 0, 1, NULL, NULL},
    {"headroom", REAL, offsetof(struct qvitp_recipe, headroom), 0, 4, NULL, NULL},
    {"margin", REAL, offsetof(struct qvitp_recipe, margin), 0, 4, NULL, NULL},
    {"row-blocks", WHOLE, offsetof(struct qvitp_recipe, row_blocks), 0, 65536, NULL, NULL},
    {"column-blocks", WHOLE, offsetof(struct qvitp_recipe, column_blocks), 1, 65536, NULL, NULL},
    {"block-length", WHOLE, offsetof(struct qvitp_recipe, block_length), 0, 65536, NULL, NULL},
    {"chunks", WHOLE, offsetof(struct qvitp_recipe, chunks), 1, 65536, NULL, NULL},
    {"reorder", REORDER, 0, 0, 0, NULL, NULL},
    {"equalize", REAL, offsetof(struct qvitp_recipe, equalize), 0, 1, NULL, NULL},
};

static qvit_status set_number(const struct setting *s, const char *value, void *field,
                              qvit_error *error)
{
    double number;
    if (!parse_number(value, &number) || number < s->least || number > s->most ||
        (s->kind == WHOLE && number != (double)(int32_t)number))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting %s=%s: expected a %s from %g to %g",
                          s->key, value, s->kind == WHOLE ? "whole number" : "number", s->least,
                          s->most);
    if (s->kind == REAL) memcpy(field, &number, sizeof number);
    int32_t whole = (int32_t)number;
    if (s->kind == WHOLE) memcpy(field, &whole, sizeof whole);
    return QVIT_OK;
}

static qvit_status set_twins(const char *value, struct qvitp_recipe *r, qvit_error *error)
{
    int softmax = !strcmp(value, "softmax"), gelu = !strcmp(value, "gelu");
    int both = !strcmp(value, "softmax,gelu") || !strcmp(value, "gelu,softmax");
    if (!softmax && !gelu && !both && strcmp(value, "none") != 0)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                          "setting twin=%s: expected none, softmax, gelu or softmax,gelu", value);
    r->twin_softmax = softmax || both;
    r->twin_gelu = gelu || both;
    return QVIT_OK;
}

static qvit_status set_metric(const char *value, struct qvitp_recipe *r, qvit_error *error)
{
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        if (strcmp(metrics[i]->name, value) != 0) continue;
        r->metric = metrics[i];
        return QVIT_OK;
    }
    return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                      "setting metric=%s: expected mse, cosine, pearson, hessian or ranking",
                      value);
}

const char *const qvitp_reorder_names[] = {[QVITP_ORDER_NONE] = "none",
                                           [QVITP_ORDER_SORT] = "sort",
                                           [QVITP_ORDER_CLUSTER] = "cluster",
                                           [QVITP_ORDER_SEARCH] = "search"};

static qvit_status set_reorder(const char *value, struct qvitp_recipe *r, qvit_error *error)
{
    for (int32_t i = QVITP_ORDER_NONE; i <= QVITP_ORDER_SEARCH; i++) {
        if (strcmp(qvitp_reorder_names[i], value) != 0) continue;
        r->reorder = i;
        return QVIT_OK;
    }
    return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                      "setting reorder=%s: expected none, sort, cluster or search", value);
}

static qvit_status set_choice(const struct setting *s, const char *value, void *field,
                              qvit_error *error)
{
    int32_t yes = !strcmp(value, s->yes);
    if (!yes && strcmp(value, s->no) != 0)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting %s=%s: expected %s or %s", s->key,
                          value, s->yes, s->no);
    memcpy(field, &yes, sizeof yes);
    return QVIT_OK;
}

static qvit_status apply(const char *text, struct qvitp_recipe *r, qvit_error *error)
{
    if (!text) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "a setting is NULL");
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : 0;
    for (size_t i = 0; equals && i < sizeof settings / sizeof settings[0]; i++) {
        const struct setting *s = &settings[i];
        if (strlen(s->key) != length || strncmp(s->key, text, length) != 0) continue;
        if (s->kind == TWINS) return set_twins(equals + 1, r, error);
        if (s->kind == METRIC) return set_metric(equals + 1, r, error);
        if (s->kind == REORDER) return set_reorder(equals + 1, r, error);
        if (s->kind == CHOICE) return set_choice(s, equals + 1, (char *)r + s->offset, error);
        return set_number(s, equals + 1, (char *)r + s->offset, error);
    }
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown setting \"%s\"", text);
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
    for (size_t s = 0; s < o->setting_count; s++) QVITP_TRY(apply(o->settings[s], r, error));
    if (r->block_length % QVITP_CUT_UNIT)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting block-length=%d: no multiple of %d",
                          (int)r->block_length, QVITP_CUT_UNIT);
    if (r->low <= r->high) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting low=%g is above high=%g", r->low, r->high);
}
