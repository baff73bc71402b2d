/* check_rows.c - softmax, rescaling and layer normalisation of one row against lib/ref. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { MAX_N = 1024 };
enum { SLOT_X, SLOT_BIAS, SLOT_MASK, SLOT_DST, SLOT_DST2 };

static size_t next_length(size_t n) { return n < 70 ? n + 1 : n == 70 ? 197 : n == 197 ? 577 : 0; }

/* Compares what stands at SLOT_DST and what is around it. */
static void compare_row(const void *dst, size_t n, int32_t out, const float *floats,
                        const uint8_t *codes)
{
    for (size_t j = 0; j < n; j++) {
        if (out == QVITP_OUT_F32) {
            float got = ((const float *)dst)[j];
            if (!check_same_float(got, floats[j]))
                check_fail("[%zu] is %.9g, not %.9g", j, (double)got, (double)floats[j]);
        } else if (((const uint8_t *)dst)[j] != codes[j]) {
            check_fail("[%zu] is %d, not %d", j, ((const uint8_t *)dst)[j], codes[j]);
        }
    }
}

enum { MOST_ROWS = 20 }; /* of a call of the softmax or layer norm kernel */

/* One row is all that there is. */
static void compare(const void *dst, size_t n, int32_t out, const float *floats,
                    const uint8_t *codes)
{
    size_t bytes = n * (out == QVITP_OUT_F32 ? sizeof(float) : 1);
    check_canaries(SLOT_DST, 1, bytes, bytes);
    compare_row(dst, n, out, floats, codes);
}

/* ---- softmax ---- */

enum {
    USUAL,
    STEEP,
    MASKED,
    NOTHING,
    ALL_NAN,
    SOME_NAN,
    INFINITE,
    HUGE_ONES,
    EQUAL,
    FAR,
    CONTENTS
};

static float score(int content, int first)
{
    switch (content) {
    case STEEP:
        return check_normal() * 40;
    case MASKED:
        return check_below(3) ? check_normal() * 3 : -INFINITY;
    case NOTHING:
        return -INFINITY;
    case ALL_NAN:
        return NAN;
    case SOME_NAN:
        return check_below(4) ? check_normal() : check_special();
    case INFINITE:
        return check_below(4) ? check_normal() : INFINITY;
    case HUGE_ONES:
        return check_uniform() * 3.4e38f;
    case EQUAL:
        return 1.25f;
    case FAR: /* around the end of exp */
        return first ? 0 : check_below(4) ? QVITP_EXP_LOW - check_uniform() * 4 : QVITP_EXP_LOW;
    default:
        return check_normal();
    }
}

/* m rows of n floats that are the caller's, or NULL; the last row ends where its page does. */
static const float *place_floats(int slot, size_t m, size_t n, size_t stride, int side, int given,
                                 int content)
{
    size_t size = (m - 1) * stride + n;
    float *x = check_place(slot, size * sizeof *x, sizeof *x, side);
    for (size_t j = 0; j < size; j++) x[j] = score(content, j % stride == 0);
    return given ? x : NULL;
}

/* Scores as the caller lays them out: rows aligned and padded, and what is in the padding must have no effect. */
static size_t padded_length(size_t n) { return (n + 31) / 32 * 32; }

static float *place_scores(size_t m, size_t n, size_t stride, int side, int content)
{
    size_t all = (m - 1) * stride + padded_length(n);
    float *scores =
        check_place(SLOT_X, all * sizeof(float), 64, side == CHECK_LOOSE ? CHECK_BACK : side);
    for (size_t j = 0; j < all; j++)
        scores[j] = j % stride < n ? score(content, j % stride == 0) : check_special();
    return scores;
}

static void softmax_case(const struct qvitp_kernels *table, size_t n, int content)
{
    static float before[MOST_ROWS * (MAX_N + 96)], floats[MAX_N];
    int side = (int)check_below(CHECK_SIDES), extra = (int)check_below(4);
    int usual = check_below(2) > 0;
    size_t stride = padded_length(n) + 32 * check_below(3), loose = n + check_below(3);
    size_t m = 1 + check_below(check_below(4) ? 3 : MOST_ROWS);
    struct qvitp_softmax rows = {.m = m, .n = n, .lds = (ptrdiff_t)stride};
    rows.ldb = rows.ldm = rows.ldd = (ptrdiff_t)loose;
    check_case("m %zu n %zu content %d extra %d side %d", m, n, content, extra, side);

    rows.bias = place_floats(SLOT_BIAS, m, n, loose, side, extra & 1, USUAL);
    rows.mask = place_floats(SLOT_MASK, m, n, loose, side, extra & 2, usual ? USUAL : MASKED);
    rows.scores = place_scores(m, n, stride, side, content);
    memcpy(before, rows.scores, ((m - 1) * stride + n) * sizeof *before);
    rows.dst = check_place(SLOT_DST, ((m - 1) * loose + n) * sizeof(float), sizeof(float), side);

    table->softmax->run(&rows);
    for (size_t i = 0; i < m; i++) {
        qvitp_ref_softmax(n, before + i * stride, rows.bias ? rows.bias + i * loose : NULL,
                          rows.mask ? rows.mask + i * loose : NULL, floats);
        compare_row(rows.dst + i * loose, n, QVITP_OUT_F32, floats, NULL);
    }
    check_canaries(SLOT_DST, m, n * sizeof(float), loose * sizeof(float));
}

static void softmax_rows(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n; n = next_length(n))
        for (int content = 0; content < CONTENTS; content++)
            for (int i = 0; i < 4; i++) softmax_case(table, n, content);
}

/* ---- softmax to codes ---- */

/* How rows are written: plain codes; twins as codes, in two planes, joined. */
enum { CODES, TWINS, PLANES, JOINED, FORMS };

static void draw_form(struct qvitp_softmax_codes *rows, int form)
{
    rows->hi = (float)((16 << check_below(5)) - 1);
    rows->mul = 255 * fabsf(check_uniform());
    if (form == CODES && check_below(2)) rows->mul = rows->hi;
    if (form == CODES && check_below(4) == 0) rows->mul *= 1 + 1000 * fabsf(check_uniform());
    rows->steps = QVITP_SOFTMAX_STEPS * (check_below(2) ? 1 : fabsf(check_uniform()));
    if (form != CODES) {
        rows->half = (float)(form == JOINED ? 8 : 8 << check_below(5));
        rows->mul = rows->half * (1 + 30 * fabsf(check_uniform()));
        if (check_below(4) == 0) rows->mul = rows->half * (float)(1 << check_below(16));
        rows->mul2 = rows->half - 1;
    }
    if (form == JOINED) rows->high = 1 + (int32_t)check_below(36);
    if (check_below(16) == 0) rows->mul = INFINITY; /* of a scale next to 0 */
}

/* Scores that a product leaves: whole numbers, which `steps` make depths of a few octaves or of many. */
static void make_sums(struct qvitp_softmax_codes *rows, size_t n, size_t stride, float *tops)
{
    float size = (float)(1 << check_below(23));
    rows->sums = 1;
    rows->steps = fminf(fabsf(check_uniform()) * 16384 / size, QVITP_SOFTMAX_SUM_STEPS);
    if (check_below(16) == 0) rows->steps = check_below(2) ? 0 : QVITP_SOFTMAX_SUM_STEPS;
    for (size_t i = 0; i < rows->m; i++) {
        float *s = rows->scores + i * stride, *top = tops + 16 * i;
        for (size_t j = 0; j < 16; j++) top[j] = -INFINITY;
        for (size_t j = 0; j < n; j++) {
            s[j] = truncf(check_uniform() * size);
            top[j % 16] = fmaxf(top[j % 16], s[j]);
        }
    }
    if (check_below(2)) rows->tops = tops;
}

/* The codes that the reference makes of row i, whose scores were `before`. */
static void expect_codes(const struct qvitp_softmax_codes *rows, size_t i, const float *before,
                         uint8_t *codes, float *relative)
{
    static float x[MAX_N];
    static uint16_t depths[MAX_N];
    const float *bias = rows->bias ? rows->bias + (ptrdiff_t)i * rows->ldb : NULL;
    const float *mask = rows->mask ? rows->mask + (ptrdiff_t)i * rows->ldm : NULL;
    const struct qvitp_ref_softmax_form form = {rows->steps, rows->mul, rows->mul2, rows->hi,
                                                rows->half};
    qvitp_ref_softmax_codes(rows->n, before, bias, mask, &form, x, depths, codes, relative);
}

/* Codes to one plane of what is written. */
static void expect_form(const struct qvitp_softmax_codes *rows, int second, uint8_t *codes)
{
    int32_t half = (int32_t)rows->half;
    for (size_t j = 0; j < rows->n; j++) {
        int32_t is_high = codes[j] >= half, high = is_high ? codes[j] - half : 0;
        int32_t low = is_high ? 0 : codes[j];
        if (rows->dst2) codes[j] = (uint8_t)(second ? high : low);
        if (rows->high) codes[j] = (uint8_t)(low + high * rows->high);
    }
}

static void compare_codes(const struct qvitp_softmax_codes *rows, const float *before)
{
    static uint8_t codes[MAX_N];
    for (size_t i = 0; i < rows->m; i++)
        for (int second = 0; second < (rows->dst2 ? 2 : 1); second++) {
            float expected = -1, *relative = rows->sum ? &expected : NULL;
            const uint8_t *dst = second ? rows->dst2 : rows->dst;
            expect_codes(rows, i, before + (ptrdiff_t)i * rows->lds, codes, relative);
            if (rows->half > 0) expect_form(rows, second, codes);
            compare_row(dst + (ptrdiff_t)i * rows->ldd, rows->n, QVITP_OUT_CODE, NULL, codes);
            if (rows->sum && !check_same_float(rows->sum[i], expected))
                check_fail("the sum is %.9g, not %.9g", (double)rows->sum[i], (double)expected);
        }
}

static void softmax_codes_case(const struct qvitp_kernels *table, size_t n, int content, int form)
{
    static float before[MOST_ROWS * (MAX_N + 96)],
        tops[MOST_ROWS * 16] __attribute__((aligned(64)));
    int side = (int)check_below(CHECK_SIDES), extra = (int)check_below(4), sums = extra == 0;
    size_t stride = padded_length(n) + 32 * check_below(3), loose = n + check_below(3);
    size_t m = 1 + check_below(check_below(4) ? 3 : MOST_ROWS), bytes = (m - 1) * loose + n;
    float sum[MOST_ROWS];
    struct qvitp_softmax_codes rows = {.m = m, .n = n, .lds = (ptrdiff_t)stride};
    rows.ldb = rows.ldm = rows.ldd = (ptrdiff_t)loose;
    draw_form(&rows, form);
    rows.bias = place_floats(SLOT_BIAS, m, n, loose, side, extra & 1, USUAL);
    rows.mask =
        place_floats(SLOT_MASK, m, n, loose, side, extra & 2, check_below(2) ? USUAL : MASKED);
    rows.scores = place_scores(m, n, stride, side, content);
    if (sums && check_below(2)) make_sums(&rows, n, stride, tops);
    memcpy(before, rows.scores, ((m - 1) * stride + n) * sizeof *before);
    rows.dst = check_place(SLOT_DST, bytes, 1, side);
    if (form == PLANES) rows.dst2 = check_place(SLOT_DST2, bytes, 1, side);
    if (check_below(2)) rows.sum = sum;
    check_case(
        "m %zu n %zu content %d form %d extra %d sums %d relative %d mul %g steps %g side %d", m, n,
        content, form, extra, (int)rows.sums, rows.sum != NULL, (double)rows.mul,
        (double)rows.steps, side);

    table->softmax_codes->run(&rows);
    compare_codes(&rows, before);
    check_canaries(SLOT_DST, m, n, loose);
    if (rows.dst2) check_canaries(SLOT_DST2, m, n, loose);
}

static void softmax_codes_rows(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n; n = next_length(n))
        for (int content = 0; content < CONTENTS; content++)
            for (int i = 0; i < 5 * FORMS; i++) softmax_codes_case(table, n, content, i % FORMS);
}

void check_softmax(const struct qvitp_kernels *table)
{
    if (table->softmax) check_row(table->softmax->name, "rows", softmax_rows, table);
    if (table->softmax_codes)
        check_row(table->softmax_codes->name, "rows", softmax_codes_rows, table);
}

/* ---- rescaling ---- */

static void rescale_case(const struct qvitp_kernels *table, size_t n, int moved, int32_t out)
{
    static float floats[MAX_N];
    static uint8_t codes[MAX_N];
    int side = (int)check_below(CHECK_SIDES), special = check_below(4) == 0;
    float *x = check_place(SLOT_X, n * sizeof *x, sizeof *x, side);
    float *mul = check_place(SLOT_BIAS, n * sizeof *x, sizeof *x, side);
    float *add = check_place(SLOT_MASK, n * sizeof *x, sizeof *x, side);
    size_t element = out == QVITP_OUT_F32 ? sizeof *x : 1;
    check_case("n %zu moved %d out %d side %d", n, moved, out, side);
    for (size_t j = 0; j < n; j++) {
        x[j] = special && !check_below(3) ? check_special() : check_normal() * 40;
        mul[j] = check_normal() * 4;
        add[j] = check_normal() * 40;
    }
    struct qvitp_rescale row = {.n = n, .x = x, .factor = check_uniform(), .hi = 255, .out = out};
    if (moved) row.mul = mul, row.add = add;
    if (check_below(2)) row.lo = -8, row.hi = 7;
    row.dst = check_place(SLOT_DST, n * element, element, side);
    table->rescale->run(&row);
    for (size_t j = 0; j < n; j++) {
        floats[j] =
            qvitp_ref_rescale(x[j], row.factor, moved ? &mul[j] : NULL, moved ? &add[j] : NULL);
        codes[j] = qvitp_ref_code(floats[j], row.lo, row.hi);
    }
    compare(row.dst, n, out, floats, codes);
}

static void rescale_rows(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n; n = next_length(n))
        for (int i = 0; i < 32; i++)
            rescale_case(table, n, i & 1, i & 2 ? QVITP_OUT_CODE : QVITP_OUT_F32);
}

void check_rescale(const struct qvitp_kernels *table)
{
    if (table->rescale) check_row(table->rescale->name, "rows", rescale_rows, table);
}

/* ---- layer normalisation ---- */

enum { CENTRED, SHIFTED, CONSTANT, TINY, LARGE, SPECIAL, KINDS };

static float activation(int kind)
{
    switch (kind) {
    case SHIFTED:
        return 1000 + check_normal();
    case CONSTANT:
        return 3.7f;
    case TINY:
        return check_normal() * 1e-39f;
    case LARGE:
        return check_normal() * 1e20f;
    case SPECIAL:
        return check_below(16) ? check_normal() : check_special();
    default:
        return check_normal();
    }
}

static void layer_norm_case(const struct qvitp_kernels *table, size_t n, int kind, int32_t out)
{
    static float floats[MAX_N], scratch[MAX_N];
    static uint8_t codes[MAX_N];
    static const float ranges[][2] = {{0, 255}, {-128, 127}, {-8, 7}};
    int side = (int)check_below(CHECK_SIDES);
    const float *range = ranges[check_below(3)];
    size_t m = 1 + check_below(check_below(4) ? 3 : MOST_ROWS), stride = n + check_below(3);
    size_t all = (m - 1) * stride + n, element = out == QVITP_OUT_F32 ? sizeof(float) : 1;
    float *x = check_place(SLOT_X, all * sizeof *x, sizeof *x, side);
    float *gamma = check_place(SLOT_BIAS, n * sizeof *x, sizeof *x, side);
    float *beta = check_place(SLOT_MASK, n * sizeof *x, sizeof *x, side);
    check_case("m %zu n %zu kind %d out %d side %d", m, n, kind, out, side);
    for (size_t j = 0; j < all; j++) x[j] = activation(kind);
    for (size_t j = 0; j < n; j++) {
        gamma[j] = check_normal() * 40;
        beta[j] = check_normal() * 40 + 50;
    }
    struct qvitp_layer_norm rows = {.m = m,
                                    .n = n,
                                    .x = x,
                                    .gamma = gamma,
                                    .beta = beta,
                                    .ldx = (ptrdiff_t)stride,
                                    .ldd = (ptrdiff_t)stride,
                                    .eps = 1e-6f,
                                    .lo = range[0],
                                    .hi = range[1],
                                    .out = out};
    rows.dst = check_place(SLOT_DST, all * element, element, side);
    table->layer_norm->run(&rows);
    for (size_t i = 0; i < m; i++) {
        qvitp_ref_layer_norm(n, x + i * stride, gamma, beta, rows.eps, scratch, floats);
        for (size_t j = 0; j < n; j++) codes[j] = qvitp_ref_code(floats[j], rows.lo, rows.hi);
        compare_row((char *)rows.dst + i * stride * element, n, out, floats, codes);
    }
    check_canaries(SLOT_DST, m, n * element, stride * element);
}

static void layer_norm_rows(const struct qvitp_kernels *table)
{
    static const size_t widths[] = {192, 384, 768, 1000};
    for (size_t i = 0; i < 74; i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int repeat = 0; repeat < 6; repeat++)
                layer_norm_case(table, i < 70 ? i + 1 : widths[i - 70], kind,
                                repeat % 2 ? QVITP_OUT_CODE : QVITP_OUT_F32);
}

void check_layer_norm(const struct qvitp_kernels *table)
{
    if (table->layer_norm) check_row(table->layer_norm->name, "rows", layer_norm_rows, table);
}

/* ---- reordering ---- */

static void reorder_case(const struct qvitp_kernels *table, size_t n)
{
    static uint8_t expected[QVITP_REORDER_MOST];
    int side = (int)check_below(CHECK_SIDES);
    size_t padded = (n + 31) / 32 * 32;
    uint16_t *order =
        check_place(SLOT_BIAS, padded * sizeof *order, 64, side == CHECK_LOOSE ? CHECK_BACK : side);
    uint8_t *bytes = check_place(SLOT_DST, n, 1, side);
    check_case("n %zu side %d", n, side);
    for (size_t j = 0; j < padded; j++) order[j] = j < n ? (uint16_t)j : 0;
    for (size_t j = n; j > 1; j--) { /* shuffled */
        size_t other = check_below(j);
        uint16_t last = order[j - 1];
        order[j - 1] = order[other], order[other] = last;
    }
    for (size_t j = 0; j < n; j++) bytes[j] = (uint8_t)check_random();
    for (size_t j = 0; j < n; j++) expected[j] = bytes[order[j]];
    const struct qvitp_reorder row = {.n = n, .order = order, .bytes = bytes};
    table->reorder(&row);
    compare(bytes, n, QVITP_OUT_CODE, NULL, expected);
}

static void reorder_rows(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n <= QVITP_REORDER_MOST; n++) reorder_case(table, n);
}

void check_reorder(const struct qvitp_kernels *table)
{
    char name[64];
    snprintf(name, sizeof name, "reorder_u8_%s", table->isa);
    if (table->reorder) check_row(name, "rows", reorder_rows, table);
}
