/*
 * counting_allocator.h - an allocator for a qvit_engine that knows how much the library uses.
 *
 *     counting_allocator counter = {0};
 *     qvit_allocator allocator = counting_allocator_hook(&counter);
 *     qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
 *     options.allocator = &allocator;
 *     ...
 *     printf("%zu bytes at most\n", counter.peak);
 *
 * The library allocates only on threads that call it, never in an executor's task; so plain numbers
 * will do where one thread makes and destroys objects.
 */
#ifndef COMMON_COUNTING_ALLOCATOR_H
#define COMMON_COUNTING_ALLOCATOR_H

#include <stddef.h>

#include <qvit.h>

typedef struct counting_allocator {
    size_t live; /* bytes in use now */
    size_t peak; /* the most that live has been; set it to live to start over */
} counting_allocator;

/* The hook for an engine; it refers to the counter, which must outlive the engine. */
qvit_allocator counting_allocator_hook(counting_allocator *counter);

#endif
