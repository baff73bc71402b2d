/*
 * simulated_attention.h - attention with its operands, and what it should give, in double precision.
 *
 *   make_attention()  everything but the sizes and the kind is random
 *   simulate()        scores, probabilities and context, and how far a float may be off
 *   output_of()       what a plan gives
 *
 * What these functions make lives until attention_free().
 */
#ifndef QVIT_TEST_SIMULATED_ATTENTION_H
#define QVIT_TEST_SIMULATED_ATTENTION_H

#include "support.h"

/* ---- attention with its operands ---- */

enum output { OUT_F32, OUT_U8, OUT_S8, OUTPUTS };

/* What kind of attention. query 0: floats. */
struct kind {
    qvit_scheme query, probability;
    enum output output;
    bool bias, mask, scaled, shifted;
};

struct attention {
    struct kind kind;
    qvit_engine *engine; /* of the quantizers */
    size_t batch, heads, queries, keys, dim;
    qvit_attention_options make;
    struct view query, key, value, bias, mask, scale, shift;
    double *score, *probability; /* [batch][heads][queries][keys] */
    double *score_bound, *probability_bound;
    double *context, *bound; /* [batch][queries][heads][dim] */
};

static inline void attention_free(struct attention *a)
{
    free(a->score), free(a->probability), free(a->score_bound), free(a->probability_bound);
    free(a->context), free(a->bound);
    release();
}

/* Layer, or one block for each head; `each`: or for each column. */
static inline qvit_granularity *random_heads(const struct attention *a, bool each)
{
    size_t columns = a->heads * a->dim;
    if (each && test_below(3) == 0) return granularity_columns(a->engine, columns, columns);
    return test_below(2) ? granularity_columns(a->engine, columns, a->heads) : NULL;
}

static inline struct view make_operand(const struct attention *a, qvit_port *port,
                                       qvit_scheme scheme, size_t tokens, float range)
{
    port->dtype = QVIT_DTYPE_F32;
    if (scheme) {
        int32_t bits = random_bits(), zero = (int32_t)test_below((size_t)1 << bits);
        uint32_t flags = scheme == QVIT_SCHEME_SYMMETRIC ? QVIT_QUANTIZER_NARROW : 0;
        port->quantizer = quantizer_random(a->engine, scheme, bits, flags,
                                           random_heads(a, port == &a->make.value), range, zero);
        port->dtype = qvit_quantizer_code_dtype(port->quantizer);
    }
    size_t dims[4] = {a->batch, tokens, a->heads, a->dim};
    struct view v = view_strided(port->dtype, 4, dims, 9);
    if (!scheme) {
        fill_normal(&v.t, range / 2);
        return v;
    }
    struct coder c = coder_at(port->quantizer, 0, 0);
    fill_codes(&v.t, c.lo, c.hi);
    return v;
}

/* [batch or 1, heads or 1, queries, keys] floats. */
static inline struct view make_cells(const struct attention *a)
{
    size_t dims[4] = {test_below(2) ? a->batch : 1, test_below(2) ? a->heads : 1, a->queries,
                      a->keys};
    struct view v = view_strided(QVIT_DTYPE_F32, 4, dims, 9);
    fill_normal(&v.t, 1);
    return v;
}

/* Masks about a third of the cells, and whole rows now and then. */
static inline void make_mask(struct attention *a)
{
    a->mask = make_cells(a);
    for (size_t row = 0; row < tensor_count(&a->mask.t) / a->keys; row++) {
        bool all = test_below(6) == 0;
        for (size_t j = 0; j < a->keys; j++)
            if (all || test_below(3) == 0)
                tensor_set(&a->mask.t, row * a->keys + j, -(double)INFINITY);
    }
}

static inline void make_vectors(struct attention *a)
{
    size_t columns = a->heads * a->dim;
    if (a->kind.scaled) {
        a->scale = view_vector(columns);
        for (size_t j = 0; j < columns; j++)
            tensor_set(&a->scale.t, j, (double)random_between(0.5f, 2));
        a->make.output_scale = &a->scale.t;
    }
    if (a->kind.shifted) {
        a->shift = view_vector(columns);
        fill_normal(&a->shift.t, 0.3f);
        a->make.output_shift = &a->shift.t;
    }
}

static inline void make_probability(struct attention *a)
{
    qvit_port *port = &a->make.probability;
    port->dtype = QVIT_DTYPE_F32;
    if (!a->kind.query) return;
    uint32_t flags = test_below(2) ? QVIT_QUANTIZER_RELATIVE : 0;
    port->quantizer = quantizer_random(a->engine, a->kind.probability, random_bits(), flags, NULL,
                                       random_between(0.3f, 1), 0);
    port->dtype = qvit_quantizer_code_dtype(port->quantizer);
}

static inline void make_output(struct attention *a)
{
    qvit_port *port = &a->make.output;
    port->dtype = QVIT_DTYPE_F32;
    if (a->kind.output == OUT_F32) return;
    size_t columns = a->heads * a->dim;
    qvit_scheme scheme = a->kind.output == OUT_U8 ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    qvit_granularity *g = test_below(2) ? granularity_random(a->engine, QVIT_ANY, columns) : NULL;
    port->quantizer =
        quantizer_random(a->engine, scheme, random_bits(), 0, g, random_between(0.5f, 2), -1);
    port->dtype = qvit_quantizer_code_dtype(port->quantizer);
}

/* Everything but the sizes and the kind is random. */
static inline void make_attention(struct attention *a)
{
    qvit_scheme codes = a->kind.query ? QVIT_SCHEME_SYMMETRIC : 0;
    a->engine = engine_new();
    a->make = (qvit_attention_options)QVIT_ATTENTION_OPTIONS_INIT;
    a->make.heads = a->heads;
    a->make.head_dim = a->dim;
    a->make.score_scale = random_between(0.5f, 1) / sqrtf((float)a->dim);
    a->query = make_operand(a, &a->make.query, a->kind.query, a->queries, 3);
    a->key = make_operand(a, &a->make.key, codes, a->keys, 2);
    a->value = make_operand(a, &a->make.value, codes, a->keys, 2);
    if (a->kind.bias) a->bias = make_cells(a);
    if (a->kind.mask) make_mask(a);
    make_vectors(a);
    make_probability(a);
    make_output(a);
}

/* ---- the simulation ---- */

/* Element d of head h of a token as a number. */
static inline double operand_at(const struct attention *a, const qvit_port *port,
                                const qvit_tensor *t, size_t b, size_t token, size_t h, size_t d)
{
    double code = tensor_get(t, ((b * t->dims[1] + token) * a->heads + h) * a->dim + d);
    if (!port->quantizer) return code;
    struct coder c = coder_at(port->quantizer, 0, h * a->dim + d);
    return coder_decode(&c, (int)code);
}

/* One head of an operand: [tokens][dim]. */
static inline double *head_of(const struct attention *a, const qvit_port *port,
                              const qvit_tensor *t, size_t b, size_t h)
{
    double *out = malloc(t->dims[1] * a->dim * sizeof *out);
    if (!out) FAIL("memory");
    for (size_t i = 0; i < t->dims[1]; i++)
        for (size_t d = 0; d < a->dim; d++)
            out[i * a->dim + d] = operand_at(a, port, t, b, i, h, d);
    return out;
}

/* What bias or mask adds to a score; 0 without one. */
static inline double cell_at(const struct attention *a, const qvit_tensor *t, size_t b, size_t h,
                             size_t query, size_t key)
{
    if (!t->data) return 0;
    b = t->dims[0] == 1 ? 0 : b;
    h = t->dims[1] == 1 ? 0 : h;
    return tensor_get(t, ((b * t->dims[1] + h) * a->queries + query) * a->keys + key);
}

/*
 * One row of probabilities from its scores. s: scaled, with bias and mask; error: how far any of
 * them may be off. The relative error of a probability follows from it, from exp and from the sum.
 */
static inline void soften(size_t n, const double *s, double error, double *p, double *bound)
{
    double top = -(double)INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) top = fmax(top, s[j]);
    for (size_t j = 0; j < n; j++) {
        p[j] = isinf(top) ? 0 : exp(s[j] - top);
        sum += p[j];
    }
    double relative = 2.2 * error + 2e-7 + (8 + (double)n / 16) * UNIT;
    for (size_t j = 0; j < n; j++) {
        p[j] = sum > 0 ? p[j] / sum : 0;
        bound[j] = p[j] * relative + (sum > 0 ? 1e-35 : 0);
    }
}

/*
 * The same where codes are written (kernels.h). Depths below the largest are whole 1024ths of an octave, exponentials
 * of them, off by 9e-5, whole 2^15ths: where an error may move one of these to its neighbour, that is part of the bound.
 * A twin's codes are made of exponentials before they are whole, and divided by the sum of whole ones.
 */
static inline void soften_to_codes(size_t n, const double *s, double error, bool twin, double *p,
                                   double *bound)
{
    const double steps = 1024 / log(2.0);
    double top = -(double)INFINITY, sum = 0, sum_bound = 0;
    for (size_t j = 0; j < n; j++) top = fmax(top, s[j]);
    for (size_t j = 0; j < n; j++) {
        p[j] = bound[j] = 0;
        if (isinf(top) || isinf(s[j])) continue;
        double depth = (top - s[j]) * steps, off = 2.2 * error * steps + 6 * UNIT * depth;
        double e = 32767.5 * exp2(-nearbyint(depth) / 1024), whole = floor(e + 0.5);
        double low = 32767.5 * exp2(-nearbyint(depth + off) / 1024) * (1 - 9e-5);
        double high = 32767.5 * exp2(-nearbyint(fmax(depth - off, 0)) / 1024) * (1 + 9e-5);
        double unsure = floor(high + 0.5) - floor(low + 0.5);
        p[j] = twin ? e : whole;
        bound[j] = twin ? high - low : unsure;
        sum += whole;
        sum_bound += unsure;
    }
    for (size_t j = 0; j < n && sum > 0; j++) {
        p[j] /= sum;
        bound[j] = (bound[j] + 1.1 * sum_bound * p[j]) / sum + 6e-5 * p[j];
    }
}

/* Raw scores Q K^T of one row, and from them its probabilities. */
static inline void simulate_row(struct attention *a, const double *q, const double *k, size_t b,
                                size_t h, size_t i)
{
    size_t at = ((b * a->heads + h) * a->queries + i) * a->keys;
    double scale = (double)a->make.score_scale, error = 0;
    double roundings = a->kind.query ? 12 : (double)a->dim + 8;
    double *s = malloc(a->keys * sizeof *s);
    if (!s) FAIL("memory");
    for (size_t j = 0; j < a->keys; j++) {
        double sum = 0, magnitude = 0;
        for (size_t d = 0; d < a->dim; d++) {
            sum += q[i * a->dim + d] * k[j * a->dim + d];
            magnitude += fabs(q[i * a->dim + d] * k[j * a->dim + d]);
        }
        double bias = cell_at(a, &a->bias.t, b, h, i, j), mask = cell_at(a, &a->mask.t, b, h, i, j);
        a->score[at + j] = sum;
        a->score_bound[at + j] = roundings * UNIT * magnitude;
        s[j] = sum * scale + bias + mask;
        if (isinf(mask)) continue;
        /* sums of codes are exact: what is rounded is their scale, and what is made of them */
        double product = a->kind.query ? 6 * fabs(sum) : roundings * magnitude;
        double off = UNIT * (product * fabs(scale) + 4 * (fabs(bias) + fabs(mask)));
        error = fmax(error, off);
    }
    if (a->kind.query)
        soften_to_codes(a->keys, s, error, a->kind.probability == QVIT_SCHEME_TWIN_SOFTMAX,
                        a->probability + at, a->probability_bound + at);
    else
        soften(a->keys, s, error, a->probability + at, a->probability_bound + at);
    free(s);
}

/* How many bits behind the point plain codes have before they are rounded. */
static inline int fraction_bits(const struct coder *c)
{
    int bits = 15;
    while (bits > 0 && ldexp(1 / c->scale, bits) > 32767) bits--;
    return bits;
}

/* The probability that V is multiplied by, and how far that may be off. */
static inline double quantized(const struct attention *a, double p, double *bound)
{
    if (!a->make.probability.quantizer) return p;
    struct coder c = coder_at(a->make.probability.quantizer, 0, 0);
    /* Codes have a fraction of some bits, of which what lies below is cut off. */
    if (c.scheme != QVIT_SCHEME_TWIN_SOFTMAX) *bound += c.scale * 1.75 * exp2(-fraction_bits(&c));
    double low = coder_decode(&c, coder_encode(&c, p - *bound));
    double high = coder_decode(&c, coder_encode(&c, p + *bound));
    *bound = fabs(high - low);
    return coder_decode(&c, coder_encode(&c, p));
}

static inline size_t largest(const double *p, size_t n)
{
    size_t top = 0;
    for (size_t j = 0; j < n; j++) top = p[j] > p[top] ? j : top;
    return top;
}

static inline void simulate_context(struct attention *a, const double *v, size_t b, size_t h,
                                    size_t i)
{
    size_t at = ((b * a->heads + h) * a->queries + i) * a->keys;
    size_t to = ((b * a->queries + i) * a->heads + h) * a->dim;
    double roundings = a->kind.query ? 12 : (double)a->keys + 8, share = 1, share_off = 0;
    for (size_t d = 0; d < a->dim; d++) a->context[to + d] = a->bound[to + d] = 0;
    if (qvit_quantizer_flags(a->make.probability.quantizer) & QVIT_QUANTIZER_RELATIVE) {
        roundings += 16 + (double)a->keys / 8; /* the sum is divided by later */
        size_t top = largest(a->probability + at, a->keys);
        share = a->probability[at + top];
        share_off = share > 0 ? a->probability_bound[at + top] / share : 0;
    }
    for (size_t j = 0; j < a->keys && share > 0; j++) {
        /* of two probabilities, where they are divided */
        double off = a->probability_bound[at + j] * (share < 1 ? 2 : 1) / share;
        double p = share * quantized(a, a->probability[at + j] / share, &off);
        off = off * share + share_off * p;
        for (size_t d = 0; d < a->dim; d++) {
            double value = v[j * a->dim + d];
            a->context[to + d] += p * value;
            a->bound[to + d] += (off + roundings * UNIT * p) * fabs(value);
        }
    }
}

static inline void simulate(struct attention *a)
{
    size_t cells = a->batch * a->heads * a->queries * a->keys;
    size_t outputs = a->batch * a->heads * a->queries * a->dim;
    a->score = malloc(cells * sizeof(double)), a->score_bound = malloc(cells * sizeof(double));
    a->probability = malloc(cells * sizeof(double));
    a->probability_bound = malloc(cells * sizeof(double));
    a->context = malloc(outputs * sizeof(double)), a->bound = malloc(outputs * sizeof(double));
    if (!a->score || !a->score_bound || !a->probability || !a->probability_bound || !a->context ||
        !a->bound)
        FAIL("memory");
    for (size_t b = 0; b < a->batch; b++)
        for (size_t h = 0; h < a->heads; h++) {
            double *q = head_of(a, &a->make.query, &a->query.t, b, h);
            double *k = head_of(a, &a->make.key, &a->key.t, b, h);
            double *v = head_of(a, &a->make.value, &a->value.t, b, h);
            for (size_t i = 0; i < a->queries; i++) {
                simulate_row(a, q, k, b, h, i);
                simulate_context(a, v, b, h, i);
            }
            free(q), free(k), free(v);
        }
}

/* ---- running ---- */

static inline qvit_plan *make_plan(const struct attention *a, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_attention_create(engine, &a->make, &plan, &why));
    return keep_plan(plan);
}

static inline qvit_attention_args make_args(const struct attention *a, const qvit_plan *plan,
                                            const struct view *out)
{
    qvit_attention_args args = QVIT_ATTENTION_ARGS_INIT;
    args.query = &a->query.t, args.key = &a->key.t, args.value = &a->value.t;
    if (a->kind.bias) args.bias = &a->bias.t;
    if (a->kind.mask) args.mask = &a->mask.t;
    args.output = &out->t;
    args.workspace_size = qvit_attention_workspace_size(plan, a->queries, a->keys);
    args.workspace = workspace(args.workspace_size);
    return args;
}

static inline struct view new_output(const struct attention *a)
{
    size_t dims[4] = {a->batch, a->queries, a->heads, a->dim};
    return view_strided(a->make.output.dtype, 4, dims, 9);
}

static inline struct view output_of(const struct attention *a, const qvit_engine *engine)
{
    struct view out = new_output(a);
    qvit_plan *plan = make_plan(a, engine);
    qvit_attention_args args = make_args(a, plan, &out);
    MUST(qvit_attention_run(plan, &args, &why));
    CHECK(view_gaps_untouched(&out));
    return out;
}

#endif
