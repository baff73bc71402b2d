/*
 * softmax_f32_scalar - one row of scores to probabilities or codes, in four passes over the row:
 * sum up and find the largest, exponentials, their sum, output.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

/* Adds bias and mask to the scores; returns the largest sum that is a number, or -infinity. */
static float add_and_find_top(const struct qvitp_softmax *row)
{
    float *s = row->scores, top = -INFINITY;
    if (row->bias)
        for (size_t j = 0; j < row->n; j++) s[j] += row->bias[j];
    if (row->mask)
        for (size_t j = 0; j < row->n; j++) s[j] += row->mask[j];
    for (size_t j = 0; j < row->n; j++) top = s[j] > top ? s[j] : top;
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

static void run(const struct qvitp_softmax *row)
{
    size_t n = row->n;
    float *e = row->scores;
    float top = add_and_find_top(row);
    float sum = top == INFINITY || top == -INFINITY ? 0 : exponentials(e, n, top);
    float share = row->sum ? 1 : sum; /* what codes are divided by */

    if (row->sum) *row->sum = sum > 0 ? sum : 0;
    if (!(sum > 0)) {
        memset(row->dst, 0, n * (row->out == QVITP_OUT_F32 ? sizeof(float) : 1));
    } else if (row->out == QVITP_OUT_F32) {
        float *dst = row->dst, inverse = 1.0f / sum;
        for (size_t j = 0; j < n; j++) dst[j] = e[j] * inverse;
    } else if (!(row->half > 0)) {
        uint8_t *dst = row->dst;
        float scale = row->mul / share, hi = row->hi;
        for (size_t j = 0; j < n; j++) dst[j] = code(e[j] * scale, hi);
    } else {
        uint8_t *dst = row->dst;
        float scale = row->mul / share, scale2 = row->mul2 / share, half = row->half;
        for (size_t j = 0; j < n; j++) {
            uint8_t low = code(e[j] * scale, half - 1), high = code(e[j] * scale2, half - 1);
            dst[j] = e[j] * scale < half ? low : (uint8_t)((int32_t)half + high);
        }
    }
}

const struct qvitp_named_softmax qvitp_softmax_f32_scalar = {"softmax_f32_scalar", run};
