/* recipe.h - named sets of choices, and the settings that change single ones. */
#ifndef QVITP_RECIPE_H
#define QVITP_RECIPE_H

#include "calib/metric.h"
#include "qvit.h"

enum qvitp_range { QVITP_RANGE_MINMAX, QVITP_RANGE_PERCENTILE };

struct qvitp_recipe {
    const char *name;
    enum qvitp_range range;            /* where a range, or a search, starts */
    const struct qvitp_metric *metric; /* NULL: no search */
    double percentile, low, high, equalize;
    int32_t candidates, rounds;
    int32_t twin_softmax, twin_gelu, symmetric_input, layer_weights;
    int32_t weight_bits, input_bits;
};

/* Reads the recipe's name, the widths and the settings of solve's options. */
qvit_status qvitp_recipe_read(const qvit_solve_options *options, struct qvitp_recipe *recipe,
                              qvit_error *error);

#endif
