/*
 * softmax_strips.h - the rows of softmax_u8 in strips: a pass is over all of one, so that no row waits for what its own
 * last pass gives. Each kernel is compiled four times, for what its innermost loops would ask.
 */
#ifndef QVITP_SOFTMAX_STRIPS_H
#define QVITP_SOFTMAX_STRIPS_H

#include <stddef.h>

#include "kernels/softmax_share.h"

enum { QVITP_SOFTMAX_STRIP = 16 }; /* rows at most */

/* The rows [first, first + count). twins: codes are made as a twin's, which some plain ones are too; fraction: of those
 * that are not (qvitp_plain_fraction). twins and sums, rows->sums, are constants wherever this is called. */
typedef void qvitp_softmax_strip_fn(const struct qvitp_softmax_codes *rows, ptrdiff_t first,
                                    ptrdiff_t count, int fraction, int twins, int sums);

/* strip is inlined too. */
__attribute__((always_inline)) static inline void
qvitp_softmax_strips(const struct qvitp_softmax_codes *rows, qvitp_softmax_strip_fn *strip)
{
    int fraction = qvitp_plain_fraction(rows->mul), twins = rows->half > 0 || !fraction;
    for (ptrdiff_t done = 0, m = (ptrdiff_t)rows->m; done < m; done += QVITP_SOFTMAX_STRIP) {
        ptrdiff_t count = m - done < QVITP_SOFTMAX_STRIP ? m - done : QVITP_SOFTMAX_STRIP;
        if (rows->sums && twins)
            strip(rows, done, count, fraction, 1, 1);
        else if (rows->sums)
            strip(rows, done, count, fraction, 0, 1);
        else if (twins)
            strip(rows, done, count, fraction, 1, 0);
        else
            strip(rows, done, count, fraction, 0, 0);
    }
}

#endif
