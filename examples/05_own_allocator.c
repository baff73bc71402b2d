/*
 * 05_own_allocator - lesson: whose memory it is, where messages go, and what a plan says of itself.
 *
 * The allocator hands out pieces of one static block, as a host without malloc might. Everything
 * that the library makes lives there, running a plan takes nothing, and in the end all is returned.
 */
#include <math.h>
#include <stdio.h>
#include <qvit.h>

#define TRY(call)                                                                                  \
    if ((call) != QVIT_OK) return puts(e.text), 1

enum { ROWS = 8, CHANNELS = 64 };

/* ---- the hooks ---- */

struct block {
    _Alignas(QVIT_ALIGNMENT) unsigned char memory[1 << 18];
    size_t used, live, calls; /* bytes handed out, bytes not yet given back, calls of alloc */
};

/* Memory is never handed out twice: enough for what is made once, in the beginning. */
static void *take(void *user, size_t size, size_t alignment)
{
    struct block *b = user;
    size_t start = (b->used + alignment - 1) / alignment * alignment;
    if (start > sizeof b->memory || size > sizeof b->memory - start) return NULL; /* no memory */
    b->used = start + size;
    b->live += size;
    b->calls++;
    return b->memory + start;
}

static void give_back(void *user, void *memory, size_t size, size_t alignment)
{
    struct block *b = user;
    (void)memory, (void)alignment;
    b->live -= size; /* the library says how much it was: nothing to look up */
}

static void print_line(void *user, qvit_log_level level, const char *text)
{
    fprintf(user, "%s: %s\n", level == QVIT_LOG_WARNING ? "warning" : "note", text);
}

/* ---- a layer norm on them ---- */

static qvit_error e;

static int run_norm(const qvit_engine *engine, const struct block *block)
{
    static float x[ROWS * CHANNELS], y[ROWS * CHANNELS], gamma[CHANNELS], beta[CHANNELS];
    for (int i = 0; i < ROWS * CHANNELS; i++) x[i] = 3 + sinf((float)(i * i));
    for (int i = 0; i < CHANNELS; i++) gamma[i] = 1;
    const size_t channels = CHANNELS, dims[] = {ROWS, CHANNELS};
    qvit_tensor scale, shift, in, out;
    qvit_tensor_init(&scale, gamma, QVIT_DTYPE_F32, 1, &channels);
    qvit_tensor_init(&shift, beta, QVIT_DTYPE_F32, 1, &channels);
    qvit_tensor_init(&in, x, QVIT_DTYPE_F32, 2, dims);
    qvit_tensor_init(&out, y, QVIT_DTYPE_F32, 2, dims);
    qvit_layer_norm_options options = QVIT_LAYER_NORM_OPTIONS_INIT;
    options.gamma = &scale, options.beta = &shift;
    options.output.dtype = QVIT_DTYPE_F32;
    qvit_plan *plan;
    TRY(qvit_layer_norm_create(engine, &options, &plan, &e));
    char text[200];
    qvit_plan_describe(plan, text, sizeof text);
    printf("%s; %zu bytes packed\n", text, qvit_plan_packed_bytes(plan));

    size_t before = block->calls;
    qvit_unary_args args = QVIT_UNARY_ARGS_INIT;
    args.input = &in, args.output = &out;
    TRY(qvit_layer_norm_run(plan, &args, &e));
    float sum = 0;
    for (int i = 0; i < CHANNELS; i++) sum += y[i];
    int right = fabsf(sum) < 1e-3f && block->calls == before;
    qvit_plan_destroy(plan);
    return !right;
}

int main(void)
{
    static struct block block;
    qvit_allocator allocator = QVIT_ALLOCATOR_INIT;
    allocator.user = &block, allocator.alloc = take, allocator.free = give_back;
    qvit_logger logger = QVIT_LOGGER_INIT;
    logger.user = stderr, logger.log = print_line;
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.allocator = &allocator, options.logger = &logger;
    qvit_engine *engine;
    TRY(qvit_engine_create(&options, &engine, &e));
    int failed = run_norm(engine, &block);
    qvit_engine_destroy(engine);
    printf("%zu bytes in %zu pieces, %zu not given back\n", block.used, block.calls, block.live);
    return failed || block.calls == 0 || block.live != 0;
}
