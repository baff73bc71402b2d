#define _POSIX_C_SOURCE 200809L

#include "random_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "json_writer.h"
#include "npy.h"
#include "output_file.h"

/* splitmix64 */
static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Nearly normal, deviation 1: a sum of twelve uniform numbers. It calls nothing of libm, whose last
 * bits differ from one machine to the next. */
static float random_normal(uint64_t *state)
{
    int64_t sum = 0;
    for (int i = 0; i < 12; i++) sum += (int64_t)(random_bits(state) >> 40) - (1 << 23);
    return (float)sum / (float)(1 << 24);
}

/* ---- the model ---- */

/*
 * A safetensors file is written in two passes over the same list of tensors: the first writes the
 * header, which must say where every tensor ends, the second the numbers.
 */
struct model_writer {
    const random_sizes *sizes;
    json_writer header;
    FILE *data;      /* NULL in the first pass */
    uint64_t offset; /* of the next tensor */
    uint64_t state;
};

static void put_little_endian(FILE *stream, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) putc((int)(value >> (8 * i) & 255), stream);
}

static void put_header(struct model_writer *w, const char *name, size_t rank, const size_t *dims,
                       size_t count)
{
    json_key(&w->header, name);
    json_object(&w->header);
    json_key(&w->header, "dtype");
    json_string(&w->header, "F32");
    json_key(&w->header, "shape");
    json_array(&w->header);
    for (size_t i = 0; i < rank; i++) json_integer(&w->header, (int64_t)dims[i]);
    json_array_end(&w->header);
    json_key(&w->header, "data_offsets");
    json_array(&w->header);
    json_integer(&w->header, (int64_t)w->offset);
    w->offset += count * sizeof(float);
    json_integer(&w->header, (int64_t)w->offset);
    json_array_end(&w->header);
    json_object_end(&w->header);
}

static void put_numbers(struct model_writer *w, size_t count, float mean, float deviation)
{
    for (size_t i = 0; i < count && !ferror(w->data); i++) {
        float value = mean + deviation * random_normal(&w->state);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        put_little_endian(w->data, bits, sizeof bits);
    }
}

static void put_tensor(struct model_writer *w, const char *name, size_t rank, const size_t *dims,
                       float mean, float deviation)
{
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= dims[i];
    if (w->data)
        put_numbers(w, count, mean, deviation);
    else
        put_header(w, name, rank, dims, count);
}

/* layer: "blocks.3.norm1" */
static void put_norm(struct model_writer *w, const char *layer)
{
    char name[80];
    snprintf(name, sizeof name, "%s.weight", layer);
    put_tensor(w, name, 1, &w->sizes->width, 1, 0.2f);
    snprintf(name, sizeof name, "%s.bias", layer);
    put_tensor(w, name, 1, &w->sizes->width, 0, 0.1f);
}

/* The deviation of the weights keeps that of what goes through the layer. */
static void put_linear(struct model_writer *w, const char *layer, size_t outputs, size_t inputs)
{
    const size_t dims[] = {outputs, inputs};
    char name[80];
    snprintf(name, sizeof name, "%s.weight", layer);
    put_tensor(w, name, 2, dims, 0, 1 / sqrtf((float)inputs));
    snprintf(name, sizeof name, "%s.bias", layer);
    put_tensor(w, name, 1, dims, 0, 0.1f);
}

static void put_block(struct model_writer *w, size_t number)
{
    static const struct {
        const char *name;
        size_t outputs, inputs; /* multiples of the width; 0: a LayerNorm */
    } layers[] = {
        {"norm1", 0, 0}, {"attn.qkv", 3, 1}, {"attn.proj", 1, 1},
        {"norm2", 0, 0}, {"mlp.fc1", 4, 1},  {"mlp.fc2", 1, 4},
    };
    const size_t width = w->sizes->width;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        char layer[64];
        snprintf(layer, sizeof layer, "blocks.%zu.%s", number, layers[i].name);
        if (layers[i].outputs)
            put_linear(w, layer, layers[i].outputs * width, layers[i].inputs * width);
        else
            put_norm(w, layer);
    }
}

static void put_tensors(struct model_writer *w)
{
    const random_sizes *s = w->sizes;
    const size_t side = s->image / s->patch;
    const size_t patch[] = {s->width, 3, s->patch, s->patch};
    const size_t token[] = {1, 1, s->width}, positions[] = {1, side * side + 1, s->width};
    put_tensor(w, "patch_embed.proj.weight", 4, patch, 0, 1 / (float)s->patch);
    put_tensor(w, "patch_embed.proj.bias", 1, patch, 0, 0.1f);
    put_tensor(w, "cls_token", 3, token, 0, 0.5f);
    put_tensor(w, "pos_embed", 3, positions, 0, 0.5f);
    for (size_t i = 0; i < s->depth; i++) put_block(w, i);
    put_norm(w, "norm");
    put_linear(w, "head", s->classes, s->width);
}

/* The header, into memory; NULL if there is none. */
static char *format_header(const random_sizes *sizes, size_t *length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    if (!stream) return NULL;
    struct model_writer w = {.sizes = sizes};
    json_begin(&w.header, stream);
    json_object(&w.header);
    json_key(&w.header, "__metadata__");
    json_object(&w.header);
    json_key(&w.header, "mean");
    json_string(&w.header, "0.5,0.5,0.5");
    json_key(&w.header, "std");
    json_string(&w.header, "0.5,0.5,0.5");
    json_object_end(&w.header);
    put_tensors(&w);
    json_object_end(&w.header);
    int failed = json_end(&w.header) | fclose(stream);
    if (!failed) return text;
    free(text);
    return NULL;
}

qvit_status random_model_write(const char *path, const random_sizes *sizes, uint64_t seed,
                               qvit_error *error)
{
    size_t length;
    char *header = format_header(sizes, &length);
    if (!header) return fail_memory(error);
    output_file file;
    qvit_status status = output_file_begin(&file, path, error);
    if (status == QVIT_OK) {
        put_little_endian(file.stream, length, 8);
        fwrite(header, 1, length, file.stream);
        struct model_writer w = {.sizes = sizes, .data = file.stream, .state = seed};
        put_tensors(&w);
        status = output_file_end(&file, error);
    }
    free(header);
    return status;
}

/* ---- images and labels ---- */

static qvit_status write_array(const char *path, npy_dtype dtype, unsigned rank, const size_t *dims,
                               const void *data, qvit_error *error)
{
    char text[sizeof error->text];
    if (!npy_write(path, dtype, rank, dims, data, text, sizeof text)) return QVIT_OK;
    return fail(error, QVIT_ERR_IO, "%s", text);
}

/* Squares of 8 x 8 pixels with a little noise: unlike bare noise, no patch is like all others. */
static void paint(uint8_t *image, size_t side, uint64_t *state)
{
    enum { SQUARE = 8, NOISE = 16 };
    uint64_t seed = random_bits(state);
    for (size_t i = 0; i < side * side * 3; i++) {
        size_t y = i / 3 / side, x = i / 3 % side, c = i % 3;
        uint64_t key = seed + (y / SQUARE << 32) + (x / SQUARE << 2) + c;
        uint64_t colour = random_bits(&key) % (256 - NOISE);
        image[i] = (uint8_t)(colour + random_bits(state) % NOISE);
    }
}

qvit_status random_images_write(const char *path, const random_sizes *sizes, size_t n,
                                uint64_t seed, qvit_error *error)
{
    const size_t dims[] = {n, sizes->image, sizes->image, 3}, bytes = dims[1] * dims[2] * dims[3];
    uint8_t *images = calloc(n, bytes);
    if (!images) return fail_memory(error);
    for (size_t i = 0; i < n; i++) paint(images + i * bytes, sizes->image, &seed);
    qvit_status status = write_array(path, NPY_U8, 4, dims, images, error);
    free(images);
    return status;
}

qvit_status random_labels_write(const char *path, const random_sizes *sizes, size_t n,
                                uint64_t seed, qvit_error *error)
{
    int32_t *labels = calloc(n, sizeof *labels);
    if (!labels) return fail_memory(error);
    for (size_t i = 0; i < n; i++) labels[i] = (int32_t)(random_bits(&seed) % sizes->classes);
    qvit_status status = write_array(path, NPY_I32, 1, &n, labels, error);
    free(labels);
    return status;
}
