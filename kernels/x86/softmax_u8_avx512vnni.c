/*
 * softmax_u8_avx512vnni - rows of scores to codes, in three passes over some rows: sum up and find the largest, depths
 * and the sum of their exponentials, codes. So nothing waits for what a row's pass gives.
 *
 * 32 columns are one register of 16-bit numbers. Packing two registers of 16 leaves their groups of four in turns, and
 * packing again to bytes does so once more; one permutation puts the 64 bytes in order. What lies between the passes
 * stands in the scores' memory, in the order of the packed registers. Scores are padded, so whole vectors are read
 * everywhere; of what lies beyond the last column nothing is added or stored.
 */
#include "avx512vnni_kernels.h"
#include "avx512_scores.h"
#include "softmax_strips.h"

#if QVITP_X86

enum { WIDTH = 32 };                 /* columns of a register */
enum { ROWS = QVITP_SOFTMAX_STRIP }; /* a lane of a vector for each */

/* The lanes of a packed register whose columns are below `count`. */
QVITP_INLINE512 __mmask32 packed_lanes(size_t count)
{
    static const uint16_t column[WIDTH] __attribute__((aligned(64))) = {
        0, 1, 2,  3,  16, 17, 18, 19, 4,  5,  6,  7,  20, 21, 22, 23,
        8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31};
    return _mm512_cmplt_epu16_mask(_mm512_load_si512(column), _mm512_set1_epi16((short)count));
}

/* Depths of 32 scores. `sums`, which is a constant, are finite, and no depth reaches 2^31. */
QVITP_INLINE512 __m512i depths_of(const float *scores, __m512 top, __m512 steps, int sums)
{
    __m512i depth[2];
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m512 x = _mm512_mul_ps(_mm512_sub_ps(top, _mm512_load_ps(scores + 16 * i)), steps);
        if (!sums) x = _mm512_min_ps(x, _mm512_set1_ps(QVITP_SOFTMAX_DEEPEST));
        depth[i] = _mm512_cvtps_epi32(x);
    }
    return _mm512_packus_epi32(depth[0], depth[1]);
}

/* Both tables are a register each, in which vpermw looks up by the lowest five bits. */
struct tables {
    __m512i coarse, fine;
};
QVITP_INLINE512 struct tables load_tables(void)
{
    static const uint16_t coarse[32] __attribute__((aligned(64))) = {QVITP_SOFTMAX_COARSE};
#define FINE4(j) FINE2(j), FINE2(j + 2)
#define FINE2(j) QVITP_SOFTMAX_FINE(j), QVITP_SOFTMAX_FINE(j + 1)
    static const uint16_t fine[32] __attribute__((aligned(64))) = {
        FINE4(0), FINE4(4), FINE4(8), FINE4(12), FINE4(16), FINE4(20), FINE4(24), FINE4(28)};
#undef FINE2
#undef FINE4
    return (struct tables){_mm512_load_si512(coarse), _mm512_load_si512(fine)};
}

QVITP_INLINE512 __m512i mantissas(__m512i depth, const struct tables *t)
{
    __m512i coarse = _mm512_permutexvar_epi16(_mm512_srli_epi16(depth, 5), t->coarse);
    return _mm512_mulhi_epu16(coarse, _mm512_permutexvar_epi16(depth, t->fine));
}

/* Half of x, upwards. */
QVITP_INLINE512 __m512i half_of(__m512i x) { return _mm512_avg_epu16(x, _mm512_setzero_si512()); }

/*
 * A row's second pass; returns the sum. In the scores' place it leaves exponentials, or what twins are made of: of each
 * 32 columns the mantissas, then the octaves.
 */
struct pass {
    float *scores;
    uint16_t *out;
    __m512 top, steps;
    __m512i sum;
};
/* 32 columns. twins and sums are constants wherever this is called, and so is whether `in` is all of them. */
QVITP_INLINE512 void exponentials_of(struct pass *p, const struct tables *t, __mmask32 in,
                                     int twins, int sums)
{
    __m512i depth = depths_of(p->scores, p->top, p->steps, sums), mantissa = mantissas(depth, t);
    __m512i octaves = _mm512_srli_epi16(depth, 10);
    __m512i e = half_of(_mm512_maskz_srlv_epi16(in, mantissa, octaves));
    if (twins) _mm512_store_si512(p->out + WIDTH, octaves);
    _mm512_store_si512(p->out, twins ? mantissa : e);
    p->sum = _mm512_dpwssd_epi32(p->sum, e, _mm512_set1_epi16(1));
    p->scores += WIDTH;
    p->out += twins ? 2 * WIDTH : WIDTH;
}

/* The intrinsic that adds up a register does so in signed numbers, which may overflow. */
QVITP_INLINE512 uint32_t total(__m512i sum)
{
    __m256i eight =
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

QVITP_INLINE512 uint32_t sum_up(float *scores, size_t n, float top, const struct tables *t,
                                float steps, __mmask32 last, int twins, int sums)
{
    struct pass p = {.scores = scores,
                     .out = (uint16_t *)(void *)scores,
                     .top = _mm512_set1_ps(top),
                     .steps = _mm512_set1_ps(steps),
                     .sum = _mm512_setzero_si512()};
    for (; n >= WIDTH; n -= WIDTH) exponentials_of(&p, t, 0xFFFFFFFF, twins, sums);
    if (n) exponentials_of(&p, t, last, twins, sums);
    return total(p.sum);
}

/* 64 bytes from two packed registers. */
QVITP_INLINE512 __m512i in_order(__m512i left, __m512i right)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(left, right));
}

QVITP_INLINE512 void store_codes(uint8_t *dst, size_t left, __m512i codes)
{
    if (left >= 64)
        _mm512_storeu_si512(dst, codes);
    else
        _mm512_mask_storeu_epi8(dst, ((__mmask64)1 << left) - 1, codes);
}

/*
 * What the exponentials of each row are multiplied by (softmax_share.h), of all rows at once; each number stands in both
 * halves of 32 bits, as it is broadcast.
 */
struct shares {
    uint32_t factor[ROWS], up[ROWS];
};
QVITP_INLINE512 __m512i in_both_halves(__m512i x)
{
    return _mm512_or_si512(x, _mm512_slli_epi32(x, 16));
}

QVITP_INLINE512 void take_apart(struct shares *s, __m512 x, int shift, int most)
{
    const __m512i one = _mm512_set1_epi32(127);
    x = _mm512_mul_ps(x, _mm512_set1_ps(qvitp_power_of_two(shift)));
    __m512i up = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(x), 23),
                                  _mm512_set1_epi32(127 + 15));
    up = _mm512_min_epi32(_mm512_max_epi32(up, _mm512_setzero_si512()), _mm512_set1_epi32(most));
    __m512i half = _mm512_slli_epi32(_mm512_sub_epi32(one, up), 23); /* 2^-up */
    x = _mm512_min_ps(_mm512_mul_ps(x, _mm512_castsi512_ps(half)), _mm512_set1_ps(65535));
    _mm512_storeu_si512(s->factor, in_both_halves(_mm512_cvtps_epi32(x)));
    _mm512_storeu_si512(s->up, in_both_halves(up));
}

/* ---- plain codes ---- */

/* vpmulhrsw shifts by `fraction` and rounds, times that power of 2. */
QVITP_INLINE512 __m512i plain_codes(const uint16_t *e, __m512i factor, __m512i power)
{
    return _mm512_mulhrs_epi16(_mm512_mulhi_epu16(_mm512_load_si512(e), factor), power);
}

QVITP_INLINE512 void write_plain_row(const uint16_t *e, size_t n, uint32_t share, __m512i power,
                                     __m512i hi, uint8_t *dst)
{
    __m512i factor = _mm512_set1_epi32((int)share);
    for (size_t j = 0; j < n; j += 64) {
        __m512i left = plain_codes(e + j, factor, power), right = left;
        if (n - j > WIDTH) right = plain_codes(e + j + WIDTH, factor, power);
        store_codes(dst + j, n - j, _mm512_min_epu8(in_order(left, right), hi));
    }
}

QVITP_INLINE512 void write_plain_rows(const struct qvitp_softmax_codes *rows, ptrdiff_t first,
                                      ptrdiff_t count, int fraction, __m512 divisor)
{
    __m512i power = _mm512_set1_epi16((short)(1 << (15 - fraction)));
    __m512i hi = _mm512_set1_epi8((char)rows->hi);
    struct shares s;
    take_apart(&s, _mm512_div_ps(_mm512_set1_ps(rows->mul), divisor), 16 + fraction, 0);
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint16_t *e = (uint16_t *)(void *)(rows->scores + (first + i) * rows->lds);
        write_plain_row(e, rows->n, s.factor[i], power, hi, rows->dst + (first + i) * rows->ldd);
    }
}

/* ---- twin codes, and plain ones of very small probabilities ---- */

/* Twice the codes, whole. */
QVITP_INLINE512 __m512i twice(__m512i mantissa, __m512i octaves15, __m512i factor, __m512i up)
{
    __m512i product = _mm512_mulhi_epu16(mantissa, factor);
    return _mm512_srlv_epi16(product, _mm512_subs_epu16(octaves15, up));
}

/* How what is so made is written: plain codes, which end before the high range begins; twins as codes, of which there may
 * be two planes, or joined. */
enum form { FINE, CODES, JOINED };

struct twin {
    __m512i factor[2], up[2]; /* of the low range and of the high one */
    __m512i half, limit; /* where that begins; what a high code counts, or the highest plain code */
};
/* form is a constant wherever this and the following are called. */
QVITP_INLINE512 __m512i fine_codes(const uint16_t *mantissa_octaves, const struct twin *t,
                                   enum form form)
{
    __m512i mantissa = _mm512_load_si512(mantissa_octaves);
    __m512i octaves15 =
        _mm512_add_epi16(_mm512_load_si512(mantissa_octaves + WIDTH), _mm512_set1_epi16(15));
    __m512i low = twice(mantissa, octaves15, t->factor[0], t->up[0]);
    if (form == FINE) return _mm512_min_epu16(half_of(low), t->limit);
    __m512i high = twice(mantissa, octaves15, t->factor[1], t->up[1]);
    __mmask32 is_high = _mm512_cmpge_epu16_mask(low, _mm512_add_epi16(t->half, t->half));
    __m512i code = half_of(_mm512_mask_mov_epi16(low, is_high, high));
    code = _mm512_min_epu16(code, _mm512_sub_epi16(t->half, _mm512_set1_epi16(1)));
    if (form == CODES) return _mm512_mask_add_epi16(code, is_high, code, t->half);
    return _mm512_mask_mullo_epi16(code, is_high, code, t->limit); /* bytes hold that */
}

/* Twin codes, or their two planes. */
QVITP_INLINE512 void store_twins(uint8_t *dst, uint8_t *dst2, size_t left, __m512i codes,
                                 __m512i half)
{
    if (dst2) {
        __mmask64 is_high = _mm512_cmpge_epu8_mask(codes, half);
        store_codes(dst2, left, _mm512_maskz_sub_epi8(is_high, codes, half));
        codes = _mm512_maskz_mov_epi8(~is_high, codes);
    }
    store_codes(dst, left, codes);
}

QVITP_INLINE512 void write_fine_rows(const struct qvitp_softmax_codes *rows, ptrdiff_t first,
                                     ptrdiff_t count, __m512 divisor, enum form form)
{
    const __m512i half = _mm512_set1_epi8((char)rows->half);
    struct shares s[2];
    struct twin t = {.half = _mm512_set1_epi16((short)rows->half)};
    t.limit = _mm512_set1_epi16(form == FINE ? (short)rows->hi : (short)rows->high);
    take_apart(&s[0], _mm512_div_ps(_mm512_set1_ps(rows->mul), divisor), 31, 40);
    take_apart(&s[1], _mm512_div_ps(_mm512_set1_ps(rows->mul2), divisor), 31, 40);
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint16_t *from = (uint16_t *)(void *)(rows->scores + (first + i) * rows->lds);
        uint8_t *dst = rows->dst + (first + i) * rows->ldd, *dst2 = NULL;
        if (form == CODES && rows->dst2) dst2 = rows->dst2 + (first + i) * rows->ldd;
        for (int r = 0; r < 2; r++) {
            t.factor[r] = _mm512_set1_epi32((int)s[r].factor[i]);
            t.up[r] = _mm512_set1_epi32((int)s[r].up[i]);
        }
        for (size_t j = 0, n = rows->n; j < n; j += 64, from += 4 * WIDTH) {
            __m512i left = fine_codes(from, &t, form), right = left;
            if (n - j > WIDTH) right = fine_codes(from + 2 * WIDTH, &t, form);
            store_twins(dst + j, dst2 ? dst2 + j : NULL, n - j, in_order(left, right), half);
        }
    }
}

/* ---- rows ---- */

QVITP_INLINE512 void run_rows(const struct qvitp_softmax_codes *rows, ptrdiff_t first,
                              ptrdiff_t count, int fraction, int twins, int sums)
{
    float top[ROWS], sum[ROWS] = {0};
    size_t n = rows->n, whole = (n - 1) / 16 * 16;
    __mmask32 last32 = packed_lanes(n % WIDTH);
    __mmask16 last = qvitp_512_mask(whole, n);
    struct tables tables = load_tables();
    for (ptrdiff_t i = 0; i < count; i++) {
        float *scores = rows->scores + (first + i) * rows->lds;
        if (rows->bias) qvitp_512_add_row(scores, rows->bias + (first + i) * rows->ldb, n);
        if (rows->mask) qvitp_512_add_row(scores, rows->mask + (first + i) * rows->ldm, n);
        if (rows->tops)
            top[i] = _mm512_reduce_max_ps(_mm512_load_ps(rows->tops + (first + i) * 16));
        else
            top[i] = qvitp_512_top(scores, whole, last);
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        float *scores = rows->scores + (first + i) * rows->lds;
        sum[i] = (float)sum_up(scores, n, top[i], &tables, rows->steps, last32, twins, sums);
    }
    __m512 divisor = _mm512_set1_ps(QVITP_SOFTMAX_ONE), sums_of_rows = _mm512_loadu_ps(sum);
    if (!rows->sum) divisor = sums_of_rows;
    if (rows->sum)
        _mm512_mask_storeu_ps(rows->sum + first, (__mmask16)((1u << count) - 1),
                              _mm512_div_ps(sums_of_rows, divisor));
    if (twins && !(rows->half > 0))
        write_fine_rows(rows, first, count, divisor, FINE);
    else if (twins && rows->high)
        write_fine_rows(rows, first, count, divisor, JOINED);
    else if (twins)
        write_fine_rows(rows, first, count, divisor, CODES);
    else
        write_plain_rows(rows, first, count, fraction, divisor);
    for (ptrdiff_t i = 0; i < count; i++) {
        if (top[i] != INFINITY && top[i] != -INFINITY) continue;
        memset(rows->dst + (first + i) * rows->ldd, 0, n);
        if (rows->dst2) memset(rows->dst2 + (first + i) * rows->ldd, 0, n);
        if (rows->sum) rows->sum[first + i] = 0;
    }
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_softmax_codes *rows)
{
    qvitp_softmax_strips(rows, run_rows);
}

const struct qvitp_named_softmax_codes qvitp_softmax_u8_avx512vnni = {"softmax_u8_avx512vnni", run};

#endif
