/*
 * avx512_blocks.h - what both AVX-512 products in K-blocks share: strips of rows, and what becomes of
 * their sums.
 *
 * At a block's end every vector of integer sums is converted, scaled and added to floats. In registers
 * that takes three instructions; in memory it would take a load and a 64-byte store more. So the floats
 * have registers, and a tile is done in two strips of rows, the second of which finds the panel near.
 *
 * Turning a strip's floats into outputs is left to the next strip, which does it in the shadow of its
 * first block's products, a row at a step, while it has no floats of its own. Only the last strip of
 * a call is finished in the open.
 */
#ifndef QVITP_AVX512_BLOCKS_H
#define QVITP_AVX512_BLOCKS_H

#include "avx512_epilogue.h"

#if QVITP_X86

enum { QVITP_512_STRIP = 7 }; /* rows at most */

struct qvitp_512_strip {
    size_t i, j, m;              /* first row and column in the tile, rows */
    const int8_t *b;             /* the panel */
    float (*sums)[QVITP_512_NR]; /* over all of k, scaled */
};

/* Sums up a strip, and finishes another. */
typedef void qvitp_512_strip_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *e,
                                const struct qvitp_512_strip *strip, struct qvitp_512_rest *rest);

/* A strip's sums, for who finishes it. m is a constant wherever this is called. */
QVITP_INLINE512 void qvitp_512_store_strip(const struct qvitp_512_strip *strip, size_t m,
                                           __m512 t[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_ps(strip->sums[i], t[i][0]);
        _mm512_store_ps(strip->sums[i] + 16, t[i][1]);
    }
}

/* All panels, in strips of at most `most` rows; rows[m] does one of m. */
QVITP_INLINE512 void qvitp_512_run_strips(const struct qvitp_tile *tile,
                                          const struct qvitp_epilogue *e, size_t most,
                                          qvitp_512_strip_fn *const rows[])
{
    float sums[2][QVITP_512_STRIP][QVITP_512_NR] __attribute__((aligned(64)));
    struct qvitp_512_rest rest = {0};
    struct qvitp_512_strip strip = {.b = tile->b};
    size_t turn = 0, first = tile->m > most ? (tile->m + 1) / 2 : tile->m;
    for (; strip.j < tile->n; strip.j += QVITP_512_NR, strip.b += tile->k * QVITP_512_NR)
        for (strip.i = 0; strip.i < tile->m; strip.i += strip.m, turn ^= 1) {
            strip.m = strip.i ? tile->m - first : first;
            strip.sums = sums[turn];
            rows[strip.m](tile, e, &strip, &rest);
            qvitp_512_wait(&rest, tile, e, strip.sums, strip.i, strip.m, strip.j);
        }
    while (rest.rows) qvitp_512_finish_sums(&rest, e);
}

#endif
#endif
