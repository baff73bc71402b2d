/*
 * round.h - rounding of weights with the inputs in mind, and weights that make up for their inputs.
 *
 * A linear layer is y = W x (+ b), W [n][k]. Rounding each weight to the nearest code minimises the error
 * of W; what counts is the error of y over the inputs that occur, which for one output w of W is
 *
 *     loss(q) = sum_r ((w - q) x_r)^2 = (w - q) H (w - q)^T,     H = sum_r x_r x_r^T   (qvitp_gram)
 *
 * Three tools, to be used in this order, each by itself where wanted:
 *
 *   qvitp_weight_correct   float weights that come closest to given targets on inputs that are not those
 *                          which the targets were made from (ERQ 2407.06794, "Aqer"; what GPTAQ
 *                          2504.02692 aims at): W' = W + C (H + lambda I)^-1. Around W' the loss against
 *                          the targets is (W' - q) H (W' - q)^T plus a constant, so that what follows
 *                          need not know of targets.
 *   qvitp_round_weights    GPTQ (2210.17323) and, with passes > 0, coordinate descent behind it.
 *   qvitp_round_descend    coordinate descent alone, from any codes: it never makes a row worse.
 *
 * The bias. Let x be the quantized inputs and t the targets (float outputs, bias included). The best bias
 * for given q is  mean(t) - q mean(x),  and with it the loss is that of centred data. So the caller
 *
 *     1. takes mean_x and mean_t              qvitp_column_means
 *     2. takes H of x and C of e = t - W x,   qvitp_gram and qvitp_cross with these means
 *        each centred (e: its own mean)       as columns' mean
 *     3. corrects and rounds                  qvitp_weight_correct, qvitp_round_weights
 *     4. takes the bias                       qvitp_round_bias with mean_x and mean_t
 *
 * Without a bias, or where it must stay, all means are NULL and step 4 is left out.
 */
#ifndef QVITP_ROUND_H
#define QVITP_ROUND_H

#include "engine.h"

/* What is to be rounded, and to what. */
struct qvitp_rounding {
    size_t n, k;
    const float *weight; /* [n][k] */
    const float *scale;  /* > 0; of row r: scale[r * scale_stride], so that stride 0 shares one */
    size_t scale_stride;
    const int32_t *zero;   /* NULL, or of each scale the zero point, 0..2^bits - 1 */
    const uint32_t *block; /* NULL, or [k] which of the row's scales, from there on, an input has */
    /* 2..8: codes -2^(bits-1)..2^(bits-1)-1, and -127..127 of 8 bits; with a zero point z 2..7: distances
     * from it, -z..2^bits-1-z */
    int32_t bits;
    const double *gram; /* [k][k], symmetric, positive semidefinite */
    double damping;     /* lambda, in means of the gram's diagonal; 0.01 is GPTQ's */
    /* 1: columns in the order of falling diagonal (GPTQ's act-order), else 0, 1, ... */
    int32_t by_diagonal;
    int32_t passes; /* of coordinate descent, at most */
};

/*
 * Rounds: codes [n][k]; loss [n], or NULL, gets (w - q) H (w - q)^T without damping. Inputs that were
 * always 0 (gram's diagonal 0) have their weights rounded to nearest. Where the damped gram matrix is not
 * positive definite in floating point, damping is raised tenfold (to at least 1e-4) and tried again.
 * Errors: NO_MEMORY, EXECUTOR, VALUE (the matrix holds NaN or is far from semidefinite).
 */
qvit_status qvitp_round_weights(const qvit_engine *engine, const struct qvitp_rounding *rounding,
                                int8_t *codes, double *loss, qvit_error *error);

/* Improves codes that are within their range, by at most `passes` sweeps over the columns that change
 * each code to the best one given all others; passes 0 only takes the loss. damping and by_diagonal are
 * not used. Errors: NO_MEMORY, EXECUTOR. */
qvit_status qvitp_round_descend(const qvit_engine *engine, const struct qvitp_rounding *rounding,
                                int8_t *codes, double *loss, qvit_error *error);

/* The one place that knows which weights share a scale and a zero point. */
static inline size_t qvitp_rounding_block(const struct qvitp_rounding *r, size_t row, size_t input)
{
    return row * r->scale_stride + (r->block ? r->block[input] : 0);
}

static inline float qvitp_rounding_scale(const struct qvitp_rounding *r, size_t row, size_t input)
{
    return r->scale[qvitp_rounding_block(r, row, input)];
}

/* bias[j] = mean_target[j] - sum_c scale_jc codes[j][c] mean_input[c]; means may be NULL: 0. */
void qvitp_round_bias(const struct qvitp_rounding *rounding, const int8_t *codes,
                      const float *mean_input, const float *mean_target, float *bias);

/*
 * out [n][k] = weight + cross (gram + lambda I)^-1, lambda = ridge * mean(diagonal of gram), where cross
 * [n][k] = sum_r (t_r - W x_r) x_r^T; it is overwritten with the correction. out may be weight. Inputs
 * that were always 0 keep their weights. Damping is raised, and errors are, as in qvitp_round_weights.
 */
qvit_status qvitp_weight_correct(const qvit_engine *engine, size_t n, size_t k, const float *weight,
                                 const double *gram, double *cross, double ridge, float *out,
                                 qvit_error *error);

#endif
