#include "model.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

/* Bounds that no real model comes near, and below which no product of sizes overflows. */
enum { MAX_TOKENS = 1 << 16, MAX_WIDTH = 1 << 16 };

struct reader {
    const safetensors *file;
    bool *taken; /* for each tensor of the file */
    float *room; /* the part of the model's memory that is free */
    vit_model *model;
    qvit_error *error;
};

/* ---- one tensor ---- */

/* "[192, 3, 16, 16]", for messages. */
struct shape_text {
    char text[SAFETENSORS_MAX_RANK * 22 + 3];
};

static struct shape_text shape_text(unsigned rank, const size_t *dims)
{
    struct shape_text shape = {"["};
    size_t used = 1;
    for (unsigned i = 0; i < rank; i++)
        used += (size_t)snprintf(shape.text + used, sizeof shape.text - used, "%s%zu",
                                 i ? ", " : "", dims[i]);
    snprintf(shape.text + used, sizeof shape.text - used, "]");
    return shape;
}

static size_t elements(unsigned rank, const size_t *dims)
{
    size_t count = 1;
    for (unsigned i = 0; i < rank; i++) count *= dims[i];
    return count;
}

static qvit_status find(struct reader *r, const char *name, unsigned rank,
                        const safetensors_tensor **out)
{
    const safetensors_tensor *tensor = safetensors_find(r->file, name);
    *out = tensor;
    if (!tensor) return fail(r->error, QVIT_ERR_FORMAT, "tensor \"%s\" is missing", name);
    if (tensor->rank != rank)
        return fail(r->error, QVIT_ERR_SHAPE, "tensor \"%s\" has %u dimensions, not %u", name,
                    tensor->rank, rank);
    for (unsigned i = 0; i < rank; i++) {
        if (tensor->dims[i] == 0)
            return fail(r->error, QVIT_ERR_SHAPE, "tensor \"%s\" is empty: shape %s", name,
                        shape_text(rank, tensor->dims).text);
    }
    return QVIT_OK;
}

/* Finds a tensor, demands its shape, and moves it as floats into the model. */
static qvit_status take(struct reader *r, const char *name, unsigned rank, const size_t *dims,
                        qvit_tensor *out)
{
    const safetensors_tensor *tensor;
    TRY(find(r, name, rank, &tensor));
    if (memcmp(tensor->dims, dims, rank * sizeof *dims))
        return fail(r->error, QVIT_ERR_SHAPE, "tensor \"%s\" has shape %s, not %s", name,
                    shape_text(rank, tensor->dims).text, shape_text(rank, dims).text);
    if (safetensors_to_f32(tensor, r->room))
        return fail(r->error, QVIT_ERR_UNSUPPORTED, "tensor \"%s\" is not F32, F16 or BF16", name);
    size_t count = elements(rank, dims);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(r->room[i]))
            return fail(r->error, QVIT_ERR_VALUE, "tensor \"%s\": element %zu is %s", name, i,
                        isnan(r->room[i]) ? "not a number" : "infinite");
    }
    qvit_tensor_init(out, r->room, QVIT_DTYPE_F32, rank, dims);
    r->room += count;
    r->taken[tensor - r->file->tensors] = true;
    return QVIT_OK;
}

/* ---- layers ---- */

/* The name of one part of a layer: "blocks.3.", "attn.qkv", ".bias". */
struct name {
    char text[80];
};

static struct name join(const char *prefix, const char *layer, const char *part)
{
    struct name name;
    snprintf(name.text, sizeof name.text, "%s%s%s", prefix, layer, part);
    return name;
}

static qvit_status take_norm(struct reader *r, const char *prefix, const char *layer, vit_norm *out)
{
    const size_t dims[] = {r->model->width};
    TRY(take(r, join(prefix, layer, ".weight").text, 1, dims, &out->gamma));
    return take(r, join(prefix, layer, ".bias").text, 1, dims, &out->beta);
}

static qvit_status take_linear(struct reader *r, const char *prefix, const char *layer,
                               size_t outputs, size_t inputs, vit_linear *out)
{
    const size_t dims[] = {outputs, inputs};
    TRY(take(r, join(prefix, layer, ".weight").text, 2, dims, &out->weight));
    return take(r, join(prefix, layer, ".bias").text, 1, dims, &out->bias);
}

/* Some models are trained without a bias of queries, keys and values. */
static qvit_status take_qkv(struct reader *r, const char *prefix, vit_linear *out)
{
    const size_t dims[] = {3 * r->model->width, r->model->width};
    TRY(take(r, join(prefix, "attn.qkv", ".weight").text, 2, dims, &out->weight));
    struct name bias = join(prefix, "attn.qkv", ".bias");
    return safetensors_find(r->file, bias.text) ? take(r, bias.text, 1, dims, &out->bias) : QVIT_OK;
}

static qvit_status take_block(struct reader *r, size_t number, vit_block *out)
{
    const size_t width = r->model->width, hidden = r->model->hidden;
    char prefix[40];
    snprintf(prefix, sizeof prefix, "blocks.%zu.", number);
    TRY(take_norm(r, prefix, "norm1", &out->norm1));
    TRY(take_qkv(r, prefix, &out->qkv));
    TRY(take_linear(r, prefix, "attn.proj", width, width, &out->proj));
    TRY(take_norm(r, prefix, "norm2", &out->norm2));
    TRY(take_linear(r, prefix, "mlp.fc1", hidden, width, &out->fc1));
    return take_linear(r, prefix, "mlp.fc2", width, hidden, &out->fc2);
}

/* ---- the way in: patches, positions, the class token ---- */

/* Reads "r,g,b" from the option or, failing that, from the file's metadata. */
static qvit_status read_colour(struct reader *r, const char *option, const char *key, float out[3])
{
    const char *text = option ? option : safetensors_metadata(r->file, key);
    if (!text)
        return fail(r->error, QVIT_ERR_FORMAT,
                    "the metadata has no \"%s\" of the images; --%s r,g,b gives it", key, key);
    int end = 0;
    int found = sscanf(text, "%f ,%f ,%f %n", &out[0], &out[1], &out[2], &end);
    bool valid = found == VIT_CHANNELS && text[end] == '\0';
    for (int c = 0; valid && c < VIT_CHANNELS; c++) valid = isfinite(out[c]);
    if (valid) return QVIT_OK;
    return fail(r->error, option ? QVIT_ERR_ARGUMENT : QVIT_ERR_FORMAT,
                "%s \"%s\" is not three numbers \"r,g,b\"", key, text);
}

/*
 * Folds the normalisation into the patch embedding, and turns its weights from the order of a
 * convolution, [width, channels, y, x], to that of the pixels in a patch, [width, y, x, channels].
 */
static void fold_pixels(const vit_model *model, const float *convolution, const float mean[3],
                        const float std[3])
{
    const size_t area = model->patch * model->patch;
    float *weight = model->patch_embed.weight.data, *bias = model->patch_embed.bias.data;
    for (size_t row = 0; row < model->width; row++) {
        double shift = 0;
        for (size_t c = 0; c < VIT_CHANNELS; c++) {
            for (size_t i = 0; i < area; i++) {
                double w =
                    (double)convolution[(row * VIT_CHANNELS + c) * area + i] / (double)std[c];
                weight[(row * area + i) * VIT_CHANNELS + c] = (float)(w / 255);
                shift += w * (double)mean[c];
            }
        }
        bias[row] = (float)((double)bias[row] - shift);
    }
}

static qvit_status take_patch_embed(struct reader *r, const vit_model_options *options)
{
    vit_model *model = r->model;
    float *mean = model->mean, *std = model->std;
    TRY(read_colour(r, options->mean, "mean", mean));
    TRY(read_colour(r, options->std, "std", std));
    for (int c = 0; c < VIT_CHANNELS; c++) {
        if (std[c] <= 0)
            return fail(r->error, options->std ? QVIT_ERR_ARGUMENT : QVIT_ERR_FORMAT,
                        "std of the images is %g, not positive", (double)std[c]);
    }
    const size_t dims[] = {model->width, VIT_CHANNELS, model->patch, model->patch};
    const size_t folded[] = {model->width, model->patch * model->patch * VIT_CHANNELS};
    qvit_tensor convolution;
    TRY(take(r, "patch_embed.proj.weight", 4, dims, &convolution));
    TRY(take(r, "patch_embed.proj.bias", 1, dims, &model->patch_embed.bias));
    qvit_tensor_init(&model->patch_embed.weight, r->room, QVIT_DTYPE_F32, 2, folded);
    r->room += folded[0] * folded[1];
    fold_pixels(model, convolution.data, mean, std);
    return QVIT_OK;
}

static qvit_status take_positions(struct reader *r)
{
    vit_model *model = r->model;
    const size_t one[] = {1, 1, model->width}, all[] = {1, model->tokens, model->width};
    qvit_tensor token, positions;
    TRY(take(r, "cls_token", 3, one, &token));
    TRY(take(r, "pos_embed", 3, all, &positions));
    float *first = token.data, *position = positions.data;
    for (size_t i = 0; i < model->width; i++) first[i] += position[i];
    qvit_tensor_init(&model->first, first, QVIT_DTYPE_F32, 1, (size_t[]){model->width});
    qvit_tensor_init(&model->positions, position + model->width, QVIT_DTYPE_F32, 2,
                     (size_t[]){model->patches, model->width});
    return QVIT_OK;
}

/* ---- sizes ---- */

static size_t count_blocks(const safetensors *file)
{
    for (size_t depth = 0;; depth++) {
        char name[48];
        snprintf(name, sizeof name, "blocks.%zu.mlp.fc1.weight", depth);
        if (!safetensors_find(file, name)) return depth;
    }
}

static qvit_status find_heads(struct reader *r, size_t wanted)
{
    vit_model *model = r->model;
    if (!wanted && model->width % 64)
        return fail(r->error, QVIT_ERR_ARGUMENT,
                    "the width %zu is no multiple of 64; --heads gives the number of heads",
                    model->width);
    model->heads = wanted ? wanted : model->width / 64;
    if (model->width % model->heads)
        return fail(r->error, QVIT_ERR_ARGUMENT, "the width %zu cannot be shared by %zu heads",
                    model->width, model->heads);
    model->head_dim = model->width / model->heads;
    return QVIT_OK;
}

static qvit_status find_sizes(struct reader *r)
{
    vit_model *model = r->model;
    const safetensors_tensor *patch, *positions, *fc1, *head;
    TRY(find(r, "patch_embed.proj.weight", 4, &patch));
    TRY(find(r, "pos_embed", 3, &positions));
    TRY(find(r, "blocks.0.mlp.fc1.weight", 2, &fc1));
    TRY(find(r, "head.weight", 2, &head));
    model->width = patch->dims[0];
    model->patch = patch->dims[3];
    model->tokens = positions->dims[1];
    model->patches = model->tokens - 1;
    model->hidden = fc1->dims[0];
    model->classes = head->dims[0];
    model->depth = count_blocks(r->file);
    if (model->tokens > MAX_TOKENS || model->width > MAX_WIDTH || model->hidden > MAX_WIDTH)
        return fail(r->error, QVIT_ERR_UNSUPPORTED, "the model is larger than any of its kind");
    size_t side = (size_t)lround(sqrt((double)model->patches));
    if (model->patches == 0 || side * side != model->patches)
        return fail(r->error, QVIT_ERR_SHAPE,
                    "pos_embed has %zu positions: not a square of patches and a class token",
                    model->tokens);
    model->image = side * model->patch;
    return QVIT_OK;
}

/* ---- the model ---- */

/* One piece for all floats: those of the file, and the patch embedding a second time, folded. */
static qvit_status allocate(struct reader *r)
{
    size_t count = 0;
    for (size_t i = 0; i < r->file->count; i++) {
        const safetensors_tensor *tensor = &r->file->tensors[i];
        bool twice = !strcmp(tensor->name, "patch_embed.proj.weight");
        count += elements(tensor->rank, tensor->dims) * (twice ? 2 : 1);
    }
    r->model->memory = r->room = malloc(count * sizeof(float));
    r->model->blocks = calloc(r->model->depth, sizeof *r->model->blocks);
    r->taken = calloc(r->file->count, sizeof *r->taken);
    return r->model->memory && r->model->blocks && r->taken ? QVIT_OK : fail_memory(r->error);
}

/* A tensor that nobody took would be a part of the model that this program does not know. */
static qvit_status check_all_taken(const struct reader *r)
{
    for (size_t i = 0; i < r->file->count; i++) {
        if (!r->taken[i])
            return fail(r->error, QVIT_ERR_UNSUPPORTED,
                        "tensor \"%.100s\" is unknown in a plain ViT", r->file->tensors[i].name);
    }
    return QVIT_OK;
}

static qvit_status read_all(struct reader *r, const vit_model_options *options)
{
    vit_model *model = r->model;
    TRY(find_sizes(r));
    TRY(find_heads(r, options->heads));
    TRY(allocate(r));
    TRY(take_patch_embed(r, options));
    TRY(take_positions(r));
    for (size_t i = 0; i < model->depth; i++) TRY(take_block(r, i, &model->blocks[i]));
    TRY(take_norm(r, "", "norm", &model->norm));
    TRY(take_linear(r, "", "head", model->classes, model->width, &model->head));
    return check_all_taken(r);
}

qvit_status vit_model_read(const safetensors *file, const vit_model_options *options,
                           vit_model *out, qvit_error *error)
{
    *out = (vit_model){0};
    struct reader reader = {.file = file, .model = out, .error = error};
    qvit_status status = read_all(&reader, options);
    free(reader.taken);
    if (status != QVIT_OK) vit_model_close(out);
    return status;
}

qvit_status vit_model_open(const char *path, const vit_model_options *options, vit_model *out,
                           qvit_error *error)
{
    *out = (vit_model){0};
    safetensors file;
    char text[sizeof error->text];
    if (safetensors_open(path, &file, text, sizeof text))
        return fail(error, QVIT_ERR_FORMAT, "%s", text);
    qvit_status status = vit_model_read(&file, options, out, error);
    safetensors_close(&file);
    if (status == QVIT_OK || status == QVIT_ERR_ARGUMENT) return status;
    memcpy(text, error->text, sizeof text);
    return fail(error, status, "%s: %s", path, text);
}

static size_t linear_bytes(const vit_linear *layer)
{
    return qvit_tensor_bytes(QVIT_DTYPE_F32, 2, layer->weight.dims);
}

size_t vit_model_weight_bytes(const vit_model *model)
{
    size_t bytes = linear_bytes(&model->patch_embed) + linear_bytes(&model->head);
    for (const vit_block *b = model->blocks; b < model->blocks + model->depth; b++)
        bytes += linear_bytes(&b->qkv) + linear_bytes(&b->proj) + linear_bytes(&b->fc1) +
                 linear_bytes(&b->fc2);
    return bytes;
}

void vit_model_close(vit_model *model)
{
    free(model->blocks);
    free(model->memory);
    *model = (vit_model){0};
}
