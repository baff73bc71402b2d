/* pool.c - memory that is given back all at once. */
#include "calib/pool.h"

#include <string.h>

#include "base/checked.h"

void *qvitp_pool_alloc(struct qvitp_pool *pool, size_t count, size_t size)
{
    size_t bytes = qvitp_add(qvitp_mul(count, size), QVIT_ALIGNMENT);
    char *block = qvitp_engine_alloc(pool->engine, bytes, 1);
    if (!block) return NULL;
    memcpy(block, &pool->last, sizeof pool->last);
    pool->last = block;
    return block + QVIT_ALIGNMENT;
}

void qvitp_pool_free(struct qvitp_pool *pool)
{
    while (pool->last) {
        void *block = pool->last;
        memcpy(&pool->last, block, sizeof pool->last);
        qvitp_engine_free(pool->engine, block);
    }
}
