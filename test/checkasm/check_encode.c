/* check_encode.c - encoding of floats, staging and expansion of codes, against lib/ref and plain loops. */
#include <math.h>
#include <stdio.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { SLOT_IN, SLOT_OUT, SLOT_OUT2, SLOT_ZERO };

/* ---- encode ---- */

static float value(float scale, float range)
{
    switch (check_below(8)) {
    case 0:
        return check_special();
    case 1:
    case 2:
        return ((float)check_below(300) - 150.0f + 0.5f) * scale; /* ties, if scale is 2^i */
    case 3:
        return check_uniform() * scale;
    default:
        return check_uniform() * scale * range;
    }
}

static uint8_t encoded(const struct qvitp_encode *run, float x)
{
    int32_t code;
    if (run->scheme == QVITP_ENCODE_UNIFORM)
        code = qvitp_ref_encode_uniform(x, run->scale, run->zero, run->lo, run->hi);
    else if (run->scheme == QVITP_ENCODE_TWIN_GELU)
        code = qvitp_ref_encode_twin_gelu(x, run->scale, run->scale2, run->zero, run->lo, run->hi);
    else
        code = qvitp_ref_encode_twin_softmax(x, run->scale, run->scale2, run->hi);
    return (uint8_t)code;
}

static void encode_case(const struct qvitp_kernels *table, size_t n, int32_t scheme)
{
    int side = (int)check_below(CHECK_SIDES), bits = 2 + (int)check_below(7);
    float levels = (float)(1 << bits), exact = ldexpf(1, (int)check_below(20) - 12);
    int is_signed =
        scheme != QVITP_ENCODE_TWIN_SOFTMAX && (scheme == QVITP_ENCODE_TWIN_GELU || check_below(2));
    struct qvitp_encode run = {.n = n, .scheme = scheme};
    run.lo = is_signed ? -levels / 2 : 0;
    run.hi = run.lo + levels - 1;
    if (scheme == QVITP_ENCODE_UNIFORM || (scheme == QVITP_ENCODE_TWIN_GELU && check_below(2)))
        run.zero = run.lo + (float)check_below((size_t)levels);
    run.scale = check_below(2) ? exact : exact * (1.5f + 0.4f * check_uniform());
    run.scale2 = run.scale * (check_below(2) ? 16 : 1 + 10 * fabsf(check_uniform()));
    check_case("n %zu scheme %d lo %g hi %g zero %g scales %.9g %.9g side %d", n, scheme,
               (double)run.lo, (double)run.hi, (double)run.zero, (double)run.scale,
               (double)run.scale2, side);

    float *x = check_place(SLOT_IN, n * sizeof *x, sizeof *x, side);
    for (size_t i = 0; i < n; i++) x[i] = value(check_below(2) ? run.scale : run.scale2, levels);
    run.x = x;
    run.codes = check_place(SLOT_OUT, n, 1, side);
    table->encode->run(&run);
    check_canaries(SLOT_OUT, 1, n, n);
    for (size_t i = 0; i < n; i++)
        if (run.codes[i] != encoded(&run, x[i]))
            check_fail("[%zu] of %.9g is %d, not %d", i, (double)x[i], run.codes[i],
                       encoded(&run, x[i]));
}

static void encode_runs(const struct qvitp_kernels *table)
{
    for (size_t n = 1; n <= 72; n++)
        for (int i = 0; i < 60; i++) encode_case(table, n < 72 ? n : 1000, i % 3);
}

void check_encode(const struct qvitp_kernels *table)
{
    if (table->encode) check_row(table->encode->name, "runs", encode_runs, table);
}

/* ---- staging ---- */

/* Element i of one plane, in the form that the integer products read. */
static int staged(const void *plane, size_t i, int form)
{
    return form == QVITP_A_S16 ? ((const int16_t *)plane)[i] : ((const uint8_t *)plane)[i];
}

/* Row r of what was staged. */
static void compare_staged(const struct qvitp_stage *rows, size_t r, int a_form)
{
    int32_t form = rows->form, half = rows->half, zero = rows->zero, high = rows->high;
    int gelu = form == QVITP_STAGE_TWIN_GELU || form == QVITP_STAGE_JOINED_GELU;
    size_t n = rows->n, first = r * (size_t)rows->ldd;
    for (size_t i = 0; i < rows->padded; i++) {
        int code = i < n ? rows->codes[(ptrdiff_t)r * rows->ldc + (ptrdiff_t)i] : 0;
        int value = (int8_t)code, low = code, over = 0;
        if (form == QVITP_STAGE_S8 && i < n) low = value + 128;
        if (gelu && i < n) value -= zero;
        if (form == QVITP_STAGE_TWIN_GELU) {
            low = value < 0 ? -value : 0;
            over = value < 0 ? 0 : value;
        }
        if (form == QVITP_STAGE_TWIN_SOFTMAX) {
            low = code < half ? code : 0;
            over = code < half ? 0 : code - half;
        }
        if (form == QVITP_STAGE_JOINED_SOFTMAX && code >= half) low = (code - half) * high;
        if (form == QVITP_STAGE_JOINED_GELU && i < n)
            low = (value < 0 ? value : value * high) + (a_form == QVITP_A_U8 ? 128 : 0);
        if (staged(rows->dst, first + i, a_form) != low) check_fail("[%zu] of code %d", i, code);
        if (rows->dst2 && staged(rows->dst2, first + i, a_form) != over)
            check_fail("high [%zu] of code %d", i, code);
    }
}

static void stage_case(qvitp_stage_fn *stage, int a_form, size_t n, int32_t form)
{
    int side = (int)check_below(CHECK_SIDES);
    int twin = form == QVITP_STAGE_TWIN_SOFTMAX || form == QVITP_STAGE_TWIN_GELU;
    int32_t half = 2 << check_below(7);
    size_t padded = n + (check_below(2) ? check_below(5) : check_below(100));
    size_t element = a_form == QVITP_A_S16 ? 2 : 1, bytes = padded * element;
    int32_t most = a_form == QVITP_A_S16 ? INT16_MAX : form == QVITP_STAGE_JOINED_GELU ? 127 : 255;
    if (form == QVITP_STAGE_JOINED_GELU) half = 1 << check_below(8);
    int gelu = form == QVITP_STAGE_TWIN_GELU || form == QVITP_STAGE_JOINED_GELU;
    int32_t zero = gelu && check_below(2) ? (int32_t)check_below(256) - 128 : 0, top = half - 1;
    if (form ==
        QVITP_STAGE_JOINED_GELU) { /* codes -half .. half - 1, as far apart as elements hold */
        zero %= half;
        if (half + zero > 128 || half - 1 - zero > most) zero = 0;
        top = half - 1 - zero;
    }
    int32_t high = most / (top > 1 ? top : 1);
    high = 1 + (int32_t)check_below((size_t)(high < 256 ? high : 256));
    size_t m = 1 + check_below(3), loose = n + check_below(3), wide = padded + check_below(3);
    size_t all = (m - 1) * loose + n, written = ((m - 1) * wide + padded) * element;
    uint8_t *codes = check_place(SLOT_IN, all, 1, side);
    struct qvitp_stage row = {.m = m,
                              .n = n,
                              .padded = padded,
                              .codes = codes,
                              .ldc = (ptrdiff_t)loose,
                              .ldd = (ptrdiff_t)wide,
                              .form = form,
                              .half = half,
                              .zero = zero,
                              .high = high};
    check_case("m %zu n %zu padded %zu form %d half %d zero %d high %d side %d", m, n, padded, form,
               half, zero, high, side);
    for (size_t i = 0; i < all; i++) {
        codes[i] = (uint8_t)check_random();
        if (form == QVITP_STAGE_TWIN_SOFTMAX || form == QVITP_STAGE_JOINED_SOFTMAX)
            codes[i] &= (uint8_t)(2 * half - 1);
        if (form == QVITP_STAGE_JOINED_GELU) codes[i] = (uint8_t)(codes[i] % (2 * half) - half);
    }
    row.dst = check_place(SLOT_OUT, written, 2, side);
    void *dst2 = check_place(SLOT_OUT2, written, 2, side);
    row.dst2 = twin ? dst2 : NULL;
    stage(&row);
    check_canaries(SLOT_OUT, m, bytes, wide * element);
    check_canaries(SLOT_OUT2, m, twin ? bytes : 0, wide * element);
    for (size_t r = 0; r < m; r++) compare_staged(&row, r, a_form);
}

static void stage_rows(qvitp_stage_fn *stage, int a_form)
{
    static const size_t lengths[] = {127, 128, 197, 768, 3072};
    enum { FORMS = QVITP_STAGE_JOINED_GELU + 1 };
    for (size_t n = 1; n <= 75; n++)
        for (int i = 0; i < 12 * FORMS; i++) {
            int form = i % FORMS;
            int two = form == QVITP_STAGE_TWIN_SOFTMAX || form == QVITP_STAGE_TWIN_GELU;
            if (a_form == QVITP_A_S16 && two) continue; /* these are never two planes */
            stage_case(stage, a_form, n <= 70 ? n : lengths[n - 71], form);
        }
}

static void stage_to_u8(const struct qvitp_kernels *table) { stage_rows(table->stage, QVITP_A_U8); }

static void stage_to_s16(const struct qvitp_kernels *table)
{
    stage_rows(table->stage_s16, QVITP_A_S16);
}

/* The slots are bare functions; their rows have the names that their files have. */
void check_stage(const struct qvitp_kernels *table)
{
    char name[64];
    snprintf(name, sizeof name, "stage_u8_%s", table->isa);
    if (table->stage) check_row(name, "rows", stage_to_u8, table);
    snprintf(name, sizeof name, "stage_u8s16_%s", table->isa);
    if (table->stage_s16) check_row(name, "rows", stage_to_s16, table);
}

/* ---- expand ---- */

static void expand_case(const struct qvitp_kernels *table, size_t nr, size_t kstep)
{
    int side = (int)check_below(CHECK_SIDES);
    struct qvitp_expand panel = {nr, kstep, check_below(40), NULL, NULL, NULL};
    size_t step = nr * kstep, bytes = panel.steps * step;
    uint8_t *codes = check_place(SLOT_IN, bytes / 2, 1, side);
    uint8_t *zero = check_place(SLOT_ZERO, nr, 1, side);
    check_case("%zu columns, %zu steps of %zu, side %d", nr, panel.steps, kstep, side);
    for (size_t i = 0; i < bytes / 2; i++) codes[i] = (uint8_t)check_random();
    for (size_t j = 0; j < nr; j++) zero[j] = (uint8_t)check_below(16);
    panel.codes = codes, panel.zero = zero;
    panel.dst = check_place(SLOT_OUT, bytes, 1, side);
    table->expand(&panel);
    check_canaries(SLOT_OUT, 1, bytes, bytes ? bytes : 1);
    for (size_t i = 0; i < bytes; i++) {
        size_t at = i % step; /* in its step */
        uint8_t both = codes[i / step * step / 2 + at % (step / 2)];
        int code = at < step / 2 ? both % 16 : both / 16;
        if (panel.dst[i] != code - zero[at / kstep])
            check_fail("[%zu] is %d, not %d - %d", i, panel.dst[i], code, zero[at / kstep]);
    }
}

static void expand_panels(const struct qvitp_kernels *table)
{
    for (int i = 0; i < 500; i++) {
        expand_case(table, 16 * (1 + check_below(4)), 4);
        if (table == &qvitp_kernels_scalar)
            expand_case(table, 2 + 2 * check_below(20), 1 + check_below(8));
    }
}

void check_expand(const struct qvitp_kernels *table)
{
    char name[64];
    snprintf(name, sizeof name, "expand_u4_%s", table->isa);
    if (table->expand) check_row(name, "panels", expand_panels, table);
}
