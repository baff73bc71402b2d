/*
 * test_attention.c - attention plans against a simulation in double precision, and against themselves:
 * on every instruction set, with any number of workers, and sample by sample.
 */
#include "simulated_attention.h"

/* ---- against the simulation ---- */

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

/* ---- against themselves ---- */

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

static void check_variants(const struct attention *a, const qvit_tensor *expected)
{
    static const size_t workers[] = {1, 2, 3, 7};
    for (size_t i = 0; i < isa_variant_count() && (a->kind.query || i == 0); i++)
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

/* ---- random kinds, every edge ---- */

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
    if (unknown > known) FAIL("the simulation knew only %zu of %zu codes", known, known + unknown);
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
            for (size_t v = 0; v < isa_variant_count(); v++) {
                struct view out = output_of(&a, engine_with(isa_variants[v], NULL, NULL));
                check_output(&a, &out.t);
            }
            attention_free(&a);
        }
}

/* ---- masks and scores that are no numbers ---- */

static void a_masked_row_gives_zero(qvit_scheme query, qvit_scheme probability, enum output output)
{
    for (size_t v = 0; v < isa_variant_count(); v++) {
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
    for (size_t v = 0; v < isa_variant_count(); v++) {
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

/* As many keys as there may be, all alike: their exponentials add up to nearly 2^32, and the context is V. One more is
 * refused, though sums of so small codes would have room. */
static void the_most_keys_add_up(void)
{
    for (size_t v = 0; v < isa_variant_count(); v++) {
        struct attention a = {
            .kind = {.query = QVIT_SCHEME_SYMMETRIC, .probability = QVIT_SCHEME_TWIN_SOFTMAX},
            .batch = 1,
            .heads = 1,
            .queries = 1,
            .keys = 131071,
            .dim = 3};
        make_attention(&a);
        const qvit_engine *engine = engine_with(isa_variants[v], NULL, NULL);
        a.make.probability.quantizer = quantizer_layer(
            engine, QVIT_SCHEME_TWIN_SOFTMAX, 4, QVIT_QUANTIZER_RELATIVE, 1.0f / 64, 1.0f / 7, 0);
        a.make.probability.dtype = QVIT_DTYPE_U8;
        for (size_t i = 0; i < tensor_count(&a.key.t); i++) tensor_set(&a.key.t, i, 1);
        for (size_t i = 0; i < tensor_count(&a.value.t); i++) tensor_set(&a.value.t, i, 1);
        struct view out = output_of(&a, engine);
        for (size_t d = 0; d < a.dim; d++) {
            double value = coder_at(a.make.value.quantizer, 0, d).scale;
            CHECK_NEAR(tensor_get(&out.t, d), value, 1e-3 * value);
        }
        qvit_attention_args args;
        qvit_plan *plan = make_plan(&a, engine);
        a.key.t.dims[1] = a.value.t.dims[1] = ++a.keys;
        args = make_args(&a, plan, &out);
        CHECK_EQ(qvit_attention_run(plan, &args, &why), QVIT_ERR_UNSUPPORTED);
        attention_free(&a);
    }
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

/* ---- plans ---- */

/* What is large enough for some tokens is so for fewer: of queries, and of keys. */
static void workspaces_grow_with_tokens(void)
{
    static const size_t tokens[] = {1, 2, 15, 33, 64, 197, 256, 257, 300, 512, 577, 1025, 4096};
    enum { COUNT = sizeof tokens / sizeof tokens[0] };
    static const qvit_scheme probabilities[] = {0, QVIT_SCHEME_ASYMMETRIC,
                                                QVIT_SCHEME_TWIN_SOFTMAX};
    for (int t = 0; t < 12; t++) {
        struct attention a = {.kind = {.query = t % 3 ? QVIT_SCHEME_SYMMETRIC : 0,
                                       .probability = probabilities[t % 3]},
                              .batch = 1,
                              .heads = 1,
                              .queries = 3,
                              .keys = 3,
                              .dim = random_size(128)};
        make_attention(&a);
        for (size_t v = 0; v < isa_variant_count(); v++) {
            const qvit_plan *plan = make_plan(&a, engine_with(isa_variants[v], NULL, NULL));
            for (size_t q = 0; q < COUNT; q++)
                for (size_t k = 0; k < COUNT; k++) {
                    size_t here = qvit_attention_workspace_size(plan, tokens[q], tokens[k]);
                    size_t less =
                        qvit_attention_workspace_size(plan, tokens[q ? q - 1 : 0], tokens[k]);
                    size_t fewer =
                        qvit_attention_workspace_size(plan, tokens[q], tokens[k ? k - 1 : 0]);
                    CHECK(here >= less && here >= fewer);
                }
        }
        attention_free(&a);
    }
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
    RUN(the_most_keys_add_up);
    RUN(the_usual_scale_is_the_default);
    RUN(scores_and_probabilities_are_written);
    RUN(workspaces_grow_with_tokens);
    RUN(a_plan_tells_about_itself);
    return test_end();
}
