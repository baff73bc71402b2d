/*
 * range.h - from the range that values have to the coders that a search may choose from.
 *
 * A coder is written as a candidate: a scheme and a range, drawn in or out by a factor. The factor 1 is
 * the range itself.
 */
#ifndef QVITP_RANGE_H
#define QVITP_RANGE_H

#include "calib/recipe.h"
#include "calib/stats.h"
#include "quant/scheme.h"

/* GELU is nowhere below minus this. */
#define QVITP_GELU_LOWEST 0.16997124254703522

struct qvitp_span {
    qvit_scheme scheme;
    int32_t bits;
    uint32_t flags;
    int32_t fixed; /* nothing to choose: the coder is the span's */
    int32_t ratio; /* of a twin GELU's scales, QVITP_RATIO_* */
    /* Of a twin GELU: the high scale is so many times the low one, and each range has as many codes as it
     * then needs; 0: half of them each, and scales to fit. */
    int32_t uneven;
    float lo, hi; /* lo <= 0 <= hi */
};

/* The scheme of a left operand, by the kind of what produced it. */
qvit_scheme qvitp_left_scheme(const struct qvitp_recipe *recipe, qvit_site_type type,
                              qvit_input_kind kind);

/* The flags that a right operand's width asks for: narrow at 8 bits. */
uint32_t qvitp_right_flags(int32_t bits);

/* The codes of a right operand: symmetric ones, or, where they have a zero point, distances from it. */
void qvitp_right_range(int32_t bits, const int32_t *zero, float *lo, float *hi);

/* None of them, whatever the zero point, is larger in magnitude. */
int32_t qvitp_right_max(int32_t bits, int has_zero);

/* The cuts that a twin softmax may have: PTQ4ViT tries 2^0..2^-19 and reports that 15 suffice, which
 * keeps every integer sum small. */
enum { QVITP_CUTS = 16 };

/* The coder of the range, drawn in or out by a factor; of a twin softmax, cut at 2^-cut. */
struct qvitp_coder qvitp_span_coder(const struct qvitp_span *span, double factor);
struct qvitp_coder qvitp_span_twin(const struct qvitp_span *span, int32_t cut);

/* The factor of candidate i of a grid: low + i (high - low) / candidates (algorithm of Base PTQ, which
 * never tries `high` itself), or one over that. */
double qvitp_factor(const struct qvitp_recipe *recipe, size_t candidate);

/* The scale with which so many steps span a width. A width of 0 gives 1; a tiny scale is raised to where
 * products of scales stay normal numbers. */
float qvitp_scale_over(double width, double steps);

/* The scale of a symmetric quantizer whose largest value is `top`, which is 2^(bits-1) - 1/2 steps. */
double qvitp_symmetric_steps(int32_t bits);
float qvitp_symmetric_scale(double top, int32_t bits);

/* Whether a recipe gives weights zero points. With 8 bits never: their distances would not fit a byte. */
int qvitp_weights_have_zero(const struct qvitp_recipe *recipe);

/* The scale that a recipe gives a block of weights to begin with: of the largest, or ACIQ's. With a zero
 * point, that of the range, and *zero. */
float qvitp_weight_scale(const struct qvitp_recipe *recipe, size_t count, const float *weight,
                         int32_t *zero);

/* That of the range [lo, hi], which has 0 in it, drawn in or out by a factor, and the zero point. */
float qvitp_asymmetric_scale(double lo, double hi, int32_t bits, double factor, int32_t *zero);

/* Draws a range that holds all values of a group in towards [law_lo, law_hi], where a law of distribution
 * says that clipping pays, by as many QVITP_DRAWS-ths of the way as lose least by the histogram: laws are
 * kept to only as far as the values keep to them. */
enum { QVITP_DRAWS = 8 };
void qvitp_draw_in(const struct qvitp_span *span, const struct qvitp_stats *stats, size_t group,
                   float law_lo, float law_hi, float *lo, float *hi);

/* The cut whose codes fit the values of a histogram best, in the sense of their squared error. */
int32_t qvitp_best_cut(const struct qvitp_span *span, const struct qvitp_stats *stats);

#endif
