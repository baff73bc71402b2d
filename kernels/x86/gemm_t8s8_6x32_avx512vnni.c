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
#include "base/shares.h"

#if QVITP_X86

enum { MR = 6, NR = QVITP_512_NR, KSTEP = 4 };

/* The sums of one row. */
struct sums {
    int32_t lo[NR], hi[NR];
};

/* The next row that waits. */
QVITP_INLINE512 void finish_row(struct qvitp_512_rest *r, const struct qvitp_epilogue *e)
{
    const struct sums *sums = (const void *)r->sums;
    const float *bias = e->bias + r->column;
    __m512 t[2];
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m512i lo = _mm512_load_si512(sums->lo + 16 * i), hi = _mm512_load_si512(sums->hi + 16 * i);
        t[i] = qvitp_512_scaled_twin(lo, hi, r->column + 16 * i, e);
        t[i] = _mm512_add_ps(t[i], _mm512_load_ps(bias + 16 * i));
    }
    qvitp_512_finish(t, r, e);
    qvitp_512_next(r, sizeof *sums);
}

/* One panel's operands. */
struct panel {
    const uint8_t *a, *a2;
    ptrdiff_t lda;
    size_t k;
    const int8_t *b;
};

/* The sums of one panel, while a row that waits is finished at each step or, where there is time, at each
 * second one. m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct panel *panel, size_t m, struct sums *sums,
                              struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)
{
    const uint8_t *a = panel->a, *a2 = panel->a2, *end = a + panel->k;
    const int8_t *b = panel->b;
    ptrdiff_t lda = panel->lda, lda3 = 3 * lda;
    size_t every = panel->k / KSTEP >= 2 * rest->rows ? 2 * KSTEP : KSTEP;
    __m512i c[MR][4]; /* low, low, high, high */
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = _mm512_setzero_si512();
    for (; a < end; a += KSTEP, a2 += KSTEP, b += NR * KSTEP) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
        const uint8_t *low = a, *high = a2;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++) {
            if (i && i % 4 == 0) low += 4 * lda, high += 4 * lda;
            QVITP_OPAQUE(low);
            QVITP_OPAQUE(high);
            __m512i row = qvitp_512_broadcast_row(low, i, lda, lda3);
            c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
            c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
            row = qvitp_512_broadcast_row(high, i, lda, lda3);
            c[i][2] = _mm512_dpbusd_epi32(c[i][2], row, b0);
            c[i][3] = _mm512_dpbusd_epi32(c[i][3], row, b1);
        }
        if (rest->rows && !((size_t)(end - a) & (every - KSTEP))) finish_row(rest, e);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(sums[i].lo, c[i][0]);
        _mm512_store_si512(sums[i].lo + 16, c[i][1]);
        _mm512_store_si512(sums[i].hi, c[i][2]);
        _mm512_store_si512(sums[i].hi + 16, c[i][3]);
    }
    while (rest->rows) finish_row(rest, e); /* what a short k left */
}

typedef void rows_fn(const struct panel *panel, struct sums *sums, struct qvitp_512_rest *rest,
                     const struct qvitp_epilogue *e);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(const struct panel *panel, struct sums *sums,     \
                                                 struct qvitp_512_rest *rest,                      \
                                                 const struct qvitp_epilogue *e)                   \
    {                                                                                              \
        multiply(panel, m, sums, rest, e);                                                         \
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
    struct sums sums[2][MR] __attribute__((aligned(64)));
    struct qvitp_512_rest rest = {0};
    struct panel panel = {.lda = tile->lda, .k = tile->k};
    size_t tiles = (tile->m + MR - 1) / MR, turn = 0;
    for (size_t i = 0; i < tiles; i++) {
        size_t first = qvitp_share(tile->m, tiles, i);
        size_t m = qvitp_share(tile->m, tiles, i + 1) - first;
        panel.a = (const uint8_t *)tile->a + (ptrdiff_t)first * tile->lda;
        panel.a2 = (const uint8_t *)tile->a2 + (ptrdiff_t)first * tile->lda;
        panel.b = tile->b;
        for (size_t j = 0; j < tile->n; j += NR, turn ^= 1, panel.b += tile->k * NR) {
            rows[m](&panel, sums[turn], &rest, e);
            qvitp_512_wait(&rest, tile, e, sums[turn], first, m, j);
        }
    }
    while (rest.rows) finish_row(&rest, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_6x32_avx512vnni = {
    .name = "gemm_t8s8_6x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .tall = 1,
    .macs_per_cycle = 32,
};

#endif
