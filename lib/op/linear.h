/*
 * linear.h - the plan of a linear layer, which linear_make.c makes and linear.c runs.
 */
#ifndef QVITP_LINEAR_H
#define QVITP_LINEAR_H

#include "op/k_blocks.h"
#include "op/product.h"
#include "plan/plan.h"

struct qvitp_linear {
    struct qvit_plan base;
    struct qvitp_left left;
    struct qvitp_epilogue epilogue;
    size_t n, k;
    size_t columns; /* of each vector: n, padded */
    size_t chunk;   /* columns that one task takes at once, a multiple of nr */
    int32_t packed; /* the panels hold 4-bit codes, which a task expands before it multiplies */
    qvit_dtype input, residual, output;
    struct qvitp_k_blocks k_blocks;
    /* behind the struct: */
    void *panels;
    uint8_t *zero; /* [columns / nr][k_blocks][nr] packed: the code that stands for 0 */
    int32_t *init; /* these three likewise: qvitp_k_place */
    float *scale, *scale2;
    float *bias, *mul, *mul_neg, *add;
};

#endif
