/*
 * linalg.h - the linear algebra of rounding and of weight correction: gram matrices, Cholesky, solving.
 *
 * Matrices are row-major and dense, double unless said otherwise; memory is the caller's. Sums run in an
 * order that depends on sizes alone, so that a result is the same for every thread count. What is
 * computed in double here is the same on every instruction set too; gram and cross go through the
 * library's float product, whose steps may be fused or not (kernels.h).
 *
 * linalg_gram.c holds what reads observed rows, linalg_cholesky.c the rest.
 */
#ifndef QVITP_LINALG_H
#define QVITP_LINALG_H

#include "engine.h"

/* ---- products of observed rows ---- */

/* The columns of a matrix of floats, [rows][width], and what is subtracted from each. */
struct qvitp_columns {
    size_t width;
    const float *values; /* [rows][width] */
    const float *mean;   /* [width], or NULL: 0 */
};

/* The mean of every column, each row with its weight (>= 0, NULL: 1). All weights 0: means of 0. */
qvit_status qvitp_column_means(const qvit_engine *engine, size_t rows, size_t width,
                               const float *values, const float *weight, float *mean,
                               qvit_error *error);

/*
 * gram [k][k] = sum over the rows r of weight[r] (x_r - mean) (x_r - mean)^T, k = x->width; symmetric
 * bit for bit. cross [n][k] = sum of weight[r] (d_r - mean) (x_r - mean)^T, n = d->width. weight NULL: 1.
 *
 * Runs of QVITP_RUN rows are multiplied in float32 and added up in double. So the error of an element is
 * at most (QVITP_RUN + 3) 2^-24 sum_r weight |d_rj x_ri| - 1.6e-5 of the geometric mean of the two
 * diagonal elements - and, since roundings hardly ever agree, about 1e-6 / sqrt(rows / QVITP_RUN) of it,
 * far below the damping that every use of these matrices adds (GPTQ: 1e-2 of the mean diagonal).
 */
enum { QVITP_RUN = 256 };
qvit_status qvitp_gram(const qvit_engine *engine, size_t rows, const struct qvitp_columns *x,
                       const float *weight, double *gram, qvit_error *error);
qvit_status qvitp_cross(const qvit_engine *engine, size_t rows, const struct qvitp_columns *d,
                        const struct qvitp_columns *x, const float *weight, double *cross,
                        qvit_error *error);

/* ---- Cholesky ---- */

/*
 * Factors a symmetric positive definite matrix [k][k], of which the lower triangle is read, in place:
 * a = L L^T. Both triangles of `a` hold the factor then, L below and L^T above the diagonal. *definite
 * is 0 where a pivot was not positive (or NaN): `a` is of no use then, more damping may help.
 */
qvit_status qvitp_cholesky(const qvit_engine *engine, size_t k, double *a, int *definite,
                           qvit_error *error);

/* Replaces each of the n rows x [k] of `rows` by the solution of (L L^T) y = x. */
qvit_status qvitp_cholesky_solve(const qvit_engine *engine, size_t k, const double *factor,
                                 size_t n, double *rows, qvit_error *error);

/* ---- the product that all of these are made of ---- */

/* c [m][n] += sign * a [m][depth] * b [depth][n], lda, ldb, ldc elements from row to row. One thread;
 * `panel` is scratch of QVITP_PANEL doubles. Each element of c is updated once for every 256 values of
 * depth, in rising order. */
enum { QVITP_PANEL = 256 * (64 + 2) };
struct qvitp_update {
    size_t m, n, depth;
    const double *a, *b;
    double *c;
    size_t lda, ldb, ldc;
    double sign; /* 1 or -1 */
};
void qvitp_update_run(const struct qvitp_update *update, double *panel);

#endif
