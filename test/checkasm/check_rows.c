/* check_rows.c - softmax, rescaling and layer normalisation of one row against lib/ref. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { MAX_N = 1024 };
enum { SLOT_X, SLOT_BIAS, SLOT_MASK, SLOT_DST };

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

/* What the reference makes of row i, whose scores were `before`. */
static void expect_softmax(const struct qvitp_softmax *rows, size_t i, const float *before,
                           int form, float *floats, uint8_t *codes, float *relative)
{
    const float *bias = rows->bias ? rows->bias + (ptrdiff_t)i * rows->ldb : NULL;
    const float *mask = rows->mask ? rows->mask + (ptrdiff_t)i * rows->ldm : NULL;
    if (form == 0) qvitp_ref_softmax(rows->n, before, bias, mask, floats);
    if (form == 1)
        qvitp_ref_softmax_codes(rows->n, before, bias, mask, rows->mul, rows->hi, floats, codes,
                                relative);
    if (form == 2)
        qvitp_ref_softmax_twin(rows->n, before, bias, mask, rows->mul, rows->mul2, rows->half,
                               floats, codes, relative);
}

/* How a row is written: not at all (floats), one scale, twin. */
static void draw_form(struct qvitp_softmax *rows, int form)
{
    rows->out = form ? QVITP_OUT_CODE : QVITP_OUT_F32;
    rows->hi = form == 1 ? (float)((16 << check_below(5)) - 1) : 0;
    rows->half = form == 2 ? (float)(8 << check_below(5)) : 0;
    rows->mul =
        form == 2 ? rows->half * (1 + 30 * fabsf(check_uniform())) : 255 * fabsf(check_uniform());
    if (form && check_below(16) == 0) rows->mul = INFINITY; /* of a scale next to 0 */
    if (form == 1 && check_below(2)) rows->mul = rows->hi;
    rows->mul2 = rows->half - 1;
}

static void softmax_case(const struct qvitp_kernels *table, size_t n, int content, int form)
{
    static float before[MOST_ROWS * (MAX_N + 32)], floats[MAX_N];
    static uint8_t codes[MAX_N];
    int side = (int)check_below(CHECK_SIDES), extra = (int)check_below(4);
    int usual = check_below(2) > 0, relative = form && check_below(2);
    size_t padded = (n + 15) / 16 * 16, stride = padded + 16 * check_below(3), size = form ? 1 : 4;
    size_t loose = n + check_below(3), m = 1 + check_below(check_below(4) ? 3 : MOST_ROWS);
    float sum[MOST_ROWS];
    struct qvitp_softmax rows = {.m = m, .n = n, .lds = (ptrdiff_t)stride};
    rows.ldb = rows.ldm = rows.ldd = (ptrdiff_t)loose;
    check_case("m %zu n %zu content %d form %d extra %d side %d", m, n, content, form, extra, side);

    draw_form(&rows, form);
    rows.bias = place_floats(SLOT_BIAS, m, n, loose, side, extra & 1, USUAL);
    rows.mask = place_floats(SLOT_MASK, m, n, loose, side, extra & 2, usual ? USUAL : MASKED);
    size_t all = (m - 1) * stride + padded;
    rows.scores =
        check_place(SLOT_X, all * sizeof(float), 64, side == CHECK_LOOSE ? CHECK_BACK : side);
    for (size_t j = 0; j < all; j++)
        rows.scores[j] = j % stride < n ? score(content, j % stride == 0) : check_special();
    memcpy(before, rows.scores, all * sizeof *before);
    rows.dst = check_place(SLOT_DST, ((m - 1) * loose + n) * size, size, side);
    if (relative) rows.sum = sum;

    table->softmax->run(&rows);
    for (size_t i = 0; i < m; i++) {
        float expected = -1;
        expect_softmax(&rows, i, before + i * stride, form, floats, codes,
                       relative ? &expected : NULL);
        compare_row((uint8_t *)rows.dst + i * loose * size, n, rows.out, floats, codes);
        if (relative && !check_same_float(sum[i], expected))
            check_fail("the sum is %.9g, not %.9g", (double)sum[i], (double)expected);
    }
    check_canaries(SLOT_DST, m, n * size, loose * size);
}

static void softmax_rows(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n; n = next_length(n))
        for (int content = 0; content < CONTENTS; content++)
            for (int i = 0; i < 12; i++) softmax_case(table, n, content, i % 3);
}

void check_softmax(const struct qvitp_kernels *table)
{
    if (table->softmax) check_row(table->softmax->name, "rows", softmax_rows, table);
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
