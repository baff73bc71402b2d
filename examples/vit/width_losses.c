#include "width_losses.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "float_model.h"
#include "progress.h"

/* What is measured, the same in both turns. */
struct task {
    const width_judges *judges;
    const vit_model *model;
    calibration_recipe recipe;
    const size_t *sites;
    size_t count;
    const int32_t *widths;
    size_t width_count;
    qvit_alternative *out;
    size_t done, trials; /* for the progress line */
    double energy;       /* of all logits of those that judged */
    qvit_error *error;
};

/* One turn: some images fit, some judge. */
struct turn {
    struct task *task;
    calibration calibration; /* was shown those that fit */
    network net;             /* the float model, but for the layer on trial */
    const uint8_t *images;   /* `count` that judge */
    size_t count;
    float *streams;       /* [depth + 1][count][tokens][width]: into each block, and the head */
    float *logits;        /* [count][classes] of the float model */
    float *changed;       /* [batch][classes] of a trial */
    float *weight, *bias; /* of the layer on trial, as its codes mean them */
    qvit_error *error;
};

/* ---- layers ---- */

/* A layer of the float model, and its place there. */
struct layer {
    const vit_linear *weights;
    network_step *step;
    qvit_activation activation;
    bool residual;
};

static struct layer layer_in_block(const network *net, size_t number, size_t place)
{
    const qvit_activation none = QVIT_ACTIVATION_NONE, gelu = QVIT_ACTIVATION_GELU;
    const vit_block *block = &net->model->blocks[number];
    network_step *steps = network_block(net, number);
    switch (place) {
    case SITE_QKV:
        return (struct layer){&block->qkv, &steps[STEP_QKV], none, false};
    case SITE_PROJ:
        return (struct layer){&block->proj, &steps[STEP_PROJ], none, true};
    case SITE_FC1:
        return (struct layer){&block->fc1, &steps[STEP_FC1], gelu, false};
    default:
        return (struct layer){&block->fc2, &steps[STEP_FC2], none, true};
    }
}

static struct layer layer_of(const network *net, size_t site)
{
    const vit_model *model = net->model;
    const qvit_activation none = QVIT_ACTIVATION_NONE;
    if (site == SITE_PATCH_EMBED)
        return (struct layer){&model->patch_embed, network_patch_embed(net), none, true};
    if (site == site_head(model))
        return (struct layer){&model->head, network_head(net), none, false};
    return layer_in_block(net, (site - 1) / SITES_PER_BLOCK, (site - 1) % SITES_PER_BLOCK);
}

static qvit_status make_layer(struct turn *t, const struct layer *layer, const vit_linear *weights)
{
    qvit_plan_destroy(layer->step->plan);
    layer->step->plan = NULL;
    TRY(float_linear_create(t->task->judges->engine, weights, layer->activation, layer->residual,
                            &layer->step->plan, t->error));
    return network_reserve_workspace(&t->net, t->error);
}

/* The weights and the bias for inputs as they are, which a result's codes are for (x - shift) / scale. */
static qvit_status decode(struct turn *t, const qvit_result *result, vit_linear *out)
{
    const qvit_quantizer *quantizer = qvit_result_quantizer(result, QVIT_RESULT_SECOND);
    qvit_tensor codes, bias, scale, shift;
    TRY(qvit_result_tensor(result, QVIT_RESULT_WEIGHT_CODES, &codes, t->error));
    TRY(qvit_result_tensor(result, QVIT_RESULT_BIAS, &bias, t->error));
    TRY(qvit_result_tensor(result, QVIT_RESULT_INPUT_SCALE, &scale, t->error));
    TRY(qvit_result_tensor(result, QVIT_RESULT_INPUT_SHIFT, &shift, t->error));
    const size_t rows = codes.dims[0], cols = codes.dims[1];
    qvit_tensor_init(&out->weight, t->weight, QVIT_DTYPE_F32, 2, codes.dims);
    qvit_tensor_init(&out->bias, t->bias, QVIT_DTYPE_F32, 1, &rows);
    TRY(qvit_quantizer_decode(quantizer, &codes, &out->weight, t->error));
    for (size_t row = 0; row < rows; row++) {
        float *weight = t->weight + row * cols;
        double shifted = 0;
        for (size_t c = 0; c < cols; c++) {
            if (scale.data) weight[c] /= ((const float *)scale.data)[c];
            if (shift.data) shifted += (double)weight[c] * (double)((const float *)shift.data)[c];
        }
        t->bias[row] = (float)((bias.data ? (double)((const float *)bias.data)[row] : 0) - shifted);
    }
    return QVIT_OK;
}

/* ---- passes ---- */

static float *stream_of(const struct turn *t, size_t block, size_t image)
{
    const vit_model *model = t->task->model;
    return t->streams + (block * t->count + image) * model->tokens * model->width;
}

static size_t stream_bytes(const network_pass *pass)
{
    const vit_model *model = pass->net->model;
    return pass->images * model->tokens * model->width * sizeof(float);
}

static network_pass pass_of(const struct turn *t, size_t image)
{
    const size_t left = t->count - image, batch = t->net.batch;
    return (network_pass){&t->net, left < batch ? left : batch, NULL, t->error};
}

static qvit_status embed(const struct turn *t, const network_pass *pass, size_t image)
{
    const vit_model *model = t->task->model;
    return network_embed(pass, t->images + image * model->image * model->image * VIT_CHANNELS);
}

/* The float model itself; its streams are kept. */
static qvit_status run_floats(struct turn *t)
{
    const size_t classes = t->task->model->classes, depth = t->task->model->depth;
    for (size_t image = 0; image < t->count; image += t->net.batch) {
        const network_pass pass = pass_of(t, image);
        TRY(embed(t, &pass, image));
        for (size_t block = 0; block < depth; block++) {
            memcpy(stream_of(t, block, image), t->net.stream, stream_bytes(&pass));
            TRY(network_run_block(&pass, block));
        }
        memcpy(stream_of(t, depth, image), t->net.stream, stream_bytes(&pass));
        TRY(network_classify(&pass, t->logits + image * classes));
    }
    for (size_t i = 0; i < t->count * classes; i++)
        t->task->energy += (double)t->logits[i] * (double)t->logits[i];
    return QVIT_OK;
}

/* From the block on that a site is in. */
static qvit_status run_from(struct turn *t, const network_pass *pass, size_t site, size_t image)
{
    const size_t depth = t->task->model->depth;
    size_t block = site == site_head(t->task->model) ? depth : (site - 1) / SITES_PER_BLOCK;
    if (site == SITE_PATCH_EMBED) {
        block = 0;
        TRY(embed(t, pass, image));
    } else {
        memcpy(t->net.stream, stream_of(t, block, image), stream_bytes(pass));
    }
    for (; block < depth; block++) TRY(network_run_block(pass, block));
    return network_classify(pass, t->changed);
}

/* Adds up what the layer on trial does to the logits. */
static qvit_status compare(struct turn *t, size_t site, double *sum)
{
    const size_t classes = t->task->model->classes;
    for (size_t image = 0; image < t->count; image += t->net.batch) {
        const network_pass pass = pass_of(t, image);
        const float *logits = t->logits + image * classes;
        TRY(run_from(t, &pass, site, image));
        for (size_t i = 0; i < pass.images * classes; i++) {
            const double difference = (double)t->changed[i] - (double)logits[i];
            *sum += difference * difference;
        }
    }
    return QVIT_OK;
}

static qvit_status try_site(struct turn *t, size_t site, qvit_alternative *out)
{
    const struct layer layer = layer_of(&t->net, site);
    qvit_result *result;
    vit_linear rounded;
    TRY(qvit_calibrator_result(t->calibration.calibrator, site, &result, t->error));
    out->cost = qvit_result_weight_bytes(result);
    qvit_status status = decode(t, result, &rounded);
    qvit_result_destroy(result);
    if (status == QVIT_OK) status = make_layer(t, &layer, &rounded);
    if (status == QVIT_OK) status = compare(t, site, &out->loss);
    return status == QVIT_OK ? make_layer(t, &layer, layer.weights) : status;
}

static qvit_status try_width(struct turn *t, size_t k)
{
    struct task *task = t->task;
    calibration_recipe recipe = task->recipe;
    recipe.weight_bits = task->widths[k];
    TRY(calibration_solve_sites(&t->calibration, &recipe, task->sites, task->count, false,
                                t->error));
    for (size_t i = 0; i < task->count; i++) {
        TRY(try_site(t, task->sites[i], &task->out[i * task->width_count + k]));
        progress("judge widths", ++task->done, task->trials);
    }
    return QVIT_OK;
}

/* ---- turns ---- */

static qvit_status show(struct turn *t, const uint8_t *images, size_t first, size_t count)
{
    const vit_model *model = t->task->model;
    const calibration_options *options = &t->task->judges->options;
    const size_t pixels = model->image * model->image * VIT_CHANNELS;
    TRY(calibration_begin(&t->calibration, model, t->task->judges->engine, options, t->error));
    for (size_t done = 0; done < count; done += options->batch) {
        const size_t left = count - done, some = left < options->batch ? left : options->batch;
        TRY(calibration_observe(&t->calibration, images + done * pixels, first + done, some,
                                t->error));
    }
    return QVIT_OK;
}

/* The largest layer's weights, and its outputs. */
static void most_of(const struct task *task, const network *net, size_t *weights, size_t *outputs)
{
    *weights = *outputs = 0;
    for (size_t i = 0; i < task->count; i++) {
        const size_t *dims = layer_of(net, task->sites[i]).weights->weight.dims;
        if (dims[0] * dims[1] > *weights) *weights = dims[0] * dims[1];
        if (dims[0] > *outputs) *outputs = dims[0];
    }
}

static qvit_status begin(struct turn *t)
{
    const vit_model *model = t->task->model;
    const width_judges *judges = t->task->judges;
    const size_t stream = model->tokens * model->width;
    size_t weights, outputs;
    TRY(float_model_create(model, judges->engine, judges->options.batch, false, &t->net, t->error));
    most_of(t->task, &t->net, &weights, &outputs);
    t->streams = calloc((model->depth + 1) * t->count * stream, sizeof *t->streams);
    t->logits = calloc(t->count * model->classes, sizeof *t->logits);
    t->changed = calloc(t->net.batch * model->classes, sizeof *t->changed);
    t->weight = calloc(weights, sizeof *t->weight);
    t->bias = calloc(outputs, sizeof *t->bias);
    if (!t->streams || !t->logits || !t->changed || !t->weight || !t->bias)
        return fail_memory(t->error);
    return run_floats(t);
}

static void turn_close(struct turn *t)
{
    free(t->bias);
    free(t->weight);
    free(t->changed);
    free(t->logits);
    free(t->streams);
    network_close(&t->net);
    calibration_end(&t->calibration);
}

/* `fitting` images from number `fit` on, as the judges count, fit, and `judging` from `judge` on judge. */
static qvit_status take_turn(struct task *task, size_t fit, size_t fitting, size_t judge,
                             size_t judging)
{
    const vit_model *model = task->model;
    const uint8_t *images = task->judges->images;
    const size_t pixels = model->image * model->image * VIT_CHANNELS;
    struct turn t = {.task = task,
                     .images = images + judge * pixels,
                     .count = judging < WIDTH_JUDGES ? judging : WIDTH_JUDGES,
                     .error = task->error};
    qvit_status status = show(&t, images + fit * pixels, task->judges->first + fit, fitting);
    if (status == QVIT_OK) status = begin(&t);
    for (size_t k = 0; status == QVIT_OK && k < task->width_count; k++) status = try_width(&t, k);
    turn_close(&t);
    return status;
}

qvit_status width_losses_measure(const width_judges *judges, const vit_model *model,
                                 const calibration_recipe *recipe, const size_t *sites,
                                 size_t count, const int32_t *widths, size_t width_count,
                                 qvit_alternative *out, qvit_error *error)
{
    struct task task = {.judges = judges,
                        .model = model,
                        .recipe = *recipe,
                        .sites = sites,
                        .count = count,
                        .widths = widths,
                        .width_count = width_count,
                        .out = out,
                        .error = error};
    const size_t all = judges->count, half = all / 2;
    task.trials = (half ? 2 : 1) * count * width_count;
    for (size_t i = 0; i < count * width_count; i++) out[i] = (qvit_alternative){0};
    if (!half) {
        TRY(take_turn(&task, 0, all, 0, all));
    } else {
        TRY(take_turn(&task, 0, half, half, all - half));
        TRY(take_turn(&task, half, all - half, 0, half));
    }
    for (size_t i = 0; task.energy > 0 && i < count * width_count; i++) out[i].loss /= task.energy;
    return QVIT_OK;
}
