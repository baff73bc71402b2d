/*
 * test_linear.c - linear plans against a simulation in double precision, and against themselves: on
 * every instruction set, with any number of workers, and row by row.
 */
#include "simulated_linear.h"

#include <pthread.h>

/* ---- against themselves ---- */

/* Row `row` of a tensor, as a tensor of rank 1. */
static qvit_tensor row_of(const qvit_tensor *t, size_t row)
{
    size_t columns = t->dims[t->rank - 1];
    qvit_tensor out;
    ptrdiff_t place = tensor_place(t, row * columns);
    char *data = (char *)t->data + place * (ptrdiff_t)(dtype_bits(t->dtype) / 8);
    qvit_tensor_init(&out, data, t->dtype, 1, &columns);
    return out;
}

static struct view output_by_rows(struct layer *l, const qvit_engine *engine)
{
    qvit_plan *plan = make_plan(l, engine);
    struct view out = view_strided(l->make.output.dtype, l->rank, dims_with(l, l->n), 9);
    for (size_t i = 0; i < l->rows; i++) {
        size_t mark = kept.count;
        qvit_tensor from = row_of(&l->input.t, i), to = row_of(&out.t, i), added;
        if (l->kind.residual) added = row_of(&l->residual.t, i);
        run_plan(plan, &from, l->kind.residual ? &added : NULL, &to, 1);
        release_to(mark);
    }
    CHECK(view_gaps_untouched(&out));
    return out;
}

/* Equal bits with any workers and row by row; integers also on every instruction set. */
static void check_variants(struct layer *l, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < isa_variant_count() && (l->kind.input || i == 0); i++)
        for (size_t w = 0; w < sizeof workers / sizeof workers[0]; w++) {
            size_t mark = kept.count;
            struct shuffled shuffled = {.workers = workers[w]};
            qvit_executor executor = shuffled_hook(&shuffled);
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, &executor);
            struct view out = output_of(l, engine);
            CHECK_SAME(&out.t, expected);
            if (w == i) {
                struct view rows = output_by_rows(l, engine);
                CHECK_SAME(&rows.t, expected);
            }
            release_to(mark);
        }
}

/* ---- against the simulation ---- */

/* A layer of this kind: all that the kind leaves open, and the sizes, are random. */
static void check_layer(struct layer *l, size_t rows, size_t sizes)
{
    randomise(&l->kind);
    random_rows(l, rows);
    l->n = random_size(sizes);
    l->k = random_size(sizes);
    make_layer(l);
    struct view out = output_of(l, l->engine);
    check_output(l, &out.t);
    check_variants(l, &out.t);
    layer_free(l);
}

static void layers_match_double_precision(qvit_scheme input, size_t most, int times)
{
    for (int output = 0; output < OUTPUTS; output++)
        for (int residual = 0; residual < RESIDUALS; residual++)
            for (int t = 0; t < times; t++) {
                struct layer l = {.kind = {.input = input,
                                           .output = (enum output)output,
                                           .residual = (enum residual)residual}};
                if (!possible(&l.kind)) continue;
                check_layer(&l, most, most);
            }
}

static void asymmetric_inputs_match_double_precision(void)
{
    layers_match_double_precision(QVIT_SCHEME_ASYMMETRIC, 200, 8);
}

static void symmetric_inputs_match_double_precision(void)
{
    layers_match_double_precision(QVIT_SCHEME_SYMMETRIC, 200, 8);
}

static void twin_softmax_inputs_match_double_precision(void)
{
    layers_match_double_precision(QVIT_SCHEME_TWIN_SOFTMAX, 200, 8);
}

static void twin_gelu_inputs_match_double_precision(void)
{
    layers_match_double_precision(QVIT_SCHEME_TWIN_GELU, 200, 8);
}

static void asymmetric_weights_match_double_precision(void)
{
    static const qvit_scheme inputs[] = {QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_SYMMETRIC,
                                         QVIT_SCHEME_TWIN_SOFTMAX, QVIT_SCHEME_TWIN_GELU};
    for (int t = 0; t < 160; t++) {
        struct layer l = {.kind = {.input = inputs[t % 4],
                                   .output = (enum output)test_below(OUTPUTS),
                                   .residual = (enum residual)test_below(RESIDUALS),
                                   .asymmetric = true}};
        if (possible(&l.kind)) check_layer(&l, 100, 100);
    }
}

/* Any partition of weights and inputs, any order of channels. */
static void sublayers_match_double_precision(void)
{
    static const qvit_scheme schemes[] = {QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_SYMMETRIC,
                                          QVIT_SCHEME_TWIN_SOFTMAX, QVIT_SCHEME_TWIN_GELU};
    for (int t = 0; t < 240; t++) {
        struct layer l = {.kind = {.input = schemes[t % 4],
                                   .output = (enum output)test_below(OUTPUTS),
                                   .residual = (enum residual)test_below(RESIDUALS),
                                   .asymmetric = test_below(2),
                                   .blocks = true,
                                   .input_ordered = test_below(2),
                                   .output_ordered = test_below(2)}};
        if (l.kind.output == OUT_S32) l.kind.output = OUT_F32;
        check_layer(&l, 40, 60);
    }
}

static void ordered_floats_match_double_precision(void)
{
    for (int t = 0; t < 20; t++) {
        struct layer l = {
            .kind = {.input_ordered = test_below(2), .output_ordered = test_below(2)}};
        check_layer(&l, 40, 60);
    }
}

static void float_inputs_match_double_precision(void) { layers_match_double_precision(0, 200, 8); }

/* ---- strides, and residuals that are no numbers ---- */

/* The first tokens of a longer sequence, in a tensor with a dimension of 1: [2, 1, 3 of 5, k]. */
static void a_slice_with_a_size_of_one_is_no_dense_matrix(void)
{
    struct layer l = {.kind = {.input = QVIT_SCHEME_ASYMMETRIC, .output = OUT_F32},
                      .rank = 4,
                      .dims = {2, 1, 3, 0},
                      .rows = 6,
                      .n = 5,
                      .k = 8};
    make_layer(&l);
    struct view whole = view_dense(QVIT_DTYPE_U8, 4, (size_t[]){2, 1, 5, l.k});
    qvit_tensor slice = whole.t;
    slice.dims[2] = 3;
    for (size_t i = 0; i < tensor_count(&slice); i++)
        tensor_set(&slice, i, tensor_get(&l.input.t, i));
    l.input.t = slice;
    struct view out = output_of(&l, l.engine);
    check_output(&l, &out.t);
    layer_free(&l);
}

/* A stride of 0 repeats a row of the input and of the residual. */
static void a_stride_of_zero_repeats(void)
{
    struct layer l = {
        .kind = {.input = QVIT_SCHEME_SYMMETRIC, .output = OUT_S8, .residual = RES_F32},
        .rank = 3,
        .dims = {3, 4, 0},
        .rows = 12,
        .n = 17,
        .k = 19};
    make_layer(&l);
    l.input.t.strides[0] = 0;
    l.residual.t.strides[1] = 0;
    free(l.x), free(l.r), free(l.value), free(l.bound);
    l.x = numbers(l.make.input.quantizer, &l.input.t);
    l.r = numbers(NULL, &l.residual.t);
    simulate(&l);
    struct view out = output_of(&l, l.engine);
    check_output(&l, &out.t);
    check_variants(&l, &out.t);
    layer_free(&l);
}

static void nan_residual_gives_the_lowest_code(enum output output)
{
    for (size_t i = 0; i < isa_variant_count(); i++) {
        struct layer l = {
            .kind = {.input = QVIT_SCHEME_ASYMMETRIC, .output = output, .residual = RES_F32},
            .rank = 2,
            .dims = {3, 0},
            .rows = 3,
            .n = 37,
            .k = 8};
        make_layer(&l);
        fill_value(&l.residual.t, NAN);
        struct view out = output_of(&l, engine_with(isa_variants[i], NULL, NULL));
        for (size_t e = 0; e < tensor_count(&out.t); e++) {
            double got = tensor_get(&out.t, e);
            if (output == OUT_F32) CHECK(isnan(got));
            if (output == OUT_F32) continue;
            struct coder c = coder_at(l.make.output.quantizer, 0, e % l.n);
            CHECK_EQ(got, c.lo);
        }
        layer_free(&l);
    }
}

static void nan_residuals_give_the_lowest_code(void)
{
    nan_residual_gives_the_lowest_code(OUT_F32);
    nan_residual_gives_the_lowest_code(OUT_U8);
    nan_residual_gives_the_lowest_code(OUT_S8);
}

static void infinite_residuals_saturate(void)
{
    struct layer l = {.kind = {.input = QVIT_SCHEME_ASYMMETRIC,
                               .output = OUT_U8,
                               .residual = RES_F32,
                               .gelu = true},
                      .rank = 2,
                      .dims = {2, 0},
                      .rows = 2,
                      .n = 40,
                      .k = 8};
    make_layer(&l);
    for (size_t j = 0; j < 2 * l.n; j++)
        tensor_set(&l.residual.t, j, j < l.n ? (double)INFINITY : -(double)INFINITY);
    struct view out = output_of(&l, l.engine);
    for (size_t j = 0; j < 2 * l.n; j++) {
        struct coder c = coder_at(l.make.output.quantizer, 0, j % l.n);
        CHECK_EQ(tensor_get(&out.t, j), j < l.n ? c.hi : c.lo);
    }
    layer_free(&l);
}

/* ---- plans ---- */

/* The plan of a layer with its weights repacked: its results and its bytes are those of S8 weights. */
static void check_repacked(struct layer *l, const qvit_engine *engine, qvit_dtype dtype)
{
    struct view expected = output_of(l, engine);
    size_t bytes = qvit_plan_packed_bytes(make_plan(l, engine));
    struct layer same = *l;
    same.weights = view_strided(dtype, 2, (size_t[]){l->n, l->k}, 9);
    for (size_t i = 0; i < l->n * l->k; i++)
        tensor_set(&same.weights.t, i, tensor_get(&l->weights.t, i));
    same.make.weights = &same.weights.t;
    same.make.weight.dtype = dtype;
    struct view out = output_of(&same, engine);
    CHECK_SAME(&out.t, &expected.t);
    CHECK_EQ(qvit_plan_packed_bytes(make_plan(&same, engine)), bytes);
}

static void weights_of_every_type_make_the_same_plan(void)
{
    for (int32_t bits = 2; bits <= 6; bits++)
        for (size_t i = 0; i < isa_variant_count(); i++) {
            struct layer l = {
                .kind = {.input = QVIT_SCHEME_ASYMMETRIC, .output = OUT_U8, .bias = true},
                .rank = 2,
                .dims = {7, 0},
                .rows = 7,
                .n = 37,
                .k = 1 + test_below(40)};
            make_layer(&l);
            l.make.weight.quantizer =
                quantizer_random(l.engine, QVIT_SCHEME_SYMMETRIC, bits, 0, NULL, 0.3f, 0);
            l.make.weight.dtype = QVIT_DTYPE_S8;
            l.weights = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){l.n, l.k});
            fill_port(&l.make.weight, &l.weights.t, 0);
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
            check_repacked(&l, engine, QVIT_DTYPE_S6);
            if (bits <= 4) check_repacked(&l, engine, QVIT_DTYPE_S4);
            layer_free(&l);
        }
}

/* Twins whose values, times the multiple between their scales, are too large for 16 bits: each instruction set
 * has a way to sum them. */
static void far_codes_of_twins_are_summed_exactly(void)
{
    enum { ROWS = 5, COLUMNS = 37, DEPTH = 16 };
    for (size_t i = 0; i < isa_variant_count(); i++)
        for (int32_t multiple = 120; multiple <= 256; multiple += 34) {
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, NULL);
            const float scale = 0x1p-12f, step = 0x1p-7f;
            struct view x = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){ROWS, DEPTH});
            struct view w = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){COLUMNS, DEPTH});
            struct view y = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){ROWS, COLUMNS});
            for (size_t k = 0; k < ROWS * DEPTH; k++)
                tensor_set(&x.t, k, test_below(3) ? (int)test_below(256) - 128 : 127);
            for (size_t k = 0; k < COLUMNS * DEPTH; k++)
                tensor_set(&w.t, k, (int)test_below(255) - 127);
            qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
            o.input.quantizer = quantizer_layer(engine, QVIT_SCHEME_TWIN_GELU, 8, 0, scale,
                                                scale * (float)multiple, -127);
            o.weight.quantizer = quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, 8,
                                                 QVIT_QUANTIZER_NARROW, step, 0, 0);
            o.input.dtype = o.weight.dtype = QVIT_DTYPE_S8, o.output.dtype = QVIT_DTYPE_F32;
            o.weights = &w.t;
            qvit_plan *plan;
            MUST(qvit_linear_create(engine, &o, &plan, &why));
            run_plan(plan, &x.t, NULL, &y.t, ROWS);
            for (size_t row = 0; row < ROWS; row++)
                for (size_t j = 0; j < COLUMNS; j++) {
                    double sum = 0, size = 0;
                    for (size_t k = 0; k < DEPTH; k++) {
                        double steps = tensor_get(&x.t, row * DEPTH + k) + 127;
                        double term = (steps < 0 ? steps : steps * multiple) *
                                      tensor_get(&w.t, j * DEPTH + k);
                        sum += term, size += fabs(term);
                    }
                    CHECK_NEAR(tensor_get(&y.t, row * COLUMNS + j),
                               sum * (double)scale * (double)step,
                               1e-7 * size * (double)scale * (double)step);
                }
            qvit_plan_destroy(plan);
            release();
        }
}

/* Everything given at creation is copied: it may change or go before the plan runs. */
static void a_plan_keeps_nothing_of_the_caller(void)
{
    struct layer l = {.kind = {.input = QVIT_SCHEME_ASYMMETRIC,
                               .output = OUT_U8,
                               .bias = true,
                               .residual = RES_S8,
                               .scaled = true,
                               .shifted = true},
                      .rank = 2,
                      .dims = {21, 0},
                      .rows = 21,
                      .n = 33,
                      .k = 18};
    make_layer(&l);
    struct view expected = output_of(&l, l.engine), out = view_copy(&expected);
    qvit_plan *plan;
    MUST(qvit_linear_create(l.engine, &l.make, &plan, &why));
    fill_value(&l.weights.t, 1);
    fill_value(&l.bias.t, 1);
    fill_value(&l.scale.t, 3);
    fill_value(&l.shift.t, 3);
    for (size_t i = 0; i < kept.count; i++) { /* its quantizers and granularities */
        if (kept.all[i].kind == KEPT_QUANTIZER) qvit_quantizer_destroy(kept.all[i].object);
        if (kept.all[i].kind == KEPT_GRANULARITY) qvit_granularity_destroy(kept.all[i].object);
        if (kept.all[i].kind == KEPT_QUANTIZER || kept.all[i].kind == KEPT_GRANULARITY)
            kept.all[i].object = NULL;
    }
    memset(&l.make, 0, sizeof l.make);
    fill_value(&out.t, 0);
    run_plan(plan, &l.input.t, &l.residual.t, &out.t, l.rows);
    CHECK_SAME(&out.t, &expected.t);
    qvit_plan_destroy(plan);
    layer_free(&l);
}

/* One of several threads with one plan, its own workspace and its own output. */
struct runner {
    pthread_t thread;
    const qvit_plan *plan;
    qvit_linear_args args;
    qvit_status status;
};

static void *run_often(void *argument)
{
    struct runner *r = argument;
    for (int i = 0; i < 50 && !r->status; i++) r->status = qvit_linear_run(r->plan, &r->args, NULL);
    return NULL;
}

static void threads_share_a_plan(void)
{
    enum { THREADS = 4 };
    struct layer l = {.kind = {.input = QVIT_SCHEME_SYMMETRIC, .output = OUT_S8, .bias = true},
                      .rank = 2,
                      .dims = {50, 0},
                      .rows = 50,
                      .n = 70,
                      .k = 61};
    make_layer(&l);
    qvit_plan *plan = make_plan(&l, l.engine);
    struct view expected = output_of(&l, l.engine), out[THREADS];
    struct runner runners[THREADS];
    for (int i = 0; i < THREADS; i++) {
        struct runner *r = &runners[i];
        out[i] = view_dense(QVIT_DTYPE_S8, 2, dims_with(&l, l.n));
        *r = (struct runner){.plan = plan, .args = QVIT_LINEAR_ARGS_INIT};
        r->args.input = &l.input.t, r->args.output = &out[i].t;
        r->args.workspace_size = qvit_linear_workspace_size(plan, l.rows);
        r->args.workspace = workspace(r->args.workspace_size);
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&runners[i].thread, NULL, run_often, &runners[i])) abort();
    for (int i = 0; i < THREADS; i++) pthread_join(runners[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(runners[i].status, QVIT_OK);
        CHECK_SAME(&out[i].t, &expected.t);
    }
    layer_free(&l);
}

static void a_plan_tells_about_itself(void)
{
    struct layer l = {.kind = {.input = QVIT_SCHEME_TWIN_GELU, .output = OUT_F32},
                      .rank = 2,
                      .dims = {2, 0},
                      .rows = 2,
                      .n = 33,
                      .k = 18};
    make_layer(&l);
    qvit_plan *plan = make_plan(&l, l.engine);
    char text[256], start[8];
    size_t length = qvit_plan_describe(plan, text, sizeof text);
    CHECK_EQ(length, strlen(text));
    CHECK(strstr(text, "linear 33 x 18"));
    CHECK(strstr(text, qvit_plan_kernel(plan)));
    CHECK(strstr(qvit_plan_kernel(plan), qvit_engine_isa_name(l.engine)));
    CHECK_EQ(qvit_plan_describe(plan, start, sizeof start), length);
    CHECK_EQ(strlen(start), sizeof start - 1);
    CHECK_EQ(qvit_plan_describe(plan, NULL, 0), length);
    CHECK(qvit_plan_packed_bytes(plan) >= 33 * 18);
    CHECK_STR(qvit_plan_kernel(NULL), "");
    CHECK_EQ(qvit_plan_packed_bytes(NULL), 0);
    CHECK_EQ(qvit_plan_describe(NULL, text, sizeof text), 0);
    CHECK_EQ(qvit_linear_workspace_size(NULL, 5), 0);
    layer_free(&l);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(asymmetric_inputs_match_double_precision);
    RUN(symmetric_inputs_match_double_precision);
    RUN(twin_softmax_inputs_match_double_precision);
    RUN(twin_gelu_inputs_match_double_precision);
    RUN(float_inputs_match_double_precision);
    RUN(asymmetric_weights_match_double_precision);
    RUN(sublayers_match_double_precision);
    RUN(ordered_floats_match_double_precision);
    RUN(a_slice_with_a_size_of_one_is_no_dense_matrix);
    RUN(a_stride_of_zero_repeats);
    RUN(nan_residuals_give_the_lowest_code);
    RUN(infinite_residuals_saturate);
    RUN(weights_of_every_type_make_the_same_plan);
    RUN(far_codes_of_twins_are_summed_exactly);
    RUN(a_plan_keeps_nothing_of_the_caller);
    RUN(threads_share_a_plan);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
