/*
 * softmax_f32_scalar - rows of scores to probabilities or codes, one by one, in four passes over a row:
 * sum up and find the largest, exponentials, their sum, output.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

/* Adds bias and mask, unless they are NULL, to the scores; returns the largest sum that is a number, or
 * -infinity. */
static float add_and_find_top(size_t n, float *s, const float *bias, const float *mask)
{
    float top = -INFINITY;
    if (bias)
        for (size_t j = 0; j < n; j++) s[j] += bias[j];
    if (mask)
        for (size_t j = 0; j < n; j++) s[j] += mask[j];
    for (size_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
    return top;
}

/* Replaces the scores by their exponentials; returns the sum of these. */
static float exponentials(float *s, size_t n, float top)
{
    float p[QVITP_PARTIALS] = {0};
    size_t j = 0;
    for (size_t i = 0; i < n; i++) s[i] = qvitp_scalar_exp(s[i] - top);
    for (; j + QVITP_PARTIALS <= n; j += QVITP_PARTIALS)
        for (size_t i = 0; i < QVITP_PARTIALS; i++) p[i] += s[j + i];
    for (size_t i = 0; j + i < n; i++) p[i] += s[j + i];
    return qvitp_scalar_tree(p);
}

static uint8_t code(float u, float hi)
{
    return (uint8_t)(int32_t)qvitp_scalar_round(qvitp_scalar_clamp(u, 0, hi));
}

static void write_codes(const struct qvitp_softmax *rows, const float *e, float share, uint8_t *dst)
{
    size_t n = rows->n;
    float scale = rows->mul / share, scale2 = rows->mul2 / share, half = rows->half;
    if (!(half > 0)) {
        float hi = rows->hi;
        for (size_t j = 0; j < n; j++) dst[j] = code(e[j] * scale, hi);
        return;
    }
    for (size_t j = 0; j < n; j++) {
        uint8_t low = code(e[j] * scale, half - 1), high = code(e[j] * scale2, half - 1);
        dst[j] = e[j] * scale < half ? low : (uint8_t)((int32_t)half + high);
    }
}

static void run_row(const struct qvitp_softmax *rows, ptrdiff_t i)
{
    size_t n = rows->n, size = rows->out == QVITP_OUT_F32 ? sizeof(float) : 1;
    float *e = rows->scores + i * rows->lds;
    void *dst = (char *)rows->dst + i * rows->ldd * (ptrdiff_t)size;
    float top = add_and_find_top(n, e, rows->bias ? rows->bias + i * rows->ldb : NULL,
                                 rows->mask ? rows->mask + i * rows->ldm : NULL);
    float sum = top == INFINITY || top == -INFINITY ? 0 : exponentials(e, n, top);
    float share = rows->sum ? 1 : sum; /* what codes are divided by */

    if (rows->sum) rows->sum[i] = sum > 0 ? sum : 0;
    if (!(sum > 0)) {
        memset(dst, 0, n * size);
    } else if (rows->out == QVITP_OUT_F32) {
        float *floats = dst, inverse = 1.0f / sum;
        for (size_t j = 0; j < n; j++) floats[j] = e[j] * inverse;
    } else {
        write_codes(rows, e, share, dst);
    }
}

static void run(const struct qvitp_softmax *rows)
{
    for (size_t i = 0; i < rows->m; i++) run_row(rows, (ptrdiff_t)i);
}

const struct qvitp_named_softmax qvitp_softmax_f32_scalar = {"softmax_f32_scalar", run};
