/*
 * test_layer_norm.c - layer normalisation plans against double precision, and against themselves:
 * on every instruction set, with any number of workers, and row by row.
 */
#include "support.h"

enum output { OUT_F32, OUT_U8, OUT_S8, OUTPUTS };

struct norm {
    enum output output;
    bool scaled, shifted;
    qvit_engine *engine; /* of the quantizers */
    size_t rank, dims[QVIT_MAX_RANK], rows, n;
    qvit_layer_norm_options make;
    struct view gamma, beta, scale, shift, input;
    double *value, *bound; /* [rows][n]: behind gamma and beta, and how far a float may be off */
};

static void norm_free(struct norm *l)
{
    free(l->value), free(l->bound);
    release();
}

static void random_rows(struct norm *l, size_t most)
{
    l->rank = 1 + test_below(5);
    l->rows = 1;
    for (size_t i = 0; i + 1 < l->rank; i++) {
        l->dims[i] = test_below(3) ? random_size(most / l->rows) : 1;
        l->rows *= l->dims[i];
    }
    l->dims[l->rank - 1] = l->n;
}

static void make_input(struct norm *l)
{
    l->input = view_strided(QVIT_DTYPE_F32, l->rank, l->dims, 9);
    for (size_t row = 0; row < l->rows; row++) {
        double middle = (double)test_normal() * 2, spread = (double)random_between(0.1f, 3);
        for (size_t j = 0; j < l->n; j++)
            tensor_set(&l->input.t, row * l->n + j, middle + spread * (double)test_normal());
    }
}

static double input_at(const struct norm *l, size_t row, size_t j)
{
    return tensor_get(&l->input.t, row * l->n + j);
}

static void simulate_row(struct norm *l, size_t row)
{
    double n = (double)l->n, mean = 0, size = 0, variance = 0, most = 0;
    for (size_t j = 0; j < l->n; j++) {
        mean += input_at(l, row, j) / n;
        size += fabs(input_at(l, row, j)) / n;
        most = fmax(most, fabs(input_at(l, row, j)));
    }
    for (size_t j = 0; j < l->n; j++) variance += pow(input_at(l, row, j) - mean, 2) / n;
    double rstd = 1 / sqrt(variance + (double)l->make.eps);
    double sum = (n / 16 + 8) * UNIT; /* of adding n numbers up */
    double off = sum * size + UNIT * (most + fabs(mean)),
           relative = sum + 8 * UNIT + 2 * off * rstd;
    for (size_t j = 0; j < l->n; j++) {
        double gamma = tensor_get(&l->gamma.t, j), beta = tensor_get(&l->beta.t, j);
        double normal = (input_at(l, row, j) - mean) * rstd;
        size_t at = row * l->n + j;
        l->value[at] = normal * gamma + beta;
        l->bound[at] = fabs(gamma) * (off * rstd + fabs(normal) * relative) + 8 * UNIT * fabs(beta);
    }
}

static void make_output(struct norm *l)
{
    if (l->scaled) {
        l->scale = view_vector(l->n);
        for (size_t j = 0; j < l->n; j++)
            tensor_set(&l->scale.t, j, (double)random_between(0.5f, 2));
        l->make.output_scale = &l->scale.t;
    }
    if (l->shifted) {
        l->shift = view_vector(l->n);
        fill_normal(&l->shift.t, 0.5f);
        l->make.output_shift = &l->shift.t;
    }
    l->make.output.dtype = QVIT_DTYPE_F32;
    if (l->output == OUT_F32) return;
    qvit_scheme scheme = l->output == OUT_U8 ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    qvit_granularity *g = test_below(2) ? granularity_random(l->engine, QVIT_ANY, l->n) : NULL;
    const qvit_quantizer *q = quantizer_random(l->engine, scheme, 2 + (int32_t)test_below(7), 0, g,
                                               random_between(0.5f, 4), -1);
    l->make.output.quantizer = q;
    l->make.output.dtype = qvit_quantizer_code_dtype(q);
}

static void make_norm(struct norm *l)
{
    l->engine = engine_new();
    l->make = (qvit_layer_norm_options)QVIT_LAYER_NORM_OPTIONS_INIT;
    l->make.eps = random_between(1e-6f, 1e-2f);
    l->gamma = view_vector(l->n), l->beta = view_vector(l->n);
    fill_normal(&l->gamma.t, 1);
    fill_normal(&l->beta.t, 1);
    l->make.gamma = &l->gamma.t, l->make.beta = &l->beta.t;
    make_input(l);
    make_output(l);
    l->value = malloc(l->rows * l->n * sizeof *l->value);
    l->bound = malloc(l->rows * l->n * sizeof *l->bound);
    if (!l->value || !l->bound) FAIL("memory");
    for (size_t row = 0; row < l->rows; row++) simulate_row(l, row);
}

static void run_plan(const qvit_plan *plan, const qvit_tensor *input, const qvit_tensor *output)
{
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = input, args.output = output;
    MUST(qvit_layer_norm_run(plan, &args, &why));
}

static qvit_plan *make_plan(const struct norm *l, const qvit_engine *engine)
{
    qvit_plan *plan;
    MUST(qvit_layer_norm_create(engine, &l->make, &plan, &why));
    return keep_plan(plan);
}

static struct view output_of(const struct norm *l, const qvit_engine *engine)
{
    struct view out = view_strided(l->make.output.dtype, l->rank, l->dims, 9);
    run_plan(make_plan(l, engine), &l->input.t, &out.t);
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

static struct view output_by_rows(const struct norm *l, const qvit_engine *engine)
{
    struct view out = view_dense(l->make.output.dtype, l->rank, l->dims);
    qvit_plan *plan = make_plan(l, engine);
    for (size_t row = 0; row < l->rows; row++) {
        qvit_tensor from = row_of(&l->input.t, row), to = row_of(&out.t, row);
        run_plan(plan, &from, &to);
    }
    return out;
}

static void check_output(const struct norm *l, const qvit_tensor *out)
{
    for (size_t i = 0; i < l->rows * l->n; i++) {
        double got = tensor_get(out, i), scale = 1, shift = 0;
        if (l->scaled) scale = tensor_get(&l->scale.t, i % l->n);
        if (l->shifted) shift = tensor_get(&l->shift.t, i % l->n);
        double value = (l->value[i] - shift) / scale;
        double bound = (l->bound[i] + 8 * UNIT * fabs(shift)) / scale + 8 * UNIT * fabs(value);
        if (l->output == OUT_F32) {
            if (!(fabs(got - value) <= bound))
                FAIL("[%zu] is %.9g, not %.9g +- %.3g", i, got, value, bound);
            continue;
        }
        struct coder c = coder_at(l->make.output.quantizer, 0, i % l->n);
        bound += 8 * UNIT * (fabs(value) + c.zero * c.scale);
        int low = coder_encode(&c, value - bound), high = coder_encode(&c, value + bound);
        if (got < low || got > high)
            FAIL("[%zu] is code %g, not %d..%d: value %.9g +- %.3g", i, got, low, high, value,
                 bound);
        if (!(bound < 0.25 * c.scale)) FAIL("a bound of %g says nothing", bound / c.scale);
    }
}

static void check_variants(const struct norm *l, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < isa_variant_count(); i++)
        for (size_t w = 0; w < sizeof workers / sizeof workers[0]; w++) {
            size_t mark = kept.count;
            struct shuffled shuffled = {.workers = workers[w]};
            qvit_executor executor = shuffled_hook(&shuffled);
            const qvit_engine *engine = engine_with(isa_variants[i], NULL, &executor);
            struct view out = output_of(l, engine), rows = output_by_rows(l, engine);
            CHECK_SAME(&out.t, expected);
            CHECK_SAME(&rows.t, expected);
            release_to(mark);
        }
}

/* ---- the tests ---- */

static void rows_match_double_precision(void)
{
    for (int t = 0; t < 120; t++) {
        struct norm l = {.output = (enum output)(t % OUTPUTS),
                         .scaled = test_below(2),
                         .shifted = test_below(2)};
        l.n = random_size(300);
        random_rows(&l, 40);
        make_norm(&l);
        struct view out = output_of(&l, l.engine);
        check_output(&l, &out.t);
        check_variants(&l, &out.t);
        norm_free(&l);
    }
}

/* Every remainder of the widest vectors. */
static void every_length_matches(void)
{
    for (size_t n = 2; n <= 130; n++) {
        struct norm l = {
            .output = (enum output)(n % OUTPUTS), .rank = 2, .dims = {2, n}, .rows = 2, .n = n};
        make_norm(&l);
        for (size_t i = 0; i < isa_variant_count(); i++) {
            struct view out = output_of(&l, engine_with(isa_variants[i], NULL, NULL));
            check_output(&l, &out.t);
        }
        norm_free(&l);
    }
}

static void one_channel_gives_beta(void)
{
    struct norm l = {.rank = 1, .dims = {1}, .rows = 1, .n = 1};
    make_norm(&l);
    struct view out = output_of(&l, l.engine);
    CHECK_SAME(&out.t, &l.beta.t);
    norm_free(&l);
}

/* The first tokens of longer sequences, in tensors with a dimension of 1: [2, 1, 3 of 5, n]. */
static void a_slice_with_a_size_of_one_is_no_dense_matrix(void)
{
    struct norm l = {.rank = 4, .dims = {2, 1, 3, 8}, .rows = 6, .n = 8};
    make_norm(&l);
    struct view expected = output_of(&l, l.engine);
    struct view whole = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, 1, 5, 8});
    qvit_tensor slice = whole.t;
    slice.dims[2] = 3;
    for (size_t i = 0; i < tensor_count(&slice); i++)
        tensor_set(&slice, i, tensor_get(&l.input.t, i));
    l.input.t = slice;
    struct view out = output_of(&l, l.engine);
    CHECK_SAME(&out.t, &expected.t);
    norm_free(&l);
}

static void check_nowhere(const struct norm *l)
{
    for (size_t i = 0; i < isa_variant_count(); i++) {
        struct view out = output_of(l, engine_with(isa_variants[i], NULL, NULL));
        for (size_t j = 0; j < l->n; j++) {
            double got = tensor_get(&out.t, j);
            if (l->output == OUT_F32) CHECK(isnan(got));
            if (l->output == OUT_F32) continue;
            CHECK_EQ(got, coder_at(l->make.output.quantizer, 0, j).lo);
        }
    }
}

/* Rows that have no mean or no deviation: NaN, or the lowest code, in every column. */
static void rows_without_a_norm_give_the_lowest_code(void)
{
    for (int output = 0; output < OUTPUTS; output++) {
        struct norm l = {
            .output = (enum output)output, .rank = 1, .dims = {21}, .rows = 1, .n = 21};
        make_norm(&l);
        tensor_set(&l.input.t, 20, (double)NAN);
        check_nowhere(&l);
        tensor_set(&l.input.t, 20, -(double)INFINITY);
        check_nowhere(&l);
        fill_value(&l.input.t, 2);
        l.make.eps = 0;
        check_nowhere(&l);
        norm_free(&l);
    }
}

static void a_plan_tells_about_itself(void)
{
    struct norm l = {.output = OUT_U8, .rank = 1, .dims = {21}, .rows = 1, .n = 21};
    make_norm(&l);
    qvit_plan *plan = make_plan(&l, l.engine);
    char text[256];
    CHECK_EQ(qvit_plan_describe(plan, text, sizeof text), strlen(text));
    CHECK(strstr(text, "layer norm 21"));
    CHECK(strstr(text, qvit_plan_kernel(plan)));
    CHECK(qvit_plan_packed_bytes(plan) >= 2 * 21 * sizeof(float));
    norm_free(&l);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(rows_match_double_precision);
    RUN(every_length_matches);
    RUN(one_channel_gives_beta);
    RUN(a_slice_with_a_size_of_one_is_no_dense_matrix);
    RUN(rows_without_a_norm_give_the_lowest_code);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
