/*
 * check_gemm.c - the matrix products against lib/ref: shapes, extreme operands, epilogues, K-blocks.
 *
 * A case is made in three steps: operands as a plain matrix and its packed form, the epilogue's
 * vectors, and the accumulators by lib/ref. Then the kernel runs on guarded memory.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkasm.h"
#include "ref/ref.h"

enum { MAX_M = 48, MAX_NR = 256, MAX_K = 3072, MAX_BLOCKS = 24 }; /* of a call */
enum { PLAIN, TWIN, FLOATS };
enum { RANDOM, MINIMA, MAXIMA, ALTERNATING, ONE_HOT, FEW, FILLS }; /* FEW: in the upper half */
enum { SLOT_A, SLOT_A2, SLOT_B, SLOT_RESIDUAL, SLOT_OUT, SLOT_ENDS };
enum { SLOT_VECTORS = SLOT_ENDS + 1 }; /* seven from here on */
enum { SLOT_TOPS = SLOT_VECTORS + 7 };

static const size_t depths[] = {0, 64, 197, 768, 3072}; /* 0: one of those around the k step */

/* What is being checked, and one case of it. */
static struct {
    const struct qvitp_gemm_kernel *kernel;
    int kind;
    int32_t most_b, b_max;  /* of the slot; of the case: no value of B is larger in magnitude */
    size_t m, n, k, padded; /* padded: k, up to the k step */
    int fill_a, fill_b, side;
    int32_t zero, half; /* zero point, also of twin GELU; of twin softmax, or 0 */
    int32_t high;       /* 0, or the twin's ranges are joined */
    size_t most_blocks; /* 1, or more in the group that is about K-blocks */
    size_t blocks, ends[MAX_BLOCKS];
    uint8_t a[MAX_M * MAX_K];
    int8_t b[MAX_NR * MAX_K]; /* one row per column */
    float fa[MAX_M * MAX_K], fb[MAX_NR * MAX_K];
    int32_t lo[MAX_BLOCKS][MAX_M * MAX_NR], hi[MAX_BLOCKS][MAX_M * MAX_NR];
    float fused[MAX_M * MAX_NR], unfused[MAX_M * MAX_NR];
    float residual[MAX_M * MAX_NR]; /* as floats */
    float *vector[7];               /* init (as int32), scale, scale2, bias, mul, mul_neg, add */
    struct qvitp_tile tile;
    struct qvitp_epilogue e;
} c;

/* ---- operands ---- */

/* The largest value of a twin's planes. */
static int32_t plane_max(void)
{
    if (c.half) return c.half - 1;
    return c.zero >= 0 ? c.zero + 128 : 127 - c.zero;
}

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
    case FEW: {
        int32_t half = lo + (hi - lo + 1) / 2;
        if (check_below(32) == 0) lo = half; /* or higher */
        return lo + (int32_t)check_below((size_t)((lo == half ? hi + 1 : half) - lo));
    }
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
        /* Signed codes have their extremes elsewhere; what is 0 stays 0. */
        if (c.kind == TWIN && !c.half && c.fill_a != RANDOM && c.fill_a != FEW)
            c.a[i] = (uint8_t)(!c.a[i] ? c.zero : c.zero < 0 ? 127 : -128);
        if (c.kind == FLOATS) c.fa[i] = check_normal();
    }
    for (size_t i = 0; i < c.n * c.k; i++) {
        c.b[i] = (int8_t)fill(c.fill_b, i, hot_b, -c.b_max, c.b_max < 128 ? c.b_max : 127);
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
            int steps = (int8_t)code - c.zero; /* of a twin GELU */
            int is_low = c.half ? code < c.half : steps < 0;
            if (c.kind == FLOATS) {
                ((float *)plane)[at] = p < c.k ? c.fa[i * c.k + p] : check_normal();
            } else if (c.kind == PLAIN) {
                put(plane, at, code);
            } else {
                put(plane, at, is_low ? (uint8_t)(c.half ? code : -steps) : 0);
                put(plane2, at, is_low ? 0 : (uint8_t)(c.half ? code - c.half : steps));
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

/* Where K-block h begins and ends, of the k that there are. */
static size_t block_first(size_t h) { return h ? c.ends[h - 1] : 0; }
static size_t block_end(size_t h) { return c.ends[h] < c.k ? c.ends[h] : c.k; }

/* Cuts k into blocks of whole steps: equal ones, or any, of which many have one step. */
static void make_blocks(void)
{
    size_t step = c.kernel->kstep, left = c.padded / step;
    size_t most = left < c.most_blocks ? left : c.most_blocks;
    size_t many = 1 + check_below(most), few = 1 + check_below(most < 3 ? most : 3);
    int equal = !check_below(3);
    c.blocks = check_below(2) ? many : few;
    for (size_t h = 0; h < c.blocks; h++) {
        size_t after = c.blocks - h - 1, spare = left - after; /* a step for each that follows */
        size_t steps = 1 + check_below(2) * check_below(spare);
        if (equal) steps = left / (after + 1);
        if (!after) steps = left;
        left -= steps;
        c.ends[h] = block_first(h) + steps * step;
    }
}

static void multiply(void)
{
    for (size_t h = 0; h < c.blocks; h++) {
        size_t first = block_first(h), k = block_end(h) - first;
        const uint8_t *a = c.a + first;
        const int8_t *b = c.b + first;
        if (c.kind == PLAIN)
            qvitp_ref_gemm_u8s8(c.m, c.n, k, a, c.k, c.zero, b, c.k, c.lo[h], MAX_NR);
        if (c.kind == TWIN)
            qvitp_ref_gemm_t8s8(c.m, c.n, k, a, c.k, c.half, c.zero, b, c.k, c.lo[h], c.hi[h],
                                MAX_NR);
    }
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

static float largest_sum(void)
{
    float largest = 1;
    for (size_t h = 0; h < c.blocks; h++)
        for (size_t i = 0; i < c.m; i++)
            for (size_t j = 0; j < c.n; j++) {
                size_t at = i * MAX_NR + j;
                if (c.kind != FLOATS) largest = fmaxf(largest, fabsf((float)c.lo[h][at]));
                if (c.kind == TWIN) largest = fmaxf(largest, fabsf((float)c.hi[h][at]));
            }
    return largest;
}

/* Vectors are of the plan: aligned and padded, so they are flush with the back or the front. What
 * stands outside the tile's columns must have no effect. */
static void make_vectors(float range)
{
    size_t nr = c.kernel->nr, columns = (c.tile.column + (c.n + nr - 1) / nr * nr + 63) / 64 * 64;
    float largest = largest_sum();
    for (int v = 0; v < 7; v++) {
        float size = v == SCALE || v == SCALE2 ? range / largest : v == BIAS ? range / 4 : 4;
        int side = c.side == CHECK_LOOSE ? CHECK_BACK : c.side;
        size_t length = v < BIAS ? columns * c.blocks : columns;
        c.vector[v] = check_place(SLOT_VECTORS + v, length * sizeof(float), 64, side);
        for (size_t j = 0; j < length; j++) {
            int rare = v >= BIAS && range > 1000 && !check_below(8);
            c.vector[v][j] = rare ? check_special() : check_uniform() * size;
            /* With magnitudes, 0 * scale may have the other sign; 0 * scale2 >= 0 covers it. */
            if (v == SCALE2) c.vector[v][j] = fabsf(c.vector[v][j]);
            if (v == INIT) ((int32_t *)(void *)c.vector[v])[j] = (int32_t)check_random();
        }
    }
    for (size_t h = 0; h < c.blocks; h++)
        for (size_t j = 0; j < c.n; j++) {
            int32_t *init = (int32_t *)(void *)c.vector[INIT], sum = 0;
            for (size_t p = block_first(h); p < block_end(h); p++) sum += c.b[j * c.k + p];
            init[qvitp_k_place(nr, c.blocks, h, c.tile.column + j)] = -c.zero * sum;
        }
}

/* What the epilogue says about K-blocks; where there is one, it may say nothing. */
static void place_blocks(void)
{
    if (c.blocks == 1 && check_below(2)) return;
    size_t bytes = c.blocks * sizeof *c.ends;
    size_t *ends = check_place(SLOT_ENDS, bytes, sizeof *c.ends, c.side);
    memcpy(ends, c.ends, bytes);
    c.e.k_blocks = c.blocks;
    c.e.k_ends = ends;
}

static void make_epilogue(int out, int gelu, int residual, int mul)
{
    static const float ranges[][2] = {{0, 255}, {-128, 127}, {-127, 127}, {0, 15}, {-8, 7}, {0, 1}};
    const float *range = ranges[check_below(6)];
    int bare = out == QVITP_OUT_S32 || out == QVITP_OUT_SUM;
    c.e = (struct qvitp_epilogue){
        .init = (const int32_t *)(void *)c.vector[INIT],
        .scale = bare || c.kind == FLOATS ? NULL : c.vector[SCALE],
        .scale2 = c.kind == TWIN && !c.high ? c.vector[SCALE2] : NULL,
        .low = !c.high  ? 0
               : c.half ? 1
                        : -1, /* negative codes come as magnitudes */
        .high = c.high,
        .bias = bare ? NULL : c.vector[BIAS],
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

/* The sum over the K-blocks of what the scales make of their products. */
static float scaled_sum(size_t i, size_t j)
{
    int32_t lo[MAX_BLOCKS], hi[MAX_BLOCKS];
    float scale[MAX_BLOCKS], scale2[MAX_BLOCKS];
    for (size_t h = 0; h < c.blocks; h++) {
        size_t at = qvitp_k_place(c.kernel->nr, c.blocks, h, c.tile.column + j);
        lo[h] = c.lo[h][i * MAX_NR + j];
        hi[h] = c.hi[h][i * MAX_NR + j];
        scale[h] = c.vector[SCALE][at];
        scale2[h] = c.vector[SCALE2][at];
        /* Kernels multiply the magnitudes of twin GELU's negative codes, the reference their
         * values. */
        if (c.kind == TWIN && !c.half && !c.high) scale[h] = -scale[h];
    }
    return qvitp_ref_k_sum(c.blocks, lo, hi, c.high, scale, c.kind == TWIN ? scale2 : NULL);
}

/* The float that element (i, j) must become. */
static float expected(size_t i, size_t j, const float *product)
{
    size_t at = i * MAX_NR + j, column = c.tile.column + j;
    struct qvitp_ref_epilogue e = {
        .bias = c.vector[BIAS][column],
        .gelu = c.e.gelu,
        .has_residual = c.e.residual != QVITP_RESIDUAL_NONE,
        .has_mul = c.e.mul != NULL,
        .residual = c.residual[at],
        .mul = c.vector[MUL][column],
        .mul_neg = c.vector[c.e.mul_neg ? MUL_NEG : MUL][column],
        .add = c.vector[ADD][column],
    };
    return qvitp_ref_finish(c.kind == FLOATS ? product[at] : scaled_sum(i, j), &e);
}

static int right(size_t i, size_t j, const float *product)
{
    size_t at = i * (size_t)c.tile.ldo + j;
    if (c.e.out == QVITP_OUT_S32)
        return ((const int32_t *)c.tile.out)[at] == c.lo[0][i * MAX_NR + j];
    if (c.e.out == QVITP_OUT_SUM)
        return ((const float *)c.tile.out)[at] == (float)c.lo[0][i * MAX_NR + j];
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

/* The rows' largest sums, where they are asked for. */
static void place_tops(void)
{
    if (c.e.out != QVITP_OUT_SUM || check_below(2)) return;
    int side = c.side == CHECK_LOOSE ? CHECK_BACK : c.side;
    c.e.tops = check_place(SLOT_TOPS, c.m * 16 * sizeof(float), 64, side);
}

static void compare_tops(void)
{
    for (size_t i = 0; c.e.tops && c.kernel->gives_tops && i < c.m; i++) {
        float top = -INFINITY, largest = -INFINITY;
        for (size_t j = 0; j < 16; j++) top = fmaxf(top, c.e.tops[i * 16 + j]);
        for (size_t j = 0; j < c.n; j++) largest = fmaxf(largest, (float)c.lo[0][i * MAX_NR + j]);
        if (top != largest)
            check_fail("row %zu: the largest is %g, not %g", i, (double)top, (double)largest);
    }
}

/* ---- one case ---- */

static void run_case(float range, int out, int gelu, int residual, int mul)
{
    if (gelu && out == QVITP_OUT_CODE && residual == QVITP_RESIDUAL_NONE && mul && check_below(2))
        gelu = QVITP_GELU_IN_UNITS;
    size_t element = out == QVITP_OUT_CODE ? 1 : 4, nr = c.kernel->nr, width = c.n;
    if (out == QVITP_OUT_SUM) width = (c.n + nr - 1) / nr * nr; /* there is room for whole panels */
    size_t stride = width + check_below(40) * check_below(2);
    c.padded = (c.k + c.kernel->kstep - 1) / c.kernel->kstep * c.kernel->kstep;
    c.tile = (struct qvitp_tile){.m = c.m, .n = c.n, .k = c.padded, .b_max = c.b_max};
    c.tile.a_max = c.kind == TWIN ? plane_max() : 0;
    c.tile.column = check_below(4) * c.kernel->nr;
    c.side = (int)check_below(CHECK_SIDES);
    make_blocks();
    check_case("m %zu n %zu k %zu in %zu fills %d %d up to %d range %g out %d gelu %d residual %d "
               "mul %d side %d",
               c.m, c.n, c.k, c.blocks, c.fill_a, c.fill_b, (int)c.b_max, (double)range, out, gelu,
               residual, mul, c.side);
    make_operands();
    place_a();
    place_b();
    multiply();
    make_vectors(range);
    make_epilogue(out, gelu, residual, mul);
    place_blocks();
    place_residual();
    size_t bytes = ((c.m - 1) * stride + width) * element;
    c.tile.out = check_place(SLOT_OUT, bytes, element, c.side);
    c.tile.ldo = (ptrdiff_t)stride;
    place_tops();
    c.kernel->run(&c.tile, &c.e);
    check_canaries(SLOT_OUT, c.m, width * element, stride * element);
    compare();
    compare_tops();
}

static size_t some_depth(size_t which)
{
    size_t step = c.kernel->kstep;
    const size_t near[] = {1, step > 1 ? step - 1 : 1, step, step + 1, 2 * step + 3};
    return depths[which] ? depths[which] : near[check_below(5)];
}

/* Zero points and halves, that b_max leaves. One hot code leaves sums of 0 where there is no zero point: -0 meets -0. */
static void draw_scheme(void)
{
    c.zero = c.kind == PLAIN && c.fill_a != ONE_HOT ? (int32_t)check_below(256) : 0;
    c.half = c.kind == TWIN && check_below(2) ? 8 << check_below(5) : 0;
    if (c.kind == TWIN && !c.half && check_below(2)) {
        c.zero = (int32_t)check_below(256) - 128;
        if (c.kernel->ab_max && plane_max() * c.b_max > c.kernel->ab_max) c.zero = 0;
    }
    /* (1 + high) * 255 * 128 * k must fit 32 bits */
    c.high = c.kind == TWIN && check_below(2) ? 1 + (int32_t)check_below(c.k <= 256 ? 256 : 16) : 0;
}

/* Where another number of products fits 16 bits, and on both sides of it, or anywhere. */
static void draw_b_max(void)
{
    static const int32_t edges[] = {1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128};
    do {
        size_t any = 1 + check_below(128);
        c.b_max = check_below(4) ? edges[check_below(16)] : (int32_t)any;
    } while (c.b_max > c.most_b);
}

static void any_case(float range)
{
    draw_b_max();
    int out = (int)check_below(4), bare = out == QVITP_OUT_S32 || out == QVITP_OUT_SUM;
    if (bare && (c.kind != PLAIN || c.most_blocks > 1)) out = QVITP_OUT_F32;
    draw_scheme();
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
        c.m = 1 + check_below((c.kernel->tall ? 3u : 1u) * c.kernel->mr);
        c.n = c.kernel->nr + 1 + check_below((i % 2 ? 2u : 6u) * c.kernel->nr + 5);
        c.fill_a = check_below(2) ? FEW : RANDOM;
        c.k = check_below(8) > 0 ? 1 + check_below(300) : some_depth(check_below(5));
        any_case(100);
    }
    c.fill_a = RANDOM;
}

/* Every fill of both operands; many times, for every size of B. */
static void extreme_cases(void)
{
    for (c.fill_a = 0; c.fill_a < FILLS; c.fill_a++)
        for (c.fill_b = 0; c.fill_b < FILLS; c.fill_b++)
            for (size_t d = 0; d < 5 * 8; d++) {
                c.k = some_depth(d % 5);
                c.m = check_below(2) ? c.kernel->mr : 1 + check_below(c.kernel->mr);
                c.n = check_below(2) ? c.kernel->nr : 1 + check_below(c.kernel->nr);
                any_case(300);
            }
    c.fill_a = c.fill_b = RANDOM;
}

static void extremes(const struct qvitp_kernels *table)
{
    (void)table;
    extreme_cases();
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
        draw_b_max();
        draw_scheme();
        run_case(ranges[r], QVITP_OUT_F32, gelu, residual, mul);
        run_case(ranges[r], QVITP_OUT_CODE, gelu, residual, mul);
    }
    c.fill_a = RANDOM;
}

/* The three groups above once more, in K-blocks and without S32. */
static void k_blocks(const struct qvitp_kernels *table)
{
    static const float ranges[] = {1, 6, 300, 1e5f, 1e38f};
    size_t nr = c.kernel->nr, most_n = c.kernel->wide ? 2 * nr + 5 : nr;
    (void)table;
    c.most_blocks = MAX_BLOCKS;
    c.fill_a = c.fill_b = RANDOM;
    for (c.m = 1; c.m <= c.kernel->mr; c.m++)
        for (c.n = 1; c.n <= most_n; c.n++)
            for (size_t d = 0; d < 5; d++) {
                c.k = d < 4 ? 1 + check_below(300) : some_depth(check_below(4));
                any_case(100);
            }
    extreme_cases();
    for (size_t i = 0; i < 2000; i++) {
        c.m = check_below(4) ? c.kernel->mr : 1 + check_below(c.kernel->mr);
        c.n = check_below(4) ? nr : 1 + check_below(nr);
        c.k = 1 + check_below(64);
        c.fill_a = check_below(4) ? RANDOM : ONE_HOT; /* blocks that are 0 */
        any_case(ranges[i % 5]);
    }
    c.fill_a = RANDOM;
}

/* Packing: rows anywhere, of any number, columns of panels or values of k; guard pages show what is read beyond them. */
static void pack_case(size_t n, size_t k, int by_k)
{
    size_t nr = c.kernel->nr, step = c.kernel->kstep, rows = by_k ? k : n, length = by_k ? n : k;
    size_t packed_n = (n + nr - 1) / nr * nr, packed_k = (k + step - 1) / step * step;
    size_t stride = length + check_below(3) * check_below(40);
    int32_t index[300];
    int side = (int)check_below(CHECK_SIDES), indexed = check_below(2) > 0;
    int8_t *from = check_place(SLOT_A, (rows - 1) * stride + length, 1, side);
    int8_t *panels = check_place(SLOT_B, packed_n * packed_k, 64, CHECK_BACK);
    check_case("n %zu k %zu by k %d stride %zu indexed %d side %d", n, k, by_k, stride, indexed,
               side);
    for (size_t i = 0; i < (rows - 1) * stride + length; i++) from[i] = (int8_t)check_random();
    for (size_t i = 0; i < rows; i++) index[i] = (int32_t)check_below(rows);
    const struct qvitp_pack all = {n,    k,     nr, from, (ptrdiff_t)stride, indexed ? index : NULL,
                                   by_k, panels};
    c.kernel->pack(&all);
    for (size_t j = 0; j < packed_n; j++)
        for (size_t p = 0; p < packed_k; p++) {
            size_t row = by_k ? p : j, in_row = by_k ? j : p;
            size_t at = j / nr * nr * packed_k + (p / step * nr + j % nr) * step + p % step;
            int8_t value = 0;
            if (j < n && p < k)
                value = from[(indexed ? (size_t)index[row] : row) * stride + in_row];
            if (panels[at] != value)
                check_fail("column %zu, k %zu: %d, not %d", j, p, panels[at], value);
        }
    check_canaries(SLOT_B, 1, packed_n * packed_k, packed_n * packed_k);
}

static void packs(const struct qvitp_kernels *table)
{
    (void)table;
    for (size_t i = 0; i < 600; i++) {
        size_t most = i % 3 ? 80 : 300;
        pack_case(1 + check_below(most), 1 + check_below(most), i % 2 > 0);
    }
}

/* A slot, and what it is given. */
struct slot {
    const struct qvitp_gemm_kernel *one, *blocks; /* for one scale, and for K-blocks */
    int kind;
    int32_t most_b;
};

static void check_slot(const struct slot *slot, const struct qvitp_kernels *table)
{
    c.kind = slot->kind;
    c.most_b = slot->most_b;
    c.most_blocks = 1;
    c.kernel = slot->one;
    if (c.kernel) {
        check_row(c.kernel->name, "shapes", shapes, table);
        if (c.kernel->wide) check_row(c.kernel->name, "panels", panels, table);
        if (c.kernel->pack) check_row(c.kernel->name, "packing", packs, table);
        check_row(c.kernel->name, "extremes", extremes, table);
        check_row(c.kernel->name, "epilogues", epilogues, table);
    }
    c.kernel = slot->blocks;
    if (c.kernel) check_row(c.kernel->name, "k blocks", k_blocks, table);
}

/* Else small weights would run on an older table's kernel, slower than the one for all weights. */
static void small_slots(const struct qvitp_kernels *table)
{
    if (!table->gemm_u8s8 != !table->gemm_u8s7) check_fail("gemm_u8s8 and gemm_u8s7");
    if (!table->gemm_u8s8_k != !table->gemm_u8s7_k) check_fail("gemm_u8s8_k and gemm_u8s7_k");
}

/* A kernel that stands in several slots is checked in the first, which gives it the most. */
void check_gemms(const struct qvitp_kernels *table)
{
    const struct slot slots[] = {
        {table->gemm_u8s8, table->gemm_u8s8_k, PLAIN, 128},
        {table->gemm_u8s7 == table->gemm_u8s8 ? NULL : table->gemm_u8s7,
         table->gemm_u8s7_k == table->gemm_u8s8_k ? NULL : table->gemm_u8s7_k, PLAIN, QVITP_S7_MAX},
        {table->gemm_t8s8, table->gemm_t8s8_k, TWIN, 128},
        {table->gemm_f32, NULL, FLOATS, 128},
    };
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) check_slot(&slots[i], table);
    check_row("table", table->isa, small_slots, table);
}
