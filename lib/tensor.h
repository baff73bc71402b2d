/* tensor.h - checking and walking the caller's views. */
#ifndef QVITP_TENSOR_H
#define QVITP_TENSOR_H

#include "qvit.h"

/* Whole properties of an element type. */
size_t qvitp_dtype_bits(qvit_dtype dtype);      /* 0 for an unknown type */
const char *qvitp_dtype_name(qvit_dtype dtype); /* "u8" */
int qvitp_dtype_signed(qvit_dtype dtype);
int qvitp_dtype_packed(qvit_dtype dtype); /* several codes to a byte, or to three */

/* What a checked tensor may look like. */
enum {
    QVITP_ANY_LAST_STRIDE = 1, /* otherwise the last stride must be 1 */
    QVITP_OUTPUT = 2           /* written to: no element may lie on another through a zero stride */
};

/*
 * Checks a view: not NULL, rank in [1, max], known type, no size of 0, sizes whose product fits,
 * alignment, strides. `dtype` QVIT_DTYPE_NONE allows every type. `name` is for the message.
 */
qvit_status qvitp_tensor_check(const qvit_tensor *tensor, const char *name, qvit_dtype dtype,
                               uint32_t flags, qvit_error *error);

/* The same, and exactly `rank` sizes: those of `dims`, where 0 allows any. */
qvit_status qvitp_tensor_expect(const qvit_tensor *tensor, const char *name, qvit_dtype dtype,
                                uint32_t flags, size_t rank, const size_t *dims, qvit_error *error);

/* A checked tensor as a matrix: the last dimension is the columns, the others are the rows. */
size_t qvitp_tensor_rows(const qvit_tensor *tensor);
size_t qvitp_tensor_cols(const qvit_tensor *tensor);

/* Offset, in elements, of a row's first element. */
ptrdiff_t qvitp_tensor_row(const qvit_tensor *tensor, size_t row);

/* The stride of a dimension; 0 for one of size 1, whose stride may be anything. */
static inline ptrdiff_t qvitp_stride(const qvit_tensor *t, int32_t i)
{
    return t->dims[i] > 1 ? t->strides[i] : 0;
}

/* One element of the row that starts at `row`: floats, and integers of any type. The codes of a row of
 * a packed type are set from the first column on, as each group starts out from its first code. */
float qvitp_get_float(const qvit_tensor *tensor, ptrdiff_t row, size_t col);
void qvitp_set_float(const qvit_tensor *tensor, ptrdiff_t row, size_t col, float value);
int32_t qvitp_get_int(const qvit_tensor *tensor, ptrdiff_t row, size_t col);
void qvitp_set_int(const qvit_tensor *tensor, ptrdiff_t row, size_t col, int32_t value);

/* NULL tensor: fine. Otherwise a F32 vector of n finite elements, any stride. */
qvit_status qvitp_vector_check(const qvit_tensor *tensor, const char *name, size_t n,
                               qvit_error *error);

/* Element i of a checked vector, `absent` for NULL. */
float qvitp_vector_get(const qvit_tensor *tensor, size_t i, float absent);

#endif
