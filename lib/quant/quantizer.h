/* quantizer.h - a scheme with its parameter arrays. */
#ifndef QVITP_QUANTIZER_H
#define QVITP_QUANTIZER_H

#include "qvit.h"
#include "quant/granularity.h"
#include "quant/scheme.h"

struct qvit_quantizer {
    const qvit_engine *engine;
    qvit_scheme scheme;
    int32_t bits;
    uint32_t flags;
    qvit_granularity *granularity; /* never NULL */
    size_t blocks;                 /* values in each array */
    float *scale, *scale2;         /* scale2 NULL unless a twin */
    int32_t *zero_point;           /* NULL: 0 */
    float lo, hi;                  /* the lowest and the highest code */
};

/* The coder of one block. */
struct qvitp_coder qvitp_quantizer_coder(const qvit_quantizer *q, size_t block);

/* How far the codes of a uniform quantizer lie, at most, from those that stand for 0. */
int32_t qvitp_quantizer_reach(const qvit_quantizer *q);

qvit_quantizer *qvitp_quantizer_clone(const qvit_quantizer *q);

/* Makes a layer quantizer from plain numbers; the checks are those of qvit_quantizer_create. */
qvit_status qvitp_quantizer_layer(const qvit_engine *engine, qvit_scheme scheme, int32_t bits,
                                  uint32_t flags, float scale, float scale2, int32_t zero_point,
                                  qvit_quantizer **out, qvit_error *error);

/* Whether tensors of a type can hold the codes: the code type, or a packed one that is wide enough. */
int qvitp_quantizer_holds(const qvit_quantizer *q, qvit_dtype dtype);

static inline int qvitp_quantizer_is_twin(const qvit_quantizer *q)
{
    return qvitp_scheme_is_twin(q->scheme);
}
static inline int qvitp_quantizer_is_layer(const qvit_quantizer *q) { return q->blocks == 1; }

#endif
