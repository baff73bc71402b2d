/*
 * check_plans.c - whole plans, made through the public header, against the reference composed by hand.
 *
 * What the header says about the arithmetic of a linear and an attention plan is written down once more
 * here, with the reference's functions, and must give the plan's bits.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "qvit.h"
#include "ref/ref.h"

enum { LINEAR_CASES = 60, ATTENTION_CASES = 40 };

static void try_call(qvit_status status, const qvit_error *error)
{
    if (status != QVIT_OK) check_fail("%s", error->text);
}

/* ---- operands ---- */

/* An engine that runs this table and what it builds on. */
static qvit_engine *engine_for(const struct qvitp_kernels *table)
{
    qvit_engine_options o = QVIT_ENGINE_OPTIONS_INIT;
    qvit_engine *engine;
    qvit_error error;
    o.isa_disable = ~table->needs;
    try_call(qvit_engine_create(&o, &engine, &error), &error);
    return engine;
}

/* A power of two, as often as any other number that ranges are joined for. */
static int32_t random_multiple(void)
{
    return check_below(2) ? 1 << check_below(9) : 1 + (int32_t)check_below(256);
}

static float random_scale(void) { return 0.001f + 0.05f * fabsf(check_uniform()); }

/* A layer quantizer, and the numbers that it is made of. */
struct coder {
    qvit_quantizer *quantizer;
    qvit_scheme scheme;
    float scale, scale2;
    int32_t high; /* scale2 = scale * high, or 0 */
    int32_t zero, bits;
    float lo, hi;
};

static struct coder make_coder(const qvit_engine *engine, qvit_scheme scheme, int32_t bits,
                               uint32_t flags)
{
    struct coder c = {.scheme = scheme, .scale = random_scale(), .bits = bits};
    int is_signed = scheme == QVIT_SCHEME_SYMMETRIC || scheme == QVIT_SCHEME_TWIN_GELU;
    int32_t half = 1 << (bits - 1), twin = scheme >= QVIT_SCHEME_TWIN_SOFTMAX;
    if (twin && check_below(3)) {
        c.high = random_multiple();
        c.scale = roundf(c.scale * 0x1p16f) * 0x1p-16f; /* 12 bits, so that the product is exact */
    }
    c.scale2 = c.high ? c.scale * (float)c.high : random_scale();
    c.lo = (float)(is_signed ? -half + (flags ? 1 : 0) : 0);
    c.hi = (float)(is_signed ? half - 1 : 2 * half - 1);
    int has_zero =
        scheme == QVIT_SCHEME_ASYMMETRIC || (scheme == QVIT_SCHEME_TWIN_GELU && check_below(2) > 0);
    if (has_zero) c.zero = (int32_t)c.lo + (int32_t)check_below((size_t)(c.hi - c.lo) + 1);
    qvit_parameter parameters[3] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &c.scale}};
    size_t count = 1;
    if (has_zero)
        parameters[count++] =
            (qvit_parameter){QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &c.zero};
    if (twin)
        parameters[count++] = (qvit_parameter){QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, 1, &c.scale2};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = scheme;
    o.bits = bits;
    o.flags = flags;
    o.parameters = parameters;
    o.parameter_count = count;
    qvit_error error;
    try_call(qvit_quantizer_create(engine, &o, &c.quantizer, &error), &error);
    return c;
}

/* The highest value of a twin whose ranges are joined. */
static int32_t highest_joined(const struct coder *c)
{
    if (c->scheme == QVIT_SCHEME_TWIN_GELU) return ((int32_t)c->hi - c->zero) * c->high;
    return ((1 << (c->bits - 1)) - 1) * c->high;
}

static qvit_port port_of(const struct coder *c)
{
    return (qvit_port){qvit_quantizer_code_dtype(c->quantizer), 0, c->quantizer};
}

static uint8_t *random_codes(const struct coder *c, size_t count)
{
    uint8_t *codes = malloc(count);
    size_t levels = (size_t)(c->hi - c->lo) + 1;
    for (size_t i = 0; i < count; i++)
        codes[i] = (uint8_t)((int32_t)c->lo + (int32_t)check_below(levels));
    return codes;
}

static float *random_floats(size_t count, float scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = scale * check_normal();
    return x;
}

static qvit_tensor view(void *data, qvit_dtype dtype, size_t rank, const size_t *dims)
{
    qvit_tensor t;
    qvit_tensor_init(&t, data, dtype, rank, dims);
    return t;
}

static void *new_workspace(size_t bytes)
{
    return aligned_alloc(QVIT_ALIGNMENT, (bytes / QVIT_ALIGNMENT + 1) * QVIT_ALIGNMENT);
}

/* ---- linear ---- */

struct linear_case {
    size_t m, n, k;
    struct coder in, weight, out;
    uint8_t *x, *w;
    int8_t *distance;       /* of the weights' codes from zero */
    float *bias, *residual; /* residual may be NULL */
    int gelu, codes_out;
};

static qvit_scheme random_input_scheme(void)
{
    return (qvit_scheme)(QVIT_SCHEME_SYMMETRIC + (int)check_below(4));
}

static struct linear_case random_linear(const qvit_engine *engine)
{
    struct linear_case c = {.m = 1 + check_below(40),
                            .n = 1 + check_below(70),
                            .k = 1 + check_below(check_below(8) ? 200 : 900),
                            .gelu = check_random() & 1,
                            .codes_out = check_random() & 1};
    static const qvit_scheme outs[] = {QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC,
                                       QVIT_SCHEME_TWIN_GELU};
    int32_t bits = 2 + (int32_t)check_below(7);
    c.in = make_coder(engine, random_input_scheme(), 2 + (int32_t)check_below(7), 0);
    qvit_scheme weight =
        bits == 8 || check_below(2) ? QVIT_SCHEME_SYMMETRIC : QVIT_SCHEME_ASYMMETRIC;
    c.weight = make_coder(engine, weight, bits, bits == 8 ? QVIT_QUANTIZER_NARROW : 0);
    c.out = make_coder(engine, outs[check_below(3)], 2 + (int32_t)check_below(7), 0);
    c.x = random_codes(&c.in, c.m * c.k);
    c.w = random_codes(&c.weight, c.n * c.k);
    c.distance = malloc(c.n * c.k);
    for (size_t i = 0; i < c.n * c.k; i++) {
        int32_t code = weight == QVIT_SCHEME_SYMMETRIC ? (int8_t)c.w[i] : c.w[i];
        c.distance[i] = (int8_t)(code - c.weight.zero);
    }
    c.bias = random_floats(c.n, 1);
    if (check_random() & 1) c.residual = random_floats(c.m * c.n, 1);
    return c;
}

static void free_linear(struct linear_case *c)
{
    qvit_quantizer_destroy(c->in.quantizer);
    qvit_quantizer_destroy(c->weight.quantizer);
    qvit_quantizer_destroy(c->out.quantizer);
    free(c->x), free(c->w), free(c->distance), free(c->bias), free(c->residual);
}

static void run_linear(const qvit_engine *engine, const struct linear_case *c, void *y)
{
    const size_t xd[2] = {c->m, c->k}, wd[2] = {c->n, c->k}, yd[2] = {c->m, c->n};
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    qvit_error error;
    o.input = port_of(&c->in);
    o.weight = port_of(&c->weight);
    o.output = c->codes_out ? port_of(&c->out) : (qvit_port){QVIT_DTYPE_F32, 0, NULL};
    if (c->residual) o.residual.dtype = QVIT_DTYPE_F32;
    qvit_tensor x = view(c->x, o.input.dtype, 2, xd), w = view(c->w, o.weight.dtype, 2, wd);
    qvit_tensor bias = view(c->bias, QVIT_DTYPE_F32, 1, &c->n);
    qvit_tensor residual = view(c->residual, QVIT_DTYPE_F32, 2, yd);
    qvit_tensor out = view(y, o.output.dtype, 2, yd);
    o.weights = &w;
    o.bias = &bias;
    o.activation = c->gelu ? QVIT_ACTIVATION_GELU : QVIT_ACTIVATION_NONE;
    qvit_plan *plan;
    try_call(qvit_linear_create(engine, &o, &plan, &error), &error);
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &x;
    a.output = &out;
    if (c->residual) a.residual = &residual;
    a.workspace_size = qvit_linear_workspace_size(plan, c->m);
    a.workspace = new_workspace(a.workspace_size);
    try_call(qvit_linear_run(plan, &a, &error), &error);
    free(a.workspace);
    qvit_plan_destroy(plan);
}

/* The two sums of one output; plain codes have all of it in lo. */
static void reference_sums(const struct linear_case *c, size_t i, size_t j, int32_t *lo,
                           int32_t *hi)
{
    const uint8_t *x = c->x + i * c->k;
    const int8_t *w = c->distance + j * c->k;
    int32_t half = 1 << (c->in.bits - 1);
    *hi = 0;
    if (c->in.scheme == QVIT_SCHEME_SYMMETRIC) {
        qvitp_ref_gemm_s8s8(1, 1, c->k, (const int8_t *)x, c->k, w, c->k, lo, 1);
    } else if (c->in.scheme == QVIT_SCHEME_ASYMMETRIC) {
        qvitp_ref_gemm_u8s8(1, 1, c->k, x, c->k, c->in.zero, w, c->k, lo, 1);
    } else {
        int softmax = c->in.scheme == QVIT_SCHEME_TWIN_SOFTMAX;
        qvitp_ref_gemm_t8s8(1, 1, c->k, x, c->k, softmax ? half : 0, c->in.zero, w, c->k, lo, hi,
                            1);
    }
}

/* Whether a twin's ranges are summed as one: if no sum could overflow, whatever the codes are. */
static int joins(const struct linear_case *c)
{
    int gelu = c->in.scheme == QVIT_SCHEME_TWIN_GELU;
    int64_t low = gelu ? c->in.zero - (int64_t)c->in.lo : (1 << (c->in.bits - 1)) - 1;
    if (!c->in.high) return 0;
    int64_t high = highest_joined(&c->in), value = high > low ? high : low;
    if (high <= (gelu ? 127 : 255) && low <= 128) value = gelu ? 383 : 255;
    float below = (float)c->weight.zero - c->weight.lo,
          above = c->weight.hi - (float)c->weight.zero;
    return (int64_t)c->k * value * (int64_t)fmaxf(below, above) <= INT32_MAX;
}

/* Scale, bias, activation, residual, output; where nothing stands between, one multiplication. */
static float reference_linear(const struct linear_case *c, size_t i, size_t j)
{
    int32_t lo, hi;
    reference_sums(c, i, j, &lo, &hi);
    struct qvitp_ref_epilogue e = {.scale = c->in.scale * c->weight.scale,
                                   .scale2 = c->in.scale2 * c->weight.scale,
                                   .bias = c->bias[j],
                                   .high = joins(c) ? c->in.high : 0,
                                   .twin = c->in.scheme >= QVIT_SCHEME_TWIN_SOFTMAX,
                                   .gelu = c->gelu};
    if (c->residual) e.has_residual = 1, e.residual = c->residual[i * c->n + j];
    if (c->codes_out) {
        int twin = c->out.scheme == QVIT_SCHEME_TWIN_GELU;
        e.has_mul = 1;
        e.mul = 1.0f / (twin ? c->out.scale2 : c->out.scale);
        e.mul_neg = 1.0f / c->out.scale;
        e.add = (float)c->out.zero;
        if (e.gelu && !e.has_residual) { /* its unit moves into what is around it */
            e.gelu = QVITP_GELU_IN_UNITS;
            e.scale *= QVITP_GELU_UNITS, e.scale2 *= QVITP_GELU_UNITS, e.bias *= QVITP_GELU_UNITS;
            e.mul *= QVITP_GELU_UNIT, e.mul_neg *= QVITP_GELU_UNIT;
        }
        if (!twin && !e.gelu && !e.has_residual) {
            e.scale *= e.mul, e.scale2 *= e.mul;
            e.bias = e.bias * e.mul + e.add;
            e.has_mul = 0;
        }
    }
    return qvitp_ref_epilogue(lo, hi, &e);
}

static void compare_linear(const struct linear_case *c, const void *y)
{
    for (size_t i = 0; i < c->m; i++)
        for (size_t j = 0; j < c->n; j++) {
            float expected = reference_linear(c, i, j);
            size_t at = i * c->n + j;
            if (!c->codes_out && !check_same_float(((const float *)y)[at], expected))
                check_fail("[%zu, %zu] is %.9g, not %.9g", i, j, (double)((const float *)y)[at],
                           (double)expected);
            uint8_t code = qvitp_ref_code(expected, c->out.lo, c->out.hi);
            if (c->codes_out && ((const uint8_t *)y)[at] != code)
                check_fail("[%zu, %zu] is code %d, not %d", i, j, ((const uint8_t *)y)[at], code);
        }
}

static void linear_plans(const struct qvitp_kernels *table)
{
    qvit_engine *engine = engine_for(table);
    for (int i = 0; i < LINEAR_CASES; i++) {
        struct linear_case c = random_linear(engine);
        check_case("linear %zu x %zu x %zu, schemes %d %d, %d and %d bits, multiple %d, gelu %d, "
                   "codes %d, "
                   "residual %d",
                   c.m, c.n, c.k, (int)c.in.scheme, (int)c.weight.scheme, (int)c.in.bits,
                   (int)c.weight.bits, (int)c.in.high, c.gelu, c.codes_out, c.residual != NULL);
        void *y = malloc(c.m * c.n * sizeof(float));
        run_linear(engine, &c, y);
        compare_linear(&c, y);
        free(y);
        free_linear(&c);
    }
    qvit_engine_destroy(engine);
}

/* ---- attention ---- */

struct attention_case {
    size_t queries, keys, heads, dim;
    struct coder query, key, value, probability, out;
    uint8_t *q, *k, *v;
    float *mask; /* [queries][keys] or NULL */
    float score_scale;
    int codes_out;
};

/* Plain codes of probabilities have the zero point 0. */
static struct coder make_probability(const qvit_engine *engine)
{
    static const qvit_scheme schemes[] = {QVIT_SCHEME_SYMMETRIC, QVIT_SCHEME_ASYMMETRIC,
                                          QVIT_SCHEME_TWIN_SOFTMAX};
    qvit_scheme scheme = schemes[check_below(3)];
    for (;;) {
        uint32_t flags = check_below(2) ? QVIT_QUANTIZER_RELATIVE : 0;
        struct coder c = make_coder(engine, scheme, 2 + (int32_t)check_below(7), flags);
        if (c.zero == 0) return c;
        qvit_quantizer_destroy(c.quantizer);
    }
}

static struct attention_case random_attention(const qvit_engine *engine)
{
    struct attention_case c = {.queries = 1 + check_below(40),
                               .keys = 1 + check_below(220),
                               .heads = 1 + check_below(3),
                               .dim = 1 + check_below(70),
                               .score_scale = 0.25f,
                               .codes_out = check_random() & 1};
    size_t tokens = c.heads * c.dim;
    c.query = make_coder(engine,
                         check_random() & 1 ? QVIT_SCHEME_SYMMETRIC : QVIT_SCHEME_ASYMMETRIC, 8, 0);
    c.key = make_coder(engine, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW);
    c.value = make_coder(engine, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW);
    c.probability = make_probability(engine);
    c.out = make_coder(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0);
    c.q = random_codes(&c.query, c.queries * tokens);
    c.k = random_codes(&c.key, c.keys * tokens);
    c.v = random_codes(&c.value, c.keys * tokens);
    if (check_random() & 1) {
        c.mask = random_floats(c.queries * c.keys, 1);
        for (size_t i = 0; i < c.queries * c.keys; i++)
            if (check_below(8) == 0) c.mask[i] = -INFINITY;
    }
    return c;
}

static void free_attention(struct attention_case *c)
{
    struct coder *coders[] = {&c->query, &c->key, &c->value, &c->probability, &c->out};
    for (int i = 0; i < 5; i++) qvit_quantizer_destroy(coders[i]->quantizer);
    free(c->q), free(c->k), free(c->v), free(c->mask);
}

static void run_attention(const qvit_engine *engine, const struct attention_case *c, void *y)
{
    const size_t qd[4] = {1, c->queries, c->heads, c->dim}, kd[4] = {1, c->keys, c->heads, c->dim};
    const size_t md[4] = {1, 1, c->queries, c->keys};
    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    o.query = port_of(&c->query), o.key = port_of(&c->key), o.value = port_of(&c->value);
    o.probability = port_of(&c->probability);
    o.output = c->codes_out ? port_of(&c->out) : (qvit_port){QVIT_DTYPE_F32, 0, NULL};
    o.heads = c->heads;
    o.head_dim = c->dim;
    o.score_scale = c->score_scale;
    qvit_plan *plan;
    qvit_error error;
    try_call(qvit_attention_create(engine, &o, &plan, &error), &error);
    qvit_tensor q = view(c->q, o.query.dtype, 4, qd), k = view(c->k, QVIT_DTYPE_S8, 4, kd);
    qvit_tensor v = view(c->v, QVIT_DTYPE_S8, 4, kd), out = view(y, o.output.dtype, 4, qd);
    qvit_tensor mask = view(c->mask, QVIT_DTYPE_F32, 4, md);
    qvit_attention_args a = QVIT_ATTENTION_ARGS_INIT;
    a.query = &q, a.key = &k, a.value = &v, a.output = &out;
    if (c->mask) a.mask = &mask;
    a.workspace_size = qvit_attention_workspace_size(plan, c->queries, c->keys);
    a.workspace = new_workspace(a.workspace_size);
    try_call(qvit_attention_run(plan, &a, &error), &error);
    free(a.workspace);
    qvit_plan_destroy(plan);
}

static struct qvitp_ref_attention reference_head(const struct attention_case *c, size_t head)
{
    const struct coder *p = &c->probability;
    size_t stride = c->heads * c->dim;
    struct qvitp_ref_attention r = {.keys = c->keys,
                                    .dim = c->dim,
                                    .query = c->q + head * c->dim,
                                    .key = (const int8_t *)c->k + head * c->dim,
                                    .value = (const int8_t *)c->v + head * c->dim,
                                    .query_stride = stride,
                                    .key_stride = stride,
                                    .value_stride = stride,
                                    .query_signed = c->query.scheme == QVIT_SCHEME_SYMMETRIC,
                                    .query_zero = c->query.zero,
                                    .score_scale = c->query.scale * c->key.scale * c->score_scale,
                                    .form = {.mul = 1.0f / p->scale, .hi = p->hi}};
    if (p->scheme != QVIT_SCHEME_TWIN_SOFTMAX) return r;
    r.form.mul2 = 1.0f / p->scale2;
    r.form.half = (p->hi + 1) / 2;
    return r;
}

static int is_relative(const struct attention_case *c)
{
    return (qvit_quantizer_flags(c->probability.quantizer) & QVIT_QUANTIZER_RELATIVE) != 0;
}

/* What joins the twin's ranges: only what bytes hold is. */
static int32_t joining(const struct attention_case *c)
{
    const struct coder *p = &c->probability;
    return highest_joined(p) > 255 ? 0 : p->high;
}

/* sum: of the row's exponentials, which relative probabilities are divided by last. */
static float reference_context(const struct attention_case *c, int32_t lo, int32_t hi, float sum)
{
    float mul = 1.0f / c->out.scale, add = (float)c->out.zero;
    struct qvitp_ref_epilogue e = {.scale = c->probability.scale * c->value.scale,
                                   .scale2 = c->probability.scale2 * c->value.scale,
                                   .high = joining(c),
                                   .twin = c->probability.scheme == QVIT_SCHEME_TWIN_SOFTMAX};
    if (is_relative(c))
        return qvitp_ref_rescale(qvitp_ref_epilogue(lo, hi, &e), sum > 0 ? 1 / sum : 0,
                                 c->codes_out ? &mul : NULL, &add);
    if (c->codes_out) {
        e.scale *= mul;
        e.scale2 *= mul;
        e.bias = e.bias * mul + add;
    }
    return qvitp_ref_epilogue(lo, hi, &e);
}

static void compare_row(const struct attention_case *c, size_t head, size_t i, const void *y)
{
    enum { MOST = 256 };
    float scores[MOST];
    uint16_t depths[MOST];
    uint8_t codes[MOST];
    int32_t lo[MOST], hi[MOST];
    struct qvitp_ref_attention r = reference_head(c, head);
    const float *mask = c->mask ? c->mask + i * c->keys : NULL;
    float sum = 0, *relative = is_relative(c) ? &sum : NULL;
    qvitp_ref_attention_row(&r, i, NULL, mask, scores, depths, codes, relative, lo, hi);
    for (size_t d = 0; d < c->dim; d++) {
        float expected = reference_context(c, lo[d], hi[d], sum);
        size_t at = (i * c->heads + head) * c->dim + d;
        if (!c->codes_out && !check_same_float(((const float *)y)[at], expected))
            check_fail("head %zu, [%zu, %zu] is %.9g, not %.9g", head, i, d,
                       (double)((const float *)y)[at], (double)expected);
        uint8_t code = qvitp_ref_code(expected, c->out.lo, c->out.hi);
        if (c->codes_out && ((const uint8_t *)y)[at] != code)
            check_fail("head %zu, [%zu, %zu] is code %d, not %d", head, i, d,
                       ((const uint8_t *)y)[at], code);
    }
}

static void attention_plans(const struct qvitp_kernels *table)
{
    qvit_engine *engine = engine_for(table);
    for (int n = 0; n < ATTENTION_CASES; n++) {
        struct attention_case c = random_attention(engine);
        check_case("attention %zu x %zu tokens, %zu heads of %zu, P scheme %d%s, %d bits, multiple "
                   "%d, codes %d",
                   c.queries, c.keys, c.heads, c.dim, (int)c.probability.scheme,
                   is_relative(&c) ? " relative" : "", (int)c.probability.bits,
                   (int)c.probability.high, c.codes_out);
        void *y = malloc(c.queries * c.heads * c.dim * sizeof(float));
        run_attention(engine, &c, y);
        for (size_t head = 0; head < c.heads; head++)
            for (size_t i = 0; i < c.queries; i++) compare_row(&c, head, i, y);
        free(y);
        free_attention(&c);
    }
    qvit_engine_destroy(engine);
}

void check_plans(const struct qvitp_kernels *table)
{
    if (!table->gemm_u8s8) return;
    check_row("plan_linear", table->isa, linear_plans, table);
    check_row("plan_attention", table->isa, attention_plans, table);
}
