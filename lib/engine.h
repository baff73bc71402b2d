/* engine.h - the inside of an engine, and the small services that every object takes from it. */
#ifndef QVITP_ENGINE_H
#define QVITP_ENGINE_H

#include "base/error.h"
#include "kernels/kernels.h"
#include "qvit.h"

struct qvit_engine {
    qvit_allocator allocator;
    qvit_executor executor;
    qvit_logger logger;
    uint64_t isa; /* QVIT_ISA_* bits in use                                          */
    struct qvitp_kernels
        kernels; /* every slot filled; .isa names the newest set in use             */
};

/* Zeroed memory for one object, or an array of count elements of size bytes; NULL on failure. */
void *qvitp_engine_alloc(const qvit_engine *engine, size_t count, size_t size);
void qvitp_engine_free(const qvit_engine *engine, void *memory);

/* A copy of an array; NULL stays NULL. Sets *ok to 0 if memory ran out, and leaves it alone else. */
void *qvitp_engine_copy(const qvit_engine *engine, const void *array, size_t count, size_t size,
                        int *ok);

/* One line for the host's logger, if it has one. Never from inside a task. */
void qvitp_log(const qvit_engine *engine, qvit_log_level level, const char *format, ...)
    QVITP_PRINTF(3, 4);

#endif
