#include "material.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Standard deviation of evenly spread codes. */
#define DEVIATION(bits) (pow(2, bits) / sqrt(12))

/* ---- memory and random content ---- */

void *material_memory(size_t bytes)
{
    size_t whole = (bytes + QVIT_ALIGNMENT - 1) / QVIT_ALIGNMENT * QVIT_ALIGNMENT;
    void *memory = aligned_alloc(QVIT_ALIGNMENT, whole ? whole : QVIT_ALIGNMENT);
    if (!memory) bench_die("memory", "there is none");
    return memory;
}

/* xorshift64*; the upper half is the better one. */
static uint32_t next_random(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1d) >> 32);
}

void material_bytes(void *memory, size_t bytes)
{
    uint8_t *out = memory;
    for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(next_random() >> 13);
}

/* The sum of four even distributions is bell-shaped enough. */
void material_floats(float *floats, size_t count, float deviation)
{
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int part = 0; part < 4; part++) sum += (float)(next_random() >> 8) / 16777216.0f;
        floats[i] = (sum - 2) * 1.7320508f * deviation;
    }
}

qvit_tensor material_tensor(qvit_dtype dtype, size_t rows, size_t cols)
{
    qvit_tensor tensor;
    const size_t dims[] = {rows, cols}, bytes = qvit_tensor_bytes(dtype, 2, dims);
    qvit_tensor_init(&tensor, material_memory(bytes), dtype, 2, dims);
    if (dtype == QVIT_DTYPE_F32) {
        material_floats(tensor.data, rows * cols, 1);
        return tensor;
    }
    material_bytes(tensor.data, bytes);
    int8_t *code = tensor.data;
    for (size_t i = 0; dtype == QVIT_DTYPE_S8 && i < bytes; i++)
        if (code[i] == -128) code[i] = 127; /* narrow */
    return tensor;
}

qvit_tensor material_vector(size_t count, float deviation)
{
    qvit_tensor vector;
    qvit_tensor_init(&vector, material_memory(count * sizeof(float)), QVIT_DTYPE_F32, 1, &count);
    material_floats(vector.data, count, deviation);
    return vector;
}

/* ---- quantizers ---- */

struct numbers {
    qvit_scheme scheme;
    uint32_t flags;
    float scale, scale2;
    int32_t zero_point;
};

static qvit_quantizer *make(const qvit_engine *engine, int32_t bits, struct numbers n)
{
    qvit_parameter parameters[2] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &n.scale}};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    options.scheme = n.scheme;
    options.flags = n.flags;
    options.bits = bits;
    options.parameters = parameters;
    options.parameter_count = 1;
    if (n.scheme != QVIT_SCHEME_SYMMETRIC) {
        parameters[1] = (qvit_parameter){QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, 1, &n.scale2};
        if (n.scheme == QVIT_SCHEME_ASYMMETRIC)
            parameters[1] =
                (qvit_parameter){QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &n.zero_point};
        options.parameter_count = 2;
    }
    qvit_quantizer *made;
    BENCH_TRY(qvit_quantizer_create(engine, &options, &made, &bench_error));
    return made;
}

void material_open(struct material *m, const qvit_engine *engine)
{
    const float part = 1.0f / 32;
    /* Of 197 scores of deviation 1, eight are above 1.75: probabilities from e^1.25 / 197 on. */
    const float upper = 0.0177f, top = 1 / 127.0f, top4 = 1 / 7.0f;
    *m = (struct material){
        .engine = engine,
        .u8 = make(engine, 8, (struct numbers){QVIT_SCHEME_ASYMMETRIC, 0, part, 0, 128}),
        .s8 = make(engine, 8,
                   (struct numbers){QVIT_SCHEME_SYMMETRIC, QVIT_QUANTIZER_NARROW, part, 0, 0}),
        .probability =
            make(engine, 8, (struct numbers){QVIT_SCHEME_ASYMMETRIC, 0, 1 / 255.0f, 0, 0}),
        .twin_softmax =
            make(engine, 8, (struct numbers){QVIT_SCHEME_TWIN_SOFTMAX, 0, upper / 128, top, 0}),
        .twin_softmax_dense =
            make(engine, 8, (struct numbers){QVIT_SCHEME_TWIN_SOFTMAX, 0, 1e-9f, top, 0}),
        .twin_softmax_4 =
            make(engine, 4, (struct numbers){QVIT_SCHEME_TWIN_SOFTMAX, 0, top4 / 32, top4, 0}),
        .twin_gelu =
            make(engine, 8, (struct numbers){QVIT_SCHEME_TWIN_GELU, 0, part / 16, part, 0}),
    };
}

void material_close(struct material *m)
{
    qvit_quantizer_destroy(m->u8);
    qvit_quantizer_destroy(m->s8);
    qvit_quantizer_destroy(m->probability);
    qvit_quantizer_destroy(m->twin_softmax);
    qvit_quantizer_destroy(m->twin_softmax_dense);
    qvit_quantizer_destroy(m->twin_softmax_4);
    qvit_quantizer_destroy(m->twin_gelu);
    *m = (struct material){0};
}

qvit_port material_port(const qvit_quantizer *quantizer)
{
    if (!quantizer) return (qvit_port){QVIT_DTYPE_F32, 0, NULL};
    return (qvit_port){qvit_quantizer_code_dtype(quantizer), 0, quantizer};
}

/* ---- layers ---- */

/* "k64": blocks of 64 inputs in every row; the bounds are the caller's to free. */
static void set_blocks(const struct material_layer *l, qvit_granularity_options *o)
{
    o->rows = l->n;
    o->cols = l->k;
    o->row_blocks = strcmp(l->granularity, "layer") ? l->n : 1;
    if (l->granularity[0] != 'k') return;
    const size_t length = strtoul(l->granularity + 1, NULL, 10);
    o->col_blocks = (l->k + length - 1) / length;
    size_t *bounds = material_memory((o->col_blocks + 1) * sizeof *bounds);
    for (size_t i = 0; i < o->col_blocks; i++) bounds[i] = i * length;
    bounds[o->col_blocks] = l->k;
    o->col_bounds = bounds;
}

/* "s6": 6. */
static int32_t weight_bits(const struct material_layer *l) { return l->weights[1] - '0'; }

/* Weights that keep the deviation of what they multiply. */
static qvit_quantizer *weight_quantizer(const qvit_engine *engine, const struct material_layer *l)
{
    const int32_t bits = weight_bits(l);
    const double deviation = DEVIATION(bits) * sqrt((double)l->k);
    qvit_granularity_options blocks = QVIT_GRANULARITY_OPTIONS_INIT;
    set_blocks(l, &blocks);
    const size_t count = blocks.row_blocks * blocks.col_blocks;
    float *scales = material_memory(count * sizeof *scales);
    int32_t *zeros = material_memory(count * sizeof *zeros);
    for (size_t i = 0; i < count; i++) {
        scales[i] = (float)(1 / deviation) * (1 + 0.01f * (float)(i % 16));
        zeros[i] = (int32_t)(i % 16);
    }
    const qvit_parameter parameters[] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, count, scales},
                                         {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, count, zeros}};
    const int asymmetric = l->weights[0] == 'u';
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    qvit_granularity *granularity;
    BENCH_TRY(qvit_granularity_create(engine, &blocks, &granularity, &bench_error));
    options.bits = bits;
    options.flags = bits == 8 ? QVIT_QUANTIZER_NARROW : 0;
    options.granularity = granularity;
    options.scheme = asymmetric ? QVIT_SCHEME_ASYMMETRIC : QVIT_SCHEME_SYMMETRIC;
    options.parameters = parameters;
    options.parameter_count = asymmetric ? 2 : 1;
    qvit_quantizer *made;
    BENCH_TRY(qvit_quantizer_create(engine, &options, &made, &bench_error));
    qvit_granularity_destroy(granularity);
    free(zeros);
    free((void *)blocks.col_bounds);
    free(scales);
    return made;
}

static qvit_tensor random_weights(const struct material_layer *l)
{
    if (!strcmp(l->weights, "f32")) {
        qvit_tensor floats = material_tensor(QVIT_DTYPE_F32, l->n, l->k);
        material_floats(floats.data, l->n * l->k, (float)(1 / sqrt((double)l->k)));
        return floats;
    }
    static const qvit_dtype types[] = {
        [4] = QVIT_DTYPE_S4, [6] = QVIT_DTYPE_S6, [8] = QVIT_DTYPE_S8};
    return material_tensor(l->weights[0] == 'u' ? QVIT_DTYPE_U4 : types[weight_bits(l)], l->n,
                           l->k);
}

qvit_tensor material_order(size_t n)
{
    qvit_tensor order = material_tensor(QVIT_DTYPE_S32, 1, n);
    int32_t *channel = order.data;
    for (size_t i = 0; i < n; i++) {
        size_t j = next_random() % (i + 1);
        channel[i] = channel[j];
        channel[j] = (int32_t)i;
    }
    qvit_tensor_init(&order, channel, QVIT_DTYPE_S32, 1, &n);
    return order;
}

qvit_plan *material_linear(const struct material *m, const struct material_layer *l)
{
    qvit_tensor weights = random_weights(l), bias = material_vector(l->n, 0.1f);
    qvit_quantizer *q = weights.dtype == QVIT_DTYPE_F32 ? NULL : weight_quantizer(m->engine, l);
    qvit_linear_options options = QVIT_LINEAR_OPTIONS_INIT;
    options.input = l->input;
    options.weight = (qvit_port){weights.dtype, 0, q};
    options.residual = l->residual;
    options.output = l->output;
    options.weights = &weights;
    options.bias = l->output.dtype == QVIT_DTYPE_S32 ? NULL : &bias;
    options.activation = l->activation;
    qvit_plan *plan;
    BENCH_TRY(qvit_linear_create(m->engine, &options, &plan, &bench_error));
    qvit_quantizer_destroy(q);
    free(weights.data);
    free(bias.data);
    return plan;
}
