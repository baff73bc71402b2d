/* result.c - what solving found for one site: asking, copying, destroying. */
#include "calib/result.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine.h"
#include "quant/quantizer.h"

void qvit_result_destroy(qvit_result *r)
{
    if (!r) return;
    qvit_quantizer_destroy(r->input);
    qvit_quantizer_destroy(r->second);
    void *arrays[] = {r->codes,        r->bias,         r->input_scale, r->input_shift,
                      r->output_scale, r->output_shift, r->input_order, r->output_order};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        qvitp_engine_free(r->engine, arrays[i]);
    qvitp_engine_free(r->engine, r);
}

static size_t code_bytes(const qvit_result *r)
{
    return r->codes ? qvit_tensor_bytes(r->code_dtype, 2, (size_t[]){r->outputs, r->inputs}) : 0;
}

qvit_result *qvitp_result_clone(const qvit_result *r)
{
    qvit_result *copy = qvitp_engine_alloc(r->engine, 1, sizeof *copy);
    if (!copy) return NULL;
    int ok = 1;
    const size_t one = sizeof(float), channels = r->output_channels;
    *copy = *r;
    copy->input = qvitp_quantizer_clone(r->input);
    copy->second = qvitp_quantizer_clone(r->second);
    copy->codes = qvitp_engine_copy(r->engine, r->codes, code_bytes(r), 1, &ok);
    copy->bias = qvitp_engine_copy(r->engine, r->bias, r->outputs, one, &ok);
    copy->input_scale = qvitp_engine_copy(r->engine, r->input_scale, r->inputs, one, &ok);
    copy->input_shift = qvitp_engine_copy(r->engine, r->input_shift, r->inputs, one, &ok);
    copy->output_scale = qvitp_engine_copy(r->engine, r->output_scale, channels, one, &ok);
    copy->output_shift = qvitp_engine_copy(r->engine, r->output_shift, channels, one, &ok);
    copy->input_order =
        qvitp_engine_copy(r->engine, r->input_order, r->inputs, sizeof(int32_t), &ok);
    copy->output_order =
        qvitp_engine_copy(r->engine, r->output_order, channels, sizeof(int32_t), &ok);
    if (ok && copy->input && copy->second) return copy;
    qvit_result_destroy(copy);
    return NULL;
}

const qvit_quantizer *qvit_result_quantizer(const qvit_result *r, qvit_result_key key)
{
    if (!r) return NULL;
    return key == QVIT_RESULT_INPUT ? r->input : key == QVIT_RESULT_SECOND ? r->second : NULL;
}

qvit_status qvit_result_tensor(const qvit_result *r, qvit_result_key key, qvit_tensor *out,
                               qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    memset(out, 0, sizeof *out);
    if (!r) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "result is NULL");
    const size_t codes[2] = {r->outputs, r->inputs};
    switch (key) {
    case QVIT_RESULT_WEIGHT_CODES:
        qvit_tensor_init(out, r->codes, r->code_dtype, 2, codes);
        break;
    case QVIT_RESULT_BIAS:
        qvit_tensor_init(out, r->bias, QVIT_DTYPE_F32, 1, &codes[0]);
        break;
    case QVIT_RESULT_INPUT_SCALE:
        qvit_tensor_init(out, r->input_scale, QVIT_DTYPE_F32, 1, &codes[1]);
        break;
    case QVIT_RESULT_OUTPUT_SCALE:
        qvit_tensor_init(out, r->output_scale, QVIT_DTYPE_F32, 1, &r->output_channels);
        break;
    case QVIT_RESULT_INPUT_SHIFT:
        qvit_tensor_init(out, r->input_shift, QVIT_DTYPE_F32, 1, &codes[1]);
        break;
    case QVIT_RESULT_OUTPUT_SHIFT:
        qvit_tensor_init(out, r->output_shift, QVIT_DTYPE_F32, 1, &r->output_channels);
        break;
    case QVIT_RESULT_INPUT_ORDER:
        qvit_tensor_init(out, r->input_order, QVIT_DTYPE_S32, 1, &codes[1]);
        break;
    case QVIT_RESULT_OUTPUT_ORDER:
        qvit_tensor_init(out, r->output_order, QVIT_DTYPE_S32, 1, &r->output_channels);
        break;
    default:
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%d is no key of a tensor", (int)key);
    }
    return qvitp_ok(error);
}

double qvit_result_score(const qvit_result *r, qvit_score_key key)
{
    if (!r) return NAN;
    switch (key) {
    case QVIT_SCORE_SQNR_DB:
        return qvitp_score_sqnr_db(&r->score);
    case QVIT_SCORE_COSINE:
        return qvitp_score_cosine(&r->score);
    case QVIT_SCORE_LOSS:
        return qvitp_score_loss(&r->score);
    case QVIT_SCORE_SATURATED_INPUT:
        return qvitp_score_saturation(&r->score, 0);
    case QVIT_SCORE_SATURATED_SECOND:
        return qvitp_score_saturation(&r->score, 1);
    default:
        return NAN;
    }
}

size_t qvit_result_weight_bytes(const qvit_result *r)
{
    if (!r || !r->codes) return 0;
    return code_bytes(r) + r->second->blocks * (sizeof(float) + (r->second->zero_point != NULL));
}
