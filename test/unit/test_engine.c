/* test_engine.c - the engine: its hooks, its instruction sets, and how calls report failure. */
#include "support.h"

/* ---- making and destroying ---- */

static void defaults_make_an_engine(void)
{
    qvit_engine *engine;
    MUST(qvit_engine_create(NULL, &engine, &why));
    CHECK(engine);
    CHECK(qvit_engine_workers(engine) >= 1);
    qvit_engine_destroy(engine);
    qvit_engine_options options;
    qvit_engine_options_init(&options, sizeof options);
    MUST(qvit_engine_create(&options, &engine, NULL));
    qvit_engine_destroy(engine);
}

static void destroying_null_does_nothing(void)
{
    qvit_engine_destroy(NULL);
    qvit_granularity_destroy(NULL);
    qvit_quantizer_destroy(NULL);
    qvit_calibrator_destroy(NULL);
    qvit_result_destroy(NULL);
    qvit_plan_destroy(NULL);
}

static void asking_null_is_answered(void)
{
    CHECK_EQ(qvit_engine_isa(NULL), 0);
    CHECK_STR(qvit_engine_isa_name(NULL), "");
    CHECK_EQ(qvit_engine_workers(NULL), 0);
    CHECK_EQ(qvit_granularity_blocks(NULL), 0);
    CHECK(qvit_granularity_block_of(NULL, 0, 0) == QVIT_ANY);
    CHECK_EQ(qvit_quantizer_scheme(NULL), 0);
    CHECK_EQ(qvit_quantizer_bits(NULL), 0);
    CHECK_EQ(qvit_quantizer_flags(NULL), 0);
    CHECK_EQ(qvit_quantizer_code_dtype(NULL), QVIT_DTYPE_NONE);
    CHECK(!qvit_quantizer_granularity(NULL));
    CHECK(!qvit_result_quantizer(NULL, QVIT_RESULT_INPUT));
    CHECK_EQ(qvit_result_weight_bytes(NULL), 0);
    CHECK_STR(qvit_plan_kernel(NULL), "");
    CHECK_EQ(qvit_plan_packed_bytes(NULL), 0);
    CHECK_EQ(qvit_linear_workspace_size(NULL, 1), 0);
    CHECK_EQ(qvit_matmul_workspace_size(NULL, 1, 1, 1), 0);
    CHECK_EQ(qvit_attention_workspace_size(NULL, 1, 1), 0);
    char text[100];
    (void)qvit_quantizer_describe(NULL, text, sizeof text);
    (void)qvit_plan_describe(NULL, text, sizeof text);
}

static void create_without_out_is_refused(void)
{
    CHECK_EQ(qvit_engine_create(NULL, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(why.status, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_engine_create(NULL, NULL, NULL), QVIT_ERR_ARGUMENT);
}

/* ---- errors ---- */

static void failure_fills_the_error_in_and_success_clears_it(void)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    qvit_executor none = QVIT_EXECUTOR_INIT;
    options.executor = &none;
    qvit_engine *engine = (qvit_engine *)&options;
    memset(&why, 0xA5, sizeof why);
    CHECK_EQ(qvit_engine_create(&options, &engine, &why), QVIT_ERR_ARGUMENT);
    CHECK(!engine);
    CHECK_EQ(why.status, QVIT_ERR_ARGUMENT);
    CHECK_EQ(why.offset, 0);
    CHECK_EQ(why.reserved, 0);
    CHECK(why.text[0]);
    CHECK(memchr(why.text, 0, sizeof why.text));

    memset(&why, 0xA5, sizeof why);
    MUST(qvit_engine_create(NULL, &engine, &why));
    qvit_engine_destroy(engine);
    const qvit_error success = {0};
    CHECK(!memcmp(&why, &success, sizeof why));
}

/* A name as long as this must be cut, not written past the end of the text. */
static void long_messages_are_cut(void)
{
    char setting[1000];
    memset(setting, 'x', sizeof setting - 1);
    setting[sizeof setting - 1] = 0;
    const char *settings[] = {setting};
    qvit_calibrator *calibrator;
    MUST(qvit_calibrator_create(engine_new(), NULL, &calibrator, &why));
    qvit_solve_options solve = QVIT_SOLVE_OPTIONS_INIT;
    solve.settings = settings, solve.setting_count = 1;
    struct {
        qvit_error error;
        unsigned char behind[64];
    } room;
    memset(&room, CANARY, sizeof room);
    CHECK_EQ(qvit_calibrator_solve(calibrator, &solve, &room.error), QVIT_ERR_ARGUMENT);
    CHECK(memchr(room.error.text, 0, sizeof room.error.text));
    for (size_t i = 0; i < sizeof room.behind; i++) CHECK_EQ(room.behind[i], CANARY);
    qvit_calibrator_destroy(calibrator);
    release();
}

/* ---- the allocator ---- */

static void one_of_everything(const qvit_engine *engine)
{
    float w[6] = {1, 2, 3, -4, 5, 6};
    qvit_tensor weight;
    qvit_tensor_init(&weight, w, QVIT_DTYPE_F32, 2, (size_t[]){2, 3});
    qvit_calibrator *calibrator;
    MUST(qvit_calibrator_create(engine, NULL, &calibrator, &why));
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.weight = &weight;
    MUST(qvit_calibrator_add_site(calibrator, &site, NULL, &why));
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.input = &weight;
    MUST(qvit_calibrator_observe(calibrator, &seen, &why));
    MUST(qvit_calibrator_solve(calibrator, NULL, &why));
    qvit_result *result;
    MUST(qvit_calibrator_result(calibrator, 0, &result, &why));
    qvit_calibrator_destroy(calibrator);
    qvit_quantize_options quantize = QVIT_QUANTIZE_OPTIONS_INIT;
    quantize.output.dtype = QVIT_DTYPE_U8;
    quantize.output.quantizer = qvit_result_quantizer(result, QVIT_RESULT_INPUT);
    qvit_plan *plan;
    MUST(qvit_quantize_create(engine, &quantize, &plan, &why));
    qvit_plan_destroy(plan);
    qvit_result_destroy(result);
}

static void allocator_is_used_and_gets_everything_back(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    CHECK(heap.live > 0);
    size_t of_the_engine = heap.live;
    one_of_everything(engine);
    CHECK_EQ(heap.live, of_the_engine);
    release();
    heap_check_empty(&heap);
    CHECK(heap.calls > 10);
}

static void hooks_are_copied(void)
{
    struct heap heap = {0};
    struct shuffled workers = {.workers = 3};
    qvit_allocator allocator = heap_hook(&heap);
    qvit_executor executor = shuffled_hook(&workers);
    qvit_engine *engine = engine_with(0, &allocator, &executor);
    memset(&allocator, 0xFF, sizeof allocator);
    memset(&executor, 0xFF, sizeof executor);
    CHECK_EQ(qvit_engine_workers(engine), 3);
    one_of_everything(engine);
    release();
    heap_check_empty(&heap);
}

static void allocator_without_memory_gives_no_memory(void)
{
    struct heap heap = {.fail_at = 1, .fail_count = SIZE_MAX};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.allocator = &hook;
    qvit_engine *engine = (qvit_engine *)&options;
    CHECK_EQ(qvit_engine_create(&options, &engine, &why), QVIT_ERR_NO_MEMORY);
    CHECK(!engine);
    heap_check_empty(&heap);
}

static void half_an_allocator_is_refused(void)
{
    struct heap heap = {0};
    for (int missing = 0; missing < 2; missing++) {
        qvit_allocator hook = heap_hook(&heap);
        if (missing) {
            hook.free = NULL;
        } else {
            hook.alloc = NULL;
        }
        qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
        options.allocator = &hook;
        qvit_engine *engine;
        CHECK_EQ(qvit_engine_create(&options, &engine, &why), QVIT_ERR_ARGUMENT);
        CHECK(!engine);
    }
    heap_check_empty(&heap);
}

/* ---- the executor ---- */

static qvit_status refused_executor(const qvit_executor *executor)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.executor = executor;
    qvit_engine *engine;
    qvit_status status = qvit_engine_create(&options, &engine, &why);
    qvit_engine_destroy(engine);
    return status;
}

static void executor_needs_run_and_a_worker(void)
{
    struct shuffled workers = {.workers = 2};
    qvit_executor executor = shuffled_hook(&workers);
    CHECK_EQ(refused_executor(&executor), QVIT_OK);
    executor.workers = SIZE_MAX / 2 + 1; /* products with it would wrap */
    CHECK_EQ(refused_executor(&executor), QVIT_ERR_ARGUMENT);
    executor.workers = 0;
    CHECK_EQ(refused_executor(&executor), QVIT_ERR_ARGUMENT);
    executor = shuffled_hook(&workers);
    executor.run = NULL;
    CHECK_EQ(refused_executor(&executor), QVIT_ERR_ARGUMENT);
}

static void failing_executor_is_reported(void)
{
    struct shuffled workers = {.workers = 4, .answer = QVIT_ERR_IO};
    qvit_executor executor = shuffled_hook(&workers);
    qvit_engine *engine = engine_with(0, NULL, &executor);
    struct view x = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){100, 8});
    fill_normal(&x.t, 1);
    qvit_calibrator *calibrator;
    MUST(qvit_calibrator_create(engine, NULL, &calibrator, &why));
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.weight = &x.t;
    MUST(qvit_calibrator_add_site(calibrator, &site, NULL, &why));
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.input = &x.t;
    MUST(qvit_calibrator_observe(calibrator, &seen, &why));
    qvit_solve_options solve = QVIT_SOLVE_OPTIONS_INIT;
    solve.recipe = "mse";
    CHECK_EQ(qvit_calibrator_solve(calibrator, &solve, &why), QVIT_ERR_EXECUTOR);
    CHECK(workers.runs > 0);
    workers.answer = QVIT_OK;
    MUST(qvit_calibrator_solve(calibrator, &solve, &why));
    qvit_calibrator_destroy(calibrator);
    release();
}

/* ---- the logger ---- */

static void count_line(void *user, qvit_log_level level, const char *text)
{
    CHECK(level == QVIT_LOG_WARNING || level == QVIT_LOG_INFO);
    CHECK(text && !strchr(text, '\n'));
    (*(size_t *)user)++;
}

static void logger_needs_log(void)
{
    size_t lines = 0;
    qvit_logger logger = QVIT_LOGGER_INIT;
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.logger = &logger;
    qvit_engine *engine;
    CHECK_EQ(qvit_engine_create(&options, &engine, &why), QVIT_ERR_ARGUMENT);
    CHECK(!engine);
    logger.user = &lines, logger.log = count_line;
    MUST(qvit_engine_create(&options, &engine, &why));
    one_of_everything(engine);
    qvit_engine_destroy(engine);
}

/* ---- instruction sets ---- */

static qvit_engine *engine_without(uint64_t mask)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.isa_disable = mask;
    qvit_engine *engine;
    MUST(qvit_engine_create(&options, &engine, &why));
    return keep(KEPT_ENGINE, engine, 0);
}

static void what_is_disabled_is_not_used(void)
{
    uint64_t all = qvit_engine_isa(engine_without(0));
    const uint64_t bits = QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX512VNNI;
    CHECK_EQ(all & ~bits, 0);
    uint64_t masks[9] = {[8] = UINT64_MAX};
    for (uint64_t i = 0; i <= bits; i++) masks[i] = i;
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        qvit_engine *engine = engine_without(masks[i]);
        uint64_t isa = qvit_engine_isa(engine);
        CHECK_EQ(isa & (masks[i] | ~all), 0);
        CHECK_EQ(isa, masks[i] & QVIT_ISA_AVX2 ? 0 : all & ~masks[i]); /* all others build on it */
        const char *name = isa & QVIT_ISA_AVX512VNNI ? "avx512vnni"
                           : isa & QVIT_ISA_AVX2VNNI ? "avx2vnni"
                           : isa & QVIT_ISA_AVX2     ? "avx2"
                                                     : "scalar";
        CHECK_STR(qvit_engine_isa_name(engine), name); /* both tell what is used */
    }
    release();
}

static void unknown_bits_of_isa_disable_are_ignored(void)
{
    uint64_t all = qvit_engine_isa(engine_without(0));
    CHECK_EQ(qvit_engine_isa(engine_without(UINT64_C(1) << 63)), all);
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(defaults_make_an_engine);
    RUN(destroying_null_does_nothing);
    RUN(asking_null_is_answered);
    RUN(create_without_out_is_refused);
    RUN(failure_fills_the_error_in_and_success_clears_it);
    RUN(long_messages_are_cut);
    RUN(allocator_is_used_and_gets_everything_back);
    RUN(hooks_are_copied);
    RUN(allocator_without_memory_gives_no_memory);
    RUN(half_an_allocator_is_refused);
    RUN(executor_needs_run_and_a_worker);
    RUN(failing_executor_is_reported);
    RUN(logger_needs_log);
    RUN(what_is_disabled_is_not_used);
    RUN(unknown_bits_of_isa_disable_are_ignored);
    return test_end();
}
