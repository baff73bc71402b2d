/*
 * test_attention.c - attention plans against a simulation in double precision, against gathered
 * windows, and against themselves: on every instruction set, with any number of workers.
 */
#include "support.h"

/* Rounding of one float operation, relative. */
#define UNIT 6e-8

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

static void attention_free(struct attention *a)
{
    free(a->score), free(a->probability), free(a->score_bound), free(a->probability_bound);
    free(a->context), free(a->bound);
    release();
}

/* 1..most, small numbers as likely as large ones. */
static size_t random_size(size_t most) { return 1 + test_below(1 + test_below(most)); }

static int32_t random_bits(void) { return 2 + (int32_t)test_below(7); }

/* Layer, or one block for each head; `each`: or for each column. */
static qvit_granularity *random_heads(const struct attention *a, bool each)
{
    size_t columns = a->heads * a->dim;
    if (each && test_below(3) == 0) return granularity_columns(a->engine, columns, columns);
    return test_below(2) ? granularity_columns(a->engine, columns, a->heads) : NULL;
}

/* ---- making ---- */

static struct view make_operand(const struct attention *a, qvit_port *port, qvit_scheme scheme,
                                size_t tokens, float range)
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
static struct view make_cells(const struct attention *a)
{
    size_t dims[4] = {test_below(2) ? a->batch : 1, test_below(2) ? a->heads : 1, a->queries,
                      a->keys};
    struct view v = view_strided(QVIT_DTYPE_F32, 4, dims, 9);
    fill_normal(&v.t, 1);
    return v;
}

/* Masks about a third of the cells, and whole rows now and then. */
static void make_mask(struct attention *a)
{
    a->mask = make_cells(a);
    for (size_t row = 0; row < tensor_count(&a->mask.t) / a->keys; row++) {
        bool all = test_below(6) == 0;
        for (size_t j = 0; j < a->keys; j++)
            if (all || test_below(3) == 0)
                tensor_set(&a->mask.t, row * a->keys + j, -(double)INFINITY);
    }
}

static void make_vectors(struct attention *a)
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

static void make_probability(struct attention *a)
{
    qvit_port *port = &a->make.probability;
    port->dtype = QVIT_DTYPE_F32;
    if (!a->kind.query) return;
    uint32_t flags = test_below(2) ? QVIT_QUANTIZER_RELATIVE : 0;
    port->quantizer = quantizer_random(a->engine, a->kind.probability, random_bits(), flags, NULL,
                                       random_between(0.3f, 1), 0);
    port->dtype = qvit_quantizer_code_dtype(port->quantizer);
}

static void make_output(struct attention *a)
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

/* ---- the simulation ---- */

/* Element d of head h of a token as a number. */
static double operand_at(const struct attention *a, const qvit_port *port, const qvit_tensor *t,
                         size_t b, size_t token, size_t h, size_t d)
{
    double code = tensor_get(t, ((b * t->dims[1] + token) * a->heads + h) * a->dim + d);
    if (!port->quantizer) return code;
    struct coder c = coder_at(port->quantizer, 0, h * a->dim + d);
    return coder_decode(&c, (int)code);
}

/* One head of an operand: [tokens][dim]. */
static double *head_of(const struct attention *a, const qvit_port *port, const qvit_tensor *t,
                       size_t b, size_t h)
{
    double *out = malloc(t->dims[1] * a->dim * sizeof *out);
    if (!out) FAIL("memory");
    for (size_t i = 0; i < t->dims[1]; i++)
        for (size_t d = 0; d < a->dim; d++)
            out[i * a->dim + d] = operand_at(a, port, t, b, i, h, d);
    return out;
}

/* What bias or mask adds to a score; 0 without one. */
static double cell_at(const struct attention *a, const qvit_tensor *t, size_t b, size_t h,
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
static void soften(size_t n, const double *s, double error, double *p, double *bound)
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

/* Raw scores Q K^T of one row, and from them its probabilities. */
static void simulate_row(struct attention *a, const double *q, const double *k, size_t b, size_t h,
                         size_t i)
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
        double off = UNIT * (roundings * magnitude * fabs(scale) + 4 * (fabs(bias) + fabs(mask)));
        error = fmax(error, off);
    }
    soften(a->keys, s, error, a->probability + at, a->probability_bound + at);
    free(s);
}

/* The probability that V is multiplied by, and how far that may be off. */
static double quantized(const struct attention *a, double p, double *bound)
{
    if (!a->make.probability.quantizer) return p;
    struct coder c = coder_at(a->make.probability.quantizer, 0, 0);
    double low = coder_decode(&c, coder_encode(&c, p - *bound));
    double high = coder_decode(&c, coder_encode(&c, p + *bound));
    *bound = fabs(high - low);
    return coder_decode(&c, coder_encode(&c, p));
}

static double largest(const double *p, size_t n)
{
    double top = 0;
    for (size_t j = 0; j < n; j++) top = fmax(top, p[j]);
    return top;
}

static void simulate_context(struct attention *a, const double *v, size_t b, size_t h, size_t i)
{
    size_t at = ((b * a->heads + h) * a->queries + i) * a->keys;
    size_t to = ((b * a->queries + i) * a->heads + h) * a->dim;
    double roundings = a->kind.query ? 12 : (double)a->keys + 8, share = 1;
    for (size_t d = 0; d < a->dim; d++) a->context[to + d] = a->bound[to + d] = 0;
    if (qvit_quantizer_flags(a->make.probability.quantizer) & QVIT_QUANTIZER_RELATIVE) {
        roundings += 16 + (double)a->keys / 8; /* the sum is divided by later */
        share = largest(a->probability + at, a->keys);
    }
    for (size_t j = 0; j < a->keys && share > 0; j++) {
        /* of two probabilities, where they are divided */
        double off = a->probability_bound[at + j] * (share < 1 ? 2 : 1) / share;
        double p = share * quantized(a, a->probability[at + j] / share, &off);
        off *= share;
        for (size_t d = 0; d < a->dim; d++) {
            double value = v[j * a->dim + d];
            a->context[to + d] += p * value;
            a->bound[to + d] += (off + roundings * UNIT * p) * fabs(value);
        }
    }
}

static void simulate(struct attention *a)
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

/* Everything but the sizes and the kind is random. */
static void make_attention(struct attention *a)
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

/* ---- running ---- */

static qvit_plan *make_plan(const struct attention *a, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_attention_create(engine, &a->make, &plan, &why));
    return keep_plan(plan);
}

static qvit_attention_args make_args(const struct attention *a, const qvit_plan *plan,
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

static struct view new_output(const struct attention *a)
{
    size_t dims[4] = {a->batch, a->queries, a->heads, a->dim};
    return view_strided(a->make.output.dtype, 4, dims, 9);
}

static struct view output_of(const struct attention *a, const qvit_engine *engine)
{
    struct view out = new_output(a);
    qvit_plan *plan = make_plan(a, engine);
    qvit_attention_args args = make_args(a, plan, &out);
    MUST(qvit_attention_run(plan, &args, &why));
    CHECK(view_gaps_untouched(&out));
    return out;
}

/* Sample b alone; NULL, and what has one sample for all, stay as they are. */
static const qvit_tensor *sample(const qvit_tensor *t, size_t b, qvit_tensor *out)
{
    if (!t || t->dims[0] == 1) return t;
    ptrdiff_t bytes = (ptrdiff_t)(dtype_bits(t->dtype) / 8);
    *out = *t;
    out->data = (char *)t->data + (ptrdiff_t)b * t->strides[0] * bytes;
    out->dims[0] = 1;
    return out;
}

static struct view output_by_samples(const struct attention *a, const qvit_engine *engine)
{
    struct view out = new_output(a);
    qvit_plan *plan = make_plan(a, engine);
    for (size_t b = 0; b < a->batch; b++) {
        qvit_tensor part[6];
        qvit_attention_args args = make_args(a, plan, &out);
        args.query = sample(args.query, b, &part[0]), args.key = sample(args.key, b, &part[1]);
        args.value = sample(args.value, b, &part[2]), args.bias = sample(args.bias, b, &part[3]);
        args.mask = sample(args.mask, b, &part[4]), args.output = sample(args.output, b, &part[5]);
        MUST(qvit_attention_run(plan, &args, &why));
    }
    CHECK(view_gaps_untouched(&out));
    return out;
}

/* ---- comparing ---- */

/* Elements whose code the simulation knew, and others (a probability lay on a boundary). */
static size_t known, unknown;

static void check_code(const struct attention *a, size_t i, double value, double bound, int code)
{
    struct coder c = coder_at(a->make.output.quantizer, 0, i % (a->heads * a->dim));
    bound += 8 * UNIT * (fabs(value) + c.zero * c.scale);
    int low = coder_encode(&c, value - bound), high = coder_encode(&c, value + bound);
    if (code < low || code > high)
        FAIL("[%zu] is code %d, not %d..%d: value %.9g +- %.3g, scale %g", i, code, low, high,
             value, bound, c.scale);
    if (bound < 0.25 * c.scale)
        known++;
    else
        unknown++;
}

static void check_output(const struct attention *a, const qvit_tensor *out)
{
    for (size_t i = 0; i < tensor_count(out); i++) {
        size_t column = i % (a->heads * a->dim);
        double got = tensor_get(out, i), scale = 1, shift = 0;
        if (a->kind.scaled) scale = tensor_get(&a->scale.t, column);
        if (a->kind.shifted) shift = tensor_get(&a->shift.t, column);
        double value = (a->context[i] - shift) / scale;
        double bound = (a->bound[i] + 8 * UNIT * fabs(shift)) / scale + 8 * UNIT * fabs(value);
        if (a->kind.output != OUT_F32) {
            check_code(a, i, value, bound, (int)got);
        } else if (!(fabs(got - value) <= bound)) {
            FAIL("[%zu] is %.9g, not %.9g +- %.3g", i, got, value, bound);
        }
    }
}

static void check_variants(const struct attention *a, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < ISA_VARIANTS && (a->kind.query || i == 0); i++)
        for (size_t w = 0; w < sizeof workers / sizeof workers[0]; w++) {
            size_t mark = kept.count;
            struct shuffled shuffled = {.workers = workers[w]};
            qvit_executor executor = shuffled_hook(&shuffled);
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, &executor);
            struct view out = output_of(a, engine);
            CHECK_SAME(&out.t, expected);
            if (w == i) {
                struct view samples = output_by_samples(a, engine);
                CHECK_SAME(&samples.t, expected);
            }
            release_to(mark);
        }
}

/* ---- against the simulation ---- */

static void attention_matches_double_precision(qvit_scheme query, qvit_scheme probability,
                                               int times)
{
    known = unknown = 0;
    for (int t = 0; t < times; t++) {
        struct attention a = {.kind = {.query = query, .probability = probability}};
        a.kind.output = (enum output)test_below(OUTPUTS);
        a.kind.bias = test_below(2), a.kind.mask = test_below(2);
        a.kind.scaled = test_below(2), a.kind.shifted = test_below(2);
        a.batch = random_size(3), a.heads = random_size(4);
        a.queries = random_size(70), a.keys = random_size(70), a.dim = random_size(128);
        make_attention(&a);
        simulate(&a);
        struct view out = output_of(&a, a.engine);
        check_output(&a, &out.t);
        check_variants(&a, &out.t);
        attention_free(&a);
    }
    if (unknown > (known + unknown) / 20)
        FAIL("the simulation knew only %zu of %zu codes", known, known + unknown);
}

static void unsigned_queries_match_double_precision(void)
{
    attention_matches_double_precision(QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_ASYMMETRIC, 50);
}

static void signed_queries_match_double_precision(void)
{
    attention_matches_double_precision(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC, 50);
}

static void signed_probabilities_match_double_precision(void)
{
    attention_matches_double_precision(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_SYMMETRIC, 50);
}

static void twin_probabilities_match_double_precision(void)
{
    attention_matches_double_precision(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_TWIN_SOFTMAX, 50);
    attention_matches_double_precision(QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_TWIN_SOFTMAX, 50);
}

static void float_attention_matches_double_precision(void)
{
    attention_matches_double_precision(0, 0, 50);
}

/* Every remainder of the tiles in all three sizes, on every instruction set. */
static void every_edge_of_every_tile(void)
{
    static const qvit_scheme probabilities[] = {QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_SYMMETRIC,
                                                QVIT_SCHEME_TWIN_SOFTMAX};
    for (size_t i = 1; i <= 65; i++)
        for (int floats = 0; floats < 2; floats++) {
            struct attention a = {.kind = {.query = floats ? 0 : QVIT_SCHEME_SYMMETRIC,
                                           .probability = probabilities[i % 3],
                                           .output = (enum output)(i % OUTPUTS)},
                                  .batch = 1,
                                  .heads = 1,
                                  .queries = 1 + i % 31,
                                  .keys = i};
            a.dim = 1 + (i * 7) % 65;
            make_attention(&a);
            simulate(&a);
            for (size_t v = 0; v < ISA_VARIANTS; v++) {
                struct view out = output_of(&a, engine_with(isa_variants[v], NULL, NULL));
                check_output(&a, &out.t);
            }
            attention_free(&a);
        }
}

static void a_masked_row_gives_zero(qvit_scheme query, qvit_scheme probability, enum output output)
{
    for (size_t v = 0; v < ISA_VARIANTS; v++) {
        struct attention a = {
            .kind = {.query = query, .probability = probability, .output = output, .mask = true},
            .batch = 2,
            .heads = 2,
            .queries = 5,
            .keys = 19,
            .dim = 9};
        make_attention(&a);
        fill_value(&a.mask.t, -(double)INFINITY);
        struct view out = output_of(&a, engine_with(isa_variants[v], NULL, NULL));
        for (size_t i = 0; i < tensor_count(&out.t); i++) {
            int zero = output == OUT_F32
                           ? 0
                           : coder_at(a.make.output.quantizer, 0, i % (a.heads * a.dim)).zero;
            CHECK_EQ(tensor_get(&out.t, i), zero);
        }
        attention_free(&a);
    }
}

static void masked_rows_give_zero(void)
{
    a_masked_row_gives_zero(0, 0, OUT_F32);
    a_masked_row_gives_zero(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC, OUT_U8);
    a_masked_row_gives_zero(QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_TWIN_SOFTMAX, OUT_S8);
    a_masked_row_gives_zero(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_SYMMETRIC, OUT_F32);
}

/* A score that is NaN counts as masked, one of +infinity makes its row 0. */
static void scores_that_are_no_numbers(qvit_scheme query, qvit_scheme probability)
{
    for (size_t v = 0; v < ISA_VARIANTS; v++) {
        struct attention a = {.kind = {.query = query, .probability = probability, .mask = true},
                              .batch = 1,
                              .heads = 1,
                              .queries = 2,
                              .keys = 21,
                              .dim = 5};
        make_attention(&a);
        a.mask = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){1, 1, 2, 21});
        fill_value(&a.mask.t, 0);
        tensor_set(&a.mask.t, 7, -(double)INFINITY);
        const qvit_engine *engine = engine_with(isa_variants[v], NULL, NULL);
        struct view masked = output_of(&a, engine);
        tensor_set(&a.mask.t, 7, (double)NAN);
        tensor_set(&a.mask.t, a.keys + 2, (double)INFINITY);
        struct view out = output_of(&a, engine);
        for (size_t d = 0; d < a.dim; d++) {
            CHECK_NEAR(tensor_get(&out.t, d), tensor_get(&masked.t, d), 0);
            CHECK_NEAR(tensor_get(&out.t, a.dim + d), 0, 0);
        }
        attention_free(&a);
    }
}

static void scores_that_are_no_numbers_are_masked(void)
{
    scores_that_are_no_numbers(0, 0);
    scores_that_are_no_numbers(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC);
    scores_that_are_no_numbers(QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_TWIN_SOFTMAX);
}

/* A score_scale of 0 is head_dim^-1/2. */
static void the_usual_scale_is_the_default(void)
{
    struct attention a = {
        .kind = {.query = QVIT_SCHEME_SYMMETRIC, .probability = QVIT_SCHEME_ASYMMETRIC},
        .batch = 2,
        .heads = 2,
        .queries = 9,
        .keys = 11,
        .dim = 16};
    make_attention(&a);
    a.make.score_scale = 0.25f;
    struct view expected = output_of(&a, a.engine);
    a.make.score_scale = 0;
    struct view out = output_of(&a, a.engine);
    CHECK_SAME(&out.t, &expected.t);
    attention_free(&a);
}

/* ---- what float plans write besides ---- */

static void check_cells(const qvit_tensor *got, const double *value, const double *bound)
{
    for (size_t i = 0; i < tensor_count(got); i++)
        if (!(fabs(tensor_get(got, i) - value[i]) <= bound[i] + 2 * UNIT * fabs(value[i])))
            FAIL("[%zu] is %.9g, not %.9g +- %.3g", i, tensor_get(got, i), value[i], bound[i]);
}

static void scores_and_probabilities_are_written(void)
{
    for (int t = 0; t < 12; t++) {
        struct attention a = {.kind = {.bias = t % 2, .mask = t % 3 == 0}};
        a.batch = random_size(3), a.heads = random_size(3);
        a.queries = random_size(40), a.keys = random_size(40), a.dim = random_size(64);
        make_attention(&a);
        simulate(&a);
        struct view expected = output_of(&a, a.engine), out = new_output(&a);
        size_t dims[4] = {a.batch, a.heads, a.queries, a.keys};
        struct view scores = view_strided(QVIT_DTYPE_F32, 4, dims, 9);
        struct view probabilities = view_strided(QVIT_DTYPE_F32, 4, dims, 9);
        qvit_plan *plan = make_plan(&a, a.engine);
        qvit_attention_args args = make_args(&a, plan, &out);
        if (t % 4 != 1) args.scores = &scores.t;
        if (t % 4 != 2) args.probabilities = &probabilities.t;
        MUST(qvit_attention_run(plan, &args, &why));
        CHECK_SAME(&out.t, &expected.t);
        if (args.scores) check_cells(&scores.t, a.score, a.score_bound);
        if (args.probabilities) check_cells(&probabilities.t, a.probability, a.probability_bound);
        CHECK(view_gaps_untouched(&scores) && view_gaps_untouched(&probabilities));
        attention_free(&a);
    }
}

/* ---- ways to lay tensors out ---- */

/* Query, key and value are parts of one tensor [batch, tokens, 3, heads, dim]. */
static void a_joint_tensor_is_used_in_place(void)
{
    for (int floats = 0; floats < 2; floats++) {
        struct attention a = {.kind = {.query = floats ? 0 : QVIT_SCHEME_SYMMETRIC,
                                       .probability = QVIT_SCHEME_ASYMMETRIC},
                              .batch = 2,
                              .heads = 3,
                              .queries = 17,
                              .keys = 17,
                              .dim = 10};
        make_attention(&a);
        struct view expected = output_of(&a, a.engine);
        size_t dims[5] = {a.batch, a.queries, 3, a.heads, a.dim};
        struct view joint = view_dense(a.make.query.dtype, 5, dims);
        struct view *parts[] = {&a.query, &a.key, &a.value};
        size_t size = dtype_bits(joint.t.dtype) / 8, row = a.heads * a.dim;
        for (size_t p = 0; p < 3; p++) {
            qvit_tensor part = parts[p]->t;
            part.data = (char *)joint.t.data + p * row * size;
            part.strides[0] = joint.t.strides[0];
            part.strides[1] = joint.t.strides[1];
            part.strides[2] = joint.t.strides[3];
            for (size_t i = 0; i < tensor_count(&part); i++)
                tensor_set(&part, i, tensor_get(&parts[p]->t, i));
            parts[p]->t = part;
        }
        struct view out = output_of(&a, a.engine);
        CHECK_SAME(&out.t, &expected.t);
        attention_free(&a);
    }
}

/* A permutation of n numbers, or with `repeat` any of them. */
static void fill_rows(const qvit_tensor *t, size_t n, bool repeat)
{
    size_t count = tensor_count(t);
    size_t *order = malloc(n * sizeof *order);
    if (!order) FAIL("memory");
    for (size_t i = 0; i < n; i++) {
        size_t j = test_below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < count; i++)
        tensor_set(t, i, repeat ? (double)test_below(n) : (double)order[i]);
    free(order);
}

/* Spreads [batch, tokens, heads, dim] over [1, all, heads, dim]: row rows[b][t] is token t of b. */
static struct view scatter(const struct view *from, const qvit_tensor *rows, size_t all)
{
    size_t dims[4] = {1, all, from->t.dims[2], from->t.dims[3]}, width = dims[2] * dims[3];
    struct view to = view_strided(from->t.dtype, 4, dims, 9);
    for (size_t i = 0; i < tensor_count(&from->t); i++)
        tensor_set(&to.t, (size_t)tensor_get(rows, i / width) * width + i % width,
                   tensor_get(&from->t, i));
    return to;
}

/* Gathers them back. */
static struct view gather(const struct view *from, const qvit_tensor *rows)
{
    size_t dims[4] = {rows->dims[0], rows->dims[1], from->t.dims[2], from->t.dims[3]};
    size_t width = dims[2] * dims[3];
    struct view to = view_dense(from->t.dtype, 4, dims);
    for (size_t i = 0; i < tensor_count(&to.t); i++)
        tensor_set(&to.t, i,
                   tensor_get(&from->t, (size_t)tensor_get(rows, i / width) * width + i % width));
    return to;
}

/* Canaries stand in every row that no window names. */
static void check_unnamed_rows(const struct view *out, const qvit_tensor *rows)
{
    size_t width = out->t.dims[2] * out->t.dims[3];
    for (size_t row = 0; row < out->t.dims[1]; row++) {
        bool named = false;
        for (size_t i = 0; i < tensor_count(rows); i++)
            named = named || (size_t)tensor_get(rows, i) == row;
        for (size_t i = 0; i < width && !named; i++) {
            size_t size = dtype_bits(out->t.dtype) / 8;
            const unsigned char *at = (const unsigned char *)out->t.data +
                                      (size_t)tensor_place(&out->t, row * width + i) * size;
            for (size_t b = 0; b < size; b++) CHECK_EQ(at[b], CANARY);
        }
    }
}

/* The same attention with windows over scattered rows; bits are those of the gathered one. */
static void windows_equal_gathered_ones(qvit_scheme query, qvit_scheme probability, bool by_query,
                                        bool by_key)
{
    for (int t = 0; t < 8; t++) {
        struct attention a = {.kind = {.query = query,
                                       .probability = probability,
                                       .output = (enum output)(t % OUTPUTS),
                                       .bias = t % 2,
                                       .mask = t % 3 == 0}};
        a.batch = by_query || by_key ? random_size(4) : 1, a.heads = random_size(3);
        a.queries = random_size(20), a.keys = random_size(20), a.dim = random_size(40);
        make_attention(&a);
        struct view query_rows = view_strided(QVIT_DTYPE_S32, 2, (size_t[]){a.batch, a.queries}, 5);
        struct view key_rows = view_strided(QVIT_DTYPE_S32, 2, (size_t[]){a.batch, a.keys}, 5);
        size_t all_queries = a.batch * a.queries + 3, all_keys = a.batch * a.keys + 2;
        fill_rows(&query_rows.t, all_queries, false);
        fill_rows(&key_rows.t, all_keys, false);
        struct view queries = scatter(&a.query, &query_rows.t, all_queries);
        struct view keys = scatter(&a.key, &key_rows.t, all_keys);
        struct view values = scatter(&a.value, &key_rows.t, all_keys);
        struct shuffled shuffled = {.workers = 1 + test_below(4)};
        qvit_executor executor = shuffled_hook(&shuffled);
        struct view expected = output_of(&a, a.engine), out = new_output(&a);
        size_t dims[4] = {1, all_queries, a.heads, a.dim};
        if (by_query) out = view_strided(a.make.output.dtype, 4, dims, 9);
        qvit_plan *plan = make_plan(&a, engine_with(0, NULL, &executor));
        qvit_attention_args args = make_args(&a, plan, &out);
        if (by_query) args.query = &queries.t, args.query_rows = &query_rows.t;
        if (by_key) args.key = &keys.t, args.value = &values.t, args.key_rows = &key_rows.t;
        MUST(qvit_attention_run(plan, &args, &why));
        CHECK(view_gaps_untouched(&out));
        struct view gathered = by_query ? gather(&out, &query_rows.t) : out;
        CHECK_SAME(&gathered.t, &expected.t);
        if (by_query) check_unnamed_rows(&out, &query_rows.t);
        attention_free(&a);
    }
}

static void windows_of_codes_equal_gathered_ones(void)
{
    for (int by = 1; by < 4; by++) {
        windows_equal_gathered_ones(QVIT_SCHEME_ASYMMETRIC, QVIT_SCHEME_TWIN_SOFTMAX, by & 1,
                                    by & 2);
        windows_equal_gathered_ones(QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC, by & 1, by & 2);
    }
}

static void windows_of_floats_equal_gathered_ones(void)
{
    for (int by = 1; by < 4; by++) windows_equal_gathered_ones(0, 0, by & 1, by & 2);
}

/* Windows may share keys: a token's row may be named by several, or more than once. */
static void windows_may_share_keys(void)
{
    struct attention a = {
        .kind = {.query = QVIT_SCHEME_SYMMETRIC, .probability = QVIT_SCHEME_ASYMMETRIC},
        .batch = 3,
        .heads = 2,
        .queries = 6,
        .keys = 11,
        .dim = 8};
    make_attention(&a);
    struct view rows = view_dense(QVIT_DTYPE_S32, 2, (size_t[]){a.batch, a.keys});
    fill_rows(&rows.t, 5, true);
    size_t dims[4] = {1, 5, a.heads, a.dim};
    struct view keys = view_dense(QVIT_DTYPE_S8, 4, dims),
                values = view_dense(QVIT_DTYPE_S8, 4, dims);
    struct coder c = coder_at(a.make.key.quantizer, 0, 0),
                 v = coder_at(a.make.value.quantizer, 0, 0);
    fill_codes(&keys.t, c.lo, c.hi);
    fill_codes(&values.t, v.lo, v.hi);
    a.key = gather(&keys, &rows.t), a.value = gather(&values, &rows.t);
    struct view expected = output_of(&a, a.engine), out = new_output(&a);
    qvit_plan *plan = make_plan(&a, a.engine);
    qvit_attention_args args = make_args(&a, plan, &out);
    args.key = &keys.t, args.value = &values.t, args.key_rows = &rows.t;
    MUST(qvit_attention_run(plan, &args, &why));
    CHECK_SAME(&out.t, &expected.t);
    attention_free(&a);
}

static void a_plan_tells_about_itself(void)
{
    struct attention a = {
        .kind = {.query = QVIT_SCHEME_SYMMETRIC, .probability = QVIT_SCHEME_TWIN_SOFTMAX},
        .batch = 1,
        .heads = 3,
        .queries = 4,
        .keys = 5,
        .dim = 6};
    make_attention(&a);
    qvit_plan *plan = make_plan(&a, a.engine);
    char text[256];
    CHECK_EQ(qvit_plan_describe(plan, text, sizeof text), strlen(text));
    CHECK(strstr(text, "attention, 3 heads of 6"));
    CHECK(strstr(text, qvit_plan_kernel(plan)));
    CHECK_EQ(qvit_attention_workspace_size(NULL, 1, 1), 0);
    CHECK(qvit_attention_workspace_size(plan, 1, SIZE_MAX / 4) == SIZE_MAX);
    CHECK(qvit_attention_workspace_size(plan, 9, 99) >= qvit_attention_workspace_size(plan, 9, 9));
    CHECK_EQ(qvit_attention_workspace_size(plan, 5, 7) % QVIT_ALIGNMENT, 0);
    CHECK_EQ(qvit_attention_workspace_size(plan, 5, 0), 0);
    attention_free(&a);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(unsigned_queries_match_double_precision);
    RUN(signed_queries_match_double_precision);
    RUN(signed_probabilities_match_double_precision);
    RUN(twin_probabilities_match_double_precision);
    RUN(float_attention_matches_double_precision);
    RUN(every_edge_of_every_tile);
    RUN(masked_rows_give_zero);
    RUN(scores_that_are_no_numbers_are_masked);
    RUN(the_usual_scale_is_the_default);
    RUN(scores_and_probabilities_are_written);
    RUN(a_joint_tensor_is_used_in_place);
    RUN(windows_of_codes_equal_gathered_ones);
    RUN(windows_may_share_keys);
    RUN(a_plan_tells_about_itself);
    RUN(windows_of_floats_equal_gathered_ones);
    return test_end();
}
