/*
 * test_matmul.c - products of two activations against a simulation in double precision, and against
 * themselves: on every instruction set, with any number of workers, and sample by sample.
 */
#include "support.h"

enum output { OUT_F32, OUT_S32, OUT_U8, OUT_S8, OUTPUTS };

/* One product with its operands. left 0: floats. */
struct product {
    qvit_scheme left_scheme;
    enum output kind;
    qvit_engine *engine; /* of the quantizers */
    size_t batch, heads, m, n, k;
    qvit_matmul_options make;
    struct view left, right;
    double *value,
        *bound; /* [batch][heads][m][n]: the scaled product, and how far a float may be off */
};

static void product_free(struct product *p)
{
    free(p->value), free(p->bound);
    release();
}

/* Layer, or one block for each head over heads * width columns. */
static qvit_granularity *random_heads(const struct product *p, size_t width)
{
    if (test_below(2)) return NULL;
    return granularity_columns(p->engine, p->heads * width, p->heads);
}

/* The coder of one head. */
static struct coder head_coder(const qvit_quantizer *q, size_t head, size_t width)
{
    return coder_at(q, 0, head * width);
}

static void fill_operand(const qvit_port *port, const qvit_tensor *t)
{
    if (!port->quantizer) {
        fill_normal(t, 1);
        return;
    }
    struct coder c = coder_at(port->quantizer, 0, 0);
    fill_codes(t, c.lo, c.hi);
}

static void make_left(struct product *p)
{
    qvit_port *port = &p->make.left;
    port->dtype = QVIT_DTYPE_F32;
    if (p->left_scheme) {
        int32_t bits = random_bits(), zero = (int32_t)test_below((size_t)1 << bits);
        port->quantizer =
            quantizer_random(p->engine, p->left_scheme, bits, 0, random_heads(p, p->k), 3, zero);
        port->dtype = qvit_quantizer_code_dtype(port->quantizer);
    }
    p->left = view_strided(port->dtype, 4, (size_t[]){p->batch, p->heads, p->m, p->k}, 9);
    fill_operand(port, &p->left.t);
}

static void make_right(struct product *p)
{
    qvit_port *port = &p->make.right;
    port->dtype = QVIT_DTYPE_F32;
    if (p->left_scheme) {
        int32_t bits = random_bits();
        uint32_t flags = bits == 8 || test_below(2) ? QVIT_QUANTIZER_NARROW : 0;
        port->quantizer = quantizer_random(p->engine, QVIT_SCHEME_SYMMETRIC, bits, flags,
                                           random_heads(p, p->k), 2, 0);
        port->dtype = QVIT_DTYPE_S8;
    }
    int transposed = p->make.right_transposed;
    size_t dims[4] = {p->batch, p->heads, transposed ? p->n : p->k, transposed ? p->k : p->n};
    p->right = view_strided(port->dtype, 4, dims, 9);
    fill_operand(port, &p->right.t);
}

/* Element (i, j) of one pair's operand as a number; pair is batch * heads + head. */
static double left_at(const struct product *p, size_t pair, size_t i, size_t j)
{
    double code = tensor_get(&p->left.t, (pair * p->m + i) * p->k + j);
    if (!p->make.left.quantizer) return code;
    struct coder c = head_coder(p->make.left.quantizer, pair % p->heads, p->k);
    return coder_decode(&c, (int)code);
}

static double right_at(const struct product *p, size_t pair, size_t i, size_t j)
{
    size_t place = p->make.right_transposed ? j * p->k + i : i * p->n + j;
    double code = tensor_get(&p->right.t, pair * p->k * p->n + place);
    if (!p->make.right.quantizer) return code;
    struct coder c = head_coder(p->make.right.quantizer, pair % p->heads, p->k);
    return coder_decode(&c, (int)code);
}

/* a [m][k], b [n][k] of one pair, to the scaled product and its bounds. */
static void multiply(const struct product *p, const double *a, const double *b, size_t pair)
{
    double scale = p->make.scale == 0 ? 1 : (double)p->make.scale;
    double roundings = p->left_scheme ? 12 : (double)p->k + 4;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            double sum = 0, magnitude = 0;
            for (size_t q = 0; q < p->k; q++) {
                double product = a[i * p->k + q] * b[j * p->k + q];
                sum += product;
                magnitude += fabs(product);
            }
            size_t at = (pair * p->m + i) * p->n + j;
            p->value[at] = sum * scale;
            p->bound[at] = roundings * UNIT * magnitude * fabs(scale);
        }
}

static void simulate(struct product *p)
{
    size_t pairs = p->batch * p->heads, cells = pairs * p->m * p->n;
    p->value = malloc(cells * sizeof *p->value);
    p->bound = malloc(cells * sizeof *p->bound);
    double *a = malloc(p->m * p->k * sizeof *a), *b = malloc(p->n * p->k * sizeof *b);
    if (!p->value || !p->bound || !a || !b) FAIL("memory");
    for (size_t pair = 0; pair < pairs; pair++) {
        for (size_t i = 0; i < p->m * p->k; i++) a[i] = left_at(p, pair, i / p->k, i % p->k);
        for (size_t i = 0; i < p->n * p->k; i++) b[i] = right_at(p, pair, i % p->k, i / p->k);
        multiply(p, a, b, pair);
    }
    free(a), free(b);
}

static void make_output(struct product *p)
{
    qvit_port *port = &p->make.output;
    port->dtype = p->kind == OUT_S32 ? QVIT_DTYPE_S32 : QVIT_DTYPE_F32;
    if (p->kind == OUT_F32 || p->kind == OUT_S32) return;
    double most = 0.05;
    for (size_t i = 0; i < p->batch * p->heads * p->m * p->n; i++)
        most = fmax(most, fmax(fabs(p->value[i]), 1e5 * p->bound[i]));
    qvit_scheme scheme = p->kind == OUT_U8 ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    port->quantizer = quantizer_random(p->engine, scheme, random_bits(), 0, random_heads(p, p->n),
                                       (float)most * random_between(0.4f, 1.5f), -1);
    port->dtype = qvit_quantizer_code_dtype(port->quantizer);
}

/* Everything but the sizes and the kind is random. */
static void make_product(struct product *p)
{
    p->engine = engine_new();
    p->make = (qvit_matmul_options)QVIT_MATMUL_OPTIONS_INIT;
    p->make.heads = p->heads == 1 && test_below(2) ? 0 : p->heads;
    p->make.right_transposed = (int32_t)test_below(2);
    p->make.scale = test_below(3) == 0 ? 0 : random_between(-0.5f, 1);
    make_left(p);
    make_right(p);
    simulate(p);
    make_output(p);
}

/* ---- running ---- */

static qvit_plan *make_plan(const struct product *p, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_matmul_create(engine, &p->make, &plan, &why));
    return keep_plan(plan);
}

static void run_plan(const struct product *p, const qvit_plan *plan, const qvit_tensor *left,
                     const qvit_tensor *right, const qvit_tensor *output)
{
    qvit_matmul_args args = QVIT_MATMUL_ARGS_INIT;
    args.left = left, args.right = right, args.output = output;
    args.workspace_size = qvit_matmul_workspace_size(plan, p->m, p->n, p->k);
    args.workspace = workspace(args.workspace_size);
    MUST(qvit_matmul_run(plan, &args, &why));
}

static struct view new_output(const struct product *p)
{
    size_t dims[4] = {p->batch, p->heads, p->m, p->n};
    return view_strided(p->make.output.dtype, 4, dims, 9);
}

static struct view output_of(const struct product *p, const qvit_engine *engine)
{
    struct view out = new_output(p);
    run_plan(p, make_plan(p, engine), &p->left.t, &p->right.t, &out.t);
    CHECK(view_gaps_untouched(&out));
    return out;
}

/* Sample b alone. */
static qvit_tensor sample(const qvit_tensor *t, size_t b)
{
    qvit_tensor out = *t;
    ptrdiff_t bytes = (ptrdiff_t)(dtype_bits(t->dtype) / 8);
    out.data = (char *)t->data + (ptrdiff_t)b * t->strides[0] * bytes;
    out.dims[0] = 1;
    return out;
}

static struct view output_by_samples(const struct product *p, const qvit_engine *engine)
{
    struct view out = new_output(p);
    qvit_plan *plan = make_plan(p, engine);
    for (size_t b = 0; b < p->batch; b++) {
        qvit_tensor left = sample(&p->left.t, b), right = sample(&p->right.t, b);
        qvit_tensor to = sample(&out.t, b);
        run_plan(p, plan, &left, &right, &to);
    }
    CHECK(view_gaps_untouched(&out));
    return out;
}

/* ---- comparing ---- */

static void check_sum(const struct product *p, size_t at, double got)
{
    size_t j = at % p->n, i = at / p->n % p->m, pair = at / p->n / p->m;
    int zero = head_coder(p->make.left.quantizer, 0, p->k).zero;
    int64_t sum = 0;
    for (size_t q = 0; q < p->k; q++) {
        size_t place = p->make.right_transposed ? j * p->k + q : q * p->n + j;
        int64_t a = (int64_t)tensor_get(&p->left.t, (pair * p->m + i) * p->k + q) - zero;
        sum += a * (int64_t)tensor_get(&p->right.t, pair * p->k * p->n + place);
    }
    CHECK_EQ(got, sum);
}

static void check_code(const struct product *p, size_t at, int code)
{
    struct coder c = head_coder(p->make.output.quantizer, at / p->n / p->m % p->heads, p->n);
    double value = p->value[at];
    double bound = p->bound[at] + 8 * UNIT * (fabs(value) + c.zero * c.scale);
    int low = coder_encode(&c, value - bound), high = coder_encode(&c, value + bound);
    if (code < low || code > high)
        FAIL("[%zu] is code %d, not %d..%d: value %.9g +- %.3g, scale %g", at, code, low, high,
             value, bound, c.scale);
    if (!(bound < 0.25 * c.scale)) FAIL("[%zu]: a bound of %g says nothing", at, bound / c.scale);
}

static void check_output(const struct product *p, const qvit_tensor *out)
{
    for (size_t i = 0; i < tensor_count(out); i++) {
        double got = tensor_get(out, i);
        if (p->kind == OUT_S32) {
            check_sum(p, i, got);
        } else if (p->kind != OUT_F32) {
            check_code(p, i, (int)got);
        } else if (!(fabs(got - p->value[i]) <= p->bound[i] + 4 * UNIT * fabs(p->value[i]))) {
            FAIL("[%zu] is %.9g, not %.9g +- %.3g", i, got, p->value[i], p->bound[i]);
        }
    }
}

static void check_variants(const struct product *p, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < isa_variant_count() && (p->left_scheme || i == 0); i++)
        for (size_t w = 0; w < sizeof workers / sizeof workers[0]; w++) {
            size_t mark = kept.count;
            struct shuffled shuffled = {.workers = workers[w]};
            qvit_executor executor = shuffled_hook(&shuffled);
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, &executor);
            struct view out = output_of(p, engine);
            CHECK_SAME(&out.t, expected);
            if (w == i) {
                struct view samples = output_by_samples(p, engine);
                CHECK_SAME(&samples.t, expected);
            }
            release_to(mark);
        }
}

/* ---- the tests ---- */

static void products_match_double_precision(qvit_scheme left, size_t most, int times)
{
    for (int kind = 0; kind < OUTPUTS; kind++) {
        if (kind == OUT_S32 && (!left || scheme_is_twin(left))) continue;
        for (int t = 0; t < times; t++) {
            struct product p = {.left_scheme = left, .kind = (enum output)kind};
            p.batch = random_size(4), p.heads = random_size(5);
            p.m = random_size(most), p.n = random_size(most), p.k = random_size(most);
            make_product(&p);
            struct view out = output_of(&p, p.engine);
            check_output(&p, &out.t);
            check_variants(&p, &out.t);
            product_free(&p);
        }
    }
}

static void asymmetric_codes_match_double_precision(void)
{
    products_match_double_precision(QVIT_SCHEME_ASYMMETRIC, 90, 20);
}

static void symmetric_codes_match_double_precision(void)
{
    products_match_double_precision(QVIT_SCHEME_SYMMETRIC, 90, 20);
}

static void twin_softmax_codes_match_double_precision(void)
{
    products_match_double_precision(QVIT_SCHEME_TWIN_SOFTMAX, 90, 20);
}

static void twin_gelu_codes_match_double_precision(void)
{
    products_match_double_precision(QVIT_SCHEME_TWIN_GELU, 90, 20);
}

static void floats_match_double_precision(void) { products_match_double_precision(0, 90, 20); }

/* Every remainder of every tile of the packing, in both orientations. */
static void every_edge_of_the_right_operand(void)
{
    for (size_t n = 1; n <= 65; n++)
        for (size_t k = 1; k <= 9; k++)
            for (int floats = 0; floats < 2; floats++) {
                struct product p = {.left_scheme = floats ? 0 : QVIT_SCHEME_ASYMMETRIC,
                                    .kind = OUT_F32,
                                    .batch = 1,
                                    .heads = 1,
                                    .n = n,
                                    .k = k};
                p.m = 1 + (n + k) % 4;
                make_product(&p);
                for (size_t i = 0; i < isa_variant_count(); i++) {
                    struct view out = output_of(&p, engine_with(isa_variants[i], NULL, NULL));
                    check_output(&p, &out.t);
                }
                product_free(&p);
            }
}

/* One right operand for all samples and heads, through strides of 0. */
static void a_stride_of_zero_repeats(void)
{
    struct product p = {.left_scheme = QVIT_SCHEME_SYMMETRIC,
                        .kind = OUT_S8,
                        .batch = 3,
                        .heads = 2,
                        .m = 10,
                        .n = 12,
                        .k = 14};
    make_product(&p);
    p.right.t.strides[0] = p.right.t.strides[1] = 0;
    p.left.t.strides[1] = 0;
    free(p.value), free(p.bound);
    simulate(&p);
    struct view out = output_of(&p, p.engine);
    for (size_t i = 0; i < isa_variant_count(); i++) {
        struct view other = output_of(&p, engine_with(isa_variants[i], NULL, NULL));
        CHECK_SAME(&other.t, &out.t);
    }
    p.make.output = (qvit_port){QVIT_DTYPE_S32, 0, NULL};
    p.kind = OUT_S32;
    struct view sums = output_of(&p, p.engine);
    check_output(&p, &sums.t);
    product_free(&p);
}

/* The longest sums of extreme codes that surely fit. */
static void longest_sums(qvit_scheme scheme, int32_t zero, int low, int high, size_t k)
{
    for (size_t v = 0; v < isa_variant_count(); v++) {
        const qvit_engine *engine = engine_with(isa_variants[v], NULL, NULL);
        struct product p = {
            .left_scheme = scheme, .kind = OUT_S32, .batch = 1, .heads = 1, .m = 2, .n = 2, .k = k};
        p.make = (qvit_matmul_options)QVIT_MATMUL_OPTIONS_INIT;
        p.make.right_transposed = v % 2;
        p.make.left.quantizer = quantizer_layer(engine, scheme, 8, 0, 0.1f, 0, zero);
        p.make.left.dtype = qvit_quantizer_code_dtype(p.make.left.quantizer);
        p.make.right.quantizer =
            quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 0.1f, 0, 0);
        p.make.right.dtype = QVIT_DTYPE_S8;
        p.make.output.dtype = QVIT_DTYPE_S32;
        p.left = view_dense(p.make.left.dtype, 4, (size_t[]){1, 1, 2, k});
        size_t dims[4] = {1, 1, v % 2 ? 2 : k, v % 2 ? k : 2};
        p.right = view_dense(QVIT_DTYPE_S8, 4, dims);
        for (size_t i = 0; i < k; i++) {
            tensor_set(&p.left.t, i, low);
            tensor_set(&p.left.t, k + i, high);
            tensor_set(&p.right.t, v % 2 ? i : i * 2, 127);
            tensor_set(&p.right.t, v % 2 ? k + i : i * 2 + 1, -127);
        }
        struct view out = output_of(&p, engine);
        check_output(&p, &out.t);
        release();
    }
}

/* Twins have no bare sums; what they come to is exact in a float to within its rounding. */
static void longest_twin_sums_do_not_wrap(void)
{
    for (size_t v = 0; v < isa_variant_count(); v++) {
        const qvit_engine *engine = engine_with(isa_variants[v], NULL, NULL);
        struct product p = {.left_scheme = QVIT_SCHEME_TWIN_GELU,
                            .kind = OUT_F32,
                            .batch = 1,
                            .heads = 1,
                            .m = 2,
                            .n = 2,
                            .k = 131071};
        p.make = (qvit_matmul_options)QVIT_MATMUL_OPTIONS_INIT;
        p.make.left.quantizer = quantizer_layer(engine, QVIT_SCHEME_TWIN_GELU, 8, 0, 0.5f, 1, 0);
        p.make.right.quantizer =
            quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 1, 0, 0);
        p.make.left.dtype = p.make.right.dtype = QVIT_DTYPE_S8;
        p.make.output.dtype = QVIT_DTYPE_F32;
        p.left = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){1, 1, 2, p.k});
        p.right = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){1, 1, p.k, 2});
        for (size_t i = 0; i < p.k; i++) {
            tensor_set(&p.left.t, i, -128);
            tensor_set(&p.left.t, p.k + i, 127);
            tensor_set(&p.right.t, i * 2, 127);
            tensor_set(&p.right.t, i * 2 + 1, -127);
        }
        simulate(&p);
        struct view out = output_of(&p, engine);
        check_output(&p, &out.t);
        product_free(&p);
    }
}

static void longest_sums_are_exact(void)
{
    longest_sums(QVIT_SCHEME_ASYMMETRIC, 0, 0, 255, 65793);
    longest_sums(QVIT_SCHEME_ASYMMETRIC, 255, 0, 255, 32896);
    longest_sums(QVIT_SCHEME_SYMMETRIC, 0, -128, 127, 43804);
}

static void a_plan_tells_about_itself(void)
{
    struct product p = {.left_scheme = QVIT_SCHEME_TWIN_SOFTMAX,
                        .kind = OUT_F32,
                        .batch = 1,
                        .heads = 3,
                        .m = 4,
                        .n = 4,
                        .k = 4};
    make_product(&p);
    qvit_plan *plan = make_plan(&p, p.engine);
    char text[256];
    CHECK_EQ(qvit_plan_describe(plan, text, sizeof text), strlen(text));
    CHECK(strstr(text, "matmul, 3 heads"));
    CHECK(strstr(text, qvit_plan_kernel(plan)));
    CHECK_EQ(qvit_matmul_workspace_size(NULL, 1, 1, 1), 0);
    CHECK(qvit_matmul_workspace_size(plan, 1, SIZE_MAX / 2, 8) == SIZE_MAX);
    CHECK(qvit_matmul_workspace_size(plan, 1, 8, SIZE_MAX / 2) == SIZE_MAX);
    CHECK(qvit_matmul_workspace_size(plan, 8, 9, 9) >= qvit_matmul_workspace_size(plan, 8, 8, 8));
    CHECK_EQ(qvit_matmul_workspace_size(plan, 3, 5, 7) % QVIT_ALIGNMENT, 0);
    CHECK_EQ(qvit_matmul_workspace_size(plan, 3, 5, 0), 0);
    for (size_t k = 2; k < 80; k++) /* whether rows are read in place or not */
        CHECK(qvit_matmul_workspace_size(plan, 16, 16, k) >=
              qvit_matmul_workspace_size(plan, 16, 16, k - 1));
    product_free(&p);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(asymmetric_codes_match_double_precision);
    RUN(symmetric_codes_match_double_precision);
    RUN(twin_softmax_codes_match_double_precision);
    RUN(twin_gelu_codes_match_double_precision);
    RUN(floats_match_double_precision);
    RUN(every_edge_of_the_right_operand);
    RUN(a_stride_of_zero_repeats);
    RUN(longest_sums_are_exact);
    RUN(longest_twin_sums_do_not_wrap);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
