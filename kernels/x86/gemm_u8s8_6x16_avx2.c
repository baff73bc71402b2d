/*
 * gemm_u8s8_6x16_avx2 - plain codes, widened to 16 bits, times 8-bit weights.
 *
 * A step is 2 values of k:
 *
 *     panel   | column 0: k k+1 | column 1: k k+1 | ... | column 15 |      32 bytes, vpmovsxbw
 *     row     a[k], a[k+1] as one 32-bit broadcast
 *
 * Registers: 2 accumulators a row, 2 of the panel, 1 broadcast, 1 product: 16 of 16 for 6 rows.
 *
 * Saturation: vpmaddubsw would add two products of 8-bit values in 16 bits, where 2 * 255 * 127
 * does not fit. vpmaddwd adds two products of 16-bit values in 32 bits and is exact; that is why A
 * is staged as 16-bit integers.
 */
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = 6, NR = 16, KSTEP = 2 };

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, float t[][NR]);

/* c = init + the products of k in [first, end), a K-block whose vectors begin at `column`. m is a
 * constant wherever this and the following are called. */
QVITP_INLINE256 void multiply(const struct qvitp_tile *tile, size_t m,
                              const struct qvitp_epilogue *e, size_t column, size_t first,
                              size_t end, __m256i c[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm256_load_si256((const __m256i *)(e->init + column));
        c[i][1] = _mm256_load_si256((const __m256i *)(e->init + column) + 1);
    }
    uintptr_t a = (uintptr_t)tile->a + first * sizeof(int16_t);
    const __m128i *b = (const __m128i *)tile->b + first;
    for (size_t k = first; k < end; k += KSTEP, a += KSTEP * sizeof(int16_t), b += 2) {
        __m256i b0 = _mm256_cvtepi8_epi16(b[0]), b1 = _mm256_cvtepi8_epi16(b[1]);
        uintptr_t next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += (uintptr_t)tile->lda) {
            QVITP_OPAQUE(next);
            __m256i row = qvitp_256_broadcast4((const char *)next);
            c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(row, b0));
            c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(row, b1));
        }
    }
}

/* The tile's sums to t, scaled; for S32 and SUM output as they are. */
QVITP_INLINE256 void sum(const struct qvitp_tile *tile, size_t m, const struct qvitp_epilogue *e,
                         float t[][NR])
{
    __m256i c[MR][2];
    multiply(tile, m, e, tile->column, 0, tile->k, c);
    if (!qvitp_256_is_bare(e)) {
        qvitp_256_add_scaled(m, e, tile->column, 0, c, t);
        return;
    }
    qvitp_256_store_sums(m, c, t);
}

/* The same in K-blocks. */
QVITP_INLINE256 void sum_blocks(const struct qvitp_tile *tile, size_t m,
                                const struct qvitp_epilogue *e, float t[][NR])
{
    size_t column = tile->column * e->k_blocks, first = 0;
    for (size_t block = 0; block < e->k_blocks; block++, column += NR) {
        __m256i c[MR][2];
        size_t end = e->k_ends[block];
        multiply(tile, m, e, column, first, end, c);
        qvitp_256_add_scaled(m, e, column, block, c, t);
        first = end;
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile,                          \
                                           const struct qvitp_epilogue *e, float t[][NR])          \
    {                                                                                              \
        sum(tile, m, e, t);                                                                        \
    }                                                                                              \
    QVITP_TARGET_AVX2 static void blocks_##m(const struct qvitp_tile *tile,                        \
                                             const struct qvitp_epilogue *e, float t[][NR])        \
    {                                                                                              \
        sum_blocks(tile, m, e, t);                                                                 \
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
    static rows_fn *const rows[][2] = {{rows_1, blocks_1}, {rows_2, blocks_2}, {rows_3, blocks_3},
                                       {rows_4, blocks_4}, {rows_5, blocks_5}, {rows_6, blocks_6}};
    float t[MR][NR] __attribute__((aligned(32)));
    rows[tile->m - 1][e->k_blocks > 1](tile, e, t);
    qvitp_256_finish_tile(t, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_6x16_avx2 = {
    .name = "gemm_u8s8_6x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_S16,
    .macs_per_cycle = 32,
};

#endif
