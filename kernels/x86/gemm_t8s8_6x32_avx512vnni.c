/*
 * gemm_t8s8_6x32_avx512vnni - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Registers: 6 x 2 accumulators for each plane, 2 of the panel, 1 broadcast: 27 of 32. The panel, and
 * how one panel's sums are finished while the next one's are made, are those of
 * gemm_u8s8_12x32_avx512vnni: two planes are, to the inner loop, twice the rows.
 * Saturation: none, as there; magnitudes are bytes.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 6, NR = 32, KSTEP = 4 };

/* Sums of one panel that wait to become outputs: vector v is columns 16 (v % 2) of row v / 2. */
struct pending {
    const int32_t *lo, *hi; /* [rows][NR] */
    size_t j;               /* of the panel's first column in the tile */
    size_t next, count;     /* vectors */
};

QVITP_INLINE512 void finish_next(struct pending *p, const struct qvitp_tile *tile,
                                 const struct qvitp_epilogue *e)
{
    size_t i = p->next / 2, j = p->j + p->next % 2 * 16, column = tile->column + j;
    __m512i lo = _mm512_load_si512(p->lo + p->next * 16);
    __m512i hi = _mm512_load_si512(p->hi + p->next * 16);
    p->next++;
    __m512 t = qvitp_512_scaled_twin(lo, hi, column, e);
    t = _mm512_add_ps(t, _mm512_load_ps(e->bias + column));
    qvitp_512_finish(t, i, j, qvitp_512_mask(j, tile->n), tile, e);
}

/* The sums of one panel, while the pending ones are finished. m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                              size_t m, const int8_t *b, int32_t *lo, int32_t *hi,
                              struct pending rest)
{
    const uint8_t *a = tile->a, *a2 = tile->a2, *end = a + tile->k;
    ptrdiff_t lda = tile->lda;
    __m512i c[MR][4]; /* low, low, high, high */
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = _mm512_setzero_si512();
    for (; a < end; a += KSTEP, a2 += KSTEP, b += NR * KSTEP) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
        const uint8_t *next = a, *next2 = a2;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda, next2 += lda) {
            QVITP_OPAQUE(next);
            QVITP_OPAQUE(next2);
            __m512i row = qvitp_512_broadcast4(next);
            c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
            c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
            row = qvitp_512_broadcast4(next2);
            c[i][2] = _mm512_dpbusd_epi32(c[i][2], row, b0);
            c[i][3] = _mm512_dpbusd_epi32(c[i][3], row, b1);
        }
        if (rest.next < rest.count) finish_next(&rest, tile, e);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(lo + i * NR, c[i][0]);
        _mm512_store_si512(lo + i * NR + 16, c[i][1]);
        _mm512_store_si512(hi + i * NR, c[i][2]);
        _mm512_store_si512(hi + i * NR + 16, c[i][3]);
    }
    while (rest.next < rest.count) finish_next(&rest, tile, e); /* what a short k left */
}

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, const int8_t *b,
                     int32_t *lo, int32_t *hi, struct pending rest);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(const struct qvitp_tile *tile,                    \
                                                 const struct qvitp_epilogue *e, const int8_t *b,  \
                                                 int32_t *lo, int32_t *hi, struct pending rest)    \
    {                                                                                              \
        multiply(tile, e, m, b, lo, hi, rest);                                                     \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    int32_t lo[2][MR * NR] __attribute__((aligned(64))),
        hi[2][MR * NR] __attribute__((aligned(64)));
    struct pending rest = {0};
    const int8_t *b = tile->b;
    size_t turn = 0;
    for (size_t j = 0; j < tile->n; j += NR, turn ^= 1, b += tile->k * NR) {
        rows[tile->m](tile, e, b, lo[turn], hi[turn], rest);
        rest = (struct pending){lo[turn], hi[turn], j, 0, 2 * tile->m};
    }
    while (rest.next < rest.count) finish_next(&rest, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_6x32_avx512vnni = {
    .name = "gemm_t8s8_6x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .macs_per_cycle = 32,
};

#endif
