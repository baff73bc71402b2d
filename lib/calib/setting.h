/* setting.h - what changes single choices of a recipe, for who sets them and for who reports them. */
#ifndef QVITP_SETTING_H
#define QVITP_SETTING_H

#include <stddef.h>

#include "calib/recipe.h"

enum qvitp_setting_kind {
    QVITP_SETTING_REAL,
    QVITP_SETTING_WHOLE,
    QVITP_SETTING_CHOICE, /* `yes` sets the field to 1, `no` to 0 */
    QVITP_SETTING_TWINS,  /* these three have fields and words of their own */
    QVITP_SETTING_METRIC,
    QVITP_SETTING_REORDER
};

struct qvitp_setting {
    const char *key;
    enum qvitp_setting_kind kind;
    size_t offset; /* of the field: a double, or an int32_t */
    double least, most;
    const char *no, *yes;
};
extern const struct qvitp_setting qvitp_settings[];
extern const size_t qvitp_setting_count;

/* Names of QVITP_ORDER_*. */
extern const char *const qvitp_reorder_names[];

/* The field's value, of a number or a choice. */
double qvitp_setting_value(const struct qvitp_setting *setting, const struct qvitp_recipe *recipe);

/* Carries out "key=value". Errors: ARGUMENT. */
qvit_status qvitp_setting_apply(const char *text, struct qvitp_recipe *recipe, qvit_error *error);

#endif
