/*
 * qvit.h - post-training quantization of vision transformers, and the kernels that execute it.
 *
 * libqvit gives an inference engine both halves of quantization. The first half watches the float
 * model and chooses: a *calibrator* is shown what flows into every multiplication (a *site*), and
 * solves for quantizers, integer weight codes and biases. The second half runs: a *plan* is made
 * from those numbers, holds packed operands and the best kernels that the CPU offers, and computes.
 * The host keeps its own graph, memory and threads, and drives both halves itself.
 *
 *   float weights, activations --observe--> calibrator --solve--> results (quantizers, codes, bias)
 *   codes, quantizers, bias    --create---> plans      --run----> codes or floats
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
 *   Errors     Every call that can fail returns a qvit_status and takes, last, an optional
 *              qvit_error that says what was wrong. Nothing aborts, prints, or reads the
 *              environment. A failed call leaves its objects as they were and sets the handle that
 *              it would have made to NULL; a run checks everything before it writes. Two
 *              exceptions: a solve that fails half way keeps the sites that it had finished, and
 *              after QVIT_ERR_EXECUTOR outputs are undefined. Any pointer may be NULL: a required
 *              one gives QVIT_ERR_ARGUMENT, and a question that cannot fail answers it with 0, NULL
 *              or "" unless it says otherwise.
 *   Ownership  Who creates destroys; destroying NULL does nothing. Tensors are views of the
 *              caller's memory and are only read or written during the call that takes them, except
 *              where "borrowed" is written. Options, arguments and arrays are copied: they may lie
 *              on the stack. An engine must outlive everything made with it.
 *   Threads    Engines, granularities, quantizers, results and plans never change once made: any
 *              number of threads may use one at once. A calibrator belongs to one thread at a time.
 *              An object is destroyed when no other thread uses it any more; objects of one engine
 *              may be made and destroyed by several threads at once.
 *   Structs    A struct that begins with struct_size may grow at its end in later versions. Start
 *              it from its _INIT macro, then set fields. A newer library takes an older, shorter
 *              struct and uses the default for each field that it lacks; in a field added later 0
 *              will mean that default too. An older library takes a longer struct while the part
 *              that it does not know is zero, and else says UNSUPPORTED: no wish is silently
 *              ignored. A struct_size below that of the first release gives ARGUMENT. A struct
 *              without struct_size never changes. Fields named reserved stay 0.
 *   Init       qvit_NAME_init(struct, size) does what the _INIT macro does, for languages without
 *              the preprocessor. size is that of the caller's struct, which may be older or newer
 *              than the library: no more is written. NULL, or a size too small for struct_size,
 *              does nothing.
 *   Numbers    Sizes and counts are in elements, strides in elements; what is in bytes says so.
 *              Integer results and quantized outputs are the same bit for bit on every instruction
 *              set, thread count and batch split; so are the floats that a plan over codes, a layer
 *              norm or a decode writes, but for which NaN a NaN is. Outside this promise are plans
 *              over F32 operands: the same for every thread count and batch split, but not on every
 *              instruction set, as some fuse a multiplication with an addition. All this holds in
 *              the default rounding mode (to nearest, ties to even).
 *   Order      engine; calibrator, sites, ties, observations, solving, results; plans from the
 *              results; one workspace; runs. Then destroy in the reverse order, the engine last.
 *              Plans copy all that they need: results, calibrator and float weights may go before
 *              they run.
 *   Limits     Rank 1 to 6, every size at least 1, four bytes times the number of elements at most
 *              PTRDIFF_MAX. At most 2^32 - 1 rows or columns in a granularity. Site names are cut
 *              after 63 bytes, error texts after 239, descriptions of plans after 199.
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

/*
 * How a vision transformer maps onto sites and plans. n images, t tokens (the class token and p
 * patches), width c, heads h of d = c / h columns, f columns inside the MLP. U8 and S8 are what
 * solving with its default settings gives at any width from 2 to 8 bits.
 *
 *   step         site: type, input kind         plan: input -> output      output
 *   patch embed  LINEAR IMAGE                   linear  U8, + F32 -> F32   [n, p, c], see Positions
 *   norm1        none; writes qkv's input       layer_norm  F32 -> U8      [n, t, c]
 *   qkv          LINEAR LAYER_NORM              linear  U8 -> S8           [n, t, 3 c]
 *   Q K^T        MATMUL GENERIC, transposed     attention  S8 -> U8        [n, t, h, d], the same
 *   P V          MATMUL SOFTMAX                   (one plan for both)        memory as [n, t, c]
 *   proj         LINEAR GENERIC                 linear  U8, + F32 -> F32   [n, t, c], in place
 *   norm2        none; writes fc1's input       layer_norm  F32 -> U8      [n, t, c]
 *   fc1          LINEAR LAYER_NORM              linear, GELU  U8 -> U8     [n, t, f]
 *   fc2          LINEAR GELU                    linear  U8, + F32 -> F32   [n, t, c], in place
 *   final norm   none; writes the head's input  layer_norm  F32 -> U8      [n, c], class tokens
 *   head         LINEAR LAYER_NORM              linear  U8 -> F32          [n, classes]
 *
 *   Ties         PRODUCER (P V, proj) and PRODUCER (fc1, fc2). A model with separate q, k and v
 *                layers also ties the three by INPUT; a joint qkv layer is one site and needs no
 *                tie.
 *   Ports        A plan's input port is its own site's QVIT_RESULT_INPUT; its output port is the
 *                QVIT_RESULT_INPUT of the site that reads it. So norm1 writes with qkv's quantizer
 *                and fc1 with fc2's (S8 if that is a twin); what goes into the stream is F32.
 *   Scales       Give a norm the output_scale and output_shift of its consumer (INPUT_SCALE,
 *                INPUT_SHIFT), and every other plan those of its own result (OUTPUT_SCALE,
 *                OUTPUT_SHIFT; the attention those of P V). A tensor whose data is NULL means none:
 *                pass NULL, not the tensor.
 *   Pixels       Rows of bytes, one row a patch, go in as they are. Fold (x / 255 - mean) / std
 *                into the layer before it is given to its site: w / (255 std) for the weight, and
 *                b - sum(w mean / std) for the bias, with mean and std of the pixel's colour. The
 *                weight's columns stand in the order of the pixels.
 *   Positions    are the residual of the patch embedding, with stride 0 along n. Its output is the
 *                stream from the second token on: data + c, strides {t c, c, 1}. The class token,
 *                its position already added, is copied in front by the host.
 *   Q, K, V      stay in the joint tensor. The qkv plan's output quantizer has a block for each of its
 *                3 h d columns: the scales of Q K^T's INPUT, of its SECOND, and of P V's SECOND, each
 *                repeated for the columns that share it, SYMMETRIC, and NARROW at 8 bits as K and V
 *                must be. The attention's ports keep the three quantizers as solving gave them.
 *   Residuals    proj and fc2 add to the stream in place: residual and output are the same tensor.
 *   Final norm   needs class tokens only: its input is the stream as {n, c} with strides {t c, 1}.
 *   Memory       One workspace of the largest size that any plan asks for serves all of them, as
 *                they run one after the other.
 *
 * What to observe, in floats: the input of each LINEAR site (U8 pixels, [n, p, inputs]; all others
 * [n, t, columns], the head's [n, c]), queries and keys at Q K^T, probabilities and values at P V,
 * each [n, h, t, d or t], strided views of the float model's qkv tensor. A float attention plan
 * hands the probabilities out. examples/vit is this table as a program.
 */

/* ---- 1. Version ------------------------------------------------------------------------------ */

/*
 * The version of this header. Before 1.0 every minor version may change the binary interface, and
 * carries a soname of its own, libqvit.so.0.1; a patch version changes neither. To know at run time
 * whether header and library are of one version:
 *
 *     qvit_version_number() / 1000 == QVIT_VERSION_MAJOR * 1000 + QVIT_VERSION_MINOR
 */
#define QVIT_VERSION_MAJOR 0
#define QVIT_VERSION_MINOR 1
#define QVIT_VERSION_PATCH 0

/* ---- 2. Linkage ------------------------------------------------------------------------------ */

/*
 * Marks what the shared library exports; everything else in it is hidden. The library needs libc
 * and libm alone (an OpenMP build also OpenMP's run time), and has no writable data of its own: two
 * copies in one process do not disturb each other.
 */
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

/* ---- 3. Status ------------------------------------------------------------------------------- */

/*
 * What a call came to. 0 is success, everything else an error; treat a value that you do not know
 * as an error. The text in qvit_error says more.
 *
 * What to do about one: ARGUMENT, SHAPE and VALUE are mistakes in what was passed, and come again
 * with the same call. UNSUPPORTED is a combination to avoid, or a library that is older than the
 * header. STATE is a wrong order of calls. NO_MEMORY and EXECUTOR come from the host's own hooks,
 * and the call may be repeated as it was. CANCELLED is the host's own wish.
 *
 * ARGUMENT is also a tensor of another type than the plan's port, data that is not aligned to its
 * element, a plan of another operation, and a workspace that is NULL, too small or not aligned.
 * FORMAT, VERSION, CHECKSUM and IO come from reading and writing the state of a calibrator alone.
 */
typedef int32_t qvit_status;
enum {
    QVIT_OK = 0,
    QVIT_ERR_ARGUMENT = 1,    /* a NULL, an unknown constant, a setting that makes no sense       */
    QVIT_ERR_SHAPE = 2,       /* sizes or strides that do not fit each other, or a size of zero   */
    QVIT_ERR_UNSUPPORTED = 3, /* meaningful, but not done by this version; never replaced         */
    QVIT_ERR_NO_MEMORY = 4,   /* the allocator returned NULL, or the size does not fit a size_t   */
    QVIT_ERR_STATE = 5,       /* too early or late: a result before solve, a site after observe   */
    QVIT_ERR_FORMAT = 6,      /* damaged input bytes; qvit_error.offset says where                */
    QVIT_ERR_VERSION = 7,     /* input bytes of a version that is too new                         */
    QVIT_ERR_CHECKSUM = 8,    /* input bytes that do not match their checksum                     */
    QVIT_ERR_IO = 9,          /* a reading or writing callback failed                             */
    QVIT_ERR_EXECUTOR = 10,   /* the host's executor failed; outputs are undefined                */
    QVIT_ERR_VALUE = 11,      /* a number that is NaN, infinite, or outside what is allowed       */
    QVIT_ERR_CANCELLED = 12   /* a progress callback asked to stop; what it had finished is valid */
};

/*
 * A short name of a status, "shape" or "no memory", for logs; "unknown" for a value that this
 * version does not know. A static string. Any thread, never fails.
 */
QVIT_API const char *qvit_status_name(qvit_status status);

/*
 * Why a call failed: optional last argument of every call that can. Written whole on success too
 * (QVIT_OK, empty text), so it needs no initialisation.
 *
 *   status   what the call returned
 *   offset   where in input bytes the fault lies; 0 for everything that is not parsing
 *   text     one English sentence, NUL-terminated, for people and logs; its wording may change
 *
 * The struct is the caller's; give every thread its own. The text names the argument, the place and
 * the number: "output: size 1 is 196, the input's is 197".
 */
typedef struct qvit_error {
    qvit_status status;
    int32_t reserved;
    uint64_t offset;
    char text[240];
} qvit_error;

/* ---- 4. Hooks: memory, threads, log ---------------------------------------------------------- */

/*
 * Alignment, in bytes, of workspaces, and the largest alignment that an allocator is asked for.
 * Tensors need only that of their elements. Sizes of workspaces are multiples of it, as
 * aligned_alloc wants.
 */
#define QVIT_ALIGNMENT 64

/*
 * Where the library's memory comes from. Both functions may be called from the threads that call
 * the library; never from inside an executor's task.
 *
 *   user    handed to both functions, otherwise untouched
 *   alloc   `size` bytes (> 0), not cleared, aligned to `alignment` (a power of two), or NULL
 *   free    gives back what alloc returned, with the same size and alignment; never NULL
 *
 * Asked by everything that makes or destroys an object, and by adding sites, observing, solving and
 * allocating bits; never by runs, encoding, decoding or questions. Must be fit for several threads
 * if the host makes or destroys objects on several. A NULL from alloc makes the call fail with
 * NO_MEMORY, and nothing leaks. Sizes include 64 bytes in front of each block, where its size is
 * noted, and are rounded up to 64.
 */
typedef struct qvit_allocator {
    size_t struct_size;
    void *user;
    void *(*alloc)(void *user, size_t size, size_t alignment);
    void (*free)(void *user, void *memory, size_t size, size_t alignment);
} qvit_allocator;
#define QVIT_ALLOCATOR_INIT { sizeof(qvit_allocator), NULL, NULL, NULL }

/* Sets both functions to NULL: fill them in, or engine creation refuses the struct. */
QVIT_API void qvit_allocator_init(qvit_allocator *allocator, size_t size);

/*
 * One piece of work: `index` of count, done by worker number `worker`, which picks its part of the
 * workspace. `argument` is what run was given, and is valid until run returns.
 */
typedef void qvit_task(void *argument, size_t index, size_t worker);

/*
 * How work is spread over the host's threads.
 *
 *   workers  how many tasks may run at once, >= 1; worker numbers are below it
 *   run      calls task(argument, i, w) exactly once for every i < count, in any order and on any
 *            thread, never two at once with the same w, and returns after the last has ended. Tasks
 *            never call run themselves, take no locks and allocate nothing. Anything but QVIT_OK is
 *            an error.
 *
 * Results do not depend on workers, on order or on which thread does what. What the tasks wrote
 * must be visible to the calling thread when run returns, and what it wrote before must be visible
 * to them.
 *
 * A run of a plan asks for at most `workers` tasks of about equal size; a search asks for one task
 * a candidate, so count may be far above workers. A single task is done by the calling thread as
 * worker 0 without asking run, and so is everything with workers 1. Two threads that run plans of
 * one engine call run at the same time, each with worker numbers from 0: a pool that can do one job
 * at a time must make the second wait. Workspaces grow with workers (section 10), whether or not a
 * run is large enough to use them all.
 */
typedef struct qvit_executor {
    size_t struct_size;
    void *user;
    size_t workers;
    qvit_status (*run)(void *user, size_t count, qvit_task *task, void *argument);
} qvit_executor;
#define QVIT_EXECUTOR_INIT { sizeof(qvit_executor), NULL, 1, NULL }

/* Sets one worker and run to NULL: fill run in, or engine creation refuses the struct. */
QVIT_API void qvit_executor_init(qvit_executor *executor, size_t size);

/* How much a message matters. */
typedef int32_t qvit_log_level;
enum { QVIT_LOG_WARNING = 1, QVIT_LOG_INFO = 2 };

/*
 * Where messages go: one finished line of text without a newline, valid during the call. log may be
 * called from any thread that calls the library, never from an executor's task. INFO tells which
 * instruction sets an engine uses and what every plan became (as qvit_plan_describe); WARNING what
 * looks wrong but is no error, such as a site whose input was always 0.
 */
typedef struct qvit_logger {
    size_t struct_size;
    void *user;
    void (*log)(void *user, qvit_log_level level, const char *text);
} qvit_logger;
#define QVIT_LOGGER_INIT { sizeof(qvit_logger), NULL, NULL }

/* Sets log to NULL: fill it in, or engine creation refuses the struct. */
QVIT_API void qvit_logger_init(qvit_logger *logger, size_t size);

/* ---- 5. Engine ------------------------------------------------------------------------------- */

/*
 * Instruction sets, as bits of a mask (they are no ladder). Scalar code needs no bit and is always
 * there. A kernel runs only where the CPU and the operating system offer all that it needs. All other
 * kernels need AVX2's bit beside their own: without it only scalar code is left. Kernels other than
 * scalar ones exist for x86-64, compiled by gcc or clang.
 *
 * AVX2VNNI is vpdpbusd on 256 bits. The library uses its EVEX encoding, which takes AVX-512 VL and VNNI:
 * wherever it runs AVX512VNNI does, too, and is preferred; leaving that out spares CPUs that lower
 * their clock for 512 bits. A library that was compiled with -DQVIT_AVX_VNNI uses the VEX encoding
 * instead, which takes AVX-VNNI and no AVX-512 (Alder Lake and later).
 */
#define QVIT_ISA_AVX2 (UINT64_C(1) << 0)       /* AVX2 with FMA                       */
#define QVIT_ISA_AVX2VNNI (UINT64_C(1) << 1)   /* VNNI on 256 bits, as said above     */
#define QVIT_ISA_AVX512VNNI (UINT64_C(1) << 2) /* AVX-512 F, BW, DQ, VL and VNNI      */

/*
 * The context of everything: hooks and the chosen kernels. Immutable; shared by all threads. A
 * process may have several, say one with a pool for large batches and one without for single
 * images; but a plan runs with the executor and the kernels of the engine that it was made with.
 */
typedef struct qvit_engine qvit_engine;

/*
 *   isa_disable  QVIT_ISA_* bits to leave out, for tests and comparisons; other bits are ignored
 *   allocator    NULL: malloc's family
 *   executor     NULL: the calling thread alone (with an OpenMP build: as many of OpenMP's threads
 *                as omp_get_max_threads() says when the engine is made)
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
QVIT_API void qvit_engine_options_init(qvit_engine_options *options, size_t size);

/*
 * Makes an engine: looks at the CPU once and fixes the kernels. options NULL: all defaults. The
 * caller destroys it, after everything that was made with it. Any thread.
 * Errors: ARGUMENT (a hook without its functions, workers outside 1..2^31), NO_MEMORY.
 */
QVIT_API qvit_status qvit_engine_create(const qvit_engine_options *options, qvit_engine **out,
                                        qvit_error *error);

/*
 * Frees the engine's own memory through its allocator. It does not wait for runs, and does not know
 * of the objects made with it: they keep a pointer to it even for their own destruction.
 */
QVIT_API void qvit_engine_destroy(qvit_engine *engine);

/*
 * The instruction sets whose kernels this engine uses (QVIT_ISA_* bits). A table of kernels needs all
 * of its bits: without AVX2 those of AVX-512 are left out too. 0 is scalar code, and for NULL.
 */
QVIT_API uint64_t qvit_engine_isa(const qvit_engine *engine);

/*
 * The name of the newest instruction set in use: "scalar", "avx2", "avx2vnni", "avx512vnni". Static;
 * "" for NULL. Worth a line in the host's log: it is the first thing that a report about speed must say.
 */
QVIT_API const char *qvit_engine_isa_name(const qvit_engine *engine);

/* The number of workers of its executor, 1 without one (OpenMP builds: its threads). 0 for NULL. */
QVIT_API size_t qvit_engine_workers(const qvit_engine *engine);

/* ---- 6. Tensor ------------------------------------------------------------------------------- */

/*
 * Element types. U8 and S8 hold codes of any width; U4 and S4 those of 2 to 4 bits, S6 those of 2
 * to 6. F32 is IEEE binary32, S32 and F32 have the machine's byte order.
 *
 * U4, S4 and S6 are packed along the last dimension, low bits first, negative codes in two's
 * complement: two codes of U4 or S4 in a byte, four codes of S6 in three bytes.
 *
 *     U4, S4   byte 0: code 0 in bits 0..3, code 1 in bits 4..7
 *     S6       of byte 0 + 256 * byte 1 + 65536 * byte 2: code i in bits 6 i .. 6 i + 5
 *
 * Every row (all but the last dimension fixed) starts at a byte and takes such groups whole: bits
 * behind its last code are unused, written as 0 and never looked at.
 *
 * Where they may stand: encode and decode take all three, a linear plan takes weights of all three,
 * and results hold weights of up to 4 bits as S4, of 5 and 6 bits as S6. Activations are one code
 * to a byte at every width.
 */
typedef int32_t qvit_dtype;
enum {
    QVIT_DTYPE_NONE = 0,
    QVIT_DTYPE_F32 = 1,
    QVIT_DTYPE_S32 = 2,
    QVIT_DTYPE_U8 = 3,
    QVIT_DTYPE_S8 = 4,
    QVIT_DTYPE_U4 = 5,
    QVIT_DTYPE_S4 = 6,
    QVIT_DTYPE_S6 = 7
};

#define QVIT_MAX_RANK 6

/*
 * A plain view of the caller's memory: element (i0, i1, ...) lies at data + sum(i * stride)
 * elements.
 *
 *   rank     1..QVIT_MAX_RANK; dims[rank..] and strides[rank..] are ignored
 *   strides  in elements; 0 repeats (inputs only). The last stride must be 1 except where a call
 *            says otherwise. All other strides must be even for U4 and S4, and multiples of four
 *            for S6.
 *
 * Data must be aligned to its element. A view is valid only while the memory is. Of a dimension of
 * size 1 the stride does not matter. A host fills in the struct by hand or starts from
 * qvit_tensor_init and changes strides; views that are needed all the time, with data counted in
 * elements:
 *
 *     class tokens of a [n, t, c] stream  data,      {n, c},        strides {t c, 1}
 *     patches of the same stream          data + c,  {n, t - 1, c}, strides {t c, c, 1}
 *     keys of a joint [n, t, 3 c] tensor  data + c,  {n, t, h, d},  strides {3 t c, 3 c, d, 1}
 *     the same, heads first (for a site)  data + c,  {n, h, t, d},  strides {3 t c, d, 3 c, 1}
 *     one [t, c] residual for every image data,      {n, t, c},     strides {0, c, 1}
 *
 * What every call checks: data and dtype (ARGUMENT), rank, sizes, strides, and no stride of 0 in an
 * output (SHAPE). That the memory is there, and that outputs do not overlap inputs, it cannot
 * check.
 */
typedef struct qvit_tensor {
    void *data;
    qvit_dtype dtype;
    int32_t rank;
    size_t dims[QVIT_MAX_RANK];
    ptrdiff_t strides[QVIT_MAX_RANK];
} qvit_tensor;

/*
 * Fills in a view of dense row-major memory (`rank` sizes in dims); rows of U4, S4 and S6 start at
 * a byte, so their strides are those of a last size rounded up to two or to four. An unusable rank
 * or dims NULL gives a tensor of rank 0 with data NULL, which every call refuses; data NULL stays
 * NULL, and is refused as well. Checks nothing else, allocates nothing. Any thread.
 */
QVIT_API void qvit_tensor_init(qvit_tensor *tensor, void *data, qvit_dtype dtype, size_t rank,
                               const size_t *dims);

/*
 * Bytes of dense memory for these sizes, rows of U4 and S4 rounded up to a byte, of S6 to three; 0
 * if they overflow, and for a rank or type that is none. What a host allocates before
 * qvit_tensor_init.
 */
QVIT_API size_t qvit_tensor_bytes(qvit_dtype dtype, size_t rank, const size_t *dims);

/* ---- 7. Granularity -------------------------------------------------------------------------- */

/*
 * How scales are shared over a matrix: row blocks times column blocks, at any boundaries, with an
 * optional order of rows and of columns. Layer = one block. Channel = a block for each row
 * (weights) or each column (activations). Sub-layer = anything between (PTQ-SL, arXiv 2110.07809).
 * A tensor of rank r is seen as a matrix: the last dimension is the columns, all others together
 * are the rows. Immutable.
 *
 * What the plans take: weights in any blocks; inputs of layers, and outputs, in column blocks; operands
 * of products between activations one block, or one column block a head; V of attention also one a
 * column. Encoding and decoding take every granularity.
 *
 * What blocks cost. Row blocks of weights and column blocks of outputs nothing: a multiplier for each
 * output is read anyway. Column blocks of weights or of a layer's input end the integer sums of a linear
 * plan wherever one of the two changes along its k: what is summed so far is scaled and added in
 * float32, some 7 % of the time at blocks of 64 inputs, 5 % at 128, with AVX2 and 8-bit weights; of
 * 4-bit weights, whose products take less, 20 % and 10 %. With AVX-512 VNNI it has not been measured.
 * Channels of one block should be neighbours in memory, and the plans' orders (section 10) make them
 * so.
 */
typedef struct qvit_granularity qvit_granularity;

/*
 * A size that is not known: any number of rows or columns, in one block. Activations leave rows at
 * QVIT_ANY, so that any batch fits; plans insist on it for their outputs.
 */
#define QVIT_ANY SIZE_MAX

/*
 *   rows, cols   sizes of the matrix, or QVIT_ANY (then that side is one block without order)
 *   row_blocks   number of row blocks; 0 means 1
 *   row_bounds   row_blocks + 1 rising numbers from 0 to rows: block b is rows [b], [b + 1]; NULL:
 *                one block, or, with row_blocks == rows, every row its own
 *   row_order    NULL, or a permutation of `rows` numbers: place p of the partition holds row
 *                row_order[p], so blocks need not be neighbours. Likewise for columns. It only says
 *                which block each row belongs to, and moves nothing.
 *
 * Arrays are copied. The three granularities that a host writes by hand, with the fields that
 * differ from the _INIT macro:
 *
 *     layer             nothing (or no granularity at all: quantizers take NULL for it)
 *     weights by row    rows = row_blocks = outputs, cols = inputs
 *     heads of Q        cols = heads * head_dim, col_blocks = heads, col_bounds = {0, d, 2 d, ...}
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
QVIT_API void qvit_granularity_options_init(qvit_granularity_options *options, size_t size);

/*
 * Makes a granularity; the caller destroys it. Quantizers copy theirs, so it may go right after
 * they are made. options must not be NULL. Any thread.
 * Errors: ARGUMENT (an order that is no permutation; blocks without bounds, unless one for each row
 * or column), SHAPE (bounds that do not rise, start at 0 or end at the size; more blocks than
 * channels; a size of 0; blocks, bounds or an order on a side that is QVIT_ANY), NO_MEMORY.
 */
QVIT_API qvit_status qvit_granularity_create(const qvit_engine *engine,
                                             const qvit_granularity_options *options,
                                             qvit_granularity **out, qvit_error *error);
QVIT_API void qvit_granularity_destroy(qvit_granularity *granularity);

/* Number of blocks, and so of scales: row blocks times column blocks. 0 for NULL. */
QVIT_API size_t qvit_granularity_blocks(const qvit_granularity *granularity);

/*
 * The block of an element, row block * column blocks + column block: the index of its scale.
 * QVIT_ANY for a position outside the matrix, and for NULL. row and col are places in memory, not
 * in an order.
 */
QVIT_API size_t qvit_granularity_block_of(const qvit_granularity *granularity, size_t row,
                                          size_t col);

/* ---- 8. Quantizer ---------------------------------------------------------------------------- */

/*
 * How a number becomes a code of `bits` bits, b = 2^(bits - 1):
 *
 *   SYMMETRIC     S8: clamp(round(x / scale), -b, b - 1); from -(b - 1) if QVIT_QUANTIZER_NARROW
 *   ASYMMETRIC    U8: clamp(round(x / scale) + zero_point, 0, 2b - 1)       (ONNX QuantizeLinear)
 *   TWIN_SOFTMAX  U8: x < b * scale: round(x / scale), at most b - 1; else b + round(x / scale2),
 *                 at most 2b - 1. The top bit says which range holds (PTQ4ViT, arXiv 2111.12293,
 *                 3.2).
 *   TWIN_GELU     S8: x < 0: round(x / scale) + zero_point, at least -b; else round(x / scale2) +
 *                 zero_point, at most b - 1. The side of zero_point says which range holds.
 *
 * round() is half to even, as are all roundings of the library. NaN becomes the lowest code (that of 0 in
 * a twin). Codes of a U4 or S4 tensor: bits <= 4; of S6: bits <= 6.
 *
 * The division is a float32 division, as in ONNX QuantizeLinear; so is what a quantize plan does.
 * Plans that compute something first multiply by the reciprocal instead (section 10): of values
 * that lie on the edge between two codes they may choose the other one. Infinities saturate like
 * any large number.
 *
 * And back, in float32:
 *
 *   SYMMETRIC     code * scale
 *   ASYMMETRIC    (code - zero_point) * scale                               (ONNX DequantizeLinear)
 *   TWIN_SOFTMAX  code < b: code * scale; else (code - b) * scale2
 *   TWIN_GELU     code < zero_point: (code - zero_point) * scale; else (code - zero_point) * scale2
 *
 * Which to choose. ASYMMETRIC for inputs of layers: no code is wasted on values that do not occur.
 * SYMMETRIC where a product needs it: K, V; and Q, so that the three can be one tensor. Weights take
 * either, ASYMMETRIC up to 7 bits; at 4 bits AVX2 multiplies them up to a tenth slower. A twin spends
 * half of its codes on small values, where a softmax has nearly all of its own, or on the short
 * negative side of GELU. If one of its scales is 1 to 256 times the other, as in the paper (ratio= in
 * calibration), its ranges are joined (section 10), and the product that reads them takes no more time
 * than plain codes times 8-bit weights: where bytes hold the joined values, as of most softmaxes of 4
 * bits, and in linear plans with AVX2 where 16-bit integers do. Ranges that are summed apart take twice the multiplications and
 * up to twice the time; with AVX2 far more where a TWIN_GELU is so, and the most that a code is from its
 * zero point, times the largest |weight code|, is over 16384: scalar code does that.
 *
 * TWIN_GELU without a zero point halves its codes, as in the paper. But GELU's negative side is short:
 * 30 to 80 of 256 codes below the zero point and the others above it, of scales 8 times apart, take
 * a decibel off the noise of a whole ViT (uneven= in calibration), and at 6 bits nearly two.
 *
 * PTQ4ViT's own figures for its twins, ViT-S/224, per cent of top-1 at 8 and at 6 bits: with its
 * Hessian metric 80.93 and 77.20 without twins, 81.11 and 78.57 with softmax, 80.84 and 76.93 with
 * GELU, 81.00 and 78.63 with both; without that metric 80.47 and 70.24 without twins, 79.25 and 74.07
 * with both. So twins matter most below 8 bits: try softmax first, and keep what gains on the
 * host's own model.
 */
typedef int32_t qvit_scheme;
enum {
    QVIT_SCHEME_SYMMETRIC = 1,
    QVIT_SCHEME_ASYMMETRIC = 2,
    QVIT_SCHEME_TWIN_SOFTMAX = 3,
    QVIT_SCHEME_TWIN_GELU = 4
};

/*
 * Names of a quantizer's parameter arrays. Each has one value for every block of the granularity,
 * in the order of qvit_granularity_block_of. New schemes bring new keys. Scales are in the units of
 * the numbers that are encoded, per step of one code; the smallest is FLT_MIN, 1.18e-38.
 */
typedef int32_t qvit_parameter_key;
enum {
    QVIT_PARAMETER_SCALE = 1,      /* F32, > 0: every scheme                        */
    QVIT_PARAMETER_ZERO_POINT = 2, /* S32, a code: ASYMMETRIC, TWIN_GELU; 0 if left out */
    QVIT_PARAMETER_SCALE2 = 3      /* F32, > 0: the second range of the twins       */
};

/*
 * One array of parameters: `count` values of F32 or S32 at data, dense and aligned to four bytes.
 * In options the data is the caller's, read during the call; in answers it is the quantizer's.
 */
typedef struct qvit_parameter {
    qvit_parameter_key key;
    qvit_dtype dtype;
    size_t count;
    const void *data;
} qvit_parameter;

/*
 * Symmetric codes leave out the lowest one. 8-bit weights and right operands of products need it:
 * plans refuse the others. Below 8 bits they take both kinds, and the full range has one code more.
 * Other schemes cannot be narrow.
 */
#define QVIT_QUANTIZER_NARROW (UINT32_C(1) << 0)

/*
 * What is encoded is divided by the largest number of its row first: numbers between 0 and 1, however
 * flat a softmax is, where a probability may be nowhere above 1 / tokens. Only attention takes such
 * codes, for its probabilities: it encodes exp(score - the row's largest) and divides the context by
 * the sum of these (as SageAttention does, arXiv 2410.02367). Encoding and decoding see the divided
 * numbers. At 4 bits the noise of P V falls tenfold.
 */
#define QVIT_QUANTIZER_RELATIVE (UINT32_C(1) << 1)

/*
 * A scheme with its parameters: everything that gives codes their meaning, and nothing of how they
 * are computed. Solving makes them; a host makes its own to join several, or from numbers that it
 * stored.
 */
typedef struct qvit_quantizer qvit_quantizer;

/*
 *   bits         2..8; no 0 for a default here
 *   flags        QVIT_QUANTIZER_*
 *   granularity  NULL: layer. Copied, like everything here.
 *   parameters   parameter_count arrays, in any order: SCALE always, SCALE2 for the twins
 *
 * To store a quantizer: its scheme, bits, flags, parameter arrays, and the arguments of its
 * granularity, which qvit_granularity_block_of tells. Made again from these it encodes to the same bits.
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
QVIT_API void qvit_quantizer_options_init(qvit_quantizer_options *options, size_t size);

/*
 * Makes a quantizer; the caller destroys it. Plans copy what they need of it. options must not be
 * NULL. Any thread.
 * Errors: ARGUMENT (unknown scheme, key or flag, bits outside 2..8, a key missing, twice or not of
 * this scheme, an array of the wrong type), SHAPE (an array that does not have a value for each
 * block), VALUE (a scale that is not positive, finite and normal; a zero point outside the codes),
 * NO_MEMORY.
 */
QVIT_API qvit_status qvit_quantizer_create(const qvit_engine *engine,
                                           const qvit_quantizer_options *options,
                                           qvit_quantizer **out, qvit_error *error);
QVIT_API void qvit_quantizer_destroy(qvit_quantizer *quantizer);

/*
 * What it was made of. 0, or QVIT_DTYPE_NONE, for NULL. The code type is U8 or S8: what a port of a
 * plan and a tensor of activations are given as dtype. Weights of up to 6 bits are packed in
 * results, so take their dtype from the tensor of codes. Any thread, never fail.
 */
QVIT_API qvit_scheme qvit_quantizer_scheme(const qvit_quantizer *quantizer);
QVIT_API int32_t qvit_quantizer_bits(const qvit_quantizer *quantizer);
QVIT_API uint32_t qvit_quantizer_flags(const qvit_quantizer *quantizer);
QVIT_API qvit_dtype qvit_quantizer_code_dtype(const qvit_quantizer *quantizer);

/* Its granularity, owned by the quantizer and valid as long. NULL for NULL. */
QVIT_API const qvit_granularity *qvit_quantizer_granularity(const qvit_quantizer *quantizer);

/*
 * Finds a parameter array; the data stays the quantizer's, valid as long, and must not be written.
 * A quantizer made without zero points has none: take 0. Any thread. Errors: ARGUMENT
 * (NULL, or a key that this quantizer does not have; *out is then all zero).
 */
QVIT_API qvit_status qvit_quantizer_parameter(const qvit_quantizer *quantizer, qvit_parameter_key key,
                                              qvit_parameter *out, qvit_error *error);

/*
 * Numbers to codes (F32 to U8, S8, U4, S4 or S6), codes to numbers, and numbers to the numbers that
 * their codes mean (F32 to F32; out may be the same memory). Same dims on both sides; any strides,
 * also the last one, except of U4, S4 and S6. Clear and exact rather than fast: a qvit_quantize
 * plan does the same with kernels and threads.
 *
 *   in, codes, out  rank and dims are those of the granularity as a matrix, any where it says
 *                   QVIT_ANY
 *
 * Fake quantization is what to put into a float model to see what a quantizer costs, before any
 * plan exists. Decoding does not check that codes lie inside the quantizer's bits; it computes what
 * the formula says. Nothing is allocated, the calling thread does all of it, any number at once.
 * Errors: ARGUMENT (also numbers that are not F32), SHAPE (dims differ, or differ from the
 * granularity's sizes), UNSUPPORTED (a code type that cannot hold these codes).
 */
QVIT_API qvit_status qvit_quantizer_encode(const qvit_quantizer *quantizer, const qvit_tensor *in,
                                           const qvit_tensor *codes, qvit_error *error);
QVIT_API qvit_status qvit_quantizer_decode(const qvit_quantizer *quantizer, const qvit_tensor *codes,
                                           const qvit_tensor *out, qvit_error *error);
QVIT_API qvit_status qvit_quantizer_fake(const qvit_quantizer *quantizer, const qvit_tensor *in,
                                         const qvit_tensor *out, qvit_error *error);

/*
 * One line about the quantizer, "asymmetric u8, 8 bits, 1 x 1 blocks, scale 0.0123, zero point
 * 117"; of several blocks the numbers of the first. Writes at most `size` bytes with the NUL and
 * returns the length of the whole text, as snprintf does: text NULL or size 0 only asks for the
 * length. For people: the wording may change, and the decimal point is the locale's.
 */
QVIT_API size_t qvit_quantizer_describe(const qvit_quantizer *quantizer, char *text, size_t size);

/* ---- 9. Calibrator --------------------------------------------------------------------------- */

/*
 * Watches a float model at its multiplications and chooses the quantizers. The host adds the sites,
 * in any number of calls shows what flows through them, and solves, all or some of the sites, as
 * often as it likes. Belongs to one thread at a time; uses the engine's executor inside.
 *
 * What is kept. Over all rows: minima and maxima (whole and per channel) and histograms of
 * integers. Besides, a sample of whole rows for the search: those with the smallest hash(seed,
 * site, sample, row), as many as the memory cap allows; the first row of a sample, a transformer's
 * class token, is drawn sixteen times as often. Nothing depends on the order in which rows
 * come: any batches, partial samples, thread counts and orders lead to the same results, byte for
 * byte.
 *
 * What depends on what. The recipes without a search use the whole statistics: seed and sample do
 * not matter to them, and their results are those of every machine (with equalize, of every machine
 * with the same pow()). Searches use the sample, and compare with products of floats (rule
 * "Numbers"): on another instruction set two candidates of nearly equal score may change places.
 *
 * What it costs. Beside the sample: 40 KiB for the histogram of each operand that was seen, at
 * matmul sites of each of its heads. A histogram has 64 bins to an octave from 2^-24 to 2^16
 * for each sign. Observing runs on the calling thread alone; solving spreads its searches over the
 * executor.
 */
typedef struct qvit_calibrator qvit_calibrator;

/*
 *   seed       of the hash that chooses the rows: another one draws another sample of the same
 *              rows. Site numbers are hashed too, so add sites in the same order to draw the same
 *              sample.
 *   max_bytes  cap of the kept rows of all sites together; 0: 1 GiB. Every site gets the same
 *              share.
 *   max_rows   rows kept for a linear site, at most; 0: 1024; never more than 65536. Of a matmul
 *              site's left operand the same number of rows is kept for each head, and whole right
 *              operands.
 *
 * share = max_bytes / number of sites, and then
 *
 *   linear site  min(max_rows, share / (8 inputs + 8 outputs + 40)) rows: room for input, quantized
 *                input, gradient and target. Memory is taken only for the parts that really come.
 *   matmul site  for each head min(16, share / heads / (4 (2 n k + r (2 k + n)))) right operands,
 *                and with each r = max_rows / 16 (at least 1) left rows of the same sample and
 *                head.
 *
 * The defaults suit models up to ViT-S/16. For a ViT-B/16, 74 sites, they leave 524 rows at fc2,
 * 940 at qkv and 6 and 5 samples a head at Q K^T and P V; 2 GiB give 1024 rows everywhere.
 * For minmax and percentile, which need no sample, max_rows 1 saves most of its memory.
 */
typedef struct qvit_calibrator_options {
    size_t struct_size;
    uint64_t seed;
    uint64_t max_bytes;
    size_t max_rows;
} qvit_calibrator_options;
#define QVIT_CALIBRATOR_OPTIONS_INIT { sizeof(qvit_calibrator_options), 0, 0, 0 }
QVIT_API void qvit_calibrator_options_init(qvit_calibrator_options *options, size_t size);

/*
 * Makes a calibrator without sites; the caller destroys it. options NULL: all defaults. Any thread.
 * Errors: ARGUMENT, NO_MEMORY.
 */
QVIT_API qvit_status qvit_calibrator_create(const qvit_engine *engine,
                                            const qvit_calibrator_options *options,
                                            qvit_calibrator **out, qvit_error *error);

/* Ends the borrowing of weights and biases. Results that were fetched live on. */
QVIT_API void qvit_calibrator_destroy(qvit_calibrator *calibrator);

/* What a site multiplies: activations by weights, or activations by activations (Q K^T, P V). */
typedef int32_t qvit_site_type;
enum { QVIT_SITE_LINEAR = 1, QVIT_SITE_MATMUL = 2 };

/*
 * Where a site's input comes from; recipes treat some kinds in their own way. A linear site may be
 * of any kind but SOFTMAX, a matmul site is GENERIC or SOFTMAX; UNSUPPORTED otherwise. What each
 * decides, with default settings:
 *
 *   GENERIC     linear: U8 with a zero point. matmul: S8, a scale for each head
 *   LAYER_NORM  U8 with a zero point; may be equalised without a tie, as the norm can apply it
 *   SOFTMAX     U8 with zero point 0, one scale for all heads; a twin with twin=softmax; relative
 *               with probabilities=relative
 *   GELU        U8 with a zero point; S8 codes of a twin with twin=gelu
 *   IMAGE       U8, scale 1, zero point 0, 8 bits whatever input_bits says; observed as U8 or F32
 */
typedef int32_t qvit_input_kind;
enum {
    QVIT_INPUT_GENERIC = 0,
    QVIT_INPUT_LAYER_NORM = 1,
    QVIT_INPUT_SOFTMAX = 2, /* in [0, 1]                                                     */
    QVIT_INPUT_GELU = 3,    /* at least -0.17                                                */
    QVIT_INPUT_IMAGE = 4    /* whole numbers 0..255, which stay as they are: scale 1, 8 bits */
};

/*
 *   name    for messages and reports; copied, at most 63 bytes of it; NULL: none
 *   weight  linear sites: F32 [outputs, inputs], borrowed until the calibrator is destroyed: the
 *           data, which must not change meanwhile, not the struct. Any strides
 *   bias    linear sites: F32 [outputs], borrowed in the same way, or NULL (not a tensor without
 *           data)
 *   heads   matmul sites: number of heads, each with scales of its own; 0: 1. Linear sites: not
 *           read
 *   second_transposed  matmul sites: the second operand is [.., n, k] (K of Q K^T), not [.., k, n]
 *   output_parts  linear sites: the outputs are this many equal parts, one behind the other, as the
 *           three of a joint qkv layer; with weights=layer each has a scale of its own; 0: 1
 *
 * Matmul sites have neither weight nor bias (ARGUMENT); their k and n are those of the first
 * observation that shows them. A convolution whose stride is its kernel, as a patch embedding, is a
 * linear site over the pixels of a patch.
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
    size_t output_parts;
} qvit_site_options;
#define QVIT_SITE_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(qvit_site_options), NULL, QVIT_SITE_LINEAR, QVIT_INPUT_GENERIC, NULL, NULL, 1, 0,   \
            0, 1                                                                                   \
    }
QVIT_API void qvit_site_options_init(qvit_site_options *options, size_t size);

/*
 * Adds a site; sites are numbered from 0 in the order in which they are added (*out, may be NULL).
 * They belong to the calibrator and cannot be removed. Each one lessens the memory share of all.
 * *out is not written on failure.
 * Errors: STATE (something was observed already), SHAPE, VALUE (a weight or bias is NaN or
 * infinite), ARGUMENT, UNSUPPORTED (an input kind that this type of site cannot have), NO_MEMORY.
 */
QVIT_API qvit_status qvit_calibrator_add_site(qvit_calibrator *calibrator,
                                              const qvit_site_options *options, size_t *out,
                                              qvit_error *error);

/*
 * What ties sites together:
 *
 *   INPUT     all read one tensor (a LayerNorm's output, read by several linear sites): they get
 *             the same input quantizer and the same input scale and shift
 *   PRODUCER  the first site's output, past its activation, is the second's input (fc1 to fc2, P V
 *             to proj): the second may be equalised per channel, and the first one's result carries
 *             as OUTPUT_SCALE and OUTPUT_SHIFT what its plan must apply
 *
 * Without a PRODUCER tie solving never asks the first site for anything, and equalize leaves the
 * second one alone unless its input comes from a layer norm, whose plan the host makes from the
 * consumer's INPUT_SCALE. Do not tie where something else reads the same tensor unscaled.
 */
typedef int32_t qvit_tie;
enum { QVIT_TIE_INPUT = 1, QVIT_TIE_PRODUCER = 2 };

/*
 * Ties `count` sites (>= 2; exactly 2 for PRODUCER, {producer, consumer}). INPUT ties take linear
 * sites of one kind and one number of inputs, all of them in one call: a site can join one such tie
 * only. A site has at most one producer and one consumer; the consumer is a linear site, the
 * producer of either type. Each site keeps its own weights' scales, and is observed on its own.
 * Errors: STATE (after observing), SHAPE (their sizes do not fit), ARGUMENT (no such site, the same
 * one twice, tied already, kinds or types that differ).
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
 *   gradient         of the loss at the site's output: [samples, rows, outputs] or [samples, heads,
 *                    rows, n]; for metrics that weigh the error by its square
 *   target           linear: what the output, bias included, should be, [samples, rows, outputs];
 *                    absent, the float product of input, which then need not come. Behind a
 *                    quantized prefix a layer that adds to the stream may so be aimed at what
 *                    the stream lacks
 *
 * Any strides. The parts of a row may come in separate calls, in any order; each part of a row
 * comes once. Errors: SHAPE, VALUE (NaN or infinite), STATE (a part of a kept row came twice),
 * ARGUMENT, NO_MEMORY. Of a call that failed nothing is kept.
 *
 * How samples and rows are numbered. A sample is an image, a row a token of it. Numbers may have
 * gaps, samples may have different numbers of rows, and a process that sees images 500..999 says
 * first_sample 500; first_row plus the rows stays below 2^31. Batches that all say first_sample 0
 * are the mistake to avoid: they give STATE as soon as a row is among the kept, but a row that is
 * not kept is not remembered, and counts in the statistics as often as it comes. A linear input of
 * rank 2 makes every row a sample of its own.
 *
 *   first_row     is that of all but right operands, which are always whole
 *   matmul sites  k and n are the same in all calls, so Q K^T and P V want one number of key tokens
 *   gradient      must not come from a loss whose gradient is 0 at the float model, as that of the
 *                 distance to its own output is; a label drawn from the softmax, or the root of the
 *                 softmax's Fisher matrix times random signs, will do (examples/vit/probe.h)
 *
 * 32 images are what PTQ4ViT calibrates with; over 20 draws of them its authors report a standard
 * deviation of less than 0.1 point of top-1.
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
    const qvit_tensor *target;
} qvit_observation;
#define QVIT_OBSERVATION_INIT                                                                      \
    { sizeof(qvit_observation), 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL }
QVIT_API void qvit_observation_init(qvit_observation *observation, size_t size);

/*
 * Takes in what one site saw; the tensors are read during the call. Call it for each site as the
 * float model's pass goes by: nothing need be stored by the host. The first success closes the set
 * of sites and ties. ARGUMENT also says that max_bytes leaves this site not a single row. No
 * executor is used.
 */
QVIT_API qvit_status qvit_calibrator_observe(qvit_calibrator *calibrator,
                                             const qvit_observation *observation, qvit_error *error);

/*
 * Forgets what a site was shown behind a quantized prefix - input_quantized, second_quantized and
 * target - so that it may be shown again behind another one. What was seen of the float model stays.
 * Errors: ARGUMENT.
 */
QVIT_API qvit_status qvit_calibrator_forget(qvit_calibrator *calibrator, size_t site,
                                            qvit_error *error);

/*
 * Takes `size` bytes (> 0) of what is being written, which follow those of the call before, and are
 * read during the call. Nonzero says that they could not be taken, and ends the writing.
 */
typedef int32_t (*qvit_write)(void *user, const void *data, size_t size);

/*
 * The state of a calibrator is all that it observed, as bytes that every machine reads. With it a
 * calibration may stop and go on later in another process, or run in parts in several processes
 * whose states one calibrator loads. The host adds the same sites and ties to each of them, and
 * numbers the samples of all as those of one run.
 *
 * How observations were split shows nowhere: one run, any parts of it merged in any order, and a
 * run that was saved, loaded and continued have the same state and the same results, byte for byte.
 * Even the parts of a row may come from different runs.
 *
 * What a state holds: minima, maxima, histograms and kept rows, and what they belong to: seed,
 * max_bytes and max_rows, and of the sites their names, types, kinds, sizes, ties, and hashes of
 * weights and biases. Weights themselves and results are not in it. It is about as large as the
 * kept rows are, and ends with a checksum.
 *
 * Writes the state, in pieces of a few KiB; needs no memory but 10 KiB of stack. The calibrator may
 * have observed anything or nothing, and does not change. What was written before an error is of
 * no use.
 * Errors: ARGUMENT, IO (write returned nonzero).
 */
QVIT_API qvit_status qvit_calibrator_save(const qvit_calibrator *calibrator, qvit_write write,
                                          void *user, qvit_error *error);

/*
 * Adds a state to what the calibrator observed: afterwards it is as if it had seen all of it
 * itself. That closes the set of sites and ties, unless the state holds nothing. Results of sites
 * that are solved already stay until they are solved again. `data` is the whole state, at any
 * alignment, read during the call; any bytes are safe to pass. Of a call that failed nothing is
 * kept.
 *
 * Errors: FORMAT (no state, or a damaged one; qvit_error.offset says where), VERSION (a state that
 * is newer than the library), CHECKSUM, NO_MEMORY; STATE (saved with another seed or other limits,
 * or with other sites, and the text says what differs; or a part of a kept row came twice, as when
 * a state is loaded twice); ARGUMENT, also for a max_bytes that leaves a site nothing, as in
 * observing.
 */
QVIT_API qvit_status qvit_calibrator_load(qvit_calibrator *calibrator, const void *data,
                                          size_t size, qvit_error *error);

/*
 * How to solve.
 *
 *   sites, site_count  which sites; NULL, 0: all. Sites tied by INPUT must be solved together
 *   recipe             one of qvit_recipe_name(); NULL: "minmax"
 *   weight_bits        2..8, of every weight; 0: 8
 *   input_bits         2..8, of every other operand; 0: 8. IMAGE inputs stay at 8
 *   settings           setting_count texts "key=value" that change single choices of the recipe:
 *
 *       metric=mse|cosine|pearson|hessian|ranking   what a search looks for; gives recipes without a
 *                                             search one. ranking is pearson but at Q K^T
 *       twin=none|softmax|gelu|softmax,gelu   twin quantizers for inputs of these kinds (none)
 *       ratio=free|low|high|whole             what makes one scale of a twin GELU a multiple of the other,
 *                                             so that its ranges can be joined: nothing; the low one
 *                                             moves, up to twice as coarse, for a power of two; the
 *                                             high one, to the nearest power; the high one, to the
 *                                             nearest whole multiple (free). Softmax's are powers
 *       uneven=0..64                          of a twin GELU: the high scale is so many times the low
 *                                             one, and each range has as many codes as it then needs;
 *                                             0: either has half of them, and ratio= counts. Not with
 *                                             chunks, nor for over 65793 / (uneven + 1) inputs (0)
 *       input=asymmetric|symmetric            plain inputs of linear sites, and probabilities
 *                                             (asymmetric); the left operand of a matmul of GENERIC
 *                                             kind is always SYMMETRIC, so that Q, K and V can be
 *                                             one tensor
 *       weights=row|layer                     a scale for each output or one for all (row)
 *       weight-codes=symmetric|asymmetric     weights of up to 7 bits have zero points, too, which
 *                                             serves small blocks best; of 8 bits never (symmetric)
 *       row-blocks=0..65536                   scales over the outputs, each for a run of them of equal
 *                                             size; 0: as weights= says (0)
 *       column-blocks=1..65536                blocks of inputs with scales of their own (1); a search
 *                                             of them takes metric mse or hessian
 *       block-length=0..65536                 the same, by their largest length, a multiple of 4 (0)
 *       chunks=1..65536                       scales of the inputs of linear sites, IMAGE ones apart;
 *                                             each is a run of column blocks, of which there are then
 *                                             at least as many (1)
 *       reorder=none|sort|cluster|search      which inputs share a block, where their producer can
 *                                             write them in any order (INPUT_LAYER_NORM, or tied to its
 *                                             PRODUCER; behind attention inside each head, if every
 *                                             head has as many blocks): neighbours;
 *                                             those of one size, cut where it loses least; those that
 *                                             are large in the same outputs; the better of these two,
 *                                             improved by an evolutionary search (none)
 *       percentile=50..100                    per cent of the values that the percentile recipe
 *                                             keeps (99.99)
 *       low=, high=, candidates=              grid of the searches: multiples of the max-based
 *                                             scale (0.5, 1.2, 100), both 0.001..10, 1..10000
 *       grid=linear|inverse                   of the scale, or of one over it (linear)
 *       refine=0..100                         candidates around the best of the grid, in steps that
 *                                             divide one of the grid's; later rounds try only these
 *                                             (0: none, and every round tries the grid)
 *       rounds=1..20                          alternations of weight and input search, fewer if
 *                                             nothing changes any more (1)
 *       equalize=0..1                         divide channel c of an input whose producer can apply
 *                                             it (INPUT_LAYER_NORM, or tied to its PRODUCER) by
 *                                             (range of c / mean range)^value, and multiply the
 *                                             weights' column by as much (0)
 *       equalize-gelu=0..1                    the same for GELU inputs, if not 0
 *       channel-floor=, gelu-floor=           a channel's range counts as at least this part of that
 *                                             which a twentieth of the channels exceed (0)
 *       channels=as-is|centered               behind a layer norm also take the middle of a
 *                                             channel's range off it; the bias takes it back (as-is)
 *       clip=none|channels                    centre all inputs whose producer can apply it, each
 *                                             channel's range drawn in to where the squared error of
 *                                             its kept values is least (none)
 *       probabilities=absolute|relative       relative: QVIT_QUANTIZER_RELATIVE for inputs of SOFTMAX
 *                                             kind, which only attention plans take (absolute)
 *       values=head|channel                   with a search and a SOFTMAX input, a scale for each
 *                                             column of the second operand, which only attention
 *                                             plans take (head)
 *       margin=0..4                           stretch the range of the samples' first rows, the class
 *                                             tokens, by this part of what 1024 samples would show
 *                                             beyond those seen (0)
 *       headroom=0..4                         stretch the range of every channel by this part, that of
 *                                             Q, K and V by half of it; GELU's not below its least
 *                                             value, -0.17, if nothing below was seen (0)
 *       rounding=nearest|gptq                 of weights (nearest); gptq, arXiv 2210.17323, with scales
 *                                             that suit it
 *       damping=, passes=0..100               of gptq: 0.01 of the mean diagonal, sweeps of coordinate
 *                                             descent behind it (0)
 *       ridge=0..1000                         with gptq, weights first move to make up for the rounding
 *                                             of their inputs (ERQ, arXiv 2407.06794), the less the
 *                                             larger this is, in units of the inputs' energy (0: not)
 *       row-floor=0..1                        with gptq or corrected biases, kept rows count by the
 *                                             squared gradient at their output and by this part by the
 *                                             inverse of its energy (0.1); with clip=channels, too, where
 *                                             it is the energy of the input; without gradients, or where
 *                                             qvit_recipe_needs asks for none, by the latter alone
 *       bias=as-is|corrected                  the mean error of each output is taken off the bias (Liu
 *                                             et al., arXiv 2106.14156, 3.4) (as-is)
 *       sensitivity=gradient|nuclear          what QVIT_SCORE_LOSS weighs errors by (gradient)
 *       order=any|prefix                      prefix asks the host, by qvit_recipe_needs, to solve site
 *                                             after site behind the quantized prefix (any)
 *
 *                      Numbers are plain decimals, "0.5", in every locale; of a key that comes
 *                      twice the last one counts; a key that the recipe does not use is accepted.
 *   use_quantized      nonzero: inputs are those behind the quantized prefix where observed
 *   progress           called between sites, and often enough to cancel soon, from the calling
 *                      thread with the share done in [0, 1] and the name of the site, or of the
 *                      first of its tie; nonzero cancels. Every site counts alike, whatever its
 *                      size; a call that says 1 never comes. It must not call the calibrator
 *   user               handed to progress
 *
 * The scales that a range gives, and that searches start from, with r = 2^(bits - 1) - 1/2 for
 * symmetric codes, so that the largest value lies at the outer edge of the last one. A range of 0
 * gives scale 1.
 *
 *   SYMMETRIC     scale = max|x| / r
 *   ASYMMETRIC    scale = (max - min) / (2^bits - 1), zero_point = round(-min / scale), where
 *                 min <= 0 <= max
 *   TWIN_SOFTMAX  scale2 = 1 / (2^(bits - 1) - 1), scale = scale2 / 2^cut, cut 0..15. Not searched:
 *                 the cut with the least squared error of the histogram
 *   TWIN_GELU     scale = -min / 2^(bits - 1), scale2 = max / r, where min is -0.17 if nothing
 *                 negative was seen. Searches move scale2 alone. With uneven=m, max drawn in or out by
 *                 a search: c codes lie below the zero point, c the share of m * -min in max - m * min,
 *                 1 to 2^bits - 2, and 2^bits - 1 - c above it; scale2 = max / (2^bits - 1/2 - c), scale
 *                 = scale2 / m, at least -min / (c + 1), but for bits that would not let scale * m be
 *                 exact
 *
 * weights=row is the finer choice; it costs 4 bytes an output and no time, as the kernel multiplies
 * every column by a factor of its own anyway. weights=layer is for comparisons with methods that
 * are published that way.
 *
 * equalize is for inputs whose channels differ in range, as behind the layer norms of a ViT. To
 * divide a channel where it is produced and to multiply the weights' column by as much changes
 * nothing in exact arithmetic (SmoothQuant, arXiv 2211.10438, chooses the divisor from activations
 * and weights; RepQ-ViT, arXiv 2212.08254, takes the whole difference out of layer norms, which is
 * 1 here: all channels get one range). Divisors stay in 1/64..64; that of a channel of range 0 is
 * 1. What the inputs gain the weights may lose, so values between are worth a try. Ranges are those
 * of the values seen, with 0 in them; of an equalised input also in the percentile recipe.
 *
 * use_quantized fits to the float model's output what the site will really see: give the same rows
 * as input and input_quantized (and second, second_quantized). Sites solved one after the other,
 * each with the prefix that was already solved, is the host's loop: observe, solve with `sites`,
 * run, repeat.
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
QVIT_API void qvit_solve_options_init(qvit_solve_options *options, size_t size);

/*
 * The recipes, by index from 0; NULL past the last. Static strings.
 *
 *   minmax      scales from the largest and smallest values seen
 *   percentile  the same of a percentile of the histogram
 *   mse         search for the scales with the least squared error of the site's output
 *   cosine      the same for the largest cosine similarity ("Base PTQ" of PTQ4ViT, after EasyQuant,
 *               arXiv 2006.16669): weight and input scale alternate, 100 candidates each, from 0.5
 *               to 1.2 times the scale that the largest values give
 *   ptq4vit     as published (arXiv 2111.12293): symmetric, a scale for each weight matrix (each of
 *               its output_parts), twins for softmax and GELU with a free ratio, squared error weighed
 *               by the squared gradient, 3 rounds of 100 candidates from 0.3 to 1.2; the authors' grid
 *               begins at 0.01, low=0.01 here, from where a search over few images clips too far
 *   ptq4vit-fast  the same with 16 candidates, 6 around the best, 2 rounds
 *   liu2021     Pearson's correlation, at Q K^T less a ranking loss, up to 20 rounds of 40 candidates
 *               from 0.8 to 1.2, corrected biases (arXiv 2106.14156); a scale for each row, and inputs
 *               with a zero point. The paper's is input=symmetric, weights=layer and low=0.5
 *   easyquant   cosine similarity on a grid of 40 multipliers from 0.8 to 1.25 times that of the largest
 *               values, up to 20 rounds, behind the quantized prefix (arXiv 2006.16669); a scale for each
 *               row, and inputs with a zero point. The paper's is input=symmetric, low=0.5 and high=2, which
 *               clips too far
 *   aciq        draws ranges in towards where a Laplace or a normal distribution of the same moments,
 *               whichever is nearer, would lose least by clipping (arXiv 1810.05723), by as many
 *               eighths of the way as lessen the squared error of the values that were seen; no
 *               search; corrected biases
 *   best        what measured best at each width, and may change with every version: twin softmax,
 *               channels scaled and centered with room for what was not seen, corrected weights,
 *               gptq, corrected biases, behind the quantized prefix; at less than 8 bits for inputs
 *               relative probabilities, which attention plans alone take; at less than 6 also clipped
 *               channels, a scale for each column of V, and a search (metric mse or hessian); twins
 *               for GELU with uneven=8, but where weights have 5 bits or less and inputs 6 or more. Weights
 *               have a scale for every 64 inputs of an output, which are reordered, and those of up to 4 bits,
 *               at 6 or more for inputs, a zero point beside it; block-length=0 leaves blocks out: plans
 *               then run some per cent faster
 *   ptq-sl      sub-layer scales (arXiv 2110.07809): 4 x 4 blocks of each weight matrix, searched block
 *               by block for the error weighed by the squared gradient, 16 candidates from 0.4 to 1.2
 *               and 6 around the best, 2 rounds; channels ordered by clustering; twin softmax
 *
 * minmax is what to begin with: it needs no sample and costs one pass over the weights. percentile
 * lets go of outliers of activations: with input=symmetric it keeps that share of the |x|,
 * otherwise the rest is cut off at each of the two ends; weights keep their largest value.
 *
 * The searches try factor low + i (high - low) / candidates for i from 0: `high` itself is never
 * tried, and of equal scores the first wins. First the scales of the right operand (all rows of a
 * weight at once, each judged by its own output over the kept rows), then those of the left one
 * (judged by all outputs, row by row; of an INPUT tie by all its sites); TWIN_SOFTMAX tries its 16
 * cuts instead, IMAGE nothing. Candidates are encoded and multiplied by the kernels that will run,
 * before bias, activation and residual, and compared with the float product of the same rows.
 *
 * So a linear site costs 2 x rounds x candidates x rows x inputs x outputs multiplications of
 * codes, and a matmul site the same for each kept right operand. At the defaults a layer of 768 x
 * 3072 with 1024 rows takes 4.8e11 of them. Solving needs, for one tie at a time, a float copy of
 * weights, rows and target, and for each worker about inputs x (rows + 2 outputs) bytes.
 */
QVIT_API const char *qvit_recipe_name(size_t index);

/*
 * What solving with these options wants to have been observed: ROWS (kept rows: statistics alone do
 * not do), GRADIENT (errors are weighed by it; a search by metric=hessian is refused without it, the
 * rest of a recipe only does worse), PREFIX (input_quantized behind the quantized prefix, site after
 * site in the order of the model, and targets), MANY_ROWS (as many as there are inputs do not do: some
 * 3000 are better than the default 1024, and twice that below 6 bits). 0 also for options that solving
 * refuses. Any thread.
 */
enum {
    QVIT_NEEDS_ROWS = 1,
    QVIT_NEEDS_GRADIENT = 2,
    QVIT_NEEDS_PREFIX = 4,
    QVIT_NEEDS_MANY_ROWS = 8
};
QVIT_API uint32_t qvit_recipe_needs(const qvit_solve_options *options);

/*
 * Solves: afterwards qvit_calibrator_result gives each solved site's result. Solving again, with
 * the same observations or with more, replaces it; results that were fetched before stay as they
 * are. options NULL: all defaults. Sites are solved by rising number, tied ones with the first of
 * their tie; whatever the error, those finished before it stay solved, and the site at which it
 * happened keeps its old result.
 *
 * Errors: STATE (a site of which nothing was observed, of a matmul both operands, or of which a
 * search has no row with all its parts), ARGUMENT (unknown recipe or setting, no such site, a part
 * of a tie left out), CANCELLED, VALUE (a scale that is too small or too large for a float),
 * UNSUPPORTED, NO_MEMORY, EXECUTOR. An IMAGE site needs no observation unless it is searched.
 */
QVIT_API qvit_status qvit_calibrator_solve(qvit_calibrator *calibrator,
                                           const qvit_solve_options *options, qvit_error *error);

/*
 * What solving found for one site. Immutable, and independent of the calibrator, which may be
 * destroyed first (the engine may not).
 */
typedef struct qvit_result qvit_result;

/*
 * A new handle on the last result of a site, a copy that later solving does not touch; the caller
 * destroys it. The OUTPUT_ parts are those that the consumer's last result asks for: fetch a
 * producer and its consumer together, after both are solved, and make their plans from that pair.
 * Errors: STATE (not solved), ARGUMENT (no such site), NO_MEMORY.
 */
QVIT_API qvit_status qvit_calibrator_result(const qvit_calibrator *calibrator, size_t site,
                                            qvit_result **out, qvit_error *error);

/* Its quantizers and the views of its tensors end with it. Plans made from them do not. */
QVIT_API void qvit_result_destroy(qvit_result *result);

/*
 * The parts of a result. A matmul site has INPUT and SECOND, and OUTPUT_ parts if it is a producer.
 * SCALE parts are there where equalize was at work, SHIFT parts where channels were centered, ORDER
 * parts where channels were reordered. Orders go to the plans as they are: INPUT_ORDER to this site's
 * and to that of the layer norm before it, OUTPUT_ORDER to this site's; that of P V goes to the
 * attention plan, and, moved behind the queries and keys, to the layer that writes V, whose plan is
 * therefore made after proj is solved. OUTPUT_ parts are those of the consumer's last result: what is
 * shown to a calibrator that will solve the consumer anew must come from plans without them. A host
 * that cannot reorder solves with reorder=none, and refuses an ORDER that is present all the same.
 * New versions bring new keys.
 */
typedef int32_t qvit_result_key;
enum {
    QVIT_RESULT_INPUT = 1,        /* quantizer of the (left) input                               */
    QVIT_RESULT_SECOND = 2,       /* quantizer of the weights, or of the right operand           */
    QVIT_RESULT_WEIGHT_CODES = 3, /* [outputs, inputs]: up to 4 bits S4, up to 6 S6, else S8; with
                                     zero points up to 4 bits U4, else U8                        */
    QVIT_RESULT_BIAS = 4,         /* F32 [outputs]: bias with all corrections; may be absent     */
    QVIT_RESULT_INPUT_SCALE = 5,  /* F32 [inputs]: the producer of the input writes              */
    QVIT_RESULT_INPUT_SHIFT = 6,  /*     (x - shift) / scale instead of x; absent: 1 and 0       */
    QVIT_RESULT_OUTPUT_SCALE = 7, /* F32 [outputs]: the same for the consumer that is tied to    */
    QVIT_RESULT_OUTPUT_SHIFT = 8, /*     this site's output; absent: 1 and 0                     */
    QVIT_RESULT_INPUT_ORDER = 9,  /* S32 [inputs]: the channel of each column that the producer  */
    QVIT_RESULT_OUTPUT_ORDER = 10 /*     writes and the plan reads; absent: as given. Weights,   */
                                  /*     biases, scales and quantizers keep channels' numbers    */
};

/*
 * The quantizer under a key (INPUT, SECOND), owned by the result and valid as long. NULL: no such
 * thing. SECOND of weights has rows x cols = outputs x inputs; of matmuls, and INPUT of Q K^T, one
 * column block a head (layer if there is one head). It is what encode and fake take to simulate the
 * layer in floats.
 */
QVIT_API const qvit_quantizer *qvit_result_quantizer(const qvit_result *result, qvit_result_key key);

/*
 * The tensor under a key: a dense view of the result's memory, not to be written, valid as long as
 * the result. A part that is absent gives QVIT_OK with data NULL; options want NULL for it, not
 * this tensor: bias.data ? &bias : NULL. Any thread. Errors: ARGUMENT (NULL, or not a key of a
 * tensor).
 */
QVIT_API qvit_status qvit_result_tensor(const qvit_result *result, qvit_result_key key,
                                        qvit_tensor *out, qvit_error *error);

/*
 * What quantization did to the output of the site, on the rows that were kept, this site alone
 * quantized: its result against the float product (or the observed target) of the same rows.
 *
 *   SQNR_DB    signal over squared error, in decibels
 *   COSINE     cosine of the angle between the two, all rows as one vector
 *   LOSS       how much the loss of the model is expected to rise, but for a constant factor: per
 *              sample, the sum of squared errors, each times the squared gradient, where gradients
 *              were observed; else the sum of squared errors; with sensitivity=nuclear (linear
 *              sites) that times the nuclear norm of the output (Liu et al., arXiv 2106.14156, 3.5).
 *              Losses of sites add up: this is what qvit_allocate wants
 *   SATURATED_INPUT, SATURATED_SECOND  share of the codes that lie at an end of their range
 */
typedef int32_t qvit_score_key;
enum {
    QVIT_SCORE_SQNR_DB = 1,
    QVIT_SCORE_COSINE = 2,
    QVIT_SCORE_LOSS = 3,
    QVIT_SCORE_SATURATED_INPUT = 4,
    QVIT_SCORE_SATURATED_SECOND = 5
};

/*
 * One of these numbers; NaN where no rows were kept, for an unknown key, and for NULL. Infinite where
 * nothing was lost. Any thread, never fails.
 */
QVIT_API double qvit_result_score(const qvit_result *result, qvit_score_key key);

/*
 * Bytes to store the weights of this site: the codes as they lie in WEIGHT_CODES (2 and 3 bits take
 * the 4 of S4 or U4, 5 bits the 6 of S6, 7 bits the 8 of S8), their scales, and a byte for each zero
 * point. 0 for matmul sites. The biases are not in it. For the memory at run time see
 * qvit_plan_packed_bytes.
 */
QVIT_API size_t qvit_result_weight_bytes(const qvit_result *result);

/*
 * One way to do an item: what it loses (any finite number; less is better) and what it costs, in
 * bytes, nanoseconds or any other unit.
 */
typedef struct qvit_alternative {
    double loss;
    uint64_t cost;
} qvit_alternative;

/*
 * Bit allocation: one alternative for each item, so that the sum of their losses is the least that
 * the budget allows (a multiple-choice knapsack). A pure function of its arguments. Items are sites
 * or blocks, alternatives widths; how a loss is measured is the host's affair. What must agree,
 * say the sites of a tie, is one item.
 *
 *   engine        lends its allocator and nothing else
 *   items         number of items, at least 1
 *   counts        [items] number of alternatives of each, at least 1
 *   alternatives  those of item 0, then those of item 1, and so on; in any order
 *   budget        the most that the chosen ones may cost together
 *   chosen        [items] the number of the alternative inside its item's own list, from 0. The
 *                 caller's memory; written on success only
 *
 * The choice is exact, not a heuristic: no other choice within the budget has a smaller sum. Summed,
 * in double, is each loss minus the least loss that the item can afford, from the last item to the
 * first. Of equal sums the lower cost is taken, then, unless rounding told them apart on the way,
 * the lower-numbered alternative of the first item in which two choices differ. The same numbers
 * give the same choice on every machine.
 *
 * No sum of costs overflows: a cost of UINT64_MAX marks what must not be chosen. Losses as they are
 * measured, 150 items of 6 alternatives each, take a few milliseconds and about a megabyte. No
 * method is fast on all numbers that one can think of, and this one stops with UNSUPPORTED when it
 * would have to keep more than 2^23 partial choices (192 MiB, for a moment half as much again): it
 * never answers with a choice that it has not proved. Losses that fall in proportion to the cost,
 * or nearly so, can lead there if the costs are large numbers without a common unit. It helps to
 * round all costs up to multiples of 1/32768 of the budget: no two partial choices of one cost are
 * kept, so up to 255 items are then always solved.
 *
 * Any thread. Errors: ARGUMENT (also no items, or an item without alternatives), VALUE (a loss that
 * is not finite, or losses too large to be added up; a budget below the cheapest choice, whose cost
 * the text tells), UNSUPPORTED, NO_MEMORY.
 */
QVIT_API qvit_status qvit_allocate(const qvit_engine *engine, size_t items, const size_t *counts,
                                   const qvit_alternative *alternatives, uint64_t budget,
                                   size_t *chosen, qvit_error *error);

/*
 * What reached a site's input in the whole quantized model, against the float model, as the host
 * measured it; NaN: not known.
 */
typedef struct qvit_fidelity {
    double sqnr_db;
    double cosine;
} qvit_fidelity;

/*
 *   accumulated        NULL, or accumulated_count numbers, one for each site: beside what each site
 *                      does alone a card then tells what all before it have done together
 */
typedef struct qvit_card_options {
    size_t struct_size;
    const qvit_fidelity *accumulated;
    size_t accumulated_count;
} qvit_card_options;
#define QVIT_CARD_OPTIONS_INIT { sizeof(qvit_card_options), NULL, 0 }
QVIT_API void qvit_card_options_init(qvit_card_options *options, size_t size);

/*
 * Writes the quantization card: all that a reader of results should know, and hardly any report
 * says, as one JSON object. Small choices move accuracy as much as the method does (quantization
 * cards, arXiv 2102.06366). It is for people and programs, wants no schema, and goes well into a
 * larger object in which the host adds model, data and accuracies.
 *
 *   format       "qvit card", version 1: members may be added, none changes its meaning
 *   library      its version
 *   numerics     how codes are computed with, and what stays in floats
 *   calibration  seed, limits, samples that were kept, whether gradients were among them
 *   recipes      every different way in which sites were solved, with all its settings; words are
 *                those of qvit_solve_options. They count if range, metric or setting make use of
 *                them: percentile for the range "percentile", the grid where there is a metric
 *   warnings     sentences, see below
 *   sites        what each is; `solved` and with which of the recipes (`solved_with`); its
 *                quantizers; the range of its channels' scales and shifts; whether its bias was
 *                changed; weight_bytes; scores; `accumulated`; and the histogram of its input
 *
 * Of more than 16 scales or zero points min, median and max stand for all. The histogram is of the float model's
 * input, before channels are scaled: for each sign edges and counts, eight bins to an octave, from
 * the first to the last that is not empty; `tiny` counts what is smaller than `tiny_below`, zeros
 * among it. Numbers that are not finite are null: an SQNR without noise, a score without rows.
 *
 * Warned of are sites that were not observed or not solved; an SQNR below 5 dB; more than a tenth
 * of the codes of an input or of weights at the ends of their range, IMAGE inputs apart; and, for
 * the whole, a median SQNR below 8 dB or less than 3 dB of accumulated SQNR at the last site that
 * has one: such a model hardly knows more than chance.
 *
 * The same state, results and options give the same bytes. They are UTF-8 whatever a site is
 * called: U+FFFD stands for bytes that are not. options NULL: all defaults. The calibrator may have
 * seen anything or nothing; it does not change. What was written before an error is of no use.
 * Errors: ARGUMENT, SHAPE (accumulated_count is not the number of sites), NO_MEMORY, IO (write
 * returned nonzero).
 */
QVIT_API qvit_status qvit_calibrator_card(const qvit_calibrator *calibrator,
                                          const qvit_card_options *options, qvit_write write,
                                          void *user, qvit_error *error);

/* ---- 10. Plans ------------------------------------------------------------------------------- */

/*
 * One operation, ready to run: operands packed, kernels chosen. Made from codes, quantizers and
 * biases; a plan never quantizes weights. Everything given at creation is copied. Immutable: any
 * number of threads may run one plan at once, each with its own workspace and output. Running
 * allocates nothing. Outputs must not overlap inputs, except a residual that is the output itself.
 *
 * Arithmetic. Products of codes are summed exactly in int32; a plan, or a run, whose sums could
 * overflow is refused. What follows is float32, one rounding for each operation that is written, in
 * that order, with no fused multiply-add. What is written "folded" was multiplied out when the plan
 * was made, so that a run does less; the formulas show where the roundings fall. An output port,
 * with the output_scale s and output_shift z of a column (1 and 0 if absent), does
 *
 *     mul = 1 / (s * scale), add = zero_point - z * mul       (F32: scale 1, zero_point 0)
 *     t * mul + add                                           (F32 without s and z: t as it is)
 *     code = round(clamp(t * mul + add, lowest code, highest code)), NaN: the lowest code
 *
 * Twins. The low and the high codes of a twin (those of TWIN_SOFTMAX less b, of TWIN_GELU less the zero
 * point, which all its blocks share where it is a left operand) are summed apart, each sum with its
 * range's scale. They are joined if scale2 = scale * m in every block, exactly, m a whole number, 1 to
 * 256: what is summed then are the low codes and m times the high ones, in one integer, with `scale`.
 * That takes sums that fit 32 bits. In a linear plan: inputs * largest value * largest |weight code|
 * below 2^31, where 255 stands for any value that bytes hold, (b - 1) * m up to 255, and of GELU, 128
 * below its zero point to 127 above, 383. In a matmul and in an attention, which do not know how many
 * products there will be: if bytes hold the values.
 *
 * Overflow. For each output the largest code (255 for U8 and S8 at any width, b for twins, of TWIN_GELU
 * the most that one is from the zero point, of joined ones the largest value), plus the zero point (S8,
 * and joined GELU codes in bytes: 128), times the sum of
 * |weight codes| (ASYMMETRIC: less their zero point), must stay below 2^31. No layer of up to 33155 inputs
 * is ever refused. Activations have no known codes: for them 128 stands for each right code, and k may be
 * 43804 for S8 at the left, 65793 for U8 with zero point 0, as for twins that are joined in bytes (GELU:
 * as S8), 131071 for other 8-bit twins, of TWIN_GELU with a zero point 65793 at least.
 *
 * Codes of activations are not checked against their quantizer's bits while running; plans write
 * only codes that lie inside. Others give defined results at the left of a product, unless they are
 * twin codes, and not at its right: kernels may count on their width and sum in 16 bits.
 *
 * A linear plan keeps weights of up to 4 bits two to a byte, whatever the type of the tensor that they
 * came in, and all others in a byte each. Each worker expands what it is about to multiply by into its
 * part of the workspace, once for all rows of a run: at 197 rows that takes 1 to 3 % of the time, at one
 * row half of it.
 *
 * Workspace. Size and content belong to the call: no plan leaves anything in it, so one block of
 * the largest size serves any number of plans that run one after the other. Two runs at once need
 * two. Each worker of the engine has its own equal part, so sizes are multiples of
 * qvit_engine_workers. A larger one than needed is fine; size 0 needs none, and NULL will do. It
 * depends on the engine's kernels: ask the plan, do not store the number.
 */
typedef struct qvit_plan qvit_plan;

/* Frees a plan of any operation. No run may be going on with it. */
QVIT_API void qvit_plan_destroy(qvit_plan *plan);

/*
 * What a plan's operand or output is made of: an element type, and the quantizer that gives codes
 * their meaning, or NULL for floats. dtype QVIT_DTYPE_NONE: no such operand. The types must be
 * those of the quantizer (its code type; for weights also U4 or S4 for up to 4 bits, S6 for up to 6).
 * The plan copies the numbers; the quantizer is only read while the plan is made.
 *
 *     floats        {QVIT_DTYPE_F32, 0, NULL}
 *     codes         {qvit_quantizer_code_dtype(q), 0, q}
 *     bare sums     {QVIT_DTYPE_S32, 0, NULL}
 */
typedef struct qvit_port {
    qvit_dtype dtype;
    int32_t reserved;
    const qvit_quantizer *quantizer;
} qvit_port;

/*
 * What is applied to a linear plan's sums. GELU is x Phi(x) with the error function, not the
 * formula with tanh; by cubics, within 1.3e-6 of the exact value everywhere, and within 6e-6 where
 * codes go in and codes come out, without a residual between: there it is computed in a unit of
 * 5/16, which the plan folds into the scales, the bias and the output port around it.
 */
typedef int32_t qvit_activation;
enum { QVIT_ACTIVATION_NONE = 0, QVIT_ACTIVATION_GELU = 1 };

/*
 * Linear: out = encode((activation(in * W^T + bias) + residual - output_shift) / output_scale).
 *
 *     codes   t = sum((a - zero_point) * w) * (input scale * weight scale) + bias
 *             w: the weight's code, ASYMMETRIC ones less their zero point
 *     twins   t = (low sum * (scale * weight scale) + high sum * (scale2 * weight scale)) + bias
 *             joined: t = (low sum + high sum * m) * (scale * weight scale) + bias
 *     floats  t = sum(a * w) + bias          (in rising order of inputs; may be fused)
 *     then    t = GELU(t), if asked for
 *             t = t + residual               (codes: (code - zero_point) * scale)
 *             the output port, as above; TWIN_GELU divides by scale where t < 0, else by scale2
 *
 * For codes with neither GELU nor residual nor TWIN_GELU output, the output port is folded into the
 * scales and the bias: t = sum * (scales * mul) + (bias * mul + add). Parts that are absent are
 * left out; a bias that is absent is 0.
 *
 *   input     codes of any scheme, in one block or column blocks; or F32 with weights F32 (a float
 *             layer, in float32, outside the promise of equal bits)
 *   weight    S8, S6 or S4 codes, SYMMETRIC (8 bits: NARROW), or U8 or U4 codes, ASYMMETRIC, of 2 to 7
 *             bits; in any blocks; or F32
 *   weights   the codes, or floats: [outputs, inputs], any strides (U4, S4 and S6: rows dense)
 *   bias      F32 [outputs] or NULL
 *   residual  F32, or codes of a uniform layer quantizer; same sizes as the output; NONE: none
 *   output    codes (uniform or TWIN_GELU; granularity over columns), F32, or S32: the bare integer
 *             sums (input zero point taken off) of plain inputs, without anything that follows, and
 *             without blocks along the inputs
 *   output_scale, output_shift  F32 [outputs] or NULL: a result's OUTPUT_ or the consumer's INPUT_.
 *             Scales are positive. They work on F32 outputs too; a twin output cannot be shifted
 *   input_order   S32 [inputs] or NULL: the channel that each column of the input holds, a
 *             permutation
 *   output_order  S32 [outputs] or NULL: the same of the output: column p is output output_order[p],
 *             in whose place of residual and output it stands
 *
 * Orders are absorbed by the packed weights and cost nothing. Weights, biases, scales and quantizers
 * keep the numbers of the channels, whatever the orders. With blocks along the inputs, h = 0, 1, ... in
 * the order in which they stand,
 *
 *     codes   t = ((u_0 + u_1) + u_2 + ..) + bias, u_h = sum of block h * (its scales, multiplied)
 *     twins   the same, u_h = low sum of block h * (..) + high sum of block h * (.. with scale2), or
 *             joined as above
 *
 * From a result: input and weight are its INPUT and SECOND, weights its WEIGHT_CODES (whose dtype
 * is the weight's), bias its BIAS. A float layer is the same call with the F32 ports and the float
 * weights, and is how to run the model that is calibrated.
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
    const qvit_tensor *input_order;
    const qvit_tensor *output_order;
} qvit_linear_options;
#define QVIT_LINEAR_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(qvit_linear_options), {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, NULL, \
            NULL, QVIT_ACTIVATION_NONE, 0, NULL, NULL, NULL, NULL                                  \
    }
QVIT_API void qvit_linear_options_init(qvit_linear_options *options, size_t size);

/*
 * Makes a linear plan; the caller destroys it. Packs the weights for the engine's kernel and reads
 * all vectors; nothing of what was given is needed afterwards, but the engine. Any thread.
 * Errors: ARGUMENT (also a code type that is not its quantizer's), SHAPE, UNSUPPORTED (ports that
 * this version cannot join; a layer whose int32 sums could overflow), VALUE (weights, bias or
 * scales that are not finite, also after multiplying them together; scales that are not positive;
 * codes outside their width), NO_MEMORY.
 */
QVIT_API qvit_status qvit_linear_create(const qvit_engine *engine, const qvit_linear_options *options,
                                        qvit_plan **out, qvit_error *error);

/*
 *   input     [.., inputs], any leading dimensions and strides, rank 1..QVIT_MAX_RANK
 *   residual  as the output, with strides of its own; NULL exactly if the plan has none
 *   output    [.., outputs], leading dimensions as the input's, and so the rank
 *   workspace workspace_size bytes, aligned to QVIT_ALIGNMENT; used during the call only
 *
 * In place: give one tensor as residual and output, with the plan's residual and output of one
 * type. A residual that overlaps the output in any other way is a mistake that is not found. Rows
 * that lie evenly in all three tensors are worked on as one matrix; [n, t, c] views with gaps
 * between the samples work as well, sample by sample.
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
QVIT_API void qvit_linear_args_init(qvit_linear_args *args, size_t size);

/*
 * Bytes of workspace for up to `rows` rows in one run, all leading dimensions multiplied. 0 for
 * NULL and for a plan of another operation; SIZE_MAX if it does not fit. In this version it holds,
 * for each worker, one tile of rows in the kernel's form, where the kernel does not read the caller's
 * codes or floats in place, and for weights of up to 4 bits up to 256 KiB of expanded ones (more where
 * there are more than 8192 inputs), so it does not grow with rows. Any thread.
 */
QVIT_API size_t qvit_linear_workspace_size(const qvit_plan *plan, size_t rows);

/*
 * Runs a linear plan. Rows and columns are shared out among the workers. Any thread, any number at
 * once with workspaces and outputs of their own. Errors: ARGUMENT (also a residual too many or
 * missing, a workspace too small), SHAPE, EXECUTOR. A NaN in a float residual gives the lowest
 * code, or NaN.
 */
QVIT_API qvit_status qvit_linear_run(const qvit_plan *plan, const qvit_linear_args *args,
                                     qvit_error *error);

/*
 * Matmul: out = encode(scale * left * right), head by head, both operands activations. For hosts
 * whose attention is not the one below, and for comparing its two products on their own.
 *
 *     codes   t = sum * ((left scale * right scale * scale) * (1 / output scale)) + zero_point
 *     twins   t = (low sum * (..) + high sum * (.. with scale2)) + zero_point, or joined
 *     floats  t = sum * (scale * (1 / output scale)) + zero_point
 *     S32     the sum: `scale` is not applied
 *
 * F32 outputs have output scale 1 and zero_point 0; the products in brackets are folded.
 *
 *   left      codes of any scheme, layer or one column block for each head (heads blocks over
 *             heads * k columns); or F32 with right F32
 *   right     SYMMETRIC S8 codes (8 bits: NARROW), layer or one column block for each head; or F32
 *   output    F32, S32 (bare sums, plain left), or codes, uniform, layer or one block for each head
 *   heads     0: 1
 *   right_transposed  nonzero: right is [.., n, k], else [.., k, n]
 *   scale     a factor, as d^-1/2 of attention scores; 0: 1; may be negative
 *
 * All heads of a left operand have the same zero point. Blocks of heads are equal and in order.
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
QVIT_API void qvit_matmul_options_init(qvit_matmul_options *options, size_t size);

/*
 * Makes a matmul plan; the caller destroys it. It holds no operand, only numbers for each head. Any
 * thread. Errors: ARGUMENT, SHAPE (a granularity that is neither layer nor one block for each
 * head), UNSUPPORTED (ports that cannot be joined: codes with floats, packed codes, twins at the
 * right or at the output), VALUE (a scale that is not finite, also after multiplying), NO_MEMORY.
 */
QVIT_API qvit_status qvit_matmul_create(const qvit_engine *engine, const qvit_matmul_options *options,
                                        qvit_plan **out, qvit_error *error);

/*
 *   left    [batch, heads, m, k], any strides but the last (1); rank 4
 *   right   [batch, heads, n, k] or [batch, heads, k, n]
 *   output  [batch, heads, m, n]
 *
 * heads is the plan's; batch, m, n and k may differ from run to run. One right operand for all
 * samples: a batch stride of 0. The right operand is packed in the workspace, once for each sample
 * and head, and once for each share of rows where there are fewer of those than workers could use.
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
QVIT_API void qvit_matmul_args_init(qvit_matmul_args *args, size_t size);

/*
 * Workspace for products of up to m x k by k x n, any batch, in bytes; 0 for NULL, for a plan of
 * another operation and for sizes of 0, SIZE_MAX if it does not fit. Grows with n x k: each worker
 * packs one right operand at a time.
 */
QVIT_API size_t qvit_matmul_workspace_size(const qvit_plan *plan, size_t m, size_t n, size_t k);

/*
 * Runs a matmul plan. Pairs of sample and head, if they are few also their rows, are shared out
 * among the workers. Any thread. Errors: as linear; UNSUPPORTED if k is so long that int32 sums
 * could overflow.
 */
QVIT_API qvit_status qvit_matmul_run(const qvit_plan *plan, const qvit_matmul_args *args,
                                     qvit_error *error);

/*
 * Attention: out = encode(softmax(score_scale * Q K^T + bias + mask) V), for each head, from codes
 * to codes in one call; scores and probabilities never leave the processor's caches.
 *
 *   query        uniform codes; layer, or one column block for each head
 *   key, value   SYMMETRIC S8 codes (8 bits: NARROW); layer, or one column block for each head; of
 *                values also one block for each column
 *   probability  what the softmax writes and V is multiplied by: layer, ASYMMETRIC with zero point
 *                0, SYMMETRIC or TWIN_SOFTMAX; RELATIVE or not
 *   output       F32 or uniform codes; granularity over the heads * head_dim columns
 *   output_scale, output_shift  F32 [heads * head_dim] or NULL: the OUTPUT_ parts of P V's result
 *   output_order  S32 [heads * head_dim] or NULL: the channel that each column of the values, and so of
 *                the output, holds; each stays in its head. The plan that writes V puts them there
 *   heads, head_dim  both must be set
 *   score_scale  what Q K^T is multiplied by; 0: head_dim^-1/2, the usual attention
 *
 * Or query, key, value and probability F32, without quantizers: a float attention, outside the
 * promise of equal bits.
 *
 * Over codes, row by row:
 *
 *     s = sum of Q K * (query scale * key scale * score_scale)   folded; + bias, + mask, if given
 *     d = round(min((the largest s of the row - s) * 1024 / ln 2, 65535))       1024ths of an octave
 *     e = 2^(-d / 1024), in whole 2^15ths     relative error 4.3e-4, of which d has 3.4e-4; half a 2^15th
 *     S = sum of e                            exact
 *     P = round(min(e * ((1 / probability scale) / S), highest code))
 *         twin: if e * ((1 / scale) / S) < b that, at most b - 1; else b + the same with scale2; its e is
 *         not in 2^15ths but in 16 significant bits, as is that of probability scales below some 1 / 1024
 *     t = sum of P V * (probability scale * value scale)         twin: low + high, or joined
 *     the output port, folded into these scales and an added constant
 *
 * with RELATIVE probabilities:
 *
 *     P = round(min(e * (1 / probability scale), highest code)), or the twin of it
 *     t = (sum of P V * (probability scale * value scale)) * (1 / S)
 *     the output port, one multiplication and one addition
 *
 * These are whole numbers of 16 bits, of which a register holds twice as many as of floats: codes of 8
 * bits need no more. P is rounded half up, after a factor of 16 bits; lib/ref/ref_softmax.c has every
 * step. Without bias and mask, for heads of up to 256 and scales that come to 0 to 127, d is (the largest
 * sum - the sum) * (these scales * 1024 / ln 2): other roundings than those of a bias of zeros. Over floats e = exp(s - the largest), within
 * 4.3e-7 + 9e-8 |x|, 0 below -70; S has 16 partial sums, then a tree; P is e * (1 / S).
 *
 * Codes are made from e itself, not from a rounded probability.
 * A uniform probability quantizer whose range ends below 1 saturates above it. A score that is NaN
 * counts as masked; one of +infinity makes its row 0. All
 * heads of a U8 query have one zero point. Columns of a head in an output quantizer may have scales
 * of their own.
 */
typedef struct qvit_attention_options {
    size_t struct_size;
    qvit_port query, key, value, probability, output;
    size_t heads, head_dim;
    float score_scale;
    int32_t reserved;
    const qvit_tensor *output_scale;
    const qvit_tensor *output_shift;
    const qvit_tensor *output_order;
} qvit_attention_options;
#define QVIT_ATTENTION_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(qvit_attention_options), {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL}, {0, 0, NULL},    \
            {0, 0, NULL}, 1, 0, 0, 0, NULL, NULL, NULL                                             \
    }
QVIT_API void qvit_attention_options_init(qvit_attention_options *options, size_t size);

/*
 * Makes an attention plan; the caller destroys it. Any thread. Errors: ARGUMENT, SHAPE (no heads,
 * no head_dim, granularities that do not fit them), UNSUPPORTED (some ports codes and some F32;
 * twins but at the probability; S32, packed codes; a head_dim whose sums could overflow), VALUE (a
 * scale that is not finite, also after multiplying, or an output_scale that is not positive),
 * NO_MEMORY.
 */
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
 *                   [1, all rows, heads, head_dim], and token t of window b is row query_rows[b][t]
 *                   of both. key_rows likewise for key and value.
 *   scores, probabilities  NULL, or F32 [batch, heads, query tokens, key tokens]: float plans only;
 *                   also written: the scores Q K^T before scale, bias and mask, and the softmax.
 *                   This is how a calibrating host gets the input of P V
 *
 * A joint [n, t, 3 c] tensor gives three views {n, t, h, d} with strides {3 t c, 3 c, d, 1} that
 * start at columns 0, c and 2 c; the output as {n, t, h, d} with strides {t c, c, d, 1} is the
 * tensor [n, t, c] that proj reads. Nothing is moved. Batch, and both numbers of tokens, may differ
 * from run to run.
 *
 * Windows, as Swin has them, need no copies either: query_rows and key_rows name the tokens of
 * each, for shifted windows too (with a mask). A row that no window names is not written; one that
 * two windows name as query would be written by both, which is a mistake that is not found. Keys
 * may be shared. Without key_rows, key and value have as many samples as there are windows.
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
QVIT_API void qvit_attention_args_init(qvit_attention_args *args, size_t size);

/*
 * Workspace for up to these token counts, any batch, in bytes; with row indices the tokens of a
 * window. 0 for NULL, for a plan of another operation and for counts of 0; SIZE_MAX if it does not
 * fit. Grows with key_tokens x head_dim: each worker packs one head's keys and values, and holds the
 * scores of a tile of queries, and what becomes of them of up to 256 queries and, unless a tile has
 * more, 64 kB (twins: twice that).
 */
QVIT_API size_t qvit_attention_workspace_size(const qvit_plan *plan, size_t query_tokens,
                                              size_t key_tokens);

/*
 * Runs an attention plan. Work is shared out as in matmul. Any thread. Errors: as linear; VALUE (a
 * row index outside the tensor); UNSUPPORTED (so many key tokens that int32 sums could overflow, and
 * over codes more than 131071; scores or probabilities asked of a plan over codes).
 */
QVIT_API qvit_status qvit_attention_run(const qvit_plan *plan, const qvit_attention_args *args,
                                        qvit_error *error);

/*
 * Layer normalisation: out = encode((LN(in) - output_shift) / output_scale), LN over the last
 * dimension with gamma and beta (F32 [channels]) and eps added to the variance.
 *
 *     mean = sum(x) / channels, d = x - mean             16 interleaved partial sums, then a tree
 *     r = 1 / sqrt(sum(d * d) / channels + eps)          exact division and root, biased variance
 *     t = (d * r) * (gamma * mul) + (beta * mul + add)   folded; F32 without scales: gamma, beta
 *
 *   gamma, beta  both needed; their length is the number of channels
 *   eps     1e-6 from the _INIT macro, as timm's ViT and DeiT have it (PyTorch's default is 1e-5);
 *           0 is 0
 *   output  F32, or codes: uniform, granularity over columns
 *   output_scale, output_shift  F32 [channels] or NULL: the consumer's INPUT_SCALE and INPUT_SHIFT
 *   output_order  S32 [channels] or NULL: the channel that each column of the output holds, the
 *           consumer's INPUT_ORDER. gamma, beta, scales and quantizer keep the channels' numbers
 *
 * A row with a NaN or an infinity becomes NaN, or the lowest code, in every column, and so does one
 * of variance 0 with eps 0. One norm that several layers read has one output: tie them by INPUT.
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
    const qvit_tensor *output_order;
} qvit_layer_norm_options;
#define QVIT_LAYER_NORM_OPTIONS_INIT                                                               \
    { sizeof(qvit_layer_norm_options), NULL, NULL, 1e-6f, 0, {0, 0, NULL}, NULL, NULL, NULL }
QVIT_API void qvit_layer_norm_options_init(qvit_layer_norm_options *options, size_t size);

/*
 * Makes a layer norm plan; the caller destroys it. gamma and beta are copied. Any thread. Errors:
 * ARGUMENT, SHAPE (vectors of unequal length, a granularity that does not fit), UNSUPPORTED (twin
 * or packed output), VALUE (gamma, beta or scales that are not finite, also after multiplying; an
 * output_scale that is not positive; a negative eps), NO_MEMORY.
 */
QVIT_API qvit_status qvit_layer_norm_create(const qvit_engine *engine,
                                            const qvit_layer_norm_options *options, qvit_plan **out,
                                            qvit_error *error);

/*
 * Quantize: out = encode(in), what qvit_quantizer_encode does, with kernels and threads.
 *
 *   output  codes of any scheme, a byte each; granularity over columns, or QVIT_ANY
 *
 * For where no other plan can write the codes: the input of the first layer if it is no image, or a
 * tensor that the host computes itself. It has no output_scale: divide first, or use a layer norm.
 */
typedef struct qvit_quantize_options {
    size_t struct_size;
    qvit_port output;
} qvit_quantize_options;
#define QVIT_QUANTIZE_OPTIONS_INIT { sizeof(qvit_quantize_options), {0, 0, NULL} }
QVIT_API void qvit_quantize_options_init(qvit_quantize_options *options, size_t size);

/*
 * Makes a quantize plan; the caller destroys it. Any thread. Errors: ARGUMENT (also no quantizer),
 * UNSUPPORTED (packed codes; a granularity that knows its rows), NO_MEMORY.
 */
QVIT_API qvit_status qvit_quantize_create(const qvit_engine *engine,
                                          const qvit_quantize_options *options, qvit_plan **out,
                                          qvit_error *error);

/*
 * Arguments of the plans without workspace: F32 [.., channels] in, the same dims out; any strides
 * but the last (1). The class tokens of a stream alone are {n, c} with strides {t c, 1}.
 */
typedef struct qvit_unary_args {
    size_t struct_size;
    const qvit_tensor *input;
    const qvit_tensor *output;
} qvit_unary_args;
#define QVIT_UNARY_ARGS_INIT { sizeof(qvit_unary_args), NULL, NULL }
QVIT_API void qvit_unary_args_init(qvit_unary_args *args, size_t size);

/*
 * Run a layer norm or a quantize plan. Rows are shared out among the workers; a row is done by one
 * of them. The output's type is the plan's. Any thread, any number at once with outputs of their
 * own. Errors: ARGUMENT, SHAPE, EXECUTOR.
 */
QVIT_API qvit_status qvit_layer_norm_run(const qvit_plan *plan, const qvit_unary_args *args,
                                         qvit_error *error);
QVIT_API qvit_status qvit_quantize_run(const qvit_plan *plan, const qvit_unary_args *args,
                                       qvit_error *error);

/* ---- 11. Introspection ----------------------------------------------------------------------- */

/*
 * The name of the kernel that does a plan's main work, "gemm_u8s8_12x32_avx512vnni": operation,
 * operands (t8: twin codes that are summed apart; s7: right codes at most 64 from zero, where these have a
 * kernel of their own), tile, instruction set. Of an attention it is that of Q K^T. Static; "" for NULL.
 */
QVIT_API const char *qvit_plan_kernel(const qvit_plan *plan);

/*
 * One line about a plan: its operation and sizes (outputs x inputs), its kernels and why these.
 * Writes at most `size` bytes with the NUL and returns the length of the whole text, as snprintf
 * does. For people and reports, not for parsing.
 *
 *     linear 576 x 192, u8 x s8 -> s8: gemm_u8s8_12x32_avx512vnni; newest of scalar avx2 avx512vnni
 */
QVIT_API size_t qvit_plan_describe(const qvit_plan *plan, char *text, size_t size);

/*
 * Bytes that the plan's packed operands and vectors take, padding included; nearly all that the
 * plan costs. For a linear plan over codes about a byte for each weight, half of one for those of up to
 * 4 bits, over floats four. 0 for NULL.
 */
QVIT_API size_t qvit_plan_packed_bytes(const qvit_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
