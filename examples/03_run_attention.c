/*
 * 03_run_attention - lesson: one call goes from the codes of Q, K and V to the context.
 *
 * Q, K and V are used where a joint layer wrote them. The result is compared with floats.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <qvit.h>

#define TRY(call)                                                                                  \
    if ((call) != QVIT_OK) return puts(e.text), 1

enum { TOKENS = 50, HEADS = 2, DIM = 32, WIDTH = HEADS * DIM };

/* A token's Q, K and V stand side by side. */
static float joint[TOKENS][3 * WIDTH], context[TOKENS][WIDTH];
static signed char codes[TOKENS][3 * WIDTH];
static qvit_error e;

static qvit_status make(const qvit_engine *engine, qvit_scheme scheme, float scale,
                        qvit_quantizer **out)
{
    const qvit_parameter parameter = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &scale};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    options.scheme = scheme;
    if (scheme == QVIT_SCHEME_SYMMETRIC) options.flags = QVIT_QUANTIZER_NARROW;
    options.parameters = &parameter;
    options.parameter_count = 1;
    return qvit_quantizer_create(engine, &options, out, &e);
}

/* Part 0, 1, 2 of the joint codes: Q, K or V, as [1, tokens, heads, dim]. */
static qvit_tensor part(size_t number)
{
    qvit_tensor view;
    qvit_tensor_init(&view, &codes[0][number * WIDTH], QVIT_DTYPE_S8, 4,
                     (size_t[]){1, TOKENS, HEADS, DIM});
    view.strides[1] = 3 * WIDTH; /* from one token to the next */
    return view;
}

/* The context of one query and head, in floats. */
static void attend(int query, int head, float *out)
{
    float p[TOKENS], sum = 0;
    for (int key = 0; key < TOKENS; key++) {
        float score = 0;
        for (int d = head * DIM; d < (head + 1) * DIM; d++)
            score += joint[query][d] * joint[key][WIDTH + d];
        sum += p[key] = expf(score / sqrtf(DIM));
    }
    for (int d = 0; d < DIM; d++) {
        out[d] = 0;
        for (int key = 0; key < TOKENS; key++)
            out[d] += p[key] / sum * joint[key][2 * WIDTH + head * DIM + d];
    }
}

int main(void)
{
    for (int i = 0; i < TOKENS; i++)
        for (int j = 0; j < 3 * WIDTH; j++) joint[i][j] = sinf((float)(i * i * 31 + j * j * 7));
    qvit_engine *engine;
    TRY(qvit_engine_create(NULL, &engine, &e));
    qvit_quantizer *qkv, *probability;
    /* Numbers from -1 to 1, and probabilities from 0 to 1/4: more does not come, with 50 keys. */
    TRY(make(engine, QVIT_SCHEME_SYMMETRIC, 1 / 127.0f, &qkv));
    TRY(make(engine, QVIT_SCHEME_ASYMMETRIC, 0.25f / 255, &probability));
    qvit_attention_options make_it = QVIT_ATTENTION_OPTIONS_INIT;
    make_it.query = make_it.key = make_it.value = (qvit_port){QVIT_DTYPE_S8, 0, qkv};
    make_it.probability = (qvit_port){QVIT_DTYPE_U8, 0, probability};
    make_it.output = (qvit_port){QVIT_DTYPE_F32, 0, NULL};
    make_it.heads = HEADS, make_it.head_dim = DIM, make_it.score_scale = 1 / sqrtf(DIM);
    qvit_plan *plan;
    TRY(qvit_attention_create(engine, &make_it, &plan, &e));

    qvit_tensor floats, q, k, v, quantized, output;
    qvit_tensor_init(&floats, joint, QVIT_DTYPE_F32, 2, (size_t[]){TOKENS, 3 * WIDTH});
    qvit_tensor_init(&quantized, codes, QVIT_DTYPE_S8, 2, floats.dims);
    qvit_tensor_init(&output, context, QVIT_DTYPE_F32, 4, (size_t[]){1, TOKENS, HEADS, DIM});
    TRY(qvit_quantizer_encode(qkv, &floats, &quantized, &e)); /* a qkv plan would write these */
    q = part(0), k = part(1), v = part(2);
    qvit_attention_args run = QVIT_ATTENTION_ARGS_INIT;
    run.query = &q, run.key = &k, run.value = &v, run.output = &output;
    run.workspace_size = qvit_attention_workspace_size(plan, TOKENS, TOKENS);
    run.workspace = aligned_alloc(QVIT_ALIGNMENT, run.workspace_size);
    TRY(qvit_attention_run(plan, &run, &e));

    float worst = 0, expected[DIM];
    for (int i = 0; i < TOKENS * HEADS; i++) {
        attend(i / HEADS, i % HEADS, expected);
        for (int d = 0; d < DIM; d++)
            worst = fmaxf(worst, fabsf(context[i / HEADS][i % HEADS * DIM + d] - expected[d]));
    }
    printf("%s: largest difference %.4f\n", worst < 0.03f ? "ok" : "wrong", (double)worst);
    free(run.workspace), qvit_plan_destroy(plan);
    qvit_quantizer_destroy(qkv), qvit_quantizer_destroy(probability), qvit_engine_destroy(engine);
    return worst >= 0.03f;
}
