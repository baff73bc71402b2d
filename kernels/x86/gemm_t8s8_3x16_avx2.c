/*
 * gemm_t8s8_3x16_avx2 - twin codes, as two planes of magnitudes, times 8-bit weights.
 *
 * Registers, panel and why nothing saturates: avx2_bytes_product.h. Its rows are the low and the high
 * plane of row 0, of row 1, ...
 */
#include "avx2_bytes_product.h"
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = QVITP_BYTES_ROWS / 2, NR = QVITP_BYTES_NR };

typedef void rows_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e, float t[][NR]);

/* 8 columns' sums of both ranges, whose vectors begin at `column`, scaled. */
QVITP_INLINE256 __m256 scaled(__m256i lo, __m256i hi, size_t column, const struct qvitp_epilogue *e)
{
    __m256 scale = _mm256_load_ps(e->scale + column);
    if (e->high) {
        lo = _mm256_mullo_epi32(lo, _mm256_set1_epi32(e->low));
        hi = _mm256_mullo_epi32(hi, _mm256_set1_epi32(e->high));
        return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(lo, hi)), scale);
    }
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(hi), _mm256_load_ps(e->scale2 + column));
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(lo), scale), t);
}

/* Adds the scaled sums of a K-block, whose vectors begin at `column`, to those of the blocks before
 * it. m is a constant wherever this and the following are called. */
QVITP_INLINE256 void add_scaled(size_t m, const struct qvitp_epilogue *e, size_t column,
                                size_t block, __m256i c[][2], float t[][NR])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        const __m256i *lo = c[2 * i], *hi = c[2 * i + 1];
        qvitp_256_add_block(block, t[i], scaled(lo[0], hi[0], column, e));
        qvitp_256_add_block(block, t[i] + 8, scaled(lo[1], hi[1], column + 8, e));
    }
}

/* The tile's sums to t, scaled. */
QVITP_INLINE256 void sum(const struct qvitp_tile *tile, size_t m, const struct qvitp_epilogue *e,
                         float t[][NR])
{
    const ptrdiff_t to_high = (ptrdiff_t)((uintptr_t)tile->a2 - (uintptr_t)tile->a);
    const struct qvitp_bytes_rows rows = {0, 2 * m, to_high, tile->lda - to_high};
    size_t blocks = qvitp_k_count(e), steps = qvitp_256_steps(128, tile->b_max);
    size_t column = tile->column * blocks, first = 0;
    for (size_t block = 0; block < blocks; block++, column += NR) {
        __m256i c[2 * MR][2], zero = _mm256_setzero_si256();
        size_t end = qvitp_k_end(block, tile, e);
        QVITP_OPAQUE_VECTOR(zero);
        QVITP_UNROLL
        for (size_t i = 0; i < 2 * m; i++) c[i][0] = c[i][1] = zero;
        qvitp_256_multiply_bytes(tile, rows, first, end, steps, c);
        add_scaled(m, e, column, block, c, t);
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
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);

QVITP_TARGET_AVX2 static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[] = {rows_1, rows_2, rows_3};
    float t[MR][NR] __attribute__((aligned(32)));
    rows[tile->m - 1](tile, e, t);
    qvitp_256_finish_tile(t, tile, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_3x16_avx2 = {
    .name = "gemm_t8s8_3x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = QVITP_BYTES_KSTEP,
    .a_form = QVITP_A_U8,
    .macs_per_cycle = 32,
};

#endif
