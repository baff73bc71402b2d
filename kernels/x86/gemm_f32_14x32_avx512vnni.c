/*
 * gemm_f32_14x32_avx512vnni - float32 times float32, with fused steps (kernels.h allows them here).
 *
 * Registers: 14 x 2 accumulators, 2 of the panel, 1 broadcast: 31 of 32. A step is one value of k:
 * 32 neighbouring floats of the panel, one broadcast float per row, 28 fused multiply-adds.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 14, NR = QVITP_512_NR };

typedef void rows_fn(const struct qvitp_tile *tile, float acc[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_tile *tile, size_t m, float acc[][NR])
{
    const char *a = tile->a;
    const float *b = tile->b;
    ptrdiff_t lda = tile->lda;
    __m512 c[MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < tile->k; k++, a += sizeof(float), b += NR) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        const char *next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda) {
            QVITP_OPAQUE(next);
            __m512 row = _mm512_set1_ps(*(const float *)(const void *)next);
            c[i][0] = _mm512_fmadd_ps(row, b0, c[i][0]);
            c[i][1] = _mm512_fmadd_ps(row, b1, c[i][1]);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_ps(acc[i], c[i][0]);
        _mm512_store_ps(acc[i] + 16, c[i][1]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(const struct qvitp_tile *tile, float acc[][NR])   \
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
ROWS(7);
ROWS(8);
ROWS(9);
ROWS(10);
ROWS(11);
ROWS(12);
ROWS(13);
ROWS(14);

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL,    rows_1,  rows_2,  rows_3,  rows_4,
                                          rows_5,  rows_6,  rows_7,  rows_8,  rows_9,
                                          rows_10, rows_11, rows_12, rows_13, rows_14};
    float acc[MR][NR] __attribute__((aligned(64)));
    rows[tile->m](tile, acc);

    struct qvitp_512_rest rest;
    qvitp_512_wait(&rest, tile, e, acc, 0, tile->m, 0);
    while (rest.rows) qvitp_512_finish_sums(&rest, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_f32_14x32_avx512vnni = {
    .name = "gemm_f32_14x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = 1,
    .a_form = QVITP_A_F32,
    .macs_per_cycle = 16,
};

#endif
