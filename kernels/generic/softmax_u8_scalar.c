/*
 * softmax_u8_scalar - rows of scores to codes, one by one, in loops that a compiler can vectorise: sum up and find
 * the largest, depths, exponentials and their sum, output.
 */
#include "kernels/kernels.h"
#include "kernels/softmax_share.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

/* 2^(-depth % 1024 / 1024) in 65536ths. */
static inline uint32_t mantissa(uint32_t depth)
{
    static const uint16_t coarse[32] = {QVITP_SOFTMAX_COARSE};
    return coarse[depth / 32 % 32] * (uint32_t)QVITP_SOFTMAX_FINE(depth % 32) >> 16;
}

static inline uint32_t exponential(uint32_t depth)
{
    uint32_t shift = depth / QVITP_SOFTMAX_OCTAVE;
    return ((mantissa(depth) >> (shift < 31 ? shift : 31)) + 1) >> 1;
}

static inline uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Replaces each score by its depth, a whole number still. */
static void find_depths(size_t n, float *x, float top, float steps)
{
    for (size_t j = 0; j < n; j++) {
        float depth = (top - x[j]) * steps;
        depth = depth < QVITP_SOFTMAX_DEEPEST ? depth : QVITP_SOFTMAX_DEEPEST;
        x[j] = qvitp_scalar_round(depth);
    }
}

/* The sum of the exponentials, by which depths are replaced if they are not needed any more. */
static uint32_t sum_up(size_t n, float *depths, int replace)
{
    uint32_t sum = 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t e = exponential((uint32_t)(int32_t)depths[j]);
        if (replace) depths[j] = (float)(int32_t)e;
        sum += e;
    }
    return sum;
}

/* Twice the code of a depth, whole. */
static inline uint32_t twice(uint32_t depth, struct qvitp_softmax_share share)
{
    uint32_t down = depth / QVITP_SOFTMAX_OCTAVE + 15;
    down = down > share.up ? down - share.up : 0;
    return (mantissa(depth) * share.factor >> 16) >> (down < 31 ? down : 31);
}

/* e: the exponentials. */
static void write_codes(const struct qvitp_softmax_codes *rows, const float *e, int fraction,
                        float divisor, uint8_t *dst)
{
    const struct qvitp_softmax_share share = qvitp_plain_share(rows->mul / divisor, fraction);
    const uint32_t hi = (uint32_t)rows->hi, rounding = 1u << (fraction - 1);
    for (size_t j = 0; j < rows->n; j++) {
        uint32_t product = (uint32_t)(int32_t)e[j] * share.factor >> 16;
        dst[j] = (uint8_t)smaller((product + rounding) >> fraction, hi);
    }
}

/* Codes of very small probabilities, by the depths. */
static void write_fine_codes(const struct qvitp_softmax_codes *rows, const float *depths,
                             float divisor, uint8_t *dst)
{
    const struct qvitp_softmax_share share = qvitp_fine_share(rows->mul / divisor);
    const uint32_t hi = (uint32_t)rows->hi;
    for (size_t j = 0; j < rows->n; j++)
        dst[j] = (uint8_t)smaller((twice((uint32_t)(int32_t)depths[j], share) + 1) >> 1, hi);
}

/* Codes to what is wanted of them. */
static void write_twin_form(const struct qvitp_softmax_codes *rows, uint8_t *dst, uint8_t *dst2)
{
    uint32_t half = (uint32_t)rows->half, high = (uint32_t)rows->high;
    for (size_t j = 0; dst2 && j < rows->n; j++) {
        dst2[j] = (uint8_t)(dst[j] < half ? 0 : dst[j] - half);
        dst[j] = (uint8_t)(dst[j] < half ? dst[j] : 0);
    }
    for (size_t j = 0; high && j < rows->n; j++)
        dst[j] = (uint8_t)(dst[j] < half ? dst[j] : (dst[j] - half) * high);
}

static void write_twins(const struct qvitp_softmax_codes *rows, const float *depths, float divisor,
                        uint8_t *dst)
{
    struct qvitp_softmax_share share = qvitp_fine_share(rows->mul / divisor);
    struct qvitp_softmax_share share2 = qvitp_fine_share(rows->mul2 / divisor);
    uint32_t half = (uint32_t)rows->half;
    for (size_t j = 0; j < rows->n; j++) {
        uint32_t depth = (uint32_t)(int32_t)depths[j];
        uint32_t low = twice(depth, share), high = twice(depth, share2);
        uint32_t code = smaller(((low < 2 * half ? low : high) + 1) >> 1, half - 1);
        dst[j] = (uint8_t)(low < 2 * half ? code : code + half);
    }
}

static void run_row(const struct qvitp_softmax_codes *rows, ptrdiff_t i)
{
    float *scores = rows->scores + i * rows->lds;
    uint8_t *dst = rows->dst + i * rows->ldd, *dst2 = NULL;
    if (rows->dst2) dst2 = rows->dst2 + i * rows->ldd;
    float top = qvitp_scalar_top(rows->n, scores, rows->bias ? rows->bias + i * rows->ldb : NULL,
                                 rows->mask ? rows->mask + i * rows->ldm : NULL);
    if (top == INFINITY || top == -INFINITY) {
        if (rows->sum) rows->sum[i] = 0;
        memset(dst, 0, rows->n);
        if (dst2) memset(dst2, 0, rows->n);
        return;
    }
    const int fraction = qvitp_plain_fraction(rows->mul), is_twin = rows->half > 0;
    find_depths(rows->n, scores, top, rows->steps);
    float sum = (float)sum_up(rows->n, scores, fraction && !is_twin);
    float divisor = rows->sum ? QVITP_SOFTMAX_ONE : sum;
    if (rows->sum) rows->sum[i] = sum / QVITP_SOFTMAX_ONE;
    if (is_twin) {
        write_twins(rows, scores, divisor, dst);
        write_twin_form(rows, dst, dst2);
    } else if (fraction) {
        write_codes(rows, scores, fraction, divisor, dst);
    } else {
        write_fine_codes(rows, scores, divisor, dst);
    }
}

static void run(const struct qvitp_softmax_codes *rows)
{
    for (size_t i = 0; i < rows->m; i++) run_row(rows, (ptrdiff_t)i);
}

const struct qvitp_named_softmax_codes qvitp_softmax_u8_scalar = {"softmax_u8_scalar", run};
