/* options.c - reading the structs that begin with struct_size and may grow. */
#include "base/options.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"

/* No struct will ever be this large: a number beyond it is no size. */
enum { MOST_BYTES = 4096 };

qvit_status qvitp_read_struct(void *ours, size_t our_size, size_t first, const void *theirs,
                              const char *name, qvit_error *error)
{
    if (!theirs) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s is NULL", name);
    size_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < first)
        return qvitp_fail(
            error, QVIT_ERR_ARGUMENT,
            "%s->struct_size is %zu, less than the smallest known, %zu: start from the "
            "_INIT macro",
            name, size, first);
    if (size > MOST_BYTES)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s->struct_size is %zu: it was never set",
                          name, size);
    const char *bytes = theirs;
    for (size_t i = our_size; i < size; i++)
        if (bytes[i])
            return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                              "%s has a field that this version of the library does not know, at "
                              "byte %zu",
                              name, i);
    memcpy(ours, theirs, qvitp_min(size, our_size));
    memcpy(ours, &our_size, sizeof our_size);
    return QVIT_OK;
}

void qvitp_init_struct(void *theirs, size_t size, const void *defaults, size_t ours)
{
    if (!theirs || size < sizeof size) return;
    memset(theirs, 0, size);
    memcpy(theirs, defaults, qvitp_min(size, ours));
    memcpy(theirs, &size, sizeof size);
}
