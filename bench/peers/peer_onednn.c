/*
 * peer_onednn.c - a layer in oneDNN 2 or 3, in three forms: matmul, ip (inner
 * product), conv (1x1).
 *
 * Weights lie as oneDNN wants them ("any"), reordered once. Zero points are in
 * the bias, where they cost nothing, and all scales in one for each output.
 */
#include "peer.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t descriptor;
#else
typedef const dnnl_memory_desc_t *descriptor;
#endif

enum { INPUT, WEIGHTS, BIAS, OUTPUT, SCALES, OPERANDS };

struct peer {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t operands[OPERANDS];
    int count;
    float *bias, *scales; /* oneDNN's */
    char description[160];
};

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "bench-peers: oneDNN: %s failed, status %d\n", what, (int)status);
    exit(1);
}
#define TRY(call) check(call, #call)

/* ---- where oneDNN 2 and 3 differ ---- */

/* Without strides: whatever layout the primitive likes best. */
static descriptor describe(int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                           const int64_t *strides)
{
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t made;
    if (strides)
        TRY(dnnl_memory_desc_create_with_strides(&made, rank, dims, type, strides));
    else
        TRY(dnnl_memory_desc_create_with_tag(&made, rank, dims, type, dnnl_format_tag_any));
#else
    dnnl_memory_desc_t *made = malloc(sizeof *made);
    check(made ? dnnl_success : dnnl_out_of_memory, "malloc");
    if (strides)
        TRY(dnnl_memory_desc_init_by_strides(made, rank, dims, type, strides));
    else
        TRY(dnnl_memory_desc_init_by_tag(made, rank, dims, type, dnnl_format_tag_any));
#endif
    return made;
}

static void forget(descriptor desc)
{
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_destroy(desc);
#else
    free((void *)desc);
#endif
}

/* Sums are multiplied by a scale for each output. Of convolutions weights begin
 * with the outputs. */
static dnnl_primitive_attr_t make_attributes(const struct peer_layer *l, const struct peer *p,
                                             int outputs_dim)
{
    dnnl_primitive_attr_t attributes;
    TRY(dnnl_primitive_attr_create(&attributes));
    if (l->bits == 32) return attributes;
#if DNNL_VERSION_MAJOR >= 3
    (void)p;
    TRY(dnnl_primitive_attr_set_scales_mask(attributes, DNNL_ARG_WEIGHTS, 1 << outputs_dim));
#else
    (void)outputs_dim;
    TRY(dnnl_primitive_attr_set_output_scales(attributes, (dnnl_dim_t)l->n, 1 << 1, p->scales));
#endif
    return attributes;
}

/* oneDNN 3 adds the bias to what was scaled, 2 to the sum. */
static float bias_unit(float scale) { return DNNL_VERSION_MAJOR >= 3 ? 1 : scale; }

static dnnl_status_t choose(dnnl_primitive_desc_t *out, const descriptor d[OPERANDS],
                            dnnl_primitive_attr_t attributes, dnnl_engine_t engine, char form)
{
    const dnnl_dims_t ones = {1, 1}, zeros = {0, 0};
    const dnnl_prop_kind_t forward = dnnl_forward_inference;
#if DNNL_VERSION_MAJOR >= 3
    if (form == 'm')
        return dnnl_matmul_primitive_desc_create(out, engine, d[INPUT], d[WEIGHTS], d[BIAS],
                                                 d[OUTPUT], attributes);
    if (form == 'i')
        return dnnl_inner_product_forward_primitive_desc_create(
            out, engine, forward, d[INPUT], d[WEIGHTS], d[BIAS], d[OUTPUT], attributes);
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, forward, dnnl_convolution_direct, d[INPUT], d[WEIGHTS], d[BIAS], d[OUTPUT],
        ones, zeros, zeros, zeros, attributes);
#else
    dnnl_matmul_desc_t matmul;
    dnnl_inner_product_desc_t product;
    dnnl_convolution_desc_t convolution;
    const void *wish = form == 'm'   ? (void *)&matmul
                       : form == 'i' ? (void *)&product
                                     : (void *)&convolution;
    if (form == 'm')
        TRY(dnnl_matmul_desc_init(&matmul, d[INPUT], d[WEIGHTS], d[BIAS], d[OUTPUT]));
    else if (form == 'i')
        TRY(dnnl_inner_product_forward_desc_init(&product, forward, d[INPUT], d[WEIGHTS], d[BIAS],
                                                 d[OUTPUT]));
    else
        TRY(dnnl_convolution_forward_desc_init(&convolution, forward, dnnl_convolution_direct,
                                               d[INPUT], d[WEIGHTS], d[BIAS], d[OUTPUT], ones,
                                               zeros, zeros));
    return dnnl_primitive_desc_create(out, wish, attributes, engine, NULL);
#endif
}

/* ---- making ---- */

/* output code = sum * scale + bias, with both zero points and the rounding's
 * scale in the bias. */
static void fold_scales(struct peer *p, const struct peer_layer *l)
{
    p->bias = malloc(l->n * sizeof *p->bias);
    p->scales = malloc(l->n * sizeof *p->scales);
    check(p->bias && p->scales ? dnnl_success : dnnl_out_of_memory, "malloc");
    for (size_t n = 0; n < l->n; n++) {
        p->bias[n] = l->bias[n];
        if (l->bits == 32) continue;
        const int8_t *row = (const int8_t *)l->weights + n * l->k;
        int32_t sum = 0;
        for (size_t k = 0; k < l->k; k++) sum += row[k];
        const float scale = l->input_scale * l->scales[n] / l->output_scale;
        const float bias = l->bias[n] / l->output_scale + (float)l->output_zero -
                           scale * (float)(sum * l->input_zero);
        p->scales[n] = scale;
        p->bias[n] = bias / bias_unit(scale);
    }
}

/* What the caller's matrices are to a primitive. An image is one row of m
 * pixels. */
static void describe_operands(descriptor d[OPERANDS], const struct peer_layer *l, char form)
{
    const int64_t m = (int64_t)l->m, n = (int64_t)l->n, k = (int64_t)l->k;
    const dnnl_data_type_t data = l->bits == 32 ? dnnl_f32 : dnnl_u8;
    const dnnl_data_type_t weights = l->bits == 32 ? dnnl_f32 : dnnl_s8;
    if (form == 'c') {
        d[INPUT] = describe(4, (dnnl_dims_t){1, k, 1, m}, data, (dnnl_dims_t){m * k, 1, m * k, k});
        d[OUTPUT] = describe(4, (dnnl_dims_t){1, n, 1, m}, data, (dnnl_dims_t){m * n, 1, m * n, n});
        d[WEIGHTS] = describe(4, (dnnl_dims_t){n, k, 1, 1}, weights, NULL);
    } else {
        d[INPUT] = describe(2, (dnnl_dims_t){m, k}, data, (dnnl_dims_t){k, 1});
        d[OUTPUT] = describe(2, (dnnl_dims_t){m, n}, data, (dnnl_dims_t){n, 1});
        d[WEIGHTS] = form == 'm' ? describe(2, (dnnl_dims_t){k, n}, weights, NULL)
                                 : describe(2, (dnnl_dims_t){n, k}, weights, NULL);
    }
    d[BIAS] = form == 'm' ? describe(2, (dnnl_dims_t){1, n}, dnnl_f32, (dnnl_dims_t){n, 1})
                          : describe(1, (dnnl_dims_t){n}, dnnl_f32, (dnnl_dims_t){1});
    d[SCALES] = describe(1, (dnnl_dims_t){n}, dnnl_f32, (dnnl_dims_t){1});
}

/* The caller's weights, [n, k] in memory, as the primitive sees them before
 * they are reordered. */
static descriptor describe_weights(const struct peer_layer *l, char form)
{
    const int64_t n = (int64_t)l->n, k = (int64_t)l->k;
    const dnnl_data_type_t type = l->bits == 32 ? dnnl_f32 : dnnl_s8;
    if (form == 'm') return describe(2, (dnnl_dims_t){k, n}, type, (dnnl_dims_t){1, k});
    if (form == 'i') return describe(2, (dnnl_dims_t){n, k}, type, (dnnl_dims_t){k, 1});
    return describe(4, (dnnl_dims_t){n, k, 1, 1}, type, (dnnl_dims_t){k, 1, 1, 1});
}

static dnnl_memory_t reorder_weights(const struct peer *p, const struct peer_layer *l, char form,
                                     const_dnnl_primitive_desc_t chosen)
{
    dnnl_memory_t from, to;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t reorder;
    const descriptor plain = describe_weights(l, form);
    TRY(dnnl_memory_create(&from, plain, p->engine, (void *)l->weights));
    TRY(dnnl_memory_create(&to, dnnl_primitive_desc_query_md(chosen, dnnl_query_weights_md, 0),
                           p->engine, DNNL_MEMORY_ALLOCATE));
    TRY(dnnl_reorder_primitive_desc_create(
        &desc, plain, p->engine, dnnl_primitive_desc_query_md(chosen, dnnl_query_weights_md, 0),
        p->engine, NULL));
    TRY(dnnl_primitive_create(&reorder, desc));
    const dnnl_exec_arg_t operands[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    TRY(dnnl_primitive_execute(reorder, p->stream, 2, operands));
    TRY(dnnl_stream_wait(p->stream));
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(from);
    forget(plain);
    return to;
}

static void add_operand(struct peer *p, int name, descriptor desc, void *data)
{
    dnnl_exec_arg_t *operand = &p->operands[p->count++];
    operand->arg = name;
    TRY(dnnl_memory_create(&operand->memory, desc, p->engine, data));
}

static void add_operands(struct peer *p, const struct peer_layer *l, const descriptor d[OPERANDS])
{
    add_operand(p, DNNL_ARG_SRC, d[INPUT], (void *)l->input);
    add_operand(p, DNNL_ARG_BIAS, d[BIAS], p->bias);
    add_operand(p, DNNL_ARG_DST, d[OUTPUT], l->output);
#if DNNL_VERSION_MAJOR >= 3
    if (l->bits != 32)
        add_operand(p, DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, d[SCALES], p->scales);
#endif
}

static void write_description(struct peer *p, const_dnnl_primitive_desc_t chosen)
{
    const dnnl_version_t *v = dnnl_version();
    const char *kernel = "";
    dnnl_primitive_desc_query(chosen, dnnl_query_impl_info_str, 0, &kernel);
    snprintf(p->description, sizeof p->description, "oneDNN %d.%d.%d, %s", v->major, v->minor,
             v->patch, kernel);
}

/*
 * form: "matmul", "ip" or "conv". Threads are OpenMP's, whose number was set in
 * the environment before this was loaded.
 */
struct peer *peer_create_layer(const struct peer_layer *l, const char *form, size_t threads)
{
    (void)threads;
    struct peer *p = calloc(1, sizeof *p);
    check(p ? dnnl_success : dnnl_out_of_memory, "calloc");
    TRY(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags));
    fold_scales(p, l);
    descriptor d[OPERANDS];
    describe_operands(d, l, *form);
    dnnl_primitive_attr_t attributes = make_attributes(l, p, *form == 'm' ? 1 : 0);
    dnnl_primitive_desc_t chosen;
    const int able = choose(&chosen, d, attributes, p->engine, *form) == dnnl_success;
    if (able) {
        TRY(dnnl_primitive_create(&p->primitive, chosen));
        add_operands(p, l, d);
        p->operands[p->count++] =
            (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, reorder_weights(p, l, *form, chosen)};
        write_description(p, chosen);
        dnnl_primitive_desc_destroy(chosen);
    }
    dnnl_primitive_attr_destroy(attributes);
    for (int i = 0; i < OPERANDS; i++) forget(d[i]);
    if (able) return p;
    peer_destroy(p);
    return NULL;
}

/* ---- running ---- */

void peer_run(struct peer *p, size_t calls)
{
    for (size_t i = 0; i < calls; i++) {
        TRY(dnnl_primitive_execute(p->primitive, p->stream, p->count, p->operands));
        TRY(dnnl_stream_wait(p->stream));
    }
}

const char *peer_describe(struct peer *p) { return p->description; }

void peer_destroy(struct peer *p)
{
    for (int i = 0; i < p->count; i++) dnnl_memory_destroy(p->operands[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p->bias);
    free(p->scales);
    free(p);
}
