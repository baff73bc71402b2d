/* quantizer.c - a scheme with its parameter arrays: making, asking, encoding, decoding. */
#include "quant/quantizer.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/options.h"
#include "engine.h"
#include "tensor.h"

QVITP_DEFINE_INIT(qvit_quantizer_options, QVIT_QUANTIZER_OPTIONS_INIT)

/* ---- making ---- */

static qvit_status check_options(const qvit_quantizer_options *o, qvit_error *error)
{
    if (!qvitp_scheme_find(o->scheme))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown scheme %d", (int)o->scheme);
    if (o->bits < 2 || o->bits > 8)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%d bits: 2 to 8 are possible", (int)o->bits);
    if (o->flags & ~(QVIT_QUANTIZER_NARROW | QVIT_QUANTIZER_RELATIVE))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown flags %#x", (unsigned)o->flags);
    if (o->flags & QVIT_QUANTIZER_NARROW && o->scheme != QVIT_SCHEME_SYMMETRIC)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "only symmetric codes can be narrow");
    if (o->parameter_count && !o->parameters)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "parameters is NULL");
    return QVIT_OK;
}

/* Copies one array of scales, each positive, finite and normal. */
static qvit_status take_scales(const qvit_engine *engine, const qvit_parameter *p, float **out,
                               qvit_error *error)
{
    const float *values = p->data;
    for (size_t i = 0; i < p->count; i++)
        if (!(values[i] >= FLT_MIN && values[i] <= FLT_MAX))
            return qvitp_fail(error, QVIT_ERR_VALUE,
                              "scale %zu is %g: scales are positive, finite and normal", i,
                              (double)values[i]);
    int ok = 1;
    *out = qvitp_engine_copy(engine, values, p->count, sizeof *values, &ok);
    return ok ? QVIT_OK : qvitp_no_memory(error);
}

static qvit_status take_zero_points(qvit_quantizer *q, const qvit_parameter *p, qvit_error *error)
{
    const int32_t *values = p->data;
    for (size_t i = 0; i < p->count; i++)
        if ((float)values[i] < q->lo || (float)values[i] > q->hi)
            return qvitp_fail(error, QVIT_ERR_VALUE, "zero point %zu is %d, outside %d..%d", i,
                              (int)values[i], (int)q->lo, (int)q->hi);
    int ok = 1;
    q->zero_point = qvitp_engine_copy(q->engine, values, p->count, sizeof *values, &ok);
    return ok ? QVIT_OK : qvitp_no_memory(error);
}

static qvit_status take_parameter(qvit_quantizer *q, const qvit_parameter *p, uint32_t *seen,
                                  qvit_error *error)
{
    const struct qvitp_scheme *scheme = qvitp_scheme_find(q->scheme);
    uint32_t bit = p->key > 0 && p->key < 32 ? 1u << p->key : 0;
    if (!(bit & scheme->keys))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the %s scheme has no parameter %d",
                          scheme->name, (int)p->key);
    if (bit & *seen)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "parameter %d comes twice", (int)p->key);
    *seen |= bit;
    qvit_dtype dtype = p->key == QVIT_PARAMETER_ZERO_POINT ? QVIT_DTYPE_S32 : QVIT_DTYPE_F32;
    if (!p->data || p->dtype != dtype)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "parameter %d: expected %s data", (int)p->key,
                          qvitp_dtype_name(dtype));
    if (p->count != q->blocks)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "parameter %d has %zu values for %zu blocks",
                          (int)p->key, p->count, q->blocks);
    if (p->key == QVIT_PARAMETER_SCALE) return take_scales(q->engine, p, &q->scale, error);
    if (p->key == QVIT_PARAMETER_SCALE2) return take_scales(q->engine, p, &q->scale2, error);
    return take_zero_points(q, p, error);
}

static qvit_status take_granularity(qvit_quantizer *q, const qvit_granularity *granularity,
                                    qvit_error *error)
{
    if (!granularity) {
        qvit_granularity_options layer = QVIT_GRANULARITY_OPTIONS_INIT;
        q->blocks = 1;
        return qvit_granularity_create(q->engine, &layer, &q->granularity, error);
    }
    q->granularity = qvitp_granularity_clone(q->engine, granularity);
    q->blocks = qvit_granularity_blocks(granularity);
    return q->granularity ? QVIT_OK : qvitp_no_memory(error);
}

static qvit_status build(qvit_quantizer *q, const qvit_quantizer_options *o, qvit_error *error)
{
    q->scheme = o->scheme;
    q->bits = o->bits;
    q->flags = o->flags;
    qvitp_scheme_range(q->scheme, q->bits, q->flags, &q->lo, &q->hi);
    QVITP_TRY(take_granularity(q, o->granularity, error));
    uint32_t seen = 0;
    for (size_t i = 0; i < o->parameter_count; i++)
        QVITP_TRY(take_parameter(q, &o->parameters[i], &seen, error));
    const struct qvitp_scheme *scheme = qvitp_scheme_find(q->scheme);
    if ((seen & scheme->required) == scheme->required) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the %s scheme lacks a parameter", scheme->name);
}

qvit_status qvit_quantizer_create(const qvit_engine *engine, const qvit_quantizer_options *options,
                                  qvit_quantizer **out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    QVITP_TRY(check_options(&o, error));
    qvit_quantizer *q = qvitp_engine_alloc(engine, 1, sizeof *q);
    if (!q) return qvitp_no_memory(error);
    q->engine = engine;
    qvit_status status = build(q, &o, error);
    if (status != QVIT_OK) {
        qvit_quantizer_destroy(q);
        return status;
    }
    *out = q;
    return qvitp_ok(error);
}

qvit_status qvitp_quantizer_layer(const qvit_engine *engine, qvit_scheme scheme, int32_t bits,
                                  uint32_t flags, float scale, float scale2, int32_t zero_point,
                                  qvit_quantizer **out, qvit_error *error)
{
    qvit_parameter parameters[3] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &scale}};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = scheme;
    o.bits = bits;
    o.flags = flags;
    o.parameters = parameters;
    o.parameter_count = 1;
    if (qvitp_scheme_has(scheme, QVIT_PARAMETER_ZERO_POINT))
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &zero_point};
    if (qvitp_scheme_has(scheme, QVIT_PARAMETER_SCALE2))
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, 1, &scale2};
    return qvit_quantizer_create(engine, &o, out, error);
}

void qvit_quantizer_destroy(qvit_quantizer *q)
{
    if (!q) return;
    qvit_granularity_destroy(q->granularity);
    qvitp_engine_free(q->engine, q->scale);
    qvitp_engine_free(q->engine, q->scale2);
    qvitp_engine_free(q->engine, q->zero_point);
    qvitp_engine_free(q->engine, q);
}

int32_t qvitp_quantizer_reach(const qvit_quantizer *q)
{
    int32_t lo = (int32_t)q->lo, hi = (int32_t)q->hi;
    if (!q->zero_point) return -lo > hi ? -lo : hi;
    int32_t reach = 0;
    for (size_t i = 0; i < q->blocks; i++) {
        int32_t below = q->zero_point[i] - lo, above = hi - q->zero_point[i];
        if (below > reach) reach = below;
        if (above > reach) reach = above;
    }
    return reach;
}

qvit_quantizer *qvitp_quantizer_clone(const qvit_quantizer *q)
{
    qvit_quantizer *copy = qvitp_engine_alloc(q->engine, 1, sizeof *copy);
    if (!copy) return NULL;
    int ok = 1;
    *copy = *q;
    copy->granularity = qvitp_granularity_clone(q->engine, q->granularity);
    copy->scale = qvitp_engine_copy(q->engine, q->scale, q->blocks, sizeof *q->scale, &ok);
    copy->scale2 = qvitp_engine_copy(q->engine, q->scale2, q->blocks, sizeof *q->scale2, &ok);
    copy->zero_point =
        qvitp_engine_copy(q->engine, q->zero_point, q->blocks, sizeof *q->zero_point, &ok);
    if (ok && copy->granularity) return copy;
    qvit_quantizer_destroy(copy);
    return NULL;
}

/* ---- asking ---- */

qvit_scheme qvit_quantizer_scheme(const qvit_quantizer *q) { return q ? q->scheme : 0; }
int32_t qvit_quantizer_bits(const qvit_quantizer *q) { return q ? q->bits : 0; }
uint32_t qvit_quantizer_flags(const qvit_quantizer *q) { return q ? q->flags : 0; }

qvit_dtype qvit_quantizer_code_dtype(const qvit_quantizer *q)
{
    return q ? qvitp_scheme_find(q->scheme)->code_dtype : QVIT_DTYPE_NONE;
}

const qvit_granularity *qvit_quantizer_granularity(const qvit_quantizer *q)
{
    return q ? q->granularity : NULL;
}

qvit_status qvit_quantizer_parameter(const qvit_quantizer *q, qvit_parameter_key key,
                                     qvit_parameter *out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    memset(out, 0, sizeof *out);
    if (!q) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "quantizer is NULL");
    const void *data = key == QVIT_PARAMETER_SCALE        ? (const void *)q->scale
                       : key == QVIT_PARAMETER_SCALE2     ? (const void *)q->scale2
                       : key == QVIT_PARAMETER_ZERO_POINT ? (const void *)q->zero_point
                                                          : NULL;
    if (!data)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "this quantizer has no parameter %d", (int)key);
    out->key = key;
    out->dtype = key == QVIT_PARAMETER_ZERO_POINT ? QVIT_DTYPE_S32 : QVIT_DTYPE_F32;
    out->count = q->blocks;
    out->data = data;
    return qvitp_ok(error);
}

size_t qvit_quantizer_describe(const qvit_quantizer *q, char *text, size_t size)
{
    if (!text) size = 0;
    if (!q) return (size_t)snprintf(text, size, "%s", "");
    const struct qvitp_scheme *scheme = qvitp_scheme_find(q->scheme);
    struct qvitp_coder first = qvitp_quantizer_coder(q, 0);
    char scale2[40] = "", zero[40] = "";
    if (q->scale2) snprintf(scale2, sizeof scale2, ", scale2 %g", (double)first.scale2);
    if (q->zero_point) snprintf(zero, sizeof zero, ", zero point %d", (int)first.zero);
    return (size_t)snprintf(text, size, "%s %s, %d bits, %zu x %zu blocks, %sscale %g%s%s",
                            scheme->name, qvitp_dtype_name(scheme->code_dtype), (int)q->bits,
                            q->granularity->row_blocks, q->granularity->col_blocks,
                            q->blocks > 1 ? "first " : "", (double)first.scale, scale2, zero);
}

/* ---- encoding and decoding ---- */

struct qvitp_coder qvitp_quantizer_coder(const qvit_quantizer *q, size_t block)
{
    struct qvitp_coder coder = {
        .scheme = q->scheme,
        .scale = q->scale[block],
        .scale2 = q->scale2 ? q->scale2[block] : 0,
        .zero = q->zero_point ? (float)q->zero_point[block] : 0,
        .lo = q->lo,
        .hi = q->hi,
    };
    return coder;
}

int qvitp_quantizer_holds(const qvit_quantizer *q, qvit_dtype dtype)
{
    qvit_dtype whole = qvit_quantizer_code_dtype(q);
    return dtype == whole ||
           (qvitp_dtype_packed(dtype) && (size_t)q->bits <= qvitp_dtype_bits(dtype) &&
            qvitp_dtype_signed(dtype) == qvitp_dtype_signed(whole));
}

/* Checks one side of an encoding. `codes`: whether it holds codes or floats. */
static qvit_status check_side(const qvit_quantizer *q, const qvit_tensor *t, const char *name,
                              int codes, uint32_t flags, qvit_error *error)
{
    QVITP_TRY(qvitp_tensor_check(t, name, codes ? QVIT_DTYPE_NONE : QVIT_DTYPE_F32,
                                 flags | QVITP_ANY_LAST_STRIDE, error));
    if (!codes || qvitp_quantizer_holds(q, t->dtype)) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: %s cannot hold these %d-bit %s codes", name,
                      qvitp_dtype_name(t->dtype), (int)q->bits,
                      qvitp_dtype_name(qvit_quantizer_code_dtype(q)));
}

static qvit_status check_pair(const qvit_quantizer *q, const qvit_tensor *in,
                              const qvit_tensor *out, int in_codes, int out_codes,
                              qvit_error *error)
{
    if (!q) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "quantizer is NULL");
    QVITP_TRY(check_side(q, in, "input", in_codes, 0, error));
    QVITP_TRY(check_side(q, out, "output", out_codes, QVITP_OUTPUT, error));
    if (in->rank != out->rank ||
        memcmp(in->dims, out->dims, (size_t)in->rank * sizeof in->dims[0]) != 0)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "input and output differ in size");
    if (!qvitp_granularity_fits(q->granularity, qvitp_tensor_rows(in), qvitp_tensor_cols(in)))
        return qvitp_fail(error, QVIT_ERR_SHAPE, "a %zu x %zu matrix does not fit the granularity",
                          qvitp_tensor_rows(in), qvitp_tensor_cols(in));
    return QVIT_OK;
}

/* From codes or floats to codes or floats, element by element. */
static qvit_status convert(const qvit_quantizer *q, const qvit_tensor *in, const qvit_tensor *out,
                           int in_codes, int out_codes, qvit_error *error)
{
    QVITP_TRY(check_pair(q, in, out, in_codes, out_codes, error));
    struct qvitp_coder coder = qvitp_quantizer_coder(q, 0);
    size_t present = 0; /* the block of the coder */
    for (size_t row = 0; row < qvitp_tensor_rows(in); row++) {
        ptrdiff_t from = qvitp_tensor_row(in, row), to = qvitp_tensor_row(out, row);
        size_t first = qvitp_row_block(q->granularity, row) * q->granularity->col_blocks;
        for (size_t col = 0; col < qvitp_tensor_cols(in); col++) {
            size_t block = first + qvitp_col_block(q->granularity, col);
            if (block != present) coder = qvitp_quantizer_coder(q, present = block);
            int32_t code = in_codes ? qvitp_get_int(in, from, col)
                                    : qvitp_coder_encode(&coder, qvitp_get_float(in, from, col));
            if (out_codes) {
                qvitp_set_int(out, to, col, code);
            } else {
                qvitp_set_float(out, to, col, qvitp_coder_decode(&coder, code));
            }
        }
    }
    return qvitp_ok(error);
}

qvit_status qvit_quantizer_encode(const qvit_quantizer *q, const qvit_tensor *in,
                                  const qvit_tensor *codes, qvit_error *error)
{
    return convert(q, in, codes, 0, 1, error);
}

qvit_status qvit_quantizer_decode(const qvit_quantizer *q, const qvit_tensor *codes,
                                  const qvit_tensor *out, qvit_error *error)
{
    return convert(q, codes, out, 1, 0, error);
}

qvit_status qvit_quantizer_fake(const qvit_quantizer *q, const qvit_tensor *in,
                                const qvit_tensor *out, qvit_error *error)
{
    return convert(q, in, out, 0, 0, error);
}
