/*
 * avx2_product.h - the inner loop of both AVX2 products of codes: rows of 16-bit integers times a
 * panel of 16 columns. To it, the two planes of a twin operand are twice the rows.
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
#ifndef QVITP_AVX2_PRODUCT_H
#define QVITP_AVX2_PRODUCT_H

#include "kernels/kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

enum { QVITP_256_NR = 16, QVITP_256_KSTEP = 2 };

/*
 * c[i] += row i of A times the panel, over k in [first, end). From an even row to the next it is
 * `even` bytes, from an odd one `odd`. `rows` is a constant wherever this is called.
 */
QVITP_INLINE256 void qvitp_256_multiply(const struct qvitp_tile *tile, size_t rows, ptrdiff_t even,
                                        ptrdiff_t odd, size_t first, size_t end, __m256i c[][2])
{
    uintptr_t a = (uintptr_t)tile->a + first * sizeof(int16_t);
    const __m128i *b = (const __m128i *)tile->b + first;
    for (size_t k = first; k < end; k += QVITP_256_KSTEP, a += 2 * sizeof(int16_t), b += 2) {
        __m256i b0 = _mm256_cvtepi8_epi16(b[0]), b1 = _mm256_cvtepi8_epi16(b[1]);
        uintptr_t next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < rows; i++) {
            QVITP_OPAQUE(next);
            __m256i row = qvitp_256_broadcast2((const char *)next);
            c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(row, b0));
            c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(row, b1));
            next += (uintptr_t)(i % 2 ? odd : even);
        }
    }
}

#endif
#endif
