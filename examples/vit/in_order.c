#include "in_order.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "quantized_model.h"

/*
 * Every site is solved between two passes over all images through one more step of the model. Of each
 * image two streams are kept, that of the float model and that behind the quantized part; a pass takes
 * them up, runs the steps in question, and for the last of them puts them back.
 */
struct in_order {
    calibration *c;
    const qvit_engine *engine;
    const calibration_recipe *recipe;
    const uint8_t *images;
    size_t first, count;
    network quantized; /* made step by step */
    calibration_results *results;
    float *behind, *floats; /* [count][tokens][width], the streams */
    qvit_error *error;
};

/* A part of the images: what a pass is run on. */
struct part {
    struct in_order *o;
    size_t block, first, images;
    float *behind, *floats; /* its streams */
    network_pass quantized, plain;
};

typedef qvit_status part_fn(struct part *part);

static qvit_status each_part(struct in_order *o, size_t block, part_fn *run)
{
    const vit_model *model = o->c->model;
    const size_t batch = o->c->net.batch, stream = model->tokens * model->width;
    for (size_t first = 0; first < o->count; first += batch) {
        const size_t images = o->count - first < batch ? o->count - first : batch;
        struct part part = {.o = o,
                            .block = block,
                            .first = first,
                            .images = images,
                            .behind = o->behind + first * stream,
                            .floats = o->floats + first * stream,
                            .quantized = {&o->quantized, images, NULL, o->error},
                            .plain = {&o->c->net, images, NULL, o->error}};
        TRY(run(&part));
    }
    return QVIT_OK;
}

/* ---- showing and solving ---- */

static qvit_status show(const struct part *p, size_t site, const qvit_tensor *input,
                        const qvit_tensor *second, const qvit_tensor *target)
{
    qvit_observation seen = QVIT_OBSERVATION_INIT;
    seen.site = site;
    seen.first_sample = p->o->first + p->first;
    seen.input_quantized = input;
    seen.second_quantized = second;
    seen.target = target;
    return qvit_calibrator_observe(p->o->c->calibrator, &seen, p->o->error);
}

/* The last result of a site, which also tells what its consumer, once that is solved, asks of it. */
static qvit_status fetch(struct in_order *o, size_t site)
{
    qvit_result **result = &o->results->site[site];
    qvit_result_destroy(*result);
    *result = NULL;
    return qvit_calibrator_result(o->c->calibrator, site, result, o->error);
}

static qvit_status solve(struct in_order *o, const size_t *sites, size_t count)
{
    TRY(calibration_solve_sites(o->c, o->recipe, sites, count, true, o->error));
    for (size_t i = 0; i < count; i++) TRY(fetch(o, sites[i]));
    return QVIT_OK;
}

static qvit_status make(struct in_order *o, size_t block, size_t step, quantized_form form)
{
    return quantized_model_step(&o->quantized, o->engine, o->results, block, step, form, o->error);
}

/* ---- the streams ---- */

static qvit_tensor stream_of(const struct part *p, float *data)
{
    return network_tokens(&p->plain, data, QVIT_DTYPE_F32, p->o->c->model->width);
}

static size_t stream_size(const struct part *p)
{
    return p->images * p->o->c->model->tokens * p->o->c->model->width;
}

/* Runs half a block of a network on a stream. */
static qvit_status advance(const struct part *p, const network_pass *pass, float *stream,
                           qvit_status (*half)(const network_pass *, size_t))
{
    const size_t bytes = stream_size(p) * sizeof *stream;
    memcpy(pass->net->stream, stream, bytes);
    TRY(half(pass, p->block));
    memcpy(stream, pass->net->stream, bytes);
    return QVIT_OK;
}

/* Takes the float stream half a block on. What a layer has to add to the quantized stream to make it
 * equal is left in the float network's stream. */
static qvit_status aim(const struct part *p, qvit_status (*half)(const network_pass *, size_t),
                       qvit_tensor *target)
{
    float *missing = p->plain.net->stream;
    TRY(advance(p, &p->plain, p->floats, half));
    for (size_t i = 0; i < stream_size(p); i++) missing[i] -= p->behind[i];
    *target = stream_of(p, missing);
    return QVIT_OK;
}

/* The layer norm of the quantized stream, as floats and as codes. */
static qvit_status normed(const struct part *p, const network_pass *pass, size_t step,
                          qvit_tensor *out)
{
    const network_step *norm = &network_block(pass->net, p->block)[step];
    const qvit_tensor x = stream_of(p, p->behind);
    *out = network_tokens(pass, pass->net->normed, norm->output, p->o->c->model->width);
    return network_run_norm(pass, norm, &x, out);
}

/* A linear step of the quantized network behind its layer norm. */
static qvit_status run_behind_norm(const struct part *p, size_t norm, size_t step, void *memory,
                                   size_t cols, qvit_tensor *out)
{
    const network_step *linear = &network_block(&p->o->quantized, p->block)[step];
    qvit_tensor codes;
    TRY(normed(p, &p->quantized, norm, &codes));
    *out = network_tokens(&p->quantized, memory, linear->output, cols);
    return network_run_linear(&p->quantized, linear, &codes, NULL, out);
}

/* ---- passes that show ---- */

static qvit_status show_qkv(struct part *p)
{
    qvit_tensor input;
    TRY(normed(p, &p->plain, STEP_NORM1, &input));
    return show(p, site_in_block(p->block, SITE_QKV), &input, NULL, NULL);
}

/* Q, K and V as the quantized layer makes them; their probabilities by the float attention. */
static qvit_status show_products(struct part *p)
{
    const network *plain = p->plain.net;
    const vit_model *model = p->o->c->model;
    const size_t width = model->width;
    const size_t square[] = {p->images, model->heads, model->tokens, model->tokens};
    qvit_tensor qkv, probabilities;
    TRY(run_behind_norm(p, STEP_NORM1, STEP_QKV, plain->qkv, PARTS * width, &qkv));
    qvit_tensor query = calibration_heads(&qkv, PART_Q, model->heads);
    qvit_tensor key = calibration_heads(&qkv, PART_K, model->heads);
    qvit_tensor value = calibration_heads(&qkv, PART_V, model->heads);
    qvit_tensor context = network_tokens(&p->plain, plain->context, QVIT_DTYPE_F32, width);
    TRY(network_run_attention(&p->plain, p->block, &qkv, &context));
    qvit_tensor_init(&probabilities, plain->probabilities, QVIT_DTYPE_F32, 4, square);
    TRY(show(p, site_in_block(p->block, SITE_QK), &query, &key, NULL));
    return show(p, site_in_block(p->block, SITE_PV), &probabilities, &value, NULL);
}

static qvit_status show_proj(struct part *p)
{
    const network *net = &p->o->quantized;
    const size_t width = p->o->c->model->width;
    qvit_tensor qkv, target;
    TRY(aim(p, network_attend, &target));
    TRY(run_behind_norm(p, STEP_NORM1, STEP_QKV, net->qkv, PARTS * width, &qkv));
    qvit_tensor context = network_tokens(&p->plain, net->context, QVIT_DTYPE_F32, width);
    TRY(network_run_attention(&p->quantized, p->block, &qkv, &context));
    return show(p, site_in_block(p->block, SITE_PROJ), &context, NULL, &target);
}

static qvit_status show_fc1(struct part *p)
{
    qvit_tensor input;
    TRY(advance(p, &p->quantized, p->behind, network_attend));
    TRY(normed(p, &p->plain, STEP_NORM2, &input));
    return show(p, site_in_block(p->block, SITE_FC1), &input, NULL, NULL);
}

static qvit_status show_fc2(struct part *p)
{
    qvit_tensor hidden, target;
    TRY(aim(p, network_transform, &target));
    TRY(run_behind_norm(p, STEP_NORM2, STEP_FC1, p->o->quantized.hidden, p->o->c->model->hidden,
                        &hidden));
    return show(p, site_in_block(p->block, SITE_FC2), &hidden, NULL, &target);
}

static qvit_status finish_block(struct part *p)
{
    return advance(p, &p->quantized, p->behind, network_transform);
}

/* ---- the order ---- */

static qvit_status embed(struct part *p)
{
    const vit_model *model = p->o->c->model;
    const size_t image = model->image * model->image * VIT_CHANNELS;
    const uint8_t *pixels = p->o->images + p->first * image;
    const size_t bytes = stream_size(p) * sizeof *p->floats;
    TRY(network_embed(&p->plain, pixels));
    memcpy(p->floats, p->plain.net->stream, bytes);
    TRY(network_embed(&p->quantized, pixels));
    memcpy(p->behind, p->quantized.net->stream, bytes);
    return QVIT_OK;
}

static qvit_status solve_attention(struct in_order *o, size_t block)
{
    const size_t qkv[] = {site_in_block(block, SITE_QKV)};
    const size_t products[] = {site_in_block(block, SITE_QK), site_in_block(block, SITE_PV)};
    const size_t proj[] = {site_in_block(block, SITE_PROJ)};
    TRY(each_part(o, block, show_qkv));
    TRY(solve(o, qkv, 1));
    TRY(make(o, block, STEP_NORM1, QUANTIZED_FINAL));
    TRY(make(o, block, STEP_QKV, QUANTIZED_FLOATS));
    TRY(each_part(o, block, show_products));
    TRY(solve(o, products, 2));
    TRY(make(o, block, STEP_QKV, QUANTIZED_UNORDERED));
    TRY(make(o, block, STEP_ATTENTION, QUANTIZED_FLOATS));
    TRY(each_part(o, block, show_proj));
    TRY(solve(o, proj, 1));
    TRY(fetch(o, products[1]));
    TRY(make(o, block, STEP_QKV,
             QUANTIZED_FINAL)); /* its values stand in the order that proj asks for */
    TRY(make(o, block, STEP_ATTENTION, QUANTIZED_FINAL));
    return make(o, block, STEP_PROJ, QUANTIZED_FINAL);
}

static qvit_status solve_mlp(struct in_order *o, size_t block)
{
    const size_t fc1[] = {site_in_block(block, SITE_FC1)};
    const size_t fc2[] = {site_in_block(block, SITE_FC2)};
    TRY(each_part(o, block, show_fc1));
    TRY(solve(o, fc1, 1));
    TRY(make(o, block, STEP_NORM2, QUANTIZED_FINAL));
    TRY(make(o, block, STEP_FC1, QUANTIZED_FLOATS));
    TRY(each_part(o, block, show_fc2));
    TRY(solve(o, fc2, 1));
    TRY(fetch(o, fc1[0]));
    TRY(make(o, block, STEP_FC1, QUANTIZED_FINAL));
    TRY(make(o, block, STEP_FC2, QUANTIZED_FINAL));
    return each_part(o, block, finish_block);
}

static qvit_status show_head(struct part *p)
{
    const network *plain = p->plain.net;
    qvit_tensor first = stream_of(p, p->behind), features;
    first.rank = 2; /* the class tokens: a view of the stream */
    first.dims[1] = first.dims[2], first.strides[1] = 1;
    qvit_tensor_init(&features, plain->normed, QVIT_DTYPE_F32, 2, first.dims);
    TRY(network_run_norm(&p->plain, network_norm(plain), &first, &features));
    return show(p, site_head(p->o->c->model), &features, NULL, NULL);
}

static qvit_status solve_all(struct in_order *o)
{
    const vit_model *model = o->c->model;
    const size_t patch_embed[] = {SITE_PATCH_EMBED}, head[] = {site_head(model)};
    TRY(calibration_forget_quantized(o->c, o->error));
    TRY(solve(o, patch_embed, 1));
    TRY(quantized_model_embedding(&o->quantized, o->engine, o->results, o->error));
    TRY(each_part(o, 0, embed));
    for (size_t block = 0; block < model->depth; block++) {
        TRY(solve_attention(o, block));
        TRY(solve_mlp(o, block));
    }
    TRY(each_part(o, 0, show_head));
    return solve(o, head, 1);
}

/* ---- memory ---- */

/* A network whose plans are still to come; whatever they write, floats are as large. */
static qvit_status begin_network(struct in_order *o)
{
    network *net = &o->quantized;
    TRY(network_begin(net, o->c->model, o->error));
    net->patches = QVIT_DTYPE_U8;
    for (size_t i = 0; i < net->step_count; i++) net->steps[i].output = QVIT_DTYPE_F32;
    return network_reserve(net, o->c->net.batch, false, o->error);
}

static qvit_status run(struct in_order *o)
{
    const vit_model *model = o->c->model;
    const size_t stream = model->tokens * model->width;
    o->behind = calloc(o->count * stream, sizeof *o->behind);
    o->floats = calloc(o->count * stream, sizeof *o->floats);
    o->results->site = calloc(site_count(model), sizeof *o->results->site);
    if (!o->behind || !o->floats || !o->results->site) return fail_memory(o->error);
    o->results->count = site_count(model);
    TRY(begin_network(o));
    return solve_all(o);
}

qvit_status solve_in_order(calibration *c, const qvit_engine *engine,
                           const calibration_recipe *recipe, const uint8_t *images, size_t first,
                           size_t count, calibration_results *results, qvit_error *error)
{
    *results = (calibration_results){0};
    struct in_order o = {.c = c,
                         .engine = engine,
                         .recipe = recipe,
                         .images = images,
                         .first = first,
                         .count = count,
                         .results = results,
                         .error = error};
    qvit_status status = run(&o);
    network_close(&o.quantized);
    free(o.behind);
    free(o.floats);
    if (status != QVIT_OK) calibration_results_close(results);
    return status;
}
