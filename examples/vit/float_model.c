#include "float_model.h"

#include "fail.h"

static const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};

qvit_status float_linear_create(const qvit_engine *engine, const vit_linear *layer,
                                qvit_activation activation, bool residual, qvit_plan **out,
                                qvit_error *error)
{
    qvit_linear_options options = QVIT_LINEAR_OPTIONS_INIT;
    options.input = options.weight = options.output = f32;
    if (residual) options.residual = f32;
    options.weights = &layer->weight;
    options.bias = optional(&layer->bias);
    options.activation = activation;
    return qvit_linear_create(engine, &options, out, error);
}

static qvit_status norm_create(const qvit_engine *engine, const vit_norm *norm, qvit_plan **out,
                               qvit_error *error)
{
    qvit_layer_norm_options options = QVIT_LAYER_NORM_OPTIONS_INIT;
    options.gamma = &norm->gamma;
    options.beta = &norm->beta;
    options.eps = VIT_LAYER_NORM_EPS;
    options.output = f32;
    return qvit_layer_norm_create(engine, &options, out, error);
}

static qvit_status attention_create(const qvit_engine *engine, const vit_model *model,
                                    qvit_plan **out, qvit_error *error)
{
    qvit_attention_options options = QVIT_ATTENTION_OPTIONS_INIT;
    options.query = options.key = options.value = options.probability = options.output = f32;
    options.heads = model->heads;
    options.head_dim = model->head_dim;
    return qvit_attention_create(engine, &options, out, error);
}

static qvit_status block_create(const qvit_engine *engine, const vit_model *model, size_t number,
                                network_step *step, qvit_error *error)
{
    const qvit_activation none = QVIT_ACTIVATION_NONE, gelu = QVIT_ACTIVATION_GELU;
    const vit_block *block = &model->blocks[number];
    TRY(norm_create(engine, &block->norm1, &step[STEP_NORM1].plan, error));
    TRY(float_linear_create(engine, &block->qkv, none, false, &step[STEP_QKV].plan, error));
    TRY(attention_create(engine, model, &step[STEP_ATTENTION].plan, error));
    TRY(float_linear_create(engine, &block->proj, none, true, &step[STEP_PROJ].plan, error));
    TRY(norm_create(engine, &block->norm2, &step[STEP_NORM2].plan, error));
    TRY(float_linear_create(engine, &block->fc1, gelu, false, &step[STEP_FC1].plan, error));
    return float_linear_create(engine, &block->fc2, none, true, &step[STEP_FC2].plan, error);
}

static qvit_status steps_create(const qvit_engine *engine, network *net, qvit_error *error)
{
    const vit_model *model = net->model;
    const qvit_activation none = QVIT_ACTIVATION_NONE;
    net->patches = QVIT_DTYPE_F32;
    for (size_t i = 0; i < net->step_count; i++) net->steps[i].output = QVIT_DTYPE_F32;
    /* the patch embedding's residual is the positions */
    TRY(float_linear_create(engine, &model->patch_embed, none, true,
                            &network_patch_embed(net)->plan, error));
    for (size_t i = 0; i < model->depth; i++)
        TRY(block_create(engine, model, i, network_block(net, i), error));
    TRY(norm_create(engine, &model->norm, &network_norm(net)->plan, error));
    return float_linear_create(engine, &model->head, none, false, &network_head(net)->plan, error);
}

qvit_status float_model_create(const vit_model *model, const qvit_engine *engine, size_t batch,
                               bool observed, network *out, qvit_error *error)
{
    qvit_status status = network_begin(out, model, error);
    if (status == QVIT_OK) status = steps_create(engine, out, error);
    if (status == QVIT_OK) status = network_reserve(out, batch, observed, error);
    if (status != QVIT_OK) network_close(out);
    return status;
}
