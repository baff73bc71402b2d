/* test_metrics.c - metrics and ACIQ's clipping against their formulas, written out in double. */
#include "support.h"

#include <math.h>

#include "calib/aciq.h"
#include "calib/metric.h"

enum { ROWS = 7, COLS = 37, LD = 41 };

static float out[ROWS * LD], target[ROWS * LD], gradient[ROWS * LD];

static struct qvitp_outputs draw(void)
{
    for (size_t i = 0; i < ROWS * LD; i++) {
        target[i] = random_between(-3, 3) + 0.5f;
        out[i] = target[i] + random_between(-1, 1);
        gradient[i] = random_between(-2, 2);
    }
    return (struct qvitp_outputs){ROWS, COLS, LD, out, target, gradient};
}

static double rows_score(const struct qvitp_metric *m, const struct qvitp_outputs *o)
{
    double sums[QVITP_METRIC_SUMS] = {0};
    m->rows(o, sums);
    return m->score(sums);
}

static double column_score(const struct qvitp_metric *m, const struct qvitp_outputs *o,
                           size_t column)
{
    static double sums[QVITP_METRIC_SUMS * COLS];
    memset(sums, 0, sizeof sums);
    m->columns(o, sums);
    double own[QVITP_METRIC_SUMS];
    for (size_t i = 0; i < QVITP_METRIC_SUMS; i++) own[i] = sums[i * o->n + column];
    return m->column_score(own);
}

static void squared_errors_are_sums(void)
{
    struct qvitp_outputs o = draw();
    double plain = 0, weighed = 0, column = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLS; j++) {
            double e = (double)(out[i * LD + j] - target[i * LD + j]), g = gradient[i * LD + j];
            plain += e * e;
            weighed += e * e * g * g;
            if (j == 5) column += e * e * g * g;
        }
    CHECK_NEAR(rows_score(&qvitp_metric_mse, &o), -plain, 1e-9 * plain);
    CHECK_NEAR(rows_score(&qvitp_metric_hessian, &o), -weighed, 1e-9 * weighed);
    CHECK_NEAR(column_score(&qvitp_metric_hessian, &o, 5), -column, 1e-9 * column);
}

/* Over `count` pairs that lie `step` apart. */
static double pearson(const float *x, const float *y, size_t rows, size_t cols)
{
    double n = (double)(rows * cols), mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) mx += x[i * LD + j] / n, my += y[i * LD + j] / n;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            double a = x[i * LD + j] - mx, b = y[i * LD + j] - my;
            xx += a * a, yy += b * b, xy += a * b;
        }
    return xy / sqrt(xx * yy);
}

static void pearson_is_the_correlation(void)
{
    struct qvitp_outputs o = draw();
    /* Less a millionth of the relative error at most. */
    CHECK_NEAR(rows_score(&qvitp_metric_pearson, &o), pearson(out, target, ROWS, COLS), 1.1e-6);
    for (size_t j = 0; j < COLS; j += 9)
        CHECK_NEAR(column_score(&qvitp_metric_pearson, &o, j),
                   pearson(out + j, target + j, ROWS, 1), 1.1e-6);
}

static void correlation_sees_no_shift_and_prefers_the_nearer_gain(void)
{
    struct qvitp_outputs o = draw();
    for (size_t i = 0; i < ROWS * LD; i++) out[i] = target[i];
    double same = rows_score(&qvitp_metric_pearson, &o);
    CHECK_NEAR(same, 1, 1e-9);
    for (size_t i = 0; i < ROWS * LD; i++) out[i] = 1.25f * target[i];
    double gain = rows_score(&qvitp_metric_pearson, &o);
    CHECK(gain < same && gain > same - 1e-5);
}

/* In order, against its order, and everything between: the loss can only grow. */
static void ranking_counts_pairs_that_change_their_order(void)
{
    struct qvitp_outputs o = draw();
    double last = INFINITY;
    for (int step = 0; step <= 4; step++) {
        float turn = 1 - 0.5f * (float)step; /* 1 .. -1 times the target */
        for (size_t i = 0; i < ROWS * LD; i++) out[i] = turn * target[i];
        double ranking = rows_score(&qvitp_metric_ranking, &o);
        double loss = (rows_score(&qvitp_metric_pearson, &o) - ranking) / 0.1;
        if (step == 2)
            CHECK_NEAR(loss, 0.2, 1e-9); /* all alike: every pair just misses the margin */
        CHECK(loss >= 0 && -loss <= last);
        last = -loss;
    }
}

static double clip_error(double a, int bits, bool laplace)
{
    double step = a * a / (3 * pow(4, bits)), pi = acos(-1);
    if (laplace) return 2 * exp(-a) + step;
    return (1 + a * a) * (1 - erf(a / sqrt(2))) - sqrt(2 / pi) * a * exp(-a * a / 2) + step;
}

static void aciq_clips_where_the_expected_error_is_least(void)
{
    for (int bits = 2; bits <= 8; bits++)
        for (int laplace = 0; laplace <= 1; laplace++) {
            double scale = (double)random_between(0.1f, 9), best = 0;
            struct qvitp_moments m = {0, scale,
                                      laplace ? scale * sqrt(2) : scale * sqrt(acos(-1) / 2)};
            for (double a = 0.5; a < 12; a += 1e-3)
                if (best <= 0 || clip_error(a, bits, laplace) < clip_error(best, bits, laplace))
                    best = a;
            double unit = laplace ? m.deviation : m.spread;
            CHECK_NEAR(qvitp_aciq_clip(&m, bits) / unit, best, 2e-3);
        }
}

static void moments_are_means(void)
{
    float x[500];
    double mean = 0, deviation = 0, spread = 0;
    for (size_t i = 0; i < 500; i++) x[i] = random_between(-1, 4), mean += x[i] / 500.0;
    for (size_t i = 0; i < 500; i++) deviation += fabs(x[i] - mean), spread += pow(x[i] - mean, 2);
    struct qvitp_moments m = qvitp_moments_of(500, x);
    CHECK_NEAR(m.mean, mean, 1e-9);
    CHECK_NEAR(m.deviation, deviation / 500, 1e-9);
    CHECK_NEAR(m.spread, sqrt(spread / 500), 1e-9);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(squared_errors_are_sums);
    RUN(pearson_is_the_correlation);
    RUN(correlation_sees_no_shift_and_prefers_the_nearer_gain);
    RUN(ranking_counts_pairs_that_change_their_order);
    RUN(aciq_clips_where_the_expected_error_is_least);
    RUN(moments_are_means);
    return test_end();
}
