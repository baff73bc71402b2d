/*
 * softmax_f32_avx2 - one row of scores to probabilities or codes, in three passes over the row: sum
 * up and find the largest, exponentials and their sum, output. The 16 partial sums are two
 * registers. Scores are padded, so whole vectors are read everywhere; the last 16, of which some may
 * be missing, stand apart, so that no loop computes masks, and each form of output has a loop of its own.
 */
#include <math.h>

#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Adds bias and mask to the scores. */
QVITP_INLINE256 void add_to_scores(const struct qvitp_softmax *row)
{
    for (size_t j = 0; j < row->n; j += 8) {
        __m256 s = _mm256_load_ps(row->scores + j);
        if (row->bias) s = _mm256_add_ps(s, qvitp_256_load(row->bias, j, row->n));
        if (row->mask) s = _mm256_add_ps(s, qvitp_256_load(row->mask, j, row->n));
        _mm256_store_ps(row->scores + j, s);
    }
}

/* The lanes of the last 16 that are below n. */
QVITP_INLINE256 void last_lanes(size_t whole, size_t n, __m256 in[2])
{
    in[0] = _mm256_castsi256_ps(qvitp_256_mask(whole, n));
    in[1] = _mm256_castsi256_ps(qvitp_256_mask(whole + 8, n));
}

/* The largest score that is a number, or -infinity. Where one operand is NaN the second comes out. */
QVITP_INLINE256 float find_top(const float *scores, size_t whole, const __m256 in[2])
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

/* e = exp(s - top) of `count` vectors, which is a constant. */
QVITP_INLINE256 void exponentials_of(size_t count, const float *scores, __m256 top, __m256 e[])
{
    QVITP_UNROLL
    for (size_t i = 0; i < count; i++) e[i] = _mm256_sub_ps(_mm256_load_ps(scores + 8 * i), top);
    qvitp_256_exp(count, e);
}

/* Replaces the scores by their exponentials; returns the sum of these. */
QVITP_INLINE256 float exponentials(float *scores, size_t whole, const __m256 in[2], float largest)
{
    __m256 even = _mm256_setzero_ps(), odd = even, top = _mm256_set1_ps(largest), e[4];
    size_t j = 0;
    for (; j + 32 <= whole; j += 32) {
        exponentials_of(4, scores + j, top, e);
        QVITP_UNROLL
        for (size_t i = 0; i < 4; i++) _mm256_store_ps(scores + j + 8 * i, e[i]);
        even = _mm256_add_ps(_mm256_add_ps(even, e[0]), e[2]);
        odd = _mm256_add_ps(_mm256_add_ps(odd, e[1]), e[3]);
    }
    for (; j <= whole; j += 16) {
        exponentials_of(2, scores + j, top, e);
        _mm256_store_ps(scores + j, e[0]), _mm256_store_ps(scores + j + 8, e[1]);
        if (j == whole) e[0] = _mm256_and_ps(e[0], in[0]), e[1] = _mm256_and_ps(e[1], in[1]);
        even = _mm256_add_ps(even, e[0]), odd = _mm256_add_ps(odd, e[1]);
    }
    return qvitp_256_tree(even, odd);
}

/* What is written for 8 exponentials. */
struct form {
    __m256 scale, scale2, hi, half;
};

QVITP_INLINE256 __m256i plain_code(__m256 e, const struct form *f)
{
    __m256 u = _mm256_mul_ps(e, f->scale);
    return _mm256_cvtps_epi32(qvitp_256_clamp(u, _mm256_setzero_ps(), f->hi));
}

QVITP_INLINE256 __m256i twin_code(__m256 e, const struct form *f)
{
    __m256 zero = _mm256_setzero_ps(), u = _mm256_mul_ps(e, f->scale);
    __m256i low = _mm256_cvtps_epi32(qvitp_256_clamp(u, zero, f->hi));
    __m256i high = _mm256_cvtps_epi32(qvitp_256_clamp(_mm256_mul_ps(e, f->scale2), zero, f->hi));
    high = _mm256_add_epi32(high, _mm256_cvtps_epi32(f->half));
    __m256i is_low = _mm256_castps_si256(_mm256_cmp_ps(u, f->half, _CMP_LT_OQ));
    return _mm256_blendv_epi8(high, low, is_low);
}

typedef __m256i code_fn(__m256 e, const struct form *form);

/* `code`, of which this is a copy for each, to all n bytes. */
QVITP_INLINE256 void write_codes(const struct qvitp_softmax *row, size_t whole,
                                 const struct form *form, code_fn *code)
{
    uint8_t *dst = row->dst;
    for (size_t j = 0; j <= whole; j += 16) {
        const float *e = row->scores + j;
        __m128i codes =
            qvitp_256_narrow_16(code(_mm256_load_ps(e), form), code(_mm256_load_ps(e + 8), form));
        if (j < whole)
            _mm_storeu_si128((__m128i *)(dst + j), codes);
        else
            memcpy(dst + j, &codes, row->n - j);
    }
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_softmax *row)
{
    size_t n = row->n, whole = (n - 1) / 16 * 16; /* the last 16 are some or all */
    __m256 in[2];
    last_lanes(whole, n, in);
    if (row->bias || row->mask) add_to_scores(row);
    float top = find_top(row->scores, whole, in), sum = 0;
    if (top != INFINITY && top != -INFINITY) sum = exponentials(row->scores, whole, in, top);
    float share = row->sum ? 1 : sum; /* what codes are divided by */
    if (row->sum) *row->sum = sum > 0 ? sum : 0;
    if (!(sum > 0)) {
        memset(row->dst, 0, n * (row->out == QVITP_OUT_F32 ? sizeof(float) : 1));
    } else if (row->out == QVITP_OUT_F32) {
        __m256 inverse = _mm256_set1_ps(1.0f / sum);
        for (size_t j = 0; j < n; j += 8)
            qvitp_256_store(row->dst, j, n,
                            _mm256_mul_ps(_mm256_load_ps(row->scores + j), inverse));
    } else {
        struct form form = {.scale = _mm256_set1_ps(row->mul / share)};
        if (row->half > 0) {
            form.scale2 = _mm256_set1_ps(row->mul2 / share);
            form.half = _mm256_set1_ps(row->half), form.hi = _mm256_set1_ps(row->half - 1);
            write_codes(row, whole, &form, twin_code);
        } else {
            form.hi = _mm256_set1_ps(row->hi);
            write_codes(row, whole, &form, plain_code);
        }
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx2 = {"softmax_f32_avx2", run};

#endif
