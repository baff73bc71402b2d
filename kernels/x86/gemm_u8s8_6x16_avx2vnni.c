/*
 * gemm_u8s8_6x16_avx2vnni - plain codes times 8-bit weights.
 *
 * Panel: avx2_bytes_tile.h. Registers and why nothing saturates: avx2vnni_product.h.
 */
#include "avx2vnni_kernels.h"
#include "avx2vnni_product.h"

#if QVITP_X86

enum { MR = QVITP_BYTES_ROWS, NR = QVITP_BYTES_NR };

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, float t[][NR]);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2VNNI static void rows_##m(const struct qvitp_tile *tile,                      \
                                               const struct qvitp_epilogue *e, float t[][NR])      \
    {                                                                                              \
        qvitp_256_sum_plain(tile, m, e, qvitp_256_multiply_vnni, t);                               \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);

QVITP_TARGET_AVX2VNNI static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[] = {rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    float t[MR][NR] __attribute__((aligned(32)));
    rows[tile->m - 1](tile, e, t);
    qvitp_256_finish_tile(t, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_6x16_avx2vnni = {
    .name = "gemm_u8s8_6x16_avx2vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = QVITP_BYTES_KSTEP,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 64,
};

#endif
