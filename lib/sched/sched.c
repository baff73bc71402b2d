/* sched.c - running tasks, on the host's executor or on the calling thread. */
#include "sched/sched.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "base/shares.h"

QVITP_DEFINE_INIT(qvit_executor, QVIT_EXECUTOR_INIT)

qvit_status qvitp_parallel(const qvit_executor *executor, size_t count, qvit_task *task,
                           void *argument, qvit_error *error)
{
    if (count <= 1 || executor->workers <= 1) {
        for (size_t i = 0; i < count; i++) task(argument, i, 0);
        return QVIT_OK;
    }
    qvit_status status = executor->run(executor->user, count, task, argument);
    if (status == QVIT_OK) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_EXECUTOR, "the executor returned %d (%s)", (int)status,
                      qvit_status_name(status));
}

struct shares {
    size_t count, shares;
    qvit_task *one;
    void *argument;
};

static void run_share(void *argument, size_t share, size_t worker)
{
    const struct shares *s = argument;
    size_t end = qvitp_share(s->count, s->shares, share + 1);
    for (size_t i = qvitp_share(s->count, s->shares, share); i < end; i++)
        s->one(s->argument, i, worker);
}

qvit_status qvitp_parallel_shares(const qvit_executor *executor, size_t count, qvit_task *one,
                                  void *argument, qvit_error *error)
{
    struct shares s = {count, qvitp_min(executor->workers, count), one, argument};
    return qvitp_parallel(executor, s.shares, run_share, &s, error);
}

#ifdef QVIT_OPENMP

#include <omp.h>

/* user: the number of workers, fixed when the engine was made, whatever OpenMP is told later. */
static qvit_status run_openmp(void *user, size_t count, qvit_task *task, void *argument)
{
    int threads = (int)(uintptr_t)user;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t i = 0; i < count; i++) task(argument, i, (size_t)omp_get_thread_num());
    return QVIT_OK;
}

void qvitp_default_executor(qvit_executor *executor)
{
    *executor = (qvit_executor)QVIT_EXECUTOR_INIT;
    int threads = omp_get_max_threads();
    executor->workers = threads > 0 ? (size_t)threads : 1;
    executor->user = (void *)(uintptr_t)executor->workers;
    executor->run = run_openmp;
}

#else

void qvitp_default_executor(qvit_executor *executor)
{
    *executor = (qvit_executor)QVIT_EXECUTOR_INIT;
}

#endif
