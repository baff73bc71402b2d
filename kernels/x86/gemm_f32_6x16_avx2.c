/*
 * gemm_f32_6x16_avx2 - float32 times float32, with fused steps (kernels.h allows them here).
 *
 * Registers: 6 x 2 accumulators, 2 of the panel, 1 broadcast: 15 of 16. A step is one value of k:
 * 16 neighbouring floats of the panel, one broadcast float per row, 12 fused multiply-adds.
 */
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = 6, NR = 16 };

typedef void rows_fn(const struct qvitp_tile *tile, float acc[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE256 void multiply(const struct qvitp_tile *tile, size_t m, float acc[][NR])
{
    const char *a = tile->a;
    const float *b = tile->b;
    ptrdiff_t lda = tile->lda;
    __m256 c[MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < tile->k; k++, a += sizeof(float), b += NR) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        const char *next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda) {
            QVITP_OPAQUE(next);
            __m256 row = _mm256_broadcast_ss((const float *)(const void *)next);
            c[i][0] = _mm256_fmadd_ps(row, b0, c[i][0]);
            c[i][1] = _mm256_fmadd_ps(row, b1, c[i][1]);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm256_store_ps(acc[i], c[i][0]);
        _mm256_store_ps(acc[i] + 8, c[i][1]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile, float acc[][NR])         \
    {                                                                                              \
        multiply(tile, m, acc);                                                                    \
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
    static rows_fn *const rows[MR + 1] = {NULL, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    float acc[MR][NR] __attribute__((aligned(32)));
    rows[tile->m](tile, acc);
    qvitp_256_finish_tile(acc, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_f32_6x16_avx2 = {
    .name = "gemm_f32_6x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = 1,
    .a_form = QVITP_A_F32,
    .macs_per_cycle = 16,
};

#endif
