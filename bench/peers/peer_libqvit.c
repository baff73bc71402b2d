/* peer_libqvit.c - libqvit's own side: layers, and the encoder that qvit-bench
 * times. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/encoder.h"
#include "examples/common/thread_pool.h"

struct peer {
    timer_call *call;
    thread_pool *pool;
    qvit_engine *engine;
    char description[160];
    /* a layer */
    qvit_plan *plan;
    qvit_tensor input, output;
    qvit_linear_args args;
    /* or an encoder */
    struct material material;
    struct encoder *encoder;
};

_Noreturn void bench_die(const char *what, const char *why)
{
    fprintf(stderr, "bench-peers: libqvit: %s: %s\n", what, why);
    exit(1);
}

static struct peer *open_peer(timer_call *call, size_t threads)
{
    struct peer *p = material_memory(sizeof *p);
    *p = (struct peer){.call = call, .pool = thread_pool_create(threads)};
    if (!p->pool) bench_die("threads", "cannot be started");
    qvit_executor executor = thread_pool_executor(p->pool);
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.executor = &executor;
    BENCH_TRY(qvit_engine_create(&options, &p->engine, &bench_error));
    snprintf(p->description, sizeof p->description, "libqvit %s, %s", qvit_version_string(),
             qvit_engine_isa_name(p->engine));
    return p;
}

/* ---- a layer ---- */

static qvit_quantizer *code_quantizer(const qvit_engine *engine, float scale, int32_t zero)
{
    const qvit_parameter parameters[] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, 1, &scale},
                                         {QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, 1, &zero}};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    options.scheme = QVIT_SCHEME_ASYMMETRIC;
    options.parameters = parameters;
    options.parameter_count = 2;
    qvit_quantizer *made;
    BENCH_TRY(qvit_quantizer_create(engine, &options, &made, &bench_error));
    return made;
}

/* A scale for each output. */
static qvit_quantizer *weight_quantizer(const qvit_engine *engine, const struct peer_layer *l)
{
    qvit_granularity_options rows = QVIT_GRANULARITY_OPTIONS_INIT;
    rows.rows = rows.row_blocks = l->n;
    rows.cols = l->k;
    qvit_granularity *granularity;
    BENCH_TRY(qvit_granularity_create(engine, &rows, &granularity, &bench_error));
    const qvit_parameter scales = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, l->n, l->scales};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT;
    options.bits = l->bits;
    options.flags = l->bits == 8 ? QVIT_QUANTIZER_NARROW : 0;
    options.granularity = granularity;
    options.parameters = &scales;
    options.parameter_count = 1;
    qvit_quantizer *made;
    BENCH_TRY(qvit_quantizer_create(engine, &options, &made, &bench_error));
    qvit_granularity_destroy(granularity);
    return made;
}

static qvit_tensor matrix(const void *data, qvit_dtype dtype, size_t rows, size_t cols)
{
    qvit_tensor tensor;
    qvit_tensor_init(&tensor, (void *)data, dtype, 2, (size_t[]){rows, cols});
    return tensor;
}

static void make_plan(struct peer *p, const struct peer_layer *l)
{
    const int codes = l->bits != 32;
    qvit_quantizer *input = NULL, *weight = NULL, *output = NULL;
    if (codes) {
        input = code_quantizer(p->engine, l->input_scale, l->input_zero);
        weight = weight_quantizer(p->engine, l);
        output = code_quantizer(p->engine, l->output_scale, l->output_zero);
    }
    const qvit_tensor weights =
        matrix(l->weights, codes ? QVIT_DTYPE_S8 : QVIT_DTYPE_F32, l->n, l->k);
    qvit_tensor bias;
    qvit_tensor_init(&bias, (void *)l->bias, QVIT_DTYPE_F32, 1, &l->n);
    qvit_linear_options options = QVIT_LINEAR_OPTIONS_INIT;
    options.input = material_port(input);
    options.weight = (qvit_port){weights.dtype, 0, weight};
    options.output = material_port(output);
    options.weights = &weights;
    options.bias = &bias;
    BENCH_TRY(qvit_linear_create(p->engine, &options, &p->plan, &bench_error));
    qvit_quantizer_destroy(input);
    qvit_quantizer_destroy(weight);
    qvit_quantizer_destroy(output);
}

static void run_layer(void *user)
{
    const struct peer *p = user;
    BENCH_TRY(qvit_linear_run(p->plan, &p->args, &bench_error));
}

/* There is one form, "". */
struct peer *peer_create_layer(const struct peer_layer *l, const char *form, size_t threads)
{
    if (*form) return NULL;
    struct peer *p = open_peer(run_layer, threads);
    const qvit_dtype dtype = l->bits == 32 ? QVIT_DTYPE_F32 : QVIT_DTYPE_U8;
    make_plan(p, l);
    p->input = matrix(l->input, dtype, l->m, l->k);
    p->output = matrix(l->output, dtype, l->m, l->n);
    p->args = (qvit_linear_args)QVIT_LINEAR_ARGS_INIT;
    p->args.input = &p->input;
    p->args.output = &p->output;
    p->args.workspace_size = qvit_linear_workspace_size(p->plan, l->m);
    p->args.workspace = material_memory(p->args.workspace_size);
    qvit_plan_describe(p->plan, p->description, sizeof p->description);
    return p;
}

/* ---- an encoder ---- */

static void run_encoder(void *user)
{
    const struct peer *p = user;
    encoder_run(p->encoder);
}

struct peer *peer_create_encoder(size_t width, size_t batch, const char *bits, int twin,
                                 size_t threads)
{
    struct peer *p = open_peer(run_encoder, threads);
    const struct encoder_form form = {bits, twin, 0};
    material_open(&p->material, p->engine);
    p->encoder = encoder_create(&p->material, width, batch, &form);
    return p;
}

/* ---- both ---- */

void peer_run(struct peer *p, size_t calls)
{
    for (size_t i = 0; i < calls; i++) p->call(p);
}

const char *peer_describe(struct peer *p) { return p->description; }

void peer_destroy(struct peer *p)
{
    if (p->encoder) {
        encoder_destroy(p->encoder);
        material_close(&p->material);
    }
    qvit_plan_destroy(p->plan);
    free(p->args.workspace);
    qvit_engine_destroy(p->engine);
    thread_pool_destroy(p->pool);
    free(p);
}
