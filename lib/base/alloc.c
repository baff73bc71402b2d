/* alloc.c - memory through the host's allocator. */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/options.h"

/* The hook's free wants the size back; it stands in front of every block, in a piece as large as the
 * alignment so that the block itself stays aligned. */
enum { HEADER = QVIT_ALIGNMENT };

void *qvitp_alloc(const qvit_allocator *allocator, size_t count, size_t size)
{
    size_t bytes = qvitp_round_up(qvitp_add(qvitp_mul(count, size), HEADER), QVIT_ALIGNMENT);
    if (bytes == SIZE_MAX) return NULL;
    char *block = allocator->alloc(allocator->user, bytes, QVIT_ALIGNMENT);
    if (!block) return NULL;
    memset(block, 0, bytes);
    memcpy(block, &bytes, sizeof bytes);
    return block + HEADER;
}

void qvitp_free(const qvit_allocator *allocator, void *memory)
{
    if (!memory) return;
    char *block = (char *)memory - HEADER;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    allocator->free(allocator->user, block, bytes, QVIT_ALIGNMENT);
}

static void *default_alloc(void *user, size_t size, size_t alignment)
{
    (void)user;
    return aligned_alloc(alignment, size);
}

static void default_free(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user, (void)size, (void)alignment;
    free(memory);
}

const qvit_allocator qvitp_default_allocator = {sizeof(qvit_allocator), NULL, default_alloc,
                                                default_free};

QVITP_DEFINE_INIT(qvit_allocator, QVIT_ALLOCATOR_INIT)
