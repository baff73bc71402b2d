/*
 * product.h - the integer (or float) matrix product that linear, matmul and attention share: how its
 * left rows are staged, and how a block of it is cut into tiles for the kernel.
 */
#ifndef QVITP_PRODUCT_H
#define QVITP_PRODUCT_H

#include "op/left.h"

/* A block of a product: rows [0, m) and columns [first_column, first_column + columns). */
struct qvitp_block {
    const struct qvitp_left *left;
    const struct qvitp_epilogue *epilogue;
    size_t m, k;
    const void *a;                /* rows of the caller's codes or floats */
    ptrdiff_t lda;                /* bytes */
    const int32_t *a_index;       /* NULL, or the place of each row, in rows */
    int32_t ready;                /* 1: rows are as the kernel reads them, staged already */
    const void *a2;               /* of ready twins, where they are not joined: the other plane */
    const void *b;                /* the panels, from first_column on */
    size_t first_column, columns; /* first_column: a multiple of the kernel's nr */
    const void *residual;         /* of column 0, row 0 */
    ptrdiff_t ldr;                /* elements */
    size_t residual_size;         /* bytes of an element */
    void *out;                    /* of column 0, row 0 */
    ptrdiff_t ldo;
    size_t out_size;
    void *staged; /* qvitp_left_staged_bytes(left, k); aligned */
};
void qvitp_block_run(const struct qvitp_block *block);

/* Points `block`, of whose fields only those of its left operand are read, at rows that are ready: at its rows where they
 * lie, or at a copy in the form that the kernel reads. For many blocks of the same rows; not of twins or in K-blocks.
 * staged: m times qvitp_left_row_bytes. */
void qvitp_block_stage(struct qvitp_block *block, size_t m, void *staged);

/* Number of row tiles that m rows are cut into; they are shares of equal size, but for 1. */
size_t qvitp_tiles(size_t m, size_t mr);

/*
 * What an output port means for the epilogue: fills mul, mul_neg and add (n values each; those that are
 * not needed are left alone) and the epilogue's output fields. Returns with epilogue->mul NULL where
 * floats are stored as they are.
 *
 *   first     the quantizer's column that column 0 is
 *   scale, shift  of the port's consumer, from column `first` on; NULL: 1 and 0
 */
struct qvitp_output {
    const qvit_port *port;
    const qvit_tensor *scale, *shift;
    const int32_t
        *order; /* NULL, or the channel of each column: that the port and the vectors know */
};
/* What is stored, and between which codes. */
void qvitp_output_form(const qvit_port *port, struct qvitp_epilogue *epilogue);
qvit_status qvitp_output_check(const struct qvitp_output *output, size_t columns,
                               qvit_error *error);
void qvitp_output_fill(const struct qvitp_output *output, size_t first, size_t n, float *mul,
                       float *mul_neg, float *add, struct qvitp_epilogue *epilogue);

/*
 * Folds mul and add into scale, scale2 (of every K-block) and bias where nothing stands between them (no
 * GELU, no residual, no twin output), so that the kernel multiplies once. nr: the kernel's; without
 * K-blocks any.
 */
void qvitp_epilogue_fold(struct qvitp_epilogue *epilogue, size_t nr, size_t n, float *scale,
                         float *scale2, float *bias, const float *mul, const float *add);

/* Checks a port: a known type; for codes, a quantizer whose codes the type can hold, and which is not
 * relative. The second checks that the type can hold the codes alone. */
qvit_status qvitp_port_check(const qvit_port *port, const char *name, qvit_error *error);
qvit_status qvitp_port_check_codes(const qvit_port *port, const char *name, qvit_error *error);

/* A right operand's quantizer: symmetric, and narrow at 8 bits. */
qvit_status qvitp_right_check(const qvit_port *port, const char *name, qvit_error *error);

/* The scale block of each head: layer, or `heads` equal column blocks of `width` columns. */
qvit_status qvitp_heads_check(const qvit_quantizer *q, size_t heads, size_t width, const char *name,
                              qvit_error *error);
/* The same for a left operand, whose zero point is part of how codes are staged: one for all heads. */
qvit_status qvitp_left_heads_check(const qvit_quantizer *q, size_t heads, size_t width,
                                   const char *name, qvit_error *error);
struct qvitp_coder qvitp_head_coder(const qvit_quantizer *q, size_t head);

/* Of an operand whose columns may also have a scale each: they are columns of the product. */
qvit_status qvitp_columns_check(const qvit_quantizer *q, size_t heads, size_t width,
                                const char *name, qvit_error *error);
struct qvitp_coder qvitp_column_coder(const qvit_quantizer *q, size_t column);

#endif
