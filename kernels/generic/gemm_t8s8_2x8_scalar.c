/*
 * gemm_t8s8_2x8_scalar - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Tile 2 x 8 with the panels of gemm_u8s8_4x8_scalar: two planes fill the 8 registers. Magnitudes
 * are bytes, so the saturation argument is that kernel's.
 */
#include "scalar_epilogue.h"
#include "scalar_kernels.h"

enum { MR = 2, NR = 8 };

static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const int8_t *b = tile->b;
    const uint8_t *a[2 * MR]; /* low and high plane of each row; rows beyond m repeat the last */
    int32_t acc[2 * MR][NR] = {{0}};
    for (size_t i = 0; i < MR; i++) {
        ptrdiff_t row = (ptrdiff_t)(i < tile->m ? i : tile->m - 1);
        a[2 * i] = (const uint8_t *)tile->a + row * tile->lda;
        a[2 * i + 1] = (const uint8_t *)tile->a2 + row * tile->lda;
    }
    for (size_t k = 0; k < tile->k; k++, b += NR)
        for (size_t i = 0; i < 2 * MR; i++)
            for (size_t j = 0; j < NR; j++) acc[i][j] += (int16_t)(a[i][k] * b[j]);

    const float *scale = e->scale + tile->column, *scale2 = e->scale2 + tile->column;
    const float *bias = e->bias + tile->column;
    for (size_t i = 0; i < tile->m; i++) {
        const int32_t *lo = acc[2 * i], *hi = acc[2 * i + 1];
        float t[NR];
        for (size_t j = 0; j < NR; j++)
            t[j] = ((float)lo[j] * scale[j] + (float)hi[j] * scale2[j]) + bias[j];
        qvitp_scalar_finish(t, i, tile, e);
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_2x8_scalar = {
    .name = "gemm_t8s8_2x8_scalar",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = 1,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 2,
};
