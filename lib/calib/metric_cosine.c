/* metric_cosine.c - cosine similarity of outputs: of each row over its outputs, or of each output over
 * the rows (EasyQuant, arXiv 2006.16669; Base PTQ of PTQ4ViT). */
#include <math.h>

#include "base/numerics.h"
#include "calib/metric.h"

/* Two zero vectors are alike; a zero vector is unlike any other. */
static double cosine(double dot, double a, double b)
{
    if (a <= 0 || b <= 0) return a <= 0 && b <= 0 ? 1 : 0;
    return dot / sqrt(a * b);
}

static double row_cosine(size_t n, const float *out, const float *target)
{
    double dot[QVITP_PARTIALS] = {0}, a[QVITP_PARTIALS] = {0}, b[QVITP_PARTIALS] = {0};
    for (size_t j = 0; j < n; j += QVITP_PARTIALS)
        for (size_t p = 0; p < QVITP_PARTIALS && j + p < n; p++) {
            double x = (double)out[j + p], y = (double)target[j + p];
            dot[p] += x * y;
            a[p] += x * x;
            b[p] += y * y;
        }
    for (size_t p = 1; p < QVITP_PARTIALS; p++) dot[0] += dot[p], a[0] += a[p], b[0] += b[p];
    return cosine(dot[0], a[0], b[0]);
}

static void add_rows(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++)
        sums[0] += row_cosine(o->n, o->out + i * o->ld, o->target + i * o->ld);
}

static double score(const double *sums) { return sums[0]; }

/* The target's own norm is the same for all candidates and left out. */
static void add_columns(const struct qvitp_outputs *o, double *sums)
{
    for (size_t i = 0; i < o->m; i++) {
        const float *out = o->out + i * o->ld, *target = o->target + i * o->ld;
        for (size_t j = 0; j < o->n; j++) {
            double x = (double)out[j];
            sums[j] += x * (double)target[j];
            sums[o->n + j] += x * x;
        }
    }
}

static double column_score(const double *sums) { return sums[1] > 0 ? sums[0] / sqrt(sums[1]) : 0; }

const struct qvitp_metric qvitp_metric_cosine = {.name = "cosine",
                                                 .rows = add_rows,
                                                 .score = score,
                                                 .columns = add_columns,
                                                 .column_score = column_score};
