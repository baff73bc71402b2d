/*
 * attention.h - the plan of attention, which attention_make.c makes and attention.c runs with what attention_args.c
 * checked.
 */
#ifndef QVITP_ATTENTION_H
#define QVITP_ATTENTION_H

#include "op/heads.h"
#include "op/product.h"
#include "plan/plan.h"

struct qvitp_attention {
    struct qvit_plan base;
    struct qvitp_left query, probability; /* left operands of the two products */
    struct qvitp_epilogue context;        /* of P V; vectors of all heads, head_columns apart */
    struct qvitp_softmax_codes softmax;   /* how codes of probabilities are written */
    int32_t relative;                     /* probabilities are relative to their row's largest: */
    struct qvitp_rescale rescale;         /* what follows P V then, but for rows and vectors */
    int32_t writes_ready;                 /* softmax writes what P V reads: nothing is staged */
    size_t heads, dim, head_columns;
    qvit_dtype types[4]; /* of query, key, value, output */
    float float_scale;   /* float plans: what scores are multiplied by */
    /* behind the struct: */
    float *score_scale; /* [heads] codes to scores */
    float *sum_steps;   /* [heads] sums to depths (numerics.h), or -1: they become scores first */
    int32_t *init;
    float *scale, *scale2, *bias, *mul, *add;
};

/* One run of it. */
struct qvitp_attention_run {
    const struct qvitp_attention *plan;
    const qvit_attention_args *args;
    size_t batch, queries, keys, per_worker;
    struct qvitp_units units;
};

/* Checks the arguments; reads batch, queries and keys off them. attention_args.c */
qvit_status qvitp_attention_check(struct qvitp_attention_run *run, qvit_error *error);

#endif
