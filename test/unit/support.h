/*
 * support.h - what the unit tests of the public interface share. Include it before other headers.
 *
 *   engines      engine_new(), engine_with(), isa_variants: on what QVIT_TEST_ISA leaves
 *   executors    struct shuffled: tasks in random order, on random workers, one at a time
 *   allocators   struct heap: counts, checks what is given back, fails on request
 *   memory       guarded(): ends where a page begins that nobody may touch
 *   tensors      struct view: strides with gaps, whose bytes are canaries
 *   numbers      random_size(), random_bits(), random_between()
 *   quantizers   quantizer_layer(), quantizer_with(); struct coder: what a code means, in double
 *
 * What these functions make lives until release(), which a test calls at its end.
 */
#ifndef QVIT_TEST_SUPPORT_H
#define QVIT_TEST_SUPPORT_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#endif

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qvit.h"
#include "test.h"

/* What the last call said about its failure; every call of a test passes &why. */
static qvit_error why;

#define MUST(call)                                                                                 \
    do {                                                                                           \
        qvit_status must_ = (call);                                                                \
        if (must_) FAIL("%s: %s: %s", #call, qvit_status_name(must_), why.text);                   \
    } while (0)

/* Rounding of one float operation, relative. */
#define UNIT 6e-8

/* ---- life: objects and memory that release() gives back ---- */

enum keeping { KEPT_ENGINE, KEPT_GRANULARITY, KEPT_QUANTIZER, KEPT_PLAN, KEPT_MAPPING };

static struct {
    struct kept {
        enum keeping kind;
        void *object;
        size_t bytes; /* of a mapping */
    } all[8192];
    size_t count;
} kept;

static inline void *keep(enum keeping kind, void *object, size_t bytes)
{
    if (kept.count == sizeof kept.all / sizeof kept.all[0]) FAIL("too much kept: call release()");
    kept.all[kept.count++] = (struct kept){kind, object, bytes};
    return object;
}

static inline qvit_plan *keep_plan(qvit_plan *plan) { return keep(KEPT_PLAN, plan, 0); }

/* Gives back what was kept after the mark (a former kept.count), the latest first. */
static inline void release_to(size_t mark)
{
    while (kept.count > mark) {
        struct kept *k = &kept.all[--kept.count];
        switch (k->kind) {
        case KEPT_ENGINE:
            qvit_engine_destroy(k->object);
            break;
        case KEPT_GRANULARITY:
            qvit_granularity_destroy(k->object);
            break;
        case KEPT_QUANTIZER:
            qvit_quantizer_destroy(k->object);
            break;
        case KEPT_PLAN:
            qvit_plan_destroy(k->object);
            break;
        case KEPT_MAPPING:
            munmap(k->object, k->bytes);
            break;
        }
    }
}

static inline void release(void) { release_to(0); }

enum { CANARY = 0xC5 };

/* At least `bytes` bytes, in pages between two that cannot be touched, filled with canaries. */
static inline unsigned char *mapping(size_t bytes, size_t *usable)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page;
    char *map = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) FAIL("mmap of %zu bytes", inside);
    keep(KEPT_MAPPING, map, inside + 2 * page);
    if (mprotect(map + page, inside, PROT_READ | PROT_WRITE)) FAIL("mprotect");
    memset(map + page, CANARY, inside);
    *usable = inside;
    return (unsigned char *)map + page;
}

/* `bytes` bytes that end at a page nobody may touch: their alignment is that of their size. */
static inline void *guarded(size_t bytes)
{
    size_t usable;
    unsigned char *start = mapping(bytes, &usable);
    return start + (usable - bytes);
}

/* A workspace of exactly `bytes` bytes (rounded up to the alignment it must have); NULL for 0. */
static inline void *workspace(size_t bytes)
{
    if (!bytes) return NULL;
    return guarded((bytes + QVIT_ALIGNMENT - 1) / QVIT_ALIGNMENT * QVIT_ALIGNMENT);
}

/* ---- hooks ---- */

/* An executor that keeps its promises and no others: random order, random workers, one by one. */
struct shuffled {
    size_t workers;
    qvit_status answer; /* anything but QVIT_OK: half of the tasks are left undone */
    size_t runs, tasks; /* how often it was used, and for how many tasks in all */
};

static inline qvit_status shuffled_run(void *user, size_t count, qvit_task *task, void *argument)
{
    struct shuffled *s = user;
    size_t *order = malloc(count * sizeof *order);
    if (!order) return QVIT_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t j = test_below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    s->runs++;
    s->tasks += count;
    size_t done = s->answer ? count / 2 : count;
    for (size_t i = 0; i < done; i++) task(argument, order[i], test_below(s->workers));
    free(order);
    return s->answer;
}

static inline qvit_executor shuffled_hook(struct shuffled *s)
{
    qvit_executor executor = QVIT_EXECUTOR_INIT;
    executor.user = s;
    executor.workers = s->workers;
    executor.run = shuffled_run;
    return executor;
}

/* An allocator that knows what is out, and can fail. */
struct heap {
    size_t fail_at;    /* number of the first allocation that fails, from 1; 0: none does */
    size_t fail_count; /* how many fail from there on */
    size_t calls;      /* allocations asked for */
    size_t live, live_bytes;
    const char *fault; /* what was wrong with a call; NULL: nothing */
};

struct heap_header {
    size_t size, alignment;
    uint64_t magic;
};
enum { HEAP_FRONT = 128, HEAP_BACK = 16, HEAP_LARGEST = 1 << 30 };

static inline void *heap_alloc(void *user, size_t size, size_t alignment)
{
    struct heap *h = user;
    size_t number = ++h->calls;
    if (!size || !alignment || alignment & (alignment - 1) || alignment > QVIT_ALIGNMENT)
        h->fault = "alloc: size or alignment";
    if (h->fail_at && number >= h->fail_at && number - h->fail_at < h->fail_count) return NULL;
    if (size > HEAP_LARGEST) return NULL;
    unsigned char *block =
        aligned_alloc(HEAP_FRONT, (HEAP_FRONT + size + HEAP_BACK + 127) / 128 * 128);
    if (!block) return NULL;
    struct heap_header header = {size, alignment, UINT64_C(0x7175616E74697A65)};
    memcpy(block, &header, sizeof header);
    memset(block + HEAP_FRONT, 0xA5, size); /* what is not set is not zero either */
    memset(block + HEAP_FRONT + size, CANARY, HEAP_BACK);
    h->live++;
    h->live_bytes += size;
    return block + HEAP_FRONT;
}

static inline void heap_free(void *user, void *memory, size_t size, size_t alignment)
{
    struct heap *h = user;
    if (!memory) {
        h->fault = "free: NULL";
        return;
    }
    unsigned char *block = (unsigned char *)memory - HEAP_FRONT;
    struct heap_header header;
    memcpy(&header, block, sizeof header);
    if (header.magic != UINT64_C(0x7175616E74697A65)) h->fault = "free: not a block";
    if (header.size != size || header.alignment != alignment) h->fault = "free: another size";
    for (size_t i = 0; i < HEAP_BACK; i++)
        if (block[HEAP_FRONT + header.size + i] != CANARY) h->fault = "written behind a block";
    h->live--;
    h->live_bytes -= header.size;
    free(block);
}

static inline qvit_allocator heap_hook(struct heap *h)
{
    qvit_allocator allocator = QVIT_ALLOCATOR_INIT;
    allocator.user = h;
    allocator.alloc = heap_alloc;
    allocator.free = heap_free;
    return allocator;
}

static inline void heap_check_empty(const struct heap *h)
{
    if (h->fault) FAIL("%s", h->fault);
    CHECK_EQ(h->live, 0);
    CHECK_EQ(h->live_bytes, 0);
}

/* ---- engines ---- */

/* What to leave out so that the newest instruction set is the one that QVIT_TEST_ISA names. */
static inline uint64_t isa_left_out(void)
{
    const char *name = getenv("QVIT_TEST_ISA");
    if (name && !strcmp(name, "scalar"))
        return QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX512VNNI;
    if (name && !strcmp(name, "avx2")) return QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX512VNNI;
    if (name && !strcmp(name, "avx2vnni")) return QVIT_ISA_AVX512VNNI;
    if (name && *name && strcmp(name, "avx512vnni")) FAIL("QVIT_TEST_ISA=%s", name);
    return 0;
}

/* Masks that give every instruction set that there is its turn as the newest one; the first leaves none
 * out. There are isa_variant_count() of them, which is to be asked first. */
static uint64_t isa_variants[4];

static inline size_t isa_variant_count(void)
{
    static const uint64_t later[] = {0, QVIT_ISA_AVX512VNNI,
                                     QVIT_ISA_AVX512VNNI | QVIT_ISA_AVX2VNNI,
                                     QVIT_ISA_AVX512VNNI | QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX2};
    static size_t count;
    if (count) return count;
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.isa_disable = isa_left_out();
    qvit_engine *engine;
    MUST(qvit_engine_create(&options, &engine, &why));
    const uint64_t there = qvit_engine_isa(engine);
    qvit_engine_destroy(engine);
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (!i || (there & later[i] & ~later[i - 1])) isa_variants[count++] = later[i];
    return count;
}

static inline qvit_engine *engine_with(uint64_t isa_disable, const qvit_allocator *allocator,
                                       const qvit_executor *executor)
{
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.isa_disable = isa_disable | isa_left_out();
    options.allocator = allocator;
    options.executor = executor;
    qvit_engine *engine;
    MUST(qvit_engine_create(&options, &engine, &why));
    return keep(KEPT_ENGINE, engine, 0);
}

/* One worker, the calling thread. */
static inline qvit_engine *engine_new(void)
{
    static struct shuffled alone = {.workers = 1};
    qvit_executor executor = shuffled_hook(&alone);
    return engine_with(0, NULL, &executor);
}

/* ---- tensors ---- */

static inline size_t dtype_bits(qvit_dtype dtype)
{
    if (dtype == QVIT_DTYPE_U4 || dtype == QVIT_DTYPE_S4) return 4;
    if (dtype == QVIT_DTYPE_S6) return 6;
    return dtype == QVIT_DTYPE_U8 || dtype == QVIT_DTYPE_S8 ? 8 : 32;
}

/* Elements that fill whole bytes together; a row starts with such a group and takes all of the last. */
static inline size_t dtype_group(qvit_dtype dtype)
{
    size_t bits = dtype_bits(dtype);
    return bits == 4 ? 2 : bits == 6 ? 4 : 1;
}

static inline size_t dtype_group_bytes(qvit_dtype dtype)
{
    return dtype_group(dtype) * dtype_bits(dtype) / 8;
}

static inline size_t tensor_count(const qvit_tensor *t)
{
    size_t count = 1;
    for (int32_t i = 0; i < t->rank; i++) count *= t->dims[i];
    return count;
}

/* Where element number i, counted row by row, lies: in elements from data. */
static inline ptrdiff_t tensor_place(const qvit_tensor *t, size_t i)
{
    ptrdiff_t place = 0;
    for (int32_t d = t->rank; d-- > 0;) {
        place += (ptrdiff_t)(i % t->dims[d]) * t->strides[d];
        i /= t->dims[d];
    }
    return place;
}

/* The bits of the group of a packed type in which an element lies, low ones first. */
static inline uint32_t group_get(const qvit_tensor *t, ptrdiff_t at)
{
    size_t bytes = dtype_group_bytes(t->dtype), group = (size_t)at / dtype_group(t->dtype);
    const uint8_t *from = (const uint8_t *)t->data + group * bytes;
    uint32_t word = 0;
    for (size_t b = 0; b < bytes; b++) word |= (uint32_t)from[b] << 8 * b;
    return word;
}

static inline void group_set(const qvit_tensor *t, ptrdiff_t at, uint32_t word)
{
    size_t bytes = dtype_group_bytes(t->dtype), group = (size_t)at / dtype_group(t->dtype);
    uint8_t *to = (uint8_t *)t->data + group * bytes;
    for (size_t b = 0; b < bytes; b++) to[b] = (uint8_t)(word >> 8 * b);
}

/* Element number i as a number; integers and floats are exact in a double. */
static inline double tensor_get(const qvit_tensor *t, size_t i)
{
    ptrdiff_t at = tensor_place(t, i);
    if (t->dtype == QVIT_DTYPE_F32) return (double)((const float *)t->data)[at];
    if (t->dtype == QVIT_DTYPE_S32) return ((const int32_t *)t->data)[at];
    if (t->dtype == QVIT_DTYPE_U8) return ((const uint8_t *)t->data)[at];
    if (t->dtype == QVIT_DTYPE_S8) return ((const int8_t *)t->data)[at];
    size_t bits = dtype_bits(t->dtype), place = (size_t)at % dtype_group(t->dtype);
    int code = (int)(group_get(t, at) >> bits * place & ((1u << bits) - 1)), half = 1 << (bits - 1);
    return t->dtype != QVIT_DTYPE_U4 && code >= half ? code - 2 * half : code;
}

static inline void tensor_set(const qvit_tensor *t, size_t i, double value)
{
    ptrdiff_t at = tensor_place(t, i);
    switch (t->dtype) {
    case QVIT_DTYPE_F32:
        ((float *)t->data)[at] = (float)value;
        break;
    case QVIT_DTYPE_S32:
        ((int32_t *)t->data)[at] = (int32_t)value;
        break;
    case QVIT_DTYPE_U8:
        ((uint8_t *)t->data)[at] = (uint8_t)value;
        break;
    case QVIT_DTYPE_S8:
        ((int8_t *)t->data)[at] = (int8_t)value;
        break;
    default: {
        size_t bits = dtype_bits(t->dtype), shift = (size_t)at % dtype_group(t->dtype) * bits;
        uint32_t mask = (1u << bits) - 1, code = (uint32_t)(int)value & mask;
        group_set(t, at, (group_get(t, at) & ~(mask << shift)) | code << shift);
    }
    }
}

/* A tensor on memory of its own, which ends at a forbidden page. */
struct view {
    qvit_tensor t;
    unsigned char *memory; /* everything that may be touched, with canaries around the elements */
    size_t bytes;
};

/* Memory for a tensor whose strides are set. */
static inline void view_place(struct view *v)
{
    size_t last = 0;
    for (int32_t i = 0; i < v->t.rank; i++) last += (v->t.dims[i] - 1) * (size_t)v->t.strides[i];
    size_t bytes = (last / dtype_group(v->t.dtype) + 1) * dtype_group_bytes(v->t.dtype);
    v->memory = mapping(bytes, &v->bytes);
    v->t.data = v->memory + (v->bytes - bytes);
}

static inline struct view view_dense(qvit_dtype dtype, size_t rank, const size_t *dims)
{
    struct view v;
    qvit_tensor_init(&v.t, NULL, dtype, rank, dims);
    view_place(&v);
    return v;
}

/* Leading dimensions lie in any order, with gaps of up to `gap` elements or without. */
static inline struct view view_strided(qvit_dtype dtype, size_t rank, const size_t *dims,
                                       size_t gap)
{
    struct view v;
    qvit_tensor_init(&v.t, NULL, dtype, rank, dims);
    size_t unit = dtype_group(dtype); /* rows of packed codes start at a byte */
    size_t order[QVIT_MAX_RANK] = {0}, leading = rank - 1;
    for (size_t i = 0; i < leading; i++) order[i] = leading - 1 - i;
    for (size_t i = leading; i-- > 1;)
        if (test_below(4) == 0) { /* mostly dense in their order, as tensors are */
            size_t swapped = order[i];
            order[i] = order[i - 1];
            order[i - 1] = swapped;
        }
    size_t step = (dims[rank - 1] + unit - 1) / unit * unit;
    for (size_t i = 0; i < leading; i++) {
        if (gap && test_below(2)) step += test_below(gap) / unit * unit;
        v.t.strides[order[i]] = (ptrdiff_t)step;
        step *= dims[order[i]];
    }
    view_place(&v);
    return v;
}

static inline struct view view_vector(size_t n) { return view_dense(QVIT_DTYPE_F32, 1, &n); }

/* The same elements in dense memory of their own. */
static inline struct view view_copy(const struct view *v)
{
    struct view copy = view_dense(v->t.dtype, (size_t)v->t.rank, v->t.dims);
    for (size_t i = 0; i < tensor_count(&v->t); i++) tensor_set(&copy.t, i, tensor_get(&v->t, i));
    return copy;
}

/* Whether every byte that belongs to no element is as it was made. */
static inline bool view_gaps_untouched(const struct view *v)
{
    bool *owned = calloc(v->bytes, 1);
    if (!owned) FAIL("memory");
    size_t group = dtype_group(v->t.dtype), bytes = dtype_group_bytes(v->t.dtype);
    size_t data = (size_t)((unsigned char *)v->t.data - v->memory);
    for (size_t i = 0; i < tensor_count(&v->t); i++) {
        size_t first = data + (size_t)tensor_place(&v->t, i) / group * bytes;
        for (size_t b = 0; b < bytes; b++) owned[first + b] = true;
    }
    bool clean = true;
    for (size_t i = 0; i < v->bytes; i++) clean = clean && (owned[i] || v->memory[i] == CANARY);
    free(owned);
    return clean;
}

/* The first element in which the bits of two tensors of one size differ; their count if none. */
static inline size_t tensor_difference(const qvit_tensor *a, const qvit_tensor *b)
{
    size_t count = tensor_count(a), i = 0;
    for (; i < count; i++) {
        double x = tensor_get(a, i), y = tensor_get(b, i);
        if (memcmp(&x, &y, sizeof x) && !(isnan(x) && isnan(y))) break;
    }
    return i;
}

#define CHECK_SAME(a, b)                                                                           \
    do {                                                                                           \
        size_t at_ = tensor_difference((a), (b));                                                  \
        if (at_ < tensor_count(a))                                                                 \
            FAIL("%s[%zu] is %.9g, not %s's %.9g", #a, at_, tensor_get((a), at_), #b,              \
                 tensor_get((b), at_));                                                            \
    } while (0)

static inline void fill_normal(const qvit_tensor *t, float amplitude)
{
    for (size_t i = 0; i < tensor_count(t); i++)
        tensor_set(t, i, (double)(test_normal() * amplitude));
}

/* Whole numbers in [lo, hi], the ends more often than by chance. */
static inline void fill_codes(const qvit_tensor *t, int lo, int hi)
{
    for (size_t i = 0; i < tensor_count(t); i++) {
        size_t pick = test_below(16);
        int code = pick == 0 ? lo : pick == 1 ? hi : lo + (int)test_below((size_t)(hi - lo + 1));
        tensor_set(t, i, code);
    }
}

static inline void fill_value(const qvit_tensor *t, double value)
{
    for (size_t i = 0; i < tensor_count(t); i++) tensor_set(t, i, value);
}

/* ---- random numbers ---- */

/* 1..most, small numbers as likely as large ones. */
static inline size_t random_size(size_t most) { return 1 + test_below(1 + test_below(most)); }

/* The width of codes. */
static inline int32_t random_bits(void) { return 2 + (int32_t)test_below(7); }

/* In [low, high). */
static inline float random_between(float low, float high)
{
    return low + (test_uniform() + 1) / 2 * (high - low);
}

/* ---- granularities and quantizers ---- */

/* Random boundaries and, sometimes, a random order on every side that is not QVIT_ANY. */
static inline qvit_granularity *granularity_random(const qvit_engine *engine, size_t rows,
                                                   size_t cols)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    size_t size[2] = {rows, cols}, blocks[2] = {1, 1}, *bounds[2] = {0}, *order[2] = {0};
    o.rows = rows, o.cols = cols;
    for (int s = 0; s < 2; s++) {
        size_t n = size[s];
        if (n == QVIT_ANY) continue;
        bounds[s] = malloc((n + 1) * sizeof *bounds[s]);
        order[s] = malloc(n * sizeof *order[s]);
        if (!bounds[s] || !order[s]) FAIL("memory");
        size_t chance = 1 + test_below(n), b = 0;
        bounds[s][b++] = 0;
        for (size_t i = 1; i < n; i++)
            if (test_below(n) < chance) bounds[s][b++] = i;
        bounds[s][b] = n;
        blocks[s] = b;
        for (size_t i = 0; i < n; i++) {
            size_t j = test_below(i + 1);
            order[s][i] = order[s][j];
            order[s][j] = i;
        }
    }
    o.row_blocks = blocks[0], o.row_bounds = bounds[0];
    o.col_blocks = blocks[1], o.col_bounds = bounds[1];
    if (test_below(2)) o.row_order = order[0], o.col_order = order[1];
    qvit_granularity *g;
    qvit_status status = qvit_granularity_create(engine, &o, &g, &why);
    for (int s = 0; s < 2; s++) free(bounds[s]), free(order[s]);
    MUST(status);
    return keep(KEPT_GRANULARITY, g, 0);
}

/* `blocks` equal stretches of columns. */
static inline qvit_granularity *granularity_columns(const qvit_engine *engine, size_t cols,
                                                    size_t blocks)
{
    qvit_granularity_options o = QVIT_GRANULARITY_OPTIONS_INIT;
    size_t *bounds = malloc((blocks + 1) * sizeof *bounds);
    if (!bounds) FAIL("memory");
    for (size_t b = 0; b <= blocks; b++) bounds[b] = cols / blocks * b;
    o.cols = cols, o.col_blocks = blocks, o.col_bounds = bounds;
    qvit_granularity *g;
    qvit_status status = qvit_granularity_create(engine, &o, &g, &why);
    free(bounds);
    MUST(status);
    return keep(KEPT_GRANULARITY, g, 0);
}

/* Arrays have a value for each block; scale2 and zero_point only where the scheme has them. */
static inline qvit_quantizer *quantizer_with(const qvit_engine *engine, qvit_scheme scheme,
                                             int32_t bits, uint32_t flags,
                                             const qvit_granularity *granularity,
                                             const float *scale, const float *scale2,
                                             const int32_t *zero_point)
{
    size_t blocks = granularity ? qvit_granularity_blocks(granularity) : 1;
    qvit_parameter parameters[3] = {{QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, blocks, scale}};
    qvit_quantizer_options o = QVIT_QUANTIZER_OPTIONS_INIT;
    o.scheme = scheme, o.bits = bits, o.flags = flags, o.granularity = granularity;
    o.parameters = parameters, o.parameter_count = 1;
    if (zero_point)
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_ZERO_POINT, QVIT_DTYPE_S32, blocks, zero_point};
    if (scale2)
        parameters[o.parameter_count++] =
            (qvit_parameter){QVIT_PARAMETER_SCALE2, QVIT_DTYPE_F32, blocks, scale2};
    qvit_quantizer *q;
    MUST(qvit_quantizer_create(engine, &o, &q, &why));
    return keep(KEPT_QUANTIZER, q, 0);
}

static inline bool scheme_is_twin(qvit_scheme scheme)
{
    return scheme == QVIT_SCHEME_TWIN_SOFTMAX || scheme == QVIT_SCHEME_TWIN_GELU;
}

/* One block. scale2 counts for twins, zero_point for ASYMMETRIC and, if it is not 0, TWIN_GELU. */
static inline qvit_quantizer *quantizer_layer(const qvit_engine *engine, qvit_scheme scheme,
                                              int32_t bits, uint32_t flags, float scale,
                                              float scale2, int32_t zero_point)
{
    return quantizer_with(
        engine, scheme, bits, flags, NULL, &scale, scheme_is_twin(scheme) ? &scale2 : NULL,
        scheme == QVIT_SCHEME_ASYMMETRIC || (scheme == QVIT_SCHEME_TWIN_GELU && zero_point)
            ? &zero_point
            : NULL);
}

/*
 * Every block has parameters of its own, with which codes reach to about `range`. zero_point: that
 * of every block of an ASYMMETRIC one, or -1 for one of its own each. TWIN_GELU has now and then one that
 * all its blocks share.
 */
static inline qvit_quantizer *quantizer_random(const qvit_engine *engine, qvit_scheme scheme,
                                               int32_t bits, uint32_t flags,
                                               const qvit_granularity *granularity, float range,
                                               int32_t zero_point)
{
    enum { MOST = 4096 };
    static float scale[MOST], scale2[MOST];
    static int32_t zero[MOST];
    size_t blocks = granularity ? qvit_granularity_blocks(granularity) : 1;
    if (blocks > MOST) FAIL("%zu blocks", blocks);
    int shift = test_below(2) ? (int)test_below(4) : -1; /* between a twin's scales */
    bool gelu = scheme == QVIT_SCHEME_TWIN_GELU;
    int32_t point = gelu ? (int32_t)test_below((size_t)1 << bits) - (1 << (bits - 1)) : 0;
    for (size_t b = 0; b < blocks; b++) {
        float top = range * random_between(0.75f, 1.25f) / (float)(1 << (bits - 1));
        bool twin = scheme_is_twin(scheme);
        scale2[b] = top;
        scale[b] = !twin ? top : shift < 0 ? top * random_between(0.1f, 0.5f) : ldexpf(top, -shift);
        zero[b] = gelu              ? point
                  : zero_point >= 0 ? zero_point
                                    : (int32_t)test_below((size_t)1 << bits);
    }
    bool has_zero = scheme == QVIT_SCHEME_ASYMMETRIC || (gelu && test_below(2));
    return quantizer_with(engine, scheme, bits, flags, granularity, scale,
                          scheme_is_twin(scheme) ? scale2 : NULL, has_zero ? zero : NULL);
}

/* One block of a quantizer, in double precision: the scheme as qvit.h describes it. */
struct coder {
    qvit_scheme scheme;
    int lo, hi, zero;
    double scale, scale2;
};

static inline struct coder coder_at(const qvit_quantizer *q, size_t row, size_t col)
{
    size_t block = qvit_granularity_block_of(qvit_quantizer_granularity(q), row, col);
    struct coder c = {.scheme = qvit_quantizer_scheme(q)};
    int half = 1 << (qvit_quantizer_bits(q) - 1);
    bool is_signed = qvit_quantizer_code_dtype(q) == QVIT_DTYPE_S8;
    c.lo = is_signed ? -half + (qvit_quantizer_flags(q) & QVIT_QUANTIZER_NARROW ? 1 : 0) : 0;
    c.hi = is_signed ? half - 1 : 2 * half - 1;
    qvit_parameter p;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE, &p, &why));
    c.scale = (double)((const float *)p.data)[block];
    if (!qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE2, &p, NULL))
        c.scale2 = (double)((const float *)p.data)[block];
    if (!qvit_quantizer_parameter(q, QVIT_PARAMETER_ZERO_POINT, &p, NULL))
        c.zero = ((const int32_t *)p.data)[block];
    return c;
}

static inline double clamped(double x, double lo, double hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

static inline int coder_encode(const struct coder *c, double x)
{
    if (c->scheme == QVIT_SCHEME_TWIN_GELU)
        return c->zero + (x < 0 ? (int)nearbyint(clamped(x / c->scale, c->lo - c->zero, 0))
                                : (int)nearbyint(clamped(x / c->scale2, 0, c->hi - c->zero)));
    if (c->scheme == QVIT_SCHEME_TWIN_SOFTMAX) {
        int half = (c->hi + 1) / 2;
        if (x < half * c->scale) return (int)nearbyint(clamped(x / c->scale, 0, half - 1));
        return half + (int)nearbyint(clamped(x / c->scale2, 0, half - 1));
    }
    return (int)nearbyint(clamped(x / c->scale, c->lo - c->zero, c->hi - c->zero)) + c->zero;
}

static inline double coder_decode(const struct coder *c, int code)
{
    if (c->scheme == QVIT_SCHEME_TWIN_GELU)
        return (code - c->zero) * (code < c->zero ? c->scale : c->scale2);
    int half = (c->hi + 1) / 2;
    if (c->scheme == QVIT_SCHEME_TWIN_SOFTMAX)
        return code < half ? code * c->scale : (code - half) * c->scale2;
    return (code - c->zero) * c->scale;
}

#endif
