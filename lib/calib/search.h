/*
 * search.h - choosing scales by what they do to a product: written once, for weights and activations,
 * for every scheme and metric.
 *
 * A product is a right operand (weights, or one head's K or V) with its scales, and the left operands
 * that meet it, in pieces: the kept rows of a linear site are one piece, each kept matrix of a head is
 * one. Left operands share a coder by group: all of a tied set, one head, or, for softmax, all heads.
 * Candidates are tried with the very kernels that will run: what is measured is what is executed.
 */
#ifndef QVITP_SEARCH_H
#define QVITP_SEARCH_H

#include "calib/range.h"
#include "engine.h"

struct qvitp_piece {
    size_t m;
    const float *left;   /* [m][k]: what is encoded */
    const float *right;  /* what is encoded: as the product says */
    const float *target; /* [m][n] */
    /* Encoded with the present choice; the search's own. */
    uint8_t *codes;
    void *panels;
    int32_t *sums;
};

struct qvitp_product {
    size_t n, k, group;  /* group: of its left operands */
    int32_t by_k;        /* right is [k][n], else [n][k] */
    int32_t per_column;  /* scales: one for each of n, else one; [n][k] only */
    int32_t bits;        /* of the right codes, symmetric, narrow at 8 */
    float *base, *scale; /* where the grid starts, and the choice; [per_column ? n : 1] */
    size_t pieces;
    struct qvitp_piece *piece;
};

struct qvitp_search {
    const qvit_engine *engine;
    const struct qvitp_recipe *recipe;
    size_t groups;
    const struct qvitp_span *span; /* [groups] */
    struct qvitp_coder *coder;     /* [groups] the choice */
    size_t products;
    struct qvitp_product *product;
    /* Called now and then; nonzero cancels. */
    int32_t (*progress)(void *user, double share);
    void *user;
};

/* Alternates the search for right and left scales, `rounds` times, from the choice that coder and
 * scale hold. Errors: NO_MEMORY, EXECUTOR, CANCELLED (the choice so far stays). */
qvit_status qvitp_search_run(struct qvitp_search *search, qvit_error *error);

/* out [m][n] = left [m][k] * right, in floats: the target of a search. */
qvit_status qvitp_float_product(const qvit_engine *engine, size_t m, size_t n, size_t k,
                                const float *left, const float *right, int by_k, float *out,
                                qvit_error *error);

#endif
