/*
 * gemm_u8s8_4x8_scalar - plain codes times 8-bit weights, in C that compilers vectorise.
 *
 * Tile 4 x 8, k step 1: a step of the panel is 8 neighbouring columns, so the inner loop runs over
 * columns and needs no horizontal sum; with four int32 lanes the accumulators are 8 registers of
 * 16.
 * Saturation: 255 * -128 = -32640 fits int16, so one 16-bit multiplication is exact; the sum is
 * taken in int32.
 */
#include <string.h>

#include "scalar_epilogue.h"
#include "scalar_kernels.h"

enum { MR = 4, NR = 8 };

/* acc = the products of k in [first, end). */
QVITP_SCALAR_LOOP void multiply(const uint8_t *const a[MR], const int8_t *b, size_t first,
                                size_t end, int32_t acc[][NR])
{
    int32_t c[MR][NR] = {{0}};
    for (size_t k = first; k < end; k++)
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < NR; j++) c[i][j] += (int16_t)(a[i][k] * b[k * NR + j]);
    memcpy(acc, c, sizeof c);
}

/* Adds the scaled sums of a K-block to those of the blocks before it. */
static void add_scaled(const float *scale, size_t block, int32_t acc[][NR], float t[][NR])
{
    for (size_t i = 0; i < MR; i++)
        for (size_t j = 0; j < NR; j++) {
            float u = (float)acc[i][j] * scale[j];
            t[i][j] = block ? t[i][j] + u : u;
        }
}

static void store_s32(int32_t acc[][NR], const struct qvitp_tile *tile)
{
    int32_t *out = tile->out;
    for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
        for (size_t j = 0; j < tile->n; j++) out[j] = acc[i][j];
}

static void store_floats(int32_t acc[][NR], const struct qvitp_tile *tile)
{
    float *out = tile->out;
    for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
        for (size_t j = 0; j < tile->n; j++) out[j] = (float)acc[i][j];
}

static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const uint8_t *a[MR]; /* rows beyond m are the last one again, and are not stored */
    int32_t acc[MR][NR];
    float t[MR][NR];
    for (size_t i = 0; i < MR; i++) {
        size_t row = i < tile->m ? i : tile->m - 1;
        a[i] = (const uint8_t *)tile->a + (ptrdiff_t)row * tile->lda;
    }
    size_t blocks = qvitp_k_count(e), column = tile->column * blocks;
    for (size_t block = 0, k = 0; block < blocks; block++, column += NR) {
        size_t end = qvitp_k_end(block, tile, e);
        multiply(a, tile->b, k, end, acc);
        k = end;
        for (size_t i = 0; i < MR; i++)
            for (size_t j = 0; j < NR; j++) acc[i][j] += e->init[column + j];
        if (e->out == QVITP_OUT_S32) {
            store_s32(acc, tile);
            return;
        }
        if (e->out == QVITP_OUT_SUM) {
            store_floats(acc, tile);
            return;
        }
        add_scaled(e->scale + column, block, acc, t);
    }

    const float *bias = e->bias + tile->column;
    for (size_t i = 0; i < tile->m; i++) {
        for (size_t j = 0; j < NR; j++) t[i][j] = t[i][j] + bias[j];
        qvitp_scalar_finish(t[i], i, tile, e);
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
