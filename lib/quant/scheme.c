/* scheme.c - the schemes as data, and one value to its code and back. */
#include "quant/scheme.h"

#include "base/numerics.h"
#include "ref/ref.h"

#define KEY(name) (1u << QVIT_PARAMETER_##name)

static const struct qvitp_scheme schemes[] = {
    [QVIT_SCHEME_SYMMETRIC] = {"symmetric", QVIT_DTYPE_S8, KEY(SCALE), KEY(SCALE)},
    [QVIT_SCHEME_ASYMMETRIC] = {"asymmetric", QVIT_DTYPE_U8, KEY(SCALE) | KEY(ZERO_POINT),
                                KEY(SCALE)},
    [QVIT_SCHEME_TWIN_SOFTMAX] = {"twin softmax", QVIT_DTYPE_U8, KEY(SCALE) | KEY(SCALE2),
                                  KEY(SCALE) | KEY(SCALE2)},
    [QVIT_SCHEME_TWIN_GELU] = {"twin gelu", QVIT_DTYPE_S8,
                               KEY(SCALE) | KEY(SCALE2) | KEY(ZERO_POINT),
                               KEY(SCALE) | KEY(SCALE2)},
};

const struct qvitp_scheme *qvitp_scheme_find(qvit_scheme scheme)
{
    if (scheme < 1 || (size_t)scheme >= sizeof schemes / sizeof schemes[0]) return NULL;
    return &schemes[scheme];
}

void qvitp_scheme_range(qvit_scheme scheme, int32_t bits, uint32_t flags, float *lo, float *hi)
{
    float half = (float)(1 << (bits - 1));
    int is_signed = schemes[scheme].code_dtype == QVIT_DTYPE_S8;
    *lo = is_signed ? -half + (flags & QVIT_QUANTIZER_NARROW ? 1 : 0) : 0;
    *hi = is_signed ? half - 1 : 2 * half - 1;
}

int32_t qvitp_coder_encode(const struct qvitp_coder *c, float x)
{
    if (c->scheme == QVIT_SCHEME_TWIN_GELU)
        return qvitp_ref_encode_twin_gelu(x, c->scale, c->scale2, c->zero, c->lo, c->hi);
    if (c->scheme == QVIT_SCHEME_TWIN_SOFTMAX)
        return qvitp_ref_encode_twin_softmax(x, c->scale, c->scale2, c->hi);
    return qvitp_ref_encode_uniform(x, c->scale, c->zero, c->lo, c->hi);
}

float qvitp_coder_decode(const struct qvitp_coder *c, int32_t code)
{
    if (c->scheme == QVIT_SCHEME_TWIN_GELU)
        return qvitp_ref_decode_twin_gelu(code, c->scale, c->scale2, c->zero);
    if (c->scheme == QVIT_SCHEME_TWIN_SOFTMAX)
        return qvitp_ref_decode_twin_softmax(code, c->scale, c->scale2, c->hi);
    return qvitp_ref_decode_uniform(code, c->scale, c->zero);
}
