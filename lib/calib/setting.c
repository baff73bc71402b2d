/* setting.c - what changes single choices of a recipe. */
#include "calib/setting.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "calib/partition.h"

static const struct qvitp_metric *const metrics[] = {&qvitp_metric_mse, &qvitp_metric_cosine,
                                                     &qvitp_metric_pearson, &qvitp_metric_hessian,
                                                     &qvitp_metric_ranking};

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

#define FIELD(name) offsetof(struct qvitp_recipe, name)
#define REAL(key, name, least, most)                                                               \
    {                                                                                              \
        key, QVITP_SETTING_REAL, FIELD(name), least, most, { NULL }                                \
    }
#define WHOLE(key, name, least, most)                                                              \
    {                                                                                              \
        key, QVITP_SETTING_WHOLE, FIELD(name), least, most, { NULL }                               \
    }
#define CHOICE(key, name, ...)                                                                     \
    {                                                                                              \
        key, QVITP_SETTING_CHOICE, FIELD(name), 0, 0, { __VA_ARGS__ }                              \
    }
#define OTHER(key, kind)                                                                           \
    {                                                                                              \
        key, kind, 0, 0, 0, { NULL }                                                               \
    }
/* The words of a choice stand in the order of the field's values: of ratio QVITP_RATIO_*, of reorder
 * QVITP_ORDER_*, else 0 and 1. */
_Static_assert(QVITP_RATIO_LOW == 1 && QVITP_RATIO_HIGH == 2 && QVITP_RATIO_WHOLE == 3,
               "as the words of ratio");
_Static_assert(QVITP_ORDER_SORT == 1 && QVITP_ORDER_CLUSTER == 2 && QVITP_ORDER_SEARCH == 3,
               "as the words of reorder");
const struct qvitp_setting qvitp_settings[] = {
    OTHER("metric", QVITP_SETTING_METRIC),
    OTHER("twin", QVITP_SETTING_TWINS),
    CHOICE("ratio", ratio, "free", "low", "high", "whole"),
    WHOLE("uneven", uneven, 0, 64),
    CHOICE("input", symmetric_input, "asymmetric", "symmetric"),
    CHOICE("weights", layer_weights, "row", "layer"),
    CHOICE("weight-codes", asymmetric_weights, "symmetric", "asymmetric"),
    WHOLE("row-blocks", row_blocks, 0, 65536),
    WHOLE("column-blocks", column_blocks, 1, 65536),
    WHOLE("block-length", block_length, 0, 65536),
    WHOLE("chunks", chunks, 1, 65536),
    CHOICE("reorder", reorder, "none", "sort", "cluster", "search"),
    REAL("percentile", percentile, 50, 100),
    REAL("low", low, 0.001, 10),
    REAL("high", high, 0.001, 10),
    WHOLE("candidates", candidates, 1, 10000),
    CHOICE("grid", inverse_grid, "linear", "inverse"),
    WHOLE("refine", refine, 0, 100),
    WHOLE("rounds", rounds, 1, 20),
    REAL("equalize", equalize, 0, 1),
    REAL("equalize-gelu", equalize_gelu, 0, 1),
    REAL("channel-floor", channel_floor, 0, 1),
    REAL("gelu-floor", gelu_floor, 0, 1),
    CHOICE("channels", center, "as-is", "centered"),
    CHOICE("clip", clip, "none", "channels"),
    CHOICE("probabilities", relative, "absolute", "relative"),
    CHOICE("values", value_channels, "head", "channel"),
    REAL("margin", margin, 0, 4),
    REAL("headroom", headroom, 0, 4),
    CHOICE("rounding", gptq, "nearest", "gptq"),
    REAL("damping", damping, 0, 1000),
    WHOLE("passes", passes, 0, 100),
    REAL("ridge", ridge, 0, 1000),
    REAL("row-floor", row_floor, 0, 1),
    CHOICE("bias", correct, "as-is", "corrected"),
    CHOICE("sensitivity", nuclear, "gradient", "nuclear"),
    CHOICE("order", in_order, "any", "prefix"),
};
#undef FIELD
#undef REAL
#undef WHOLE
#undef CHOICE
#undef OTHER
const size_t qvitp_setting_count = sizeof qvitp_settings / sizeof qvitp_settings[0];

static qvit_status set_number(const struct qvitp_setting *s, const char *value, void *field,
                              qvit_error *error)
{
    double number;
    if (!parse_number(value, &number) || number < s->least || number > s->most ||
        (s->kind == QVITP_SETTING_WHOLE && number != (double)(int32_t)number))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting %s=%s: expected a %s from %g to %g",
                          s->key, value, s->kind == QVITP_SETTING_WHOLE ? "whole number" : "number",
                          s->least, s->most);
    if (s->kind == QVITP_SETTING_REAL) memcpy(field, &number, sizeof number);
    int32_t whole = (int32_t)number;
    if (s->kind == QVITP_SETTING_WHOLE) memcpy(field, &whole, sizeof whole);
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

static qvit_status set_choice(const struct qvitp_setting *s, const char *value, void *field,
                              qvit_error *error)
{
    char words[60] = "";
    for (int32_t i = 0; s->words[i]; i++) {
        size_t end = strlen(words);
        snprintf(words + end, sizeof words - end, "%s%s", i ? " or " : "", s->words[i]);
        if (strcmp(s->words[i], value) != 0) continue;
        memcpy(field, &i, sizeof i);
        return QVIT_OK;
    }
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting %s=%s: expected %s", s->key, value, words);
}

double qvitp_setting_value(const struct qvitp_setting *setting, const struct qvitp_recipe *recipe)
{
    const char *field = (const char *)recipe + setting->offset;
    double real;
    int32_t whole;
    if (setting->kind != QVITP_SETTING_REAL) {
        memcpy(&whole, field, sizeof whole);
        return whole;
    }
    memcpy(&real, field, sizeof real);
    return real;
}

qvit_status qvitp_setting_apply(const char *text, struct qvitp_recipe *r, qvit_error *error)
{
    if (!text) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "a setting is NULL");
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : 0;
    for (size_t i = 0; equals && i < qvitp_setting_count; i++) {
        const struct qvitp_setting *s = &qvitp_settings[i];
        if (strlen(s->key) != length || strncmp(s->key, text, length) != 0) continue;
        if (s->kind == QVITP_SETTING_TWINS) return set_twins(equals + 1, r, error);
        if (s->kind == QVITP_SETTING_METRIC) return set_metric(equals + 1, r, error);
        if (s->kind == QVITP_SETTING_CHOICE)
            return set_choice(s, equals + 1, (char *)r + s->offset, error);
        return set_number(s, equals + 1, (char *)r + s->offset, error);
    }
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown setting \"%s\"", text);
}
