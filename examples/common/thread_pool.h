/*
 * thread_pool.h - a fixed set of threads as the executor of a qvit_engine.
 *
 *     thread_pool *pool = thread_pool_create(4);
 *     qvit_executor executor = thread_pool_executor(pool);
 *     qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
 *     options.executor = &executor;
 *     ...
 *     thread_pool_destroy(pool);      after the engines that use it
 *
 * The thread that calls an operation works along as worker 0, so a pool of T workers starts T - 1
 * threads, and one of 1 none. One operation at a time may run on a pool.
 */
#ifndef COMMON_THREAD_POOL_H
#define COMMON_THREAD_POOL_H

#include <stddef.h>

#include <qvit.h>

typedef struct thread_pool thread_pool;

/* NULL if workers is 0, or if memory or threads cannot be had. */
thread_pool *thread_pool_create(size_t workers);

/* Ends the threads. NULL does nothing. */
void thread_pool_destroy(thread_pool *pool);

/* The hook for an engine; it refers to the pool, which must outlive the engine. */
qvit_executor thread_pool_executor(thread_pool *pool);

#endif
