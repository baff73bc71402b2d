/*
 * fail.h - the host reports its own failures as the library does: a status, and a sentence.
 *
 * Every function of the host that can fail returns a qvit_status and takes, last, a qvit_error *,
 * never NULL here. Between them go
 *
 *     TRY(qvit_engine_create(&options, &engine, error));
 *     if (label < 0) return fail(error, QVIT_ERR_VALUE, "label %d is negative", label);
 *
 * ARGUMENT means that the command line is to blame (exit status 2), all else is 1.
 */
#ifndef VIT_FAIL_H
#define VIT_FAIL_H

#include <qvit.h>

/* Returns from the calling function if the call failed. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        qvit_status status_ = (call);                                                              \
        if (status_ != QVIT_OK) return status_;                                                    \
    } while (0)

/* Fills in the error, the text as printf does, and returns the status. */
__attribute__((format(printf, 3, 4))) qvit_status fail(qvit_error *error, qvit_status status,
                                                       const char *format, ...);

/* fail() for what malloc and its like refused. */
qvit_status fail_memory(qvit_error *error);

#endif
