/* alloc.h - memory through the host's allocator. */
#ifndef QVITP_ALLOC_H
#define QVITP_ALLOC_H

#include "qvit.h"

/* `count` elements of `size` bytes, all zero, aligned to QVIT_ALIGNMENT. NULL: no memory, or the
 * product does not fit. count 0 gives a valid block. The block remembers its size. */
void *qvitp_alloc(const qvit_allocator *allocator, size_t count, size_t size);

/* Gives back a block of qvitp_alloc; NULL does nothing. */
void qvitp_free(const qvit_allocator *allocator, void *memory);

/* malloc's family, for engines made without an allocator. */
extern const qvit_allocator qvitp_default_allocator;

#endif
