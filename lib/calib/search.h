/*
 * search.h - choosing scales by what they do to a product: written once, for weights and activations,
 * for every scheme and metric.
 *
 * Candidates are tried with the very kernels that will run: what is measured is what is executed.
 */
#ifndef QVITP_SEARCH_H
#define QVITP_SEARCH_H

#include "calib/range.h"
#include "calib/trial.h"

struct qvitp_search {
    const qvit_engine *engine;
    const struct qvitp_recipe *recipe;
    const struct qvitp_metric *metric;
    size_t groups;
    const struct qvitp_span *span; /* [groups] */
    struct qvitp_coder *coder;     /* [groups] the choice */
    size_t products;
    struct qvitp_product *product;
    /* Called now and then; nonzero cancels. */
    int32_t (*progress)(void *user, double share);
    void *user;
};

/* Alternates the search for right and left scales, at most `rounds` times, from the choice that coder
 * and scale hold, until neither changes any more. Errors: NO_MEMORY, EXECUTOR, CANCELLED (the choice so
 * far stays). */
qvit_status qvitp_search_run(struct qvitp_search *search, qvit_error *error);

#endif
