/*
 * gemm_u8s8_4x8_scalar - plain codes times 8-bit weights, in C that compilers vectorise.
 *
 * Tile 4 x 8, k step 1: a step of the panel is 8 neighbouring columns, so the inner loop runs over
 * columns and needs no horizontal sum; with four int32 lanes the accumulators are 8 registers of
 * 16.
 * Saturation: 255 * -128 = -32640 fits int16, so one 16-bit multiplication is exact; the sum is
 * taken in int32.
 */
#include "scalar_epilogue.h"
#include "scalar_kernels.h"

enum { MR = 4, NR = 8 };

static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const int8_t *b = tile->b;
    const uint8_t *a[MR]; /* rows beyond m are the last one again, and are not stored */
    int32_t acc[MR][NR];
    for (size_t i = 0; i < MR; i++) {
        size_t row = i < tile->m ? i : tile->m - 1;
        a[i] = (const uint8_t *)tile->a + (ptrdiff_t)row * tile->lda;
        for (size_t j = 0; j < NR; j++) acc[i][j] = e->init[tile->column + j];
    }
    for (size_t k = 0; k < tile->k; k++, b += NR)
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < NR; j++) acc[i][j] += (int16_t)(a[i][k] * b[j]);

    for (size_t i = 0; i < tile->m; i++) {
        if (e->out == QVITP_OUT_S32) {
            int32_t *out = (int32_t *)tile->out + (ptrdiff_t)i * tile->ldo;
            for (size_t j = 0; j < tile->n; j++) out[j] = acc[i][j];
            continue;
        }
        float t[NR];
        const float *scale = e->scale + tile->column, *bias = e->bias + tile->column;
        for (size_t j = 0; j < NR; j++) t[j] = (float)acc[i][j] * scale[j] + bias[j];
        qvitp_scalar_finish(t, i, tile, e);
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_4x8_scalar = {
    .name = "gemm_u8s8_4x8_scalar",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = 1,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 4,
};
