/*
 * sublayer.h - the search for scales of K-blocks (PTQ-SL, arXiv 2110.07809).
 *
 * One block after the other is searched while all others stay as they are. The product is the sum of
 * those of its blocks, so a block is searched as a product of its own, whose target is what the others
 * leave of the whole one: a round over all blocks costs what a round over the whole layer would. That
 * takes a metric in which errors add up, the squared error or the squared error times the squared
 * gradient.
 */
#ifndef QVITP_SUBLAYER_H
#define QVITP_SUBLAYER_H

#include "calib/cut.h"
#include "calib/search.h"

struct qvitp_sublayer {
    const qvit_engine *engine;
    const struct qvitp_recipe *recipe;
    const struct qvitp_metric *metric;
    const struct qvitp_cut *cut; /* its coders are the choice */
    size_t products;             /* of tied sites; each has one piece */
    struct qvitp_product *product;
    int32_t (*progress)(void *user, double share);
    void *user;
};

/* From the choice that coders and scales hold, at most `rounds` rounds. Errors: UNSUPPORTED (a metric
 * in which blocks do not add up), NO_MEMORY, EXECUTOR, CANCELLED (the choice so far stays). */
qvit_status qvitp_sublayer_run(struct qvitp_sublayer *search, qvit_error *error);

#endif
