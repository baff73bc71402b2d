/*
 * gemm_u8s8_14x32_avx512vnni - plain codes times 8-bit weights, in K-blocks.
 *
 * Registers: for 7 rows, half a tile, 7 x 2 accumulators, as many vectors of floats, 2 of the panel,
 * 1 broadcast: 31 of 32. The panel is that of gemm_u8s8_12x32_avx512vnni, and nothing saturates, as
 * there. How a tile becomes outputs: avx512_blocks.h.
 *
 * A step is 14 vpdpbusd, one a cycle, against 9 loads, two a cycle. On Zen 4 a block's end adds 14
 * vmulps to the pipes of vpdpbusd, conversions and additions take others: 14 cycles on 224 for a block
 * of 64 (6 %), on 448 for one of 128 (3 %). 12 x 32 sums at a time, with the floats in memory, would also
 * store each vector, at the price of a multiplication (bench/README.md): 12 % and 6 %.
 */
#include "avx512vnni_kernels.h"
#include "avx512_blocks.h"

#if QVITP_X86

enum { MR = 14, STRIP = 7, NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP };

/* Starts a block's sums. m is a constant wherever this and the following are called. */
QVITP_INLINE512 void begin(size_t m, const int32_t *init, __m512i c[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm512_load_si512(init);
        c[i][1] = _mm512_load_si512(init + 16);
    }
}

QVITP_INLINE512 void step(size_t m, const uint8_t *a, ptrdiff_t lda, const int8_t *b,
                          __m512i c[][2])
{
    __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++, a += lda) {
        QVITP_OPAQUE(a);
        __m512i row = qvitp_512_broadcast4(a);
        c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
        c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        QVITP_OPAQUE_VECTOR(c[i][0]);
        QVITP_OPAQUE_VECTOR(c[i][1]);
    }
}

/* Adds the scaled sums of a block to those of the blocks before it. */
QVITP_INLINE512 void add_scaled(size_t m, int is_first, const float *scale, __m512i c[][2],
                                __m512 t[][2])
{
    __m512 scale0 = _mm512_load_ps(scale), scale1 = _mm512_load_ps(scale + 16);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        __m512 u0 = _mm512_mul_ps(_mm512_cvtepi32_ps(c[i][0]), scale0);
        __m512 u1 = _mm512_mul_ps(_mm512_cvtepi32_ps(c[i][1]), scale1);
        t[i][0] = is_first ? u0 : _mm512_add_ps(t[i][0], u0);
        t[i][1] = is_first ? u1 : _mm512_add_ps(t[i][1], u1);
    }
}

QVITP_INLINE512 void sum_strip(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                               const struct qvitp_512_strip *strip, size_t m,
                               struct qvitp_512_rest *rest)
{
    ptrdiff_t lda = tile->lda;
    const uint8_t *start = (const uint8_t *)tile->a + (ptrdiff_t)strip->i * lda, *a = start;
    const uint8_t *end = start + qvitp_k_end(0, tile, e);
    const int8_t *b = strip->b;
    size_t blocks = qvitp_k_count(e), column = (tile->column + strip->j) * blocks;
    __m512i c[STRIP][2];
    __m512 t[STRIP][2];

    begin(m, e->init + column, c);
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        step(m, a, lda, b, c);
        if (rest->rows) qvitp_512_finish_sums(rest, e);
    }
    while (rest->rows) qvitp_512_finish_sums(rest, e); /* a short block's rest */
    add_scaled(m, 1, e->scale + column, c, t);
    for (size_t h = 1; h < blocks; h++) {
        column += NR;
        end = start + e->k_ends[h];
        begin(m, e->init + column, c);
        for (; a < end; a += KSTEP, b += NR * KSTEP) step(m, a, lda, b, c);
        add_scaled(m, 0, e->scale + column, c, t);
    }
    qvitp_512_store_strip(strip, m, t);
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX512VNNI static void rows_##m(                                                  \
        const struct qvitp_tile *tile, const struct qvitp_epilogue *e,                             \
        const struct qvitp_512_strip *strip, struct qvitp_512_rest *rest)                          \
    {                                                                                              \
        sum_strip(tile, e, strip, m, rest);                                                        \
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
    static qvitp_512_strip_fn *const rows[STRIP + 1] = {NULL,   rows_1, rows_2, rows_3,
                                                        rows_4, rows_5, rows_6, rows_7};
    qvitp_512_run_strips(tile, e, STRIP, rows);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_14x32_avx512vnni = {
    .name = "gemm_u8s8_14x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .pack = qvitp_pack_s8_avx512vnni,
    .macs_per_cycle = 64,
};

#endif
