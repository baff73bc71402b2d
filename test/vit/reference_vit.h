/*
 * reference_vit.h - a ViT in double precision, written a second time for the tests: plain loops,
 * one image, and any one number of any product's output can be moved on the way.
 */
#ifndef QVIT_TEST_REFERENCE_VIT_H
#define QVIT_TEST_REFERENCE_VIT_H

#include <math.h>
#include <stdlib.h>

#include "backward.h"

/* Adds delta to element `index` of one image's output, counted as in the shape of its gradient. */
typedef struct reference_poke {
    gradient_stage stage;
    size_t block, index;
    double delta;
} reference_poke;

struct reference {
    const vit_model *model;
    const reference_poke *poke;
    double *stream, *normed, *wide, *scores, *context, *rows;
};

static inline void reference_touch(const struct reference *r, gradient_stage stage, size_t block,
                                   double *output)
{
    if (r->poke->stage == stage && r->poke->block == block)
        output[r->poke->index] += r->poke->delta;
}

static inline double reference_at(const qvit_tensor *vector, size_t i)
{
    return vector->data ? (double)((const float *)vector->data)[i] : 0;
}

static inline void reference_linear(const vit_linear *layer, const double *in, size_t rows,
                                    double *out)
{
    const size_t outputs = layer->weight.dims[0], inputs = layer->weight.dims[1];
    for (size_t row = 0; row < rows; row++) {
        for (size_t o = 0; o < outputs; o++) {
            double sum = reference_at(&layer->bias, o);
            for (size_t i = 0; i < inputs; i++)
                sum += in[row * inputs + i] * reference_at(&layer->weight, o * inputs + i);
            out[row * outputs + o] = sum;
        }
    }
}

static inline void reference_norm(const vit_norm *norm, const double *in, size_t rows, double *out)
{
    const size_t n = norm->gamma.dims[0];
    for (size_t row = 0; row < rows; row++, in += n, out += n) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < n; i++) mean += in[i] / (double)n;
        for (size_t i = 0; i < n; i++) variance += (in[i] - mean) * (in[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++)
            out[i] = (in[i] - mean) / sqrt(variance + (double)VIT_LAYER_NORM_EPS) *
                         reference_at(&norm->gamma, i) +
                     reference_at(&norm->beta, i);
    }
}

static inline void reference_softmax(double *row, size_t n, double scale)
{
    double largest = row[0], sum = 0;
    for (size_t i = 1; i < n; i++) largest = fmax(largest, row[i]);
    for (size_t i = 0; i < n; i++) sum += row[i] = exp(scale * (row[i] - largest));
    for (size_t i = 0; i < n; i++) row[i] /= sum;
}

static inline double reference_gelu(double x) { return x * 0.5 * erfc(-x / sqrt(2)); }

static inline void reference_add(double *stream, const double *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) stream[i] += rows[i];
}

/* Scores [heads, t, t] and their softmax, from the rows of q, k and v in `wide`. */
static inline void reference_scores(const struct reference *r, size_t block)
{
    const vit_model *m = r->model;
    const size_t t = m->tokens, d = m->head_dim, line = 3 * m->width;
    for (size_t i = 0; i < m->heads * t * t; i++) {
        const size_t head = i / (t * t), query = i / t % t, key = i % t;
        const double *q = r->wide + query * line + head * d;
        const double *k = r->wide + key * line + m->width + head * d;
        r->scores[i] = 0;
        for (size_t c = 0; c < d; c++) r->scores[i] += q[c] * k[c];
    }
    reference_touch(r, GRADIENT_QK, block, r->scores);
    for (size_t i = 0; i < m->heads * t; i++)
        reference_softmax(r->scores + i * t, t, 1 / sqrt((double)d));
}

/* P V as [heads, t, head_dim] into `rows`, and from there as [t, width] into the context. */
static inline void reference_context(const struct reference *r, size_t block)
{
    const vit_model *m = r->model;
    const size_t t = m->tokens, d = m->head_dim, line = 3 * m->width;
    for (size_t i = 0; i < m->heads * t * d; i++) {
        const size_t head = i / (t * d), query = i / d % t;
        const double *p = r->scores + (head * t + query) * t;
        const double *v = r->wide + 2 * m->width + head * d + i % d;
        r->rows[i] = 0;
        for (size_t key = 0; key < t; key++) r->rows[i] += p[key] * v[key * line];
    }
    reference_touch(r, GRADIENT_PV, block, r->rows);
    for (size_t i = 0; i < m->heads * t * d; i++) {
        const size_t head = i / (t * d), query = i / d % t;
        r->context[query * m->width + head * d + i % d] = r->rows[i];
    }
}

static inline void reference_block(const struct reference *r, size_t number)
{
    const vit_model *m = r->model;
    const vit_block *block = &m->blocks[number];
    const size_t t = m->tokens, count = t * m->width;
    reference_norm(&block->norm1, r->stream, t, r->normed);
    reference_linear(&block->qkv, r->normed, t, r->wide);
    reference_touch(r, GRADIENT_QKV, number, r->wide);
    reference_scores(r, number);
    reference_context(r, number);
    reference_linear(&block->proj, r->context, t, r->rows);
    reference_touch(r, GRADIENT_PROJ, number, r->rows);
    reference_add(r->stream, r->rows, count);

    reference_norm(&block->norm2, r->stream, t, r->normed);
    reference_linear(&block->fc1, r->normed, t, r->wide);
    reference_touch(r, GRADIENT_FC1, number, r->wide);
    for (size_t i = 0; i < t * m->hidden; i++) r->wide[i] = reference_gelu(r->wide[i]);
    reference_linear(&block->fc2, r->wide, t, r->rows);
    reference_touch(r, GRADIENT_FC2, number, r->rows);
    reference_add(r->stream, r->rows, count);
}

static inline void reference_embed(const struct reference *r, const uint8_t *image)
{
    const vit_model *m = r->model;
    const size_t side = m->image / m->patch, inputs = m->patch * m->patch * VIT_CHANNELS;
    double *patches = r->stream + m->width;
    for (size_t p = 0; p < m->patches; p++) {
        for (size_t i = 0; i < inputs; i++) {
            const size_t y = p / side * m->patch + i / VIT_CHANNELS / m->patch;
            const size_t x = p % side * m->patch + i / VIT_CHANNELS % m->patch;
            r->rows[i] = image[(y * m->image + x) * VIT_CHANNELS + i % VIT_CHANNELS];
        }
        reference_linear(&m->patch_embed, r->rows, 1, patches + p * m->width);
    }
    reference_touch(r, GRADIENT_PATCH_EMBED, 0, patches);
    for (size_t i = 0; i < m->width; i++) r->stream[i] = reference_at(&m->first, i);
    for (size_t i = 0; i < m->patches * m->width; i++) patches[i] += reference_at(&m->positions, i);
}

static inline void reference_logits(const vit_model *model, const uint8_t *image,
                                    const reference_poke *poke, double *logits)
{
    const size_t wide = 3 * model->width > model->hidden ? 3 * model->width : model->hidden;
    const size_t rows = model->tokens * model->width, inputs = model->patch_embed.weight.dims[1];
    struct reference r = {
        .model = model,
        .poke = poke,
        .stream = calloc(rows, sizeof(double)),
        .normed = calloc(rows, sizeof(double)),
        .wide = calloc(model->tokens * wide, sizeof(double)),
        .scores = calloc(model->heads * model->tokens * model->tokens, sizeof(double)),
        .context = calloc(rows, sizeof(double)),
        .rows = calloc(rows + inputs, sizeof(double)),
    };
    reference_embed(&r, image);
    for (size_t i = 0; i < model->depth; i++) reference_block(&r, i);
    reference_norm(&model->norm, r.stream, 1, r.normed);
    reference_linear(&model->head, r.normed, 1, logits);
    reference_touch(&r, GRADIENT_HEAD, 0, logits);
    free(r.stream), free(r.normed), free(r.wide), free(r.scores), free(r.context), free(r.rows);
}

#endif
