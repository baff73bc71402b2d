/*
 * test_nuclear.c - the nuclear norm, against matrices whose singular values are known, and against a
 * decomposition of another kind (one-sided Jacobi rotations).
 */
#include "support.h"

#include "calib/nuclear.h"

/* The norm of a dense matrix, with scratch that must not be left. */
static double norm_with(size_t m, size_t n, const float *a, size_t ld)
{
    const size_t mark = kept.count;
    double *scratch = guarded(qvitp_nuclear_scratch(m, n) * sizeof *scratch);
    double norm = qvitp_nuclear_norm(m, n, a, ld, scratch);
    release_to(mark);
    return norm;
}

static float *matrix(size_t m, size_t n) { return guarded(m * n * sizeof(float)); }

static void fill_floats(size_t count, float *a)
{
    for (size_t i = 0; i < count; i++) a[i] = test_normal();
}

/* x = x - 2 v (v x) for a random unit vector v, over `count` elements `step` apart in each of `lines`
 * lines: a reflection from one side. */
static void reflect_lines(size_t lines, size_t line_step, size_t count, size_t step, double *x)
{
    double *v = guarded(count * sizeof *v), length = 0;
    for (size_t i = 0; i < count; i++) v[i] = (double)test_normal(), length += v[i] * v[i];
    for (size_t l = 0; l < lines; l++, x += line_step) {
        double dot = 0;
        for (size_t i = 0; i < count; i++) dot += v[i] * x[i * step];
        for (size_t i = 0; i < count; i++) x[i * step] -= 2 * dot / length * v[i];
    }
}

/* A matrix with the given singular values, rounded to float; returns its Frobenius norm. */
static double turn(size_t m, size_t n, const double *values, size_t turns, float *a)
{
    double *x = guarded(m * n * sizeof *x), squares = 0;
    memset(x, 0, m * n * sizeof *x);
    for (size_t i = 0; i < m && i < n; i++) x[i * n + i] = values[i];
    for (size_t t = 0; t < turns; t++) {
        reflect_lines(m, n, n, 1, x);
        reflect_lines(n, 1, m, n, x);
    }
    for (size_t i = 0; i < m * n; i++) a[i] = (float)x[i], squares += x[i] * x[i];
    return sqrt(squares);
}

/* What rounding to float, and squares in double, may change. */
static double tolerance(size_t k, double frobenius)
{
    return sqrt((double)k) * 6e-8 * frobenius + (double)k * 2e-8 * frobenius;
}

static void check_values(size_t m, size_t n, const double *values, size_t turns)
{
    const size_t k = m < n ? m : n;
    float *a = matrix(m, n);
    double frobenius = turn(m, n, values, turns, a), sum = 0;
    for (size_t i = 0; i < k; i++) sum += values[i];
    CHECK_NEAR(norm_with(m, n, a, n), sum, tolerance(k, frobenius));
    release();
}

static void turned_diagonals_keep_their_sum(void)
{
    double values[64];
    for (size_t round = 0; round < 200; round++) {
        size_t m = 1 + test_below(64), n = 1 + test_below(64);
        for (size_t i = 0; i < 64; i++) {
            values[i] = fabs((double)test_normal());
            if (round % 4 == 1) values[i] = pow(10, -8 * (double)i / 64); /* falling */
            if (round % 4 == 2 && i > 5) values[i] = 0;                   /* rank 6 */
            if (round % 4 == 3) values[i] = 3;                            /* all alike */
        }
        check_values(m, n, values, 1 + test_below(20));
    }
}

static void large_ones_are_right_too(void)
{
    static double values[768];
    for (size_t i = 0; i < 768; i++) values[i] = 1 + fabs((double)test_normal());
    check_values(197, 197, values, 6);
    check_values(1024, 768, values, 2);
    for (size_t i = 0; i < 768; i++) values[i] = i < 64 ? 1 / (double)(i + 1) : 0;
    check_values(197, 197, values, 6);
    check_values(197, 768, values, 6);
}

static void diagonals_are_exact(void)
{
    for (size_t k = 1; k < 40; k++) {
        float *a = matrix(k, k);
        double sum = 0;
        memset(a, 0, k * k * sizeof *a);
        for (size_t i = 0; i < k; i++) {
            float x = (float)test_below(1000) - 500;
            a[i * k + i] = x;
            sum += fabs((double)x);
        }
        CHECK(norm_with(k, k, a, k) == sum);
        release();
    }
}

static void zero_is_zero(void)
{
    static const float zeros[50 * 70];
    CHECK(norm_with(50, 70, zeros, 70) == 0);
    CHECK(norm_with(70, 50, zeros, 50) == 0);
    CHECK(norm_with(1, 1, zeros, 1) == 0);
    release();
}

static void rank_one_is_a_product_of_lengths(void)
{
    for (size_t round = 0; round < 30; round++) {
        size_t m = 1 + test_below(100), n = 1 + test_below(100);
        float *a = matrix(m, n);
        double u[100], v[100], uu = 0, vv = 0; /* whole numbers: the products are exact */
        for (size_t i = 0; i < m; i++) u[i] = (double)test_below(200) - 100, uu += u[i] * u[i];
        for (size_t j = 0; j < n; j++) v[j] = (double)test_below(200) - 100, vv += v[j] * v[j];
        for (size_t i = 0; i < m * n; i++) a[i] = (float)(u[i / n] * v[i % n]);
        double top = sqrt(uu * vv), k = (double)(m < n ? m : n);
        CHECK_NEAR(norm_with(m, n, a, n), top, top * k * 2e-8);
        release();
    }
}

static void a_row_or_a_column_has_its_length(void)
{
    float *a = matrix(1, 300);
    double squares = 0;
    fill_floats(300, a);
    for (size_t i = 0; i < 300; i++) squares += (double)a[i] * (double)a[i];
    CHECK_NEAR(norm_with(1, 300, a, 300), sqrt(squares), 1e-13 * sqrt(squares));
    CHECK_NEAR(norm_with(300, 1, a, 1), sqrt(squares), 1e-13 * sqrt(squares));
    release();
}

/* Rotates pairs of columns of x [m][n], m >= n, until all are at right angles: their lengths are the
 * singular values. */
static double jacobi_norm(size_t m, size_t n, double *x)
{
    for (size_t sweep = 0; sweep < 40; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                double pp = 0, qq = 0, pq = 0;
                for (size_t i = 0; i < m; i++) {
                    double *row = x + i * n;
                    pp += row[p] * row[p], qq += row[q] * row[q], pq += row[p] * row[q];
                }
                if (fabs(pq) <= 1e-16 * sqrt(pp * qq)) continue;
                double angle = atan2(2 * pq, pp - qq) / 2, c = cos(angle), s = sin(angle);
                for (size_t i = 0; i < m; i++) {
                    double *row = x + i * n, u = row[p], v = row[q];
                    row[p] = c * u + s * v, row[q] = c * v - s * u;
                }
            }
    double norm = 0;
    for (size_t j = 0; j < n; j++) {
        double squares = 0;
        for (size_t i = 0; i < m; i++) squares += x[i * n + j] * x[i * n + j];
        norm += sqrt(squares);
    }
    return norm;
}

/* An element of a random matrix; of every other one two diagonals stand out, so that the Gram matrix is
 * tridiagonal but for small numbers. */
static float element(size_t round, size_t i, size_t j)
{
    float x = test_normal();
    if (round % 2 == 0) return x * powf(10, 2 * test_uniform());
    return i == j || i + 1 == j ? fabsf(x) + 1 : x * powf(10, -(float)(round % 9));
}

static void random_ones_equal_a_jacobi_decomposition(void)
{
    for (size_t round = 0; round < 120; round++) {
        size_t n = 1 + test_below(24), m = n + test_below(24), gap = test_below(5);
        size_t ld = n + gap;
        float *a = matrix(m, ld);
        double *x = guarded(m * n * sizeof *x), squares = 0;
        for (size_t i = 0; i < m * ld; i++)
            a[i] = i % ld < n ? element(round, i / ld, i % ld) : NAN;
        for (size_t i = 0; i < m * n; i++) {
            x[i] = (double)a[i / n * ld + i % n];
            squares += x[i] * x[i];
        }
        double norm = norm_with(m, n, a, ld);
        CHECK_NEAR(norm, jacobi_norm(m, n, x), 1e-8 * (double)n * sqrt(squares));
        release();
    }
}

static void transposing_changes_nothing(void)
{
    for (size_t round = 0; round < 30; round++) {
        size_t m = 1 + test_below(80), n = 1 + test_below(80);
        float *a = matrix(m, n), *t = matrix(n, m);
        fill_floats(m * n, a);
        for (size_t i = 0; i < m * n; i++) t[i % n * m + i / n] = a[i];
        double norm = norm_with(m, n, a, n);
        if (m != n) CHECK(norm_with(n, m, t, m) == norm); /* the same Gram matrix */
        CHECK_NEAR(norm_with(n, m, t, m), norm, 1e-9 * norm);
        release();
    }
}

/* Rows and columns of zeros, and what is cut into blocks, have eigenvalues that split off at once. */
static void blocks_add_up(void)
{
    for (size_t round = 0; round < 30; round++) {
        size_t k = 2 + test_below(30), cut = 1 + test_below(k - 1);
        float *a = matrix(k, k);
        fill_floats(k * k, a);
        for (size_t i = 0; i < k * k; i++)
            if ((i / k < cut) != (i % k < cut)) a[i] = 0;
        double whole = norm_with(k, k, a, k);
        double parts = norm_with(cut, cut, a, k);
        CHECK_NEAR(whole, parts + norm_with(k - cut, k - cut, a + cut * k + cut, k), 1e-7 * whole);
        memset(a, 0, cut * k * sizeof *a);
        CHECK_NEAR(norm_with(k, k, a, k), whole - parts, 1e-7 * whole);
        release();
    }
}

static void any_magnitude_is_fine(void)
{
    float *a = matrix(40, 30), *b = matrix(40, 30);
    fill_floats(40 * 30, a);
    double norm = norm_with(40, 30, a, 30);
    for (int e = -120; e <= 120; e += 10) {
        for (size_t i = 0; i < 40 * 30; i++) b[i] = ldexpf(a[i], e);
        CHECK_NEAR(ldexp(norm_with(40, 30, b, 30), -e), norm, 1e-6 * norm);
    }
    for (size_t i = 0; i < 40 * 30; i++) b[i] = ldexpf(1, i % 3 ? -149 : -140);
    CHECK(norm_with(40, 30, b, 30) > 0);
    release();
}

static void sizes_that_fit_no_memory_are_said(void)
{
    CHECK(qvitp_nuclear_scratch(1, 1) >= 1);
    CHECK(qvitp_nuclear_scratch(SIZE_MAX, SIZE_MAX) == SIZE_MAX);
    CHECK(qvitp_nuclear_scratch((size_t)1 << 31, (size_t)1 << 31) == SIZE_MAX);
    CHECK(qvitp_nuclear_scratch(SIZE_MAX, 3) == qvitp_nuclear_scratch(3, 3));
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(turned_diagonals_keep_their_sum);
    RUN(large_ones_are_right_too);
    RUN(diagonals_are_exact);
    RUN(zero_is_zero);
    RUN(rank_one_is_a_product_of_lengths);
    RUN(a_row_or_a_column_has_its_length);
    RUN(random_ones_equal_a_jacobi_decomposition);
    RUN(transposing_changes_nothing);
    RUN(blocks_add_up);
    RUN(any_magnitude_is_fine);
    RUN(sizes_that_fit_no_memory_are_said);
    return test_end();
}
