/*
 * gemm_t8s8_7x32_avx512vnni - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Registers: 7 x 2 accumulators for each plane, 2 of the panel, 2 broadcasts: 32 of 32. The panel
 * is that of gemm_u8s8_14x32_avx512vnni: two planes are, to the inner loop, twice the rows.
 * Saturation: none, as there; magnitudes are bytes.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 7, NR = 32, KSTEP = 4 };

typedef void rows_fn(const struct qvitp_tile *tile, int32_t lo[][NR], int32_t hi[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_tile *tile, size_t m, int32_t lo[][NR],
                              int32_t hi[][NR])
{
    const uint8_t *a = tile->a, *a2 = tile->a2;
    const int8_t *b = tile->b;
    ptrdiff_t lda = tile->lda;
    __m512i c[MR][4]; /* low, low, high, high */
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = _mm512_setzero_si512();
    for (size_t k = 0; k < tile->k; k += KSTEP, a += KSTEP, a2 += KSTEP, b += NR * KSTEP) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
        const uint8_t *next = a, *next2 = a2;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda, next2 += lda) {
            QVITP_OPAQUE(next);
            QVITP_OPAQUE(next2);
            __m512i row = qvitp_512_broadcast4(next), row2 = qvitp_512_broadcast4(next2);
            c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
            c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
            c[i][2] = _mm512_dpbusd_epi32(c[i][2], row2, b0);
            c[i][3] = _mm512_dpbusd_epi32(c[i][3], row2, b1);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(lo[i], c[i][0]);
        _mm512_store_si512(lo[i] + 16, c[i][1]);
        _mm512_store_si512(hi[i], c[i][2]);
        _mm512_store_si512(hi[i] + 16, c[i][3]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(const struct qvitp_tile *tile, int32_t lo[][NR],  \
                                                 int32_t hi[][NR])                                 \
    {                                                                                              \
        multiply(tile, m, lo, hi);                                                                 \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);
ROWS(7);

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL,   rows_1, rows_2, rows_3,
                                          rows_4, rows_5, rows_6, rows_7};
    int32_t lo[MR][NR] __attribute__((aligned(64))), hi[MR][NR] __attribute__((aligned(64)));
    rows[tile->m](tile, lo, hi);

    for (size_t j = 0; j < tile->n; j += 16) {
        __mmask16 mask = qvitp_512_mask(j, tile->n);
        __m512 scale = _mm512_load_ps(e->scale + tile->column + j);
        __m512 scale2 = _mm512_load_ps(e->scale2 + tile->column + j);
        __m512 bias = _mm512_load_ps(e->bias + tile->column + j);
        for (size_t i = 0; i < tile->m; i++) {
            __m512 t = _mm512_cvtepi32_ps(_mm512_load_si512(lo[i] + j));
            __m512 u = _mm512_cvtepi32_ps(_mm512_load_si512(hi[i] + j));
            t = _mm512_add_ps(_mm512_mul_ps(t, scale), _mm512_mul_ps(u, scale2));
            qvitp_512_finish(_mm512_add_ps(t, bias), i, j, mask, tile, e);
        }
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_7x32_avx512vnni = {
    .name = "gemm_t8s8_7x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 32,
};

#endif
