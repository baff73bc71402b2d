/*
 * test_sublayer.c - blocks of inputs with scales of their own: searched, reordered, rounded, and run as
 * they were simulated.
 */
#include "calibration.h"

enum { ROWS = 90, INPUTS = 32, OUTPUTS = 12 };

/* A layer whose inputs are of four sizes, in turns: neighbours do not suit each other. */
struct layer {
    qvit_tensor w, x, g;
    double *exact;
};

static struct layer layer_new(void)
{
    static const double size[] = {1, 8, 0.2, 40};
    struct layer l = {matrix(OUTPUTS, INPUTS, 1), matrix(ROWS, INPUTS, 1), matrix(ROWS, OUTPUTS, 1),
                      NULL};
    for (size_t i = 0; i < ROWS * INPUTS; i++)
        tensor_set(&l.x, i, tensor_get(&l.x, i) * size[i % 4]);
    for (size_t i = 0; i < OUTPUTS * INPUTS; i++)
        tensor_set(&l.w, i, tensor_get(&l.w, i) / size[i % 4]);
    l.exact = product_of(&l.x, &l.w);
    return l;
}

static qvit_calibrator *observed(const struct layer *l, qvit_input_kind kind)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, kind, &l->w, NULL);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &l->x, o.gradient = &l->g;
    MUST(qvit_calibrator_observe(c, &o, &why));
    return c;
}

/* What the quantizers say the layer does, by channel. */
static double *simulated(const qvit_result *r, const struct layer *l)
{
    qvit_tensor x = fake_of(input_of(r), &l->x), w = weights_of(r);
    return product_of(&x, &w);
}

static double loss_of(const qvit_result *r, const struct layer *l)
{
    double *out = simulated(r, l), loss = squared_distance(out, l->exact, ROWS * OUTPUTS);
    free(out);
    return loss;
}

static size_t blocks_of(const qvit_quantizer *q)
{
    return qvit_granularity_blocks(qvit_quantizer_granularity(q));
}

static void end(struct layer *l)
{
    free(l->exact);
    give_back();
}

/* ---- what is chosen ---- */

static void finer_blocks_lose_less(void)
{
    static const char *const ways[] = {
        "metric=mse weights=layer", "metric=mse row-blocks=2 column-blocks=2",
        "metric=mse row-blocks=4 column-blocks=4", "metric=mse block-length=4"};
    static const size_t blocks[] = {1, 4, 16, OUTPUTS * INPUTS / 4};
    double loss[4] = {0};
    for (int t = 0; t < 5; t++) {
        struct layer l = layer_new();
        qvit_calibrator *c = observed(&l, QVIT_INPUT_GENERIC);
        for (size_t i = 0; i < 4; i++) {
            solve(c, "mse", 4, 8, ways[i]);
            CHECK_EQ(blocks_of(second_of(result_of(c, 0))), blocks[i]);
            loss[i] += loss_of(result_of(c, 0), &l);
        }
        end(&l);
    }
    for (size_t i = 1; i < 4; i++) CHECK(loss[i] < loss[i - 1]);
}

static void reordering_finds_what_belongs_together(void)
{
    static const char *const ways[] = {
        "column-blocks=4 chunks=4 reorder=none", "column-blocks=4 chunks=4 reorder=sort",
        "column-blocks=4 chunks=4 reorder=cluster", "column-blocks=4 chunks=4 reorder=search"};
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, QVIT_INPUT_LAYER_NORM);
    double none = 0;
    for (size_t i = 0; i < 4; i++) {
        char text[96];
        snprintf(text, sizeof text, "%s metric=hessian", ways[i]);
        solve(c, "mse", 4, 4, text);
        const qvit_result *r = result_of(c, 0);
        qvit_tensor order = part_of(r, QVIT_RESULT_INPUT_ORDER);
        CHECK_EQ(blocks_of(input_of(r)), 4);
        CHECK_EQ(blocks_of(second_of(r)), 4 * OUTPUTS);
        if (i == 0) none = loss_of(r, &l);
        if (i == 0) CHECK(!order.data);
        if (i == 0) continue;
        CHECK(order.data != NULL);
        CHECK(loss_of(r, &l) < none / 4);
        for (size_t p = 0; p + 1 < INPUTS && i == 1; p++) /* sizes stand together */
            if (p % 8 != 7) CHECK_EQ(tensor_get(&order, p + 1) - tensor_get(&order, p), 4);
    }
    end(&l);
}

/* Nobody can write the inputs in another order. */
static void inputs_that_nobody_writes_stay_as_they_are(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, QVIT_INPUT_GENERIC);
    solve(c, "ptq-sl", 4, 8, "chunks=4");
    CHECK(!part_of(result_of(c, 0), QVIT_RESULT_INPUT_ORDER).data);
    end(&l);
}

/* Context channels stay in their heads; the producer is told the same order. */
static void orders_behind_attention_stay_in_heads(void)
{
    enum { HEADS = 4, DIM = INPUTS / HEADS, TOKENS = 10 };
    struct layer l = layer_new();
    qvit_calibrator *c = calibrator_new(engine_new());
    size_t pv = add_matmul(c, QVIT_INPUT_SOFTMAX, HEADS, false);
    size_t proj = add_linear(c, QVIT_INPUT_GENERIC, &l.w, NULL);
    MUST(tie(c, QVIT_TIE_PRODUCER, pv, proj));
    qvit_tensor p = normals(4, (size_t[]){1, HEADS, TOKENS, TOKENS}, 0.1f);
    qvit_tensor v = normals(4, (size_t[]){1, HEADS, TOKENS, DIM}, 1);
    for (size_t i = 0; i < tensor_count(&p); i++) tensor_set(&p, i, fabs(tensor_get(&p, i)));
    observe_pair(c, pv, &p, &v);
    observe(c, proj, &l.x);
    solve(c, "minmax", 4, 8, "column-blocks=8 chunks=8 reorder=search");
    qvit_tensor order = part_of(result_of(c, proj), QVIT_RESULT_INPUT_ORDER);
    qvit_tensor told = part_of(result_of(c, pv), QVIT_RESULT_OUTPUT_ORDER);
    CHECK(order.data && told.data);
    for (size_t i = 0; i < INPUTS; i++) {
        CHECK_EQ((size_t)tensor_get(&order, i) / DIM, i / DIM);
        CHECK_EQ(tensor_get(&order, i), tensor_get(&told, i));
    }
    end(&l);
}

static void gptq_rounds_for_each_block(void)
{
    double nearest = 0, gptq = 0, rows = 0;
    for (int t = 0; t < 5; t++) {
        struct layer l = layer_new();
        qvit_calibrator *c = observed(&l, QVIT_INPUT_LAYER_NORM);
        solve(c, "minmax", 3, 8, "block-length=8");
        nearest += loss_of(result_of(c, 0), &l);
        solve(c, "minmax", 3, 8, "rounding=gptq");
        rows += loss_of(result_of(c, 0), &l);
        solve(c, "minmax", 3, 8, "block-length=8 rounding=gptq");
        gptq += loss_of(result_of(c, 0), &l);
        end(&l);
    }
    CHECK(gptq < nearest);
    CHECK(gptq < rows);
}

/* ---- zero points ---- */

/* Weights that lie to one side of 0, a side for each block of inputs, waste half of symmetric codes. */
static void zero_points_serve_one_sided_blocks(void)
{
    static const char *const ways[] = {"block-length=8", "block-length=8 metric=mse",
                                       "block-length=8 rounding=gptq"};
    struct layer l = {matrix(OUTPUTS, INPUTS, 1), matrix(ROWS, INPUTS, 1), matrix(ROWS, OUTPUTS, 1),
                      NULL};
    for (size_t i = 0; i < OUTPUTS * INPUTS; i++) {
        double side = i / 8 % 2 ? 1 : -1;
        tensor_set(&l.w, i, side * fabs(tensor_get(&l.w, i)));
    }
    l.exact = product_of(&l.x, &l.w);
    for (size_t i = 0; i < 3; i++) {
        char asymmetric[96];
        snprintf(asymmetric, sizeof asymmetric, "%s weight-codes=asymmetric", ways[i]);
        qvit_calibrator *c = observed(&l, QVIT_INPUT_GENERIC);
        solve(c, "minmax", 4, 8, ways[i]);
        const double symmetric = loss_of(result_of(c, 0), &l);
        solve(c, "minmax", 4, 8, asymmetric);
        const qvit_result *r = result_of(c, 0);
        CHECK_EQ(qvit_quantizer_scheme(second_of(r)), QVIT_SCHEME_ASYMMETRIC);
        CHECK_EQ(part_of(r, QVIT_RESULT_WEIGHT_CODES).dtype, QVIT_DTYPE_U4);
        CHECK(loss_of(r, &l) < 0.7 * symmetric);
        for (size_t block = 0; block < OUTPUTS * INPUTS / 8; block++) {
            if (block % 2) CHECK(zero_at(second_of(r), block) <= 1);
            if (block % 2 == 0) CHECK(zero_at(second_of(r), block) >= 14);
        }
    }
    end(&l);
}

/* Distances from zero points of 8 bits fit no byte. */
static void eight_bits_stay_symmetric(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, QVIT_INPUT_GENERIC);
    for (int32_t bits = 2; bits <= 8; bits++) {
        solve(c, "minmax", bits, 8, "weight-codes=asymmetric");
        const qvit_result *r = result_of(c, 0);
        const qvit_dtype type = part_of(r, QVIT_RESULT_WEIGHT_CODES).dtype;
        CHECK_EQ(qvit_quantizer_bits(second_of(r)), bits);
        CHECK_EQ(qvit_quantizer_scheme(second_of(r)),
                 bits == 8 ? QVIT_SCHEME_SYMMETRIC : QVIT_SCHEME_ASYMMETRIC);
        CHECK_EQ(type, bits <= 4 ? QVIT_DTYPE_U4 : bits <= 7 ? QVIT_DTYPE_U8 : QVIT_DTYPE_S8);
    }
    end(&l);
}

/* ---- what runs is what was simulated ---- */

static qvit_tensor codes_in_order(const qvit_result *r, const qvit_tensor *x)
{
    const qvit_quantizer *q = input_of(r);
    qvit_tensor order = part_of(r, QVIT_RESULT_INPUT_ORDER);
    struct view codes = view_dense(qvit_quantizer_code_dtype(q), 2, x->dims);
    struct view placed = view_dense(qvit_quantizer_code_dtype(q), 2, x->dims);
    MUST(qvit_quantizer_encode(q, x, &codes.t, &why));
    for (size_t i = 0; i < tensor_count(x); i++) {
        size_t place = i % INPUTS, channel = order.data ? (size_t)tensor_get(&order, place) : place;
        tensor_set(&placed.t, i, tensor_get(&codes.t, i / INPUTS * INPUTS + channel));
    }
    return placed.t;
}

static void plans_do_what_was_simulated(void)
{
    static const char *const ways[] = {
        "row-blocks=3 column-blocks=5 chunks=1 reorder=search",
        "chunks=7 reorder=sort",
        "block-length=4 chunks=2 reorder=cluster",
        "column-blocks=3 chunks=3 twin=gelu",
        "block-length=8 chunks=4 reorder=cluster weight-codes=asymmetric",
        "row-blocks=0 column-blocks=1 weight-codes=asymmetric rounding=gptq twin=gelu"};
    enum { WAYS = sizeof ways / sizeof ways[0] };
    for (size_t i = 0; i < 2 * WAYS; i++) {
        struct layer l = layer_new();
        qvit_engine *e = engine_new();
        qvit_calibrator *c = observed(&l, i < WAYS ? QVIT_INPUT_LAYER_NORM : QVIT_INPUT_GELU);
        solve(c, "ptq-sl", 2 + (int32_t)test_below(7), 8, ways[i % WAYS]);
        const qvit_result *r = result_of(c, 0);
        qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES), x = codes_in_order(r, &l.x);
        qvit_tensor order = part_of(r, QVIT_RESULT_INPUT_ORDER);
        qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
        o.input = (qvit_port){x.dtype, 0, input_of(r)};
        o.weight = (qvit_port){codes.dtype, 0, second_of(r)};
        o.weights = &codes, o.output.dtype = QVIT_DTYPE_F32;
        o.input_order = order.data ? &order : NULL;
        qvit_plan *plan;
        MUST(qvit_linear_create(e, &o, &plan, &why));
        keep_plan(plan);
        struct view out = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){ROWS, OUTPUTS});
        qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
        args.input = &x, args.output = &out.t;
        args.workspace_size = qvit_linear_workspace_size(plan, ROWS);
        args.workspace = workspace(args.workspace_size);
        MUST(qvit_linear_run(plan, &args, &why));
        double *expected = simulated(r, &l);
        for (size_t j = 0; j < ROWS * OUTPUTS; j++)
            CHECK(fabs(tensor_get(&out.t, j) - expected[j]) < 1e-3);
        free(expected);
        end(&l);
    }
}

/* ---- edges ---- */

static void blocks_may_be_as_many_as_they_like(void)
{
    for (size_t k = 1; k <= 9; k++) {
        qvit_tensor w = matrix(3, k, 1), x = matrix(20, k, 1), g = matrix(20, 3, 1);
        for (size_t i = 0; i < 3 && k > 4; i++) /* a block of zeros only */
            for (size_t j = 0; j < 4; j++) tensor_set(&w, i * k + j, 0);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w, NULL);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.input = &x, o.gradient = &g;
        MUST(qvit_calibrator_observe(c, &o, &why));
        solve(c, "ptq-sl", 4, 8, "row-blocks=7 column-blocks=65536 chunks=65536 reorder=search");
        CHECK_EQ(blocks_of(second_of(result_of(c, 0))), 3 * (k < 4 ? 1 : k / 4));
        solve(c, "minmax", 4, 8, "block-length=4 rounding=gptq");
        give_back();
    }
}

static void what_cannot_be_is_refused(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, QVIT_INPUT_LAYER_NORM);
    static const char *const wrong[] = {
        "row-blocks=-1",  "row-blocks=2.5", "column-blocks=0", "column-blocks=9999999",
        "block-length=x", "chunks=0",       "reorder=random",  "reorder="};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_EQ(solve_status(c, "mse", 4, 8, wrong[i]), QVIT_ERR_ARGUMENT);
    CHECK_EQ(solve_status(c, "cosine", 4, 8, "column-blocks=2"), QVIT_ERR_UNSUPPORTED);
    CHECK_EQ(solve_status(c, "liu2021", 4, 8, "chunks=2"), QVIT_ERR_UNSUPPORTED);
    end(&l);
}

static void threads_do_not_show(void)
{
    struct layer l = layer_new();
    struct bytes first = {0};
    for (size_t workers = 1; workers <= 5; workers += 2) {
        struct shuffled shuffled = {.workers = workers};
        qvit_executor executor = shuffled_hook(&shuffled);
        qvit_calibrator *c = calibrator_new(engine_with(0, NULL, &executor));
        add_linear(c, QVIT_INPUT_LAYER_NORM, &l.w, NULL);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.input = &l.x, o.gradient = &l.g;
        MUST(qvit_calibrator_observe(c, &o, &why));
        solve(c, "ptq-sl", 4, 8, "chunks=4 reorder=search");
        struct bytes bytes = bytes_of_results(c, 1);
        if (workers > 1) CHECK(bytes_equal(&first, &bytes));
        if (workers > 1)
            bytes_free(&bytes);
        else
            first = bytes;
    }
    bytes_free(&first);
    end(&l);
}

/* Whatever allocation fails: the old result stays, nothing leaks, and once there is memory all is well. */
static void every_allocation_may_fail(void)
{
    struct layer l = layer_new();
    const size_t mark = kept.count;
    for (size_t at = 1;; at++) {
        struct heap heap = {0};
        qvit_allocator hook = heap_hook(&heap);
        qvit_calibrator *c = calibrator_new(engine_with(0, &hook, NULL));
        add_linear(c, QVIT_INPUT_LAYER_NORM, &l.w, NULL);
        qvit_observation o = QVIT_OBSERVATION_INIT;
        o.input = &l.x, o.gradient = &l.g;
        MUST(qvit_calibrator_observe(c, &o, &why));
        heap.fail_at = heap.calls + at, heap.fail_count = 1;
        qvit_status status = solve_status(
            c, "ptq-sl", 4, 8, "chunks=4 reorder=search candidates=2 refine=0 rounding=gptq");
        heap.fail_at = 0;
        if (status != QVIT_OK) {
            qvit_result *none;
            CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
            CHECK_EQ(qvit_calibrator_result(c, 0, &none, &why), QVIT_ERR_STATE);
            solve(c, "ptq-sl", 4, 8, "chunks=4 reorder=search candidates=2 refine=0 rounding=gptq");
        }
        CHECK(loss_of(result_of(c, 0), &l) > 0);
        forget_calibrators();
        release_to(mark);
        heap_check_empty(&heap);
        if (status == QVIT_OK) break;
    }
    end(&l);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(finer_blocks_lose_less);
    RUN(reordering_finds_what_belongs_together);
    RUN(inputs_that_nobody_writes_stay_as_they_are);
    RUN(orders_behind_attention_stay_in_heads);
    RUN(gptq_rounds_for_each_block);
    RUN(zero_points_serve_one_sided_blocks);
    RUN(eight_bits_stay_symmetric);
    RUN(plans_do_what_was_simulated);
    RUN(blocks_may_be_as_many_as_they_like);
    RUN(what_cannot_be_is_refused);
    RUN(threads_do_not_show);
    RUN(every_allocation_may_fail);
    return test_end();
}
