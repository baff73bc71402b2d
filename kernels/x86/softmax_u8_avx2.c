/*
 * softmax_u8_avx2 - rows of scores to codes, in three passes over some rows: sum up and find the largest, depths and the
 * sum of their exponentials, codes. So nothing waits for what a row's pass gives.
 *
 * 16 columns are one register of 16-bit numbers. Packing two registers of 8 leaves their groups of four in turns, and
 * packing again to bytes does so once more; one permutation puts the 32 bytes in order. What lies between the passes
 * stands in the scores' memory, in the order of the packed registers. Scores are padded, so whole vectors are read
 * everywhere; of what lies beyond the last column nothing is added or stored.
 */
#include "avx2_kernels.h"
#include "avx2_scores.h"
#include "softmax_strips.h"

#if QVITP_X86

enum { WIDTH = 16 }; /* columns of a register */

/* The lanes of a packed register whose columns are below `count`. */
QVITP_INLINE256 __m256i packed_lanes(size_t count)
{
    __m256i column = _mm256_setr_epi16(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15);
    return _mm256_cmpgt_epi16(_mm256_set1_epi16((short)count), column);
}

/* Depths of 16 scores. `sums`, which is a constant, are finite, and no depth reaches 2^31. */
QVITP_INLINE256 __m256i depths_of(const float *scores, __m256 top, __m256 steps, int sums)
{
    __m256i depth[2];
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m256 x = _mm256_mul_ps(_mm256_sub_ps(top, _mm256_load_ps(scores + 8 * i)), steps);
        if (!sums) x = _mm256_min_ps(x, _mm256_set1_ps(QVITP_SOFTMAX_DEEPEST));
        depth[i] = _mm256_cvtps_epi32(x);
    }
    return _mm256_packus_epi32(depth[0], depth[1]);
}

/* The table's low and its high bytes, of entries 0 to 15 and 16 to 31. */
struct tables {
    __m256i low[2], high[2];
};
QVITP_INLINE256 struct tables load_tables(void)
{
    static const uint16_t coarse[32] __attribute__((aligned(32))) = {QVITP_SOFTMAX_COARSE};
    struct tables t;
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        const __m128i *from = (const __m128i *)(const void *)(coarse + 16 * i);
        __m128i byte = _mm_set1_epi16(0xFF), a = _mm_load_si128(from), b = _mm_load_si128(from + 1);
        __m128i low = _mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte));
        __m128i high = _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
        t.low[i] = _mm256_broadcastsi128_si256(low), t.high[i] = _mm256_broadcastsi128_si256(high);
    }
    return t;
}

/* Entry depth / 32 % 32. vpshufb gives 0 where an index has its highest bit set: so each half of the table answers for
 * its own indices, and the two answers are joined. */
QVITP_INLINE256 __m256i look_up(__m256i depth, const struct tables *t)
{
    __m256i i = _mm256_and_si256(_mm256_srli_epi16(depth, 5), _mm256_set1_epi16(31));
    i = _mm256_or_si256(i, _mm256_slli_epi16(i, 8)); /* in both bytes */
    __m256i first = _mm256_add_epi8(i, _mm256_set1_epi8(0x70));
    __m256i second = _mm256_sub_epi8(i, _mm256_set1_epi8(16));
    __m256i low = _mm256_or_si256(_mm256_shuffle_epi8(t->low[0], first),
                                  _mm256_shuffle_epi8(t->low[1], second));
    __m256i high = _mm256_or_si256(_mm256_shuffle_epi8(t->high[0], first),
                                   _mm256_shuffle_epi8(t->high[1], second));
    return _mm256_blendv_epi8(high, low, _mm256_set1_epi16(0xFF));
}

QVITP_INLINE256 __m256i mantissas(__m256i depth, const struct tables *t)
{
    /* 65535 - (j * 1405 >> 5), j = depth % 32: see QVITP_SOFTMAX_FINE. */
    __m256i line = _mm256_mulhi_epu16(_mm256_slli_epi16(depth, 11), _mm256_set1_epi16(1405));
    __m256i fine = _mm256_sub_epi16(_mm256_set1_epi16(-1), line);
    return _mm256_mulhi_epu16(look_up(depth, t), fine);
}

/* Half of x, upwards. */
QVITP_INLINE256 __m256i half_of(__m256i x) { return _mm256_avg_epu16(x, _mm256_setzero_si256()); }

/* x >> shift, lane by lane: AVX2 has that of 32 bits only. */
QVITP_INLINE256 __m256i shift_right(__m256i x, __m256i shift)
{
    __m256i zero = _mm256_setzero_si256();
    __m256i low =
        _mm256_srlv_epi32(_mm256_unpacklo_epi16(x, zero), _mm256_unpacklo_epi16(shift, zero));
    __m256i high =
        _mm256_srlv_epi32(_mm256_unpackhi_epi16(x, zero), _mm256_unpackhi_epi16(shift, zero));
    return _mm256_packus_epi32(low, high);
}

/*
 * A row's second pass; returns the sum. In the scores' place it leaves exponentials, or what twins are made of: of each
 * 16 columns the mantissas, then the octaves.
 */
struct pass {
    float *scores;
    uint16_t *out;
    __m256 top, steps;
    __m256i sum;
};
/* 16 columns. twins and sums are constants wherever this is called. */
QVITP_INLINE256 void exponentials_of(struct pass *p, const struct tables *t, __m256i in, int twins,
                                     int sums)
{
    __m256i depth = depths_of(p->scores, p->top, p->steps, sums), mantissa = mantissas(depth, t);
    __m256i octaves = _mm256_srli_epi16(depth, 10);
    __m256i e = _mm256_and_si256(half_of(shift_right(mantissa, octaves)), in);
    if (twins) _mm256_store_si256((__m256i *)(void *)(p->out + WIDTH), octaves);
    _mm256_store_si256((__m256i *)(void *)p->out, twins ? mantissa : e);
    p->sum = _mm256_add_epi32(p->sum, _mm256_madd_epi16(e, _mm256_set1_epi16(1)));
    p->scores += WIDTH;
    p->out += twins ? 2 * WIDTH : WIDTH;
}

QVITP_INLINE256 uint32_t total(__m256i sum)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

QVITP_INLINE256 uint32_t sum_up(float *scores, size_t n, float top, const struct tables *t,
                                float steps, __m256i last, int twins, int sums)
{
    const __m256i all = _mm256_set1_epi16(-1);
    struct pass p = {.scores = scores,
                     .out = (uint16_t *)(void *)scores,
                     .top = _mm256_set1_ps(top),
                     .steps = _mm256_set1_ps(steps),
                     .sum = _mm256_setzero_si256()};
    for (; n >= WIDTH; n -= WIDTH) exponentials_of(&p, t, all, twins, sums);
    if (n) exponentials_of(&p, t, last, twins, sums);
    return total(p.sum);
}

/* 32 bytes from two packed registers. */
QVITP_INLINE256 __m256i in_order(__m256i left, __m256i right)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(left, right), order);
}

QVITP_INLINE256 void store_codes(uint8_t *dst, size_t left, __m256i codes)
{
    if (left >= 32)
        _mm256_storeu_si256((__m256i *)(void *)dst, codes);
    else
        memcpy(dst, &codes, left);
}

/* What plain codes are made by. vpmulhrsw shifts by `fraction` and rounds, times that power of 2. */
struct plain {
    __m256i factor, power, hi;
};
QVITP_INLINE256 __m256i plain_codes(const uint16_t *from, const struct plain *p)
{
    __m256i e = _mm256_load_si256((const __m256i *)(const void *)from);
    return _mm256_mulhrs_epi16(_mm256_mulhi_epu16(e, p->factor), p->power);
}

QVITP_INLINE256 void write_plain_row(const uint16_t *e, const struct qvitp_softmax_codes *rows,
                                     int fraction, float divisor, uint8_t *dst)
{
    struct qvitp_softmax_share share = qvitp_plain_share(rows->mul / divisor, fraction);
    struct plain p = {.factor = _mm256_set1_epi16((short)share.factor),
                      .power = _mm256_set1_epi16((short)(1 << (15 - fraction))),
                      .hi = _mm256_set1_epi8((char)rows->hi)};
    for (size_t j = 0, n = rows->n; j < n; j += 32) {
        __m256i left = plain_codes(e + j, &p), right = left;
        if (n - j > WIDTH) right = plain_codes(e + j + WIDTH, &p);
        store_codes(dst + j, n - j, _mm256_min_epu8(in_order(left, right), p.hi));
    }
}

/* Twice the codes of depths, whole. */
QVITP_INLINE256 __m256i twice(__m256i mantissa, __m256i octaves15, struct qvitp_softmax_share share)
{
    __m256i product = _mm256_mulhi_epu16(mantissa, _mm256_set1_epi16((short)share.factor));
    __m256i down = _mm256_subs_epu16(octaves15, _mm256_set1_epi16((short)share.up));
    return shift_right(product, down);
}

/* The high range begins at `half`; plain codes of very small probabilities are made so too, and end before that. */
QVITP_INLINE256 __m256i twin_codes(const uint16_t *mantissa_octaves,
                                   const struct qvitp_softmax_share share[2], __m256i half,
                                   __m256i hi)
{
    const __m256i *from = (const __m256i *)(const void *)mantissa_octaves;
    __m256i mantissa = _mm256_load_si256(from), one = _mm256_set1_epi16(1);
    __m256i octaves15 = _mm256_add_epi16(_mm256_load_si256(from + 1), _mm256_set1_epi16(15));
    __m256i low = twice(mantissa, octaves15, share[0]), high = twice(mantissa, octaves15, share[1]);
    __m256i both = _mm256_add_epi16(half, half); /* low < both, unsigned */
    __m256i is_low = _mm256_cmpeq_epi16(_mm256_subs_epu16(_mm256_add_epi16(low, one), both),
                                        _mm256_setzero_si256());
    __m256i code = half_of(_mm256_blendv_epi8(high, low, is_low));
    code = _mm256_min_epu16(code, _mm256_sub_epi16(half, one));
    return _mm256_min_epu16(_mm256_add_epi16(code, _mm256_andnot_si256(is_low, half)), hi);
}

/* Codes, or what is wanted of them. */
struct twin_form {
    __m256i half, high;
    int32_t is_joined;
};
QVITP_INLINE256 void store_twins(uint8_t *dst, uint8_t *dst2, size_t left, __m256i codes,
                                 const struct twin_form *form)
{
    if (dst2 || form->is_joined) {
        __m256i is_high = _mm256_cmpeq_epi8(_mm256_max_epu8(codes, form->half), codes);
        __m256i high = _mm256_and_si256(is_high, _mm256_sub_epi8(codes, form->half));
        codes = _mm256_andnot_si256(is_high, codes);
        if (dst2)
            store_codes(dst2, left, high);
        else /* the products fit their bytes */
            codes = _mm256_or_si256(codes, _mm256_mullo_epi16(high, form->high));
    }
    store_codes(dst, left, codes);
}

/* The last 32 columns may be no more than 16: then what would follow is not read. */
QVITP_INLINE256 void write_twin_row(const uint16_t *from, const struct qvitp_softmax_codes *rows,
                                    float divisor, uint8_t *dst, uint8_t *dst2)
{
    struct twin_form form = {_mm256_set1_epi8((char)rows->half),
                             _mm256_set1_epi16((short)rows->high), rows->high != 0};
    struct qvitp_softmax_share share[2] = {qvitp_fine_share(rows->mul / divisor),
                                           qvitp_fine_share(rows->mul2 / divisor)};
    const int plain = !(rows->half > 0);
    __m256i half = _mm256_set1_epi16(plain ? 1 << 14 : (short)rows->half);
    __m256i hi = _mm256_set1_epi16(plain ? (short)rows->hi : 255);
    for (size_t j = 0; j < rows->n; j += 32, from += 4 * WIDTH) {
        size_t left = rows->n - j;
        __m256i first = twin_codes(from, share, half, hi), second = first;
        if (left > WIDTH) second = twin_codes(from + 2 * WIDTH, share, half, hi);
        store_twins(dst + j, dst2 ? dst2 + j : NULL, left, in_order(first, second), &form);
    }
}

QVITP_INLINE256 void run_rows(const struct qvitp_softmax_codes *rows, ptrdiff_t first,
                              ptrdiff_t count, int fraction, int twins, int sums)
{
    float top[QVITP_SOFTMAX_STRIP], sum[QVITP_SOFTMAX_STRIP];
    size_t n = rows->n, whole = (n - 1) / 16 * 16;
    __m256i last16 = packed_lanes(n % WIDTH);
    __m256 in[2];
    qvitp_256_last_lanes(whole, n, in);
    struct tables tables = load_tables();
    for (ptrdiff_t i = 0; i < count; i++) {
        float *scores = rows->scores + (first + i) * rows->lds;
        if (rows->bias) qvitp_256_add_row(scores, rows->bias + (first + i) * rows->ldb, n);
        if (rows->mask) qvitp_256_add_row(scores, rows->mask + (first + i) * rows->ldm, n);
        top[i] = qvitp_256_top(scores, whole, in);
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        float *scores = rows->scores + (first + i) * rows->lds;
        int finite = top[i] != INFINITY && top[i] != -INFINITY;
        sum[i] = finite
                     ? (float)sum_up(scores, n, top[i], &tables, rows->steps, last16, twins, sums)
                     : 0;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint16_t *e = (uint16_t *)(void *)(rows->scores + (first + i) * rows->lds);
        uint8_t *dst = rows->dst + (first + i) * rows->ldd, *dst2 = NULL;
        if (rows->dst2) dst2 = rows->dst2 + (first + i) * rows->ldd;
        float divisor = rows->sum ? QVITP_SOFTMAX_ONE : sum[i];
        if (rows->sum) rows->sum[first + i] = sum[i] / QVITP_SOFTMAX_ONE;
        if (!(sum[i] > 0)) {
            memset(dst, 0, n);
            if (dst2) memset(dst2, 0, n);
        } else if (twins) {
            write_twin_row(e, rows, divisor, dst, dst2);
        } else {
            write_plain_row(e, rows, fraction, divisor, dst);
        }
    }
}

QVITP_TARGET_AVX2 static void run(const struct qvitp_softmax_codes *rows)
{
    qvitp_softmax_strips(rows, run_rows);
}

const struct qvitp_named_softmax_codes qvitp_softmax_u8_avx2 = {"softmax_u8_avx2", run};

#endif
