/*
 * avx512_epilogue.h - what follows the accumulators of every AVX-512 product (kernels.h).
 *
 * A product leaves its sums on the stack: with 28 of 32 registers full there is no room for the epilogue's
 * constants. They become outputs later, a row of 32 columns, two vectors, at a time: whatever is not
 * arithmetic is shared by the two. What lies beyond the last column is computed and then not stored.
 */
#ifndef QVITP_AVX512_EPILOGUE_H
#define QVITP_AVX512_EPILOGUE_H

#include "kernels/kernels.h"
#include "avx512_product.h"

#if QVITP_X86

/* 16 columns' sums of a twin's ranges, whose vectors begin at `column`, scaled. */
QVITP_INLINE512 __m512 qvitp_512_scaled_twin(__m512i lo, __m512i hi, size_t column,
                                             const struct qvitp_epilogue *e)
{
    __m512 scale = _mm512_load_ps(e->scale + column);
    if (e->high) {
        lo = _mm512_mullo_epi32(lo, _mm512_set1_epi32(e->low));
        hi = _mm512_mullo_epi32(hi, _mm512_set1_epi32(e->high));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(lo, hi)), scale);
    }
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(hi), _mm512_load_ps(e->scale2 + column));
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(lo), scale), t);
}

/* What the sums of one panel, or of its first vector alone, are multiplied by, and what is added. */
struct qvitp_512_scales {
    __m512 scale[2], bias[2];
};
QVITP_INLINE512 void qvitp_512_load_scales(struct qvitp_512_scales *s,
                                           const struct qvitp_epilogue *e, size_t column,
                                           size_t vectors)
{
    QVITP_UNROLL
    for (size_t v = 0; v < 2 && v < vectors; v++) {
        s->scale[v] = _mm512_load_ps(e->scale + column + 16 * v);
        s->bias[v] = _mm512_load_ps(e->bias + column + 16 * v);
    }
}

/* Rows of one panel's sums that wait to become outputs. */
struct qvitp_512_rest {
    const char *sums;     /* of the next row, in the product's own form */
    size_t rows;          /* how many are left */
    size_t column;        /* of the panel's first column, into the epilogue's vectors */
    char *out;            /* of the next row, at that column */
    const char *residual; /* likewise */
    ptrdiff_t ldo, ldr;   /* bytes */
    uint32_t in;          /* a bit for each of the 32 columns that exist */
};

/* Field by field: a struct is copied by loads that are wider than the stores before them, and wait for these. */
QVITP_INLINE512 void qvitp_512_wait(struct qvitp_512_rest *r, const struct qvitp_tile *tile,
                                    const struct qvitp_epilogue *e, const void *sums, size_t row,
                                    size_t rows, size_t j)
{
    size_t columns = tile->n - j < QVITP_512_NR ? tile->n - j : QVITP_512_NR;
    ptrdiff_t out_size = e->out == QVITP_OUT_CODE ? 1 : 4;
    ptrdiff_t residual_size = e->residual == QVITP_RESIDUAL_F32 ? 4 : 1;
    r->sums = sums;
    r->rows = rows;
    r->column = tile->column + j;
    r->ldo = tile->ldo * out_size;
    r->ldr = tile->ldr * residual_size;
    r->in = columns < QVITP_512_NR ? (1u << columns) - 1 : ~0u;
    r->out = (char *)tile->out + (ptrdiff_t)row * r->ldo + (ptrdiff_t)j * out_size;
    r->residual = NULL;
    if (e->residual != QVITP_RESIDUAL_NONE)
        r->residual =
            (const char *)tile->residual + (ptrdiff_t)row * r->ldr + (ptrdiff_t)j * residual_size;
}

QVITP_INLINE512 void qvitp_512_next(struct qvitp_512_rest *r, size_t sums_bytes)
{
    r->sums += sums_bytes;
    r->out += r->ldo;
    if (r->residual) r->residual += r->ldr;
    r->rows--;
}

/*
 * Whether a row that waits is finished at a step, behind which `left` bytes of k follow: at each of the k / 4 steps or,
 * where there is time for it, at each second one. `every`: what qvitp_512_pace said before the first.
 */
QVITP_INLINE512 size_t qvitp_512_pace(const struct qvitp_512_rest *r, size_t k)
{
    return k / QVITP_512_KSTEP >= 2 * r->rows ? 2 * QVITP_512_KSTEP : QVITP_512_KSTEP;
}
QVITP_INLINE512 int qvitp_512_is_due(const struct qvitp_512_rest *r, size_t every, size_t left)
{
    return r->rows && !(left & (every - QVITP_512_KSTEP));
}

/* One vector of residual codes. */
QVITP_INLINE512 __m512 qvitp_512_residual(__m128i bytes, const struct qvitp_epilogue *e)
{
    __m512i code = e->residual == QVITP_RESIDUAL_U8 ? _mm512_cvtepu8_epi32(bytes)
                                                    : _mm512_cvtepi8_epi32(bytes);
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(e->residual_zero)),
                         _mm512_set1_ps(e->residual_scale));
}

QVITP_INLINE512 void qvitp_512_add_residual(__m512 t[2], const struct qvitp_512_rest *r,
                                            const struct qvitp_epilogue *e)
{
    __mmask16 in0 = (__mmask16)r->in, in1 = (__mmask16)(r->in >> 16);
    if (e->residual == QVITP_RESIDUAL_F32) {
        t[0] = _mm512_add_ps(t[0], _mm512_maskz_loadu_ps(in0, r->residual));
        t[1] = _mm512_add_ps(t[1], _mm512_maskz_loadu_ps(in1, r->residual + 64));
    } else {
        __m128i codes0 = _mm_maskz_loadu_epi8(in0, r->residual);
        __m128i codes1 = _mm_maskz_loadu_epi8(in1, r->residual + 16);
        t[0] = _mm512_add_ps(t[0], qvitp_512_residual(codes0, e));
        t[1] = _mm512_add_ps(t[1], qvitp_512_residual(codes1, e));
    }
}

/* Chosen by the sign itself: a comparison would make a mask, which costs the products beside it two cycles. */
QVITP_INLINE512 __m512 qvitp_512_rescale(__m512 t, size_t column, const struct qvitp_epilogue *e)
{
    __m512 mul = _mm512_load_ps(e->mul + column);
    if (e->mul_neg) {
        /* Where the first operand has ones, bits of the second, else of the third. */
        enum { CHOOSE = 0xCA };
        __m512i negative = _mm512_srai_epi32(_mm512_castps_si512(t), 31);
        __m512i neg = _mm512_load_si512(e->mul_neg + column);
        mul = _mm512_castsi512_ps(
            _mm512_ternarylogic_epi32(negative, neg, _mm512_castps_si512(mul), CHOOSE));
    }
    return qvitp_512_step(t, mul, _mm512_load_ps(e->add + column));
}

/* Everything after the bias, for the next row. Its codes are stored by one instruction. */
QVITP_INLINE512 void qvitp_512_finish(__m512 t[2], const struct qvitp_512_rest *r,
                                      const struct qvitp_epilogue *e)
{
    if (e->gelu == QVITP_GELU_FULL) t[0] = qvitp_512_gelu(t[0]), t[1] = qvitp_512_gelu(t[1]);
    if (e->gelu == QVITP_GELU_IN_UNITS)
        t[0] = qvitp_512_gelu_units(t[0]), t[1] = qvitp_512_gelu_units(t[1]);
    if (e->residual != QVITP_RESIDUAL_NONE) qvitp_512_add_residual(t, r, e);
    if (e->mul) {
        t[0] = qvitp_512_rescale(t[0], r->column, e);
        t[1] = qvitp_512_rescale(t[1], r->column + 16, e);
    }
    if (e->out == QVITP_OUT_F32) {
        qvitp_512_store_16_floats((float *)(void *)r->out, (__mmask16)r->in, t[0]);
        qvitp_512_store_16_floats((float *)(void *)r->out + 16, (__mmask16)(r->in >> 16), t[1]);
    } else {
        const __m512 lo = _mm512_set1_ps(e->lo), hi = _mm512_set1_ps(e->hi);
        __m128i left = qvitp_512_code(qvitp_512_clamp(t[0], lo, hi));
        __m128i right = qvitp_512_code(qvitp_512_clamp(t[1], lo, hi));
        qvitp_512_store_32_bytes(r->out, r->in, _mm256_set_m128i(right, left));
    }
}

/* The next row, of sums that are floats. */
QVITP_INLINE512 void qvitp_512_finish_sums(struct qvitp_512_rest *r, const struct qvitp_epilogue *e)
{
    const float *sums = (const float *)(const void *)r->sums, *bias = e->bias + r->column;
    __m512 t[2] = {_mm512_add_ps(_mm512_load_ps(sums), _mm512_load_ps(bias)),
                   _mm512_add_ps(_mm512_load_ps(sums + 16), _mm512_load_ps(bias + 16))};
    qvitp_512_finish(t, r, e);
    qvitp_512_next(r, QVITP_512_NR * sizeof(float));
}

#endif
#endif
