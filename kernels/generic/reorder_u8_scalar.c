/* reorder_u8_scalar - a row's bytes in another order, by a copy of the row. */
#include <string.h>

#include "scalar_kernels.h"

void qvitp_reorder_u8_scalar(const struct qvitp_reorder *row)
{
    uint8_t from[QVITP_REORDER_MOST];
    memcpy(from, row->bytes, row->n);
    for (size_t j = 0; j < row->n; j++) row->bytes[j] = from[row->order[j]];
}
