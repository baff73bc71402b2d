/*
 * check_gemm.c - the three matrix products against lib/ref: shapes, extreme operands, epilogues.
 *
 * A case is made in three steps: operands as a plain matrix and its packed form, the epilogue's
 * vectors, and the accumulators by lib/ref. Then the kernel runs on guarded memory.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { MAX_MR = 16, MAX_NR = 128, MAX_K = 3072, VECTOR = 256 }; /* MAX_NR: columns of a call */
enum { PLAIN, TWIN, FLOATS };
enum { RANDOM, MINIMA, MAXIMA, ALTERNATING, ONE_HOT, FILLS };
enum { SLOT_A, SLOT_A2, SLOT_B, SLOT_RESIDUAL, SLOT_OUT, SLOT_VECTORS }; /* seven from here on */

static const size_t depths[] = {0, 64, 197, 768, 3072}; /* 0: one of those around the k step */

/* What is being checked, and one case of it. */
static struct {
    const struct qvitp_gemm_kernel *kernel;
    int kind;
    size_t m, n, k, padded; /* padded: k, up to the k step */
    int fill_a, fill_b, side;
    int32_t zero, half; /* plain operand's zero point; twin softmax, or 0 for twin GELU */
    uint8_t a[MAX_MR * MAX_K];
    int8_t b[MAX_NR * MAX_K]; /* one row per column */
    float fa[MAX_MR * MAX_K], fb[MAX_NR * MAX_K];
    int32_t lo[MAX_MR * MAX_NR], hi[MAX_MR * MAX_NR];
    float fused[MAX_MR * MAX_NR], unfused[MAX_MR * MAX_NR];
    float residual[MAX_MR * MAX_NR]; /* as floats */
    float *vector[7];                /* init (as int32), scale, scale2, bias, mul, mul_neg, add */
    struct qvitp_tile tile;
    struct qvitp_epilogue e;
} c;

/* ---- operands ---- */

static int32_t fill(int how, size_t i, size_t hot, int32_t lo, int32_t hi)
{
    switch (how) {
    case MINIMA:
        return lo;
    case MAXIMA:
        return hi;
    case ALTERNATING:
        return i % 2 ? lo : hi;
    case ONE_HOT:
        return i == hot ? hi : 0;
    default:
        return lo + (int32_t)check_below((size_t)(hi - lo + 1));
    }
}

static void make_operands(void)
{
    size_t hot_a = check_below(c.m * c.k), hot_b = check_below(c.n * c.k);
    int32_t top = c.kind == TWIN && c.half ? 2 * c.half - 1 : 255;
    for (size_t i = 0; i < c.m * c.k; i++) {
        c.a[i] = (uint8_t)fill(c.fill_a, i, hot_a, 0, top);
        /* Signed codes have their extremes elsewhere. */
        if (c.kind == TWIN && !c.half && c.fill_a != RANDOM && c.a[i]) c.a[i] ^= 0x7F;
        if (c.kind == FLOATS) c.fa[i] = check_normal();
    }
    for (size_t i = 0; i < c.n * c.k; i++) {
        c.b[i] = (int8_t)fill(c.fill_b, i, hot_b, -128, 127);
        if (c.kind == FLOATS) c.fb[i] = check_normal();
    }
}

/* Element `at` of a plane in the kernel's form. */
static void put(void *plane, size_t at, uint8_t value)
{
    if (c.kernel->a_form == QVITP_A_S16)
        ((int16_t *)plane)[at] = value;
    else
        ((uint8_t *)plane)[at] = value;
}

/* A, in rows of lda bytes. What stands beyond k meets zeros of the panel, so it may be anything. */
static void place_a(void)
{
    size_t element = c.kernel->a_form == QVITP_A_U8 ? 1 : c.kernel->a_form == QVITP_A_S16 ? 2 : 4;
    size_t stride = c.padded + check_below(64) * check_below(2);
    size_t bytes = ((c.m - 1) * stride + c.padded) * element;
    void *plane = check_place(SLOT_A, bytes, element, c.side);
    void *plane2 = c.kind == TWIN ? check_place(SLOT_A2, bytes, element, c.side) : NULL;
    for (size_t i = 0; i < c.m; i++)
        for (size_t p = 0; p < c.padded; p++) {
            size_t at = i * stride + p;
            uint8_t code = p < c.k ? c.a[i * c.k + p] : (uint8_t)check_random();
            int is_low = c.half ? code < c.half : code >= 128;
            if (c.kind == FLOATS) {
                ((float *)plane)[at] = p < c.k ? c.fa[i * c.k + p] : check_normal();
            } else if (c.kind == PLAIN) {
                put(plane, at, code);
            } else {
                put(plane, at, is_low ? (uint8_t)(c.half ? code : -code) : 0);
                put(plane2, at, is_low ? 0 : (uint8_t)(code - c.half));
            }
        }
    c.tile.a = plane;
    c.tile.a2 = plane2;
    c.tile.lda = (ptrdiff_t)(stride * element);
}

static void place_b(void)
{
    size_t nr = c.kernel->nr, step = c.kernel->kstep, panels = (c.n + nr - 1) / nr;
    size_t bytes = c.padded * nr * panels * (c.kind == FLOATS ? 4 : 1);
    void *panel = check_place(SLOT_B, bytes, 64, c.side == CHECK_LOOSE ? CHECK_BACK : c.side);
    memset(panel, 0, bytes);
    for (size_t j = 0; j < c.n; j++)
        for (size_t p = 0; p < c.k; p++) {
            size_t at = j / nr * nr * c.padded + (p / step * nr + j % nr) * step + p % step;
            if (c.kind == FLOATS)
                ((float *)panel)[at] = c.fb[j * c.k + p];
            else
                ((int8_t *)panel)[at] = c.b[j * c.k + p];
        }
    c.tile.b = panel;
}

static void multiply(void)
{
    if (c.kind == PLAIN)
        qvitp_ref_gemm_u8s8(c.m, c.n, c.k, c.a, c.k, c.zero, c.b, c.k, c.lo, MAX_NR);
    if (c.kind == TWIN)
        qvitp_ref_gemm_t8s8(c.m, c.n, c.k, c.a, c.k, c.half, c.b, c.k, c.lo, c.hi, MAX_NR);
    for (size_t i = 0; c.kind == FLOATS && i < c.m; i++)
        for (size_t j = 0; j < c.n; j++) {
            float fused = 0, unfused = 0;
            for (size_t p = 0; p < c.k; p++) {
                float a = c.fa[i * c.k + p], b = c.fb[j * c.k + p];
                fused = fmaf(a, b, fused);
                unfused = unfused + a * b;
            }
            c.fused[i * MAX_NR + j] = fused;
            c.unfused[i * MAX_NR + j] = unfused;
        }
}

/* ---- the epilogue ---- */

enum { INIT, SCALE, SCALE2, BIAS, MUL, MUL_NEG, ADD };

/* Vectors are of the plan: aligned and padded, so they are flush with the back or the front. What
 * stands outside the tile's columns must have no effect. */
static void make_vectors(float range)
{
    size_t nr = c.kernel->nr, length = (c.tile.column + (c.n + nr - 1) / nr * nr + 63) / 64 * 64;
    float largest = 1;
    for (size_t i = 0; i < c.m; i++)
        for (size_t j = 0; j < c.n; j++) {
            size_t at = i * MAX_NR + j;
            if (c.kind != FLOATS) largest = fmaxf(largest, fabsf((float)c.lo[at]));
            if (c.kind == TWIN) largest = fmaxf(largest, fabsf((float)c.hi[at]));
        }
    for (int v = 0; v < 7; v++) {
        float size = v == SCALE || v == SCALE2 ? range / largest : v == BIAS ? range / 4 : 4;
        int side = c.side == CHECK_LOOSE ? CHECK_BACK : c.side;
        c.vector[v] = check_place(SLOT_VECTORS + v, length * sizeof(float), 64, side);
        for (size_t j = 0; j < length; j++) {
            int rare = v >= BIAS && range > 1000 && !check_below(8);
            c.vector[v][j] = rare ? check_special() : check_uniform() * size;
            /* With magnitudes, 0 * scale may have the other sign; 0 * scale2 >= 0 covers it. */
            if (v == SCALE2) c.vector[v][j] = fabsf(c.vector[v][j]);
        }
    }
    int32_t *init = (int32_t *)(void *)c.vector[INIT];
    for (size_t j = 0; j < length; j++) init[j] = (int32_t)check_random();
    for (size_t j = 0; j < c.n; j++) {
        int32_t sum = 0;
        for (size_t p = 0; p < c.k; p++) sum += c.b[j * c.k + p];
        init[c.tile.column + j] = -c.zero * sum;
    }
}

static void make_epilogue(int out, int gelu, int residual, int mul)
{
    static const float ranges[][2] = {{0, 255}, {-128, 127}, {-127, 127}, {0, 15}, {-8, 7}, {0, 1}};
    const float *range = ranges[check_below(6)];
    int s32 = out == QVITP_OUT_S32;
    c.e = (struct qvitp_epilogue){
        .init = (const int32_t *)(void *)c.vector[INIT],
        .scale = s32 || c.kind == FLOATS ? NULL : c.vector[SCALE],
        .scale2 = c.kind == TWIN ? c.vector[SCALE2] : NULL,
        .bias = s32 ? NULL : c.vector[BIAS],
        .mul = mul ? c.vector[MUL] : NULL,
        .mul_neg = mul == 2 ? c.vector[MUL_NEG] : NULL,
        .add = mul ? c.vector[ADD] : NULL,
        .lo = range[0],
        .hi = range[1],
        .residual_scale = check_uniform(),
        .residual_zero = (float)check_below(256),
        .out = out,
        .residual = residual,
        .gelu = gelu,
    };
}

/* The residual in guarded memory, and as the floats that it stands for. */
static void place_residual(void)
{
    size_t element = c.e.residual == QVITP_RESIDUAL_F32 ? 4 : 1;
    size_t stride = c.n + check_below(40) * check_below(2);
    void *r = check_place(SLOT_RESIDUAL, ((c.m - 1) * stride + c.n) * element, element, c.side);
    c.tile.residual = c.e.residual == QVITP_RESIDUAL_NONE ? NULL : r;
    c.tile.ldr = (ptrdiff_t)stride;
    for (size_t i = 0; i < c.m; i++)
        for (size_t j = 0; j < c.n; j++) {
            size_t at = i * stride + j;
            uint8_t code = (uint8_t)check_random();
            float value = check_below(16) ? check_normal() * 10 : check_special();
            if (c.e.residual == QVITP_RESIDUAL_F32)
                ((float *)r)[at] = value;
            else
                ((uint8_t *)r)[at] = code;
            float whole = c.e.residual == QVITP_RESIDUAL_U8 ? (float)code : (float)(int8_t)code;
            if (c.e.residual != QVITP_RESIDUAL_F32)
                value = (whole - c.e.residual_zero) * c.e.residual_scale;
            c.residual[i * MAX_NR + j] = value;
        }
}

/* The float that element (i, j) must become. */
static float expected(size_t i, size_t j, const float *product)
{
    size_t at = i * MAX_NR + j, column = c.tile.column + j;
    struct qvitp_ref_epilogue e = {
        .twin = c.kind == TWIN,
        .gelu = c.e.gelu,
        .has_residual = c.e.residual != QVITP_RESIDUAL_NONE,
        .has_mul = c.e.mul != NULL,
        .residual = c.residual[at],
        .mul = c.vector[MUL][column],
        .mul_neg = c.vector[c.e.mul_neg ? MUL_NEG : MUL][column],
        .add = c.vector[ADD][column],
    };
    if (c.kind == FLOATS) { /* 0 * -0 + t is t, -0 included */
        e.scale = -0.0f;
        e.bias = product[at] + c.vector[BIAS][column];
        return qvitp_ref_epilogue(0, 0, &e);
    }
    e.bias = c.vector[BIAS][column];
    e.scale = c.vector[SCALE][column];
    e.scale2 = c.vector[SCALE2][column];
    /* Kernels multiply the magnitudes of twin GELU's negative codes, the reference their values. */
    if (c.kind == TWIN && !c.half) e.scale = -e.scale;
    return qvitp_ref_epilogue(c.lo[at], c.hi[at], &e);
}

static int right(size_t i, size_t j, const float *product)
{
    size_t at = i * (size_t)c.tile.ldo + j;
    if (c.e.out == QVITP_OUT_S32) return ((const int32_t *)c.tile.out)[at] == c.lo[i * MAX_NR + j];
    float t = expected(i, j, product);
    if (c.e.out == QVITP_OUT_F32) return check_same_float(((const float *)c.tile.out)[at], t);
    return ((const uint8_t *)c.tile.out)[at] == qvitp_ref_code(t, c.e.lo, c.e.hi);
}

static size_t count_wrong(const float *product)
{
    size_t wrong = 0;
    for (size_t i = 0; i < c.m; i++)
        for (size_t j = 0; j < c.n; j++) wrong += !right(i, j, product);
    return wrong;
}

static void compare(void)
{
    const float *product = c.unfused;
    size_t wrong = count_wrong(product);
    if (wrong && c.kind == FLOATS) wrong = count_wrong(product = c.fused);
    if (!wrong) return;
    for (size_t i = 0; i < c.m; i++) {
        printf("    ");
        for (size_t j = 0; j < c.n; j++) putchar(right(i, j, product) ? '.' : 'x');
        putchar('\n');
    }
    check_fail("%zu of %zu elements differ", wrong, c.m * c.n);
}

/* ---- one case ---- */

static void run_case(float range, int out, int gelu, int residual, int mul)
{
    size_t element = out == QVITP_OUT_CODE ? 1 : 4;
    size_t stride = c.n + check_below(40) * check_below(2);
    c.padded = (c.k + c.kernel->kstep - 1) / c.kernel->kstep * c.kernel->kstep;
    c.tile = (struct qvitp_tile){.m = c.m, .n = c.n, .k = c.padded};
    c.tile.column = check_below(4) * c.kernel->nr;
    c.side = (int)check_below(CHECK_SIDES);
    check_case("m %zu n %zu k %zu fills %d %d range %g out %d gelu %d residual %d mul %d side %d",
               c.m, c.n, c.k, c.fill_a, c.fill_b, (double)range, out, gelu, residual, mul, c.side);
    make_operands();
    place_a();
    place_b();
    multiply();
    make_vectors(range);
    make_epilogue(out, gelu, residual, mul);
    place_residual();
    size_t bytes = ((c.m - 1) * stride + c.n) * element;
    c.tile.out = check_place(SLOT_OUT, bytes, element, c.side);
    c.tile.ldo = (ptrdiff_t)stride;
    c.kernel->run(&c.tile, &c.e);
    check_canaries(SLOT_OUT, c.m, c.n * element, stride * element);
    compare();
}

static size_t some_depth(size_t which)
{
    size_t step = c.kernel->kstep;
    const size_t near[] = {1, step > 1 ? step - 1 : 1, step, step + 1, 2 * step + 3};
    return depths[which] ? depths[which] : near[check_below(5)];
}

static void any_case(float range)
{
    int out = (int)check_below(3);
    if (out == QVITP_OUT_S32 && c.kind != PLAIN) out = QVITP_OUT_F32;
    c.zero = c.kind == PLAIN ? (int32_t)check_below(256) : 0;
    c.half = c.kind == TWIN && check_below(2) ? 8 << check_below(5) : 0;
    run_case(range, out, (int)check_below(2), (int)check_below(4), (int)check_below(3));
}

/* ---- the groups ---- */

static void shapes(const struct qvitp_kernels *table)
{
    (void)table;
    for (c.m = 1; c.m <= c.kernel->mr; c.m++)
        for (c.n = 1; c.n <= c.kernel->nr; c.n++)
            for (size_t d = 0; d < 5; d++) {
                c.k = some_depth(d);
                c.fill_a = c.fill_b = RANDOM;
                any_case(100);
            }
}

static void panels(const struct qvitp_kernels *table)
{
    (void)table;
    for (int i = 0; i < 300; i++) {
        c.m = 1 + check_below(c.kernel->mr);
        c.n = c.kernel->nr + 1 + check_below(2 * (size_t)c.kernel->nr + 5);
        c.k = check_below(8) > 0 ? 1 + check_below(300) : some_depth(check_below(5));
        any_case(100);
    }
}

static void extremes(const struct qvitp_kernels *table)
{
    (void)table;
    for (c.fill_a = 0; c.fill_a < FILLS; c.fill_a++)
        for (c.fill_b = 0; c.fill_b < FILLS; c.fill_b++)
            for (size_t d = 0; d < 5; d++) {
                c.k = some_depth(d);
                c.m = check_below(2) ? c.kernel->mr : 1 + check_below(c.kernel->mr);
                c.n = c.kernel->nr;
                any_case(300);
            }
    c.fill_a = c.fill_b = RANDOM;
}

static void epilogues(const struct qvitp_kernels *table)
{
    static const float ranges[] = {1, 6, 300, 1e5f, 1e38f};
    (void)table;
    for (int i = 0; i < 5 * 2 * 2 * 4 * 3 * 8; i++) {
        int r = i % 5, gelu = i / 5 % 2, residual = i / 20 % 4, mul = i / 80 % 3;
        c.m = check_below(4) ? c.kernel->mr : 1 + check_below(c.kernel->mr);
        c.n = check_below(4) ? c.kernel->nr : 1 + check_below(c.kernel->nr);
        c.k = 1 + check_below(64);
        c.fill_a = check_below(4) ? RANDOM : ONE_HOT; /* zeros meet the special numbers */
        c.zero = c.kind == PLAIN ? (int32_t)check_below(256) : 0;
        c.half = c.kind == TWIN && check_below(2) ? 8 << check_below(5) : 0;
        run_case(ranges[r], QVITP_OUT_F32, gelu, residual, mul);
        run_case(ranges[r], QVITP_OUT_CODE, gelu, residual, mul);
    }
    c.fill_a = RANDOM;
}

void check_gemms(const struct qvitp_kernels *table)
{
    const struct qvitp_gemm_kernel *kernels[] = {table->gemm_u8s8, table->gemm_t8s8,
                                                 table->gemm_f32};
    for (int kind = PLAIN; kind <= FLOATS; kind++) {
        if (!kernels[kind]) continue;
        c.kernel = kernels[kind];
        c.kind = kind;
        check_row(c.kernel->name, "shapes", shapes, table);
        if (c.kernel->wide) check_row(c.kernel->name, "panels", panels, table);
        check_row(c.kernel->name, "extremes", extremes, table);
        check_row(c.kernel->name, "epilogues", epilogues, table);
    }
}
