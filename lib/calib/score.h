/* score.h - what quantization did to a site's output, measured on its kept rows: for reports, and for
 * choosing widths. */
#ifndef QVITP_SCORE_H
#define QVITP_SCORE_H

#include "calib/metric.h"
#include "quant/scheme.h"

struct qvitp_score {
    size_t samples;                /* that the rows were taken from; 0: there were none */
    double count;                  /* outputs that were compared */
    double signal, noise;          /* sums of target^2 and (out - target)^2 */
    double out, product;           /* sums of out^2 and out target */
    double loss;                   /* sum of (gradient (out - target))^2 */
    int32_t gradient;              /* whether there was one */
    double nuclear;                /* sum of the singular values of the target; 0: not asked for */
    double saturated[2], codes[2]; /* codes at an end of their range, and all: left, right */
};

/* Adds rows, gradient NULL where it is unknown. */
void qvitp_score_add(struct qvitp_score *score, const struct qvitp_outputs *outputs);

/* Adds codes of side 0 (left) or 1 (right). Of a twin only the ends of its outer ranges count: 0 is where
 * its ranges meet. */
void qvitp_score_codes(struct qvitp_score *score, int side, const struct qvitp_coder *coder,
                       const uint8_t *codes, size_t count);

double qvitp_score_sqnr_db(const struct qvitp_score *score);
double qvitp_score_cosine(const struct qvitp_score *score);
/* The squared error per sample, weighed by the gradient where there is one, or by the nuclear norm (Liu et
 * al., arXiv 2106.14156, 3.5) where that was asked for. */
double qvitp_score_loss(const struct qvitp_score *score);
double qvitp_score_saturation(const struct qvitp_score *score, int side);

#endif
