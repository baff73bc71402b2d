/*
 * test_linear_edges.c - linear plans where kernels could go wrong: every remainder of every tile, the
 * longest sums of the most extreme codes.
 */
#include "simulated_linear.h"

/* ---- edges of tiles ---- */

/* Every remainder of every tile: n and k to more than two of the largest, and m between. */
static void check_edge(qvit_scheme input, size_t m, size_t n, size_t k)
{
    struct layer l = {.kind = {.input = input,
                               .output = (enum output)test_below(OUTPUTS),
                               .residual = (enum residual)test_below(RESIDUALS)},
                      .rank = 2,
                      .dims = {m, n},
                      .rows = m,
                      .n = n,
                      .k = k};
    if (!possible(&l.kind)) l.kind.residual = RES_NONE, l.kind.output = OUT_U8;
    randomise(&l.kind);
    make_layer(&l);
    struct view out = output_of(&l, l.engine);
    check_output(&l, &out.t);
    for (size_t i = 1; i < isa_variant_count() && input; i++) {
        struct shuffled alone = {.workers = 1};
        qvit_executor executor = shuffled_hook(&alone);
        struct view other = output_of(&l, engine_with(isa_variants[i], NULL, &executor));
        CHECK_SAME(&other.t, &out.t);
    }
    layer_free(&l);
}

static void every_edge_of_every_tile(qvit_scheme input)
{
    for (size_t n = 1; n <= 65; n++)
        for (size_t k = 1; k <= 9; k++)
            for (size_t m = 1 + (n + k) % 9; m <= 29; m += 9) check_edge(input, m, n, k);
}

static void every_edge_of_plain_codes(void)
{
    every_edge_of_every_tile(QVIT_SCHEME_ASYMMETRIC);
    every_edge_of_every_tile(QVIT_SCHEME_SYMMETRIC);
}

static void every_edge_of_twin_codes(void)
{
    every_edge_of_every_tile(QVIT_SCHEME_TWIN_SOFTMAX);
    every_edge_of_every_tile(QVIT_SCHEME_TWIN_GELU);
}

static void every_edge_of_floats(void) { every_edge_of_every_tile(0); }

/* ---- sums ---- */

/* Sums as long as int32 allows, of the extreme codes: nothing saturates on the way. Weights are symmetric,
 * or, where their zero is not negative, asymmetric. */
static void longest_sums_are_exact(qvit_scheme scheme, int32_t zero, int low, int high,
                                   int32_t bits, int32_t weight_zero, size_t k)
{
    for (size_t i = 0; i < isa_variant_count(); i++) {
        const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
        struct layer l = {.kind = {.input = scheme, .output = OUT_S32},
                          .rank = 2,
                          .dims = {2, 0},
                          .rows = 2,
                          .n = 3,
                          .k = k};
        l.make = (qvit_linear_options)QVIT_LINEAR_OPTIONS_INIT;
        l.make.input.quantizer = quantizer_layer(engine, scheme, 8, 0, 0.1f, 0, zero);
        l.make.input.dtype = qvit_quantizer_code_dtype(l.make.input.quantizer);
        qvit_scheme weight = weight_zero < 0 ? QVIT_SCHEME_SYMMETRIC : QVIT_SCHEME_ASYMMETRIC;
        l.make.weight.quantizer = quantizer_layer(
            engine, weight, bits, bits == 8 ? QVIT_QUANTIZER_NARROW : 0, 0.1f, 0, weight_zero);
        l.make.weight.dtype = qvit_quantizer_code_dtype(l.make.weight.quantizer);
        l.make.output.dtype = QVIT_DTYPE_S32;
        struct coder w = coder_at(l.make.weight.quantizer, 0, 0);
        l.weights = view_dense(l.make.weight.dtype, 2, (size_t[]){l.n, k});
        l.input = view_dense(l.make.input.dtype, 2, (size_t[]){2, k});
        l.make.weights = &l.weights.t;
        for (size_t p = 0; p < k; p++) {
            tensor_set(&l.weights.t, p, w.hi);
            tensor_set(&l.weights.t, k + p, w.lo);
            tensor_set(&l.weights.t, 2 * k + p, p % 2 ? w.hi : w.lo);
            tensor_set(&l.input.t, p, low);
            tensor_set(&l.input.t, k + p, high);
        }
        struct view out = output_of(&l, engine);
        check_output(&l, &out.t);
        release();
    }
}

static void longest_sums_of_unsigned_codes_are_exact(void)
{
    longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, 0, 0, 255, 8, -1, 2147483647 / (255 * 127));
    longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, 255, 0, 255, 8, -1, 2147483647 / (510 * 127));
    longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, 101, 0, 255, 8, -1, 2147483647 / (356 * 127));
}

static void longest_sums_of_signed_codes_are_exact(void)
{
    longest_sums_are_exact(QVIT_SCHEME_SYMMETRIC, 0, -128, 127, 8, -1, 2147483647 / (383 * 127));
}

/* Where kernels sum small weights in 16 bits. */
static void extreme_sums_of_every_width_are_exact(void)
{
    for (int32_t bits = 2; bits <= 8; bits++)
        for (int i = 0; i < 4; i++) {
            size_t k = 1 + test_below(i < 2 ? 100 : 3000);
            longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, i * 80, 0, 255, bits, -1, k);
            longest_sums_are_exact(QVIT_SCHEME_SYMMETRIC, 0, -128, 127, bits, -1, k);
        }
}

/* The furthest that weights of a width can lie from zero, above and below. */
static void extreme_sums_of_asymmetric_weights_are_exact(void)
{
    for (int32_t bits = 2; bits <= 7; bits++)
        for (int i = 0; i < 4; i++) {
            const int32_t most = (1 << bits) - 1, zeros[] = {0, most, most / 2, most / 3};
            size_t k = 1 + test_below(3000);
            longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, i * 80, 0, 255, bits, zeros[i], k);
        }
    longest_sums_are_exact(QVIT_SCHEME_ASYMMETRIC, 255, 0, 255, 7, 0, 2147483647 / (510 * 127));
}

/* Rows of 4-bit codes 15 and 0, as far from zero as they can be but in the first: -7, 15, -15. */
static void the_furthest_of_all_zeros_counts(void)
{
    enum { ROWS = 3, K = 200 };
    static const float scale[ROWS] = {1, 1, 1};
    static const int32_t zero[ROWS] = {7, 0, 15};
    for (size_t i = 0; i < isa_variant_count(); i++) {
        const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
        qvit_granularity_options by_row = QVIT_GRANULARITY_OPTIONS_INIT;
        by_row.rows = by_row.row_blocks = ROWS;
        qvit_granularity *rows;
        MUST(qvit_granularity_create(engine, &by_row, &rows, &why));
        keep(KEPT_GRANULARITY, rows, 0);
        struct layer l = {.kind = {.input = QVIT_SCHEME_ASYMMETRIC, .output = OUT_S32},
                          .rank = 2,
                          .dims = {1, 0},
                          .rows = 1,
                          .n = ROWS,
                          .k = K};
        l.make = (qvit_linear_options)QVIT_LINEAR_OPTIONS_INIT;
        l.make.input.quantizer = quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 1, 0, 0);
        l.make.weight.quantizer =
            quantizer_with(engine, QVIT_SCHEME_ASYMMETRIC, 4, 0, rows, scale, NULL, zero);
        l.make.input.dtype = l.make.weight.dtype = QVIT_DTYPE_U8;
        l.make.output.dtype = QVIT_DTYPE_S32;
        l.weights = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){ROWS, K});
        l.input = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){1, K});
        l.make.weights = &l.weights.t;
        fill_value(&l.input.t, 255);
        for (size_t p = 0; p < ROWS * K; p++) tensor_set(&l.weights.t, p, p / K == 1 ? 15 : 0);
        struct view out = output_of(&l, engine);
        check_output(&l, &out.t);
        release();
    }
}

/* On AVX2 weights of up to 7 bits, and with VNNI none. */
static void small_weights_have_a_kernel_of_their_own(void)
{
    for (size_t i = 0; i < isa_variant_count(); i++)
        for (int32_t bits = 2; bits <= 8; bits++) {
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
            struct view weights = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){5, 12});
            qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
            uint32_t flags = bits == 8 ? QVIT_QUANTIZER_NARROW : 0;
            o.input.quantizer = quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 1, 0, 3);
            o.input.dtype = QVIT_DTYPE_U8;
            o.weight.quantizer =
                quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, bits, flags, 1, 0, 0);
            o.weight.dtype = QVIT_DTYPE_S8;
            o.output.dtype = QVIT_DTYPE_F32;
            o.weights = &weights.t;
            fill_codes(&weights.t, -1, 1);
            qvit_plan *plan;
            MUST(qvit_linear_create(engine, &o, &plan, &why));
            int narrow = bits < 8 && !strcmp(qvit_engine_isa_name(engine), "avx2");
            if (!strstr(qvit_plan_kernel(keep_plan(plan)), narrow ? "u8s7" : "u8s8"))
                FAIL("%d bits: %s", (int)bits, qvit_plan_kernel(plan));
            release();
        }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(every_edge_of_plain_codes);
    RUN(every_edge_of_twin_codes);
    RUN(every_edge_of_floats);
    RUN(longest_sums_of_unsigned_codes_are_exact);
    RUN(longest_sums_of_signed_codes_are_exact);
    RUN(extreme_sums_of_every_width_are_exact);
    RUN(extreme_sums_of_asymmetric_weights_are_exact);
    RUN(the_furthest_of_all_zeros_counts);
    RUN(small_weights_have_a_kernel_of_their_own);
    return test_end();
}
