/* encode.h - a run of floats to codes with one coder, by the engine's kernel. */
#ifndef QVITP_OP_ENCODE_H
#define QVITP_OP_ENCODE_H

#include "engine.h"
#include "quant/scheme.h"

static inline int32_t qvitp_encode_scheme(qvit_scheme scheme)
{
    return scheme == QVIT_SCHEME_TWIN_SOFTMAX ? QVITP_ENCODE_TWIN_SOFTMAX
           : scheme == QVIT_SCHEME_TWIN_GELU  ? QVITP_ENCODE_TWIN_GELU
                                              : QVITP_ENCODE_UNIFORM;
}

static inline void qvitp_encode_run(const qvit_engine *engine, const struct qvitp_coder *coder,
                                    size_t n, const float *x, uint8_t *codes)
{
    struct qvitp_encode run = {.n = n,
                               .x = x,
                               .codes = codes,
                               .scale = coder->scale,
                               .scale2 = coder->scale2,
                               .zero = coder->zero,
                               .lo = coder->lo,
                               .hi = coder->hi,
                               .scheme = qvitp_encode_scheme(coder->scheme)};
    engine->kernels.encode->run(&run);
}

#endif
