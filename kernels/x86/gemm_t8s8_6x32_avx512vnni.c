/*
 * gemm_t8s8_6x32_avx512vnni - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Registers: 6 x 2 accumulators for each plane, 2 of the panel, 1 broadcast: 27 of 32. The panel, and
 * how one panel's sums are finished while the next one's are made, are those of
 * gemm_u8s8_12x32_avx512vnni: two planes are, to the inner loop, twice the rows.
 *
 * Few probabilities of a softmax are in the high range. Where most steps of the high plane are zeros, 12 rows
 * are multiplied by their low plane alone, as plain codes are, and then each by the steps that are not.
 * Saturation: none, as there; magnitudes are bytes.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = 6, NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP, SPARSE_MR = QVITP_512_ROWS };

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
        __m512i lo = _mm512_load_si512(sums->lo + 16 * i),
                hi = _mm512_load_si512(sums->hi + 16 * i);
        t[i] = qvitp_512_scaled_twin(lo, hi, r->column + 16 * i, e);
        t[i] = _mm512_add_ps(t[i], _mm512_load_ps(bias + 16 * i));
    }
    qvitp_512_finish(t, r, e);
    qvitp_512_next(r, sizeof *sums);
}

/* The sums of one panel, while a row that waits is finished at each step or, where there is time, at each
 * second one. m is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_512_panel *panel, const uint8_t *a2, size_t m,
                              struct sums *sums, struct qvitp_512_rest *rest,
                              const struct qvitp_epilogue *e)
{
    const uint8_t *a = panel->a, *end = a + panel->k;
    const int8_t *b = panel->b;
    ptrdiff_t lda = panel->lda, lda3 = 3 * lda;
    size_t every = qvitp_512_pace(rest, panel->k);
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
        if (qvitp_512_is_due(rest, every, (size_t)(end - a))) finish_row(rest, e);
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

/* The same of the low plane alone. */
QVITP_INLINE512 void multiply_low(const struct qvitp_512_panel *panel, size_t m, struct sums *sums,
                                  struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)
{
    const uint8_t *a = panel->a, *end = a + panel->k;
    const int8_t *b = panel->b;
    ptrdiff_t lda = panel->lda, lda3 = 3 * lda;
    size_t every = qvitp_512_pace(rest, panel->k);
    __m512i c[SPARSE_MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = _mm512_setzero_si512();
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        qvitp_512_products(a, lda, lda3, b, m, 2, c, qvitp_512_nothing, NULL);
        if (qvitp_512_is_due(rest, every, (size_t)(end - a))) finish_row(rest, e);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(sums[i].lo, c[i][0]);
        _mm512_store_si512(sums[i].lo + 16, c[i][1]);
    }
    while (rest->rows) finish_row(rest, e);
}

typedef void rows_fn(const struct qvitp_512_panel *panel, const uint8_t *a2, struct sums *sums,
                     struct qvitp_512_rest *rest, const struct qvitp_epilogue *e);
typedef void low_fn(const struct qvitp_512_panel *panel, struct sums *sums,
                    struct qvitp_512_rest *rest, const struct qvitp_epilogue *e);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(                                                  \
        const struct qvitp_512_panel *panel, const uint8_t *a2, struct sums *sums,                 \
        struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)                               \
    {                                                                                              \
        multiply(panel, a2, m, sums, rest, e);                                                     \
    }                                                                                              \
    struct qvitp_tile
#define LOW(m)                                                                                     \
    QVITP_TARGET_AVX512VNNI static void low_##m(const struct qvitp_512_panel *panel,               \
                                                struct sums *sums, struct qvitp_512_rest *rest,    \
                                                const struct qvitp_epilogue *e)                    \
    {                                                                                              \
        multiply_low(panel, m, sums, rest, e);                                                     \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);
LOW(1);
LOW(2);
LOW(3);
LOW(4);
LOW(5);
LOW(6);
LOW(7);
LOW(8);
LOW(9);
LOW(10);
LOW(11);
LOW(12);

/* The steps of a few rows' high plane that are not zeros, a bit each. */
enum { WORDS = 32, STEPS_OF_WORD = 16 };
struct steps {
    uint16_t of[SPARSE_MR][WORDS];
    size_t words;
};

/* Finds them; returns whether they are few: at most every fourth, in rows of at most 2048 codes. */
QVITP_INLINE512 int find_steps(const struct qvitp_tile *tile, struct steps *steps)
{
    size_t count = 0, all = tile->m * tile->k / KSTEP, words = tile->k / 64 + (tile->k % 64 != 0);
    if (words > WORDS) return 0;
    steps->words = words;
    for (size_t i = 0; i < tile->m; i++) {
        const uint8_t *row = (const uint8_t *)tile->a2 + (ptrdiff_t)i * tile->lda;
        for (size_t w = 0; w < words; w++) {
            __mmask16 in = qvitp_512_mask(w * STEPS_OF_WORD, tile->k / KSTEP);
            __m512i codes = _mm512_maskz_loadu_epi32(in, row + w * 64);
            steps->of[i][w] = _mm512_test_epi32_mask(codes, codes);
            count += (size_t)_mm_popcnt_u32(steps->of[i][w]);
        }
        if (4 * count > all) return 0;
    }
    return 1;
}

/* The sums of a row's high plane, by these steps. */
QVITP_INLINE512 void multiply_steps(const uint8_t *a2, const uint16_t *words, size_t count,
                                    const int8_t *b, int32_t *hi)
{
    __m512i c0 = _mm512_setzero_si512(), c1 = c0;
    for (size_t w = 0; w < count; w++)
        for (uint32_t bits = words[w]; bits; bits &= bits - 1) {
            size_t step = w * STEPS_OF_WORD + (size_t)__builtin_ctz(bits);
            __m512i row = qvitp_512_broadcast4(a2 + step * KSTEP);
            const int8_t *panel = b + step * NR * KSTEP;
            c0 = _mm512_dpbusd_epi32(c0, row, _mm512_load_si512(panel));
            c1 = _mm512_dpbusd_epi32(c1, row, _mm512_load_si512(panel + 64));
        }
    _mm512_store_si512(hi, c0);
    _mm512_store_si512(hi + 16, c1);
}

/* One tile of up to SPARSE_MR rows. */
QVITP_INLINE512 void run_sparse(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                                const struct steps *steps)
{
    static low_fn *const low[SPARSE_MR + 1] = {NULL,  low_1, low_2, low_3,  low_4,  low_5, low_6,
                                               low_7, low_8, low_9, low_10, low_11, low_12};
    struct sums sums[2][SPARSE_MR] __attribute__((aligned(64)));
    struct qvitp_512_rest rest = {0};
    struct qvitp_512_panel panel = {tile->a, tile->lda, tile->k, tile->b};
    size_t turn = 0;
    for (size_t j = 0; j < tile->n; j += NR, turn ^= 1, panel.b += tile->k * NR) {
        low[tile->m](&panel, sums[turn], &rest, e);
        for (size_t i = 0; i < tile->m; i++)
            multiply_steps((const uint8_t *)tile->a2 + (ptrdiff_t)i * tile->lda, steps->of[i],
                           steps->words, panel.b, sums[turn][i].hi);
        qvitp_512_wait(&rest, tile, e, sums[turn], 0, tile->m, j);
    }
    while (rest.rows) finish_row(&rest, e);
}

QVITP_INLINE512 void run_dense(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    struct sums sums[2][MR] __attribute__((aligned(64)));
    struct qvitp_512_rest rest = {0};
    struct qvitp_512_panel panel = {.lda = tile->lda, .k = tile->k};
    size_t tiles = (tile->m + MR - 1) / MR, turn = 0;
    for (size_t first = 0, m; tiles > 0; tiles--, first += m) {
        m = (tile->m - first + tiles - 1) / tiles; /* of almost equal size */
        const uint8_t *a2 = (const uint8_t *)tile->a2 + (ptrdiff_t)first * tile->lda;
        panel.a = (const uint8_t *)tile->a + (ptrdiff_t)first * tile->lda;
        panel.b = tile->b;
        for (size_t j = 0; j < tile->n; j += NR, turn ^= 1, panel.b += tile->k * NR) {
            rows[m](&panel, a2, sums[turn], &rest, e);
            qvitp_512_wait(&rest, tile, e, sums[turn], first, m, j);
        }
    }
    while (rest.rows) finish_row(&rest, e);
}

/* Rows of which some may be sparse and others not, a strip at a time. */
QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    struct qvitp_tile strip = *tile;
    struct steps steps;
    const ptrdiff_t out_size = e->out == QVITP_OUT_CODE ? 1 : 4;
    const ptrdiff_t residual_size = e->residual == QVITP_RESIDUAL_F32 ? 4 : 1;
    for (size_t strips = (tile->m + SPARSE_MR - 1) / SPARSE_MR, left = tile->m; strips; strips--) {
        strip.m = (left + strips - 1) / strips; /* of almost equal size */
        if (find_steps(&strip, &steps))
            run_sparse(&strip, e, &steps);
        else
            run_dense(&strip, e);
        ptrdiff_t rows = (ptrdiff_t)strip.m;
        left -= strip.m;
        strip.a = (const char *)strip.a + rows * tile->lda;
        strip.a2 = (const char *)strip.a2 + rows * tile->lda;
        strip.out = (char *)strip.out + rows * tile->ldo * out_size;
        if (e->residual != QVITP_RESIDUAL_NONE)
            strip.residual = (const char *)strip.residual + rows * tile->ldr * residual_size;
    }
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
    .pack = qvitp_pack_s8_avx512vnni,
    .macs_per_cycle = 32,
};

#endif
