/*
 * avx2vnni_product.h - the inner loop of the products of bytes (avx2_bytes_tile.h) that 256-bit VNNI has.
 *
 * Registers: 12 sums for 6 rows, 2 of the panel, 1 broadcast: 15 of the 16 that the VEX encoding names. A
 * step is 12 vpdpbusd, two a cycle, against 8 loads; 12 sums are more than their latency of four or five
 * cycles needs.
 *
 * Saturation: vpdpbusd adds four exact 16-bit products in 32 bits; it does not saturate.
 */
#ifndef QVITP_AVX2VNNI_PRODUCT_H
#define QVITP_AVX2VNNI_PRODUCT_H

#include "avx2_bytes_tile.h"

#if QVITP_X86

/* A qvitp_256_multiply_fn, to which `steps` is nothing. */
QVITP_TARGET_AVX2VNNI __attribute__((always_inline, unused)) static inline void
qvitp_256_multiply_vnni(const struct qvitp_tile *tile, struct qvitp_bytes_rows rows, size_t first,
                        size_t end, size_t steps, __m256i c[][2])
{
    const __m256i *b = (const __m256i *)tile->b + first / QVITP_BYTES_KSTEP * 2;
    uintptr_t a = (uintptr_t)tile->a + first;
    (void)steps;
    for (size_t k = first; k < end; k += QVITP_BYTES_KSTEP, a += QVITP_BYTES_KSTEP, b += 2) {
        __m256i b0 = b[0], b1 = b[1];
        uintptr_t next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < rows.count; i++) {
            QVITP_OPAQUE(next);
            __m256i row = qvitp_256_broadcast4((const char *)next);
            c[i][0] = QVITP_DPBUSD_256(c[i][0], row, b0);
            c[i][1] = QVITP_DPBUSD_256(c[i][1], row, b1);
            next += (uintptr_t)(i % 2 ? rows.odd : rows.even);
        }
    }
}

#endif
#endif
