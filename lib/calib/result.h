/* result.h - what solving found for one site. */
#ifndef QVITP_RESULT_H
#define QVITP_RESULT_H

#include "calib/recipe.h"
#include "calib/score.h"
#include "qvit.h"

struct qvit_result {
    const qvit_engine *engine;
    qvit_quantizer *input, *second;
    size_t inputs, outputs; /* of a linear site; 0 else */
    qvit_dtype code_dtype;
    void *codes; /* [outputs][inputs] of code_dtype */
    float *bias, *input_scale, *input_shift, *output_scale, *output_shift;
    int32_t *input_order, *output_order;
    size_t output_channels; /* values in the vectors of the output */
    struct qvitp_score score;
    /* What it was solved with, for reports. */
    struct qvitp_recipe recipe;
    int32_t use_quantized;
};

qvit_result *qvitp_result_clone(const qvit_result *result);

#endif
