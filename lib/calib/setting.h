/* setting.h - what changes single choices of a recipe, for who sets them and for who reports them. */
#ifndef QVITP_SETTING_H
#define QVITP_SETTING_H

#include <stddef.h>

#include "calib/recipe.h"

enum qvitp_setting_kind {
    QVITP_SETTING_REAL,
    QVITP_SETTING_WHOLE,
    QVITP_SETTING_CHOICE, /* the field is the number of a word */
    QVITP_SETTING_TWINS,  /* these two have fields and words of their own */
    QVITP_SETTING_METRIC
};
enum { QVITP_SETTING_WORDS = 4 };

struct qvitp_setting {
    const char *key;
    enum qvitp_setting_kind kind;
    size_t offset; /* of the field: a double, or an int32_t */
    double least, most;
    const char *words[QVITP_SETTING_WORDS + 1]; /* up to NULL */
};
extern const struct qvitp_setting qvitp_settings[];
extern const size_t qvitp_setting_count;

/* The field's value, of a number or a choice. */
double qvitp_setting_value(const struct qvitp_setting *setting, const struct qvitp_recipe *recipe);

/* Carries out "key=value". Errors: ARGUMENT. */
qvit_status qvitp_setting_apply(const char *text, struct qvitp_recipe *recipe, qvit_error *error);

#endif
