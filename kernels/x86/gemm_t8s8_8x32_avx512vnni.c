/*
 * gemm_t8s8_8x32_avx512vnni - twin codes, as two planes of magnitudes, times 8-bit weights, in K-blocks.
 *
 * Registers: for 4 rows, half a tile, 4 x 2 accumulators for each plane, 4 x 2 vectors of floats, 2 of
 * the panel, 1 broadcast: 27 of 32. The panel is that of gemm_u8s8_12x32_avx512vnni, and nothing
 * saturates, as there; magnitudes are bytes. How a tile becomes outputs: avx512_blocks.h.
 *
 * A step is 16 vpdpbusd against 10 loads. A block's end adds, as in gemm_u8s8_14x32_avx512vnni, one
 * vmulps for each accumulator: 6 % for blocks of 64, 3 % for blocks of 128.
 */
#include "avx512vnni_kernels.h"
#include "avx512_blocks.h"

#if QVITP_X86

enum { MR = 8, STRIP = 4, NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP };

/* Starts a block's sums. m is a constant wherever this and the following are called. */
QVITP_INLINE512 void begin(size_t m, __m512i c[][4])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = _mm512_setzero_si512();
}

/* Of each row low, low, high, high; from the low plane to the high one it is `to_high` bytes. */
QVITP_INLINE512 void step(size_t m, uintptr_t a, ptrdiff_t to_high, ptrdiff_t lda, const int8_t *b,
                          __m512i c[][4])
{
    __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++, a += (uintptr_t)lda) {
        QVITP_OPAQUE(a);
        __m512i row = qvitp_512_broadcast4((const uint8_t *)a);
        c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
        c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
        row = qvitp_512_broadcast4((const uint8_t *)(a + (uintptr_t)to_high));
        c[i][2] = _mm512_dpbusd_epi32(c[i][2], row, b0);
        c[i][3] = _mm512_dpbusd_epi32(c[i][3], row, b1);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        QVITP_OPAQUE_VECTOR(c[i][0]);
        QVITP_OPAQUE_VECTOR(c[i][1]);
        QVITP_OPAQUE_VECTOR(c[i][2]);
        QVITP_OPAQUE_VECTOR(c[i][3]);
    }
}

/* Adds the scaled sums of a block to those of the blocks before it. */
QVITP_INLINE512 void add_scaled(size_t m, int is_first, size_t column,
                                const struct qvitp_epilogue *e, __m512i c[][4], __m512 t[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        __m512 u0 = qvitp_512_scaled_twin(c[i][0], c[i][2], column, e);
        __m512 u1 = qvitp_512_scaled_twin(c[i][1], c[i][3], column + 16, e);
        t[i][0] = is_first ? u0 : _mm512_add_ps(t[i][0], u0);
        t[i][1] = is_first ? u1 : _mm512_add_ps(t[i][1], u1);
    }
}

QVITP_INLINE512 void sum_strip(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                               const struct qvitp_512_strip *strip, size_t m,
                               struct qvitp_512_rest *rest)
{
    ptrdiff_t lda = tile->lda, to_high = (ptrdiff_t)((uintptr_t)tile->a2 - (uintptr_t)tile->a);
    uintptr_t start = (uintptr_t)tile->a + strip->i * (uintptr_t)lda, a = start;
    uintptr_t end = start + qvitp_k_end(0, tile, e);
    const int8_t *b = strip->b;
    size_t blocks = qvitp_k_count(e), column = (tile->column + strip->j) * blocks;
    __m512i c[STRIP][4];
    __m512 t[STRIP][2];

    begin(m, c);
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        step(m, a, to_high, lda, b, c);
        if (rest->rows) qvitp_512_finish_sums(rest, e);
    }
    while (rest->rows) qvitp_512_finish_sums(rest, e); /* a short block's rest */
    add_scaled(m, 1, column, e, c, t);
    for (size_t h = 1; h < blocks; h++) {
        column += NR;
        end = start + e->k_ends[h];
        begin(m, c);
        for (; a < end; a += KSTEP, b += NR * KSTEP) step(m, a, to_high, lda, b, c);
        add_scaled(m, 0, column, e, c, t);
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

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static qvitp_512_strip_fn *const rows[STRIP + 1] = {NULL, rows_1, rows_2, rows_3, rows_4};
    qvitp_512_run_strips(tile, e, STRIP, rows);
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_8x32_avx512vnni = {
    .name = "gemm_t8s8_8x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .pack = qvitp_pack_s8_avx512vnni,
    .macs_per_cycle = 32,
};

#endif
