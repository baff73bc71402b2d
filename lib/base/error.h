/* error.h - reporting: how a function fails with a sentence. */
#ifndef QVITP_ERROR_H
#define QVITP_ERROR_H

#include "qvit.h"

#if defined(__GNUC__) || defined(__clang__)
#define QVITP_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define QVITP_PRINTF(text, first)
#endif

/* Fills in `error` (may be NULL) and returns `status`, so that failing is one statement. */
qvit_status qvitp_fail(qvit_error *error, qvit_status status, const char *format, ...)
    QVITP_PRINTF(3, 4);

/* Puts "where: " before the sentence of a failure; NULL error and empty text stay as they are. */
void qvitp_fail_in(qvit_error *error, const char *where);

/* The sentence for a failed allocation. */
qvit_status qvitp_no_memory(qvit_error *error);

/* Marks success. */
qvit_status qvitp_ok(qvit_error *error);

/* Returns from the calling function with the status of `call` unless it is QVIT_OK. */
#define QVITP_TRY(call)                                                                            \
    do {                                                                                           \
        qvit_status status_ = (call);                                                              \
        if (status_ != QVIT_OK) return status_;                                                    \
    } while (0)

#endif
