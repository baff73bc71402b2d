/*
 * attention.h - the plan of attention, which attention_make.c makes and attention.c runs.
 */
#ifndef QVITP_ATTENTION_H
#define QVITP_ATTENTION_H

#include "op/product.h"
#include "plan/plan.h"

struct qvitp_attention {
    struct qvit_plan base;
    struct qvitp_left query, probability; /* left operands of the two products */
    struct qvitp_epilogue context;        /* of P V; vectors of all heads, head_columns apart */
    struct qvitp_softmax softmax;         /* how probabilities are written */
    int32_t relative;                     /* probabilities are relative to their row's largest: */
    struct qvitp_rescale rescale;         /* what follows P V then, but for rows and vectors */
    size_t heads, dim, head_columns;
    qvit_dtype types[4]; /* of query, key, value, output */
    float float_scale;   /* float plans: what scores are multiplied by */
    /* behind the struct: */
    float *score_scale; /* [heads] codes to scores */
    int32_t *init;
    float *scale, *scale2, *bias, *mul, *add;
};

#endif
