/*
 * ref.h - the specification: every operation of the library in the most obvious form.
 *
 * Scalar code, no allocation, no threads, no packing, one float32 rounding per operation in the
 * written order (lib/base/numerics.h). What these functions return is what "correct" means: every
 * kernel and every plan is tested for equality with them, bit for bit.
 *
 * Matrices are row-major with a leading dimension in elements. "codes" are bytes; signed schemes
 * store two's complement.
 */
#ifndef QVITP_REF_H
#define QVITP_REF_H

#include <stddef.h>
#include <stdint.h>

/* ---- ref_math.c: scalar functions ---- */

/* Round half to even; |x| < 2^22. */
float qvitp_ref_round(float x);
/* clamp(x, lo, hi), NaN gives lo. */
float qvitp_ref_clamp(float x, float lo, float hi);
/* exp(x) for x <= 0, relative error 4.3e-7 and 9e-8 |x|; 0 below -70 and for NaN. */
float qvitp_ref_exp(float x);
/* x Phi(x), absolute error 1.3e-6; NaN stays NaN. */
float qvitp_ref_gelu(float x);
/* The same of a number in units of 5/16, in that unit, absolute error 6e-6 of 1: where codes follow. */
float qvitp_ref_gelu_units(float x);
/* Sum of x[0..n) in 16 interleaved partials (x[i] goes to partial i % 16), then the fixed tree
 * p[i] += p[i + 8], p[i] += p[i + 4], p[i] += p[i + 2], p[0] + p[1]. */
float qvitp_ref_sum(const float *x, size_t n);

/* ---- ref_encode.c: one value to its code and back (ONNX QuantizeLinear / DequantizeLinear) ---- */

int32_t qvitp_ref_encode_uniform(float x, float scale, float zero, float lo, float hi);
int32_t qvitp_ref_encode_twin_gelu(float x, float scale, float scale2, float zero, float lo,
                                   float hi);
int32_t qvitp_ref_encode_twin_softmax(float x, float scale, float scale2, float hi);
float qvitp_ref_decode_uniform(int32_t code, float scale, float zero);
float qvitp_ref_decode_twin_gelu(int32_t code, float scale, float scale2, float zero);
float qvitp_ref_decode_twin_softmax(int32_t code, float scale, float scale2, float hi);

/* ---- ref_gemm.c: products of codes, and what follows them ---- */

/* What the epilogue of kernels/kernels.h does to one accumulator, or to a twin's pair. */
struct qvitp_ref_epilogue {
    float scale, scale2, bias; /* t = acc * scale + bias, or (lo * scale + hi * scale2) + bias    */
    int32_t high;              /* 0, or of joined ranges: t = (lo + high * hi) * scale + bias     */
    int32_t twin, gelu;        /* a boolean; QVITP_GELU_*                                         */
    int32_t has_residual, has_mul;
    float residual;          /* already a float                                                 */
    float mul, mul_neg, add; /* t = t * (mul_neg if t's sign is set, else mul) + add             */
};
float qvitp_ref_epilogue(int32_t lo, int32_t hi, const struct qvitp_ref_epilogue *e);

/* The same for products in K-blocks, in two steps. Of one element, lo[h] and hi[h] are the accumulators
 * of block h: what the products below return for the k of that block alone. First the sum of
 * u_h = lo[h] * scale[h], or lo[h] * scale[h] + hi[h] * scale2[h], in rising h from u_0 on (scale2 and hi
 * NULL: a plain operand), or, if high is not 0, (lo[h] + high * hi[h]) * scale[h]; then the rest of the
 * epilogue, whose scales are not read. */
float qvitp_ref_k_sum(size_t blocks, const int32_t *lo, const int32_t *hi, int32_t high,
                      const float *scale, const float *scale2);
float qvitp_ref_finish(float sum, const struct qvitp_ref_epilogue *e);

/* acc[m x n] = sum over k of (a - zero) * b, a unsigned codes [m x k], b codes [n x k] (row j of b
 * is column j of the product, as weights are stored). */
void qvitp_ref_gemm_u8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda, int32_t zero,
                         const int8_t *b, size_t ldb, int32_t *acc, size_t ldc);
/* The same for signed codes of a. */
void qvitp_ref_gemm_s8s8(size_t m, size_t n, size_t k, const int8_t *a, size_t lda, const int8_t *b,
                         size_t ldb, int32_t *acc, size_t ldc);
/* Twin codes of a: the products of the two ranges, apart. Values, not magnitudes: the low range of
 * twin GELU codes is negative. half = 0 means twin GELU, with this code of 0, else twin softmax with that
 * half. */
void qvitp_ref_gemm_t8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda, int32_t half,
                         int32_t zero, const int8_t *b, size_t ldb, int32_t *lo, int32_t *hi,
                         size_t ldc);

/* ---- one row each; the equations stand in kernels/kernels.h ---- */

void qvitp_ref_softmax(size_t n, const float *scores, const float *bias, const float *mask,
                       float *probabilities);

/* 2^(-depth / 1024) in 2^15ths, whole: what a softmax that gives codes adds up. */
uint32_t qvitp_ref_exp2(uint32_t depth);
struct qvitp_ref_softmax_form {
    float steps; /* depth of a score that is less than the largest by one */
    float mul, mul2, hi, half;
};
/* Codes, twin codes if half > 0. x, depths: n each of scratch memory; x may be scores. relative: NULL, or where the
 * sum goes that codes then are not divided by. */
void qvitp_ref_softmax_codes(size_t n, const float *scores, const float *bias, const float *mask,
                             const struct qvitp_ref_softmax_form *form, float *x, uint16_t *depths,
                             uint8_t *codes, float *relative);

/* t = x * factor, and with mul NULL or not, t * mul + add: see struct qvitp_rescale. */
float qvitp_ref_rescale(float x, float factor, const float *mul, const float *add);

/* scratch: n floats, not the memory of x or y; y may be that of x. */
void qvitp_ref_layer_norm(size_t n, const float *x, const float *gamma, const float *beta,
                          float eps, float *scratch, float *y);

/* ---- ref_attention.c: one head, from codes to the sums of P V ---- */

struct qvitp_ref_attention {
    size_t keys, dim;
    const uint8_t *query; /* codes [queries][dim], and so on; strides in elements */
    const int8_t *key, *value;
    size_t query_stride, key_stride, value_stride;
    int32_t query_signed, query_zero;
    float score_scale;                  /* scale of Q times scale of K times the attention's own */
    struct qvitp_ref_softmax_form form; /* of the probabilities' codes; steps are not read */
};
/* Row i: the probabilities' codes [keys], and the sums of their low and high range (all in lo for plain
 * codes) with V [dim], which qvitp_ref_epilogue turns into outputs. scores, depths: keys each of
 * scratch memory. */
void qvitp_ref_attention_row(const struct qvitp_ref_attention *attention, size_t i,
                             const float *bias, const float *mask, float *scores, uint16_t *depths,
                             uint8_t *codes, float *relative, int32_t *lo, int32_t *hi);

/* round(clamp(t, lo, hi)) as a byte. */
uint8_t qvitp_ref_code(float t, float lo, float hi);

#endif
