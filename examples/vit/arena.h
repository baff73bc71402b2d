/*
 * arena.h - many buffers in one block of memory, laid out by one function that runs twice:
 *
 *     struct arena arena = {0};
 *     lay_out(x, &arena);                 without memory it only adds up what is taken
 *     x->memory = aligned_alloc(QVIT_ALIGNMENT, arena.used);
 *     arena = (struct arena){.memory = x->memory};
 *     lay_out(x, &arena);                 now the pieces are handed out
 */
#ifndef VIT_ARENA_H
#define VIT_ARENA_H

#include <stddef.h>

#include <qvit.h>

struct arena {
    unsigned char *memory;
    size_t used;
};

/* A piece aligned to QVIT_ALIGNMENT; NULL as long as there is no memory. */
static inline void *arena_take(struct arena *arena, size_t bytes)
{
    void *piece = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += (bytes + QVIT_ALIGNMENT - 1) / QVIT_ALIGNMENT * QVIT_ALIGNMENT;
    return piece;
}

static inline void *arena_take_rows(struct arena *arena, qvit_dtype dtype, size_t rows, size_t cols)
{
    return arena_take(arena, qvit_tensor_bytes(dtype, 2, (size_t[]){rows, cols}));
}

#endif
