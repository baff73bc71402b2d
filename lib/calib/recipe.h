/* recipe.h - named sets of choices, and the settings that change single ones. */
#ifndef QVITP_RECIPE_H
#define QVITP_RECIPE_H

#include "calib/metric.h"
#include "qvit.h"

/* Where a range, or a search, starts. */
enum qvitp_range { QVITP_RANGE_MINMAX, QVITP_RANGE_PERCENTILE, QVITP_RANGE_ACIQ };

/* Which scale of a twin GELU moves until both are a power of two apart, or the high one until it is a whole
 * multiple of the other. */
enum { QVITP_RATIO_FREE, QVITP_RATIO_LOW, QVITP_RATIO_HIGH, QVITP_RATIO_WHOLE };

struct qvitp_recipe {
    const char *name;
    enum qvitp_range range;
    const struct qvitp_metric *metric; /* NULL: no search */
    double percentile;
    /* The grid of the searches; inverse: its factors divide the scale. refine: candidates around the
     * best of the grid, which then need not be fine. */
    double low, high;
    int32_t candidates, refine, rounds, inverse_grid;
    /* Schemes. ratio: QVITP_RATIO_*; uneven: see range.h. */
    int32_t twin_softmax, twin_gelu, ratio, uneven, symmetric_input, layer_weights;
    int32_t asymmetric_weights; /* where their width allows it: qvitp_weights_have_zero */
    /* Attention: probabilities relative to their row's largest, a scale for each channel of V. */
    int32_t relative, value_channels;
    /* Channels: the strength of their scales, the least range of one, and whether they are centred.
     * Ranges: how far those of class tokens, and all, are stretched beyond what was seen. */
    double equalize, equalize_gelu, channel_floor, gelu_floor, margin, headroom;
    int32_t center, clip;
    /* Codes and biases. ridge: how reluctantly weights make up for the rounding of their inputs, 0 not
     * at all; damping and passes: see round.h; row_floor: see weights.h. */
    int32_t gptq, correct, passes;
    double ridge, damping, row_floor;
    int32_t in_order; /* the host is asked to solve behind the quantized prefix */
    int32_t nuclear;  /* the loss of a result is weighed by the output's nuclear norm */
    /* Granularity (cut.h): row blocks of weights, 0: a scale for each row; column blocks, or their length
     * if it is not 0; chunks of inputs; how channels are ordered for them, QVITP_ORDER_*. */
    int32_t row_blocks, column_blocks, block_length, chunks, reorder;
    int32_t weight_bits, input_bits;
};

/* The metric of a site: scores of attention may have one of their own. */
const struct qvitp_metric *qvitp_recipe_metric(const struct qvitp_recipe *recipe,
                                               qvit_site_type type, qvit_input_kind kind);

/* Whether it cuts inputs into blocks. */
static inline int qvitp_recipe_cuts(const struct qvitp_recipe *r)
{
    return r->column_blocks > 1 || r->block_length > 0 || r->chunks > 1;
}

/* Whether it looks at kept rows, and not at statistics alone. */
int qvitp_recipe_needs_rows(const struct qvitp_recipe *recipe);

/* Whether it weighs errors by gradients: one that does not must not, should they be there for another. */
int qvitp_recipe_needs_gradient(const struct qvitp_recipe *recipe);

/* Leaves of a recipe what needs no search and no rows. */
void qvitp_recipe_use_ranges(struct qvitp_recipe *recipe);

/* Reads the recipe's name, the widths and the settings of solve's options. */
qvit_status qvitp_recipe_read(const qvit_solve_options *options, struct qvitp_recipe *recipe,
                              qvit_error *error);

#endif
