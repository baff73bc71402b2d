/*
 * gemm_t8s8_2x8_scalar - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Tile 2 x 8 with the panels of gemm_u8s8_4x8_scalar: two planes fill the 8 registers. Magnitudes
 * are bytes, so the saturation argument is that kernel's.
 */
#include <string.h>

#include "scalar_epilogue.h"
#include "scalar_kernels.h"

enum { MR = 2, NR = 8 };

/* acc = the products of k in [first, end): of each row the low plane's, then the high one's. */
QVITP_SCALAR_LOOP void multiply(const uint8_t *const a[2 * MR], const int8_t *b, size_t first,
                                size_t end, int32_t acc[][NR])
{
    int32_t c[2 * MR][NR] = {{0}};
    for (size_t k = first; k < end; k++)
        for (size_t i = 0; i < 2 * MR; i++)
            for (size_t j = 0; j < NR; j++) c[i][j] += (int16_t)(a[i][k] * b[k * NR + j]);
    memcpy(acc, c, sizeof c);
}

/* Adds the scaled sums of a K-block to those of the blocks before it. */
static void add_scaled(const struct qvitp_epilogue *e, size_t column, size_t block,
                       int32_t acc[][NR], float t[][NR])
{
    const float *scale = e->scale + column;
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < NR; j++) {
            int32_t lo = acc[2 * i][j], hi = acc[2 * i + 1][j];
            float u = e->high ? (float)(e->low * lo + e->high * hi) * scale[j]
                              : (float)lo * scale[j] + (float)hi * e->scale2[column + j];
            t[i][j] = block ? t[i][j] + u : u;
        }
}

static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const uint8_t *a[2 * MR]; /* low and high plane of each row; rows beyond m repeat the last */
    int32_t acc[2 * MR][NR];
    float t[MR][NR];
    for (size_t i = 0; i < MR; i++) {
        ptrdiff_t row = (ptrdiff_t)(i < tile->m ? i : tile->m - 1);
        a[2 * i] = (const uint8_t *)tile->a + row * tile->lda;
        a[2 * i + 1] = (const uint8_t *)tile->a2 + row * tile->lda;
    }
    size_t blocks = qvitp_k_count(e), column = tile->column * blocks;
    for (size_t block = 0, k = 0; block < blocks; block++, column += NR) {
        size_t end = qvitp_k_end(block, tile, e);
        multiply(a, tile->b, k, end, acc);
        k = end;
        add_scaled(e, column, block, acc, t);
    }

    const float *bias = e->bias + tile->column;
    for (size_t i = 0; i < tile->m; i++) {
        for (size_t j = 0; j < NR; j++) t[i][j] = t[i][j] + bias[j];
        qvitp_scalar_finish(t[i], i, tile, e);
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
