/*
 * solving.h - what the tests of results share, on top of calibration.h: data of every kind, and how far
 * a result is from the floats.
 *
 * What a result is worth is measured without the library's arithmetic: codes are decoded, multiplied in
 * double, and compared with the product of the floats.
 */
#ifndef QVIT_TEST_SOLVING_H
#define QVIT_TEST_SOLVING_H

#include "calibration.h"

/* ---- recipes, scales, distances ---- */

static const char *const recipes[] = {"minmax", "percentile", "mse", "cosine"};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

/* The scale of a symmetric quantizer that just holds `top`: the largest value is rounded to the
 * last code, half a step below the end (PTQ4ViT's initial scale). */
static inline float symmetric_scale(double top, int bits)
{
    return (float)(top / ((double)(1 << (bits - 1)) - 0.5));
}

static inline double largest(const qvit_tensor *t, size_t first, size_t count)
{
    double top = 0;
    for (size_t i = first; i < first + count; i++) top = fmax(top, fabs(tensor_get(t, i)));
    return top;
}

/* How far a result is from the floats: the squared error, or 1 - cosine, of the product. */
static inline double distance_of(const qvit_result *r, const qvit_tensor *x, const qvit_tensor *w,
                                 bool cosine)
{
    qvit_tensor xq = fake_of(input_of(r), x), wq = weights_of(r);
    double *exact = product_of(x, w), *coded = product_of(&xq, &wq);
    size_t n = w->dims[0], m = tensor_count(x) / w->dims[1];
    double distance =
        cosine ? 1 - mean_cosine(exact, coded, m, n) : squared_distance(exact, coded, m * n);
    free(exact), free(coded);
    return distance;
}

/* ---- data ---- */

/* Weights and inputs with few, far outliers, which a range has to give up. */
static inline void add_outliers(const qvit_tensor *t, size_t each, double factor)
{
    for (size_t i = test_below(each); i < tensor_count(t); i += each)
        tensor_set(t, i, tensor_get(t, i) * factor);
}

/* Channels of very different sizes, as behind a LayerNorm. */
static inline qvit_tensor uneven(size_t rows, size_t cols)
{
    qvit_tensor x = matrix(rows, cols, 1);
    for (size_t i = 0; i < rows * cols; i++)
        tensor_set(&x, i, tensor_get(&x, i) * exp2((double)(i % cols % 5)));
    return x;
}

static inline void make_gelu(const qvit_tensor *x)
{
    for (size_t i = 0; i < tensor_count(x); i++) {
        double v = (double)test_normal() * 2;
        tensor_set(x, i, v * 0.5 * (1 + erf(v / sqrt(2))));
    }
}

/* Rows of probabilities, some flat, some with one that takes nearly all. */
static inline void make_softmax(const qvit_tensor *view)
{
    size_t n = view->dims[3];
    for (size_t row = 0; row < tensor_count(view) / n; row++) {
        double sum = 0, sharp = row % 3 ? 1 : 6;
        for (size_t j = 0; j < n; j++) {
            double e = exp(sharp * (double)test_normal());
            tensor_set(view, row * n + j, e);
            sum += e;
        }
        for (size_t j = 0; j < n; j++)
            tensor_set(view, row * n + j, tensor_get(view, row * n + j) / sum);
    }
}

/* ---- operands of matmul sites ---- */

/* Both operands as an engine keeps them, token by token, heads beside each other; seen as
 * [samples, heads, tokens, width] without copying. */
struct operand {
    qvit_tensor flat; /* [samples * tokens, heads * width] */
    qvit_tensor view;
};

static inline struct operand operand_new(size_t samples, size_t heads, size_t tokens, size_t width,
                                         float amplitude)
{
    struct operand o;
    o.flat = matrix(samples * tokens, heads * width, amplitude);
    qvit_tensor_init(&o.view, o.flat.data, QVIT_DTYPE_F32, 4,
                     (size_t[]){samples, heads, tokens, width});
    o.view.strides[0] = (ptrdiff_t)(tokens * heads * width);
    o.view.strides[1] = (ptrdiff_t)width;
    o.view.strides[2] = (ptrdiff_t)(heads * width);
    return o;
}

/* The same view of other memory of the same layout. */
static inline qvit_tensor same_view(const struct operand *o, const qvit_tensor *flat,
                                    qvit_dtype dtype)
{
    qvit_tensor t = o->view;
    t.data = flat->data, t.dtype = dtype;
    return t;
}

enum { HEADS = 3, TOKENS = 10, WIDTH = 8, SAMPLES = 4 };

#endif
