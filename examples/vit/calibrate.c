#include "calibrate.h"

#include <stdio.h>
#include <stdlib.h>

#include "fail.h"
#include "float_model.h"

/* ---- sites ---- */

const char *site_name(const vit_model *model, size_t site, char name[SITE_NAME])
{
    static const char *const in_block[SITES_PER_BLOCK] = {
        [SITE_QKV] = "attn.qkv",   [SITE_QK] = "attn.qk",  [SITE_PV] = "attn.pv",
        [SITE_PROJ] = "attn.proj", [SITE_FC1] = "mlp.fc1", [SITE_FC2] = "mlp.fc2",
    };
    if (site == SITE_PATCH_EMBED)
        snprintf(name, SITE_NAME, "patch_embed.proj");
    else if (site == site_head(model))
        snprintf(name, SITE_NAME, "head");
    else
        snprintf(name, SITE_NAME, "blocks.%zu.%s", (site - 1) / SITES_PER_BLOCK,
                 in_block[(site - 1) % SITES_PER_BLOCK]);
    return name;
}

static qvit_status add_linear(calibration *c, size_t number, const vit_linear *layer,
                              qvit_input_kind input_kind, size_t parts, qvit_error *error)
{
    char name[SITE_NAME];
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.name = site_name(c->model, number, name);
    site.type = QVIT_SITE_LINEAR;
    site.input_kind = input_kind;
    site.weight = &layer->weight;
    site.bias = optional(&layer->bias);
    site.output_parts = parts;
    return qvit_calibrator_add_site(c->calibrator, &site, NULL, error);
}

static qvit_status add_matmul(calibration *c, size_t number, qvit_input_kind input_kind,
                              bool second_transposed, qvit_error *error)
{
    char name[SITE_NAME];
    qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
    site.name = site_name(c->model, number, name);
    site.type = QVIT_SITE_MATMUL;
    site.input_kind = input_kind;
    site.heads = c->model->heads;
    site.second_transposed = second_transposed;
    return qvit_calibrator_add_site(c->calibrator, &site, NULL, error);
}

static qvit_status tie_producer(calibration *c, size_t block, size_t producer, size_t consumer,
                                qvit_error *error)
{
    const size_t pair[] = {site_in_block(block, producer), site_in_block(block, consumer)};
    return qvit_calibrator_tie(c->calibrator, QVIT_TIE_PRODUCER, pair, 2, error);
}

/* In the order of the SITE_ constants. */
static qvit_status add_block(calibration *c, size_t b, qvit_error *error)
{
    const vit_block *block = &c->model->blocks[b];
    TRY(add_linear(c, site_in_block(b, SITE_QKV), &block->qkv, QVIT_INPUT_LAYER_NORM, PARTS,
                   error));
    TRY(add_matmul(c, site_in_block(b, SITE_QK), QVIT_INPUT_GENERIC, true, error));
    TRY(add_matmul(c, site_in_block(b, SITE_PV), QVIT_INPUT_SOFTMAX, false, error));
    TRY(add_linear(c, site_in_block(b, SITE_PROJ), &block->proj, QVIT_INPUT_GENERIC, 1, error));
    TRY(add_linear(c, site_in_block(b, SITE_FC1), &block->fc1, QVIT_INPUT_LAYER_NORM, 1, error));
    TRY(add_linear(c, site_in_block(b, SITE_FC2), &block->fc2, QVIT_INPUT_GELU, 1, error));
    TRY(tie_producer(c, b, SITE_PV, SITE_PROJ, error));
    return tie_producer(c, b, SITE_FC1, SITE_FC2, error);
}

static qvit_status add_sites(calibration *c, qvit_error *error)
{
    const vit_model *model = c->model;
    TRY(add_linear(c, SITE_PATCH_EMBED, &model->patch_embed, QVIT_INPUT_IMAGE, 1, error));
    for (size_t b = 0; b < model->depth; b++) TRY(add_block(c, b, error));
    return add_linear(c, site_head(model), &model->head, QVIT_INPUT_LAYER_NORM, 1, error);
}

qvit_status calibration_begin(calibration *c, const vit_model *model, const qvit_engine *engine,
                              const calibration_options *options, qvit_error *error)
{
    *c = (calibration){.model = model, .gradients = options->gradients};
    c->logits = calloc(options->batch * model->classes, sizeof(float));
    if (!c->logits) return fail_memory(error);
    TRY(float_model_create(model, engine, options->batch, true, &c->net, error));
    const backward_options back = {.draws = 1, .executor = options->executor};
    if (c->gradients) TRY(backward_create(&c->net, engine, &back, &c->backward, error));
    qvit_calibrator_options limits = QVIT_CALIBRATOR_OPTIONS_INIT;
    limits.max_rows = options->max_rows;
    limits.max_bytes = options->max_bytes;
    TRY(qvit_calibrator_create(engine, &limits, &c->calibrator, error));
    return add_sites(c, error);
}

void calibration_end(calibration *c)
{
    qvit_calibrator_destroy(c->calibrator);
    backward_close(&c->backward);
    network_close(&c->net);
    free(c->logits);
    *c = (calibration){0};
}

/* ---- observing ---- */

static qvit_status show(calibration *c, size_t site, const qvit_tensor *input,
                        const qvit_tensor *second, qvit_error *error)
{
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.site = site;
    seen.first_sample = c->first;
    seen.input = input;
    seen.second = second;
    return qvit_calibrator_observe(c->calibrator, &seen, error);
}

/* [n, heads, t, head_dim], as the sites of products want it, of the queries, keys or values. */
qvit_tensor calibration_heads(const qvit_tensor *qkv, size_t part, size_t heads)
{
    qvit_tensor view = network_heads(qkv, part, heads), turned = view;
    turned.dims[1] = view.dims[2], turned.strides[1] = view.strides[2];
    turned.dims[2] = view.dims[1], turned.strides[2] = view.strides[1];
    return turned;
}

/* The two products of attention see Q and K, and V; the probabilities come later. */
static qvit_status show_qkv(calibration *c, size_t block, const qvit_tensor *qkv, qvit_error *error)
{
    qvit_tensor query = calibration_heads(qkv, PART_Q, c->model->heads);
    qvit_tensor key = calibration_heads(qkv, PART_K, c->model->heads);
    qvit_tensor value = calibration_heads(qkv, PART_V, c->model->heads);
    TRY(show(c, site_in_block(block, SITE_QK), &query, &key, error));
    return show(c, site_in_block(block, SITE_PV), NULL, &value, error);
}

static qvit_status see(void *user, network_stage stage, size_t block, const qvit_tensor *tensor,
                       qvit_error *error)
{
    calibration *c = user;
    switch (stage) {
    case STAGE_PATCHES:
        return show(c, SITE_PATCH_EMBED, tensor, NULL, error);
    case STAGE_LN1:
        return show(c, site_in_block(block, SITE_QKV), tensor, NULL, error);
    case STAGE_QKV:
        return show_qkv(c, block, tensor, error);
    case STAGE_PROBABILITIES:
        return show(c, site_in_block(block, SITE_PV), tensor, NULL, error);
    case STAGE_CONTEXT:
        return show(c, site_in_block(block, SITE_PROJ), tensor, NULL, error);
    case STAGE_LN2:
        return show(c, site_in_block(block, SITE_FC1), tensor, NULL, error);
    case STAGE_HIDDEN:
        return show(c, site_in_block(block, SITE_FC2), tensor, NULL, error);
    case STAGE_FEATURES:
        return show(c, site_head(c->model), tensor, NULL, error);
    case STAGE_X:
    case STAGE_SCORES:
    case STAGE_Y:
        return QVIT_OK; /* no site reads these */
    }
    return QVIT_OK;
}

static size_t gradient_site(const vit_model *model, gradient_stage stage, size_t block)
{
    switch (stage) {
    case GRADIENT_HEAD:
        return site_head(model);
    case GRADIENT_FC2:
        return site_in_block(block, SITE_FC2);
    case GRADIENT_FC1:
        return site_in_block(block, SITE_FC1);
    case GRADIENT_PROJ:
        return site_in_block(block, SITE_PROJ);
    case GRADIENT_PV:
        return site_in_block(block, SITE_PV);
    case GRADIENT_QK:
        return site_in_block(block, SITE_QK);
    case GRADIENT_QKV:
        return site_in_block(block, SITE_QKV);
    case GRADIENT_PATCH_EMBED:
        break;
    }
    return SITE_PATCH_EMBED;
}

static qvit_status see_gradient(void *user, gradient_stage stage, size_t block,
                                const qvit_tensor *gradient, qvit_error *error)
{
    const calibration *c = user;
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.site = gradient_site(c->model, stage, block);
    seen.first_sample = c->first;
    seen.gradient = gradient;
    return qvit_calibrator_observe(c->calibrator, &seen, error);
}

qvit_status calibration_observe(calibration *c, const uint8_t *images, size_t first, size_t count,
                                qvit_error *error)
{
    const network_observer inputs = {c, see};
    const gradient_observer gradients = {c, see_gradient};
    c->first = first;
    if (!c->gradients) return network_forward(&c->net, images, count, c->logits, &inputs, error);
    return backward_run(&c->backward, images, first, count, &inputs, &gradients, error);
}

/* ---- solving ---- */

static qvit_status fetch_results(const calibration *c, calibration_results *out, qvit_error *error)
{
    out->site = calloc(site_count(c->model), sizeof *out->site);
    if (!out->site) return fail_memory(error);
    out->count = site_count(c->model);
    for (size_t i = 0; i < out->count; i++)
        TRY(qvit_calibrator_result(c->calibrator, i, &out->site[i], error));
    return QVIT_OK;
}

qvit_status calibration_fetch(const calibration *c, calibration_results *out, qvit_error *error)
{
    *out = (calibration_results){0};
    qvit_status status = fetch_results(c, out, error);
    if (status != QVIT_OK) calibration_results_close(out);
    return status;
}

static int32_t weight_bits_of(const calibration_recipe *recipe, size_t site)
{
    return recipe->weight_bits_of ? recipe->weight_bits_of[site] : recipe->weight_bits;
}

static int32_t twin_of(const calibration_recipe *recipe, size_t site)
{
    return recipe->twin_of ? recipe->twin_of[site] : TWIN_BY_RECIPE;
}

/* Solves sites that agree in what may differ from site to site. */
static qvit_status solve_alike(calibration *c, const calibration_recipe *recipe,
                               const size_t *sites, size_t count, bool behind, qvit_error *error)
{
    static const char *const twins[] = {
        [TWIN_NEVER] = "twin=none", [TWIN_ALWAYS] = "twin=softmax,gelu"};
    const int32_t twin = twin_of(recipe, sites[0]);
    const char **settings = calloc(recipe->setting_count + 1, sizeof *settings);
    if (!settings) return fail_memory(error);
    for (size_t i = 0; i < recipe->setting_count; i++) settings[i] = recipe->settings[i];
    settings[recipe->setting_count] = twin ? twins[twin] : NULL;

    qvit_solve_options options = QVIT_SOLVE_OPTIONS_INIT;
    options.sites = sites;
    options.site_count = count;
    options.recipe = recipe->recipe;
    options.weight_bits = weight_bits_of(recipe, sites[0]);
    options.input_bits = recipe->input_bits;
    options.settings = settings;
    options.setting_count = recipe->setting_count + (twin != TWIN_BY_RECIPE);
    options.use_quantized = behind;
    options.progress = recipe->progress;
    qvit_status status = qvit_calibrator_solve(c->calibrator, &options, error);
    free(settings);
    return status;
}

/* Moves the sites that agree with the first one to the front, in their order; how many they are. */
static size_t gather_alike(const calibration_recipe *recipe, size_t *sites, size_t count)
{
    size_t alike = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t site = sites[i];
        if (weight_bits_of(recipe, site) != weight_bits_of(recipe, sites[0]) ||
            twin_of(recipe, site) != twin_of(recipe, sites[0]))
            continue;
        sites[i] = sites[alike];
        sites[alike++] = site;
    }
    return alike;
}

qvit_status calibration_solve_sites(calibration *c, const calibration_recipe *recipe,
                                    const size_t *sites, size_t count, bool behind,
                                    qvit_error *error)
{
    size_t *left = calloc(count + 1, sizeof *left);
    if (!left) return fail_memory(error);
    for (size_t i = 0; i < count; i++) left[i] = sites[i];
    qvit_status status = QVIT_OK;
    for (size_t done = 0, alike; status == QVIT_OK && done < count; done += alike) {
        alike = gather_alike(recipe, left + done, count - done);
        status = solve_alike(c, recipe, left + done, alike, behind, error);
    }
    free(left);
    return status;
}

qvit_status calibration_solve(calibration *c, const calibration_recipe *recipe,
                              calibration_results *out, qvit_error *error)
{
    *out = (calibration_results){0};
    TRY(calibration_forget_quantized(c, error)); /* what another recipe was shown */
    const size_t count = site_count(c->model);
    size_t *sites = calloc(count, sizeof *sites);
    if (!sites) return fail_memory(error);
    for (size_t i = 0; i < count; i++) sites[i] = i;
    qvit_status status = calibration_solve_sites(c, recipe, sites, count, false, error);
    free(sites);
    return status == QVIT_OK ? calibration_fetch(c, out, error) : status;
}

qvit_status calibration_forget_quantized(calibration *c, qvit_error *error)
{
    for (size_t i = 0; i < site_count(c->model); i++)
        TRY(qvit_calibrator_forget(c->calibrator, i, error));
    return QVIT_OK;
}

size_t calibration_results_weight_bytes(const calibration_results *results)
{
    size_t bytes = 0;
    for (size_t i = 0; i < results->count; i++) bytes += qvit_result_weight_bytes(results->site[i]);
    return bytes;
}

void calibration_results_close(calibration_results *results)
{
    for (size_t i = 0; i < results->count; i++) qvit_result_destroy(results->site[i]);
    free(results->site);
    *results = (calibration_results){0};
}
