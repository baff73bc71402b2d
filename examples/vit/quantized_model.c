#include "quantized_model.h"

#include <stdlib.h>

#include "fail.h"

struct builder {
    const vit_model *model;
    const qvit_engine *engine;
    const calibration_results *results;
    qvit_error *error;
};

static const qvit_port f32 = {QVIT_DTYPE_F32, 0, NULL};

static qvit_port codes_of(const qvit_quantizer *quantizer)
{
    return (qvit_port){qvit_quantizer_code_dtype(quantizer), 0, quantizer};
}

/* What the producer of a site's input has to write. */
static qvit_port input_of(const qvit_result *result)
{
    return codes_of(qvit_result_quantizer(result, QVIT_RESULT_INPUT));
}

static const qvit_result *block_result(const struct builder *b, size_t block, size_t site)
{
    return b->results->site[site_in_block(block, site)];
}

/* ---- the one output quantizer of the qkv layer ---- */

/* The scales of a quantizer, one for each column, whether columns, heads or all of them share one. */
static qvit_status copy_scales(const struct builder *b, const qvit_quantizer *quantizer,
                               float *scales)
{
    qvit_parameter parameter;
    TRY(qvit_quantizer_parameter(quantizer, QVIT_PARAMETER_SCALE, &parameter, b->error));
    const float *found = parameter.data;
    const size_t shared = b->model->width / parameter.count;
    for (size_t i = 0; i < b->model->width; i++) scales[i] = found[i / shared];
    return QVIT_OK;
}

static qvit_status create_joined(const struct builder *b, const qvit_quantizer *like,
                                 const float *scales, qvit_quantizer **out)
{
    qvit_granularity_options columns = QVIT_GRANULARITY_OPTIONS_INIT;
    columns.cols = PARTS * b->model->width;
    columns.col_blocks = columns.cols;
    qvit_granularity *granularity;
    TRY(qvit_granularity_create(b->engine, &columns, &granularity, b->error));

    const qvit_parameter scale = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, columns.col_blocks, scales};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    options.scheme = QVIT_SCHEME_SYMMETRIC;
    options.bits = qvit_quantizer_bits(like);
    options.flags = qvit_quantizer_flags(like);
    options.granularity = granularity;
    options.parameters = &scale;
    options.parameter_count = 1;
    const qvit_status status = qvit_quantizer_create(b->engine, &options, out, b->error);
    qvit_granularity_destroy(granularity);
    return status;
}

/*
 * Queries, keys and values leave the qkv layer as one tensor, each column with the scale that its head,
 * or of values itself, has from its own site. That takes codes of one kind for all three, which is what
 * solving gives.
 */
static qvit_status join_qkv(const struct builder *b, size_t block, qvit_quantizer **out)
{
    const qvit_result *qk = block_result(b, block, SITE_QK), *pv = block_result(b, block, SITE_PV);
    const qvit_quantizer *parts[PARTS] = {
        [PART_Q] = qvit_result_quantizer(qk, QVIT_RESULT_INPUT),
        [PART_K] = qvit_result_quantizer(qk, QVIT_RESULT_SECOND),
        [PART_V] = qvit_result_quantizer(pv, QVIT_RESULT_SECOND),
    };
    float *scales = calloc(PARTS * b->model->width, sizeof *scales);
    qvit_status status = scales ? QVIT_OK : fail_memory(b->error);
    for (size_t part = 0; status == QVIT_OK && part < PARTS; part++) {
        if (qvit_quantizer_scheme(parts[part]) != QVIT_SCHEME_SYMMETRIC ||
            qvit_quantizer_bits(parts[part]) != qvit_quantizer_bits(parts[PART_V]))
            status = fail(b->error, QVIT_ERR_UNSUPPORTED,
                          "block %zu: Q, K and V need symmetric codes of equal width", block);
        else
            status = copy_scales(b, parts[part], scales + part * b->model->width);
    }
    if (status == QVIT_OK) status = create_joined(b, parts[PART_V], scales, out);
    free(scales);
    return status;
}

/* ---- orders ---- */

/* The order of columns under a key; absent, as an option wants it. */
static qvit_status read_order(const struct builder *b, const qvit_result *result,
                              qvit_result_key key, qvit_tensor *out)
{
    return qvit_result_tensor(result, key, out, b->error);
}

/* The order of the qkv layer's outputs: values stand as the context's channels are wanted, so that
 * attention has nothing to move. data NULL, and *memory too, where they are not moved. */
static qvit_status join_order(const struct builder *b, size_t block, int32_t **memory,
                              qvit_tensor *out)
{
    const size_t width = b->model->width, all = PARTS * width;
    qvit_tensor context;
    *memory = NULL;
    *out = (qvit_tensor){0};
    TRY(read_order(b, block_result(b, block, SITE_PV), QVIT_RESULT_OUTPUT_ORDER, &context));
    if (!context.data) return QVIT_OK;
    int32_t *order = *memory = calloc(all, sizeof *order);
    if (!order) return fail_memory(b->error);
    for (size_t i = 0; i < all; i++) order[i] = (int32_t)i;
    for (size_t i = 0; i < width; i++)
        order[PART_V * width + i] = (int32_t)(PART_V * width) + ((const int32_t *)context.data)[i];
    qvit_tensor_init(out, order, QVIT_DTYPE_S32, 1, &all);
    return QVIT_OK;
}

/* ---- plans ---- */

/* The scale and shift for each channel that `result` asks of a producer; data NULL if absent. */
static qvit_status read_pair(const struct builder *b, const qvit_result *result,
                             qvit_result_key scale_key, qvit_result_key shift_key,
                             qvit_tensor *scale, qvit_tensor *shift)
{
    TRY(qvit_result_tensor(result, scale_key, scale, b->error));
    return qvit_result_tensor(result, shift_key, shift, b->error);
}

static qvit_status create_norm(const struct builder *b, const vit_norm *norm,
                               const qvit_result *consumer, network_step *out)
{
    qvit_tensor scale, shift, order;
    TRY(read_order(b, consumer, QVIT_RESULT_INPUT_ORDER, &order));
    TRY(read_pair(b, consumer, QVIT_RESULT_INPUT_SCALE, QVIT_RESULT_INPUT_SHIFT, &scale, &shift));
    qvit_layer_norm_options options = QVIT_LAYER_NORM_OPTIONS_INIT;
    options.gamma = &norm->gamma;
    options.beta = &norm->beta;
    options.eps = VIT_LAYER_NORM_EPS;
    options.output = input_of(consumer);
    options.output_scale = optional(&scale);
    options.output_shift = optional(&shift);
    options.output_order = optional(&order);
    out->output = options.output.dtype;
    return qvit_layer_norm_create(b->engine, &options, &out->plan, b->error);
}

/* A layer with the codes and the bias that its site found; residual: it adds to the stream. An output
 * of floats is as it is, without what a consumer of its codes would ask for. order: of the outputs, data
 * NULL for that of the result. */
static qvit_status create_linear(const struct builder *b, const qvit_result *result,
                                 qvit_activation activation, bool residual, qvit_port output,
                                 const qvit_tensor *order, network_step *out)
{
    qvit_tensor codes, bias, input_order, output_order = {0}, scale = {0}, shift = {0};
    TRY(read_order(b, result, QVIT_RESULT_INPUT_ORDER, &input_order));
    if (output.quantizer) TRY(read_order(b, result, QVIT_RESULT_OUTPUT_ORDER, &output_order));
    if (order && order->data) output_order = *order;
    TRY(qvit_result_tensor(result, QVIT_RESULT_WEIGHT_CODES, &codes, b->error));
    TRY(qvit_result_tensor(result, QVIT_RESULT_BIAS, &bias, b->error));
    if (output.quantizer)
        TRY(read_pair(b, result, QVIT_RESULT_OUTPUT_SCALE, QVIT_RESULT_OUTPUT_SHIFT, &scale,
                      &shift));
    qvit_linear_options options = QVIT_LINEAR_OPTIONS_INIT;
    options.input = input_of(result);
    options.weight.dtype = codes.dtype;
    options.weight.quantizer = qvit_result_quantizer(result, QVIT_RESULT_SECOND);
    options.weights = &codes;
    options.bias = optional(&bias);
    options.activation = activation;
    if (residual) options.residual = f32;
    options.output = output;
    options.output_scale = optional(&scale);
    options.output_shift = optional(&shift);
    options.input_order = optional(&input_order);
    options.output_order = optional(&output_order);
    out->output = output.dtype;
    return qvit_linear_create(b->engine, &options, &out->plan, b->error);
}

static qvit_status create_qkv(const struct builder *b, size_t block, bool ordered,
                              network_step *out)
{
    qvit_quantizer *joined;
    qvit_tensor order = {0};
    int32_t *memory = NULL;
    TRY(join_qkv(b, block, &joined));
    qvit_status status = ordered ? join_order(b, block, &memory, &order) : QVIT_OK;
    if (status == QVIT_OK)
        status = create_linear(b, block_result(b, block, SITE_QKV), QVIT_ACTIVATION_NONE, false,
                               codes_of(joined), &order, out);
    free(memory);
    qvit_quantizer_destroy(joined);
    return status;
}

static qvit_status create_attention(const struct builder *b, size_t block, qvit_port output,
                                    network_step *out)
{
    const qvit_result *qk = block_result(b, block, SITE_QK), *pv = block_result(b, block, SITE_PV);
    qvit_tensor scale = {0}, shift = {0}, order = {0};
    if (output.quantizer) {
        TRY(read_order(b, pv, QVIT_RESULT_OUTPUT_ORDER, &order));
        TRY(read_pair(b, pv, QVIT_RESULT_OUTPUT_SCALE, QVIT_RESULT_OUTPUT_SHIFT, &scale, &shift));
    }
    qvit_attention_options options = QVIT_ATTENTION_OPTIONS_INIT;
    options.query = codes_of(qvit_result_quantizer(qk, QVIT_RESULT_INPUT));
    options.key = codes_of(qvit_result_quantizer(qk, QVIT_RESULT_SECOND));
    options.probability = codes_of(qvit_result_quantizer(pv, QVIT_RESULT_INPUT));
    options.value = codes_of(qvit_result_quantizer(pv, QVIT_RESULT_SECOND));
    options.output = output;
    options.heads = b->model->heads;
    options.head_dim = b->model->head_dim;
    options.output_scale = optional(&scale);
    options.output_shift = optional(&shift);
    options.output_order = optional(&order);
    out->output = options.output.dtype;
    return qvit_attention_create(b->engine, &options, &out->plan, b->error);
}

static qvit_status create_step(const struct builder *b, size_t block, size_t step,
                               quantized_form form, network_step *out)
{
    const bool floats = form == QUANTIZED_FLOATS;
    const qvit_activation none = QVIT_ACTIVATION_NONE, gelu = QVIT_ACTIVATION_GELU;
    const vit_block *weights = &b->model->blocks[block];
    const qvit_result *qkv = block_result(b, block, SITE_QKV);
    const qvit_result *proj = block_result(b, block, SITE_PROJ);
    const qvit_result *fc1 = block_result(b, block, SITE_FC1);
    const qvit_result *fc2 = block_result(b, block, SITE_FC2);
    switch (step) {
    case STEP_NORM1:
        return create_norm(b, &weights->norm1, qkv, out);
    case STEP_QKV:
        return floats ? create_linear(b, qkv, none, false, f32, NULL, out)
                      : create_qkv(b, block, form == QUANTIZED_FINAL, out);
    case STEP_ATTENTION:
        return create_attention(b, block, floats ? f32 : input_of(proj), out);
    case STEP_PROJ:
        return create_linear(b, proj, none, true, f32, NULL, out);
    case STEP_NORM2:
        return create_norm(b, &weights->norm2, fc1, out);
    case STEP_FC1:
        return create_linear(b, fc1, gelu, false, floats ? f32 : input_of(fc2), NULL, out);
    default:
        return create_linear(b, fc2, none, true, f32, NULL, out);
    }
}

static qvit_status create_embedding(const struct builder *b, network *net)
{
    const qvit_result *patch_embed = b->results->site[SITE_PATCH_EMBED];
    net->patches = input_of(patch_embed).dtype;
    /* the patch embedding's residual is the positions */
    return create_linear(b, patch_embed, QVIT_ACTIVATION_NONE, true, f32, NULL,
                         network_patch_embed(net));
}

static qvit_status create_steps(const struct builder *b, network *net)
{
    const vit_model *model = b->model;
    const qvit_result *head = b->results->site[site_head(model)];
    TRY(create_embedding(b, net));
    for (size_t i = 0; i < model->depth; i++)
        for (size_t step = 0; step < STEPS_PER_BLOCK; step++)
            TRY(create_step(b, i, step, QUANTIZED_FINAL, &network_block(net, i)[step]));
    TRY(create_norm(b, &model->norm, head, network_norm(net)));
    return create_linear(b, head, QVIT_ACTIVATION_NONE, false, f32, NULL, network_head(net));
}

qvit_status quantized_model_create(const vit_model *model, const qvit_engine *engine,
                                   const calibration_results *results, size_t batch, network *out,
                                   qvit_error *error)
{
    const struct builder builder = {model, engine, results, error};
    qvit_status status = network_begin(out, model, error);
    if (status == QVIT_OK) status = create_steps(&builder, out);
    if (status == QVIT_OK) status = network_reserve(out, batch, false, error);
    if (status != QVIT_OK) network_close(out);
    return status;
}

qvit_status quantized_model_embedding(network *net, const qvit_engine *engine,
                                      const calibration_results *results, qvit_error *error)
{
    const struct builder builder = {net->model, engine, results, error};
    qvit_plan_destroy(network_patch_embed(net)->plan);
    network_patch_embed(net)->plan = NULL;
    TRY(create_embedding(&builder, net));
    return network_reserve_workspace(net, error);
}

qvit_status quantized_model_step(network *net, const qvit_engine *engine,
                                 const calibration_results *results, size_t block, size_t step,
                                 quantized_form form, qvit_error *error)
{
    const struct builder builder = {net->model, engine, results, error};
    network_step *out = &network_block(net, block)[step];
    qvit_plan_destroy(out->plan);
    out->plan = NULL;
    TRY(create_step(&builder, block, step, form, out));
    return network_reserve_workspace(net, error);
}
