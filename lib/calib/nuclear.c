/*
 * nuclear.c - the nuclear norm: Gram matrix, Householder's tridiagonal form, implicit QL.
 *
 * Symmetric matrices are stored whole, so that every inner loop runs along a row and needs no order of
 * its own: the sums of a row's elements are independent, and a compiler may do several at once where it
 * is told by `restrict` that they do not overlap.
 */
#include "calib/nuclear.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/numerics.h"

/* Lines of the longer side that are added to the Gram matrix at a time. */
enum { LINES = 4 };

/* More steps than any eigenvalue needs: two or three are usual. */
enum { MOST_STEPS = 60 };

/* Squares of floats are above 1e-90: what is smaller than this is 0, and its square still a number. */
#define NOTHING 1e-120

size_t qvitp_nuclear_scratch(size_t m, size_t n)
{
    size_t k = qvitp_min(m, n);
    size_t doubles = qvitp_mul(k, qvitp_add(k, LINES)); /* the matrix, and lines or two vectors */
    return qvitp_mul(doubles, sizeof(double)) == SIZE_MAX ? SIZE_MAX : doubles;
}

/* g [k][k] += the sum over four lines of line^T line, on and below the diagonal. */
static void add_lines(size_t k, const double *restrict lines, double *restrict g)
{
    const double *p = lines, *q = p + k, *r = q + k, *s = r + k;
    for (size_t i = 0; i < k; i++, g += k) {
        double x = p[i], y = q[i], z = r[i], w = s[i];
        for (size_t j = 0; j <= i; j++) g[j] += (x * p[j] + y * q[j]) + (z * r[j] + w * s[j]);
    }
}

/* g = the smaller Gram matrix of a [m][n], k = min(m, n) wide. */
static void gram(size_t m, size_t n, const float *a, size_t ld, double *g, double *lines)
{
    size_t k = qvitp_min(m, n), count = m < n ? n : m;
    size_t along = m < n ? ld : 1, across = m < n ? 1 : ld; /* steps in a line, and to the next */
    memset(g, 0, k * k * sizeof *g);
    for (size_t first = 0; first < count; first += LINES) {
        for (size_t l = 0; l < LINES; l++)
            for (size_t j = 0; j < k; j++)
                lines[l * k + j] =
                    first + l < count ? (double)a[(first + l) * across + j * along] : 0;
        add_lines(k, lines, g);
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < i; j++) g[j * k + i] = g[i * k + j];
}

/*
 * H = I - u u^T / h, which turns x [n] into (0, .., 0, side): u replaces x. Returns h; 0 if x is
 * (0, .., 0, side) already. u and side have opposite signs in the last place, so nothing cancels.
 */
static double reflector(size_t n, double *x, double *side)
{
    double before = 0, last = x[n - 1];
    for (size_t i = 0; i + 1 < n; i++) before += x[i] * x[i];
    *side = last;
    if (before == 0) return 0;
    double length = sqrt(before + last * last);
    *side = last > 0 ? -length : length;
    x[n - 1] = last - *side;
    return length * length - last * *side;
}

/* p = s u, for s [n][n] symmetric with rows k apart. */
static void times(size_t n, size_t k, const double *restrict s, const double *restrict u,
                  double *restrict p)
{
    memset(p, 0, n * sizeof *p);
    for (size_t j = 0; j < n; j++, s += k) {
        double x = u[j];
        for (size_t i = 0; i < n; i++) p[i] += x * s[i];
    }
}

/* s = H s H = s - u q^T - q u^T with p = s u / h and q = p - u (u^T p) / (2 h); p becomes q. */
static void reflect(size_t n, size_t k, double *restrict s, const double *restrict u, double h,
                    double *restrict p)
{
    times(n, k, s, u, p);
    double dot = 0;
    for (size_t i = 0; i < n; i++) {
        p[i] /= h;
        dot += u[i] * p[i];
    }
    dot /= 2 * h;
    for (size_t i = 0; i < n; i++) p[i] -= dot * u[i];
    for (size_t j = 0; j < n; j++, s += k) {
        double x = u[j], y = p[j];
        for (size_t i = 0; i < n; i++) s[i] -= x * p[i] + y * u[i];
    }
}

/* The diagonal d [k] and what stands beside it, e [k] with a 0 at its end, of a tridiagonal matrix with
 * the eigenvalues of s [k][k], which is used up. The last rows become tridiagonal first. */
static void tridiagonal(size_t k, double *s, double *d, double *e)
{
    for (size_t n = k - 1; n > 0; n--) {
        double *row = s + n * k; /* beside the diagonal; n of it, the last stays */
        d[n] = row[n];
        double side, h = reflector(n, row, &side);
        if (h > 0) reflect(n, k, s, row, h, d); /* d below n is free as yet */
        e[n - 1] = side;
    }
    d[0] = s[0];
    e[k - 1] = 0;
}

/* The first row from l on behind which the tridiagonal matrix falls in two. */
static size_t split(size_t k, size_t l, const double *d, const double *e)
{
    for (; l + 1 < k; l++) {
        double size = fabs(d[l]) + fabs(d[l + 1]), beside = fabs(e[l]);
        if (size + beside == size || beside < NOTHING) break;
    }
    return l;
}

/*
 * One QL step on rows l..m, with Wilkinson's shift: rotations of neighbouring rows from the bottom up,
 * each of which removes the bulge that the one before it made beside the diagonal.
 */
static void step(size_t l, size_t m, double *d, double *e)
{
    double half = (d[l + 1] - d[l]) / 2, root = sqrt(half * half + e[l] * e[l]);
    double shift = d[l] - e[l] * (e[l] / (half + (half < 0 ? -root : root)));
    double c = 1, s = 1, moved = 0, g = d[m] - shift;
    for (size_t i = m; i-- > l;) {
        double f = s * e[i], b = c * e[i], r = sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r == 0) { /* it fell in two on the way */
            d[i + 1] -= moved;
            e[m] = 0;
            return;
        }
        s = f / r, c = g / r;
        g = d[i + 1] - moved;
        double t = (d[i] - g) * s + 2 * c * b;
        moved = s * t;
        d[i + 1] = g + moved;
        g = c * t - b;
    }
    d[l] -= moved;
    e[l] = g;
    e[m] = 0;
}

double qvitp_nuclear_norm(size_t m, size_t n, const float *a, size_t ld, double *scratch)
{
    size_t k = qvitp_min(m, n);
    double *s = scratch, *d = s + k * k, *e = d + k, norm = 0;
    gram(m, n, a, ld, s, d);
    tridiagonal(k, s, d, e);
    for (size_t l = 0; l < k; l++) {
        for (size_t steps = 0, end; steps < MOST_STEPS && (end = split(k, l, d, e)) != l; steps++)
            step(l, end, d, e);
        norm += d[l] < 0 ? 0 : sqrt(d[l]); /* rounding may have made a 0 negative */
    }
    return norm;
}
