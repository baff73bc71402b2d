/*
 * rows.h - tensors of any rank and stride as a few matrices of evenly spaced rows.
 *
 * An operation that works row by row sees its tensors as `matrices` x `rows` rows. Leading dimensions
 * are merged as far as all of its tensors allow: dense tensors become one matrix.
 */
#ifndef QVITP_ROWS_H
#define QVITP_ROWS_H

#include "qvit.h"

enum { QVITP_ROWS_INPUT, QVITP_ROWS_OUTPUT, QVITP_ROWS_RESIDUAL, QVITP_ROWS_SIDES };

/* What the caller gave for one side, and what it must be. tensor NULL: a side that is not there. */
struct qvitp_rows_side {
    const qvit_tensor *tensor;
    const char *name;
    qvit_dtype dtype;
    size_t cols;    /* 0: as the input */
    uint32_t flags; /* of qvitp_tensor_check */
};

struct qvitp_rows {
    size_t matrices, rows;
    struct {
        const qvit_tensor *tensor; /* NULL: not there; must live as long */
        int32_t outer;             /* its first `outer` dimensions number the matrices */
        ptrdiff_t stride;          /* between rows, in elements */
        size_t size;               /* bytes of an element */
    } side[QVITP_ROWS_SIDES];
};

/* Checks the sides against each other and merges. The input's leading dimensions are everyone's; a
 * required side that is NULL is refused by name if its dtype is not NONE. */
qvit_status qvitp_rows_init(struct qvitp_rows *rows,
                            const struct qvitp_rows_side side[QVITP_ROWS_SIDES], qvit_error *error);

/* Address of a row's first element. */
void *qvitp_rows_at(const struct qvitp_rows *rows, int side, size_t matrix, size_t row);

#endif
