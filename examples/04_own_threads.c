/*
 * 04_own_threads - lesson: the library runs on the host's threads, and the results stay the same.
 *
 * The executor here starts threads for every call, to be short: examples/common/thread_pool.c keeps
 * them. A layer runs on one thread and on four, and the sums are compared byte for byte.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <qvit.h>

#define TRY(call)                                                                                  \
    if ((call) != QVIT_OK) return puts(e.text), 1

enum { WORKERS = 4, ROWS = 64, INPUTS = 96, OUTPUTS = 160 };

/* ---- the executor ---- */

struct share {
    qvit_task *task;
    void *argument;
    size_t count, worker;
};

/* Worker w does tasks w, w + WORKERS, ...: no two workers ever do the same, or use one number. */
static void *work(void *user)
{
    const struct share *s = user;
    for (size_t i = s->worker; i < s->count; i += WORKERS) s->task(s->argument, i, s->worker);
    return NULL;
}

static qvit_status run_on_threads(void *user, size_t count, qvit_task *task, void *argument)
{
    (void)user;
    pthread_t threads[WORKERS];
    struct share shares[WORKERS];
    size_t started = 0;
    for (size_t w = 0; w < WORKERS; w++) shares[w] = (struct share){task, argument, count, w};
    while (started < WORKERS && !pthread_create(&threads[started], NULL, work, &shares[started]))
        started++;
    for (size_t w = started; w < WORKERS; w++) work(&shares[w]); /* those without a thread */
    for (size_t w = 0; w < started; w++) pthread_join(threads[w], NULL);
    return QVIT_OK;
}

/* ---- a layer of codes to bare sums ---- */

static signed char input[ROWS * INPUTS], weights[OUTPUTS * INPUTS];
static qvit_error e;

static int run_layer(const qvit_engine *engine, int32_t *sums)
{
    static const float one = 1;
    const qvit_parameter scale = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &one};
    qvit_quantizer_options codes = QVIT_QUANTIZER_OPTIONS_INIT; /* symmetric, 8 bits */
    codes.flags = QVIT_QUANTIZER_NARROW;
    codes.parameters = &scale, codes.parameter_count = 1;
    qvit_quantizer *quantizer;
    TRY(qvit_quantizer_create(engine, &codes, &quantizer, &e));
    qvit_tensor w, x, y;
    qvit_tensor_init(&w, weights, QVIT_DTYPE_S8, 2, (size_t[]){OUTPUTS, INPUTS});
    qvit_tensor_init(&x, input, QVIT_DTYPE_S8, 2, (size_t[]){ROWS, INPUTS});
    qvit_tensor_init(&y, sums, QVIT_DTYPE_S32, 2, (size_t[]){ROWS, OUTPUTS});
    qvit_linear_options options = QVIT_LINEAR_OPTIONS_INIT;
    options.input = (qvit_port){QVIT_DTYPE_S8, 0, quantizer};
    options.weight = (qvit_port){QVIT_DTYPE_S8, 0, quantizer};
    options.output.dtype = QVIT_DTYPE_S32;
    options.weights = &w;
    qvit_plan *plan;
    TRY(qvit_linear_create(engine, &options, &plan, &e));
    qvit_linear_args run = QVIT_LINEAR_ARGS_INIT;
    run.input = &x, run.output = &y;
    run.workspace_size = qvit_linear_workspace_size(plan, ROWS); /* has a part for each worker */
    run.workspace = aligned_alloc(QVIT_ALIGNMENT, run.workspace_size + QVIT_ALIGNMENT);
    TRY(qvit_linear_run(plan, &run, &e));
    free(run.workspace), qvit_plan_destroy(plan), qvit_quantizer_destroy(quantizer);
    return 0;
}

int main(void)
{
    static int32_t alone[ROWS * OUTPUTS], together[ROWS * OUTPUTS];
    for (int i = 0; i < ROWS * INPUTS; i++) input[i] = (signed char)(i * i % 251 - 125);
    for (int i = 0; i < OUTPUTS * INPUTS; i++) weights[i] = (signed char)(i * i % 253 - 126);
    qvit_executor executor = QVIT_EXECUTOR_INIT;
    executor.workers = WORKERS, executor.run = run_on_threads;
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    qvit_engine *serial, *threaded;
    TRY(qvit_engine_create(&options, &serial, &e));
    options.executor = &executor;
    TRY(qvit_engine_create(&options, &threaded, &e));
    if (run_layer(serial, alone) || run_layer(threaded, together)) return 1;
    int same = !memcmp(alone, together, sizeof alone);
    printf("%s: %zu and %zu workers\n", same ? "ok" : "different", qvit_engine_workers(serial),
           qvit_engine_workers(threaded));
    qvit_engine_destroy(serial), qvit_engine_destroy(threaded);
    return !same;
}
