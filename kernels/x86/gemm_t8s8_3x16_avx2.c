/*
 * gemm_t8s8_3x16_avx2 - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Rows and panel: avx2_bytes_tile.h. Registers and why nothing saturates: avx2_bytes_product.h.
 */
#include "avx2_bytes_product.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = QVITP_BYTES_ROWS / 2, NR = QVITP_BYTES_NR };

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, float t[][NR]);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile,                          \
                                           const struct qvitp_epilogue *e, float t[][NR])          \
    {                                                                                              \
        qvitp_256_sum_twin(tile, m, e, qvitp_256_multiply_bytes, t);                               \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);

QVITP_TARGET_AVX2 static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[] = {rows_1, rows_2, rows_3};
    float t[MR][NR] __attribute__((aligned(32)));
    rows[tile->m - 1](tile, e, t);
    qvitp_256_finish_tile(t, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_3x16_avx2 = {
    .name = "gemm_t8s8_3x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = QVITP_BYTES_KSTEP,
    .a_form = QVITP_A_U8,
    .ab_max = 1 << 14,
    .macs_per_cycle = 32,
};

#endif
