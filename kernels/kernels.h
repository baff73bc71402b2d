/*
 * kernels.h - what a kernel is: the contracts, and the tables that name every choice.
 *
 * A kernel is one function that does one small piece of arithmetic on memory that its caller (lib/op)
 * has laid out for it. It is total: no error path, no allocation, no branch on the CPU, no static
 * state. It returns, bit for bit, what the function of lib/ref with the same arguments returns.
 *
 * One table per instruction set lists its kernels; lib/plan/dispatch.c walks the tables from the
 * plainest to the newest and keeps, slot by slot, the last kernel that the CPU may run. A slot that
 * a table leaves NULL is inherited.
 */
#ifndef QVITP_KERNELS_H
#define QVITP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/numerics.h"

/*
 * ---- The epilogue: from accumulators to what is stored --------------------------------------------
 *
 * For the element in row i and column j, with acc the finished accumulator, in this order, one
 * rounding per operation:
 *
 *     S32 output:   store acc, nothing else (plain integer products only)
 *     SUM output:   store (float)acc, nothing else (plain integer products only, one K-block); each row of
 *                   the output has room for whole panels, where anything may be written. If tops is not
 *                   NULL, a kernel that gives_tops stores 16 floats for each row there: the largest of
 *                   them is the row's largest
 *     t = (float)acc * scale[j] + bias[j]                                  plain operand
 *     t = ((float)lo * scale[j] + (float)hi * scale2[j]) + bias[j]         twin operand
 *     t = (float)(low * lo + high * hi) * scale[j] + bias[j]               joined twin: high is not 0
 *     t = acc + bias[j]                                                    float32 operands
 *     t = ((u_0 + u_1) + u_2 + ...) + bias[j]                              K-blocks, see below
 *     if gelu:       t = GELU(t); IN_UNITS, of CODE output without residual, with mul, whose t is in
 *                    units: by the cubics that are for these               (numerics.h)
 *     if residual:   t = t + residual[i][j]           (codes: ((float)code - zero) * scale)
 *     if mul:        t = t * mul[j] + add[j], with mul_neg[j] for mul[j] where t is negative, -0 too (if mul_neg)
 *     F32 output:    store t
 *     CODE output:   store the byte round_half_even(clamp(t, lo, hi)); NaN becomes lo
 *
 * Every vector is indexed by the column in the whole matrix and padded by its owner so that reading
 * up to a multiple of 64 columns is legal. Aligned to 64 bytes.
 */
enum { QVITP_OUT_F32, QVITP_OUT_S32, QVITP_OUT_CODE, QVITP_OUT_SUM };
enum { QVITP_RESIDUAL_NONE, QVITP_RESIDUAL_F32, QVITP_RESIDUAL_U8, QVITP_RESIDUAL_S8 };

struct qvitp_epilogue {
    const int32_t *init;  /* the accumulators' first values: -zero_point * column sum; never NULL    */
    const float *scale;   /* integer kernels only: never NULL unless the output is S32 or SUM        */
    const float *scale2;  /* twin kernels only, and not of joined ranges                             */
    const float *bias;    /* never NULL unless the output is S32 or SUM                              */
    const float *mul;     /* NULL: t is stored as it is                                              */
    const float *mul_neg; /* NULL, or the multiplier of negative t (twin GELU codes)                 */
    const float *add;     /* never NULL where mul is not                                             */
    float lo, hi;         /* CODE: whole numbers, the lowest and the highest code                    */
    float residual_scale, residual_zero; /* residual codes                                           */
    int32_t low, high;    /* twin kernels: 0, or joined: 1 or -1, and 1 to 256                        */
    int32_t out, residual, gelu; /* QVITP_OUT_*, QVITP_RESIDUAL_*, QVITP_GELU_* (numerics.h)         */
    size_t k_blocks;      /* 0 or 1: one scale over all of k                                         */
    float *tops;          /* SUM: NULL, or [m][16], aligned to 64                                    */
    const size_t *k_ends; /* [k_blocks] where each ends, multiples of kstep that rise strictly, the  */
                          /* last to the tile's k                                                    */
};

/*
 * K-blocks: the scales of the operands change along k (PTQ-SL, arXiv 2110.07809). Block h has sums of
 * its own, which start at init[p] (twins: 0), and u_h = (float)acc_h * scale[p], of twins (float)lo_h *
 * scale[p] + (float)hi_h * scale2[p], p = qvitp_k_place(nr, k_blocks, h, j), of joined ones as above. The u
 * are added in rising h, from u_0 on. Only kernels of the slots whose names end in _k take them. These take
 * one block too, and then do not read k_ends; whoever runs them through these slots does not ask for S32.
 *
 * So init, scale and scale2 lie panel by panel, beside those of the panel's next block, and a kernel reads
 * them from one end to the other: a vector for each block would lie a multiple of 4096 bytes from the next
 * one where n is a multiple of 1024, in the same few lines of the cache. They are [k_blocks] times as long.
 */
static inline size_t qvitp_k_place(size_t nr, size_t k_blocks, size_t block, size_t column)
{
    return (column / nr * k_blocks + block) * nr + column % nr;
}

/*
 * ---- Matrix products: out[m x n] = epilogue(A[m x k] * B[k x n]) ----------------------------------
 *
 * One call computes one tile: 1 <= m <= mr, 1 <= n <= nr; a wide kernel takes any n >= 1, whose panels
 * follow one another in b, and a tall one any m >= 1. The kernel owns its edges: it writes exactly
 * m x n elements of out (SUM output: and may write what is behind them in a row's last panel) and reads
 * exactly m x n of the residual.
 *
 * A: m rows of k codes. `a` is row-major with lda bytes between rows, in the kernel's own element
 *    form (below); k is a multiple of kstep, not 0, and every row really has k elements (the operation stages
 *    rows in scratch memory, zero-padded, where the caller's memory does not have that form).
 *       QVITP_A_U8    bytes, unsigned
 *       QVITP_A_S16   16-bit integers
 *       QVITP_A_F32   float32
 *    Twin kernels take two planes, a = the low range's magnitudes and a2 = the high range's, where
 *    one of the two is zero in every position and none is above the tile's a_max; they accumulate lo
 *    and hi apart and start at 0 (init is not read).
 *
 * B: one packed panel of nr columns, zero-padded, aligned to 64 bytes:
 *
 *       for each k step (kstep values of k):   nr columns x kstep values, column by column
 *
 *       b[((k / kstep) * nr + column) * kstep + k % kstep]         int8, or float32 in gemm_f32
 *
 * Integer kernels accumulate exactly in int32 (wrapping is excluded by the plan). No value of B is above
 * the tile's b_max in magnitude: 1 to 128, and in the slots of small weights (gemm_u8s7) at most
 * QVITP_S7_MAX. What else is exact then, as sums in 16 bits, a kernel may make use of.
 * gemm_f32 adds a[k] * b[k] in rising k into one accumulator per element that starts at +0; whether
 * each step is fused is the instruction set's choice, and its only freedom.
 */
enum { QVITP_A_U8, QVITP_A_S16, QVITP_A_F32 };
enum { QVITP_S7_MAX = 64 };

struct qvitp_tile {
    size_t m, n, k;
    const void *a, *a2;
    ptrdiff_t lda; /* bytes */
    const void *b;
    int32_t a_max; /* twin kernels only: 1 to 255, and a_max * b_max at most the kernel's ab_max */
    int32_t b_max; /* integer kernels only */
    size_t column; /* of the tile's first column, into the epilogue's vectors */
    const void *residual;
    ptrdiff_t ldr; /* elements */
    void *out;
    ptrdiff_t ldo; /* elements */
};

/* The number of K-blocks, and where one ends: of an epilogue that says nothing of them, one, all of k. */
static inline size_t qvitp_k_count(const struct qvitp_epilogue *epilogue)
{
    return epilogue->k_blocks > 1 ? epilogue->k_blocks : 1;
}
static inline size_t qvitp_k_end(size_t block, const struct qvitp_tile *tile,
                                 const struct qvitp_epilogue *epilogue)
{
    return epilogue->k_blocks > 1 ? epilogue->k_ends[block] : tile->k;
}

typedef void qvitp_gemm_fn(const struct qvitp_tile *tile, const struct qvitp_epilogue *epilogue);

/* A whole int8 operand into panels: rows of k values, [n][k], or by_k, [k][n]. Every byte of the panels
 * is written. */
struct qvitp_pack {
    size_t n, k, nr; /* the kernel's */
    const int8_t *rows;
    ptrdiff_t stride;         /* between rows */
    const int32_t *row_index; /* NULL, or the place of each row */
    int32_t by_k;
    int8_t *panels;
};
typedef void qvitp_pack_fn(const struct qvitp_pack *operand);

struct qvitp_gemm_kernel {
    const char *name;
    qvitp_gemm_fn *run;
    uint16_t mr, nr, kstep;
    uint16_t a_form;         /* QVITP_A_* */
    uint16_t wide, tall;     /* 1: takes many panels, and rows, to finish one panel while it sums the next */
    uint16_t gives_tops;     /* 1: see SUM output                                                    */
    qvitp_pack_fn *pack;     /* NULL: lib/plan/pack.c does it; not of float kernels */
    uint16_t ab_max;         /* of twins, where pairs of products are added in 16 bits; 0: no limit */
    uint16_t macs_per_cycle; /* the instruction set's peak on a core of full vector width */
};

/*
 * ---- Softmax of rows, to probabilities --------------------------------------------------------------
 *
 *     s[j] = scores[j] (+ bias[j]) (+ mask[j])          in this order, where given
 *     top  = the largest s[j] (NaN is passed over; -infinity if there is none)
 *     e[j] = exp(s[j] - top)                            (numerics.h; NaN gives 0)
 *     sum  = e in 16 interleaved partials, tree         (partial p takes j = p, p + 16, ...)
 *     dst[j] = e[j] * (1 / sum);  top infinite: 0
 *
 * Many rows, so that a kernel can begin one while it waits for the largest score, or the sum, of another.
 * scores is scratch memory of the caller, each row aligned to 64, padded to a multiple of 32 floats (content
 * of the padding undefined); the kernel may overwrite it. Rows of bias, mask and dst have exactly n elements.
 */
struct qvitp_softmax {
    size_t m, n; /* rows and columns, >= 1 */
    float *scores;
    const float *bias, *mask; /* or NULL */
    float *dst;
    ptrdiff_t lds, ldb, ldm, ldd; /* elements between rows of scores, bias, mask and dst */
};
typedef void qvitp_softmax_fn(const struct qvitp_softmax *rows);

/*
 * ---- Softmax of rows, to codes ----------------------------------------------------------------------
 *
 * In whole numbers of 16 bits, as numerics.h says; s, top, scores and their rows as above.
 *
 *     depth[j] = round_half_even(min((top - s[j]) * steps, 65535))        (NaN is 65535)
 *     e[j]     = ((mantissa(depth[j]) >> depth[j] / 1024) + 1) >> 1       in 2^15ths
 *     sum      = e[0] + ... + e[n - 1]
 *     top infinite: every output, and the row's sum, is 0
 *     codes:   round(min(e[j] * (mul / sum), hi))
 *     twin (half > 0): u = e[j] * (mul / sum); if u < half: min(round(u), half - 1),
 *              else half + min(round(e[j] * (mul2 / sum)), half - 1)
 *     relative (rows->sum not NULL): mul and mul2 are divided by 2^15 in place of the sum, which is stored for who
 *              divides later, in units of 2^15
 *
 * Twins are written as the products that read them want them (struct qvitp_stage): as codes, or, if dst2 is not NULL, as
 * two planes, or, if high is not 0, joined, which bytes then hold.
 *
 * What is written as e[j] * (mul / sum) is whole too: how it is rounded says lib/ref/ref_softmax.c.
 */
struct qvitp_softmax_codes {
    size_t m, n; /* rows and columns, >= 1; n is at most QVITP_SOFTMAX_MOST */
    float *scores;
    const float *bias, *mask; /* or NULL */
    uint8_t *dst, *dst2;          /* dst2: NULL, or the plane of high codes less half, laid out as dst */
    int32_t high;                 /* 0, or what a high code less half counts */
    const float *tops;            /* only of sums: NULL, or [m][16], of whose 16 the largest is the row's */
    float *sum;                   /* [m]; NULL, or relative */
    ptrdiff_t lds, ldb, ldm, ldd; /* elements between rows of scores, bias, mask and dst */
    float steps;                  /* depth of a score that is less by one: not negative */
    float mul, mul2, hi, half;    /* none is negative; hi is at most 255 */
    int32_t sums; /* 1: scores are whole numbers, neither bias nor mask are given, and no depth reaches 2^31 */
};
typedef void qvitp_softmax_codes_fn(const struct qvitp_softmax_codes *rows);

/*
 * ---- Layer normalisation of rows, to floats or to codes -------------------------------------------
 *
 *     mean = sum(x) / n                     sums in 16 interleaved partials, then the tree
 *     d[j] = x[j] - mean
 *     rstd = 1 / sqrt(sum(d * d) / n + eps)
 *     t    = (d[j] * rstd) * gamma[j] + beta[j]
 *     F32: store t;  CODE: store the byte round_half_even(clamp(t, lo, hi)), NaN becomes lo
 *
 * The plan folds the output's scale, shift and zero point into gamma and beta. Exactly n elements of
 * gamma, beta and rows of x and dst are touched; x may be dst. Many rows, because the sums of one are a
 * chain of additions that wait for each other, and those of several are several chains.
 */
struct qvitp_layer_norm {
    size_t m, n; /* rows and columns, >= 1 */
    const float *x, *gamma, *beta;
    void *dst;          /* float or byte */
    ptrdiff_t ldx, ldd; /* elements between rows of x and dst */
    float eps, lo, hi;
    int32_t out; /* QVITP_OUT_F32 or QVITP_OUT_CODE */
};
typedef void qvitp_layer_norm_fn(const struct qvitp_layer_norm *rows);

/*
 * ---- Rescaling of one row by a factor of its own, to floats or to codes -----------------------------
 *
 *     t = x[j] * factor
 *     if mul: t = t * mul[j] + add[j]
 *     F32: store t;  CODE: store the byte round_half_even(clamp(t, lo, hi)), NaN becomes lo
 *
 * What the epilogue of a product does, for products whose rows are scaled. Exactly n elements of x, mul,
 * add and dst are touched.
 */
struct qvitp_rescale {
    size_t n; /* >= 1 */
    const float *x;
    const float *mul, *add; /* both, or NULL */
    void *dst;              /* float or byte */
    float factor, lo, hi;
    int32_t out; /* QVITP_OUT_F32 or QVITP_OUT_CODE */
};
typedef void qvitp_rescale_fn(const struct qvitp_rescale *row);

/*
 * ---- Encoding of a run of floats with one scale ----------------------------------------------------
 *
 * The public encode: it divides, as ONNX QuantizeLinear does.
 *
 *     UNIFORM       round_half_even(clamp(x / scale, lo - zero, hi - zero)) + zero
 *     TWIN_GELU     x < 0: round_half_even(max(x / scale, lo - zero)) + zero,
 *                   else round_half_even(min(x / scale2, hi - zero)) + zero
 *     TWIN_SOFTMAX  u = max(x / scale, 0); u < half: round_half_even(min(u, half - 1)),
 *                   else half + round_half_even(min(x / scale2, half - 1));  half = (hi + 1) / 2
 *
 * NaN becomes the lowest code, lo; of twins the code of 0. Exactly n elements are touched; codes are bytes.
 */
enum { QVITP_ENCODE_UNIFORM, QVITP_ENCODE_TWIN_SOFTMAX, QVITP_ENCODE_TWIN_GELU };

struct qvitp_encode {
    size_t n; /* >= 1 */
    const float *x;
    uint8_t *codes; /* two's complement where the scheme is signed */
    float scale, scale2, zero, lo, hi;
    int32_t scheme; /* QVITP_ENCODE_* */
};
typedef void qvitp_encode_fn(const struct qvitp_encode *run);

/*
 * ---- Staging: rows of codes into the form that a product reads -------------------------------------
 *
 * Copies n codes of each of m rows into the A form of integer products, zero-padded to `padded` elements. u8
 * codes are copied, s8 codes get + 128; twin codes are split into magnitudes: low range to dst, high
 * range to dst2.
 *
 *     twin softmax  code < half: low = code, high = 0; else low = 0, high = code - half
 *     twin GELU     code < zero: low = zero - code, high = 0;   else low = 0, high = code - zero
 *
 * Joined twins become one plane of values, which its elements can hold:
 *
 *     softmax       code < half: code;  else (code - half) * high
 *     GELU          code < zero: code - zero;  else (code - zero) * high;      in bytes + 128
 */
enum {
    QVITP_STAGE_U8,
    QVITP_STAGE_S8,
    QVITP_STAGE_TWIN_SOFTMAX,
    QVITP_STAGE_TWIN_GELU,
    QVITP_STAGE_JOINED_SOFTMAX,
    QVITP_STAGE_JOINED_GELU
};

struct qvitp_stage {
    size_t m, n, padded; /* m >= 1, 1 <= n <= padded */
    const uint8_t *codes;
    void *dst, *dst2;   /* aligned to 2; dst2 for twins only */
    ptrdiff_t ldc, ldd; /* elements between rows of codes, and of both of dst */
    int32_t form;       /* QVITP_STAGE_* */
    int32_t half;       /* softmax: 2^(bits - 1) */
    int32_t zero;       /* GELU: the code of 0, -128 to 127 */
    int32_t high;       /* joined: 1 to 256 */
};
typedef void qvitp_stage_fn(const struct qvitp_stage *rows);

/* Calls `one` for every row, with the pointers at it; an element of dst and dst2 has `size` bytes. */
static inline void qvitp_stage_each(const struct qvitp_stage *rows, ptrdiff_t size,
                                    qvitp_stage_fn *one)
{
    struct qvitp_stage row = *rows;
    for (size_t i = 0; i < rows->m; i++, row.codes += rows->ldc) {
        one(&row);
        row.dst = (uint8_t *)row.dst + rows->ldd * size;
        if (row.dst2) row.dst2 = (uint8_t *)row.dst2 + rows->ldd * size;
    }
}

/*
 * ---- Expansion: packed panels of 4-bit codes into the bytes that a product reads --------------------
 *
 * In a packed panel byte i of a step, of half as many bytes, holds in its low bits the code of byte i of
 * the step, and in its high bits that of the byte half a step behind. Each becomes
 *
 *     dst = code - zero[column]      code 0..15, zero 0..15
 *
 * `steps` steps of one K-block, whose columns have one zero each. In the scalar table nr * kstep is even,
 * in all others kstep is 4 and nr a multiple of 16.
 */
struct qvitp_expand {
    size_t nr, kstep, steps;
    const uint8_t *codes; /* [steps][nr * kstep / 2] */
    const uint8_t *zero;  /* [nr] */
    int8_t *dst;          /* [steps][nr * kstep] */
};
typedef void qvitp_expand_fn(const struct qvitp_expand *panel);

/*
 * ---- Reordering: the bytes of a row, in place --------------------------------------------------------
 *
 *     bytes[j] = what bytes[order[j]] was
 */
enum { QVITP_REORDER_MOST = 1024 };

struct qvitp_reorder {
    size_t n;              /* 1 to QVITP_REORDER_MOST */
    const uint16_t *order; /* [n], then zeros to a multiple of 32; aligned to 64; all below n */
    uint8_t *bytes;
};
typedef void qvitp_reorder_fn(const struct qvitp_reorder *row);

/*
 * ---- The tables ------------------------------------------------------------------------------------
 */
struct qvitp_named_softmax {
    const char *name;
    qvitp_softmax_fn *run;
};
struct qvitp_named_softmax_codes {
    const char *name;
    qvitp_softmax_codes_fn *run;
};
struct qvitp_named_layer_norm {
    const char *name;
    qvitp_layer_norm_fn *run;
};
struct qvitp_named_rescale {
    const char *name;
    qvitp_rescale_fn *run;
};
struct qvitp_named_encode {
    const char *name;
    qvitp_encode_fn *run;
};

struct qvitp_kernels {
    const char *isa;
    uint64_t needs; /* QVIT_ISA_* bits, all of which the CPU and the operating system must offer */
    const struct qvitp_gemm_kernel *gemm_u8s8; /* plain operand                                      */
    const struct qvitp_gemm_kernel *gemm_u8s7; /* the same with small weights; not NULL where        */
                                               /* gemm_u8s8 is not, nor may it be slower              */
    const struct qvitp_gemm_kernel *gemm_t8s8; /* twin operand                                       */
    const struct qvitp_gemm_kernel *gemm_u8s8_k; /* the same three for products in K-blocks           */
    const struct qvitp_gemm_kernel *gemm_u8s7_k;
    const struct qvitp_gemm_kernel *gemm_t8s8_k;
    const struct qvitp_gemm_kernel *gemm_f32;
    qvitp_stage_fn *stage;     /* to QVITP_A_U8                                                      */
    qvitp_stage_fn *stage_s16; /* to QVITP_A_S16, one plane; NULL where no product reads that        */
    qvitp_expand_fn *expand;
    qvitp_reorder_fn *reorder;
    const struct qvitp_named_softmax *softmax;
    const struct qvitp_named_softmax_codes *softmax_codes;
    const struct qvitp_named_layer_norm *layer_norm;
    const struct qvitp_named_rescale *rescale;
    const struct qvitp_named_encode *encode;
};

extern const struct qvitp_kernels qvitp_kernels_scalar;
extern const struct qvitp_kernels qvitp_kernels_avx2;
extern const struct qvitp_kernels qvitp_kernels_avx2vnni;
extern const struct qvitp_kernels qvitp_kernels_avx512vnni;

#endif
