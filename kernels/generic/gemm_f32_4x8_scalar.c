/*
 * gemm_f32_4x8_scalar - float32 times float32, for calibration and for what is not quantized.
 *
 * Tile 4 x 8, k step 1: the loop of gemm_u8s8_4x8_scalar on floats, without fused steps.
 */
#include "scalar_epilogue.h"
#include "scalar_kernels.h"

enum { MR = 4, NR = 8 };

static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const float *b = tile->b;
    const float *a[MR]; /* rows beyond m are the last one again, and are not stored */
    float acc[MR][NR] = {{0}};
    for (size_t i = 0; i < MR; i++) {
        size_t row = i < tile->m ? i : tile->m - 1;
        a[i] = (const float *)(const void *)((const char *)tile->a + (ptrdiff_t)row * tile->lda);
    }
    for (size_t k = 0; k < tile->k; k++, b += NR)
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < NR; j++) acc[i][j] += a[i][k] * b[j];

    const float *bias = e->bias + tile->column;
    for (size_t i = 0; i < tile->m; i++) {
        for (size_t j = 0; j < NR; j++) acc[i][j] += bias[j];
        qvitp_scalar_finish(acc[i], i, tile, e);
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_f32_4x8_scalar = {
    .name = "gemm_f32_4x8_scalar",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = 1,
    .a_form = QVITP_A_F32,
    .macs_per_cycle = 8,
};
