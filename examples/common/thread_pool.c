#include "thread_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* What one thread is told about itself. */
struct worker {
    thread_pool *pool;
    size_t number;
    pthread_t thread;
};

struct thread_pool {
    size_t workers; /* with the caller, who is worker 0 */
    size_t spins;   /* how often who waits looks before it sleeps */
    struct worker *threads;

    atomic_size_t jobs; /* started so far: a change is what the threads wait for */
    atomic_size_t busy; /* threads that have not ended the job yet */
    atomic_bool stop;

    pthread_mutex_t
        lock; /* held to fall asleep and to wake, never to start, to do or to end a job */
    pthread_cond_t start, finished;
    atomic_size_t asleep; /* threads that wait for `start` */
    atomic_bool waiting;  /* the caller waits for `finished` */

    qvit_task *task; /* the job, set while no thread is busy */
    void *argument;
    size_t count;
    atomic_size_t next; /* the first index that nobody has taken */
};

/*
 * Sleeping and waking take tens of microseconds, as long as a whole layer. So who waits looks for some time
 * first. A sleeper says that it sleeps and then looks once more, and who would wake it changes what it waits
 * for and then asks whether anybody sleeps: one of the two sees the other.
 */
enum { SPINS = 4000 };

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes one index after the other, so that a worker that is held up delays nobody else. */
static void work(thread_pool *pool, size_t worker)
{
    size_t index;
    while ((index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->count)
        pool->task(pool->argument, index, worker);
}

static bool has_news(thread_pool *pool, size_t seen)
{
    return atomic_load(&pool->jobs) != seen || atomic_load(&pool->stop);
}

/* Until a job follows those that were seen, or the pool stops. */
static void await_start(thread_pool *pool, size_t seen)
{
    for (size_t i = 0; i < pool->spins && !has_news(pool, seen); i++) pause_briefly();
    if (has_news(pool, seen)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->asleep, 1);
    while (!has_news(pool, seen)) pthread_cond_wait(&pool->start, &pool->lock);
    atomic_fetch_sub(&pool->asleep, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void await_end(thread_pool *pool)
{
    for (size_t i = 0; i < pool->spins && atomic_load(&pool->busy); i++) pause_briefly();
    if (!atomic_load(&pool->busy)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waiting, true);
    while (atomic_load(&pool->busy)) pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->waiting, false);
    pthread_mutex_unlock(&pool->lock);
}

static void wake(thread_pool *pool, pthread_cond_t *who)
{
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(who);
    pthread_mutex_unlock(&pool->lock);
}

static void *thread_main(void *user)
{
    const struct worker *self = user;
    thread_pool *pool = self->pool;
    for (size_t seen = 0;; seen++) {
        await_start(pool, seen);
        if (atomic_load(&pool->stop)) return NULL;
        work(pool, self->number);
        if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->waiting))
            wake(pool, &pool->finished);
    }
}

static qvit_status run(void *user, size_t count, qvit_task *task, void *argument)
{
    thread_pool *pool = user;
    pool->task = task;
    pool->argument = argument;
    pool->count = count;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    bool alone = pool->workers == 1 || count <= 1; /* not worth waking anybody */
    if (!alone) {
        atomic_store(&pool->busy, pool->workers - 1);
        atomic_fetch_add(&pool->jobs, 1);
        if (atomic_load(&pool->asleep)) wake(pool, &pool->start);
    }
    work(pool, 0);
    if (!alone) await_end(pool);
    return QVIT_OK;
}

thread_pool *thread_pool_create(size_t workers)
{
    thread_pool *pool = workers ? calloc(1, sizeof *pool) : NULL;
    if (!pool) return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->finished, NULL);
    atomic_init(&pool->next, 0);
    atomic_init(&pool->jobs, 0);
    atomic_init(&pool->busy, 0);
    atomic_init(&pool->stop, false);
    atomic_init(&pool->asleep, 0);
    atomic_init(&pool->waiting, false);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (processors > 0 && workers <= (size_t)processors) pool->spins = SPINS;
    pool->threads = calloc(workers, sizeof *pool->threads);
    pool->workers = pool->threads ? 1 : 0;
    for (; pool->workers > 0 && pool->workers < workers; pool->workers++) {
        struct worker *self = &pool->threads[pool->workers];
        self->pool = pool;
        self->number = pool->workers;
        if (pthread_create(&self->thread, NULL, thread_main, self)) break;
    }
    if (pool->workers == workers) return pool;
    thread_pool_destroy(pool);
    return NULL;
}

void thread_pool_destroy(thread_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, true);
    wake(pool, &pool->start);
    for (size_t i = 1; i < pool->workers; i++) pthread_join(pool->threads[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

qvit_executor thread_pool_executor(thread_pool *pool)
{
    qvit_executor executor = QVIT_EXECUTOR_INIT;
    executor.user = pool;
    executor.workers = pool->workers;
    executor.run = run;
    return executor;
}
