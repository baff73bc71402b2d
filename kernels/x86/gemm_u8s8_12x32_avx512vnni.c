/*
 * gemm_u8s8_12x32_avx512vnni - plain codes times 8-bit weights, by the loop of avx512_product.h.
 *
 * What follows a panel's sums would leave the multipliers idle: converting, scaling, GELU and storing take
 * other ports. So finished sums go to a buffer on the stack, and the next panel's loop turns a row of them
 * into outputs at a step, in the shadow of its own products. Only the last panel of a call is finished in the
 * open, which is why a call takes many rows. Of a last panel of up to 16 columns half is left out.
 *
 * A panel is a call of a function for its number of rows (multiply), or, of the commonest outputs, one of many panels
 * in one call (multiply_panels).
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = QVITP_512_ROWS, NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP };

/* The next row that waits. */
QVITP_INLINE512 void finish_row(struct qvitp_512_rest *r, const struct qvitp_epilogue *e)
{
    __m512i sums0 = _mm512_load_si512(r->sums), sums1 = _mm512_load_si512(r->sums + 64);
    if (e->out == QVITP_OUT_S32) {
        _mm512_mask_storeu_epi32(r->out, (__mmask16)r->in, sums0);
        _mm512_mask_storeu_epi32(r->out + 64, (__mmask16)(r->in >> 16), sums1);
    } else {
        const float *scale = e->scale + r->column, *bias = e->bias + r->column;
        __m512 t[2];
        t[0] =
            qvitp_512_step(_mm512_cvtepi32_ps(sums0), _mm512_load_ps(scale), _mm512_load_ps(bias));
        t[1] = qvitp_512_step(_mm512_cvtepi32_ps(sums1), _mm512_load_ps(scale + 16),
                              _mm512_load_ps(bias + 16));
        qvitp_512_finish(t, r, e);
    }
    qvitp_512_next(r, NR * sizeof(int32_t));
}

/*
 * GELU takes more than a row can wait for: of the scheduler's places its 60 instructions would leave none to
 * the products that follow. So vectors of GELU codes are finished one at each step, an instruction or two
 * after each row's products: about when they can be executed. `stage` is a constant wherever this is called.
 */
enum { GELU_STAGES = 11 };
struct gelu_vector {
    __m512 x, t, g; /* the value, its place in the segment, the bump */
    __m512 last;    /* GELU of the vector before, which is stored meanwhile */
    __mmask16 in;   /* its columns, none at first */
    __m512i segment;
    size_t column; /* 0 or 16, in the panel */
    struct qvitp_512_rest *rest;
    const struct qvitp_epilogue *e;
};

/* Of `last`, which is the other half of the row, or the end of the row before. */
QVITP_INLINE512 void store_last(struct gelu_vector *v)
{
    const struct qvitp_512_rest *r = v->rest;
    char *out = r->out + (v->column ^ 16) - (v->column ? 0 : r->ldo);
    if (v->in) qvitp_512_store_codes(v->last, out, v->in, v->e);
}
QVITP_INLINE512 void rescale_last(struct gelu_vector *v)
{
    v->last = qvitp_512_rescale(v->last, v->rest->column + (v->column ^ 16), v->e);
}

QVITP_INLINE512 void gelu_stage(size_t stage, void *user)
{
    struct gelu_vector *v = user;
    const struct qvitp_512_rest *r = v->rest;
    const struct qvitp_epilogue *e = v->e;
    size_t column = r->column + v->column;
    if (stage == 0) v->x = _mm512_cvtepi32_ps(_mm512_load_si512(r->sums + v->column * 4));
    if (stage == 1) v->x = _mm512_mul_ps(v->x, _mm512_load_ps(e->scale + column));
    if (stage == 2) v->x = _mm512_add_ps(v->x, _mm512_load_ps(e->bias + column));
    if (stage == 2) rescale_last(v);
    if (stage == 3) v->t = qvitp_512_gelu_place(v->x);
    if (stage == 4) v->segment = _mm512_cvttps_epi32(v->t);
    if (stage == 4) store_last(v);
    if (stage == 5) v->t = _mm512_sub_ps(v->t, _mm512_cvtepi32_ps(v->segment));
    if (stage == 6) v->g = qvitp_512_gelu_coefficient(3, v->segment);
    if (stage >= 7 && stage <= 9)
        v->g = qvitp_512_step(v->g, v->t, qvitp_512_gelu_coefficient(9 - stage, v->segment));
    if (stage == 10) v->last = qvitp_512_gelu_end(v->x, v->g);
}

/* The stages of a step of fewer rows, and on to the next vector. */
QVITP_INLINE512 void end_gelu(size_t m, struct gelu_vector *v)
{
    QVITP_UNROLL
    for (size_t i = m; i < GELU_STAGES; i++) gelu_stage(i, v);
    v->in = (__mmask16)(v->rest->in >> v->column);
    if (v->column) qvitp_512_next(v->rest, NR * sizeof(int32_t));
    v->column ^= 16;
}

QVITP_INLINE512 void begin_sums(size_t m, size_t vectors, const int32_t *init, __m512i c[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm512_load_si512(init);
        if (vectors == 2) c[i][1] = _mm512_load_si512(init + 16);
    }
}

/* Keeps sums in the same registers from step to step (x86_loop.h). m and vectors are constants wherever this is called. */
QVITP_INLINE512 void keep_sums(size_t m, size_t vectors, __m512i c[][2])
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        QVITP_OPAQUE_VECTOR(c[i][0]);
        if (vectors == 2) QVITP_OPAQUE_VECTOR(c[i][1]);
    }
}

/* The sums of one panel, while what waits is finished: vectors of GELU codes as above; other rows one at each
 * step or, where there is time, at each second one. gelu is a constant wherever this is called. */
QVITP_INLINE512 void multiply(const struct qvitp_512_panel *panel, const int32_t *init, size_t m,
                              size_t vectors, int gelu, int32_t *acc, struct qvitp_512_rest *rest,
                              const struct qvitp_epilogue *e)
{
    const uint8_t *a = panel->a, *end = a + panel->k;
    const int8_t *b = panel->b;
    ptrdiff_t lda = panel->lda, lda3 = 3 * lda;
    size_t every = qvitp_512_pace(rest, panel->k);
    struct gelu_vector v = {.last = _mm512_setzero_ps(), .rest = rest, .e = e};
    __m512i c[MR][2];
    begin_sums(m, vectors, init, c);
    for (; gelu && rest->rows && a < end; a += KSTEP, b += NR * KSTEP) {
        qvitp_512_products(a, lda, lda3, b, m, vectors, c, gelu_stage, &v);
        end_gelu(m, &v);
    }
    if (gelu) rescale_last(&v), store_last(&v);
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        qvitp_512_products(a, lda, lda3, b, m, vectors, c, qvitp_512_nothing, NULL);
        if (!gelu && qvitp_512_is_due(rest, every, (size_t)(end - a))) finish_row(rest, e);
        if (!gelu) keep_sums(m, vectors, c);
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm512_store_si512(acc + i * NR, c[i][0]);
        if (vectors == 2) _mm512_store_si512(acc + i * NR + 16, c[i][1]);
    }
    while (rest->rows) finish_row(rest, e); /* what a short k left: half a row once more */
}

/* What vpdpbusd wrote costs Zen 4 two cycles of that to store, what a permutation wrote hardly any (bench/README.md). So
 * sums pass through one that leaves them where they are, of which no compiler may know. */
QVITP_INLINE512 void store_sums(size_t m, __m512i c[][2], int32_t *acc)
{
    __m512i in_place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    QVITP_OPAQUE_VECTOR(in_place);
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++, acc += NR) {
        _mm512_store_si512(acc, _mm512_permutexvar_epi32(in_place, c[i][0]));
        _mm512_store_si512(acc + 16, _mm512_permutexvar_epi32(in_place, c[i][1]));
    }
}

/*
 * Many panels of what most outputs are: codes that are nothing but scaled sums, or floats that are such and a residual.
 * Then there is nothing to ask at a row, and little to do between two panels. One of as many rows waits at the beginning,
 * its sums in acc[0], and one at the end. m and kind are constants wherever these are called.
 */
enum kind { CODES, FLOATS, OTHERS };

struct scales {
    __m512 scale[2], bias[2];
    const struct qvitp_epilogue *e; /* its limits are read at each row: they have no registers */
    uintptr_t residual; /* from an output to its residual, bytes, modulo the size of memory */
};

QVITP_INLINE512 void write_row(const struct scales *s, enum kind kind, const int32_t *sums,
                               char *out)
{
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m512 t = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * i));
        t = qvitp_512_step(t, s->scale[i], s->bias[i]);
        if (kind == FLOATS) {
            const void *residual = (const void *)((uintptr_t)out + s->residual + 64 * i);
            t = _mm512_add_ps(t, _mm512_loadu_ps(residual));
            _mm512_storeu_ps(out + 64 * i, t);
        } else {
            t = qvitp_512_clamp(t, _mm512_set1_ps(s->e->lo), _mm512_set1_ps(s->e->hi));
            _mm_storeu_si128((__m128i *)(void *)(out + 16 * i), qvitp_512_code(t));
        }
    }
}

QVITP_INLINE512 void multiply_panels(const struct qvitp_512_panel *first, const int32_t *init,
                                     size_t panels, size_t m, enum kind kind, int32_t *acc[2],
                                     struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)
{
    const size_t width = kind == FLOATS ? NR * sizeof(float) : NR; /* bytes of a row of outputs */
    const int8_t *b = first->b;
    const float *scale = e->scale + rest->column, *bias = e->bias + rest->column;
    ptrdiff_t lda = first->lda, lda3 = 3 * lda, ldo = rest->ldo;
    int32_t *waits = acc[0], *next = acc[1];
    char *out = rest->out;
    struct scales s = {.e = e};
    rest->column += panels * NR, rest->out += panels * width;
    if (kind == FLOATS) {
        s.residual = (uintptr_t)rest->residual - (uintptr_t)out;
        rest->residual += panels * width;
    }
    for (; panels > 0; panels--, init += NR, scale += NR, bias += NR, out += width) {
        const uint8_t *a = first->a, *end = a + first->k;
        int32_t *sums = waits;
        char *row = out;
        __m512i c[MR][2];
        s.scale[0] = _mm512_load_ps(scale), s.scale[1] = _mm512_load_ps(scale + 16);
        s.bias[0] = _mm512_load_ps(bias), s.bias[1] = _mm512_load_ps(bias + 16);
        begin_sums(m, 2, init, c);
        for (size_t i = m; i > 0; i--, a += KSTEP, b += NR * KSTEP, sums += NR, row += ldo) {
            QVITP_OPAQUE(s.e);
            qvitp_512_products(a, lda, lda3, b, m, 2, c, qvitp_512_nothing, NULL);
            write_row(&s, kind, sums, row);
            keep_sums(m, 2, c);
        }
        for (; a < end; a += KSTEP, b += NR * KSTEP) {
            qvitp_512_products(a, lda, lda3, b, m, 2, c, qvitp_512_nothing, NULL);
            keep_sums(m, 2, c);
        }
        store_sums(m, c, next);
        sums = waits, waits = next, next = sums;
    }
    acc[0] = waits, acc[1] = next;
    rest->sums = (const char *)waits;
}

typedef void rows_fn(const struct qvitp_512_panel *panel, const int32_t *init, int32_t *acc,
                     struct qvitp_512_rest *rest, const struct qvitp_epilogue *e);

typedef void panels_fn(const struct qvitp_512_panel *first, const int32_t *init, size_t panels,
                       int32_t *acc[2], struct qvitp_512_rest *rest,
                       const struct qvitp_epilogue *e);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS_OF(name, m, vectors, gelu)                                                            \
    QVITP_TARGET_AVX512VNNI static void name##_##m(                                                \
        const struct qvitp_512_panel *panel, const int32_t *init, int32_t *acc,                    \
        struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)                               \
    {                                                                                              \
        multiply(panel, init, m, vectors, gelu, acc, rest, e);                                     \
    }                                                                                              \
    struct qvitp_tile
#define PANELS_OF(name, m, kind)                                                                   \
    QVITP_TARGET_AVX512VNNI static void name##_##m(                                                \
        const struct qvitp_512_panel *first, const int32_t *init, size_t panels, int32_t *acc[2],  \
        struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)                               \
    {                                                                                              \
        multiply_panels(first, init, panels, m, kind, acc, rest, e);                               \
    }                                                                                              \
    struct qvitp_tile
#define ROWS(m)                                                                                    \
    ROWS_OF(half, m, 1, 0);                                                                        \
    ROWS_OF(whole, m, 2, 0);                                                                       \
    ROWS_OF(gelu, m, 2, 1);                                                                        \
    PANELS_OF(codes, m, CODES);                                                                    \
    PANELS_OF(floats, m, FLOATS)
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);
ROWS(7);
ROWS(8);
ROWS(9);
ROWS(10);
ROWS(11);
ROWS(12);

#define ALL_ROWS(name)                                                                             \
    {                                                                                              \
        NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8,      \
            name##_9, name##_10, name##_11, name##_12                                              \
    }

/* Whether what waits can be finished vector by vector. clang 14 would keep the sums of such a loop in memory: it does
 * better with whole rows. */
static int is_gelu_code(const struct qvitp_epilogue *e)
{
#if defined(__clang__)
    (void)e;
    return 0;
#else
    return e->out == QVITP_OUT_CODE && e->residual == QVITP_RESIDUAL_NONE && e->gelu && e->mul;
#endif
}

/* What goes through many panels, behind the first, if these are worth its while. */
static enum kind kind_of(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    if (tile->n / NR < 4 || tile->k / KSTEP < MR || e->gelu || e->mul) return OTHERS;
    if (e->out == QVITP_OUT_CODE && e->residual == QVITP_RESIDUAL_NONE) return CODES;
    if (e->out == QVITP_OUT_F32 && e->residual == QVITP_RESIDUAL_F32 && tile->ldr == tile->ldo)
        return FLOATS;
    return OTHERS;
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const half[MR + 1] = ALL_ROWS(half), *const whole[MR + 1] = ALL_ROWS(whole);
    static rows_fn *const gelu[MR + 1] = ALL_ROWS(gelu);
    static panels_fn *const panels[2][MR + 1] = {ALL_ROWS(codes), ALL_ROWS(floats)};
    rows_fn *const *rows = is_gelu_code(e) ? gelu : whole;
    int32_t memory[2][MR * NR] __attribute__((aligned(64)));
    int32_t *acc[2] = {memory[0], memory[1]}; /* what waits, and what comes next */
    struct qvitp_512_rest rest = {0};
    struct qvitp_512_panel panel = {.lda = tile->lda, .k = tile->k};
    enum kind kind = kind_of(tile, e);
    size_t tiles = (tile->m + MR - 1) / MR, many = kind == OTHERS ? 0 : tile->n / NR - 1;
    for (size_t first = 0, m; tiles > 0; tiles--, first += m) {
        m = (tile->m - first + tiles - 1) / tiles; /* of almost equal size */
        panel.a = (const uint8_t *)tile->a + (ptrdiff_t)first * tile->lda;
        for (size_t j = 0; j < tile->n; j += NR) {
            const int32_t *init = e->init + tile->column + j;
            int32_t *next = acc[1];
            panel.b = (const int8_t *)tile->b + j * tile->k;
            if (j == NR && many) {
                panels[kind][m](&panel, init, many, acc, &rest, e);
                j = many * NR;
                continue;
            }
            (tile->n - j > 16 ? rows : half)[m](&panel, init, next, &rest, e);
            acc[1] = acc[0], acc[0] = next;
            qvitp_512_wait(&rest, tile, e, next, first, m, j);
        }
    }
    while (rest.rows) finish_row(&rest, e);
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_12x32_avx512vnni = {
    .name = "gemm_u8s8_12x32_avx512vnni",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_U8,
    .wide = 1,
    .tall = 1,
    .pack = qvitp_pack_s8_avx512vnni,
    .macs_per_cycle = 64,
};

#endif
