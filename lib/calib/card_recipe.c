/* card_recipe.c - what sites were solved with, in the words of the settings of solving. */
#include <stddef.h>
#include <string.h>

#include "calib/card.h"
#include "calib/result.h"

enum kind { WHOLE, REAL, CHOICE, REORDER };

/* A CHOICE is the first word where the field is 0, the second one else. */
static const struct field {
    const char *key;
    enum kind kind;
    size_t offset;
    const char *no, *yes;
} fields[] = {
#define FIELD(key, kind, name)                                                                     \
    {                                                                                              \
        key, kind, offsetof(struct qvitp_recipe, name), NULL, NULL                                 \
    }
#define WORDS(key, name, no, yes)                                                                  \
    {                                                                                              \
        key, CHOICE, offsetof(struct qvitp_recipe, name), no, yes                                  \
    }
    FIELD("weight_bits", WHOLE, weight_bits),
    FIELD("input_bits", WHOLE, input_bits),
    FIELD("percentile", REAL, percentile),
    WORDS("twin_softmax", twin_softmax, "no", "yes"),
    WORDS("twin_gelu", twin_gelu, "no", "yes"),
    WORDS("ratio", ratio_power, "free", "power"),
    WORDS("input", symmetric_input, "asymmetric", "symmetric"),
    WORDS("weights", layer_weights, "row", "layer"),
    WORDS("grid", inverse_grid, "linear", "inverse"),
    FIELD("low", REAL, low),
    FIELD("high", REAL, high),
    FIELD("candidates", WHOLE, candidates),
    FIELD("refine", WHOLE, refine),
    FIELD("rounds", WHOLE, rounds),
    FIELD("equalize", REAL, equalize),
    FIELD("equalize_gelu", REAL, equalize_gelu),
    FIELD("channel_floor", REAL, channel_floor),
    FIELD("gelu_floor", REAL, gelu_floor),
    FIELD("margin", REAL, margin),
    FIELD("headroom", REAL, headroom),
    WORDS("channels", center, "as-is", "centered"),
    WORDS("rounding", gptq, "nearest", "gptq"),
    FIELD("damping", REAL, damping),
    FIELD("row_floor", REAL, row_floor),
    FIELD("ridge", REAL, ridge),
    FIELD("passes", WHOLE, passes),
    WORDS("bias", correct, "as-is", "corrected"),
    WORDS("order", in_order, "any", "prefix"),
    WORDS("sensitivity", nuclear, "gradient", "nuclear"),
    FIELD("row_blocks", WHOLE, row_blocks),
    FIELD("column_blocks", WHOLE, column_blocks),
    FIELD("block_length", WHOLE, block_length),
    FIELD("chunks", WHOLE, chunks),
    FIELD("reorder", REORDER, reorder),
#undef FIELD
#undef WORDS
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static double value_of(const struct field *f, const struct qvitp_recipe *recipe)
{
    const char *at = (const char *)recipe + f->offset;
    double real;
    int32_t whole;
    memcpy(&whole, at, sizeof whole);
    if (f->kind != REAL) return whole;
    memcpy(&real, at, sizeof real);
    return real;
}

int qvitp_card_same_recipe(const qvit_result *a, const qvit_result *b)
{
    const struct qvitp_recipe *one = &a->recipe, *other = &b->recipe;
    if (strcmp(one->name, other->name) != 0 || one->range != other->range ||
        one->metric != other->metric || a->use_quantized != b->use_quantized)
        return 0;
    for (size_t i = 0; i < FIELDS; i++)
        if (value_of(&fields[i], one) != value_of(&fields[i], other)) return 0;
    return 1;
}

void qvitp_card_recipe(struct qvitp_json *j, const qvit_result *result)
{
    static const char *const ranges[] = {[QVITP_RANGE_MINMAX] = "minmax",
                                         [QVITP_RANGE_PERCENTILE] = "percentile",
                                         [QVITP_RANGE_ACIQ] = "aciq"};
    const struct qvitp_recipe *recipe = &result->recipe;
    qvitp_json_text(j, "recipe", recipe->name);
    qvitp_json_text(j, "range", ranges[recipe->range]);
    qvitp_json_text(j, "metric", recipe->metric ? recipe->metric->name : "none");
    for (size_t i = 0; i < FIELDS; i++) {
        const struct field *f = &fields[i];
        double value = value_of(f, recipe);
        if (f->kind == REORDER) {
            qvitp_json_text(j, f->key, qvitp_reorder_names[recipe->reorder]);
        } else if (f->kind == CHOICE) {
            qvitp_json_text(j, f->key, value != 0 ? f->yes : f->no);
        } else {
            qvitp_json_real(j, f->key, value);
        }
    }
    qvitp_json_flag(j, "use_quantized", result->use_quantized);
}
