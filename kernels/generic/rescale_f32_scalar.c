/* rescale_f32_scalar - one row of sums, times its own factor, to floats or codes. */
#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

static void run(const struct qvitp_rescale *row)
{
    for (size_t j = 0; j < row->n; j++) {
        float t = row->x[j] * row->factor;
        if (row->mul) t = t * row->mul[j] + row->add[j];
        if (row->out == QVITP_OUT_F32) {
            ((float *)row->dst)[j] = t;
            continue;
        }
        t = qvitp_scalar_round(qvitp_scalar_clamp(t, row->lo, row->hi));
        ((uint8_t *)row->dst)[j] = (uint8_t)(int32_t)t;
    }
}

const struct qvitp_named_rescale qvitp_rescale_f32_scalar = {"rescale_f32_scalar", run};
