/*
 * test_order.c - channels that do not stand in turn: at every place where a vision transformer allows
 * it, an order moves the outputs and changes none of them.
 */
#include "support.h"

enum { TOKENS = 7, HEADS = 3, DIM = 8, WIDTH = HEADS * DIM, HIDDEN = 40, PARTS = 3 };

/* A random permutation of n numbers, which stay in their runs of `run`. */
static struct view order_in_runs(size_t n, size_t run)
{
    struct view v = view_strided(QVIT_DTYPE_S32, 1, &n, 5);
    for (size_t i = 0; i < n; i++) {
        size_t first = i / run * run, j = first + test_below(i - first + 1);
        tensor_set(&v.t, i, tensor_get(&v.t, j));
        tensor_set(&v.t, j, (double)i);
    }
    return v;
}

static size_t at(const struct view *order, size_t place)
{
    return (size_t)tensor_get(&order->t, place);
}

static void check_moved(const struct view *out, const struct view *plain, const struct view *order)
{
    size_t columns = tensor_count(&order->t);
    for (size_t i = 0; i < tensor_count(&out->t); i++) {
        size_t from = i / columns * columns + at(order, i % columns);
        CHECK_EQ(tensor_get(&out->t, i), tensor_get(&plain->t, from));
    }
}

static qvit_port codes(const qvit_quantizer *q)
{
    return (qvit_port){qvit_quantizer_code_dtype(q), 0, q};
}

static struct view run_linear(const qvit_engine *e, const qvit_linear_options *o,
                              const struct view *input)
{
    qvit_plan *plan;
    MUST(qvit_linear_create(e, o, &plan, &why));
    keep_plan(plan);
    struct view out =
        view_dense(o->output.dtype, 2, (size_t[]){input->t.dims[0], o->weights->dims[0]});
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = &input->t, args.output = &out.t;
    args.workspace_size = qvit_linear_workspace_size(plan, input->t.dims[0]);
    args.workspace = workspace(args.workspace_size);
    MUST(qvit_linear_run(plan, &args, &why));
    return out;
}

/* ---- layer normalisation ---- */

static struct view run_norm(const qvit_engine *e, const qvit_layer_norm_options *o,
                            const struct view *input)
{
    qvit_plan *plan;
    MUST(qvit_layer_norm_create(e, o, &plan, &why));
    keep_plan(plan);
    struct view out = view_strided(o->output.dtype, 2, input->t.dims, 5);
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = &input->t, args.output = &out.t;
    MUST(qvit_layer_norm_run(plan, &args, &why));
    CHECK(view_gaps_untouched(&out));
    return out;
}

static void norms_write_in_any_order(void)
{
    for (int t = 0; t < 60; t++) {
        qvit_engine *e = engine_new();
        size_t n = 1 + test_below(70);
        struct view gamma = view_vector(n), beta = view_vector(n), scale = view_vector(n);
        struct view x = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){TOKENS, n});
        fill_normal(&gamma.t, 1), fill_normal(&beta.t, 1), fill_normal(&x.t, 2);
        for (size_t i = 0; i < n; i++) tensor_set(&scale.t, i, (double)random_between(0.5f, 2));
        qvit_layer_norm_options o = QVIT_LAYER_NORM_OPTIONS_INIT;
        o.gamma = &gamma.t, o.beta = &beta.t, o.output_scale = &scale.t;
        o.output.dtype = QVIT_DTYPE_F32;
        if (test_below(2))
            o.output = codes(quantizer_random(e, QVIT_SCHEME_ASYMMETRIC, 8, 0,
                                              granularity_random(e, QVIT_ANY, n), 3, -1));
        struct view plain = run_norm(e, &o, &x), order = order_in_runs(n, n);
        o.output_order = &order.t;
        struct view moved = run_norm(e, &o, &x);
        check_moved(&moved, &plain, &order);
        release();
    }
}

/* ---- hidden units: fc1's outputs with fc2's inputs ---- */

static void hidden_units_may_stand_in_any_order(void)
{
    for (int t = 0; t < 40; t++) {
        qvit_engine *e = engine_new();
        struct view w1 = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){HIDDEN, WIDTH});
        struct view w2 = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){WIDTH, HIDDEN});
        struct view x = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){TOKENS, WIDTH});
        struct view bias = view_vector(HIDDEN), order = order_in_runs(HIDDEN, HIDDEN);
        fill_codes(&w1.t, -127, 127), fill_codes(&w2.t, -127, 127), fill_codes(&x.t, 0, 255);
        fill_normal(&bias.t, 1);
        const uint32_t narrow = QVIT_QUANTIZER_NARROW;
        qvit_granularity *rows = granularity_random(e, HIDDEN, WIDTH);
        const qvit_quantizer *hidden = quantizer_random(
            e, test_below(2) ? QVIT_SCHEME_TWIN_GELU : QVIT_SCHEME_ASYMMETRIC, 8, 0, NULL, 1, -1);
        qvit_linear_options fc1 = QVIT_LINEAR_OPTIONS_INIT, fc2 = QVIT_LINEAR_OPTIONS_INIT;
        fc1.input = codes(quantizer_random(e, QVIT_SCHEME_ASYMMETRIC, 8, 0, NULL, 1, -1));
        fc1.weight = codes(quantizer_random(e, QVIT_SCHEME_SYMMETRIC, 8, narrow, rows, 0.1f, -1));
        fc1.weights = &w1.t, fc1.bias = &bias.t, fc1.activation = QVIT_ACTIVATION_GELU;
        fc1.output = fc2.input = codes(hidden);
        fc2.weight = codes(quantizer_random(e, QVIT_SCHEME_SYMMETRIC, 8, narrow,
                                            granularity_random(e, WIDTH, QVIT_ANY), 0.1f, -1));
        fc2.weights = &w2.t, fc2.output.dtype = QVIT_DTYPE_F32;
        struct view h = run_linear(e, &fc1, &x), y = run_linear(e, &fc2, &h);
        fc1.output_order = fc2.input_order = &order.t;
        struct view moved = run_linear(e, &fc1, &x);
        check_moved(&moved, &h, &order);
        struct view again = run_linear(e, &fc2, &moved);
        CHECK_SAME(&again.t, &y.t); /* integer sums have no order */
        release();
    }
}

/* ---- channels of Q and K, of V, and whole heads ---- */

static struct view columns_of(const struct view *qkv, size_t part)
{
    struct view v = *qkv;
    size_t dims[4] = {1, TOKENS, HEADS, DIM};
    v.t.rank = 4;
    for (int i = 0; i < 4; i++) v.t.dims[i] = dims[i];
    v.t.strides[0] = TOKENS * PARTS * WIDTH, v.t.strides[1] = PARTS * WIDTH;
    v.t.strides[2] = DIM, v.t.strides[3] = 1;
    v.t.data = (char *)qkv->t.data + part * WIDTH * (dtype_bits(qkv->t.dtype) / 8);
    return v;
}

static struct view run_attention(const qvit_engine *e, const qvit_attention_options *o,
                                 const struct view *qkv)
{
    struct view q = columns_of(qkv, 0), k = columns_of(qkv, 1), v = columns_of(qkv, 2);
    struct view out = view_dense(o->output.dtype, 4, (size_t[]){1, TOKENS, HEADS, DIM});
    qvit_plan *plan;
    MUST(qvit_attention_create(e, o, &plan, &why));
    keep_plan(plan);
    qvit_attention_args args = QVIT_ATTENTION_ARGS_INIT;
    args.query = &q.t, args.key = &k.t, args.value = &v.t, args.output = &out.t;
    args.workspace_size = qvit_attention_workspace_size(plan, TOKENS, TOKENS);
    args.workspace = workspace(args.workspace_size);
    MUST(qvit_attention_run(plan, &args, &why));
    return out;
}

/* Values move inside their heads, queries and keys together. */
static void channels_may_move_inside_heads(void)
{
    for (int t = 0; t < 40; t++) {
        qvit_engine *e = engine_new();
        struct view qkv = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){TOKENS, PARTS * WIDTH});
        struct view moved = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){TOKENS, PARTS * WIDTH});
        struct view keys = order_in_runs(WIDTH, DIM), values = order_in_runs(WIDTH, DIM);
        struct view scale = view_vector(WIDTH);
        fill_codes(&qkv.t, -127, 127);
        for (size_t i = 0; i < WIDTH; i++) tensor_set(&scale.t, i, (double)random_between(0.5f, 2));
        for (size_t i = 0; i < TOKENS * PARTS * WIDTH; i++) {
            size_t part = i / WIDTH % PARTS;
            size_t from = i / WIDTH * WIDTH + at(part == 2 ? &values : &keys, i % WIDTH);
            tensor_set(&moved.t, i, tensor_get(&qkv.t, from));
        }
        const uint32_t narrow = QVIT_QUANTIZER_NARROW;
        const qvit_scheme symmetric = QVIT_SCHEME_SYMMETRIC;
        qvit_granularity *each = granularity_columns(e, WIDTH, WIDTH);
        qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
        o.heads = HEADS, o.head_dim = DIM;
        o.query = codes(quantizer_random(e, symmetric, 8, narrow, NULL, 3, -1));
        o.key = codes(quantizer_random(e, symmetric, 8, narrow, NULL, 3, -1));
        o.value = codes(quantizer_random(e, symmetric, 8, narrow, each, 3, -1));
        o.probability =
            codes(quantizer_random(e, QVIT_SCHEME_ASYMMETRIC, 8,
                                   test_below(2) ? QVIT_QUANTIZER_RELATIVE : 0, NULL, 0.5f, 0));
        o.output = codes(quantizer_random(e, QVIT_SCHEME_ASYMMETRIC, 8, 0,
                                          granularity_random(e, QVIT_ANY, WIDTH), 3, -1));
        o.output_scale = &scale.t;
        struct view plain = run_attention(e, &o, &qkv);
        o.output_order = &values.t;
        struct view out = run_attention(e, &o, &moved);
        check_moved(&out, &plain, &values);
        release();
    }
}

/* The qkv layer puts heads in another order, proj reads them in it. */
static void heads_may_stand_in_any_order(void)
{
    qvit_engine *e = engine_new();
    struct view w = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){PARTS * WIDTH, WIDTH});
    struct view out_w = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){WIDTH, WIDTH});
    struct view x = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){TOKENS, WIDTH});
    struct view heads = order_in_runs(HEADS, HEADS);
    size_t all = PARTS * WIDTH, width = WIDTH;
    struct view order = view_dense(QVIT_DTYPE_S32, 1, &all);
    struct view read = view_dense(QVIT_DTYPE_S32, 1, &width);
    fill_normal(&w.t, 0.3f), fill_normal(&out_w.t, 0.3f), fill_normal(&x.t, 1);
    for (size_t i = 0; i < all; i++)
        tensor_set(&order.t, i,
                   (double)(i / WIDTH * WIDTH + at(&heads, i % WIDTH / DIM) * DIM + i % DIM));
    for (size_t i = 0; i < WIDTH; i++) tensor_set(&read.t, i, tensor_get(&order.t, i));
    const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};
    qvit_linear_options qkv = QVIT_LINEAR_OPTIONS_INIT, proj = QVIT_LINEAR_OPTIONS_INIT;
    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    qkv.input = qkv.weight = qkv.output = proj.input = proj.weight = proj.output = f32;
    o.query = o.key = o.value = o.probability = o.output = f32;
    o.heads = HEADS, o.head_dim = DIM;
    qkv.weights = &w.t, proj.weights = &out_w.t;
    struct view y[2];
    for (int i = 0; i < 2; i++) {
        if (i) qkv.output_order = &order.t, proj.input_order = &read.t;
        struct view joint = run_linear(e, &qkv, &x), context = run_attention(e, &o, &joint);
        context.t.rank = 2, context.t.dims[0] = TOKENS, context.t.dims[1] = WIDTH;
        context.t.strides[0] = WIDTH, context.t.strides[1] = 1;
        y[i] = run_linear(e, &proj, &context);
    }
    for (size_t i = 0; i < TOKENS * WIDTH; i++)
        CHECK(fabs(tensor_get(&y[0].t, i) - tensor_get(&y[1].t, i)) < 1e-4);
    release();
}

/* ---- what is no order ---- */

static void what_is_no_permutation_is_refused(void)
{
    qvit_engine *e = engine_new();
    size_t n = 4, longer = 5;
    struct view w = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){n, n}), norm = view_vector(n);
    struct view order = view_dense(QVIT_DTYPE_S32, 1, &n),
                large = view_dense(QVIT_DTYPE_S32, 1, &longer);
    struct view floats = view_vector(n);
    fill_normal(&w.t, 1), fill_normal(&norm.t, 1);
    const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};
    static const int wrong[][4] = {{0, 1, 2, 2}, {0, 1, 2, 4}, {-1, 1, 2, 3}, {0, 0, 0, 0}};
    qvit_plan *plan;
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; i < 4 && j < n; j++) tensor_set(&order.t, j, wrong[i][j]);
        const qvit_tensor *given = i < 4 ? &order.t : i == 4 ? &large.t : &floats.t;
        qvit_status expected = i < 4 ? QVIT_ERR_VALUE : i == 4 ? QVIT_ERR_SHAPE : QVIT_ERR_ARGUMENT;
        qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
        o.input = o.weight = o.output = f32, o.weights = &w.t;
        o.input_order = given;
        CHECK_EQ(qvit_linear_create(e, &o, &plan, &why), expected);
        o.input_order = NULL, o.output_order = given;
        CHECK_EQ(qvit_linear_create(e, &o, &plan, &why), expected);
        qvit_layer_norm_options l = QVIT_LAYER_NORM_OPTIONS_INIT;
        l.gamma = l.beta = &norm.t, l.output = f32, l.output_order = given;
        CHECK_EQ(qvit_layer_norm_create(e, &l, &plan, &why), expected);
        qvit_attention_options a = QVIT_ATTENTION_OPTIONS_INIT;
        a.query = a.key = a.value = a.probability = a.output = f32;
        a.heads = 2, a.head_dim = 2, a.output_order = given;
        CHECK_EQ(qvit_attention_create(e, &a, &plan, &why), expected);
    }
    qvit_attention_options a =
        QVIT_ATTENTION_OPTIONS_INIT; /* a permutation that leaves its heads */
    a.query = a.key = a.value = a.probability = a.output = f32;
    a.heads = 2, a.head_dim = 2, a.output_order = &order.t;
    for (size_t j = 0; j < n; j++) tensor_set(&order.t, j, (double)(n - 1 - j));
    CHECK_EQ(qvit_attention_create(e, &a, &plan, &why), QVIT_ERR_VALUE);
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(norms_write_in_any_order);
    RUN(hidden_units_may_stand_in_any_order);
    RUN(channels_may_move_inside_heads);
    RUN(heads_may_stand_in_any_order);
    RUN(what_is_no_permutation_is_refused);
    return test_end();
}
