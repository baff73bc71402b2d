/*
 * mixed.h - mixed precision: of every layer the width of its weights, so that the model loses as
 * little as a budget of bytes allows; and whether the inputs of fc2 and the probabilities of P V are
 * twins, so that it loses as little as a budget of time allows.
 *
 * What widths lose is measured at the logits, by width_losses.h. What twins lose, and widths without
 * images or with a setting "sensitivity", is expected: each site is solved at each alternative, with all
 * others as floats, and loses what its result scores as QVIT_SCORE_LOSS (Dong et al., arXiv 2011.10680;
 * with sensitivity=nuclear Liu et al., arXiv 2106.14156). The losses of sites are taken to add up, and
 * qvit_allocate finds the least sum.
 *
 * Bytes are those of the stored weights. Time is measured on this machine (Wang et al., arXiv
 * 1811.08886), and buys twins alone: widths of weights have no part in it, since with AVX-512 all of
 * them run at one speed. Under both budgets the widths are chosen first, and the times are those of
 * plans with these widths.
 */
#ifndef VIT_MIXED_H
#define VIT_MIXED_H

#include "calibrate.h"
#include "json_writer.h"
#include "width_losses.h"

typedef struct mixed_options {
    bool by_bytes, by_time;
    bool pareto;    /* print what other budgets would give */
    uint64_t bytes; /* if by_bytes; 0: those of uniform_bits */
    int32_t uniform_bits;
    double ms; /* for an image, if by_time */
} mixed_options;

/* bytes: "1234567", or "w6" for what weights of 6 bits take. NULL: no such budget. Errors: ARGUMENT. */
qvit_status mixed_options_parse(mixed_options *out, const char *bytes, const char *ms,
                                qvit_error *error);

/* Whether anything has to be measured. */
bool mixed_wanted(const mixed_options *options);

/* A budget and what was chosen under it, in bytes or nanoseconds. */
#define MIXED_NS_PER_MS 1e6
typedef struct mixed_bill {
    uint64_t budget, least, most, cost; /* least, most: what the choice could have cost */
    double loss;
} mixed_bill;

/* What was chosen; all zero: nothing. The arrays have an entry for every site. */
typedef struct mixed_choice {
    const vit_model *model;
    char bits[8];         /* "w*a8" */
    int32_t *weight_bits; /* NULL: without a budget of bytes */
    int32_t *twins;       /* TWIN_..; NULL: without a budget of time */
    mixed_bill bytes, time;
} mixed_choice;

/*
 *   engine   that of the evaluation: the one whose time counts
 *   images   `count` of them, at most `batch`, to measure with
 *   batch    of the evaluation
 *   judges   of widths; count 0: there are none
 *   print    the Pareto table and the choice go here, if they are asked for
 */
typedef struct mixed_context {
    const mixed_options *options;
    const qvit_engine *engine;
    const uint8_t *images;
    size_t count, batch;
    width_judges judges;
    FILE *print;
} mixed_context;

/*
 * Chooses for a recipe. Weights get 4, 6 or 8 bits, at most recipe->weight_bits. Sites are solved for
 * the float model's inputs, whatever the recipe will be solved for in the end. Results of the
 * calibration, and what it was shown behind a quantized prefix, are lost. Errors: ARGUMENT, also if a
 * budget cannot be met: the text says what the least possible is.
 */
qvit_status mixed_choose(const mixed_context *context, calibration *c,
                         const calibration_recipe *recipe, mixed_choice *out, qvit_error *error);

/* Members of an open object: "budget", "weight_bits" and "twins". */
void mixed_write_json(const mixed_choice *choice, json_writer *w);

void mixed_choice_close(mixed_choice *choice);

#endif
