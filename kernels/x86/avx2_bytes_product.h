/*
 * avx2_bytes_product.h - the inner loops of the products of bytes (avx2_bytes_tile.h) that AVX2 has.
 *
 * Saturation: vpmaddubsw adds two products in 16 bits, where up to INT16_MAX / (2 * a_max * b_max)
 * such pairs fit one upon the other. So many steps are summed in 16 bits before vpmaddwd by ones adds
 * neighbours into 32 bits. One step always fits where these kernels are used: 2 * 255 * 64 = 32640
 * of small weights, 2 * 128 * -128 = -32768 of twin magnitudes (ab_max) and any weights.
 *
 * Registers: with three or more steps, 12 sums of 16 bits for 6 rows, 2 of the panel, 1 broadcast, 1
 * product, and the 32-bit sums on the stack. With one or two, these are the 12, and each product goes
 * to them at once: a trip to the stack would cost more than the 16-bit additions save.
 */
#ifndef QVITP_AVX2_BYTES_PRODUCT_H
#define QVITP_AVX2_BYTES_PRODUCT_H

#include "avx2_bytes_tile.h"

#if QVITP_X86

/* A step in 16 bits, added to s, or, if it is the first, put there. */
QVITP_INLINE256 void qvitp_256_step_16(struct qvitp_bytes_rows rows, const __m256i *b, int first,
                                       __m256i s[][2])
{
    __m256i b0 = b[0], b1 = b[1];
    uintptr_t next = rows.a;
    QVITP_UNROLL
    for (size_t i = 0; i < rows.count; i++) {
        QVITP_OPAQUE(next);
        __m256i row = qvitp_256_broadcast4((const char *)next);
        __m256i p0 = _mm256_maddubs_epi16(row, b0), p1 = _mm256_maddubs_epi16(row, b1);
        s[i][0] = first ? p0 : _mm256_add_epi16(s[i][0], p0);
        s[i][1] = first ? p1 : _mm256_add_epi16(s[i][1], p1);
        if (first) { /* else gcc 12 would keep each of them twice */
            QVITP_OPAQUE_VECTOR(s[i][0]);
            QVITP_OPAQUE_VECTOR(s[i][1]);
        }
        next += (uintptr_t)(i % 2 ? rows.odd : rows.even);
    }
}

/* c += the products of k in [first, end), in groups of `steps`, three or more. */
QVITP_INLINE256 void qvitp_256_multiply_many(struct qvitp_bytes_rows rows, const __m256i *b,
                                             size_t first, size_t end, size_t steps, __m256i c[][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t k = first; k < end;) {
        size_t stop = end - k < steps * QVITP_BYTES_KSTEP ? end : k + steps * QVITP_BYTES_KSTEP;
        __m256i s[QVITP_BYTES_ROWS][2];
        qvitp_256_step_16(rows, b, 1, s);
        for (;;) {
            k += QVITP_BYTES_KSTEP, rows.a += QVITP_BYTES_KSTEP, b += 2;
            if (k == stop) break;
            qvitp_256_step_16(rows, b, 0, s);
        }
        QVITP_UNROLL
        for (size_t i = 0; i < rows.count; i++) {
            c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(s[i][0], ones));
            c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(s[i][1], ones));
        }
    }
}

/* c += the products of one step, or of two at once; a constant wherever this is called. */
QVITP_INLINE256 void qvitp_256_step_32(struct qvitp_bytes_rows rows, const __m256i *b, int two,
                                       __m256i ones, __m256i c[][2])
{
    __m256i b0 = b[0], b1 = b[1], b2 = b[two ? 2 : 0], b3 = b[two ? 3 : 1];
    uintptr_t next = rows.a;
    QVITP_UNROLL
    for (size_t i = 0; i < rows.count; i++) {
        QVITP_OPAQUE(next);
        __m256i row = qvitp_256_broadcast4((const char *)next);
        __m256i p0 = _mm256_maddubs_epi16(row, b0), p1 = _mm256_maddubs_epi16(row, b1);
        if (two) {
            row = qvitp_256_broadcast4((const char *)next + QVITP_BYTES_KSTEP);
            p0 = _mm256_add_epi16(p0, _mm256_maddubs_epi16(row, b2));
            p1 = _mm256_add_epi16(p1, _mm256_maddubs_epi16(row, b3));
        }
        c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(p0, ones));
        c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(p1, ones));
        QVITP_OPAQUE_VECTOR(c[i][0]); /* else gcc 12 would keep most of them on the stack */
        QVITP_OPAQUE_VECTOR(c[i][1]);
        next += (uintptr_t)(i % 2 ? rows.odd : rows.even);
    }
}

/* c += the products of k in [first, end), of which `steps`, one or two, fit 16 bits. */
QVITP_INLINE256 void qvitp_256_multiply_few(struct qvitp_bytes_rows rows, const __m256i *b,
                                            size_t first, size_t end, size_t steps, __m256i c[][2])
{
    __m256i ones = _mm256_set1_epi16(1);
    QVITP_OPAQUE_VECTOR(ones); /* else it would be made anew for each product */
    size_t k = first, pairs_end = steps == 1 ? k : end - (end - k) % (2 * QVITP_BYTES_KSTEP);
    for (; k < pairs_end; k += 2 * QVITP_BYTES_KSTEP, rows.a += 2 * QVITP_BYTES_KSTEP, b += 4)
        qvitp_256_step_32(rows, b, 1, ones, c);
    for (; k < end; k += QVITP_BYTES_KSTEP, rows.a += QVITP_BYTES_KSTEP, b += 2)
        qvitp_256_step_32(rows, b, 0, ones, c);
}

/* A qvitp_256_multiply_fn. */
QVITP_INLINE256 void qvitp_256_multiply_bytes(const struct qvitp_tile *tile,
                                              struct qvitp_bytes_rows rows, size_t first,
                                              size_t end, size_t steps, __m256i c[][2])
{
    const __m256i *b = (const __m256i *)tile->b + first / QVITP_BYTES_KSTEP * 2;
    rows.a = (uintptr_t)tile->a + first;
    if (steps > 2)
        qvitp_256_multiply_many(rows, b, first, end, steps, c);
    else
        qvitp_256_multiply_few(rows, b, first, end, steps, c);
}

#endif
#endif
