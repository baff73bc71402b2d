/*
 * avx2_scores.h - what begins the softmax of a row, of floats or of codes. Scores are padded, so whole vectors are read
 * everywhere.
 */
#ifndef QVITP_AVX2_SCORES_H
#define QVITP_AVX2_SCORES_H

#include <math.h>

#include "avx2_simd.h"

#if QVITP_X86

/* Adds a row of bias or mask to the scores. */
QVITP_INLINE256 void qvitp_256_add_row(float *scores, const float *x, size_t n)
{
    for (size_t j = 0; j < n; j += 8)
        _mm256_store_ps(scores + j,
                        _mm256_add_ps(_mm256_load_ps(scores + j), qvitp_256_load(x, j, n)));
}

/* The lanes of the last 16 that are below n. */
QVITP_INLINE256 void qvitp_256_last_lanes(size_t whole, size_t n, __m256 in[2])
{
    in[0] = _mm256_castsi256_ps(qvitp_256_mask(whole, n));
    in[1] = _mm256_castsi256_ps(qvitp_256_mask(whole + 8, n));
}

/* The largest score that is a number, or -infinity. Where one operand is NaN the second comes out. */
QVITP_INLINE256 float qvitp_256_top(const float *scores, size_t whole, const __m256 in[2])
{
    const __m256 nothing = _mm256_set1_ps(-INFINITY);
    __m256 a = nothing, b = nothing;
    for (size_t j = 0; j < whole; j += 16) {
        a = _mm256_max_ps(_mm256_load_ps(scores + j), a);
        b = _mm256_max_ps(_mm256_load_ps(scores + j + 8), b);
    }
    a = _mm256_max_ps(_mm256_blendv_ps(nothing, _mm256_load_ps(scores + whole), in[0]), a);
    b = _mm256_max_ps(_mm256_blendv_ps(nothing, _mm256_load_ps(scores + whole + 8), in[1]), b);
    __m256 top = _mm256_max_ps(a, b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
#endif
