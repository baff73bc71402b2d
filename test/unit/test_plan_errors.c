/*
 * test_plan_errors.c - what every plan does alike: it refuses to run as another operation, and says so
 * when the executor fails.
 */
#include "plan_scenes.h"

/* A plan of every operation on one engine. */
enum { LINEAR, MATMUL, ATTENTION, NORM, QUANTIZE, PLANS };
static qvit_plan *plans[PLANS];

static void make_plans(const qvit_engine *engine)
{
    plans[LINEAR] = running_plan(engine);
    MUST(qvit_matmul_create(engine, &matmul.make.o, &plans[MATMUL], &why));
    MUST(qvit_attention_create(engine, &attention.make.o, &plans[ATTENTION], &why));
    MUST(qvit_layer_norm_create(engine, &unary.make.o, &plans[NORM], &why));
    MUST(qvit_quantize_create(engine, &unary.quantize.o, &plans[QUANTIZE], &why));
    for (int i = MATMUL; i < PLANS; i++) keep_plan(plans[i]);
}

/* All scenes at once, with workspaces for the plans. */
static void all_scenes(const qvit_engine *engine)
{
    matmul.plan = attention.plan = running.plan = NULL;
    linear.mark = kept.count, linear_scene();
    matmul.mark = kept.count, matmul_scene();
    attention.mark = kept.count, attention_scene();
    unary.mark = kept.count, unary_scene();
    fill_normal(&unary.input.t, 1);
    linear.mark = kept.count; /* so that nothing of the other scenes is given back */
    make_plans(engine);
    running.plan = plans[LINEAR];
    running.mark = kept.count, running_scene();
    matmul.args.o.workspace_size = qvit_matmul_workspace_size(plans[MATMUL], 3, N, K);
    matmul.args.o.workspace = workspace(matmul.args.o.workspace_size);
    attention.args.o.workspace_size =
        qvit_attention_workspace_size(plans[ATTENTION], QUERIES, KEYS);
    attention.args.o.workspace = workspace(attention.args.o.workspace_size);
}

static qvit_status run_as(int operation, const qvit_plan *plan)
{
    switch (operation) {
    case LINEAR:
        return qvit_linear_run(plan, &running.args.o, &why);
    case MATMUL:
        return qvit_matmul_run(plan, &matmul.args.o, &why);
    case ATTENTION:
        return qvit_attention_run(plan, &attention.args.o, &why);
    case NORM:
        return qvit_layer_norm_run(plan, &unary.args.o, &why);
    default:
        return qvit_quantize_run(plan, &unary.args.o, &why);
    }
}

static void a_plan_runs_its_own_operation_only(void)
{
    open_kit();
    all_scenes(kit.engine);
    for (int operation = 0; operation < PLANS; operation++)
        for (int plan = 0; plan < PLANS; plan++)
            check_failure("another operation's plan",
                          plan == operation ? QVIT_OK : QVIT_ERR_ARGUMENT,
                          run_as(operation, plans[plan]));
    for (int plan = 0; plan < PLANS; plan++) {
        if (plan != LINEAR) CHECK_EQ(qvit_linear_workspace_size(plans[plan], 3), 0);
        if (plan != MATMUL) CHECK_EQ(qvit_matmul_workspace_size(plans[plan], 3, 3, 3), 0);
        if (plan != ATTENTION) CHECK_EQ(qvit_attention_workspace_size(plans[plan], 3, 3), 0);
    }
    close_kit();
}

static void a_failing_executor_is_reported(void)
{
    static const qvit_status answers[] = {QVIT_ERR_EXECUTOR, QVIT_ERR_CANCELLED, QVIT_ERR_VALUE, -1,
                                          4711};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        open_kit();
        struct shuffled shuffled = {.workers = 3, .answer = answers[i]};
        qvit_executor executor = shuffled_hook(&shuffled);
        qvit_allocator allocator = heap_hook(&kit.heap);
        all_scenes(engine_with(0, &allocator, &executor));
        /* Few rows, or one chunk of columns, are one task, which needs no executor. */
        unary.input = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){90, K});
        unary.output = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){90, K});
        fill_normal(&unary.input.t, 1);
        running.input = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){90, K});
        running.residual = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){90, N});
        running.output = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){90, N});
        running.args.o.workspace_size = qvit_linear_workspace_size(plans[LINEAR], 90);
        running.args.o.workspace = workspace(running.args.o.workspace_size);
        for (int operation = 0; operation < PLANS; operation++) {
            size_t before = shuffled.runs;
            check_failure("executor", QVIT_ERR_EXECUTOR, run_as(operation, plans[operation]));
            CHECK_EQ(shuffled.runs, before + 1);
        }
        close_kit();
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(a_plan_runs_its_own_operation_only);
    RUN(a_failing_executor_is_reported);
    return test_end();
}
