#include "counting_allocator.h"

#include <stdlib.h>

static void *count_alloc(void *user, size_t size, size_t alignment)
{
    counting_allocator *counter = user;
    if (size > SIZE_MAX - alignment) return NULL;
    /* aligned_alloc wants a multiple of the alignment */
    void *memory = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!memory) return NULL;
    counter->live += size;
    if (counter->live > counter->peak) counter->peak = counter->live;
    return memory;
}

static void count_free(void *user, void *memory, size_t size, size_t alignment)
{
    counting_allocator *counter = user;
    (void)alignment;
    counter->live -= size;
    free(memory);
}

qvit_allocator counting_allocator_hook(counting_allocator *counter)
{
    qvit_allocator allocator = QVIT_ALLOCATOR_INIT;
    allocator.user = counter;
    allocator.alloc = count_alloc;
    allocator.free = count_free;
    return allocator;
}
