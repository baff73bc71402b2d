/*
 * calibration.h - what the tests of the calibrator share, on top of support.h.
 *
 *   calibrators  calibrator_new(), add_linear(), add_matmul(), observe(), solve(), result_of()
 *   refusals     REFUSED(), REFUSED_FOR()
 *   results      struct bytes: everything that a result holds, one byte after another
 *   arithmetic   products in double, of floats and of what codes mean
 *
 * What these functions make lives until give_back(), which calls release() of support.h too.
 */
#ifndef QVIT_TEST_CALIBRATION_H
#define QVIT_TEST_CALIBRATION_H

#include "support.h"

/* ---- life ---- */

static struct {
    qvit_calibrator *calibrators[2048];
    qvit_result *results[8192];
    size_t calibrator_count, result_count;
} held;

static inline qvit_calibrator *hold_calibrator(qvit_calibrator *c)
{
    if (held.calibrator_count == sizeof held.calibrators / sizeof held.calibrators[0])
        FAIL("too many calibrators: call give_back()");
    return held.calibrators[held.calibrator_count++] = c;
}

static inline qvit_result *hold_result(qvit_result *r)
{
    if (held.result_count == sizeof held.results / sizeof held.results[0])
        FAIL("too many results: call give_back()");
    return held.results[held.result_count++] = r;
}

/* Only calibrators and results: tensors and engines stay. */
static inline void forget_calibrators(void)
{
    while (held.calibrator_count)
        qvit_calibrator_destroy(held.calibrators[--held.calibrator_count]);
    while (held.result_count) qvit_result_destroy(held.results[--held.result_count]);
}

static inline void give_back(void)
{
    forget_calibrators();
    release();
}

/* ---- calibrators ---- */

static inline qvit_calibrator *calibrator_new(const qvit_engine *engine)
{
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(engine, NULL, &c, &why));
    return hold_calibrator(c);
}

static inline qvit_calibrator *calibrator_capped(const qvit_engine *engine, uint64_t seed,
                                                 uint64_t max_bytes, size_t max_rows)
{
    qvit_calibrator_options o = QVIT_CALIBRATOR_OPTIONS_INIT;
    o.seed = seed, o.max_bytes = max_bytes, o.max_rows = max_rows;
    qvit_calibrator *c;
    MUST(qvit_calibrator_create(engine, &o, &c, &why));
    return hold_calibrator(c);
}

static inline size_t add_linear(qvit_calibrator *c, qvit_input_kind kind, const qvit_tensor *weight,
                                const qvit_tensor *bias)
{
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    o.name = "linear", o.input_kind = kind, o.weight = weight, o.bias = bias;
    size_t site;
    MUST(qvit_calibrator_add_site(c, &o, &site, &why));
    return site;
}

static inline size_t add_matmul(qvit_calibrator *c, qvit_input_kind kind, size_t heads,
                                bool transposed)
{
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    o.name = "matmul", o.type = QVIT_SITE_MATMUL, o.input_kind = kind;
    o.heads = heads, o.second_transposed = transposed;
    size_t site;
    MUST(qvit_calibrator_add_site(c, &o, &site, &why));
    return site;
}

static inline qvit_status tie(qvit_calibrator *c, qvit_tie kind, size_t a, size_t b)
{
    const size_t sites[2] = {a, b};
    return qvit_calibrator_tie(c, kind, sites, 2, &why);
}

static inline void observe(qvit_calibrator *c, size_t site, const qvit_tensor *input)
{
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = site, o.input = input;
    MUST(qvit_calibrator_observe(c, &o, &why));
}

static inline void observe_pair(qvit_calibrator *c, size_t site, const qvit_tensor *left,
                                const qvit_tensor *right)
{
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = site, o.input = left, o.second = right;
    MUST(qvit_calibrator_observe(c, &o, &why));
}

/* Cuts "a=1 b=2" at its spaces; the texts live until the next call. */
static inline size_t split_settings(const char *text, const char **settings, size_t most)
{
    static char copy[256];
    size_t count = 0;
    if (!text) return 0;
    strncpy(copy, text, sizeof copy - 1);
    for (char *word = strtok(copy, " "); word && count < most; word = strtok(NULL, " "))
        settings[count++] = word;
    return count;
}

static inline qvit_status solve_status(qvit_calibrator *c, const char *recipe, int32_t weight_bits,
                                       int32_t input_bits, const char *settings_text)
{
    const char *settings[8];
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.recipe = recipe, o.weight_bits = weight_bits, o.input_bits = input_bits;
    o.setting_count = split_settings(settings_text, settings, 8), o.settings = settings;
    qvit_status status = qvit_calibrator_solve(c, &o, &why);
    CHECK_EQ(why.status, status);
    return status;
}

static inline void solve(qvit_calibrator *c, const char *recipe, int32_t weight_bits,
                         int32_t input_bits, const char *settings)
{
    MUST(solve_status(c, recipe, weight_bits, input_bits, settings));
}

static inline const qvit_result *result_of(const qvit_calibrator *c, size_t site)
{
    qvit_result *r;
    MUST(qvit_calibrator_result(c, site, &r, &why));
    return hold_result(r);
}

/* ---- calls that fail ---- */

/* Fails unless the call gives this status, and the error says so with a text. */
#define CHECK_REFUSED(call, expected)                                                              \
    do {                                                                                           \
        memset(&why, 0xA5, sizeof why);                                                            \
        qvit_status got_ = (call);                                                                 \
        if (got_ != (expected))                                                                    \
            FAIL("%s: %s, not %s: %.100s", #call, qvit_status_name(got_),                          \
                 qvit_status_name(expected), got_ ? why.text : "");                                \
        CHECK_EQ(why.status, got_);                                                                \
        CHECK(why.text[0] && memchr(why.text, 0, sizeof why.text));                                \
    } while (0)

/* The same of a call that reads no saved bytes: the error names none of them. */
#define REFUSED(call, expected)                                                                    \
    do {                                                                                           \
        CHECK_REFUSED(call, expected);                                                             \
        CHECK_EQ(why.offset, 0);                                                                   \
    } while (0)

/* The same, and the text contains `word`. */
#define REFUSED_FOR(call, expected, word)                                                          \
    do {                                                                                           \
        CHECK_REFUSED(call, expected);                                                             \
        if (!strstr(why.text, (word))) FAIL("no \"%s\" in: %s", (word), why.text);                 \
    } while (0)

/* ---- what a result holds ---- */

static inline qvit_tensor part_of(const qvit_result *r, qvit_result_key key)
{
    qvit_tensor t;
    MUST(qvit_result_tensor(r, key, &t, &why));
    return t;
}

static inline const qvit_quantizer *input_of(const qvit_result *r)
{
    return qvit_result_quantizer(r, QVIT_RESULT_INPUT);
}

static inline const qvit_quantizer *second_of(const qvit_result *r)
{
    return qvit_result_quantizer(r, QVIT_RESULT_SECOND);
}

static inline float scale_of(const qvit_quantizer *q, size_t block)
{
    qvit_parameter p;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE, &p, &why));
    CHECK(block < p.count);
    return ((const float *)p.data)[block];
}

static inline float scale2_of(const qvit_quantizer *q)
{
    qvit_parameter p;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_SCALE2, &p, &why));
    return ((const float *)p.data)[0];
}

static inline int32_t zero_at(const qvit_quantizer *q, size_t block)
{
    qvit_parameter p;
    MUST(qvit_quantizer_parameter(q, QVIT_PARAMETER_ZERO_POINT, &p, &why));
    CHECK(block < p.count);
    return ((const int32_t *)p.data)[block];
}

static inline int32_t zero_of(const qvit_quantizer *q) { return zero_at(q, 0); }

struct bytes {
    unsigned char *data;
    size_t size, room;
};

static inline void bytes_add(struct bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->room) {
        b->room = 2 * (b->size + size) + 1024;
        b->data = realloc(b->data, b->room);
        if (!b->data) FAIL("memory");
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void bytes_add_quantizer(struct bytes *b, const qvit_quantizer *q)
{
    const qvit_granularity *g = qvit_quantizer_granularity(q);
    const int64_t head[] = {qvit_quantizer_scheme(q), qvit_quantizer_bits(q),
                            qvit_quantizer_flags(q), qvit_quantizer_code_dtype(q),
                            (int64_t)qvit_granularity_blocks(g)};
    bytes_add(b, head, sizeof head);
    for (qvit_parameter_key key = QVIT_PARAMETER_SCALE; key <= QVIT_PARAMETER_SCALE2; key++) {
        qvit_parameter p;
        (void)qvit_quantizer_parameter(q, key, &p, NULL); /* all zero if it has none */
        const int64_t about[] = {p.key, p.dtype, (int64_t)p.count};
        bytes_add(b, about, sizeof about);
        bytes_add(b, p.data, p.count * 4);
    }
}

/* Everything that a result holds. */
static inline void bytes_add_result(struct bytes *b, const qvit_result *r)
{
    bytes_add_quantizer(b, input_of(r));
    bytes_add_quantizer(b, second_of(r));
    for (qvit_result_key key = QVIT_RESULT_WEIGHT_CODES; key <= QVIT_RESULT_OUTPUT_ORDER; key++) {
        qvit_tensor t = part_of(r, key);
        const int64_t about[] = {t.data != NULL, t.dtype, t.rank};
        bytes_add(b, about, sizeof about);
        if (!t.data) continue;
        bytes_add(b, t.dims, (size_t)t.rank * sizeof t.dims[0]);
        bytes_add(b, t.data, qvit_tensor_bytes(t.dtype, (size_t)t.rank, t.dims));
    }
    const uint64_t size = qvit_result_weight_bytes(r);
    bytes_add(b, &size, sizeof size);
}

static inline struct bytes bytes_of_results(const qvit_calibrator *c, size_t sites)
{
    struct bytes b = {0};
    for (size_t i = 0; i < sites; i++) {
        qvit_result *r;
        MUST(qvit_calibrator_result(c, i, &r, &why));
        bytes_add_result(&b, r);
        qvit_result_destroy(r);
    }
    return b;
}

static inline bool bytes_equal(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && !memcmp(a->data, b->data, a->size);
}

static inline void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

/* ---- arithmetic ---- */

/* A view of floats of its own, filled by a rough normal distribution. */
static inline qvit_tensor normals(size_t rank, const size_t *dims, float amplitude)
{
    qvit_tensor t = view_dense(QVIT_DTYPE_F32, rank, dims).t;
    fill_normal(&t, amplitude);
    return t;
}

static inline qvit_tensor zeros(size_t rank, const size_t *dims)
{
    qvit_tensor t = view_dense(QVIT_DTYPE_F32, rank, dims).t;
    fill_value(&t, 0);
    return t;
}

static inline qvit_tensor matrix(size_t rows, size_t cols, float amplitude)
{
    return normals(2, (size_t[]){rows, cols}, amplitude);
}

/* What a quantizer makes of a tensor. */
static inline qvit_tensor fake_of(const qvit_quantizer *q, const qvit_tensor *x)
{
    qvit_tensor out = view_dense(QVIT_DTYPE_F32, (size_t)x->rank, x->dims).t;
    MUST(qvit_quantizer_fake(q, x, &out, &why));
    return out;
}

/* The numbers that a result's weight codes mean. */
static inline qvit_tensor weights_of(const qvit_result *r)
{
    qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
    qvit_tensor out = view_dense(QVIT_DTYPE_F32, 2, codes.dims).t;
    MUST(qvit_quantizer_decode(second_of(r), &codes, &out, &why));
    return out;
}

/* [m][n] = x [m, k] times the transpose of w [n, k], in double; the caller frees it. */
static inline double *product_of(const qvit_tensor *x, const qvit_tensor *w)
{
    size_t n = w->dims[0], k = w->dims[1], m = tensor_count(x) / k;
    double *out = calloc(m * n, sizeof *out);
    if (!out) FAIL("memory");
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < k; c++)
                out[i * n + j] += tensor_get(x, i * k + c) * tensor_get(w, j * k + c);
    return out;
}

static inline double squared_distance(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* The mean over rows of the cosine between them. */
static inline double mean_cosine(const double *a, const double *b, size_t rows, size_t cols)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++, a += cols, b += cols) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t j = 0; j < cols; j++) ab += a[j] * b[j], aa += a[j] * a[j], bb += b[j] * b[j];
        sum += aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (aa > 0) == (bb > 0);
    }
    return sum / (double)rows;
}

#endif
