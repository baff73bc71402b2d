/*
 * avx512_scores.h - what begins the softmax of a row, of floats or of codes. Scores are padded, so whole vectors are
 * read everywhere.
 */
#ifndef QVITP_AVX512_SCORES_H
#define QVITP_AVX512_SCORES_H

#include <math.h>

#include "avx512_simd.h"

#if QVITP_X86

/* Adds a row of bias or mask to the scores. */
QVITP_INLINE512 void qvitp_512_add_row(float *scores, const float *x, size_t n)
{
    for (size_t j = 0; j < n; j += 16) {
        __m512 more = _mm512_maskz_loadu_ps(qvitp_512_mask(j, n), x + j);
        _mm512_store_ps(scores + j, _mm512_add_ps(_mm512_load_ps(scores + j), more));
    }
}

/* The largest score that is a number, or -infinity. Where one operand is NaN the second comes out. */
QVITP_INLINE512 float qvitp_512_top(const float *scores, size_t whole, __mmask16 last)
{
    __m512 a = _mm512_set1_ps(-INFINITY), b = a;
    size_t j = 0;
    for (; j + 32 <= whole; j += 32) {
        a = _mm512_max_ps(_mm512_load_ps(scores + j), a);
        b = _mm512_max_ps(_mm512_load_ps(scores + j + 16), b);
    }
    if (j < whole) a = _mm512_max_ps(_mm512_load_ps(scores + j), a);
    b = _mm512_mask_max_ps(b, last, _mm512_load_ps(scores + whole), b);
    return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

#endif
#endif
