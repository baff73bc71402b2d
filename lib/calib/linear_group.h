/*
 * linear_group.h - linear sites that read one tensor, while they are solved: what the files of this work
 * share. linear_read.c brings weights and rows into place, linear_result.c makes of what was found what
 * the caller gets, solve_linear.c calls both and searches in between.
 */
#ifndef QVITP_LINEAR_GROUP_H
#define QVITP_LINEAR_GROUP_H

#include "calib/cut.h"
#include "calib/score.h"
#include "calib/solve.h"
#include "calib/trial.h"

/* One site while it is solved. Of inputs all arrays are in the order of places (cut.h). */
struct qvitp_linear_part {
    struct qvitp_site *site;
    float *weight; /* [outputs][inputs], times the channels' scales */
    float *offset; /* [outputs] the weights times the channels' shifts; NULL: 0 */
    float *bias;   /* [outputs] the site's and the offset, corrected in the end */
    uint8_t *codes;
    struct qvitp_product product;
    struct qvitp_piece piece;
    struct qvitp_score score;
    qvit_result *result;
};

struct qvitp_linear_group {
    const struct qvitp_solving *solving;
    struct qvitp_pool pool;
    size_t count, inputs;
    struct qvitp_linear_part *part;
    struct qvitp_input input;
    struct qvitp_cut cut;
};

/* Reads a part's weights and kept rows, as they are encoded and in the order of places; its scales start
 * from the largest weights. */
qvit_status qvitp_linear_read(struct qvitp_linear_group *group, struct qvitp_linear_part *part,
                              qvit_error *error);

/* Fills part->result from what was found. */
qvit_status qvitp_linear_result(struct qvitp_linear_group *group, struct qvitp_linear_part *part,
                                qvit_error *error);

#endif
