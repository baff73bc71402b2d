/* stage_u8_scalar - codes into the bytes that the scalar integer products read. */
#include <string.h>

#include "kernels/kernels.h"
#include "scalar_kernels.h"

static void stage_row(const struct qvitp_stage *row)
{
    const uint8_t *codes = row->codes;
    uint8_t *dst = row->dst, *dst2 = row->dst2;
    size_t n = row->n, rest = row->padded - n;
    int32_t half = row->half, zero = row->zero;
    if (row->form == QVITP_STAGE_U8) {
        memcpy(dst, codes, n);
    } else if (row->form == QVITP_STAGE_S8) {
        for (size_t i = 0; i < n; i++) dst[i] = codes[i] ^ 0x80;
    } else if (row->form == QVITP_STAGE_JOINED_SOFTMAX) {
        for (size_t i = 0; i < n; i++)
            dst[i] = (uint8_t)(codes[i] < half ? codes[i] : (codes[i] - half) * row->high);
    } else if (row->form == QVITP_STAGE_JOINED_GELU) {
        for (size_t i = 0; i < n; i++) {
            int32_t steps = (int8_t)codes[i] - zero;
            dst[i] = (uint8_t)(128 + (steps < 0 ? steps : steps * row->high));
        }
    } else if (row->form == QVITP_STAGE_TWIN_SOFTMAX) {
        for (size_t i = 0; i < n; i++) {
            dst[i] = codes[i] < half ? codes[i] : 0;
            dst2[i] = (uint8_t)(codes[i] < half ? 0 : codes[i] - half);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            int32_t steps = (int8_t)codes[i] - zero;
            dst[i] = (uint8_t)(steps < 0 ? -steps : 0);
            dst2[i] = (uint8_t)(steps < 0 ? 0 : steps);
        }
    }
    memset(dst + n, 0, rest);
    if (row->form == QVITP_STAGE_TWIN_SOFTMAX || row->form == QVITP_STAGE_TWIN_GELU)
        memset(dst2 + n, 0, rest);
}

void qvitp_stage_u8_scalar(const struct qvitp_stage *rows)
{
    qvitp_stage_each(rows, sizeof(uint8_t), stage_row);
}
