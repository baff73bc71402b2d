/*
 * settle.h - the last step of solving: with all scales chosen, the codes and the bias of a linear site,
 * and what the choice does to the outputs of the kept rows.
 */
#ifndef QVITP_SETTLE_H
#define QVITP_SETTLE_H

#include "calib/pool.h"
#include "calib/recipe.h"
#include "calib/score.h"
#include "calib/trial.h"

struct qvitp_settling {
    const qvit_engine *engine;
    const struct qvitp_recipe *recipe;
    struct qvitp_pool *pool;
    const struct qvitp_product *product; /* of one piece, which may be without rows */
    const struct qvitp_coder *coder;
    const float *offset; /* [n] what codes do not see of the output: bias apart; NULL: 0 */
    uint8_t *codes;      /* [n][k] of the right operand */
    float *bias;         /* [n] the float model's, and what the codes need */
};

/* Codes of the weights, by rounding to nearest or as the recipe says, a bias that makes up for the mean
 * error where the recipe corrects it, and the score. */
qvit_status qvitp_settle_linear(const struct qvitp_settling *s, struct qvitp_score *score,
                                qvit_error *error);

/* The score of a product with its present choice, all of its pieces. */
qvit_status qvitp_settle_score(const qvit_engine *engine, const struct qvitp_product *product,
                               const struct qvitp_coder *coder, struct qvitp_score *score,
                               qvit_error *error);

#endif
