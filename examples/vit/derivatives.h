/*
 * derivatives.h - the backward steps that are no products: GELU, softmax, LayerNorm, transposing.
 *
 * Plain loops over rows, which compilers vectorise, shared out over an executor. A row is done by
 * one worker, always in the same order, so results depend neither on the workers nor on how many
 * rows come at once. An executor that fails gives EXECUTOR.
 */
#ifndef VIT_DERIVATIVES_H
#define VIT_DERIVATIVES_H

#include <stddef.h>

#include <qvit.h>

#include "model.h"

/*
 * y = x Phi(x), Phi the normal distribution: dx = dy (Phi(x) + x phi(x)). gradient, `count`
 * numbers, is dy and becomes dx. The factor is within 1e-6 of the exact one.
 */
qvit_status gelu_backward(const qvit_executor *executor, const float *x, size_t count,
                          float *gradient, qvit_error *error);

/*
 * p = softmax(scale s), row by row: ds = scale p (dp - sum(p dp)). gradient, [rows, cols], is dp
 * and becomes ds.
 */
qvit_status softmax_backward(const qvit_executor *executor, const float *p, size_t rows,
                             size_t cols, float scale, float *gradient, qvit_error *error);

/*
 * y = LN(x): with u = gamma dy and h = (x - mean) / deviation,
 * dx = (u - mean(u) - h mean(u h)) / deviation, which is added to `sum`. x and sum are `rows` rows
 * of the norm's width that lie `stride` apart; dy is dense.
 */
qvit_status layer_norm_backward(const qvit_executor *executor, const vit_norm *norm, const float *x,
                                size_t rows, size_t stride, const float *dy, float *sum,
                                qvit_error *error);

/* `count` matrices one behind the other, each with its rows `stride` apart. */
typedef struct matrices {
    float *data;
    size_t count, rows, cols, stride;
} matrices;

/* Turns each matrix of `from` into one of `to`, whose rows and cols are the other way round. */
qvit_status transpose(const qvit_executor *executor, const matrices *from, const matrices *to,
                      qvit_error *error);

#endif
