/*
 * test_decisions.c - what the header decided once, so that later versions need not break it.
 *
 * One small program for each decision: that it compiles is half of the test. Where a decision has
 * tests of its own elsewhere, the comment names them.
 */
#include "calibration.h"

/* (a) One sized struct of optional tensors, and the number of its first sample; parts of a sample
 * come in any order, and only numbers decide what is kept. All of it: test_determinism.c. */
static void a_parts_come_apart_and_in_any_order(void)
{
    qvit_tensor w = matrix(3, 4, 1), x = normals(3, (size_t[]){2, 5, 4}, 1);
    qvit_tensor g = normals(3, (size_t[]){2, 5, 3}, 1);
    struct bytes results[2];
    for (int apart = 0; apart < 2; apart++) {
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.input = &x, o.gradient = &g;
        if (apart) {
            qvit_tensor row = x;
            for (size_t i = 10; i-- > 0;) { /* backwards, row by row, the gradient first */
                row.dims[0] = row.dims[1] = 1;
                row.data = (float *)x.data + 4 * i;
                qvit_observation one = QVIT_OBSERVATION_INIT;
                one.first_sample = i / 5, one.first_row = i % 5, one.input = &row;
                MUST(qvit_calibrator_observe(c, &one, &why));
            }
            o.input = NULL;
        }
        MUST(qvit_calibrator_observe(c, &o, &why));
        solve(c, "mse", 4, 4, NULL);
        results[apart] = bytes_of_results(c, 1);
    }
    bool same = bytes_equal(&results[0], &results[1]);
    bytes_free(&results[0]), bytes_free(&results[1]);
    CHECK(same);
    give_back();
}

/* (b) Any subset of sites is solved, later ones are observed again behind the quantized prefix. */
static void b_a_model_is_solved_from_front_to_back(void)
{
    qvit_tensor w0 = matrix(6, 4, 1), w1 = matrix(3, 6, 1), x = matrix(40, 4, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w0, NULL), add_linear(c, QVIT_INPUT_GENERIC, &w1, NULL);
    double *exact = product_of(&x, &w0);
    qvit_tensor hidden = matrix(40, 6, 0);
    for (size_t i = 0; i < 240; i++) tensor_set(&hidden, i, exact[i]);
    free(exact);
    observe(c, 0, &x), observe(c, 1, &hidden);

    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    const size_t first[] = {0}, second[] = {1};
    o.recipe = "mse", o.weight_bits = o.input_bits = 4, o.use_quantized = 1;
    o.sites = first, o.site_count = 1;
    MUST(qvit_calibrator_solve(c, &o, &why));
    const qvit_result *r = result_of(c, 0);
    qvit_tensor xq = fake_of(input_of(r), &x), wq = weights_of(r);
    double *coarse = product_of(&xq, &wq);
    qvit_tensor behind = matrix(40, 6, 0);
    for (size_t i = 0; i < 240; i++) tensor_set(&behind, i, coarse[i]);
    free(coarse);
    qvit_observation later = QVIT_OBSERVATION_INIT;
    later.site = 1, later.input_quantized = &behind;
    MUST(qvit_calibrator_observe(c, &later, &why));
    o.sites = second;
    MUST(qvit_calibrator_solve(c, &o, &why));
    CHECK(result_of(c, 0) && result_of(c, 1));
    give_back();
}

/* (c) A result holds both quantizers, codes, bias, orders and the vectors of scales and shifts;
 * sites can be tied. What is in them: test_calibrator.c, test_calibrator_ties.c. */
static void c_a_result_has_a_place_for_everything(void)
{
    qvit_tensor w = matrix(4, 4, 1), x = matrix(20, 4, 1), bias = normals(1, (size_t[]){4}, 1);
    qvit_calibrator *c = calibrator_new(engine_new());
    for (int i = 0; i < 3; i++) add_linear(c, QVIT_INPUT_LAYER_NORM, &w, &bias);
    MUST(tie(c, QVIT_TIE_INPUT, 0, 1));    /* a LayerNorm and its readers */
    MUST(tie(c, QVIT_TIE_PRODUCER, 1, 2)); /* V and proj, fc1 and fc2 */
    for (size_t i = 0; i < 3; i++) observe(c, i, &x);
    solve(c, NULL, 8, 8, "equalize=0.5");
    const qvit_result *r = result_of(c, 1);
    CHECK(qvit_result_quantizer(r, QVIT_RESULT_INPUT));
    CHECK(qvit_result_quantizer(r, QVIT_RESULT_SECOND));
    const qvit_result_key keys[] = {QVIT_RESULT_WEIGHT_CODES, QVIT_RESULT_BIAS,
                                    QVIT_RESULT_INPUT_SCALE,  QVIT_RESULT_INPUT_SHIFT,
                                    QVIT_RESULT_OUTPUT_SCALE, QVIT_RESULT_OUTPUT_SHIFT,
                                    QVIT_RESULT_INPUT_ORDER,  QVIT_RESULT_OUTPUT_ORDER};
    const bool there[] = {true, true, true, false, true, false, false, false};
    for (size_t i = 0; i < 8; i++) {
        qvit_tensor t;
        MUST(qvit_result_tensor(r, keys[i], &t, &why)); /* absent is no error */
        CHECK_EQ(t.data != NULL, there[i]);
    }
    give_back();
}

/* (d) A plan is made from codes, quantizers and bias: these were never floats. */
static void d_a_plan_needs_no_float_weights(void)
{
    qvit_engine *engine = engine_new();
    int8_t codes[2][3] = {{1, -2, 3}, {-127, 0, 127}};
    uint8_t input[3] = {10, 20, 255};
    float bias[2] = {0.5f, -1}, output[2];
    qvit_tensor weights, b, in, out;
    qvit_tensor_init(&weights, codes, QVIT_DTYPE_S8, 2, (size_t[]){2, 3});
    qvit_tensor_init(&b, bias, QVIT_DTYPE_F32, 1, (size_t[]){2});
    qvit_tensor_init(&in, input, QVIT_DTYPE_U8, 1, (size_t[]){3});
    qvit_tensor_init(&out, output, QVIT_DTYPE_F32, 1, (size_t[]){2});
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    o.input = (qvit_port){QVIT_DTYPE_U8, 0,
                          quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.5f, 0, 12)};
    o.weight = (qvit_port){
        QVIT_DTYPE_S8, 0,
        quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 0.25f, 0, 0)};
    o.output.dtype = QVIT_DTYPE_F32;
    o.weights = &weights, o.bias = &b;
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &o, &plan, &why));
    memset(codes, 0, sizeof codes), memset(bias, 0, sizeof bias); /* everything was copied */
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &in, a.output = &out;
    a.workspace_size = qvit_linear_workspace_size(plan, 1);
    a.workspace = workspace(a.workspace_size);
    MUST(qvit_linear_run(plan, &a, &why));
    CHECK_NEAR(output[0], (-2 * 1 + 8 * -2 + 243 * 3) * 0.125 + 0.5, 1e-4);
    CHECK_NEAR(output[1], (-2 * -127 + 243 * 127) * 0.125 - 1, 1e-2);
    qvit_plan_destroy(plan);
    give_back();
}

/* (e) Every port is a type with a quantizer or without; the multipliers are vectors over the
 * outputs, before GELU (a scale for each row of weights) and after it (the consumer's scale and
 * shift). */
static void e_ports_and_vectors_before_and_after_gelu(void)
{
    enum { M = 9, N = 7, K = 11 };
    qvit_engine *engine = engine_new();
    qvit_granularity_options rows = QVIT_GRANULARITY_OPTIONS_INIT;
    rows.rows = N, rows.cols = K, rows.row_blocks = N;
    qvit_granularity *by_row;
    MUST(qvit_granularity_create(engine, &rows, &by_row, &why));
    keep(KEPT_GRANULARITY, by_row, 0);
    float scale[N];
    for (size_t j = 0; j < N; j++) scale[j] = 0.01f * (float)(j + 1);
    const qvit_quantizer *wq = quantizer_with(engine, QVIT_SCHEME_SYMMETRIC, 8,
                                              QVIT_QUANTIZER_NARROW, by_row, scale, NULL, NULL);
    const qvit_quantizer *xq = quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, 8, 0, 0.02f, 0, 0);
    const qvit_quantizer *rq = quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.1f, 0, 100);
    const qvit_quantizer *yq = quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 6, 0, 0.2f, 0, 20);
    qvit_tensor w = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){N, K}).t;
    qvit_tensor x = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){M, K}).t;
    qvit_tensor residual = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){M, N}).t;
    qvit_tensor y = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){M, N}).t;
    qvit_tensor bias = normals(1, (size_t[]){N}, 1), shift = normals(1, (size_t[]){N}, 1);
    qvit_tensor divisor = normals(1, (size_t[]){N}, 1);
    fill_codes(&w, -127, 127), fill_codes(&x, -128, 127), fill_codes(&residual, 0, 255);
    for (size_t j = 0; j < N; j++) tensor_set(&divisor, j, 0.5 + 0.3 * (double)j);

    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    o.input = (qvit_port){QVIT_DTYPE_S8, 0, xq}, o.weight = (qvit_port){QVIT_DTYPE_S8, 0, wq};
    o.residual = (qvit_port){QVIT_DTYPE_U8, 0, rq}, o.output = (qvit_port){QVIT_DTYPE_U8, 0, yq};
    o.weights = &w, o.bias = &bias, o.activation = QVIT_ACTIVATION_GELU;
    o.output_scale = &divisor, o.output_shift = &shift;
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &o, &plan, &why));
    keep_plan(plan);
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &x, a.residual = &residual, a.output = &y;
    a.workspace_size = qvit_linear_workspace_size(plan, M);
    a.workspace = workspace(a.workspace_size);
    MUST(qvit_linear_run(plan, &a, &why));
    for (size_t i = 0; i < M * N; i++) {
        size_t j = i % N;
        double sum = 0;
        for (size_t p = 0; p < K; p++)
            sum += tensor_get(&x, i / N * K + p) * tensor_get(&w, j * K + p);
        double v = sum * (double)scale[j] * (double)0.02f + tensor_get(&bias, j);
        v = v * 0.5 * (1 + erf(v / sqrt(2))) + (tensor_get(&residual, i) - 100) * (double)0.1f;
        v = (v - tensor_get(&shift, j)) / tensor_get(&divisor, j) / (double)0.2f + 20;
        double expected = v < 0 ? 0 : v > 63 ? 63 : v;
        CHECK_NEAR(tensor_get(&y, i), expected, 0.501); /* the nearest code, but for float sums */
    }
    give_back();
}

/* (f) One sized struct of arguments; attention takes other tokens for keys than for queries, a
 * bias, a mask, a leading batch, and rows by number. */
static void check_attention(bool windows)
{
    enum { B = 2, T = 3, S = 5, H = 2, D = 4, ROWS = 7 };
    qvit_engine *engine = engine_new();
    const size_t rows_dims[4] = {1, ROWS, H, D}, batch_dims[4] = {B, T, H, D};
    const size_t *query_dims = windows ? rows_dims : batch_dims;
    qvit_tensor q = normals(4, query_dims, 1), y = zeros(4, query_dims);
    qvit_tensor k = normals(4, (size_t[]){B, S, H, D}, 1),
                v = normals(4, (size_t[]){B, S, H, D}, 1);
    qvit_tensor bias = normals(4, (size_t[]){1, H, T, S}, 1),
                mask = zeros(4, (size_t[]){B, 1, T, S});
    int32_t numbers[B][T] = {{6, 0, 2}, {5, 1, 3}}; /* row 4 belongs to no window */
    qvit_tensor rows;
    qvit_tensor_init(&rows, numbers, QVIT_DTYPE_S32, 2, (size_t[]){B, T});
    for (size_t i = 0; i < B * T * S; i++)
        if (i % 3 == 1) tensor_set(&mask, i, -INFINITY);
    fill_value(&y, 77);

    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};
    o.query = o.key = o.value = o.probability = o.output = f32;
    o.heads = H, o.head_dim = D, o.score_scale = 0.5f;
    qvit_plan *plan;
    MUST(qvit_attention_create(engine, &o, &plan, &why));
    keep_plan(plan);
    qvit_attention_args a = QVIT_ATTENTION_ARGS_INIT;
    a.query = &q, a.key = &k, a.value = &v, a.bias = &bias, a.mask = &mask;
    a.query_rows = windows ? &rows : NULL, a.output = &y;
    a.workspace_size = qvit_attention_workspace_size(plan, T, S);
    a.workspace = workspace(a.workspace_size);
    MUST(qvit_attention_run(plan, &a, &why));
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t h = 0; h < H; h++) {
                size_t row = windows ? (size_t)numbers[b][t] : b * T + t, at = (row * H + h) * D;
                double e[S], sum = 0, out[D] = {0};
                for (size_t s = 0; s < S; s++) {
                    double score = 0;
                    for (size_t d = 0; d < D; d++)
                        score +=
                            tensor_get(&q, at + d) * tensor_get(&k, ((b * S + s) * H + h) * D + d);
                    e[s] = exp(0.5 * score + tensor_get(&bias, (h * T + t) * S + s) +
                               tensor_get(&mask, (b * T + t) * S + s));
                    sum += e[s];
                }
                for (size_t s = 0; s < S; s++)
                    for (size_t d = 0; d < D; d++)
                        out[d] += e[s] / sum * tensor_get(&v, ((b * S + s) * H + h) * D + d);
                for (size_t d = 0; d < D; d++) CHECK_NEAR(tensor_get(&y, at + d), out[d], 1e-5);
            }
    for (size_t i = 0; windows && i < H * D; i++) CHECK_NEAR(tensor_get(&y, 4 * H * D + i), 77, 0);
    give_back();
}

static void f_attention_takes_batches_masks_and_other_keys(void) { check_attention(false); }

static void f_windows_are_rows_by_number(void) { check_attention(true); }

/* (g) A quantizer's numbers are arrays under keys: this program would print those of schemes that
 * are not invented yet. */
static void g_parameters_are_arrays_under_keys(void)
{
    qvit_engine *engine = engine_new();
    const qvit_scheme schemes[] = {QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC,
                                   QVIT_SCHEME_TWIN_SOFTMAX, QVIT_SCHEME_TWIN_GELU};
    const size_t arrays[] = {1, 2, 2, 3}; /* of a twin GELU the zero point is one that is not 0 */
    for (size_t i = 0; i < 4; i++) {
        const qvit_quantizer *q = quantizer_layer(engine, schemes[i], 8, 0, 0.5f, 0.25f, 3);
        size_t found = 0;
        for (qvit_parameter_key key = 1; key < 100; key++) {
            qvit_parameter p;
            if (qvit_quantizer_parameter(q, key, &p, NULL)) continue;
            CHECK(p.key == key && p.data && p.count == 1);
            CHECK(p.dtype == QVIT_DTYPE_F32 || p.dtype == QVIT_DTYPE_S32);
            found++;
        }
        CHECK_EQ(found, arrays[i]);
    }
    give_back();
}

/* (h) Every call that can fail ends with an optional qvit_error; each here is one that fails. */
static void h_every_call_that_can_fail_says_why(void)
{
    qvit_error e;
    int calls = 0;
#define FAILS(call)                                                                                \
    do {                                                                                           \
        qvit_error *error = &e;                                                                    \
        memset(&e, 0xA5, sizeof e);                                                                \
        qvit_status told = (call);                                                                 \
        CHECK(told != QVIT_OK);                                                                    \
        CHECK_EQ(e.status, told);                                                                  \
        CHECK_EQ(e.offset, 0);                                                                     \
        CHECK(e.text[0] && memchr(e.text, 0, sizeof e.text));                                      \
        error = NULL;                                                                              \
        CHECK_EQ((call), told);                                                                    \
        calls++;                                                                                   \
    } while (0)
    FAILS(qvit_engine_create(NULL, NULL, error));
    FAILS(qvit_granularity_create(NULL, NULL, NULL, error));
    FAILS(qvit_quantizer_create(NULL, NULL, NULL, error));
    FAILS(qvit_quantizer_parameter(NULL, 0, NULL, error));
    FAILS(qvit_quantizer_encode(NULL, NULL, NULL, error));
    FAILS(qvit_quantizer_decode(NULL, NULL, NULL, error));
    FAILS(qvit_quantizer_fake(NULL, NULL, NULL, error));
    FAILS(qvit_calibrator_create(NULL, NULL, NULL, error));
    FAILS(qvit_calibrator_add_site(NULL, NULL, NULL, error));
    FAILS(qvit_calibrator_tie(NULL, 0, NULL, 0, error));
    FAILS(qvit_calibrator_observe(NULL, NULL, error));
    FAILS(qvit_calibrator_solve(NULL, NULL, error));
    FAILS(qvit_calibrator_result(NULL, 0, NULL, error));
    FAILS(qvit_result_tensor(NULL, 0, NULL, error));
    FAILS(qvit_linear_create(NULL, NULL, NULL, error));
    FAILS(qvit_linear_run(NULL, NULL, error));
    FAILS(qvit_matmul_create(NULL, NULL, NULL, error));
    FAILS(qvit_matmul_run(NULL, NULL, error));
    FAILS(qvit_attention_create(NULL, NULL, NULL, error));
    FAILS(qvit_attention_run(NULL, NULL, error));
    FAILS(qvit_layer_norm_create(NULL, NULL, NULL, error));
    FAILS(qvit_layer_norm_run(NULL, NULL, error));
    FAILS(qvit_quantize_create(NULL, NULL, NULL, error));
    FAILS(qvit_quantize_run(NULL, NULL, error));
    CHECK_EQ(calls, 24);
}

/* (i) For other languages: enumerations are int32_t, structs have no surprises, nothing but
 * pointers and numbers is passed. _INIT and _init(): test_options_growth.c. */
#define IS_INT32(type) _Static_assert(sizeof(type) == 4 && (type)-1 < 0, #type " is int32_t")
IS_INT32(qvit_status);
IS_INT32(qvit_log_level);
IS_INT32(qvit_dtype);
IS_INT32(qvit_scheme);
IS_INT32(qvit_parameter_key);
IS_INT32(qvit_site_type);
IS_INT32(qvit_input_kind);
IS_INT32(qvit_tie);
IS_INT32(qvit_result_key);
IS_INT32(qvit_activation);
_Static_assert(sizeof(qvit_error) == 256, "qvit_error never changes");
_Static_assert(offsetof(qvit_error, offset) == 8 && offsetof(qvit_error, text) == 16, "qvit_error");
_Static_assert(offsetof(qvit_tensor, dtype) == sizeof(void *), "qvit_tensor never changes");
_Static_assert(offsetof(qvit_tensor, dims) == sizeof(void *) + 8, "qvit_tensor never changes");
_Static_assert(sizeof(qvit_tensor) == sizeof(void *) + 8 + 2 * QVIT_MAX_RANK * sizeof(size_t),
               "qvit_tensor never changes");
_Static_assert(sizeof(qvit_port) == 8 + sizeof(void *), "qvit_port never changes");
_Static_assert(offsetof(qvit_solve_options, struct_size) == 0, "struct_size comes first");

static void i_calls_fit_a_foreign_language(void)
{
    /* Pointers to functions of the types that a binding would write down by hand. */
    int32_t (*create)(const qvit_engine_options *, qvit_engine **, qvit_error *) =
        qvit_engine_create;
    void (*init)(qvit_engine_options *, size_t) = qvit_engine_options_init;
    int32_t (*parameter)(const qvit_quantizer *, int32_t, qvit_parameter *, qvit_error *) =
        qvit_quantizer_parameter;
    const char *(*name)(int32_t) = qvit_status_name;
    qvit_engine_options options;
    init(&options, sizeof options);
    qvit_engine *engine;
    CHECK_EQ(create(&options, &engine, NULL), 0);
    CHECK_EQ(parameter(NULL, 1, NULL, NULL), 1);
    CHECK_STR(name(0), "ok");
    qvit_engine_destroy(engine);
}

/* (j) Codes of up to 6 bits are packed along the last dimension, low bits first: also the weight
 * codes of a result, and what they take is what is stored. More: test_tensor.c. */
static const qvit_result *solved_weights(const double values[6], int32_t bits)
{
    qvit_tensor w = zeros(2, (size_t[]){2, 3}), x = matrix(4, 3, 1);
    for (size_t i = 0; i < 6; i++) tensor_set(&w, i, values[i]);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w, NULL);
    observe(c, 0, &x);
    solve(c, "minmax", bits, 8, NULL);
    return result_of(c, 0);
}

static void j_weight_codes_are_packed(void)
{
    /* The largest of each row gives a scale of 1. */
    const qvit_result *r = solved_weights((double[]){7.5, -7.5, 1, 2, 7.5, -1}, 4);
    qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
    CHECK_EQ(codes.dtype, QVIT_DTYPE_S4);
    CHECK_EQ(codes.strides[0], 4);
    const unsigned char nibbles[4] = {0x87, 0x01, 0x72, 0x0F};
    CHECK(!memcmp(codes.data, nibbles, sizeof nibbles));
    CHECK_EQ(qvit_result_weight_bytes(r), 4 + 2 * sizeof(float));

    r = solved_weights((double[]){31.5, -31.5, 1, 2, 31.5, -1}, 6);
    codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
    CHECK_EQ(codes.dtype, QVIT_DTYPE_S6);
    CHECK_EQ(codes.strides[0], 4);
    /* 31 | 32 << 6 | 1 << 12; 2 | 31 << 6 | 63 << 12 */
    const unsigned char groups[6] = {0x1F, 0x18, 0x00, 0xC2, 0xF7, 0x03};
    CHECK(!memcmp(codes.data, groups, sizeof groups));
    CHECK_EQ(qvit_result_weight_bytes(r), 6 + 2 * sizeof(float));
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(a_parts_come_apart_and_in_any_order);
    RUN(b_a_model_is_solved_from_front_to_back);
    RUN(c_a_result_has_a_place_for_everything);
    RUN(d_a_plan_needs_no_float_weights);
    RUN(e_ports_and_vectors_before_and_after_gelu);
    RUN(f_attention_takes_batches_masks_and_other_keys);
    RUN(g_parameters_are_arrays_under_keys);
    RUN(h_every_call_that_can_fail_says_why);
    RUN(i_calls_fit_a_foreign_language);
    RUN(j_weight_codes_are_packed);
    RUN(f_windows_are_rows_by_number);
    return test_end();
}
