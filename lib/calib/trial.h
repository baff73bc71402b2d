/*
 * trial.h - one product of codes, computed the way it will run: what searches and reports measure.
 *
 * A product is a right operand (weights, or one head's K or V) with its scales, and the left operands
 * that meet it, in pieces: the kept rows of a linear site are one piece, each kept matrix of a head is
 * one. Left operands share a coder by group: all of a tied set, one head, or, for softmax, all heads.
 *
 * Along k a product may be cut into K-blocks, whose right operands have scales of their own, and whose
 * left ones may have coders of their own (PTQ-SL, arXiv 2110.07809). Each K-block but the last begins and
 * ends at a multiple of QVITP_CUT_UNIT, so that no kernel has to pad it.
 */
#ifndef QVITP_TRIAL_H
#define QVITP_TRIAL_H

#include "base/shares.h"
#include "engine.h"
#include "op/k_blocks.h"
#include "quant/scheme.h"

struct qvitp_piece {
    size_t m;
    const float *left;      /* [m][k]: what is encoded */
    const float *right;     /* what is encoded: as the product says */
    const float *target;    /* [m][n] */
    const float *gradient;  /* [m][n], or NULL */
    const float *row_scale; /* [m] what the rows of the product are multiplied by, or NULL: 1 */
    const size_t *sample_end;
    size_t samples; /* rows [sample_end[i - 1], sample_end[i]) are of one sample */
    /* Encoded with the present choice. */
    uint8_t *codes;
    void *panels;
    int32_t *sums; /* [K-blocks][columns of a vector] */
};

enum { QVITP_CUT_UNIT = 4 };

struct qvitp_product {
    size_t n, k, group;      /* group: of its left operands */
    struct qvitp_coder left; /* one of their coders: all take its kernel */
    int32_t joined;          /* twins with scales so many times apart, summed as one; or 0 */
    int32_t by_k;            /* right is [k][n], else [n][k] */
    int32_t bits;  /* of the right codes: symmetric, narrow at 8, unless they have zero points */
    int32_t fixed; /* the scales are not searched */
    size_t scales; /* as many shares of the columns have one each; not 1: [n][k] only */
    float *base, *scale; /* where the grid starts, and the choice; [K-blocks][scales] */
    /* Zero points, [K-blocks][scales], 0..2^bits - 1, or NULL. Codes are distances from them, here and
     * in panels; only what is handed out has them added. */
    int32_t *zero;
    size_t pieces;
    struct qvitp_piece *piece;
    /* K-blocks: [n][k] only, with scales of their own; NULL: one. The coder of each, in the group's
     * array; NULL: the group has one coder. */
    const struct qvitp_k_blocks *blocks;
    const size_t *coder_of;
};

/* The scale of a column, in any K-block. */
static inline size_t qvitp_product_block(const struct qvitp_product *p, size_t column)
{
    return qvitp_share_of(p->n, p->scales, column);
}

static inline size_t qvitp_product_k_blocks(const struct qvitp_product *p)
{
    return p->blocks ? p->blocks->count : 1;
}

/* Where scales and zero points have those of a column in a K-block. */
static inline size_t qvitp_product_at(const struct qvitp_product *p, size_t block, size_t column)
{
    return block * p->scales + qvitp_product_block(p, column);
}

/* The place of k where a K-block begins; of the one behind the last, k. */
static inline size_t qvitp_product_k_begin(const struct qvitp_product *p, size_t block)
{
    return p->blocks ? p->blocks->starts[block] : block ? p->k : 0;
}

/* The largest sizes of some products, which one scratch fits. */
struct qvitp_sizes {
    size_t m, n, k, k_blocks;
};
struct qvitp_sizes qvitp_sizes_of(const struct qvitp_product *products, size_t count);

/* Rows that are multiplied and then looked at while they are in the cache. */
enum { QVITP_TRIAL_ROWS = 64 };

/* Memory of one worker. */
struct qvitp_scratch {
    uint8_t *codes; /* a left operand's */
    uint8_t *right; /* a right operand's codes, before packing */
    void *panels;
    int32_t *sums;
    float *out;    /* [QVITP_TRIAL_ROWS][n] */
    float *choice; /* scales of a right operand on trial */
    float *scale, *scale2, *bias;
    int32_t *init;
    void *staged;
    double *columns; /* [n][QVITP_METRIC_SUMS] */
};
/* Lays it out from `base` on; returns its bytes, also where base is NULL. */
size_t qvitp_scratch_carve(const qvit_engine *engine, const struct qvitp_sizes *most, char *base,
                           struct qvitp_scratch *s);

/* The kernel whose panels a product has, and that multiplies them. */
const struct qvitp_gemm_kernel *qvitp_product_kernel(const qvit_engine *engine,
                                                     const struct qvitp_product *p);

/* Bytes of the panels, and number of the sums, of a product's right operand. */
size_t qvitp_panel_bytes(const qvit_engine *engine, const struct qvitp_product *p);
size_t qvitp_sum_count(const qvit_engine *engine, const struct qvitp_product *p);

/* Lays out the encoded forms of all pieces; `base` as above. */
size_t qvitp_pieces_carve(const qvit_engine *engine, struct qvitp_product *products, size_t count,
                          char *base);

/* The codes under a product's scale and zero point number `at`, but for the scale. */
struct qvitp_coder qvitp_right_coder(const struct qvitp_product *p, size_t at);

/* A product's right codes alone, rounded to nearest. */
void qvitp_right_encode(const qvit_engine *engine, const struct qvitp_product *p,
                        const struct qvitp_piece *piece, const float *scale, uint8_t *codes);

/* Codes of m rows of a left operand, by the coders of its group. */
void qvitp_left_encode(const qvit_engine *engine, const struct qvitp_product *p,
                       const struct qvitp_coder *coder, size_t m, const float *left,
                       uint8_t *codes);

/* Codes of a right operand, into `codes`, and packed, with the sums of its columns. */
void qvitp_trial_encode(const qvit_engine *engine, const struct qvitp_product *p,
                        const struct qvitp_piece *piece, const float *scale, uint8_t *codes,
                        void *panels, int32_t *sums);
void qvitp_trial_pack(const qvit_engine *engine, const struct qvitp_product *p,
                      const uint8_t *codes, void *panels, int32_t *sums);

/* Coders and operands of one piece, whichever is on trial. */
struct qvitp_trial {
    const qvit_engine *engine;
    const struct qvitp_product *product;
    const struct qvitp_piece *piece;
    const struct qvitp_coder
        *coder; /* of the group: one, or those that the product's coder_of names */
    const uint8_t *codes;
    const void *panels;
    const int32_t *sums;
    const float *scale; /* of the right operand */
};

/* Multiplies rows [first, first + rows), rows <= QVITP_TRIAL_ROWS, into scratch->out, dense. */
void qvitp_trial_rows(const struct qvitp_trial *t, struct qvitp_scratch *s, size_t first,
                      size_t rows);
/* What all calls of the above need in the scratch; once for each trial. */
void qvitp_trial_begin(const struct qvitp_trial *t, struct qvitp_scratch *s);

/* All rows, on all workers, into out [m][n]. */
qvit_status qvitp_trial_all(const struct qvitp_trial *t, float *out, qvit_error *error);

/* Encodes one piece of a product with its present scales, rounded to nearest, and these coders, and
 * multiplies: out [m][n]. */
qvit_status qvitp_trial_present(const qvit_engine *engine, const struct qvitp_product *product,
                                const struct qvitp_piece *piece, const struct qvitp_coder *coder,
                                float *out, qvit_error *error);

/* out [m][n] = left [m][k] * right, in floats: the target of a search. */
qvit_status qvitp_float_product(const qvit_engine *engine, size_t m, size_t n, size_t k,
                                const float *left, const float *right, int by_k, float *out,
                                qvit_error *error);

#endif
