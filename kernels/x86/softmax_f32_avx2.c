/*
 * softmax_f32_avx2 - rows of scores to probabilities or codes, in three passes over some rows: sum
 * up and find the largest, exponentials and their sum, output. So nothing waits for what a row's pass gives. The 16 partial sums are two
 * registers. Scores are padded, so whole vectors are read everywhere; the last 16, of which some may
 * be missing, stand apart, so that no loop computes masks, and each form of output has a loop of its own.
 */
#include <math.h>

#include "avx2_kernels.h"
#include "avx2_simd.h"

#if QVITP_X86

/* Adds a row of bias or mask to the scores. */
QVITP_INLINE256 void add_to_scores(float *scores, const float *x, size_t n)
{
    for (size_t j = 0; j < n; j += 8)
        _mm256_store_ps(scores + j,
                        _mm256_add_ps(_mm256_load_ps(scores + j), qvitp_256_load(x, j, n)));
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
QVITP_INLINE256 void write_codes(const float *e, size_t n, uint8_t *dst, const struct form *form,
                                 code_fn *code)
{
    for (size_t j = 0, whole = (n - 1) / 16 * 16; j <= whole; j += 16) {
        __m128i codes = qvitp_256_narrow_16(code(_mm256_load_ps(e + j), form),
                                            code(_mm256_load_ps(e + j + 8), form));
        if (j < whole)
            _mm_storeu_si128((__m128i *)(dst + j), codes);
        else
            memcpy(dst + j, &codes, n - j);
    }
}

QVITP_INLINE256 void write_floats(const float *e, size_t n, float *dst, float sum)
{
    __m256 inverse = _mm256_set1_ps(1.0f / sum);
    for (size_t j = 0; j < n; j += 8)
        qvitp_256_store(dst, j, n, _mm256_mul_ps(_mm256_load_ps(e + j), inverse));
}

QVITP_INLINE256 void write_row(const struct qvitp_softmax *rows, ptrdiff_t i, float sum)
{
    const float *e = rows->scores + i * rows->lds;
    float *floats = (float *)rows->dst + i * rows->ldd;
    uint8_t *codes = (uint8_t *)rows->dst + i * rows->ldd;
    float share = rows->sum ? 1 : sum; /* what codes are divided by */
    if (rows->sum) rows->sum[i] = sum > 0 ? sum : 0;
    if (!(sum > 0) && rows->out == QVITP_OUT_F32) {
        memset(floats, 0, rows->n * sizeof(float));
    } else if (!(sum > 0)) {
        memset(codes, 0, rows->n);
    } else if (rows->out == QVITP_OUT_F32) {
        write_floats(e, rows->n, floats, sum);
    } else if (rows->half > 0) {
        struct form form = {_mm256_set1_ps(rows->mul / share), _mm256_set1_ps(rows->mul2 / share),
                            _mm256_set1_ps(rows->half - 1), _mm256_set1_ps(rows->half)};
        write_codes(e, rows->n, codes, &form, twin_code);
    } else {
        struct form form = {.scale = _mm256_set1_ps(rows->mul / share)};
        form.hi = _mm256_set1_ps(rows->hi);
        write_codes(e, rows->n, codes, &form, plain_code);
    }
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_softmax *rows)
{
    enum { ROWS = 16 };
    float top[ROWS], sum[ROWS];
    size_t n = rows->n, whole = (n - 1) / 16 * 16; /* the last 16 are some or all */
    __m256 in[2];
    last_lanes(whole, n, in);
    for (ptrdiff_t done = 0, m = (ptrdiff_t)rows->m; done < m; done += ROWS) {
        ptrdiff_t count = m - done < ROWS ? m - done : ROWS;
        for (ptrdiff_t i = 0; i < count; i++) {
            float *scores = rows->scores + (done + i) * rows->lds;
            if (rows->bias) add_to_scores(scores, rows->bias + (done + i) * rows->ldb, n);
            if (rows->mask) add_to_scores(scores, rows->mask + (done + i) * rows->ldm, n);
            top[i] = find_top(scores, whole, in);
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            int finite = top[i] != INFINITY && top[i] != -INFINITY;
            float *scores = rows->scores + (done + i) * rows->lds;
            sum[i] = finite ? exponentials(scores, whole, in, top[i]) : 0;
        }
        for (ptrdiff_t i = 0; i < count; i++) write_row(rows, done + i, sum[i]);
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_avx2 = {"softmax_f32_avx2", run};

#endif
