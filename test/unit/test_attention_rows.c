/*
 * test_attention_rows.c - where attention plans find their tokens: in a tensor that holds query, key and
 * value together, and in windows, whose rows are named. Bits are those of gathered tensors.
 */
#include "simulated_attention.h"

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

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(a_joint_tensor_is_used_in_place);
    RUN(windows_of_codes_equal_gathered_ones);
    RUN(windows_may_share_keys);
    RUN(windows_of_floats_equal_gathered_ones);
    return test_end();
}
