/*
 * gemm_u8s8_14x32_avx512vnni - plain codes times 8-bit weights.
 *
 * Registers: 14 x 2 accumulators, 2 of the panel, 1 broadcast: 31 of 32. A step is 4 values of k:
 *
 *     panel   | column 0: k k+1 k+2 k+3 | column 1: ... | ... column 31 |      128 bytes, 2 loads
 *     row i   a[k .. k+3] as one broadcast, A where it lies: no packing
 *
 * and 28 vpdpbusd, one a cycle, against 16 loads, two a cycle. 14 rows are the most that fit two
 * columns of vectors; 197 rows (a ViT's) are 14 x 14 + 1, or 13 x 13 + 2 x 14 when balanced.
 * Saturation: vpdpbusd adds four exact 16-bit products in 32 bits; it does not saturate.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 14, NR = 32, KSTEP = 4 };

typedef void rows_fn(const struct qvitp_tile *tile, const int32_t *init, int32_t acc[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_tile *tile, size_t m, const int32_t *init,
                              int32_t acc[][NR])
{
    const uint8_t *a = tile->a;
    const int8_t *b = tile->b;
    ptrdiff_t lda = tile->lda;
    __m512i c[MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm512_load_si512(init);
        c[i][1] = _mm512_load_si512(init + 16);
    }
    for (size_t k = 0; k < tile->k; k += KSTEP, a += KSTEP, b += NR * KSTEP) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
        const uint8_t *next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda) {
            QVITP_OPAQUE(next);
            __m512i row = qvitp_512_broadcast4(next);
            c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
            c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(acc[i], c[i][0]);
        _mm512_store_si512(acc[i] + 16, c[i][1]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(const struct qvitp_tile *tile,                    \
                                                 const int32_t *init, int32_t acc[][NR])           \
    {                                                                                              \
        multiply(tile, m, init, acc);                                                              \
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
    int32_t acc[MR][NR] __attribute__((aligned(64)));
    rows[tile->m](tile, e->init + tile->column, acc);

    for (size_t j = 0; j < tile->n; j += 16) {
        __mmask16 mask = qvitp_512_mask(j, tile->n);
        if (e->out == QVITP_OUT_S32) {
            int32_t *out = (int32_t *)tile->out + j;
            for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
                _mm512_mask_storeu_epi32(out, mask, _mm512_load_si512(acc[i] + j));
            continue;
        }
        __m512 scale = _mm512_load_ps(e->scale + tile->column + j);
        __m512 bias = _mm512_load_ps(e->bias + tile->column + j);
        for (size_t i = 0; i < tile->m; i++) {
            __m512 t = _mm512_cvtepi32_ps(_mm512_load_si512(acc[i] + j));
            qvitp_512_finish(qvitp_512_step(t, scale, bias), i, j, mask, tile, e);
        }
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_14x32_avx512vnni = {
    .name = "gemm_u8s8_14x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 64,
};

#endif
