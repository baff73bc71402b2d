/*
 * gemm_u8s8_12x32_avx512vnni - plain codes times 8-bit weights.
 *
 * Registers: 12 x 2 accumulators, 2 of the panel, 1 broadcast: 27 of 32; the other five are the
 * epilogue's. A step is 4 values of k:
 *
 *     panel   | column 0: k k+1 k+2 k+3 | column 1: ... | ... column 31 |      128 bytes, 2 loads
 *     row i   a[k .. k+3] as one broadcast, A where it lies: no packing
 *
 * and 24 vpdpbusd, one a cycle, against 14 loads, two a cycle. What follows a panel's sums would leave
 * the multipliers idle: converting, scaling, GELU and storing take other ports. So finished sums go to
 * a buffer on the stack, and the next panel's loop turns one vector of them into outputs at each step,
 * in the shadow of its own products. Only the last panel of a call is finished in the open.
 * Saturation: vpdpbusd adds four exact 16-bit products in 32 bits; it does not saturate.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 12, NR = 32, KSTEP = 4 };

/* Sums of one panel that wait to become outputs: vector v is columns 16 (v % 2) of row v / 2. */
struct pending {
    const int32_t *acc; /* [rows][NR] */
    size_t j;           /* of the panel's first column in the tile */
    size_t next, count; /* vectors */
};

QVITP_INLINE512 void finish_next(struct pending *p, const struct qvitp_tile *tile,
                                 const struct qvitp_epilogue *e)
{
    size_t i = p->next / 2, j = p->j + p->next % 2 * 16;
    __m512i sums = _mm512_load_si512(p->acc + p->next * 16);
    __mmask16 mask = qvitp_512_mask(j, tile->n);
    p->next++;
    if (e->out == QVITP_OUT_S32) {
        int32_t *out = (int32_t *)tile->out + (ptrdiff_t)i * tile->ldo;
        _mm512_mask_storeu_epi32(out + j, mask, sums);
        return;
    }
    __m512 t = qvitp_512_step(_mm512_cvtepi32_ps(sums), _mm512_load_ps(e->scale + tile->column + j),
                              _mm512_load_ps(e->bias + tile->column + j));
    qvitp_512_finish(t, i, j, mask, tile, e);
}

/* The sums of one panel, while the pending ones are finished. m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                              size_t m, const int8_t *b, const int32_t *init, int32_t *acc,
                              struct pending rest)
{
    const uint8_t *a = tile->a, *end = a + tile->k;
    ptrdiff_t lda = tile->lda;
    __m512i c[MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm512_load_si512(init);
        c[i][1] = _mm512_load_si512(init + 16);
    }
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
        const uint8_t *next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda) {
            QVITP_OPAQUE(next);
            __m512i row = qvitp_512_broadcast4(next);
            c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
            c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
        }
        if (rest.next < rest.count) finish_next(&rest, tile, e);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(acc + i * NR, c[i][0]);
        _mm512_store_si512(acc + i * NR + 16, c[i][1]);
    }
    while (rest.next < rest.count) finish_next(&rest, tile, e); /* what a short k left */
}

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, const int8_t *b,
                     const int32_t *init, int32_t *acc, struct pending rest);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(                                                  \
        const struct qvitp_tile *tile, const struct qvitp_epilogue *e, const int8_t *b,            \
        const int32_t *init, int32_t *acc, struct pending rest)                                    \
    {                                                                                              \
        multiply(tile, e, m, b, init, acc, rest);                                                  \
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

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL,   rows_1, rows_2, rows_3,  rows_4,  rows_5, rows_6,
                                          rows_7, rows_8, rows_9, rows_10, rows_11, rows_12};
    int32_t acc[2][MR * NR] __attribute__((aligned(64)));
    struct pending rest = {0};
    const int8_t *b = tile->b;
    size_t turn = 0;
    for (size_t j = 0; j < tile->n; j += NR, turn ^= 1, b += tile->k * NR) {
        rows[tile->m](tile, e, b, e->init + tile->column + j, acc[turn], rest);
        rest = (struct pending){acc[turn], j, 0, 2 * tile->m};
    }
    while (rest.next < rest.count) finish_next(&rest, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_12x32_avx512vnni = {
    .name = "gemm_u8s8_12x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .macs_per_cycle = 64,
};

#endif
