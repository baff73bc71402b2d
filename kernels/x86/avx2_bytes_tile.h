/*
 * avx2_bytes_tile.h - a tile of the products that multiply bytes 256 bits at a time: rows of unsigned bytes
 * times a panel of 16 columns. To their inner loops the two planes of a twin operand are twice the rows:
 * the low and the high plane of row 0, of row 1, ...
 *
 * A step is 4 values of k:
 *
 *     panel   | column 0: k k+1 k+2 k+3 | column 1: ... | ... column 15 |      64 bytes, 2 loads
 *     row     a[k .. k+3] as one broadcast
 */
#ifndef QVITP_AVX2_BYTES_TILE_H
#define QVITP_AVX2_BYTES_TILE_H

#include "avx2_epilogue.h"

#if QVITP_X86

enum { QVITP_BYTES_NR = 16, QVITP_BYTES_KSTEP = 4, QVITP_BYTES_ROWS = 6 };

/* The rows of A, from some k on: from an even row to the next it is `even` bytes, from an odd one `odd`.
 * `count` is a constant wherever this is used. */
struct qvitp_bytes_rows {
    uintptr_t a;
    size_t count;
    ptrdiff_t even, odd;
};

/* The inner loop: c[i] += row i of A times the panel, over k in [first, end), of which `steps`, at least
 * one, can be added up in 16 bits. rows.a is not read. */
typedef void qvitp_256_multiply_fn(const struct qvitp_tile *tile, struct qvitp_bytes_rows rows,
                                   size_t first, size_t end, size_t steps, __m256i c[][2]);

/* How many steps fit 16 bits, signed. */
static inline size_t qvitp_256_steps(int32_t a_max, int32_t b_max)
{
    int32_t fit = INT16_MAX / (2 * a_max * b_max);
    return fit > 1 ? (size_t)fit : 1;
}

/* The tile's sums to t, scaled; for S32 and SUM output as they are. m and multiply are constants wherever this and
 * the following are called. */
QVITP_INLINE256 void qvitp_256_sum_plain(const struct qvitp_tile *tile, size_t m,
                                         const struct qvitp_epilogue *e,
                                         qvitp_256_multiply_fn *multiply, float t[][QVITP_BYTES_NR])
{
    const struct qvitp_bytes_rows rows = {0, m, tile->lda, tile->lda};
    size_t blocks = qvitp_k_count(e), steps = qvitp_256_steps(255, tile->b_max);
    size_t column = tile->column * blocks, first = 0;
    for (size_t block = 0; block < blocks; block++, column += QVITP_BYTES_NR) {
        __m256i c[QVITP_BYTES_ROWS][2];
        size_t end = qvitp_k_end(block, tile, e);
        const __m256i *init = (const __m256i *)(e->init + column);
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++) c[i][0] = init[0], c[i][1] = init[1];
        multiply(tile, rows, first, end, steps, c);
        if (qvitp_256_is_bare(e))
            qvitp_256_store_sums(m, c, t);
        else
            qvitp_256_add_scaled(m, e, column, block, c, t);
        first = end;
    }
}

/* 8 columns' sums of both ranges, whose vectors begin at `column`, scaled. */
QVITP_INLINE256 __m256 qvitp_256_scaled_twin(__m256i lo, __m256i hi, size_t column,
                                             const struct qvitp_epilogue *e)
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
 * it. */
QVITP_INLINE256 void qvitp_256_add_scaled_twin(size_t m, const struct qvitp_epilogue *e,
                                               size_t column, size_t block, __m256i c[][2],
                                               float t[][QVITP_BYTES_NR])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        const __m256i *lo = c[2 * i], *hi = c[2 * i + 1];
        qvitp_256_add_block(block, t[i], qvitp_256_scaled_twin(lo[0], hi[0], column, e));
        qvitp_256_add_block(block, t[i] + 8, qvitp_256_scaled_twin(lo[1], hi[1], column + 8, e));
    }
}

/* The sums of a tile of twins, at most QVITP_BYTES_ROWS / 2 rows, to t, scaled. */
QVITP_INLINE256 void qvitp_256_sum_twin(const struct qvitp_tile *tile, size_t m,
                                        const struct qvitp_epilogue *e,
                                        qvitp_256_multiply_fn *multiply, float t[][QVITP_BYTES_NR])
{
    const ptrdiff_t to_high = (ptrdiff_t)((uintptr_t)tile->a2 - (uintptr_t)tile->a);
    const struct qvitp_bytes_rows rows = {0, 2 * m, to_high, tile->lda - to_high};
    size_t blocks = qvitp_k_count(e), steps = qvitp_256_steps(tile->a_max, tile->b_max);
    size_t column = tile->column * blocks, first = 0;
    for (size_t block = 0; block < blocks; block++, column += QVITP_BYTES_NR) {
        __m256i c[QVITP_BYTES_ROWS][2], zero = _mm256_setzero_si256();
        size_t end = qvitp_k_end(block, tile, e);
        QVITP_OPAQUE_VECTOR(zero);
        QVITP_UNROLL
        for (size_t i = 0; i < 2 * m; i++) c[i][0] = c[i][1] = zero;
        multiply(tile, rows, first, end, steps, c);
        qvitp_256_add_scaled_twin(m, e, column, block, c, t);
        first = end;
    }
}

#endif
#endif
