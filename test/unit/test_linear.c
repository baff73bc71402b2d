/*
 * test_linear.c - linear plans against a simulation in double precision, and against themselves: on
 * every instruction set, with any number of workers, and row by row.
 */
#include "support.h"

#include <pthread.h>

/* Rounding of one float operation, relative. */
#define UNIT 6e-8

/* ---- one layer with its operands ---- */

enum output { OUT_F32, OUT_S32, OUT_U8, OUT_S8, OUT_TWIN, OUTPUTS };
enum residual { RES_NONE, RES_F32, RES_U8, RES_S8, RESIDUALS };

/* What kind of layer. input 0: floats. */
struct kind {
    qvit_scheme input;
    enum output output;
    enum residual residual;
    bool gelu, bias, in_place, scaled, shifted;
    bool asymmetric; /* weights */
    bool blocks, input_ordered,
        output_ordered; /* sub-layer scales; channels that do not stand in turn */
};

struct layer {
    struct kind kind;
    qvit_engine *engine; /* of the quantizers */
    size_t rank, dims[QVIT_MAX_RANK], rows, n, k;
    qvit_linear_options make;
    struct view weights, bias, scale, shift, input, residual, input_order, output_order;
    double *x, *w, *r; /* what the codes mean: [rows][k], [n][k], [rows][n] */
    double *value,
        *bound; /* [rows][n]: past activation and residual, and how far a float may be off */
};

static void layer_free(struct layer *l)
{
    free(l->x), free(l->w), free(l->r), free(l->value), free(l->bound);
    release();
}

/* 1..most, small numbers as likely as large ones. */
static size_t random_size(size_t most) { return 1 + test_below(1 + test_below(most)); }

/* Leading dimensions of a random rank, at most `most` rows in all. */
static void random_rows(struct layer *l, size_t most)
{
    l->rank = 1 + test_below(4);
    l->rows = 1;
    for (size_t i = 0; i + 1 < l->rank; i++) {
        l->dims[i] = test_below(4) ? random_size(most / l->rows) : 1;
        l->rows *= l->dims[i];
    }
}

static const size_t *dims_with(struct layer *l, size_t columns)
{
    l->dims[l->rank - 1] = columns;
    return l->dims;
}

/* The numbers that codes mean, or floats as they are. */
static double *numbers(const qvit_quantizer *q, const qvit_tensor *t)
{
    size_t count = tensor_count(t);
    double *out = malloc(count * sizeof *out);
    if (!out) FAIL("memory");
    size_t mark = kept.count;
    qvit_tensor floats = *t;
    if (q) {
        floats = view_dense(QVIT_DTYPE_F32, (size_t)t->rank, t->dims).t;
        MUST(qvit_quantizer_decode(q, t, &floats, &why));
    }
    for (size_t i = 0; i < count; i++) out[i] = tensor_get(&floats, i);
    release_to(mark);
    return out;
}

static void fill_port(const qvit_port *port, const qvit_tensor *t, float amplitude)
{
    if (!port->quantizer) {
        fill_normal(t, amplitude);
        return;
    }
    struct coder c = coder_at(port->quantizer, 0, 0);
    fill_codes(t, c.lo, c.hi);
}

static struct view order_random(size_t n)
{
    struct view v = view_strided(QVIT_DTYPE_S32, 1, &n, 9);
    for (size_t i = 0; i < n; i++) {
        size_t j = test_below(i + 1);
        tensor_set(&v.t, i, tensor_get(&v.t, j));
        tensor_set(&v.t, j, (double)i);
    }
    return v;
}

/* The channel at a place of the input, and of the output. */
static size_t input_at(const struct layer *l, size_t place)
{
    return l->kind.input_ordered ? (size_t)tensor_get(&l->input_order.t, place) : place;
}
static size_t output_at(const struct layer *l, size_t place)
{
    return l->kind.output_ordered ? (size_t)tensor_get(&l->output_order.t, place) : place;
}

static void make_orders(struct layer *l)
{
    if (l->kind.input_ordered) {
        l->input_order = order_random(l->k);
        l->make.input_order = &l->input_order.t;
    }
    if (l->kind.output_ordered) {
        l->output_order = order_random(l->n);
        l->make.output_order = &l->output_order.t;
    }
}

static int32_t random_bits(void) { return 2 + (int32_t)test_below(7); }

static void make_input(struct layer *l)
{
    l->make.input.dtype = QVIT_DTYPE_F32;
    if (l->kind.input) {
        qvit_granularity *g = l->kind.blocks ? granularity_random(l->engine, QVIT_ANY, l->k) : NULL;
        const qvit_quantizer *q =
            quantizer_random(l->engine, l->kind.input, random_bits(), 0, g, 4, -1);
        l->make.input.quantizer = q;
        l->make.input.dtype = qvit_quantizer_code_dtype(q);
    }
    l->input = view_strided(l->make.input.dtype, l->rank, dims_with(l, l->k), 9);
    fill_port(&l->make.input, &l->input.t, 1);
    struct view channels = view_dense(l->make.input.dtype, l->rank, dims_with(l, l->k));
    for (size_t i = 0; i < l->rows * l->k; i++)
        tensor_set(&channels.t, i / l->k * l->k + input_at(l, i % l->k),
                   tensor_get(&l->input.t, i));
    l->x = numbers(l->make.input.quantizer, &channels.t);
}

static void make_weights(struct layer *l)
{
    qvit_port *port = &l->make.weight;
    port->dtype = QVIT_DTYPE_F32;
    if (l->kind.input) {
        int32_t bits = random_bits();
        qvit_scheme scheme = l->kind.asymmetric ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
        if (l->kind.asymmetric && bits == 8) bits = 4;
        int narrow = !l->kind.asymmetric && (bits == 8 || test_below(2));
        qvit_granularity *g =
            test_below(3) || l->kind.blocks
                ? granularity_random(l->engine, l->n, l->kind.blocks ? l->k : QVIT_ANY)
                : NULL;
        port->quantizer = quantizer_random(l->engine, scheme, bits,
                                           narrow ? QVIT_QUANTIZER_NARROW : 0, g, 0.3f, -1);
        const qvit_dtype types[] = {QVIT_DTYPE_S8, QVIT_DTYPE_S6, QVIT_DTYPE_S4}; /* that hold it */
        port->dtype = types[test_below(bits <= 4 ? 3 : bits <= 6 ? 2 : 1)];
        if (l->kind.asymmetric)
            port->dtype = bits <= 4 && test_below(2) ? QVIT_DTYPE_U4 : QVIT_DTYPE_U8;
    }
    l->weights = view_strided(port->dtype, 2, (size_t[]){l->n, l->k}, 9);
    fill_port(port, &l->weights.t, 0.1f);
    l->make.weights = &l->weights.t;
    l->w = numbers(port->quantizer, &l->weights.t);
    if (!l->kind.bias) return;
    l->bias = view_vector(l->n);
    fill_normal(&l->bias.t, 0.5f);
    l->make.bias = &l->bias.t;
}

static void make_residual(struct layer *l)
{
    qvit_port *port = &l->make.residual;
    if (l->kind.residual == RES_NONE) return;
    port->dtype = QVIT_DTYPE_F32;
    if (l->kind.residual != RES_F32) {
        qvit_scheme scheme =
            l->kind.residual == RES_U8 ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
        port->quantizer = quantizer_random(l->engine, scheme, random_bits(), 0, NULL, 3, -1);
        port->dtype = qvit_quantizer_code_dtype(port->quantizer);
    }
    l->residual = view_strided(port->dtype, l->rank, dims_with(l, l->n), 9);
    fill_port(port, &l->residual.t, 2);
    l->r = numbers(port->quantizer, &l->residual.t);
}

static double gelu(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

/* One element past activation and residual, and how far a float32 computation of it may be off. */
static void simulate_one(const struct layer *l, size_t row, size_t place)
{
    size_t column = output_at(l, place);
    double sum = 0, magnitude = 0;
    for (size_t i = 0; i < l->k; i++) {
        double product = l->x[row * l->k + i] * l->w[column * l->k + i];
        sum += product;
        magnitude += fabs(product);
    }
    double bias = l->kind.bias ? tensor_get(&l->bias.t, column) : 0, t = sum + bias;
    /* Integer sums are exact and their scaling rounds a few times; floats add up one by one. */
    double roundings = l->kind.input ? 12 : (double)l->k + 4;
    if (l->kind.blocks) roundings += 2 * (double)l->k; /* a block may be one channel */
    double bound = roundings * UNIT * (magnitude + fabs(bias));
    if (l->kind.gelu) {
        bound = 1.13 * bound + 1.3e-6 + 4 * UNIT * fabs(t); /* GELU's slope is at most 1.129 */
        t = gelu(t);
    }
    size_t at = row * l->n + place;
    double residual = l->r ? l->r[at] : 0;
    l->value[at] = t + residual;
    l->bound[at] = bound + 4 * UNIT * (fabs(t) + fabs(residual));
}

static void simulate(struct layer *l)
{
    l->value = malloc(l->rows * l->n * sizeof *l->value);
    l->bound = malloc(l->rows * l->n * sizeof *l->bound);
    if (!l->value || !l->bound) FAIL("memory");
    for (size_t i = 0; i < l->rows; i++)
        for (size_t j = 0; j < l->n; j++) simulate_one(l, i, j);
}

/* The range of the values, or what 8 bits can tell from their bounds if that is larger. */
static float largest(const struct layer *l)
{
    double most = 0.05;
    for (size_t i = 0; i < l->rows * l->n; i++)
        most = fmax(most, fmax(fabs(l->value[i]), 1e5 * l->bound[i]));
    return (float)most;
}

static void make_output(struct layer *l)
{
    qvit_port *port = &l->make.output;
    if (l->kind.scaled) {
        l->scale = view_vector(l->n);
        for (size_t j = 0; j < l->n; j++)
            tensor_set(&l->scale.t, j, (double)random_between(0.5f, 2));
        l->make.output_scale = &l->scale.t;
    }
    if (l->kind.shifted) {
        l->shift = view_vector(l->n);
        fill_normal(&l->shift.t, 0.5f);
        l->make.output_shift = &l->shift.t;
    }
    port->dtype = l->kind.output == OUT_S32 ? QVIT_DTYPE_S32 : QVIT_DTYPE_F32;
    if (l->kind.output == OUT_F32 || l->kind.output == OUT_S32) return;
    qvit_granularity *g = test_below(2) ? granularity_random(l->engine, QVIT_ANY, l->n) : NULL;
    qvit_scheme scheme = l->kind.output == OUT_U8   ? QVIT_SCHEME_ASYMMETRIC
                         : l->kind.output == OUT_S8 ? QVIT_SCHEME_SYMMETRIC
                                                    : QVIT_SCHEME_TWIN_GELU;
    float range = largest(l) * random_between(0.4f, 1.5f);
    port->quantizer = quantizer_random(l->engine, scheme, random_bits(), 0, g, range, -1);
    if (l->kind.in_place) port->quantizer = l->make.residual.quantizer;
    port->dtype = qvit_quantizer_code_dtype(port->quantizer);
}

/* Everything but the sizes and the kind is random. */
static void make_layer(struct layer *l)
{
    l->engine = engine_new();
    l->make = (qvit_linear_options)QVIT_LINEAR_OPTIONS_INIT;
    l->make.activation = l->kind.gelu ? QVIT_ACTIVATION_GELU : QVIT_ACTIVATION_NONE;
    make_orders(l);
    make_input(l);
    make_weights(l);
    make_residual(l);
    simulate(l);
    make_output(l);
}

/* ---- running ---- */

static qvit_plan *make_plan(const struct layer *l, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &l->make, &plan, &why));
    return keep_plan(plan);
}

static void run_plan(const qvit_plan *plan, const qvit_tensor *input, const qvit_tensor *residual,
                     const qvit_tensor *output, size_t rows)
{
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = input, args.residual = residual, args.output = output;
    args.workspace_size = qvit_linear_workspace_size(plan, rows);
    args.workspace = workspace(args.workspace_size);
    MUST(qvit_linear_run(plan, &args, &why));
}

/* The output, in memory of its own; canaries are checked. */
static struct view output_of(struct layer *l, const qvit_engine *engine)
{
    qvit_plan *plan = make_plan(l, engine);
    struct view out =
        view_strided(l->make.output.dtype, l->rank, dims_with(l, l->n), l->kind.in_place ? 0 : 9);
    const qvit_tensor *residual = l->kind.residual == RES_NONE ? NULL : &l->residual.t;
    if (l->kind.in_place) {
        for (size_t i = 0; i < tensor_count(&out.t); i++)
            tensor_set(&out.t, i, tensor_get(&l->residual.t, i));
        residual = &out.t;
    }
    run_plan(plan, &l->input.t, residual, &out.t, l->rows);
    CHECK(view_gaps_untouched(&out));
    return out;
}

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

/* ---- comparing ---- */

static void check_code(const struct layer *l, size_t i, double value, double bound, int code)
{
    size_t j = output_at(l, i % l->n);
    struct coder c = coder_at(l->make.output.quantizer, 0, j);
    bool twin = c.scheme == QVIT_SCHEME_TWIN_GELU;
    double finest = twin ? fmin(c.scale, c.scale2) : c.scale;
    bound += 8 * UNIT * (fabs(value) + abs(c.zero) * c.scale);
    int low = coder_encode(&c, value - bound), high = coder_encode(&c, value + bound);
    if (code < low || code > high)
        FAIL("[%zu, %zu] is code %d, not %d..%d: value %.9g +- %.3g, scale %g", i / l->n, j, code,
             low, high, value, bound, c.scale);
    if (!(bound < 0.25 * finest)) FAIL("[%zu]: a bound of %g says nothing", i, bound / finest);
}

static void check_sum(const struct layer *l, size_t i, double got)
{
    struct coder in = coder_at(l->make.input.quantizer, 0, 0);
    struct coder w = coder_at(l->make.weight.quantizer, i % l->n, 0);
    int64_t sum = 0;
    for (size_t p = 0; p < l->k; p++) {
        int64_t a = (int64_t)tensor_get(&l->input.t, i / l->n * l->k + p) - in.zero;
        sum += a * ((int64_t)tensor_get(&l->weights.t, i % l->n * l->k + p) - w.zero);
    }
    CHECK_EQ(got, sum);
}

static void check_output(const struct layer *l, const qvit_tensor *out)
{
    for (size_t i = 0; i < l->rows * l->n; i++) {
        double got = tensor_get(out, i), scale = 1, shift = 0;
        if (l->kind.output == OUT_S32) {
            check_sum(l, i, got);
            continue;
        }
        size_t channel = output_at(l, i % l->n);
        if (l->kind.scaled) scale = tensor_get(&l->scale.t, channel);
        if (l->kind.shifted) shift = tensor_get(&l->shift.t, channel);
        double value = (l->value[i] - shift) / scale;
        double bound = (l->bound[i] + 8 * UNIT * fabs(shift)) / scale + 8 * UNIT * fabs(value);
        if (l->kind.output != OUT_F32) {
            check_code(l, i, value, bound, (int)got);
        } else if (!(fabs(got - value) <= bound)) {
            FAIL("[%zu, %zu] is %.9g, not %.9g +- %.3g", i / l->n, i % l->n, got, value, bound);
        }
    }
}

/* Equal bits with any workers and row by row; integers also on every instruction set. */
static void check_variants(struct layer *l, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < ISA_VARIANTS && (l->kind.input || i == 0); i++)
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

/* ---- the tests ---- */

static bool possible(const struct kind *k)
{
    bool twin = scheme_is_twin(k->input);
    if (k->output == OUT_S32 && (!k->input || twin || k->residual)) return false;
    return true;
}

static void randomise(struct kind *k)
{
    static const enum residual same[] = {[OUT_F32] = RES_F32, [OUT_U8] = RES_U8, [OUT_S8] = RES_S8};
    bool bare = k->output == OUT_S32;
    k->gelu = !bare && test_below(2);
    k->bias = !bare && test_below(4);
    k->scaled = !bare && test_below(2);
    k->shifted = !bare && k->output != OUT_TWIN && test_below(2);
    k->in_place =
        k->residual && k->output <= OUT_S8 && same[k->output] == k->residual && test_below(2);
}

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
    for (size_t i = 1; i < ISA_VARIANTS && input; i++) {
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

/* Sums as long as int32 allows, of the extreme codes: nothing saturates on the way. Weights are symmetric,
 * or, where their zero is not negative, asymmetric. */
static void longest_sums_are_exact(qvit_scheme scheme, int32_t zero, int low, int high,
                                   int32_t bits, int32_t weight_zero, size_t k)
{
    for (size_t i = 0; i < ISA_VARIANTS; i++) {
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
    for (size_t i = 0; i < ISA_VARIANTS; i++) {
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

/* On AVX2 weights of up to 7 bits, and with AVX-512 none. */
static void small_weights_have_a_kernel_of_their_own(void)
{
    for (size_t i = 0; i < ISA_VARIANTS; i++)
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
    for (size_t i = 0; i < ISA_VARIANTS; i++) {
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
        for (size_t i = 0; i < ISA_VARIANTS; i++) {
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
    RUN(every_edge_of_plain_codes);
    RUN(every_edge_of_twin_codes);
    RUN(every_edge_of_floats);
    RUN(longest_sums_of_unsigned_codes_are_exact);
    RUN(longest_sums_of_signed_codes_are_exact);
    RUN(extreme_sums_of_every_width_are_exact);
    RUN(extreme_sums_of_asymmetric_weights_are_exact);
    RUN(the_furthest_of_all_zeros_counts);
    RUN(small_weights_have_a_kernel_of_their_own);
    RUN(a_slice_with_a_size_of_one_is_no_dense_matrix);
    RUN(a_stride_of_zero_repeats);
    RUN(nan_residuals_give_the_lowest_code);
    RUN(infinite_residuals_saturate);
    RUN(weights_of_every_type_make_the_same_plan);
    RUN(a_plan_keeps_nothing_of_the_caller);
    RUN(threads_share_a_plan);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
