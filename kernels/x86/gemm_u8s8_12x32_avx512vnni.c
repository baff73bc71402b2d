/*
 * gemm_u8s8_12x32_avx512vnni - plain codes times 8-bit weights, by the loop of avx512_product.h.
 *
 * What follows a panel's sums would leave the multipliers idle: converting, scaling, GELU and storing take
 * other ports. So finished sums go to a buffer on the stack, and the next panel's loop turns a row of them
 * into outputs at a step, in the shadow of its own products. Only the last panel of a call is finished in the
 * open, which is why a call takes many rows. Of a last panel of up to 16 columns half is left out.
 *
 * A panel is a call of a function for its number of rows (multiply), or, of the commonest outputs, one of many panels
 * in one call (multiply_panels). What attention's products write is in open_u8s8_avx512vnni.
 */
#include "avx512vnni_kernels.h"
#include "avx512_epilogue.h"

#if QVITP_X86

enum { MR = QVITP_512_ROWS, NR = QVITP_512_NR, KSTEP = QVITP_512_KSTEP };

/* The next row that waits. */
QVITP_INLINE512 void finish_row(struct qvitp_512_rest *r, const struct qvitp_epilogue *e)
{
    const float *sums = (const float *)(const void *)r->sums;
    if (e->out == QVITP_OUT_S32) {
        _mm512_mask_storeu_epi32(r->out, (__mmask16)r->in, _mm512_load_si512(sums));
        _mm512_mask_storeu_epi32(r->out + 64, (__mmask16)(r->in >> 16),
                                 _mm512_load_si512(sums + 16));
    } else {
        const float *scale = e->scale + r->column, *bias = e->bias + r->column;
        __m512 t[2];
        QVITP_UNROLL
        for (size_t i = 0; i < 2; i++)
            t[i] = qvitp_512_step(_mm512_load_ps(sums + 16 * i), _mm512_load_ps(scale + 16 * i),
                                  _mm512_load_ps(bias + 16 * i));
        qvitp_512_finish(t, r, e);
    }
    qvitp_512_next(r, NR * sizeof(float));
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

/* What vpdpbusd wrote costs Zen 4 two cycles of that to store, what a conversion wrote nothing (bench/README.md). So sums
 * wait as floats, unless they are what is asked for: then as they are. m and vectors are constants. */
QVITP_INLINE512 void store_sums(size_t m, size_t vectors, int as_they_are, __m512i c[][2],
                                float *acc)
{
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++)
        for (size_t v = 0; v < vectors; v++) {
            __m512 floats = _mm512_cvtepi32_ps(c[i][v]);
            _mm512_store_ps(acc + i * NR + 16 * v,
                            as_they_are ? _mm512_castsi512_ps(c[i][v]) : floats);
        }
}

/* The sums of one panel, while rows that wait are finished, one at each step or, where there is time, at each second
 * one. */
QVITP_INLINE512 void multiply(const struct qvitp_512_panel *panel, const int32_t *init, size_t m,
                              size_t vectors, float *acc, struct qvitp_512_rest *rest,
                              const struct qvitp_epilogue *e)
{
    const uint8_t *a = panel->a, *end = a + panel->k;
    const int8_t *b = panel->b;
    ptrdiff_t lda = panel->lda, lda3 = 3 * lda;
    size_t every = qvitp_512_pace(rest, panel->k);
    __m512i c[MR][2];
    begin_sums(m, vectors, init, c);
    for (; a < end; a += KSTEP, b += NR * KSTEP) {
        qvitp_512_products(a, lda, lda3, b, m, vectors, c, qvitp_512_nothing, NULL);
        if (qvitp_512_is_due(rest, every, (size_t)(end - a))) finish_row(rest, e);
        keep_sums(m, vectors, c);
    }
    if (e->out == QVITP_OUT_S32)
        store_sums(m, vectors, 1, c, acc);
    else
        store_sums(m, vectors, 0, c, acc);
    while (rest->rows) finish_row(rest, e); /* what a short k left */
}

/*
 * Many panels of what most outputs are: codes that are nothing but scaled sums, floats that are such and a residual, or
 * codes behind GELU, any or a twin's of 8 bits. Then there is nothing to ask at a row, and little to do between two
 * panels. One of as many rows waits at the beginning, its sums in acc[0], and one at the end. m and kind are constants
 * wherever these are called.
 */
enum kind { CODES, FLOATS, GELU_CODES, GELU_TWINS, OTHERS };

struct writing {
    struct qvitp_512_scales by;
    const struct qvitp_epilogue *e; /* its limits are read at each row: they have no registers */
    uintptr_t residual; /* from an output to its residual, bytes, modulo the size of memory */
};

QVITP_INLINE512 void write_row(const struct writing *w, enum kind kind, const float *sums,
                               char *out)
{
    QVITP_UNROLL
    for (size_t i = 0; i < 2; i++) {
        __m512 t = qvitp_512_step(_mm512_load_ps(sums + 16 * i), w->by.scale[i], w->by.bias[i]);
        if (kind == FLOATS) {
            const void *residual = (const void *)((uintptr_t)out + w->residual + 64 * i);
            t = _mm512_add_ps(t, _mm512_loadu_ps(residual));
            _mm512_storeu_ps(out + 64 * i, t);
        } else {
            t = qvitp_512_clamp(t, _mm512_set1_ps(w->e->lo), _mm512_set1_ps(w->e->hi));
            _mm_storeu_si128((__m128i *)(void *)(out + 16 * i), qvitp_512_code(t));
        }
    }
}

/*
 * GELU takes more than a row can wait for: of the scheduler's places its 60 instructions would leave none to
 * the products that follow. So half a row is finished at each step, an instruction or two after each row's products:
 * about when they can be executed. Stage and half are constants wherever these are called.
 */
enum { GELU_STAGES = 10 };
struct gelu {
    __m512 x, t, g; /* the value, its magnitude, the bump */
    __m512 last;    /* GELU of the half before, which is stored meanwhile */
    __m512i segment;
    const float *sums, *scale, *bias, *mul, *mul_neg, *add; /* of the row; of the panel's columns */
    char *out, *last_out;
    const struct qvitp_epilogue *e;
};

QVITP_INLINE512 void rescale_last(struct gelu *v, size_t half)
{
    const struct qvitp_epilogue columns = {.mul = v->mul, .mul_neg = v->mul_neg, .add = v->add};
    v->last = qvitp_512_rescale(v->last, 16 * half, &columns);
}
/* A twin's lowest code is that of a byte: there narrowing is limit enough, also of NaN, which is converted to less. */
QVITP_INLINE512 void store_last(struct gelu *v, int is_twin)
{
    const __m512 lo = _mm512_set1_ps(v->e->lo), hi = _mm512_set1_ps(v->e->hi);
    __m128i codes;
    if (is_twin)
        codes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_min_ps(hi, v->last)));
    else
        codes = qvitp_512_code(qvitp_512_clamp(v->last, lo, hi));
    _mm_storeu_si128((__m128i *)(void *)v->last_out, codes);
}

QVITP_INLINE512 void gelu_stage(size_t stage, size_t half, int is_twin, struct gelu *v)
{
    if (stage == 0) v->x = _mm512_load_ps(v->sums + 16 * half);
    if (stage == 1) v->x = _mm512_mul_ps(v->x, _mm512_load_ps(v->scale + 16 * half));
    if (stage == 2) v->x = _mm512_add_ps(v->x, _mm512_load_ps(v->bias + 16 * half));
    if (stage == 2) rescale_last(v, 1 - half);
    if (stage == 3) v->t = qvitp_512_unit_place(v->x);
    if (stage == 4) v->segment = _mm512_cvttps_epi32(v->t);
    if (stage == 4) store_last(v, is_twin);
    if (stage == 5) v->g = qvitp_512_unit_coefficient(3, v->segment);
    if (stage >= 6 && stage <= 8)
        v->g = qvitp_512_step(v->g, v->t, qvitp_512_unit_coefficient(8 - stage, v->segment));
    if (stage == 9) v->last = qvitp_512_gelu_end(v->x, v->g);
}
QVITP_INLINE512 void left_stage(size_t stage, void *v) { gelu_stage(stage, 0, 0, v); }
QVITP_INLINE512 void right_stage(size_t stage, void *v) { gelu_stage(stage, 1, 0, v); }
QVITP_INLINE512 void left_twin_stage(size_t stage, void *v) { gelu_stage(stage, 0, 1, v); }
QVITP_INLINE512 void right_twin_stage(size_t stage, void *v) { gelu_stage(stage, 1, 1, v); }

/* One step beside one half of a row, with the stages that fewer rows leave. */
QVITP_INLINE512 void gelu_step(const uint8_t *a, ptrdiff_t lda, ptrdiff_t lda3, const int8_t *b,
                               size_t m, size_t half, int is_twin, __m512i c[][2], struct gelu *v)
{
    qvitp_512_between_fn *plain = half ? right_stage : left_stage;
    qvitp_512_between_fn *twin = half ? right_twin_stage : left_twin_stage;
    qvitp_512_products(a, lda, lda3, b, m, 2, c, is_twin ? twin : plain, v);
    QVITP_UNROLL
    for (size_t i = m; i < GELU_STAGES; i++) gelu_stage(i, half, is_twin, v);
    v->last_out = v->out + 16 * half;
    keep_sums(m, 2, c);
}

/* All rows that wait, two steps each; returns how many steps that took. */
QVITP_INLINE512 size_t gelu_rows(const uint8_t *a, ptrdiff_t lda, ptrdiff_t lda3, const int8_t *b,
                                 size_t m, int is_twin, __m512i c[][2], ptrdiff_t ldo,
                                 struct gelu *v)
{
    char before_the_first[16];
    v->last = _mm512_setzero_ps();
    v->last_out = before_the_first;
    for (size_t i = m; i > 0; i--) {
        gelu_step(a, lda, lda3, b, m, 0, is_twin, c, v);
        gelu_step(a + KSTEP, lda, lda3, b + NR * KSTEP, m, 1, is_twin, c, v);
        a += 2 * KSTEP, b += 2 * NR * KSTEP;
        v->sums += NR, v->out += ldo;
    }
    rescale_last(v, 1);
    store_last(v, is_twin);
    return 2 * m;
}

/* All other outputs of rows that wait, a row at each step; returns how many steps that took. */
QVITP_INLINE512 size_t plain_rows(const uint8_t *a, ptrdiff_t lda, ptrdiff_t lda3, const int8_t *b,
                                  size_t m, enum kind kind, __m512i c[][2], ptrdiff_t ldo,
                                  const float *sums, char *row, struct writing *w)
{
    for (size_t i = m; i > 0; i--, a += KSTEP, b += NR * KSTEP, sums += NR, row += ldo) {
        QVITP_OPAQUE(w->e);
        qvitp_512_products(a, lda, lda3, b, m, 2, c, qvitp_512_nothing, NULL);
        write_row(w, kind, sums, row);
        keep_sums(m, 2, c);
    }
    return m;
}

QVITP_INLINE512 void begin_gelu(struct gelu *v, const struct qvitp_epilogue *e, size_t column,
                                const float *sums, char *out)
{
    v->sums = sums, v->out = out;
    v->scale = e->scale + column, v->bias = e->bias + column;
    v->mul = e->mul + column, v->add = e->add + column;
    v->mul_neg = e->mul_neg ? e->mul_neg + column : NULL;
}

QVITP_INLINE512 void multiply_panels(const struct qvitp_512_panel *first, const int32_t *init,
                                     size_t panels, size_t m, enum kind kind, float *acc[2],
                                     struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)
{
    const size_t width = kind == FLOATS ? NR * sizeof(float) : NR; /* bytes of a row of outputs */
    const int8_t *b = first->b;
    size_t column = rest->column;
    ptrdiff_t lda = first->lda, lda3 = 3 * lda, ldo = rest->ldo;
    float *waits = acc[0], *next = acc[1], *sums;
    char *out = rest->out;
    struct writing w = {.e = e};
    struct gelu v = {.e = e};
    rest->column += panels * NR, rest->out += panels * width;
    if (kind == FLOATS) {
        w.residual = (uintptr_t)rest->residual - (uintptr_t)out;
        rest->residual += panels * width;
    }
    for (; panels > 0; panels--, init += NR, column += NR, out += width) {
        const uint8_t *a = first->a, *end = a + first->k;
        __m512i c[MR][2];
        size_t steps;
        begin_sums(m, 2, init, c);
        if (kind == GELU_CODES || kind == GELU_TWINS) {
            begin_gelu(&v, e, column, waits, out);
            steps = gelu_rows(a, lda, lda3, b, m, kind == GELU_TWINS, c, ldo, &v);
        } else {
            qvitp_512_load_scales(&w.by, e, column, 2);
            steps = plain_rows(a, lda, lda3, b, m, kind, c, ldo, waits, out, &w);
        }
        a += steps * KSTEP, b += steps * NR * KSTEP;
        for (; a < end; a += KSTEP, b += NR * KSTEP) {
            qvitp_512_products(a, lda, lda3, b, m, 2, c, qvitp_512_nothing, NULL);
            keep_sums(m, 2, c);
        }
        store_sums(m, 2, 0, c, next);
        sums = waits, waits = next, next = sums;
    }
    acc[0] = waits, acc[1] = next;
    rest->sums = (const char *)waits;
}

typedef void rows_fn(const struct qvitp_512_panel *panel, const int32_t *init, float *acc,
                     struct qvitp_512_rest *rest, const struct qvitp_epilogue *e);

typedef void panels_fn(const struct qvitp_512_panel *first, const int32_t *init, size_t panels,
                       float *acc[2], struct qvitp_512_rest *rest, const struct qvitp_epilogue *e);

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS_OF(name, m, vectors)                                                                  \
    QVITP_TARGET_AVX512VNNI static void name##_##m(                                                \
        const struct qvitp_512_panel *panel, const int32_t *init, float *acc,                      \
        struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)                               \
    {                                                                                              \
        multiply(panel, init, m, vectors, acc, rest, e);                                           \
    }                                                                                              \
    struct qvitp_tile
#define PANELS_OF(name, m, kind)                                                                   \
    QVITP_TARGET_AVX512VNNI static void name##_##m(                                                \
        const struct qvitp_512_panel *first, const int32_t *init, size_t panels, float *acc[2],    \
        struct qvitp_512_rest *rest, const struct qvitp_epilogue *e)                               \
    {                                                                                              \
        multiply_panels(first, init, panels, m, kind, acc, rest, e);                               \
    }                                                                                              \
    struct qvitp_tile
#define ROWS(m)                                                                                    \
    ROWS_OF(half, m, 1);                                                                           \
    ROWS_OF(whole, m, 2);                                                                          \
    PANELS_OF(codes, m, CODES);                                                                    \
    PANELS_OF(floats, m, FLOATS);                                                                  \
    PANELS_OF(gelu_codes, m, GELU_CODES);                                                          \
    PANELS_OF(gelu_twins, m, GELU_TWINS)
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

/* What goes through many panels, behind the first, if these are worth its while. */
static enum kind kind_of(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    const size_t steps = tile->k / KSTEP;
    if (tile->n / NR < 4 || steps < MR) return OTHERS;
    if (e->gelu == QVITP_GELU_IN_UNITS && steps >= 2 * MR)
        return e->mul_neg && e->lo == -128 ? GELU_TWINS : GELU_CODES;
    if (e->gelu || e->mul) return OTHERS;
    if (e->out == QVITP_OUT_CODE && e->residual == QVITP_RESIDUAL_NONE) return CODES;
    if (e->out == QVITP_OUT_F32 && e->residual == QVITP_RESIDUAL_F32 && tile->ldr == tile->ldo)
        return FLOATS;
    return OTHERS;
}

/* Whether a call's outputs are written in the open: SUM, or few columns of what is nothing but scaled. */
static int is_open(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    if (e->out == QVITP_OUT_SUM) return 1;
    return tile->n <= 2 * NR && e->out != QVITP_OUT_S32 && e->residual == QVITP_RESIDUAL_NONE &&
           !e->gelu && !e->mul;
}

QVITP_TARGET_AVX512VNNI static void run(const struct qvitp_tile *tile,
                                        const struct qvitp_epilogue *e)
{
    static rows_fn *const half[MR + 1] = ALL_ROWS(half), *const whole[MR + 1] = ALL_ROWS(whole);
    static panels_fn *const panels[OTHERS][MR + 1] = {ALL_ROWS(codes), ALL_ROWS(floats),
                                                      ALL_ROWS(gelu_codes), ALL_ROWS(gelu_twins)};
    float memory[2][MR * NR] __attribute__((aligned(64)));
    float *acc[2] = {memory[0], memory[1]}; /* what waits, and what comes next */
    struct qvitp_512_rest rest = {0};
    struct qvitp_512_panel panel = {.lda = tile->lda, .k = tile->k};
    if (is_open(tile, e)) {
        qvitp_open_u8s8_avx512vnni(tile, e);
        return;
    }
    enum kind kind = kind_of(tile, e);
    size_t tiles = (tile->m + MR - 1) / MR, many = kind == OTHERS ? 0 : tile->n / NR - 1;
    for (size_t first = 0, m; tiles > 0; tiles--, first += m) {
        m = (tile->m - first + tiles - 1) / tiles; /* of almost equal size */
        panel.a = (const uint8_t *)tile->a + (ptrdiff_t)first * tile->lda;
        for (size_t j = 0; j < tile->n; j += NR) {
            const int32_t *init = e->init + tile->column + j;
            float *next = acc[1];
            panel.b = (const int8_t *)tile->b + j * tile->k;
            if (j == NR && many) {
                panels[kind][m](&panel, init, many, acc, &rest, e);
                j = many * NR;
                continue;
            }
            (tile->n - j > 16 ? whole : half)[m](&panel, init, next, &rest, e);
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
    .gives_tops = 1,
    .pack = qvitp_pack_s8_avx512vnni,
    .macs_per_cycle = 64,
};

#endif
