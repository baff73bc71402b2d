/* options.h - reading the structs that begin with struct_size and may grow. */
#ifndef QVITP_OPTIONS_H
#define QVITP_OPTIONS_H

#include "qvit.h"

/*
 * Copies the caller's struct over `ours`, which holds the defaults. A struct from an older header is
 * shorter: what it lacks stays default. One from a newer header is longer: fine while the part that we
 * do not know is zero; otherwise UNSUPPORTED, so that no wish is silently ignored. `first` is the size
 * in the first release that had the struct. `theirs` NULL gives ARGUMENT.
 */
qvit_status qvitp_read_struct(void *ours, size_t our_size, size_t first, const void *theirs,
                              const char *name, qvit_error *error);

/* Fills in a caller's struct of `size` bytes with the defaults, `ours` bytes long: what both have is
 * copied, what only the caller has is zeroed, and struct_size becomes the caller's. */
void qvitp_init_struct(void *theirs, size_t size, const void *defaults, size_t ours);

/* Defines qvit_NAME_init for a struct and its _INIT macro. */
#define QVITP_DEFINE_INIT(type, INIT)                                                              \
    void type##_init(type *theirs, size_t size)                                                    \
    {                                                                                              \
        const type defaults = INIT;                                                                \
        qvitp_init_struct(theirs, size, &defaults, sizeof defaults);                               \
    }

/* For a struct that has not grown since its first release. */
#define QVITP_READ(ours, theirs, error)                                                            \
    qvitp_read_struct((ours), sizeof *(ours), sizeof *(ours), (theirs), #theirs, (error))

#endif
