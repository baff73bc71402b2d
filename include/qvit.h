/*
 * qvit.h - post-training quantization of vision transformers, and the kernels that execute it.
 *
 * libqvit gives an inference engine both halves of quantization. The first half watches the float
 * model and chooses: a *calibrator* is shown what flows into every multiplication (a *site*), and
 * solves for quantizers, integer weight codes and biases. The second half runs: a *plan* is made from
 * those numbers, holds packed operands and the best kernels that the CPU offers, and computes. The
 * host keeps its own graph, memory and threads, and drives both halves itself.
 *
 *     float weights, activations --observe--> calibrator --solve--> results (quantizers, codes, bias)
 *     codes, quantizers, bias    --create---> plans      --run----> codes or floats
 *
 * A complete program: one linear layer of 64 outputs over 32 inputs, from floats to int8 and back.
 *
 *     #include <math.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *     #include <qvit.h>
 *
 *     #define TRY(call) if ((call) != QVIT_OK) { puts(e.text); return 1; }
 *
 *     int main(void)
 *     {
 *         static float w[64 * 32], x[100 * 32], y[100 * 64];
 *         for (int i = 0; i < 64 * 32; i++) w[i] = sinf((float)(i * i));
 *         for (int i = 0; i < 100 * 32; i++) x[i] = cosf((float)(i * 7));
 *         qvit_tensor weight, input, output, codes, bias;
 *         qvit_tensor_init(&weight, w, QVIT_DTYPE_F32, 2, (size_t[]){64, 32});
 *         qvit_tensor_init(&input, x, QVIT_DTYPE_F32, 2, (size_t[]){100, 32});
 *         qvit_tensor_init(&output, y, QVIT_DTYPE_F32, 2, (size_t[]){100, 64});
 *
 *         qvit_error e;
 *         qvit_engine *engine;
 *         TRY(qvit_engine_create(NULL, &engine, &e));
 *         qvit_calibrator *calibrator;                               // 1. watch and choose
 *         TRY(qvit_calibrator_create(engine, NULL, &calibrator, &e));
 *         qvit_site_options site = QVIT_SITE_OPTIONS_INIT;
 *         site.name = "fc", site.weight = &weight;
 *         TRY(qvit_calibrator_add_site(calibrator, &site, NULL, &e));
 *         qvit_observation seen = QVIT_OBSERVATION_INIT;
 *         seen.input = &input;
 *         TRY(qvit_calibrator_observe(calibrator, &seen, &e));
 *         TRY(qvit_calibrator_solve(calibrator, NULL, &e));
 *         qvit_result *result;
 *         TRY(qvit_calibrator_result(calibrator, 0, &result, &e));
 *
 *         qvit_linear_options make = QVIT_LINEAR_OPTIONS_INIT;      // 2. plan
 *         make.input.dtype = QVIT_DTYPE_U8;
 *         make.input.quantizer = qvit_result_quantizer(result, QVIT_RESULT_INPUT);
 *         make.weight.dtype = QVIT_DTYPE_S8;
 *         make.weight.quantizer = qvit_result_quantizer(result, QVIT_RESULT_SECOND);
 *         make.output.dtype = QVIT_DTYPE_F32;
 *         TRY(qvit_result_tensor(result, QVIT_RESULT_WEIGHT_CODES, &codes, &e));
 *         TRY(qvit_result_tensor(result, QVIT_RESULT_BIAS, &bias, &e));
 *         make.weights = &codes, make.bias = bias.data ? &bias : NULL;
 *         qvit_plan *plan;
 *         TRY(qvit_linear_create(engine, &make, &plan, &e));
 *
 *         static unsigned char q[100 * 32];                          // 3. run
 *         qvit_tensor quantized;
 *         qvit_tensor_init(&quantized, q, QVIT_DTYPE_U8, 2, (size_t[]){100, 32});
 *         TRY(qvit_quantizer_encode(make.input.quantizer, &input, &quantized, &e));
 *         qvit_linear_args run = QVIT_LINEAR_ARGS_INIT;
 *         run.input = &quantized, run.output = &output;
 *         run.workspace_size = qvit_linear_workspace_size(plan, 100);
 *         run.workspace = aligned_alloc(QVIT_ALIGNMENT, run.workspace_size);
 *         TRY(qvit_linear_run(plan, &run, &e));
 *         printf("y[0] = %f\n", y[0]);
 *
 *         char text[256];
 *         puts((qvit_plan_describe(plan, text, sizeof text), text));
 *         free(run.workspace), qvit_plan_destroy(plan), qvit_result_destroy(result);
 *         qvit_calibrator_destroy(calibrator), qvit_engine_destroy(engine);
 *         return 0;
 *     }
 *
 * Rules that hold everywhere
 *
 *   Errors     Every call that can fail returns a qvit_status and takes, last, an optional qvit_error
 *              that says what was wrong. Nothing aborts, prints, or reads the environment. A failed
 *              call leaves its objects as they were and sets the handle that it would have made to
 *              NULL. Any pointer may be NULL: a required one gives QVIT_ERR_ARGUMENT.
 *   Ownership  Who creates destroys; destroying NULL does nothing. Tensors are views of the caller's
 *              memory and are only read or written during the call that takes them, except where
 *              "borrowed" is written. An engine must outlive everything made with it.
 *   Threads    Engines, granularities, quantizers, results and plans never change once made: any
 *              number of threads may use one at once. A calibrator belongs to one thread at a time.
 *   Structs    A struct that begins with struct_size may grow at its end in later versions; start it
 *              from its _INIT macro or its _init() function, where zero means the default. A struct
 *              without struct_size never changes.
 *   Numbers    Sizes and counts are in elements, strides in elements. Integer results and quantized
 *              outputs are the same bit for bit on every instruction set, thread count and batch split.
 *   FFI        Enumerations are int32_t with constants, and no value is ever renumbered. Nothing is
 *              passed by value but numbers and pointers; there are no variable arguments.
 */
#ifndef QVIT_H
#define QVIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. Version ----------------------------------------------------------------------------------- */

/*
 * The version of this header. Before 1.0 every minor version may change the binary interface, and
 * carries a soname of its own.
 */
#define QVIT_VERSION_MAJOR 0
#define QVIT_VERSION_MINOR 1
#define QVIT_VERSION_PATCH 0

/* ---- 2. Linkage ----------------------------------------------------------------------------------- */

/* Marks what the shared library exports; everything else in it is hidden. */
#if defined(__GNUC__) || defined(__clang__)
#define QVIT_API __attribute__((visibility("default")))
#else
#define QVIT_API
#endif

/*
 * The version of the library that is running: major * 1000000 + minor * 1000 + patch.
 * Any thread, never fails.
 */
QVIT_API uint32_t qvit_version_number(void);

/* The same as text, "0.1.0". A static string: do not free it. */
QVIT_API const char *qvit_version_string(void);

/* ---- 3. Status ------------------------------------------------------------------------------------ */

/*
 * What a call came to. 0 is success, everything else an error; treat a value that you do not know as an
 * error. The text in qvit_error says more.
 */
typedef int32_t qvit_status;
enum {
    QVIT_OK = 0,
    QVIT_ERR_ARGUMENT = 1,    /* a NULL, an unknown constant, a setting that makes no sense             */
    QVIT_ERR_SHAPE = 2,       /* sizes or strides that do not fit each other, or a size of zero          */
    QVIT_ERR_UNSUPPORTED = 3, /* meaningful, but this version does not do it; never silently replaced    */
    QVIT_ERR_NO_MEMORY = 4,   /* the allocator returned NULL, or the size does not fit a size_t          */
    QVIT_ERR_STATE = 5,       /* too early or too late: a result before solve, a site after observe      */
    QVIT_ERR_FORMAT = 6,      /* damaged input bytes; qvit_error.offset says where                       */
    QVIT_ERR_VERSION = 7,     /* input bytes of a version that is too new                                */
    QVIT_ERR_CHECKSUM = 8,    /* input bytes that do not match their checksum                            */
    QVIT_ERR_IO = 9,          /* a reading or writing callback failed                                    */
    QVIT_ERR_EXECUTOR = 10,   /* the host's executor failed; outputs are undefined                       */
    QVIT_ERR_VALUE = 11,      /* a number that is NaN, infinite, or outside what the object allows       */
    QVIT_ERR_CANCELLED = 12   /* a progress callback asked to stop; what was finished before it is valid  */
};

/* A short name of a status, "shape"; "unknown" for a value that this version does not know. Static. */
QVIT_API const char *qvit_status_name(qvit_status status);

/*
 * Why a call failed: optional last argument of every call that can. Written whole on success too
 * (QVIT_OK, empty text), so it needs no initialisation.
 *
 *   status   what the call returned
 *   offset   where in input bytes the fault lies; 0 for everything that is not parsing
 *   text     one English sentence, NUL-terminated, for people and logs
 */
typedef struct qvit_error {
    qvit_status status;
    int32_t reserved;
    uint64_t offset;
    char text[240];
} qvit_error;

/* ---- 4. Hooks: memory, threads, log ---------------------------------------------------------------- */

/* Alignment, in bytes, of workspaces, and the largest alignment that an allocator is asked for. */
#define QVIT_ALIGNMENT 64

/*
 * Where the library's memory comes from. Both functions may be called from the threads that call the
 * library; never from inside an executor's task.
 *
 *   alloc   `size` bytes (> 0) aligned to `alignment` (a power of two), or NULL
 *   free    gives back what alloc returned, with the same size and alignment; never NULL
 */
typedef struct qvit_allocator {
    size_t struct_size;
    void *user;
    void *(*alloc)(void *user, size_t size, size_t alignment);
    void (*free)(void *user, void *memory, size_t size, size_t alignment);
} qvit_allocator;
#define QVIT_ALLOCATOR_INIT { sizeof(qvit_allocator), NULL, NULL, NULL }
QVIT_API void qvit_allocator_init(qvit_allocator *allocator);

/* One piece of work: `index` of count, done by worker number `worker`. */
typedef void qvit_task(void *argument, size_t index, size_t worker);

/*
 * How work is spread over the host's threads.
 *
 *   workers  how many tasks may run at once, >= 1; worker numbers are below it
 *   run      calls task(argument, i, w) exactly once for every i < count, in any order and on any thread,
 *            never two at once with the same w, and returns after the last has ended. Tasks never call
 *            run themselves, take no locks and allocate nothing. Anything but QVIT_OK is an error.
 *
 * Results do not depend on workers, on order or on which thread does what.
 */
typedef struct qvit_executor {
    size_t struct_size;
    void *user;
    size_t workers;
    qvit_status (*run)(void *user, size_t count, qvit_task *task, void *argument);
} qvit_executor;
#define QVIT_EXECUTOR_INIT { sizeof(qvit_executor), NULL, 1, NULL }
QVIT_API void qvit_executor_init(qvit_executor *executor);

/* How much a message matters. */
typedef int32_t qvit_log_level;
enum { QVIT_LOG_WARNING = 1, QVIT_LOG_INFO = 2 };

/* Where messages go: one finished line of text without a newline, valid during the call. */
typedef struct qvit_logger {
    size_t struct_size;
    void *user;
    void (*log)(void *user, qvit_log_level level, const char *text);
} qvit_logger;
#define QVIT_LOGGER_INIT { sizeof(qvit_logger), NULL, NULL }
QVIT_API void qvit_logger_init(qvit_logger *logger);

/* ---- 5. Engine ------------------------------------------------------------------------------------- */

/*
 * Instruction sets, as bits of a mask (they are no ladder). Scalar code needs no bit and is always
 * there. A kernel runs only where the CPU and the operating system offer all that it needs.
 */
#define QVIT_ISA_AVX2 (UINT64_C(1) << 0)       /* AVX2 with FMA                                        */
#define QVIT_ISA_AVX512VNNI (UINT64_C(1) << 2) /* AVX-512 F, BW, DQ, VL and VNNI                       */

/* The context of everything: hooks and the chosen kernels. Immutable; shared by all threads. */
typedef struct qvit_engine qvit_engine;

/*
 *   isa_disable  QVIT_ISA_* bits to leave out, for tests and comparisons
 *   allocator    NULL: malloc's family
 *   executor     NULL: the calling thread alone (with an OpenMP build: OpenMP's threads)
 *   logger       NULL: silence
 *
 * The hook structs are copied, their `user` pointers must outlive the engine.
 */
typedef struct qvit_engine_options {
    size_t struct_size;
    uint64_t isa_disable;
    const qvit_allocator *allocator;
    const qvit_executor *executor;
    const qvit_logger *logger;
} qvit_engine_options;
#define QVIT_ENGINE_OPTIONS_INIT { sizeof(qvit_engine_options), 0, NULL, NULL, NULL }
QVIT_API void qvit_engine_options_init(qvit_engine_options *options);

/*
 * Makes an engine: looks at the CPU once and fixes the kernels. options NULL: all defaults.
 * Errors: ARGUMENT (a hook without its functions, zero workers), NO_MEMORY.
 */
QVIT_API qvit_status qvit_engine_create(const qvit_engine_options *options, qvit_engine **out,
                                        qvit_error *error);
QVIT_API void qvit_engine_destroy(qvit_engine *engine);

/* The instruction sets that this engine uses (QVIT_ISA_* bits); 0 is scalar code, and for NULL. */
QVIT_API uint64_t qvit_engine_isa(const qvit_engine *engine);

/* The name of the newest instruction set in use: "scalar", "avx2", "avx512vnni". Static. */
QVIT_API const char *qvit_engine_isa_name(const qvit_engine *engine);

/* The number of workers of its executor, 1 without one. */
QVIT_API size_t qvit_engine_workers(const qvit_engine *engine);

/* ---- 6. Tensor ------------------------------------------------------------------------------------- */

/*
 * Element types. U4 and S4 are packed two to a byte along the last dimension, the low nibble first;
 * every row (all but the last dimension fixed) starts at a byte, so an odd row leaves its last high
 * nibble unused (written as 0). Codes of 2, 3, 5, 6 and 7 bits lie in U8 or S8.
 */
typedef int32_t qvit_dtype;
enum {
    QVIT_DTYPE_NONE = 0,
    QVIT_DTYPE_F32 = 1,
    QVIT_DTYPE_S32 = 2,
    QVIT_DTYPE_U8 = 3,
    QVIT_DTYPE_S8 = 4,
    QVIT_DTYPE_U4 = 5,
    QVIT_DTYPE_S4 = 6
};

#define QVIT_MAX_RANK 6

/*
 * A plain view of the caller's memory: element (i0, i1, ...) lies at data + sum(i * stride) elements.
 *
 *   rank     1..QVIT_MAX_RANK; dims[rank..] and strides[rank..] are ignored
 *   strides  in elements; 0 repeats (inputs only). The last stride must be 1 except where a call says
 *            otherwise. For U4 and S4 all other strides must be even.
 *
 * Data must be aligned to its element. A view is valid only while the memory is.
 */
typedef struct qvit_tensor {
    void *data;
    qvit_dtype dtype;
    int32_t rank;
    size_t dims[QVIT_MAX_RANK];
    ptrdiff_t strides[QVIT_MAX_RANK];
} qvit_tensor;

/*
 * Fills in a view of dense row-major memory (`rank` sizes in dims). An unusable rank or a NULL gives a
 * tensor of rank 0, which every call refuses.
 */
QVIT_API void qvit_tensor_init(qvit_tensor *tensor, void *data, qvit_dtype dtype, size_t rank,
                               const size_t *dims);

/* Bytes of dense memory for these sizes, 4-bit rows rounded up to a byte; 0 if they overflow. */
QVIT_API size_t qvit_tensor_bytes(qvit_dtype dtype, size_t rank, const size_t *dims);

/* ---- 7. Granularity -------------------------------------------------------------------------------- */

/*
 * How scales are shared over a matrix: row blocks times column blocks, at any boundaries, with an
 * optional order of rows and of columns. Layer = one block. Channel = a block for each row (weights) or
 * each column (activations). Sub-layer = anything between (PTQ-SL, arXiv 2110.07809). A tensor of rank
 * r is seen as a matrix: the last dimension is the columns, all others together are the rows.
 * Immutable.
 */
typedef struct qvit_granularity qvit_granularity;

/* A size that is not known: any number of rows or columns, in one block. */
#define QVIT_ANY SIZE_MAX

/*
 *   rows, cols   sizes of the matrix, or QVIT_ANY (then that side is one block without order)
 *   row_blocks   number of row blocks; 0 means 1
 *   row_bounds   row_blocks + 1 rising numbers from 0 to rows: block b is rows [b], [b + 1]; NULL: one
 *                block, or, with row_blocks == rows, every row its own
 *   row_order    NULL, or a permutation of `rows` numbers: place p of the partition holds row
 *                row_order[p], so blocks need not be neighbours in memory. Likewise for columns.
 *
 * Arrays are copied.
 */
typedef struct qvit_granularity_options {
    size_t struct_size;
    size_t rows, cols;
    size_t row_blocks, col_blocks;
    const size_t *row_bounds, *col_bounds;
    const size_t *row_order, *col_order;
} qvit_granularity_options;
#define QVIT_GRANULARITY_OPTIONS_INIT                                                              \
    { sizeof(qvit_granularity_options), QVIT_ANY, QVIT_ANY, 1, 1, NULL, NULL, NULL, NULL }
QVIT_API void qvit_granularity_options_init(qvit_granularity_options *options);

/*
 * Errors: ARGUMENT (an order that is no permutation), SHAPE (bounds that do not rise, start at 0 or end
 * at the size; more blocks than channels; a size of 0), NO_MEMORY.
 */
QVIT_API qvit_status qvit_granularity_create(const qvit_engine *engine,
                                             const qvit_granularity_options *options,
                                             qvit_granularity **out, qvit_error *error);
QVIT_API void qvit_granularity_destroy(qvit_granularity *granularity);

/* Number of blocks, and so of scales: row blocks times column blocks. 0 for NULL. */
QVIT_API size_t qvit_granularity_blocks(const qvit_granularity *granularity);

/*
 * The block of an element, row block * column blocks + column block: the index of its scale. QVIT_ANY
 * for a position outside the matrix.
 */
QVIT_API size_t qvit_granularity_block_of(const qvit_granularity *granularity, size_t row,
                                          size_t col);

/* ---- 8. Quantizer ---------------------------------------------------------------------------------- */

/*
 * How a number becomes a code of `bits` bits, b = 2^(bits - 1):
 *
 *   SYMMETRIC     S8: clamp(round(x / scale), -b, b - 1), or from -(b - 1) with QVIT_QUANTIZER_NARROW
 *   ASYMMETRIC    U8: clamp(round(x / scale) + zero_point, 0, 2b - 1)        (ONNX QuantizeLinear)
 *   TWIN_SOFTMAX  U8: x < b * scale: round(x / scale), at most b - 1; else b + round(x / scale2), at
 *                 most 2b - 1. The top bit says which range holds (PTQ4ViT, arXiv 2111.12293, 3.2).
 *   TWIN_GELU     S8: x < 0: round(x / scale), at least -b; else round(x / scale2), at most b - 1. The
 *                 sign says which range holds.
 *
 * round() is half to even, as are all roundings of the library. NaN becomes the lowest code (0 in a
 * twin). Codes of a S4 or U4 tensor: bits <= 4.
 */
typedef int32_t qvit_scheme;
enum {
    QVIT_SCHEME_SYMMETRIC = 1,
    QVIT_SCHEME_ASYMMETRIC = 2,
    QVIT_SCHEME_TWIN_SOFTMAX = 3,
    QVIT_SCHEME_TWIN_GELU = 4
};

/*
 * Names of a quantizer's parameter arrays. Each has one value for every block of the granularity, in
 * the order of qvit_granularity_block_of. New schemes bring new keys.
 */
typedef int32_t qvit_parameter_key;
enum {
    QVIT_PARAMETER_SCALE = 1,      /* F32, > 0: every scheme                                           */
    QVIT_PARAMETER_ZERO_POINT = 2, /* S32, 0..2^bits - 1: ASYMMETRIC; 0 if left out                    */
    QVIT_PARAMETER_SCALE2 = 3      /* F32, > 0: the second range of the twins                          */
};

/* One array of parameters: `count` values of F32 or S32 at data. */
typedef struct qvit_parameter {
    qvit_parameter_key key;
    qvit_dtype dtype;
    size_t count;
    const void *data;
} qvit_parameter;

/* Symmetric codes leave out the lowest one. 8-bit weights and right operands of products need it. */
#define QVIT_QUANTIZER_NARROW (UINT32_C(1) << 0)

/* A scheme with its parameters. Immutable. */
typedef struct qvit_quantizer qvit_quantizer;

/*
 *   bits         2..8
 *   flags        QVIT_QUANTIZER_*
 *   granularity  NULL: layer. Copied, like everything here.
 */
typedef struct qvit_quantizer_options {
    size_t struct_size;
    qvit_scheme scheme;
    int32_t bits;
    uint32_t flags;
    const qvit_granularity *granularity;
    const qvit_parameter *parameters;
    size_t parameter_count;
} qvit_quantizer_options;
#define QVIT_QUANTIZER_OPTIONS_INIT                                                                \
    { sizeof(qvit_quantizer_options), QVIT_SCHEME_SYMMETRIC, 8, 0, NULL, NULL, 0 }
QVIT_API void qvit_quantizer_options_init(qvit_quantizer_options *options);

/*
 * Errors: ARGUMENT (unknown scheme, key or flag, bits outside 2..8, a key missing, twice or not of this
 * scheme), SHAPE (an array that does not have a value for each block), VALUE (a scale that is not
 * positive, finite and normal; a zero point outside the codes), NO_MEMORY.
 */
QVIT_API qvit_status qvit_quantizer_create(const qvit_engine *engine,
                                           const qvit_quantizer_options *options,
                                           qvit_quantizer **out, qvit_error *error);
QVIT_API void qvit_quantizer_destroy(qvit_quantizer *quantizer);

/* What it was made of. 0, or QVIT_DTYPE_NONE, for NULL. The code type is U8 or S8. */
QVIT_API qvit_scheme qvit_quantizer_scheme(const qvit_quantizer *quantizer);
QVIT_API int32_t qvit_quantizer_bits(const qvit_quantizer *quantizer);
QVIT_API uint32_t qvit_quantizer_flags(const qvit_quantizer *quantizer);
QVIT_API qvit_dtype qvit_quantizer_code_dtype(const qvit_quantizer *quantizer);

/* Its granularity, owned by the quantizer and valid as long. NULL for NULL. */
QVIT_API const qvit_granularity *qvit_quantizer_granularity(const qvit_quantizer *quantizer);

/*
 * Finds a parameter array; the data stays the quantizer's. Errors: ARGUMENT (NULL, or a key that this
 * quantizer does not have; *out is then all zero).
 */
QVIT_API qvit_status qvit_quantizer_parameter(const qvit_quantizer *quantizer, qvit_parameter_key key,
                                              qvit_parameter *out, qvit_error *error);

/*
 * Numbers to codes (F32 to U8, S8, U4 or S4), codes to numbers, and numbers to the numbers that their
 * codes mean (F32 to F32; out may be the same memory). Same dims on both sides; any strides. Clear and
 * exact rather than fast: a qvit_quantize plan does the same with kernels and threads.
 * Errors: ARGUMENT, SHAPE (dims differ, or differ from the granularity's sizes), UNSUPPORTED (types).
 */
QVIT_API qvit_status qvit_quantizer_encode(const qvit_quantizer *quantizer, const qvit_tensor *in,
                                           const qvit_tensor *codes, qvit_error *error);
QVIT_API qvit_status qvit_quantizer_decode(const qvit_quantizer *quantizer, const qvit_tensor *codes,
                                           const qvit_tensor *out, qvit_error *error);
QVIT_API qvit_status qvit_quantizer_fake(const qvit_quantizer *quantizer, const qvit_tensor *in,
                                         const qvit_tensor *out, qvit_error *error);

/*
 * One line about the quantizer, "asymmetric u8, 8 bits, layer, scale 0.0123, zero point 117". Writes at
 * most `size` bytes with the NUL and returns the length of the whole text, as snprintf does.
 */
QVIT_API size_t qvit_quantizer_describe(const qvit_quantizer *quantizer, char *text, size_t size);

/* ---- 9. Calibrator --------------------------------------------------------------------------------- */

/*
 * Watches a float model at its multiplications and chooses the quantizers. The host adds the sites, in
 * any number of calls shows what flows through them, and solves, all or some of the sites, as often as
 * it likes. Belongs to one thread at a time; uses the engine's executor inside.
 *
 * What is kept. Over all rows: minima and maxima (whole and per channel) and histograms of integers.
 * Besides, a sample of whole rows for the search: those with the smallest hash(seed, site, sample, row),
 * as many as the memory cap allows. Nothing depends on the order in which rows come: any batches,
 * partial samples, thread counts and orders lead to the same results, byte for byte.
 */
typedef struct qvit_calibrator qvit_calibrator;

/*
 *   seed       of the hash that chooses the rows
 *   max_bytes  cap of the kept rows of all sites together; 0: 256 MiB. Every site gets the same share.
 *   max_rows   rows kept for a linear site, at most; 0: 1024. Of a matmul site's left operand the same
 *              number of rows is kept, and whole right operands.
 */
typedef struct qvit_calibrator_options {
    size_t struct_size;
    uint64_t seed;
    uint64_t max_bytes;
    size_t max_rows;
} qvit_calibrator_options;
#define QVIT_CALIBRATOR_OPTIONS_INIT { sizeof(qvit_calibrator_options), 0, 0, 0 }
QVIT_API void qvit_calibrator_options_init(qvit_calibrator_options *options);

/* options NULL: all defaults. Errors: ARGUMENT, NO_MEMORY. */
QVIT_API qvit_status qvit_calibrator_create(const qvit_engine *engine,
                                            const qvit_calibrator_options *options,
                                            qvit_calibrator **out, qvit_error *error);
QVIT_API void qvit_calibrator_destroy(qvit_calibrator *calibrator);

/* What a site multiplies: activations by weights, or activations by activations (Q K^T, P V). */
typedef int32_t qvit_site_type;
enum { QVIT_SITE_LINEAR = 1, QVIT_SITE_MATMUL = 2 };

/* Where a site's input comes from; recipes treat some kinds in their own way. */
typedef int32_t qvit_input_kind;
enum {
    QVIT_INPUT_GENERIC = 0,
    QVIT_INPUT_LAYER_NORM = 1,
    QVIT_INPUT_SOFTMAX = 2, /* in [0, 1]                                                              */
    QVIT_INPUT_GELU = 3,    /* at least -0.17                                                         */
    QVIT_INPUT_IMAGE = 4    /* whole numbers 0..255, which stay as they are: scale 1, 8 bits           */
};

/*
 *   name    for messages and reports; copied, NULL: none
 *   weight  linear sites: F32 [outputs, inputs], borrowed until the calibrator is destroyed
 *   bias    linear sites: F32 [outputs], borrowed, or NULL
 *   heads   matmul sites: number of heads, each with scales of its own; 0: 1
 *   second_transposed  matmul sites: the second operand is [.., n, k] (K of Q K^T), not [.., k, n]
 */
typedef struct qvit_site_options {
    size_t struct_size;
    const char *name;
    qvit_site_type type;
    qvit_input_kind input_kind;
    const qvit_tensor *weight;
    const qvit_tensor *bias;
    size_t heads;
    int32_t second_transposed;
    int32_t reserved;
} qvit_site_options;
#define QVIT_SITE_OPTIONS_INIT                                                                     \
    { sizeof(qvit_site_options), NULL, QVIT_SITE_LINEAR, QVIT_INPUT_GENERIC, NULL, NULL, 1, 0, 0 }
QVIT_API void qvit_site_options_init(qvit_site_options *options);

/*
 * Adds a site; sites are numbered from 0 in the order in which they are added (*out, may be NULL).
 * Errors: STATE (something was observed already), SHAPE, VALUE (a weight is NaN or infinite), ARGUMENT,
 * NO_MEMORY.
 */
QVIT_API qvit_status qvit_calibrator_add_site(qvit_calibrator *calibrator,
                                              const qvit_site_options *options, size_t *out,
                                              qvit_error *error);

/*
 * What ties sites together:
 *
 *   INPUT     all read one tensor (a LayerNorm's output, read by several linear sites): they get the
 *             same input quantizer and the same input scale and shift
 *   PRODUCER  the first site's output, past its activation, is the second's input (fc1 to fc2, P V to
 *             proj): the second may be equalised per channel, and the first one's result carries as
 *             OUTPUT_SCALE and OUTPUT_SHIFT what its plan must apply
 */
typedef int32_t qvit_tie;
enum { QVIT_TIE_INPUT = 1, QVIT_TIE_PRODUCER = 2 };

/*
 * Ties `count` sites (>= 2; exactly 2 for PRODUCER). Errors: STATE (after observing), SHAPE (their
 * sizes do not fit), ARGUMENT (no such site, tied already, kinds that differ), NO_MEMORY.
 */
QVIT_API qvit_status qvit_calibrator_tie(qvit_calibrator *calibrator, qvit_tie tie,
                                         const size_t *sites, size_t count, qvit_error *error);

/*
 * What flowed through a site in one batch, or in part of one: every tensor is optional.
 *
 *   site          its number
 *   first_sample  number of the first sample in the whole calibration set
 *   first_row     number, inside its sample, of the tensors' first row
 *   input            linear: [samples, rows, inputs], or [samples, inputs] for one row a sample;
 *                    matmul: left operand [samples, heads, rows, k]. F32, or U8 for IMAGE sites.
 *   input_quantized  the same rows behind an already quantized prefix of the model: solving with
 *                    use_quantized fits what the site will really see to the float model's output
 *   second           matmul: right operand, whole: [samples, heads, n, k] or [samples, heads, k, n]
 *   second_quantized the same behind a quantized prefix
 *   gradient         of the loss at the site's output, pre-bias: [samples, rows, outputs] or
 *                    [samples, heads, rows, n]; for metrics that weigh the error by it
 *
 * Any strides. The parts of a row may come in separate calls, in any order; each part of a row
 * comes once. Errors: SHAPE, VALUE (NaN or infinite), STATE (a part of a kept row came twice),
 * ARGUMENT, NO_MEMORY. Of a call that failed nothing is kept.
 */
typedef struct qvit_observation {
    size_t struct_size;
    size_t site;
    uint64_t first_sample;
    uint64_t first_row;
    const qvit_tensor *input;
    const qvit_tensor *input_quantized;
    const qvit_tensor *second;
    const qvit_tensor *second_quantized;
    const qvit_tensor *gradient;
} qvit_observation;
#define QVIT_OBSERVATION_INIT                                                                      \
    { sizeof(qvit_observation), 0, 0, 0, NULL, NULL, NULL, NULL, NULL }
QVIT_API void qvit_observation_init(qvit_observation *observation);

QVIT_API qvit_status qvit_calibrator_observe(qvit_calibrator *calibrator,
                                             const qvit_observation *observation, qvit_error *error);

/*
 * How to solve.
 *
 *   sites, site_count  which sites; NULL, 0: all. Tied sites must be solved together.
 *   recipe             one of qvit_recipe_name(); NULL: "minmax"
 *   weight_bits        2..8, of every weight; 0: 8
 *   input_bits         2..8, of every other operand; 0: 8
 *   settings           setting_count texts "key=value" that change single choices of the recipe:
 *
 *       twin=none|softmax|gelu|softmax,gelu   twin quantizers for inputs of these kinds (none)
 *       input=asymmetric|symmetric            plain inputs of linear sites (asymmetric); the left operand
 *                                             of a matmul of GENERIC kind is always SYMMETRIC, so that
 *                                             Q, K and V can be one tensor
 *       weights=row|layer                     a scale for each output or one for all (row)
 *       percentile=50..100                    of |x| kept by the percentile recipe (99.99)
 *       low=, high=, candidates=              grid of the searches: multiples of the max-based scale
 *                                             (0.5, 1.2, 100)
 *       rounds=1..10                          alternations of weight and input search (1)
 *       equalize=0..1                         divide channel c of an input whose producer can apply it
 *                                             (INPUT_LAYER_NORM, or tied to its PRODUCER) by
 *                                             (range of c / mean range)^value, folded into weights (0)
 *
 *   use_quantized      nonzero: inputs are those behind the quantized prefix where observed
 *   progress           called between sites, and often enough to cancel soon, from the calling thread
 *                      with the share done in [0, 1]; nonzero cancels
 */
typedef struct qvit_solve_options {
    size_t struct_size;
    const size_t *sites;
    size_t site_count;
    const char *recipe;
    int32_t weight_bits, input_bits;
    const char *const *settings;
    size_t setting_count;
    int32_t use_quantized;
    int32_t reserved;
    int32_t (*progress)(void *user, double done, const char *site);
    void *user;
} qvit_solve_options;
#define QVIT_SOLVE_OPTIONS_INIT                                                                    \
    { sizeof(qvit_solve_options), NULL, 0, NULL, 8, 8, NULL, 0, 0, 0, NULL, NULL }
QVIT_API void qvit_solve_options_init(qvit_solve_options *options);

/*
 * The recipes, by index from 0; NULL past the last. Static strings.
 *
 *   minmax      scales from the largest and smallest values seen
 *   percentile  the same of a percentile of the histogram
 *   mse         search for the scales with the least squared error of the site's output
 *   cosine      the same for the largest cosine similarity ("Base PTQ" of PTQ4ViT, after EasyQuant,
 *               arXiv 2006.16669): weight and input scale alternate, 100 candidates in [0.5, 1.2] x max
 */
QVIT_API const char *qvit_recipe_name(size_t index);

/*
 * Solves: afterwards qvit_calibrator_result gives each solved site's result. Solving again replaces it.
 * options NULL: all defaults. Errors: STATE (a site of which nothing was observed), ARGUMENT (unknown
 * recipe or setting), CANCELLED (sites finished before stay solved), UNSUPPORTED, NO_MEMORY, EXECUTOR.
 */
QVIT_API qvit_status qvit_calibrator_solve(qvit_calibrator *calibrator,
                                           const qvit_solve_options *options, qvit_error *error);

/*
 * What solving found for one site. Immutable, and independent of the calibrator, which may be destroyed
 * first (the engine may not).
 */
typedef struct qvit_result qvit_result;

/* A new handle on the last result of a site; the caller destroys it. Errors: STATE (not solved). */
QVIT_API qvit_status qvit_calibrator_result(const qvit_calibrator *calibrator, size_t site,
                                            qvit_result **out, qvit_error *error);
QVIT_API void qvit_result_destroy(qvit_result *result);

/* The parts of a result. */
typedef int32_t qvit_result_key;
enum {
    QVIT_RESULT_INPUT = 1,        /* quantizer of the (left) input                                     */
    QVIT_RESULT_SECOND = 2,       /* quantizer of the weights, or of the right operand                 */
    QVIT_RESULT_WEIGHT_CODES = 3, /* S8, or S4 for 4 bits and less: [outputs, inputs]                  */
    QVIT_RESULT_BIAS = 4,         /* F32 [outputs]: the bias, with all corrections; may be absent       */
    QVIT_RESULT_INPUT_SCALE = 5,  /* F32 [inputs]: the producer of the input writes                    */
    QVIT_RESULT_INPUT_SHIFT = 6,  /*     (x - shift) / scale instead of x; absent: 1 and 0             */
    QVIT_RESULT_OUTPUT_SCALE = 7, /* F32 [outputs]: the same for the consumer that is tied to          */
    QVIT_RESULT_OUTPUT_SHIFT = 8, /*     this site's output; absent: 1 and 0                           */
    QVIT_RESULT_INPUT_ORDER = 9,  /* S32 [inputs]: order in which the codes' columns stand, and in     */
    QVIT_RESULT_OUTPUT_ORDER = 10 /*     which the producer writes; absent: as given                   */
};

/* The quantizer under a key (INPUT, SECOND), owned by the result. NULL: no such thing. */
QVIT_API const qvit_quantizer *qvit_result_quantizer(const qvit_result *result, qvit_result_key key);

/*
 * The tensor under a key: a view of the result's memory. A part that is absent gives QVIT_OK with
 * data NULL. Errors: ARGUMENT (NULL, or not a key of a tensor).
 */
QVIT_API qvit_status qvit_result_tensor(const qvit_result *result, qvit_result_key key,
                                        qvit_tensor *out, qvit_error *error);

/*
 * Bytes to store the weights of this site: codes at their width, and their scales. 0 for matmul sites.
 */
QVIT_API size_t qvit_result_weight_bytes(const qvit_result *result);

/* ---- 10. Plans ------------------------------------------------------------------------------------- */

/*
 * One operation, ready to run: operands packed, kernels chosen. Made from codes, quantizers and
 * biases; a plan never quantizes weights. Everything given at creation is copied. Immutable: any number
 * of threads may run one plan at once, each with its own workspace and output. Running allocates
 * nothing. Outputs must not overlap inputs, except a residual that is the output itself.
 */
typedef struct qvit_plan qvit_plan;
QVIT_API void qvit_plan_destroy(qvit_plan *plan);

/*
 * What a plan's operand or output is made of: an element type, and the quantizer that gives codes their
 * meaning, or NULL for floats. dtype QVIT_DTYPE_NONE: no such operand. The types must be those of the
 * quantizer (its code type, or U4 and S4 for up to 4 bits of weights).
 */
typedef struct qvit_port {
    qvit_dtype dtype;
    int32_t reserved;
    const qvit_quantizer *quantizer;
} qvit_port;

/* What is applied to a linear plan's sums. GELU is x Phi(x), within 1.3e-6. */
typedef int32_t qvit_activation;
enum { QVIT_ACTIVATION_NONE = 0, QVIT_ACTIVATION_GELU = 1 };

/*
 * Linear: out = encode((activation(in * W^T + bias) + residual - output_shift) / output_scale).
 *
 *   input     codes of a layer quantizer of any scheme; or F32 with weights F32 (a float layer, in
 *             float32, outside the promise of equal bits)
 *   weight    S8 or S4 codes, SYMMETRIC, granularity layer or row blocks (8 bits: NARROW); or F32
 *   weights   the codes, or floats: [outputs, inputs]
 *   bias      F32 [outputs] or NULL
 *   residual  F32, or codes of a uniform layer quantizer; same sizes as the output
 *   output    codes (uniform or TWIN_GELU; granularity over columns), F32, or S32: the bare integer sums
 *             (input zero point taken off) of plain inputs, without anything that follows
 *   output_scale, output_shift  F32 [outputs] or NULL: a result's OUTPUT_ or the consumer's INPUT_
 */
typedef struct qvit_linear_options {
    size_t struct_size;
    qvit_port input, weight, residual, output;
    const qvit_tensor *weights;
    const qvit_tensor *bias;
    qvit_activation activation;
    int32_t reserved;
    const qvit_tensor *output_scale;
    const qvit_tensor *output_shift;
} qvit_linear_options;
#define QVIT_LINEAR_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(qvit_linear_options), {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, NULL, \
            NULL, QVIT_ACTIVATION_NONE, 0, NULL, NULL                                              \
    }
QVIT_API void qvit_linear_options_init(qvit_linear_options *options);

/*
 * Errors: ARGUMENT, SHAPE, UNSUPPORTED (ports that this version cannot join; a layer whose int32 sums
 * could overflow), VALUE (weights, bias or scales that are not finite; codes outside their width),
 * NO_MEMORY.
 */
QVIT_API qvit_status qvit_linear_create(const qvit_engine *engine, const qvit_linear_options *options,
                                        qvit_plan **out, qvit_error *error);

/*
 *   input     [.., inputs], any leading dimensions and strides, rank 1..QVIT_MAX_RANK
 *   residual  as the output; NULL exactly if the plan has none
 *   output    [.., outputs], leading dimensions as the input's
 *   workspace workspace_size bytes, aligned to QVIT_ALIGNMENT; used during the call only
 */
typedef struct qvit_linear_args {
    size_t struct_size;
    const qvit_tensor *input;
    const qvit_tensor *residual;
    const qvit_tensor *output;
    void *workspace;
    size_t workspace_size;
} qvit_linear_args;
#define QVIT_LINEAR_ARGS_INIT { sizeof(qvit_linear_args), NULL, NULL, NULL, NULL, 0 }
QVIT_API void qvit_linear_args_init(qvit_linear_args *args);

/* Bytes of workspace for up to `rows` rows in one run. 0 for NULL; SIZE_MAX if it does not fit. */
QVIT_API size_t qvit_linear_workspace_size(const qvit_plan *plan, size_t rows);

/* Errors: ARGUMENT, SHAPE, EXECUTOR. A NaN in a float residual gives the lowest code, or NaN. */
QVIT_API qvit_status qvit_linear_run(const qvit_plan *plan, const qvit_linear_args *args,
                                     qvit_error *error);

/*
 * Matmul: out = encode(scale * left * right), head by head, both operands activations.
 *
 *   left      codes of any scheme, layer or one column block for each head (heads blocks over heads * k
 *             columns); or F32 with right F32
 *   right     SYMMETRIC S8 codes (8 bits: NARROW), layer or one column block for each head; or F32
 *   output    F32, S32 (bare sums, plain left), or codes, uniform, layer or one block for each head
 *   heads     0: 1
 *   right_transposed  nonzero: right is [.., n, k], else [.., k, n]
 *   scale     a factor, as d^-1/2 of attention scores; 0: 1
 */
typedef struct qvit_matmul_options {
    size_t struct_size;
    qvit_port left, right, output;
    size_t heads;
    int32_t right_transposed;
    float scale;
} qvit_matmul_options;
#define QVIT_MATMUL_OPTIONS_INIT                                                                   \
    { sizeof(qvit_matmul_options), {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, 1, 0, 1.0f }
QVIT_API void qvit_matmul_options_init(qvit_matmul_options *options);
QVIT_API qvit_status qvit_matmul_create(const qvit_engine *engine, const qvit_matmul_options *options,
                                        qvit_plan **out, qvit_error *error);

/*
 *   left    [batch, heads, m, k], any strides but the last (1); rank 4
 *   right   [batch, heads, n, k] or [batch, heads, k, n]
 *   output  [batch, heads, m, n]
 */
typedef struct qvit_matmul_args {
    size_t struct_size;
    const qvit_tensor *left;
    const qvit_tensor *right;
    const qvit_tensor *output;
    void *workspace;
    size_t workspace_size;
} qvit_matmul_args;
#define QVIT_MATMUL_ARGS_INIT { sizeof(qvit_matmul_args), NULL, NULL, NULL, NULL, 0 }
QVIT_API void qvit_matmul_args_init(qvit_matmul_args *args);

/* Workspace for products of up to m x k by k x n, any batch. Errors of run: as linear; UNSUPPORTED if
 * k is so long that int32 sums could overflow. */
QVIT_API size_t qvit_matmul_workspace_size(const qvit_plan *plan, size_t m, size_t n, size_t k);
QVIT_API qvit_status qvit_matmul_run(const qvit_plan *plan, const qvit_matmul_args *args,
                                     qvit_error *error);

/*
 * Attention: out = encode(softmax(score_scale * Q K^T + bias + mask) V), for each head, from codes to
 * codes in one call; scores and probabilities never leave the processor's caches.
 *
 *   query        uniform codes; layer, or one column block for each head
 *   key, value   SYMMETRIC S8 codes (8 bits: NARROW); layer, or one column block for each head
 *   probability  what the softmax writes and V is multiplied by: layer, ASYMMETRIC with zero point 0,
 *                SYMMETRIC or TWIN_SOFTMAX
 *   output       F32 or uniform codes; granularity over the heads * head_dim columns
 *   output_scale, output_shift  F32 [heads * head_dim] or NULL
 *
 * Or everything F32, without quantizers: a float attention, outside the promise of equal bits.
 */
typedef struct qvit_attention_options {
    size_t struct_size;
    qvit_port query, key, value, probability, output;
    size_t heads, head_dim;
    float score_scale;
    int32_t reserved;
    const qvit_tensor *output_scale;
    const qvit_tensor *output_shift;
} qvit_attention_options;
#define QVIT_ATTENTION_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(qvit_attention_options), {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL},    \
            {0, 0, NULL}, 1, 0, 1.0f, 0, NULL, NULL                                                \
    }
QVIT_API void qvit_attention_options_init(qvit_attention_options *options);
QVIT_API qvit_status qvit_attention_create(const qvit_engine *engine,
                                           const qvit_attention_options *options, qvit_plan **out,
                                           qvit_error *error);

/*
 *   query, output   [batch, query tokens, heads, head_dim]; any strides but the last (1), so that a
 *                   joint qkv tensor can be used in place
 *   key, value      [batch, key tokens, heads, head_dim]
 *   bias, mask      F32 [batch or 1, heads or 1, query tokens, key tokens] or NULL: added to the
 *                   scores, bias first. -infinity masks; a row that is all masked gives 0.
 *   query_rows      NULL, or S32 [batch, query tokens]: windows. Query and output then are
 *                   [1, all rows, heads, head_dim], and token t of window b is row query_rows[b][t] of
 *                   both. key_rows likewise for key and value.
 *   scores, probabilities  NULL, or F32 [batch, heads, query tokens, key tokens]: float plans only; also
 *                   written: the scores Q K^T before scale, bias and mask, and the softmax
 */
typedef struct qvit_attention_args {
    size_t struct_size;
    const qvit_tensor *query;
    const qvit_tensor *key;
    const qvit_tensor *value;
    const qvit_tensor *bias;
    const qvit_tensor *mask;
    const qvit_tensor *query_rows;
    const qvit_tensor *key_rows;
    const qvit_tensor *output;
    const qvit_tensor *scores;
    const qvit_tensor *probabilities;
    void *workspace;
    size_t workspace_size;
} qvit_attention_args;
#define QVIT_ATTENTION_ARGS_INIT                                                                   \
    {                                                                                              \
        sizeof(qvit_attention_args), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,   \
            NULL, 0                                                                                \
    }
QVIT_API void qvit_attention_args_init(qvit_attention_args *args);

/* Workspace for up to these token counts, any batch. Errors of run: as linear; VALUE (a row index
 * outside the tensor). */
QVIT_API size_t qvit_attention_workspace_size(const qvit_plan *plan, size_t query_tokens,
                                              size_t key_tokens);
QVIT_API qvit_status qvit_attention_run(const qvit_plan *plan, const qvit_attention_args *args,
                                        qvit_error *error);

/*
 * Layer normalisation: out = encode((LN(in) - output_shift) / output_scale), LN over the last dimension
 * with gamma and beta (F32 [channels]) and eps added to the variance.
 *
 *   output  F32, or codes: uniform, granularity over columns
 *   output_scale, output_shift  F32 [channels] or NULL: the consumer's INPUT_SCALE and INPUT_SHIFT
 */
typedef struct qvit_layer_norm_options {
    size_t struct_size;
    const qvit_tensor *gamma;
    const qvit_tensor *beta;
    float eps;
    int32_t reserved;
    qvit_port output;
    const qvit_tensor *output_scale;
    const qvit_tensor *output_shift;
} qvit_layer_norm_options;
#define QVIT_LAYER_NORM_OPTIONS_INIT                                                               \
    { sizeof(qvit_layer_norm_options), NULL, NULL, 1e-6f, 0, {0, 0, NULL}, NULL, NULL }
QVIT_API void qvit_layer_norm_options_init(qvit_layer_norm_options *options);
QVIT_API qvit_status qvit_layer_norm_create(const qvit_engine *engine,
                                            const qvit_layer_norm_options *options, qvit_plan **out,
                                            qvit_error *error);

/*
 * Quantize: out = encode(in), what qvit_quantizer_encode does, with kernels and threads.
 *
 *   output  codes of any scheme; granularity over columns, or QVIT_ANY
 */
typedef struct qvit_quantize_options {
    size_t struct_size;
    qvit_port output;
} qvit_quantize_options;
#define QVIT_QUANTIZE_OPTIONS_INIT { sizeof(qvit_quantize_options), {0, 0, NULL} }
QVIT_API void qvit_quantize_options_init(qvit_quantize_options *options);
QVIT_API qvit_status qvit_quantize_create(const qvit_engine *engine,
                                          const qvit_quantize_options *options, qvit_plan **out,
                                          qvit_error *error);

/* Arguments of the plans without workspace: F32 [.., channels] in, the same dims out; any strides but
 * the last (1). */
typedef struct qvit_unary_args {
    size_t struct_size;
    const qvit_tensor *input;
    const qvit_tensor *output;
} qvit_unary_args;
#define QVIT_UNARY_ARGS_INIT { sizeof(qvit_unary_args), NULL, NULL }
QVIT_API void qvit_unary_args_init(qvit_unary_args *args);
QVIT_API qvit_status qvit_layer_norm_run(const qvit_plan *plan, const qvit_unary_args *args,
                                         qvit_error *error);
QVIT_API qvit_status qvit_quantize_run(const qvit_plan *plan, const qvit_unary_args *args,
                                       qvit_error *error);

/* ---- 11. Introspection ----------------------------------------------------------------------------- */

/*
 * The name of the kernel that does a plan's main work, "gemm_u8s8_14x32_avx512vnni". Static; "" for
 * NULL.
 */
QVIT_API const char *qvit_plan_kernel(const qvit_plan *plan);

/*
 * One line about a plan: its operation and sizes, its kernels and why these. Writes at most `size`
 * bytes with the NUL and returns the length of the whole text, as snprintf does.
 *
 *     linear 576 x 192, u8 x s8 -> s8: gemm_u8s8_14x32_avx512vnni; newest of scalar avx2 avx512vnni
 */
QVIT_API size_t qvit_plan_describe(const qvit_plan *plan, char *text, size_t size);

/* Bytes that the plan's packed operands and vectors take. 0 for NULL. */
QVIT_API size_t qvit_plan_packed_bytes(const qvit_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
