/*
 * avx512_product.h - the inner loop of AVX-512 products of plain codes: 12 rows at most, 32 columns.
 *
 * Registers: 12 x 2 accumulators, 2 of the panel, 1 broadcast: 27 of 32; the other five are for what
 * follows the sums. A step is 4 values of k:
 *
 *     panel   | column 0: k k+1 k+2 k+3 | column 1: ... | ... column 31 |      128 bytes, 2 loads
 *     row i   a[k .. k+3] as one broadcast, A where it lies: no packing
 *
 * and 24 vpdpbusd, one a cycle, against 14 loads, two a cycle.
 * Saturation: vpdpbusd adds four exact 16-bit products in 32 bits; it does not saturate.
 */
#ifndef QVITP_AVX512_PRODUCT_H
#define QVITP_AVX512_PRODUCT_H

#include "avx512_simd.h"

#if QVITP_X86

enum { QVITP_512_NR = 32, QVITP_512_ROWS = 12, QVITP_512_KSTEP = 4 };

/* One panel's operands. */
struct qvitp_512_panel {
    const uint8_t *a;
    ptrdiff_t lda;
    size_t k;
    const int8_t *b;
};

/* What is done between the products of rows: `row` counts them, and is a constant. */
typedef void qvitp_512_between_fn(size_t row, void *user);
QVITP_INLINE512 void qvitp_512_nothing(size_t row, void *user) { (void)row, (void)user; }

/* 4 values of k. m and vectors, of 16 columns, are constants wherever this is called. */
QVITP_INLINE512 void qvitp_512_products(const uint8_t *a, ptrdiff_t lda, ptrdiff_t lda3,
                                        const int8_t *b, size_t m, size_t vectors, __m512i c[][2],
                                        qvitp_512_between_fn *between, void *user)
{
    __m512i b0 = _mm512_load_si512(b), b1 = b0;
    if (vectors == 2) b1 = _mm512_load_si512(b + 64);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        if (i && i % 4 == 0) a += 4 * lda;
        QVITP_OPAQUE(a);
        __m512i row = qvitp_512_broadcast_row(a, i, lda, lda3);
        c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
        if (vectors == 2) c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
        between(i, user);
    }
}

#endif
#endif
