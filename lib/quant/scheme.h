/* scheme.h - the schemes as data, and one value to its code and back. */
#ifndef QVITP_SCHEME_H
#define QVITP_SCHEME_H

#include "qvit.h"

struct qvitp_scheme {
    const char *name;
    qvit_dtype code_dtype;
    uint32_t keys;     /* mask of 1 << QVIT_PARAMETER_*: the arrays that it may have */
    uint32_t required; /* and those that it must have */
};

/* NULL for an unknown scheme. */
const struct qvitp_scheme *qvitp_scheme_find(qvit_scheme scheme);

/* Whether a scheme that there is has these parameters. */
static inline int qvitp_scheme_has(qvit_scheme scheme, qvit_parameter_key key)
{
    return qvitp_scheme_find(scheme)->keys >> key & 1;
}

static inline int qvitp_scheme_is_twin(qvit_scheme scheme)
{
    return scheme == QVIT_SCHEME_TWIN_SOFTMAX || scheme == QVIT_SCHEME_TWIN_GELU;
}

/* Twins whose second scale is 1 to MOST times the first, a whole number, are summed as one (op/left.h): 16
 * bits hold 127 times MOST, all that a twin without a zero point has. */
enum { QVITP_JOINED_MOST = 256 };

/* The lowest and the highest code. */
void qvitp_scheme_range(qvit_scheme scheme, int32_t bits, uint32_t flags, float *lo, float *hi);

/* Everything that one code of one block depends on. */
struct qvitp_coder {
    qvit_scheme scheme;
    float scale, scale2, zero, lo, hi;
};
int32_t qvitp_coder_encode(const struct qvitp_coder *coder, float x);
float qvitp_coder_decode(const struct qvitp_coder *coder, int32_t code);

#endif
