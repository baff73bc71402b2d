/* rows.c - tensors of any rank and stride as a few matrices of evenly spaced rows. */
#include "op/rows.h"

#include <string.h>

#include "base/error.h"
#include "tensor.h"

static qvit_status check_side(const struct qvitp_rows_side *side, const qvit_tensor *input,
                              qvit_error *error)
{
    const qvit_tensor *t = side->tensor;
    QVITP_TRY(qvitp_tensor_check(t, side->name, side->dtype, side->flags, error));
    if (qvitp_dtype_packed(t->dtype))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: packed codes", side->name);
    if (t->rank != input->rank)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has rank %d, the input %d", side->name,
                          (int)t->rank, (int)input->rank);
    size_t cols = side->cols ? side->cols : qvitp_tensor_cols(input);
    if (qvitp_tensor_cols(t) != cols)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has %zu columns, not %zu", side->name,
                          qvitp_tensor_cols(t), cols);
    for (int32_t i = 0; i + 1 < t->rank; i++)
        if (t->dims[i] != input->dims[i])
            return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: size %d is %zu, the input's is %zu",
                              side->name, (int)i, t->dims[i], input->dims[i]);
    return QVIT_OK;
}

/*
 * Merges dimension i into the rows behind it, if every side's rows stay evenly spaced: always where it
 * has the size 1, and where there is one row so far, whose stride then says nothing yet.
 */
static int merge(struct qvitp_rows *rows, size_t size, int32_t i)
{
    for (int s = 0; s < QVITP_ROWS_SIDES; s++) {
        const qvit_tensor *t = rows->side[s].tensor;
        ptrdiff_t span = (ptrdiff_t)rows->rows * rows->side[s].stride;
        if (t && size > 1 && rows->rows > 1 && t->strides[i] != span) return 0;
    }
    for (int s = 0; s < QVITP_ROWS_SIDES; s++)
        if (rows->side[s].tensor && size > 1 && rows->rows == 1)
            rows->side[s].stride = rows->side[s].tensor->strides[i];
    rows->rows *= size;
    return 1;
}

qvit_status qvitp_rows_init(struct qvitp_rows *rows,
                            const struct qvitp_rows_side side[QVITP_ROWS_SIDES], qvit_error *error)
{
    memset(rows, 0, sizeof *rows);
    const qvit_tensor *input = side[QVITP_ROWS_INPUT].tensor;
    for (int s = 0; s < QVITP_ROWS_SIDES; s++) {
        if (!side[s].tensor && side[s].dtype == QVIT_DTYPE_NONE) continue;
        QVITP_TRY(check_side(&side[s], input, error));
        rows->side[s].tensor = side[s].tensor;
        rows->side[s].size = qvitp_dtype_bits(side[s].tensor->dtype) / 8;
    }
    /* Dimensions [outer, last) become the rows, those before number the matrices. */
    int32_t outer = input->rank - 1;
    rows->matrices = rows->rows = 1;
    while (outer > 0 && merge(rows, input->dims[outer - 1], outer - 1)) outer--;
    for (int32_t i = 0; i < outer; i++) rows->matrices *= input->dims[i];
    for (int s = 0; s < QVITP_ROWS_SIDES; s++) rows->side[s].outer = outer;
    return QVIT_OK;
}

void *qvitp_rows_at(const struct qvitp_rows *rows, int side, size_t matrix, size_t row)
{
    const qvit_tensor *t = rows->side[side].tensor;
    ptrdiff_t offset = (ptrdiff_t)row * rows->side[side].stride;
    for (int32_t i = rows->side[side].outer - 1; i >= 0; i--) {
        offset += (ptrdiff_t)(matrix % t->dims[i]) * t->strides[i];
        matrix /= t->dims[i];
    }
    return (char *)t->data + offset * (ptrdiff_t)rows->side[side].size;
}
