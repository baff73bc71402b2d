/*
 * 02_calibrate_linear - lesson: from a float layer to int8 and back. The program that opens qvit.h,
 * word for word: the tests compare the two.
 */
/* clang-format off */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <qvit.h>

#define TRY(call) if ((call) != QVIT_OK) { puts(e.text); return 1; }

int main(void)
{
    static float w[64 * 32], x[100 * 32], y[100 * 64];
    for (int i = 0; i < 64 * 32; i++) w[i] = sinf((float)(i * i));
    for (int i = 0; i < 100 * 32; i++) x[i] = cosf((float)(i * 7));
    qvit_tensor weight, input, output, codes, bias;
    qvit_tensor_init(&weight, w, QVIT_DTYPE_F32, 2, (size_t[]){64, 32});
    qvit_tensor_init(&input, x, QVIT_DTYPE_F32, 2, (size_t[]){100, 32});
    qvit_tensor_init(&output, y, QVIT_DTYPE_F32, 2, (size_t[]){100, 64});

    qvit_error e;
    qvit_engine *engine;
    TRY(qvit_engine_create(NULL, &engine, &e));
    qvit_calibrator *calibrator;                               // 1. watch and choose
    TRY(qvit_calibrator_create(engine, NULL, &calibrator, &e));
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.name = "fc", site.weight = &weight;
    TRY(qvit_calibrator_add_site(calibrator, &site, NULL, &e));
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.input = &input;
    TRY(qvit_calibrator_observe(calibrator, &seen, &e));
    TRY(qvit_calibrator_solve(calibrator, NULL, &e));
    qvit_result *result;
    TRY(qvit_calibrator_result(calibrator, 0, &result, &e));

    qvit_linear_options make = QVIT_LINEAR_OPTIONS_INIT;      // 2. plan
    make.input.dtype = QVIT_DTYPE_U8;
    make.input.quantizer = qvit_result_quantizer(result, QVIT_RESULT_INPUT);
    make.weight.dtype = QVIT_DTYPE_S8;
    make.weight.quantizer = qvit_result_quantizer(result, QVIT_RESULT_SECOND);
    make.output.dtype = QVIT_DTYPE_F32;
    TRY(qvit_result_tensor(result, QVIT_RESULT_WEIGHT_CODES, &codes, &e));
    TRY(qvit_result_tensor(result, QVIT_RESULT_BIAS, &bias, &e));
    make.weights = &codes, make.bias = bias.data ? &bias : NULL;
    qvit_plan *plan;
    TRY(qvit_linear_create(engine, &make, &plan, &e));

    static unsigned char q[100 * 32];                          // 3. run
    qvit_tensor quantized;
    qvit_tensor_init(&quantized, q, QVIT_DTYPE_U8, 2, (size_t[]){100, 32});
    TRY(qvit_quantizer_encode(make.input.quantizer, &input, &quantized, &e));
    qvit_linear_args run = QVIT_LINEAR_ARGS_INIT;
    run.input = &quantized, run.output = &output;
    run.workspace_size = qvit_linear_workspace_size(plan, 100);
    run.workspace = aligned_alloc(QVIT_ALIGNMENT, run.workspace_size);
    TRY(qvit_linear_run(plan, &run, &e));
    printf("y[0] = %f\n", y[0]);

    char text[256];
    puts((qvit_plan_describe(plan, text, sizeof text), text));
    free(run.workspace), qvit_plan_destroy(plan), qvit_result_destroy(result);
    qvit_calibrator_destroy(calibrator), qvit_engine_destroy(engine);
    return 0;
}
