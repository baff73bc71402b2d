/*
 * input.h - the quantizer of the input that one or more linear sites share, and what its producer does to
 * the channels before.
 */
#ifndef QVITP_INPUT_H
#define QVITP_INPUT_H

#include "calib/channels.h"
#include "calib/solve.h"

struct qvitp_input {
    struct qvitp_channels channels; /* count 0: the producer can do nothing to them */
    struct qvitp_span span;
    struct qvitp_coder coder; /* of the whole span: where a search starts */
    float *lo, *hi;           /* [inputs] of each channel as it is encoded; NULL: nothing is cut */
};

/* What of the kept rows is encoded. */
enum qvitp_part qvitp_input_part(const struct qvitp_solving *solving,
                                 const struct qvitp_site *site);

/* Chooses it for sites [0, count), which read one tensor. Errors: NO_MEMORY, EXECUTOR, VALUE. */
qvit_status qvitp_input_choose(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, struct qvitp_pool *pool, struct qvitp_input *out,
                               qvit_error *error);

#endif
