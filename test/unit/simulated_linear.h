/*
 * simulated_linear.h - a linear layer with its operands, and what it should give, in double precision.
 *
 *   make_layer()    everything but the sizes and the kind is random
 *   output_of()     what a plan gives
 *   check_output()  that this is what the simulation gives, but for roundings
 *
 * What these functions make lives until layer_free().
 */
#ifndef QVIT_TEST_SIMULATED_LINEAR_H
#define QVIT_TEST_SIMULATED_LINEAR_H

#include "support.h"

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

static inline void layer_free(struct layer *l)
{
    free(l->x), free(l->w), free(l->r), free(l->value), free(l->bound);
    release();
}

/* Leading dimensions of a random rank, at most `most` rows in all. */
static inline void random_rows(struct layer *l, size_t most)
{
    l->rank = 1 + test_below(4);
    l->rows = 1;
    for (size_t i = 0; i + 1 < l->rank; i++) {
        l->dims[i] = test_below(4) ? random_size(most / l->rows) : 1;
        l->rows *= l->dims[i];
    }
}

static inline const size_t *dims_with(struct layer *l, size_t columns)
{
    l->dims[l->rank - 1] = columns;
    return l->dims;
}

/* The numbers that codes mean, or floats as they are. */
static inline double *numbers(const qvit_quantizer *q, const qvit_tensor *t)
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

static inline void fill_port(const qvit_port *port, const qvit_tensor *t, float amplitude)
{
    if (!port->quantizer) {
        fill_normal(t, amplitude);
        return;
    }
    struct coder c = coder_at(port->quantizer, 0, 0);
    fill_codes(t, c.lo, c.hi);
}

static inline struct view order_random(size_t n)
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
static inline size_t input_at(const struct layer *l, size_t place)
{
    return l->kind.input_ordered ? (size_t)tensor_get(&l->input_order.t, place) : place;
}
static inline size_t output_at(const struct layer *l, size_t place)
{
    return l->kind.output_ordered ? (size_t)tensor_get(&l->output_order.t, place) : place;
}

static inline void make_orders(struct layer *l)
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

static inline void make_input(struct layer *l)
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

static inline void make_weights(struct layer *l)
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

static inline void make_residual(struct layer *l)
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

static inline double gelu(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

/* One element past activation and residual, and how far a float32 computation of it may be off. */
static inline void simulate_one(const struct layer *l, size_t row, size_t place)
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
        bool coarse = l->kind.input && l->kind.output != OUT_F32 && !l->kind.residual;
        bound = 1.13 * bound + 4 * UNIT * fabs(t); /* GELU's slope is at most 1.129 */
        bound += coarse ? 6e-6 : 1.3e-6;
        t = gelu(t);
    }
    size_t at = row * l->n + place;
    double residual = l->r ? l->r[at] : 0;
    l->value[at] = t + residual;
    l->bound[at] = bound + 4 * UNIT * (fabs(t) + fabs(residual));
}

static inline void simulate(struct layer *l)
{
    l->value = malloc(l->rows * l->n * sizeof *l->value);
    l->bound = malloc(l->rows * l->n * sizeof *l->bound);
    if (!l->value || !l->bound) FAIL("memory");
    for (size_t i = 0; i < l->rows; i++)
        for (size_t j = 0; j < l->n; j++) simulate_one(l, i, j);
}

/* The range of the values, or what 8 bits can tell from their bounds if that is larger. */
static inline float largest(const struct layer *l)
{
    double most = 0.05;
    for (size_t i = 0; i < l->rows * l->n; i++)
        most = fmax(most, fmax(fabs(l->value[i]), 1e5 * l->bound[i]));
    return (float)most;
}

static inline void make_output(struct layer *l)
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
static inline void make_layer(struct layer *l)
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

/* ---- kinds ---- */

static inline bool possible(const struct kind *k)
{
    bool twin = scheme_is_twin(k->input);
    if (k->output == OUT_S32 && (!k->input || twin || k->residual)) return false;
    return true;
}

static inline void randomise(struct kind *k)
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

/* ---- running ---- */

static inline qvit_plan *make_plan(const struct layer *l, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &l->make, &plan, &why));
    return keep_plan(plan);
}

static inline void run_plan(const qvit_plan *plan, const qvit_tensor *input,
                            const qvit_tensor *residual, const qvit_tensor *output, size_t rows)
{
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = input, args.residual = residual, args.output = output;
    args.workspace_size = qvit_linear_workspace_size(plan, rows);
    args.workspace = workspace(args.workspace_size);
    MUST(qvit_linear_run(plan, &args, &why));
}

/* The output, in memory of its own; canaries are checked. */
static inline struct view output_of(struct layer *l, const qvit_engine *engine)
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

/* ---- comparing ---- */

static inline void check_code(const struct layer *l, size_t i, double value, double bound, int code)
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

static inline void check_sum(const struct layer *l, size_t i, double got)
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

static inline void check_output(const struct layer *l, const qvit_tensor *out)
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

#endif
