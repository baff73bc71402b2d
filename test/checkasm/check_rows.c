/* check_rows.c - softmax, rescaling and layer normalisation of one row against lib/ref. */
#include <math.h>
#include <string.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { MAX_N = 1024 };
enum { SLOT_X, SLOT_BIAS, SLOT_MASK, SLOT_DST };

static size_t next_length(size_t n) { return n < 70 ? n + 1 : n == 70 ? 197 : n == 197 ? 577 : 0; }

/* Compares what stands at SLOT_DST and what is around it. */
static void compare(const void *dst, size_t n, int32_t out, const float *floats,
                    const uint8_t *codes)
{
    size_t bytes = n * (out == QVITP_OUT_F32 ? sizeof(float) : 1);
    check_canaries(SLOT_DST, 1, bytes, bytes);
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
        return first ? 0 : check_below(4) ? -86 - check_uniform() * 4 : -86;
    default:
        return check_normal();
    }
}

/* n floats that are the caller's, or NULL. */
static const float *place_floats(int slot, size_t n, int side, int given, int content)
{
    float *x = check_place(slot, n * sizeof *x, sizeof *x, side);
    for (size_t j = 0; j < n; j++) x[j] = score(content, j == 0);
    return given ? x : NULL;
}

static void softmax_case(const struct qvitp_kernels *table, size_t n, int content, int form)
{
    static float before[MAX_N], floats[MAX_N];
    static uint8_t codes[MAX_N];
    int side = (int)check_below(CHECK_SIDES), extra = (int)check_below(4);
    size_t padded = (n + 15) / 16 * 16;
    struct qvitp_softmax row = {.n = n, .out = form ? QVITP_OUT_CODE : QVITP_OUT_F32};
    check_case("n %zu content %d form %d extra %d side %d", n, content, form, extra, side);

    row.bias = place_floats(SLOT_BIAS, n, side, extra & 1, USUAL);
    row.mask = place_floats(SLOT_MASK, n, side, extra & 2, check_below(2) ? USUAL : MASKED);
    row.scores =
        check_place(SLOT_X, padded * sizeof(float), 64, side == CHECK_LOOSE ? CHECK_BACK : side);
    for (size_t j = 0; j < padded; j++)
        row.scores[j] = j < n ? score(content, j == 0) : check_special();
    memcpy(before, row.scores, n * sizeof *before);
    row.dst = check_place(SLOT_DST, form ? n : n * sizeof(float), form ? 1 : sizeof(float), side);
    row.hi = form == 1 ? (float)((16 << check_below(5)) - 1) : 0;
    row.half = form == 2 ? (float)(8 << check_below(5)) : 0;
    row.mul = form == 2 ? row.half * (1 + 30 * fabsf(check_uniform())) : 255 * check_uniform();
    if (form == 1 && check_below(2)) row.mul = row.hi;
    row.mul2 = row.half - 1;
    float sum = -1, expected_sum = -1, *relative = form && check_below(2) ? &expected_sum : NULL;
    if (relative) row.sum = &sum;

    table->softmax->run(&row);
    if (form == 0) qvitp_ref_softmax(n, before, row.bias, row.mask, floats);
    if (form == 1)
        qvitp_ref_softmax_codes(n, before, row.bias, row.mask, row.mul, row.hi, floats, codes,
                                relative);
    if (form == 2)
        qvitp_ref_softmax_twin(n, before, row.bias, row.mask, row.mul, row.mul2, row.half, floats,
                               codes, relative);
    compare(row.dst, n, row.out, floats, codes);
    if (!check_same_float(sum, expected_sum))
        check_fail("the sum is %.9g, not %.9g", (double)sum, (double)expected_sum);
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
    float *x = check_place(SLOT_X, n * sizeof *x, sizeof *x, side);
    float *gamma = check_place(SLOT_BIAS, n * sizeof *x, sizeof *x, side);
    float *beta = check_place(SLOT_MASK, n * sizeof *x, sizeof *x, side);
    size_t element = out == QVITP_OUT_F32 ? sizeof *x : 1;
    check_case("n %zu kind %d out %d side %d", n, kind, out, side);
    for (size_t j = 0; j < n; j++) {
        x[j] = activation(kind);
        gamma[j] = check_normal() * 40;
        beta[j] = check_normal() * 40 + 50;
    }
    struct qvitp_layer_norm row = {.n = n,
                                   .x = x,
                                   .gamma = gamma,
                                   .beta = beta,
                                   .eps = 1e-6f,
                                   .lo = range[0],
                                   .hi = range[1],
                                   .out = out};
    row.dst = check_place(SLOT_DST, n * element, element, side);
    table->layer_norm->run(&row);
    qvitp_ref_layer_norm(n, x, gamma, beta, row.eps, scratch, floats);
    for (size_t j = 0; j < n; j++) codes[j] = qvitp_ref_code(floats[j], row.lo, row.hi);
    compare(row.dst, n, out, floats, codes);
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
