/* The threads and the allocator that the examples give to engines. */
#include "../../examples/common/counting_allocator.h"
#include "../../examples/common/thread_pool.h"
#include "test.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { MAX_TASKS = 500, MAX_WORKERS = 8 };

struct job {
    atomic_int times[MAX_TASKS];
    atomic_flag busy[MAX_WORKERS];
    atomic_bool shared; /* whether two tasks had one worker's number at once */
};

static void do_task(void *argument, size_t index, size_t worker)
{
    struct job *job = argument;
    if (worker >= MAX_WORKERS || atomic_flag_test_and_set(&job->busy[worker]))
        atomic_store(&job->shared, true);
    atomic_fetch_add(&job->times[index], 1);
    if (worker < MAX_WORKERS) atomic_flag_clear(&job->busy[worker]);
}

static void check_job(const qvit_executor *executor, size_t count)
{
    static struct job job;
    for (size_t i = 0; i < MAX_TASKS; i++) atomic_store(&job.times[i], 0);
    atomic_store(&job.shared, false);
    CHECK_EQ(executor->run(executor->user, count, do_task, &job), QVIT_OK);
    for (size_t i = 0; i < MAX_TASKS; i++) CHECK_EQ(atomic_load(&job.times[i]), i < count);
    CHECK(!atomic_load(&job.shared));
}

static void every_task_runs_once(void)
{
    for (size_t workers = 1; workers <= MAX_WORKERS; workers++) {
        thread_pool *pool = thread_pool_create(workers);
        CHECK(pool != NULL);
        const qvit_executor executor = thread_pool_executor(pool);
        CHECK_EQ(executor.workers, workers);
        for (size_t round = 0; round < 200; round++)
            check_job(&executor, round < 5 ? round : test_below(MAX_TASKS + 1));
        thread_pool_destroy(pool);
    }
}

static void refuses_no_workers(void)
{
    CHECK(thread_pool_create(0) == NULL);
    thread_pool_destroy(NULL);
}

/* A pool that is never used, and engines that come and go. */
static void starts_and_ends(void)
{
    for (int i = 0; i < 50; i++) {
        thread_pool *pool = thread_pool_create(1 + test_below(MAX_WORKERS));
        CHECK(pool != NULL);
        thread_pool_destroy(pool);
    }
}

static void counts_bytes(void)
{
    counting_allocator counter = {0};
    const qvit_allocator hook = counting_allocator_hook(&counter);
    void *first = hook.alloc(hook.user, 100, 64), *second = hook.alloc(hook.user, 10, 16);
    CHECK(first && second && (uintptr_t)first % 64 == 0);
    memset(first, 1, 100);
    hook.free(hook.user, first, 100, 64);
    CHECK_EQ(counter.live, 10);
    CHECK_EQ(counter.peak, 110);
    hook.free(hook.user, second, 10, 16);
    CHECK_EQ(counter.live, 0);
    CHECK(hook.alloc(hook.user, SIZE_MAX - 8, 64) == NULL);
    CHECK_EQ(counter.live, 0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(every_task_runs_once);
    RUN(refuses_no_workers);
    RUN(starts_and_ends);
    RUN(counts_bytes);
    return test_end();
}
