#include "thread_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* What one thread is told about itself. */
struct worker {
    thread_pool *pool;
    size_t number;
    pthread_t thread;
};

struct thread_pool {
    size_t workers; /* with the caller, who is worker 0 */
    struct worker *threads;

    pthread_mutex_t lock; /* of jobs, busy and stop; held to start and to end a job, never inside */
    pthread_cond_t start, finished;
    size_t jobs; /* started so far: a change wakes the threads */
    size_t busy; /* threads that have not ended the job yet */
    bool stop;

    qvit_task *task; /* the job, set while all threads wait */
    void *argument;
    size_t count;
    atomic_size_t next; /* the first index that nobody has taken */
};

/* Takes one index after the other, so that a worker that is held up delays nobody else. */
static void work(thread_pool *pool, size_t worker)
{
    size_t index;
    while ((index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->count)
        pool->task(pool->argument, index, worker);
}

static void *thread_main(void *user)
{
    const struct worker *self = user;
    thread_pool *pool = self->pool;
    pthread_mutex_lock(&pool->lock);
    for (size_t seen = 0;; seen++) {
        while (pool->jobs == seen && !pool->stop) pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->stop) break;
        pthread_mutex_unlock(&pool->lock);
        work(pool, self->number);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->finished);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
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
        pthread_mutex_lock(&pool->lock);
        pool->busy = pool->workers - 1;
        pool->jobs++;
        pthread_cond_broadcast(&pool->start);
        pthread_mutex_unlock(&pool->lock);
    }
    work(pool, 0);
    if (!alone) {
        pthread_mutex_lock(&pool->lock);
        while (pool->busy > 0) pthread_cond_wait(&pool->finished, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
    }
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
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
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
