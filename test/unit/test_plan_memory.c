/*
 * test_plan_memory.c - the memory of plans: every allocation may fail, nothing leaks, running
 * allocates nothing, and qvit_plan_packed_bytes tells what a plan costs.
 */
#include "support.h"

enum { ROWS = 40, N = 37, K = 29, HEADS = 2, DIM = 9, TOKENS = 21 };

/* Makes a plan of one kind from operands in `kit`; runs it. */
struct operation {
    const char *name;
    qvit_status (*create)(const qvit_engine *engine, qvit_plan **out);
    void (*run)(const qvit_plan *plan);
    size_t least; /* packed bytes, at least */
};

/* Not on a stack: what a failed test leaves behind is given back later. */
static struct heap heap;

/* Operands for all kinds, whose quantizers live on an engine of their own. */
static struct {
    qvit_engine *engine;
    const qvit_quantizer *u8, *s8, *narrow, *rows, *four, *columns, *twin;
    struct view codes, weights, four_weights, floats, float_weights, vector, channels, out_codes,
        out_floats;
    struct view query, key, context, float_query, float_context, left, right, product;
} kit;

static qvit_port port(const qvit_quantizer *q)
{
    return (qvit_port){q ? qvit_quantizer_code_dtype(q) : QVIT_DTYPE_F32, 0, q};
}

static struct view codes_of(const qvit_quantizer *q, size_t rank, const size_t *dims)
{
    struct view v = view_dense(qvit_quantizer_code_dtype(q), rank, dims);
    struct coder c = coder_at(q, 0, 0);
    fill_codes(&v.t, c.lo, c.hi);
    return v;
}

static struct view floats_of(size_t rank, const size_t *dims)
{
    struct view v = view_dense(QVIT_DTYPE_F32, rank, dims);
    fill_normal(&v.t, 1);
    return v;
}

static void open_quantizers(void)
{
    qvit_engine *e = kit.engine = engine_new();
    kit.u8 = quantizer_layer(e, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.1f, 0, 100);
    kit.s8 = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, 0, 0.1f, 0, 0);
    kit.narrow = quantizer_layer(e, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW, 0.1f, 0, 0);
    kit.twin = quantizer_layer(e, QVIT_SCHEME_TWIN_SOFTMAX, 8, 0, 0.001f, 0.01f, 0);
    kit.rows = quantizer_random(e, QVIT_SCHEME_SYMMETRIC, 8, QVIT_QUANTIZER_NARROW,
                                granularity_random(e, N, QVIT_ANY), 1, 0);
    kit.four = quantizer_random(e, QVIT_SCHEME_SYMMETRIC, 4, 0, granularity_random(e, N, K), 1, 0);
    kit.columns = quantizer_random(e, QVIT_SCHEME_ASYMMETRIC, 8, 0,
                                   granularity_random(e, QVIT_ANY, N), 9, -1);
}

static void open_kit(void)
{
    release(); /* what a test left behind that failed */
    open_quantizers();
    size_t input[2] = {ROWS, K}, output[2] = {ROWS, N}, weights[2] = {N, K}, n = N;
    kit.codes = codes_of(kit.u8, 2, input);
    kit.weights = codes_of(kit.narrow, 2, weights);
    kit.four_weights = codes_of(kit.four, 2, weights);
    kit.floats = floats_of(2, input);
    kit.float_weights = floats_of(2, weights);
    kit.vector = view_vector(n);
    fill_value(&kit.vector.t, 0.5);
    kit.channels = floats_of(2, output);
    kit.out_codes = view_dense(QVIT_DTYPE_U8, 2, output);
    kit.out_floats = view_dense(QVIT_DTYPE_F32, 2, output);
    size_t tokens[4] = {2, TOKENS, HEADS, DIM};
    kit.query = codes_of(kit.s8, 4, tokens);
    kit.key = codes_of(kit.narrow, 4, tokens);
    kit.context = view_dense(QVIT_DTYPE_S8, 4, tokens);
    kit.float_query = floats_of(4, tokens);
    kit.float_context = view_dense(QVIT_DTYPE_F32, 4, tokens);
    kit.left = codes_of(kit.twin, 4, (size_t[]){2, HEADS, ROWS, K});
    kit.right = codes_of(kit.narrow, 4, (size_t[]){2, HEADS, K, N});
    kit.product = view_dense(QVIT_DTYPE_F32, 4, (size_t[]){2, HEADS, ROWS, N});
}

/* ---- the operations ---- */

static qvit_status create_linear(const qvit_engine *engine, qvit_plan **out)
{
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    o.input = port(kit.u8), o.weight = port(kit.rows), o.output = port(kit.columns);
    o.residual = port(NULL);
    o.weights = &kit.weights.t, o.bias = &kit.vector.t;
    o.output_scale = o.output_shift = &kit.vector.t;
    return qvit_linear_create(engine, &o, out, &why);
}

static qvit_status create_packed_linear(const qvit_engine *engine, qvit_plan **out)
{
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    o.input = port(kit.u8), o.weight = port(kit.four), o.output = port(kit.columns);
    o.residual = port(NULL);
    o.weights = &kit.four_weights.t, o.bias = &kit.vector.t;
    return qvit_linear_create(engine, &o, out, &why);
}

static qvit_status create_float_linear(const qvit_engine *engine, qvit_plan **out)
{
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    o.input = o.weight = o.output = port(NULL);
    o.weights = &kit.float_weights.t;
    return qvit_linear_create(engine, &o, out, &why);
}

static qvit_status create_matmul(const qvit_engine *engine, qvit_plan **out)
{
    qvit_matmul_options o = QVIT_MATMUL_OPTIONS_INIT;
    o.left = port(kit.twin), o.right = port(kit.narrow), o.output = port(NULL);
    o.heads = HEADS;
    return qvit_matmul_create(engine, &o, out, &why);
}

static qvit_status create_attention(const qvit_engine *engine, qvit_plan **out)
{
    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    o.query = o.output = port(kit.s8), o.key = o.value = port(kit.narrow);
    o.probability = port(kit.twin);
    o.heads = HEADS, o.head_dim = DIM;
    return qvit_attention_create(engine, &o, out, &why);
}

static qvit_status create_float_attention(const qvit_engine *engine, qvit_plan **out)
{
    qvit_attention_options o = QVIT_ATTENTION_OPTIONS_INIT;
    o.query = o.key = o.value = o.probability = o.output = port(NULL);
    o.heads = HEADS, o.head_dim = DIM;
    return qvit_attention_create(engine, &o, out, &why);
}

static qvit_status create_layer_norm(const qvit_engine *engine, qvit_plan **out)
{
    qvit_layer_norm_options o = QVIT_LAYER_NORM_OPTIONS_INIT;
    o.gamma = o.beta = o.output_scale = &kit.vector.t;
    o.output = port(kit.columns);
    return qvit_layer_norm_create(engine, &o, out, &why);
}

static qvit_status create_quantize(const qvit_engine *engine, qvit_plan **out)
{
    qvit_quantize_options o = QVIT_QUANTIZE_OPTIONS_INIT;
    o.output = port(kit.columns);
    return qvit_quantize_create(engine, &o, out, &why);
}

/* The workspace of the last run. */
static struct {
    unsigned char *memory;
    size_t bytes;
} used;

static void *new_workspace(size_t bytes)
{
    used.bytes = bytes;
    used.memory = workspace(bytes);
    return used.memory;
}

static void run_linear(const qvit_plan *plan)
{
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &kit.codes.t, a.residual = &kit.channels.t, a.output = &kit.out_codes.t;
    a.workspace_size = qvit_linear_workspace_size(plan, ROWS);
    a.workspace = new_workspace(a.workspace_size);
    MUST(qvit_linear_run(plan, &a, &why));
}

static void run_float_linear(const qvit_plan *plan)
{
    qvit_linear_args a = QVIT_LINEAR_ARGS_INIT;
    a.input = &kit.floats.t, a.output = &kit.out_floats.t;
    a.workspace_size = qvit_linear_workspace_size(plan, ROWS);
    a.workspace = new_workspace(a.workspace_size);
    MUST(qvit_linear_run(plan, &a, &why));
}

static void run_matmul(const qvit_plan *plan)
{
    qvit_matmul_args a = QVIT_MATMUL_ARGS_INIT;
    a.left = &kit.left.t, a.right = &kit.right.t, a.output = &kit.product.t;
    a.workspace_size = qvit_matmul_workspace_size(plan, ROWS, N, K);
    a.workspace = new_workspace(a.workspace_size);
    MUST(qvit_matmul_run(plan, &a, &why));
}

static void run_attention_on(const qvit_plan *plan, const struct view *query,
                             const struct view *key, const struct view *output)
{
    qvit_attention_args a = QVIT_ATTENTION_ARGS_INIT;
    a.query = &query->t, a.key = a.value = &key->t, a.output = &output->t;
    a.workspace_size = qvit_attention_workspace_size(plan, TOKENS, TOKENS);
    a.workspace = new_workspace(a.workspace_size);
    MUST(qvit_attention_run(plan, &a, &why));
}

static void run_attention(const qvit_plan *plan)
{
    run_attention_on(plan, &kit.query, &kit.key, &kit.context);
}

static void run_float_attention(const qvit_plan *plan)
{
    run_attention_on(plan, &kit.float_query, &kit.float_query, &kit.float_context);
}

static void run_layer_norm(const qvit_plan *plan)
{
    qvit_unary_args a = QVIT_UNARY_ARGS_INIT;
    a.input = &kit.channels.t, a.output = &kit.out_codes.t;
    MUST(qvit_layer_norm_run(plan, &a, &why));
}

static void run_quantize(const qvit_plan *plan)
{
    qvit_unary_args a = QVIT_UNARY_ARGS_INIT;
    a.input = &kit.channels.t, a.output = &kit.out_codes.t;
    MUST(qvit_quantize_run(plan, &a, &why));
}

static const struct operation operations[] = {
    {"linear", create_linear, run_linear, N *K},
    {"linear of 4 bits", create_packed_linear, run_linear, N *K / 2},
    {"float linear", create_float_linear, run_float_linear, N *K * sizeof(float)},
    {"matmul", create_matmul, run_matmul, HEADS * sizeof(float)},
    {"attention", create_attention, run_attention, HEADS *DIM * sizeof(float)},
    {"float attention", create_float_attention, run_float_attention, 0},
    {"layer norm", create_layer_norm, run_layer_norm, 2 * N * sizeof(float)},
    {"quantize", create_quantize, run_quantize, sizeof(float)},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* ---- the tests ---- */

/* Lets `count` allocations from number `at` on fail; returns whether there were so many. */
static bool create_with_failure(const struct operation *o, size_t at, size_t count)
{
    heap = (struct heap){.fail_count = count};
    qvit_allocator allocator = heap_hook(&heap);
    struct shuffled alone = {.workers = 1};
    qvit_executor executor = shuffled_hook(&alone);
    size_t mark = kept.count;
    const qvit_engine *engine = engine_with(0, &allocator, &executor);
    size_t live = heap.live;
    heap.fail_at = heap.calls + at;
    qvit_plan *plan = (qvit_plan *)&kit;
    qvit_status status = o->create(engine, &plan);
    bool failed = status != QVIT_OK;
    if (failed) {
        if (status != QVIT_ERR_NO_MEMORY) FAIL("%s: %s", o->name, qvit_status_name(status));
        if (why.status != status || !why.text[0]) FAIL("%s: no error", o->name);
        if (plan) FAIL("%s: a plan", o->name);
        if (heap.live != live) FAIL("%s: allocation %zu leaves memory behind", o->name, at);
        heap.fail_at = 0; /* the same call succeeds once there is memory */
        MUST(o->create(engine, &plan));
    }
    o->run(plan);
    qvit_plan_destroy(plan);
    release_to(mark);
    heap_check_empty(&heap);
    return failed;
}

static void every_allocation_may_fail(size_t count)
{
    open_kit();
    for (size_t i = 0; i < OPERATIONS; i++) {
        size_t at = 1;
        while (create_with_failure(&operations[i], at, count)) at++;
        if (at < 2) FAIL("%s takes no memory?", operations[i].name);
    }
    release();
}

static void every_allocation_may_fail_once(void) { every_allocation_may_fail(1); }

static void every_allocation_may_fail_from_then_on(void)
{
    every_allocation_may_fail(SIZE_MAX / 2);
}

static void running_allocates_nothing(void)
{
    open_kit();
    for (size_t i = 0; i < OPERATIONS; i++)
        for (size_t workers = 1; workers <= 3; workers += 2) {
            heap = (struct heap){.fail_count = 0};
            qvit_allocator allocator = heap_hook(&heap);
            struct shuffled shuffled = {.workers = workers};
            qvit_executor executor = shuffled_hook(&shuffled);
            size_t mark = kept.count;
            const qvit_engine *engine = engine_with(0, &allocator, &executor);
            qvit_plan *plan;
            char text[256];
            MUST(operations[i].create(engine, &plan));
            size_t calls = heap.calls, live = heap.live;
            operations[i].run(plan);
            operations[i].run(plan);
            qvit_plan_describe(plan, text, sizeof text);
            if (heap.calls != calls || heap.live != live)
                FAIL("%s: %zu allocations", operations[i].name, heap.calls - calls);
            if (workers > 1 && !shuffled.runs) FAIL("%s: not shared out", operations[i].name);
            qvit_plan_destroy(plan);
            release_to(mark);
            heap_check_empty(&heap);
        }
    release();
}

/* One block for the plan; what making it needed besides is gone. */
static void packed_bytes_are_what_a_plan_costs(void)
{
    open_kit();
    for (size_t i = 0; i < OPERATIONS; i++)
        for (size_t v = 0; v < isa_variant_count(); v++) {
            heap = (struct heap){.fail_count = 0};
            qvit_allocator allocator = heap_hook(&heap);
            size_t mark = kept.count;
            const qvit_engine *engine = engine_with(isa_variants[v], &allocator, NULL);
            size_t bytes = heap.live_bytes, live = heap.live;
            qvit_plan *plan;
            MUST(operations[i].create(engine, &plan));
            size_t packed = qvit_plan_packed_bytes(plan);
            CHECK_EQ(heap.live, live + 1);
            bytes = heap.live_bytes - bytes;
            if (packed > bytes || packed + 1024 < bytes || packed < operations[i].least)
                FAIL("%s: %zu bytes packed, %zu allocated", operations[i].name, packed, bytes);
            qvit_plan_destroy(plan);
            release_to(mark);
            heap_check_empty(&heap);
        }
    release();
}

/* Bytes of a plan of 300 outputs for 200 inputs, weights of so many bits, one scale. */
static size_t bytes_of(const qvit_engine *engine, int32_t bits)
{
    qvit_linear_options o = QVIT_LINEAR_OPTIONS_INIT;
    uint32_t flags = bits == 8 ? QVIT_QUANTIZER_NARROW : 0;
    const qvit_quantizer *q =
        quantizer_layer(engine, QVIT_SCHEME_SYMMETRIC, bits, flags, 0.1f, 0, 0);
    struct view weights = codes_of(q, 2, (size_t[]){300, 200});
    o.input = port(quantizer_layer(engine, QVIT_SCHEME_ASYMMETRIC, 8, 0, 0.1f, 0, 100));
    o.weight = port(q), o.output = port(NULL);
    o.weights = &weights.t;
    qvit_plan *plan;
    MUST(qvit_linear_create(engine, &o, &plan, &why));
    return qvit_plan_packed_bytes(keep_plan(plan));
}

/* Up to 4 bits are kept two to a byte; the vectors stay what they are, but for a byte a row. */
static void packed_weights_take_half(void)
{
    for (size_t v = 0; v < isa_variant_count(); v++) {
        const qvit_engine *engine = engine_with(isa_variants[v], NULL, NULL);
        size_t whole = bytes_of(engine, 8);
        for (int32_t bits = 2; bits < 8; bits++) {
            size_t saved = whole - bytes_of(engine, bits), half = 300 * 200 / 2;
            if (bits > 4 ? saved != 0 : saved + 1024 < half || saved > half + half / 8)
                FAIL("%d bits: %zu bytes saved of %zu", (int)bits, saved, whole);
        }
        release();
    }
}

/* A workspace is an equal part for each worker, and what lies behind it is nobody's. */
static void workspaces_grow_with_workers(void)
{
    open_kit();
    size_t one[OPERATIONS] = {0};
    for (size_t workers = 1; workers <= 7; workers++)
        for (size_t i = 0; i < OPERATIONS; i++) {
            struct shuffled shuffled = {.workers = workers};
            qvit_executor executor = shuffled_hook(&shuffled);
            size_t mark = kept.count;
            qvit_plan *plan;
            MUST(operations[i].create(engine_with(0, NULL, &executor), &plan));
            keep_plan(plan);
            size_t size = qvit_linear_workspace_size(plan, ROWS) +
                          qvit_matmul_workspace_size(plan, ROWS, N, K) +
                          qvit_attention_workspace_size(plan, TOKENS, TOKENS);
            if (workers == 1) one[i] = size;
            CHECK_EQ(size, one[i] * workers);
            CHECK_EQ(size % QVIT_ALIGNMENT, 0);
            operations[i].run(plan);
            release_to(mark);
        }
    release();
}

/* One worker does everything. */
struct lonely {
    size_t worker;
};

static qvit_status lonely_run(void *user, size_t count, qvit_task *task, void *argument)
{
    for (size_t i = 0; i < count; i++) task(argument, i, ((struct lonely *)user)->worker);
    return QVIT_OK;
}

static void check_parts(const char *name, size_t workers, size_t worker)
{
    size_t part = used.bytes / workers;
    bool touched = used.bytes == 0;
    for (size_t i = 0; i < used.bytes; i++) {
        if (used.memory[i] == CANARY) continue;
        if (i / part != worker) FAIL("%s: worker %zu in part %zu", name, worker, i / part);
        touched = true;
    }
    if (!touched) FAIL("%s: worker %zu left its part alone", name, worker);
}

/* What a worker writes lies in its own part of the workspace, so that all may run at once. */
static void a_worker_stays_in_its_part_of_the_workspace(void)
{
    open_kit();
    for (size_t i = 0; i < OPERATIONS; i++)
        for (size_t worker = 0; worker < 3; worker++) {
            struct lonely lonely = {worker};
            qvit_executor executor = {sizeof executor, &lonely, 3, lonely_run};
            size_t mark = kept.count;
            qvit_plan *plan;
            MUST(operations[i].create(engine_with(0, NULL, &executor), &plan));
            keep_plan(plan);
            used.bytes = 0;
            operations[i].run(plan);
            check_parts(operations[i].name, 3, worker);
            release_to(mark);
        }
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(every_allocation_may_fail_once);
    RUN(every_allocation_may_fail_from_then_on);
    RUN(running_allocates_nothing);
    RUN(packed_bytes_are_what_a_plan_costs);
    RUN(packed_weights_take_half);
    RUN(workspaces_grow_with_workers);
    RUN(a_worker_stays_in_its_part_of_the_workspace);
    return test_end();
}
