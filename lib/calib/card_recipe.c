/* card_recipe.c - what sites were solved with, in the words of the settings of solving. */
#include <string.h>

#include "calib/card.h"
#include "calib/result.h"
#include "calib/setting.h"

int qvitp_card_same_recipe(const qvit_result *a, const qvit_result *b)
{
    const struct qvitp_recipe *one = &a->recipe, *other = &b->recipe;
    if (strcmp(one->name, other->name) != 0 || one->range != other->range ||
        one->metric != other->metric || one->reorder != other->reorder ||
        one->twin_softmax != other->twin_softmax || one->twin_gelu != other->twin_gelu ||
        one->weight_bits != other->weight_bits || one->input_bits != other->input_bits ||
        a->use_quantized != b->use_quantized)
        return 0;
    for (size_t i = 0; i < qvitp_setting_count; i++) {
        const struct qvitp_setting *s = &qvitp_settings[i];
        if (s->kind > QVITP_SETTING_CHOICE) continue; /* compared above */
        if (qvitp_setting_value(s, one) != qvitp_setting_value(s, other)) return 0;
    }
    return 1;
}

/* Keys of JSON have underscores where those of settings have dashes. */
static void write_key(struct qvitp_json *j, const char *key)
{
    char name[32];
    size_t i = 0;
    for (; key[i] && i < sizeof name - 1; i++) name[i] = (char)(key[i] == '-' ? '_' : key[i]);
    name[i] = 0;
    qvitp_json_key(j, name);
}

static void write_twins(struct qvitp_json *j, const struct qvitp_recipe *recipe)
{
    qvitp_json_text(j, "twin_softmax", recipe->twin_softmax ? "yes" : "no");
    qvitp_json_text(j, "twin_gelu", recipe->twin_gelu ? "yes" : "no");
}

static void write_setting(struct qvitp_json *j, const struct qvitp_setting *s,
                          const struct qvitp_recipe *recipe)
{
    if (s->kind == QVITP_SETTING_TWINS) {
        write_twins(j, recipe);
        return;
    }
    write_key(j, s->key);
    if (s->kind == QVITP_SETTING_METRIC)
        qvitp_json_string(j, recipe->metric ? recipe->metric->name : "none");
    else if (s->kind == QVITP_SETTING_CHOICE)
        qvitp_json_string(j, s->words[(size_t)qvitp_setting_value(s, recipe)]);
    else
        qvitp_json_number(j, qvitp_setting_value(s, recipe));
}

void qvitp_card_recipe(struct qvitp_json *j, const qvit_result *result)
{
    static const char *const ranges[] = {[QVITP_RANGE_MINMAX] = "minmax",
                                         [QVITP_RANGE_PERCENTILE] = "percentile",
                                         [QVITP_RANGE_ACIQ] = "aciq"};
    const struct qvitp_recipe *recipe = &result->recipe;
    qvitp_json_text(j, "recipe", recipe->name);
    qvitp_json_text(j, "range", ranges[recipe->range]);
    qvitp_json_whole(j, "weight_bits", recipe->weight_bits);
    qvitp_json_whole(j, "input_bits", recipe->input_bits);
    for (size_t i = 0; i < qvitp_setting_count; i++) write_setting(j, &qvitp_settings[i], recipe);
    qvitp_json_flag(j, "use_quantized", result->use_quantized);
}
