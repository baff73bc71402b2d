/* pool.h - memory that is given back all at once. */
#ifndef QVITP_POOL_H
#define QVITP_POOL_H

#include "engine.h"

struct qvitp_pool {
    const qvit_engine *engine;
    void *last; /* each block begins with the address of the one before */
};

/* Zeroed memory that lives as long as the pool; NULL if it runs out. */
void *qvitp_pool_alloc(struct qvitp_pool *pool, size_t count, size_t size);
void qvitp_pool_free(struct qvitp_pool *pool);

#endif
