/* recipe.c - named sets of choices, and the settings that change single ones. */
#include "calib/recipe.h"

#include <stddef.h>
#include <string.h>

#include "base/error.h"

static const struct qvitp_recipe recipes[] = {
    {.name = "minmax", .range = QVITP_RANGE_MINMAX},
    {.name = "percentile", .range = QVITP_RANGE_PERCENTILE},
    {.name = "mse", .range = QVITP_RANGE_MINMAX, .metric = &qvitp_metric_mse},
    {.name = "cosine", .range = QVITP_RANGE_MINMAX, .metric = &qvitp_metric_cosine},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

const char *qvit_recipe_name(size_t index) { return index < RECIPES ? recipes[index].name : NULL; }

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

enum kind { REAL, WHOLE, CHOICE, TWINS };

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
    {"candidates", WHOLE, offsetof(struct qvitp_recipe, candidates), 1, 10000, NULL, NULL},
    {"rounds", WHOLE, offsetof(struct qvitp_recipe, rounds), 1, 10, NULL, NULL},
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
    r->percentile = 99.99, r->low = 0.5, r->high = 1.2, r->candidates = 100, r->rounds = 1;
    QVITP_TRY(read_bits(o->weight_bits, "weight_bits", &r->weight_bits, error));
    QVITP_TRY(read_bits(o->input_bits, "input_bits", &r->input_bits, error));
    if (o->setting_count && !o->settings)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "settings is NULL");
    for (size_t s = 0; s < o->setting_count; s++) QVITP_TRY(apply(o->settings[s], r, error));
    if (r->low <= r->high) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "setting low=%g is above high=%g", r->low, r->high);
}
