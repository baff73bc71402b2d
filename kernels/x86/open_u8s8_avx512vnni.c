/*
 * open_u8s8_avx512vnni - the part of gemm_u8s8_12x32_avx512vnni that attention's products go through: what follows a
 * panel's sums happens at once, in the open.
 *
 * SUM output costs the multipliers nothing: a conversion takes other ports, and what it wrote is stored for nothing too
 * (bench/README.md). What the second product writes comes in so few panels that none could be finished behind another.
 * Strips of four rows do best, whose ends are short: they are of as many, and up to seven.
 */
#include <math.h>

#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP };
enum { LEAST = 4, MOST = 2 * LEAST - 1 };
enum kind { SUMS, FLOATS, CODES };

/* One step of k: m rows times one or two vectors of a panel, and a third of the next one, `tail`, or of that one half:
 * then what is in the other half of these sums is not defined, nor what is stored for it, where columns have room. */
enum width { ONE = 1, TWO, TWO_AND_EIGHT, THREE };

QVITP_INLINE512 void products(const uint8_t *a, ptrdiff_t lda, const int8_t *b, const int8_t *tail,
                              size_t m, enum width width, __m512i c[][3])
{
    __m512i b0 = _mm512_load_si512(b), b1 = b0, b2 = b0;
    ptrdiff_t lda3 = 3 * lda;
    if (width >= TWO) b1 = _mm512_load_si512(b + 64);
    if (width == THREE) b2 = _mm512_load_si512(tail);
    if (width == TWO_AND_EIGHT)
        b2 = _mm512_castsi256_si512(_mm256_load_si256((const __m256i *)(const void *)tail));
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        if (i && i % 4 == 0) a += 4 * lda;
        QVITP_OPAQUE(a);
        __m512i row = qvitp_512_broadcast_row(a, i, lda, lda3);
        c[i][0] = _mm512_dpbusd_epi32(c[i][0], row, b0);
        if (width >= TWO) c[i][1] = _mm512_dpbusd_epi32(c[i][1], row, b1);
        if (width == THREE) c[i][2] = _mm512_dpbusd_epi32(c[i][2], row, b2);
        if (width == TWO_AND_EIGHT)
            c[i][2] = _mm512_castsi256_si512(_mm256_dpbusd_epi32(_mm512_castsi512_si256(c[i][2]),
                                                                 _mm512_castsi512_si256(row),
                                                                 _mm512_castsi512_si256(b2)));
        QVITP_OPAQUE_VECTOR(c[i][0]);
        if (width >= TWO) QVITP_OPAQUE_VECTOR(c[i][1]);
        if (width > TWO) QVITP_OPAQUE_VECTOR(c[i][2]);
    }
}

/* A row of sums; `in` are the columns of the last vector that exist. Returns the larger of each and top. */
QVITP_INLINE512 __m512 write_sums(const __m512i sums[3], size_t vectors, __mmask16 in, float *out,
                                  __m512 top)
{
    QVITP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        __m512 t = _mm512_cvtepi32_ps(sums[v]);
        _mm512_storeu_ps(out + 16 * v, t);
        if (v < vectors - 1 || in == 0xFFFF)
            top = _mm512_max_ps(top, t);
        else
            top = _mm512_mask_max_ps(top, in, top, t);
    }
    return top;
}

/* A row of outputs, likewise. The limits of codes are read at each: they have no registers. */
QVITP_INLINE512 void write_scaled(const __m512i sums[3], size_t vectors, int is_code,
                                  __mmask16 last, const struct qvitp_512_scales *s,
                                  const struct qvitp_epilogue *e, char *out)
{
    const uint32_t in = vectors == 2 ? 0xFFFFu | (uint32_t)last << 16 : last;
    __m512 t[2];
    __m128i codes[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
    QVITP_UNROLL
    for (size_t v = 0; v < 2 && v < vectors; v++) {
        t[v] = qvitp_512_step(_mm512_cvtepi32_ps(sums[v]), s->scale[v], s->bias[v]);
        if (!is_code)
            qvitp_512_store_16_floats((float *)(void *)out + 16 * v, (__mmask16)(in >> 16 * v),
                                      t[v]);
        else
            codes[v] =
                qvitp_512_code(qvitp_512_clamp(t[v], _mm512_set1_ps(e->lo), _mm512_set1_ps(e->hi)));
    }
    if (is_code) qvitp_512_store_32_bytes(out, in, _mm256_set_m128i(codes[1], codes[0]));
}

/* A strip of rows in its walk over the panels. */
struct strip {
    const uint8_t *a;
    ptrdiff_t lda, ldo; /* bytes */
    size_t k;
    const int8_t *b;
    const int32_t *init;
    size_t column;
    char *out;
};

/* m, width and kind are constants wherever this and the following are called. in: as above. top: each row's, of sums. */
QVITP_INLINE512 void panel(struct strip *p, size_t m, enum width width, enum kind kind,
                           __mmask16 in, const struct qvitp_epilogue *e, __m512 top[])
{
    const size_t vectors = width < TWO_AND_EIGHT ? width : 3;
    const uint8_t *a = p->a, *end = a + p->k;
    const int8_t *b = p->b, *tail = width > TWO ? b + NR * p->k : b;
    struct qvitp_512_scales s;
    char *out = p->out;
    __m512i c[MOST][3];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++)
        for (size_t v = 0; v < vectors; v++) c[i][v] = _mm512_load_si512(p->init + 16 * v);
    do {
        products(a, p->lda, b, tail, m, width, c);
        a += KSTEP, b += NR * KSTEP, tail += NR * KSTEP;
    } while (a < end);
    if (kind != SUMS) qvitp_512_load_scales(&s, e, p->column, vectors);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++, out += p->ldo) {
        if (kind == SUMS)
            top[i] = write_sums(c[i], vectors, in, (float *)(void *)out, top[i]);
        else
            write_scaled(c[i], vectors, kind == CODES, in, &s, e, out);
    }
    p->b += NR * p->k, p->init += NR, p->column += NR;
    p->out += NR * (kind == CODES ? 1 : 4);
}

/* n columns. Of sums the last few go with the last whole panel: a loop for them alone would take longer. */
QVITP_INLINE512 void walk(struct strip *p, size_t n, size_t m, enum kind kind,
                          const struct qvitp_epilogue *e, float *tops)
{
    const size_t panels = n / NR, few = n % NR;
    const int together = kind == SUMS && panels && few && few <= NR / 2;
    __m512 top[MOST];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) top[i] = _mm512_set1_ps(-INFINITY);
    for (size_t left = panels - (size_t)together; left > 0; left--)
        panel(p, m, TWO, kind, 0xFFFF, e, top);
    const __mmask16 in = qvitp_512_mask(few > 16 ? 16 : 0, few);
    if (together && few <= NR / 4)
        panel(p, m, TWO_AND_EIGHT, kind, in, e, top);
    else if (together)
        panel(p, m, THREE, kind, in, e, top);
    else if (few > NR / 2)
        panel(p, m, TWO, kind, in, e, top);
    else if (few)
        panel(p, m, ONE, kind, in, e, top);
    QVITP_UNROLL
    for (size_t i = 0; i < m && kind == SUMS; i++) _mm512_store_ps(tops + 16 * i, top[i]);
}

typedef void strip_fn(struct strip *strip, size_t n, const struct qvitp_epilogue *e, float *tops);

#define STRIP_OF(name, m, kind)                                                                    \
    QVITP_TARGET_AVX512VNNI static void name##_##m(struct strip *strip, size_t n,                  \
                                                   const struct qvitp_epilogue *e, float *tops)    \
    {                                                                                              \
        struct strip p = *strip;                                                                   \
        walk(&p, n, m, kind, e, tops);                                                             \
    }                                                                                              \
    struct qvitp_tile
#define STRIPS(m)                                                                                  \
    STRIP_OF(sums, m, SUMS);                                                                       \
    STRIP_OF(floats, m, FLOATS);                                                                   \
    STRIP_OF(codes, m, CODES)
STRIPS(1);
STRIPS(2);
STRIPS(3);
STRIPS(4);
STRIPS(5);
STRIPS(6);
STRIPS(7);

/* All of such a call, in strips of rows of almost equal size. */
void qvitp_open_u8s8_avx512vnni(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
#define ALL(name)                                                                                  \
    {                                                                                              \
        NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7                 \
    }
    static strip_fn *const strips_of[3][MOST + 1] = {
        [SUMS] = ALL(sums),
        [FLOATS] = ALL(floats),
        [CODES] = ALL(codes),
    };
#undef ALL
    enum kind kind = e->out == QVITP_OUT_SUM ? SUMS : e->out == QVITP_OUT_F32 ? FLOATS : CODES;
    struct strip strip = {.a = tile->a,
                          .lda = tile->lda,
                          .ldo = tile->ldo * (kind == CODES ? 1 : 4),
                          .k = tile->k,
                          .b = tile->b,
                          .init = e->init + tile->column,
                          .column = tile->column,
                          .out = tile->out};
    float unused[MOST * 16] __attribute__((aligned(64))), *tops = unused;
    size_t strips = tile->m < 2 * LEAST ? 1 : tile->m / LEAST;
    for (size_t first = 0, m; strips > 0; strips--, first += m) {
        m = (tile->m - first + strips - 1) / strips;
        if (e->tops) tops = e->tops + 16 * first;
        strips_of[kind][m](&strip, tile->n, e, tops);
        strip.a += (ptrdiff_t)m * strip.lda;
        strip.out += (ptrdiff_t)m * strip.ldo;
    }
}

#endif
