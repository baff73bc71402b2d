/* engine.c - the engine: hooks and chosen kernels. */
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/options.h"
#include "cpu/cpu.h"
#include "plan/dispatch.h"
#include "sched/sched.h"

QVITP_DEFINE_INIT(qvit_engine_options, QVIT_ENGINE_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_logger, QVIT_LOGGER_INIT)

/* Copies the hooks that the options name over the defaults, and checks that they are whole. */
static qvit_status read_hooks(const qvit_engine_options *o, qvit_engine *e, qvit_error *error)
{
    const qvit_allocator *allocator = o->allocator;
    const qvit_executor *executor = o->executor;
    const qvit_logger *logger = o->logger;
    e->allocator = qvitp_default_allocator;
    qvitp_default_executor(&e->executor);
    e->logger = (qvit_logger)QVIT_LOGGER_INIT;
    if (allocator) QVITP_TRY(QVITP_READ(&e->allocator, allocator, error));
    if (executor) QVITP_TRY(QVITP_READ(&e->executor, executor, error));
    if (logger) QVITP_TRY(QVITP_READ(&e->logger, logger, error));
    if (!e->allocator.alloc || !e->allocator.free)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "allocator without alloc or free");
    if (executor && (!e->executor.run || !e->executor.workers || e->executor.workers > INT32_MAX))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                          "executor without run, or with a number of workers outside 1..2^31");
    if (logger && !e->logger.log) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "logger without log");
    return QVIT_OK;
}

qvit_status qvit_engine_create(const qvit_engine_options *options, qvit_engine **out,
                               qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    qvit_engine_options o = QVIT_ENGINE_OPTIONS_INIT;
    if (options) QVITP_TRY(QVITP_READ(&o, options, error));
    qvit_engine made;
    memset(&made, 0, sizeof made);
    QVITP_TRY(read_hooks(&o, &made, error));
    made.isa = qvitp_dispatch(qvitp_cpu_isa() & ~o.isa_disable, &made.kernels);

    qvit_engine *engine = qvitp_alloc(&made.allocator, 1, sizeof *engine);
    if (!engine) return qvitp_no_memory(error);
    *engine = made;
    *out = engine;
    char names[80];
    qvitp_dispatch_names(engine->isa, names, sizeof names);
    qvitp_log(engine, QVIT_LOG_INFO, "libqvit %s: %s, %zu workers", qvit_version_string(), names,
              engine->executor.workers);
    return qvitp_ok(error);
}

void qvit_engine_destroy(qvit_engine *engine)
{
    if (!engine) return;
    qvit_allocator allocator = engine->allocator;
    qvitp_free(&allocator, engine);
}

uint64_t qvit_engine_isa(const qvit_engine *engine) { return engine ? engine->isa : 0; }

const char *qvit_engine_isa_name(const qvit_engine *engine)
{
    return engine ? engine->kernels.isa : "";
}

size_t qvit_engine_workers(const qvit_engine *engine)
{
    return engine ? engine->executor.workers : 0;
}

void *qvitp_engine_alloc(const qvit_engine *engine, size_t count, size_t size)
{
    return qvitp_alloc(&engine->allocator, count, size);
}

void qvitp_engine_free(const qvit_engine *engine, void *memory)
{
    qvitp_free(&engine->allocator, memory);
}

void *qvitp_engine_copy(const qvit_engine *engine, const void *array, size_t count, size_t size,
                        int *ok)
{
    if (!array) return NULL;
    void *copy = qvitp_engine_alloc(engine, count, size);
    if (copy) memcpy(copy, array, count * size);
    if (!copy) *ok = 0;
    return copy;
}

void qvitp_log(const qvit_engine *engine, qvit_log_level level, const char *format, ...)
{
    if (!engine->logger.log) return;
    char text[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    engine->logger.log(engine->logger.user, level, text);
}
