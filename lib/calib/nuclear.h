/* nuclear.h - the nuclear norm of a matrix: how much of it there is in all its directions together. */
#ifndef QVITP_NUCLEAR_H
#define QVITP_NUCLEAR_H

#include <stddef.h>

/* Doubles that the norm of an m x n matrix needs as scratch; SIZE_MAX if that fits no memory. */
size_t qvitp_nuclear_scratch(size_t m, size_t n);

/*
 * The sum of the singular values of a [m][n], its rows ld floats apart: the square roots of the
 * eigenvalues of the smaller of a^T a and a a^T, found in double.
 *
 * Squares are what the eigenvalues are exact to: singular values below 1e-8 of the largest one drown in
 * rounding, and those that are 0 may come out as such small ones. The norm is good to about 1e-8 of
 * min(m, n) times the largest singular value. m, n >= 1, ld >= n, finite numbers; of min(m, n) = k some
 * 4 k^3 / 3 + k m n multiplications.
 */
double qvitp_nuclear_norm(size_t m, size_t n, const float *a, size_t ld, double *scratch);

#endif
