/*
 * pack_s8_avx512vnni - bytes into panels of steps of 4, whose columns are a multiple of 16: 16 columns of a step are a
 * vector.
 *
 * Rows that are columns: 64 bytes of 16 of them are 16 vectors of 16 steps, a matrix of 4-byte elements that is
 * transposed. Rows that are k: 64 columns of 4 of them are four vectors, whose bytes are interleaved. What is missing
 * at the edges is read as zeros.
 */
#include "avx512vnni_kernels.h"
#include "avx512_simd.h"

#if QVITP_X86

enum { STEP = 4, LANES = 16 };

QVITP_INLINE512 const int8_t *row_of(const struct qvitp_pack *p, size_t row)
{
    ptrdiff_t place = p->row_index ? p->row_index[row] : (ptrdiff_t)row;
    return p->rows + place * p->stride;
}

/* 64 bytes from `first` on of a row of n, or zeros if there is no such row. */
QVITP_INLINE512 __m512i load_row(const int8_t *row, size_t first, size_t n)
{
    if (!row || n <= first) return _mm512_setzero_si512();
    if (n - first >= 64) return _mm512_loadu_si512(row + first);
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << (n - first)) - 1, row + first);
}

/* x as a matrix of 16 x 16 elements of 4 bytes: pairs of rows, of pairs, and then quarters of vectors change places. */
QVITP_INLINE512 void transpose(__m512i x[LANES])
{
    __m512i y[LANES];
    QVITP_UNROLL
    for (size_t i = 0; i < LANES; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < LANES; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xDD);
        x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xDD);
    }
}

/* Where columns [column, column + 16) of a step begin. */
QVITP_INLINE512 int8_t *place_of(const struct qvitp_pack *p, size_t column, size_t step)
{
    size_t packed_k = (p->k + STEP - 1) / STEP * STEP;
    return p->panels + column / p->nr * p->nr * packed_k + (step * p->nr + column % p->nr) * STEP;
}

QVITP_INLINE512 void pack_columns(const struct qvitp_pack *p, size_t columns)
{
    size_t steps = (p->k + STEP - 1) / STEP;
    for (size_t column = 0; column < columns; column += LANES)
        for (size_t first = 0; first < steps; first += LANES) {
            __m512i x[LANES];
            int8_t *to = place_of(p, column, first);
            QVITP_UNROLL
            for (size_t i = 0; i < LANES; i++)
                x[i] =
                    load_row(column + i < p->n ? row_of(p, column + i) : NULL, first * STEP, p->k);
            transpose(x);
            QVITP_UNROLL
            for (size_t i = 0; i < LANES; i++)
                if (first + i < steps) _mm512_store_si512(to + i * p->nr * STEP, x[i]);
        }
}

/* Bytes 0, 1, 2, 3 of what follow each other in a step, column by column; of 64 columns. */
QVITP_INLINE512 void interleave(__m512i x[STEP])
{
    __m512i a = _mm512_unpacklo_epi8(x[0], x[1]), b = _mm512_unpackhi_epi8(x[0], x[1]);
    __m512i c = _mm512_unpacklo_epi8(x[2], x[3]), d = _mm512_unpackhi_epi8(x[2], x[3]);
    /* Quarter q of these are columns 16 q and on, of which each has four. */
    __m512i c0 = _mm512_unpacklo_epi16(a, c), c4 = _mm512_unpackhi_epi16(a, c);
    __m512i c8 = _mm512_unpacklo_epi16(b, d), c12 = _mm512_unpackhi_epi16(b, d);
    __m512i low = _mm512_shuffle_i32x4(c0, c4, 0x44), high = _mm512_shuffle_i32x4(c0, c4, 0xEE);
    __m512i low8 = _mm512_shuffle_i32x4(c8, c12, 0x44), high8 = _mm512_shuffle_i32x4(c8, c12, 0xEE);
    x[0] = _mm512_shuffle_i32x4(low, low8, 0x88), x[1] = _mm512_shuffle_i32x4(low, low8, 0xDD);
    x[2] = _mm512_shuffle_i32x4(high, high8, 0x88), x[3] = _mm512_shuffle_i32x4(high, high8, 0xDD);
}

QVITP_INLINE512 void pack_steps(const struct qvitp_pack *p, size_t columns)
{
    for (size_t step = 0; step * STEP < p->k; step++) {
        const int8_t *rows[STEP];
        for (size_t i = 0; i < STEP; i++)
            rows[i] = step * STEP + i < p->k ? row_of(p, step * STEP + i) : NULL;
        for (size_t column = 0; column < columns; column += 64) {
            __m512i x[STEP];
            QVITP_UNROLL
            for (size_t i = 0; i < STEP; i++) x[i] = load_row(rows[i], column, p->n);
            interleave(x);
            QVITP_UNROLL
            for (size_t i = 0; i < STEP; i++)
                if (column + 16 * i < columns)
                    _mm512_store_si512(place_of(p, column + 16 * i, step), x[i]);
        }
    }
}

QVITP_TARGET_AVX512VNNI void qvitp_pack_s8_avx512vnni(const struct qvitp_pack *p)
{
    size_t columns = (p->n + p->nr - 1) / p->nr * p->nr;
    if (p->by_k)
        pack_steps(p, columns);
    else
        pack_columns(p, columns);
}

#endif
