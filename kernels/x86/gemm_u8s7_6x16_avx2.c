/*
 * gemm_u8s7_6x16_avx2 - plain codes, bytes as they are, times small weights.
 *
 * Registers, panel and why nothing saturates: avx2_bytes_product.h.
 */
#include "avx2_bytes_product.h"
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = QVITP_BYTES_ROWS, NR = QVITP_BYTES_NR };

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, float t[][NR]);

/* The tile's sums to t, scaled; for S32 output as they are. m is a constant wherever this is called. */
QVITP_INLINE256 void sum(const struct qvitp_tile *tile, size_t m, const struct qvitp_epilogue *e,
                         float t[][NR])
{
    const struct qvitp_bytes_rows rows = {0, m, tile->lda, tile->lda};
    size_t blocks = qvitp_k_count(e), steps = qvitp_256_steps(255, tile->b_max);
    size_t column = tile->column * blocks, first = 0;
    for (size_t block = 0; block < blocks; block++, column += NR) {
        __m256i c[MR][2];
        size_t end = qvitp_k_end(block, tile, e);
        const __m256i *init = (const __m256i *)(e->init + column);
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++) c[i][0] = init[0], c[i][1] = init[1];
        qvitp_256_multiply_bytes(tile, rows, first, end, steps, c);
        if (e->out == QVITP_OUT_S32)
            qvitp_256_store_sums(m, c, t);
        else
            qvitp_256_add_scaled(m, e, column, block, c, t);
        first = end;
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile,                          \
                                           const struct qvitp_epilogue *e, float t[][NR])          \
    {                                                                                              \
        sum(tile, m, e, t);                                                                        \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);

QVITP_TARGET_AVX2 static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[] = {rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    float t[MR][NR] __attribute__((aligned(32)));
    rows[tile->m - 1](tile, e, t);
    qvitp_256_finish_tile(t, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s7_6x16_avx2 = {
    .name = "gemm_u8s7_6x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = QVITP_BYTES_KSTEP,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 64,
};

#endif
