/*
 * softmax_f32_scalar - rows of scores to probabilities, one by one, in four passes over a row:
 * sum up and find the largest, exponentials, their sum, output.
 */
#include <math.h>

#include "kernels/kernels.h"
#include "scalar_kernels.h"
#include "scalar_math.h"

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

static void run_row(const struct qvitp_softmax *rows, ptrdiff_t i)
{
    size_t n = rows->n;
    float *e = rows->scores + i * rows->lds, *dst = rows->dst + i * rows->ldd;
    float top = qvitp_scalar_top(n, e, rows->bias ? rows->bias + i * rows->ldb : NULL,
                                 rows->mask ? rows->mask + i * rows->ldm : NULL);
    if (top == INFINITY || top == -INFINITY) {
        memset(dst, 0, n * sizeof *dst);
        return;
    }
    float inverse = 1.0f / exponentials(e, n, top);
    for (size_t j = 0; j < n; j++) dst[j] = e[j] * inverse;
}

static void run(const struct qvitp_softmax *rows)
{
    for (size_t i = 0; i < rows->m; i++) run_row(rows, (ptrdiff_t)i);
}

const struct qvitp_named_softmax qvitp_softmax_f32_scalar = {"softmax_f32_scalar", run};
