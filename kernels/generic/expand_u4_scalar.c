/* expand_u4_scalar - 4-bit codes into the bytes of a panel. */
#include "scalar_kernels.h"

void qvitp_expand_u4_scalar(const struct qvitp_expand *panel)
{
    size_t kstep = panel->kstep, half = panel->nr * kstep / 2;
    const uint8_t *codes = panel->codes;
    int8_t *dst = panel->dst;
    for (size_t step = 0; step < panel->steps; step++, codes += half, dst += 2 * half)
        for (size_t i = 0; i < half; i++) {
            dst[i] = (int8_t)((codes[i] & 15) - panel->zero[i / kstep]);
            dst[half + i] = (int8_t)((codes[i] >> 4) - panel->zero[(half + i) / kstep]);
        }
}
