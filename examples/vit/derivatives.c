#include "derivatives.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fail.h"

/* ---- sharing out rows ---- */

typedef void row_function(const void *job, size_t first, size_t end);

/* Rows in `tasks` shares of nearly equal size. */
struct shares {
    row_function *run;
    const void *job;
    size_t rows, tasks;
};

static void run_share(void *argument, size_t index, size_t worker)
{
    (void)worker;
    const struct shares *s = argument;
    s->run(s->job, s->rows * index / s->tasks, s->rows * (index + 1) / s->tasks);
}

static qvit_status for_rows(const qvit_executor *executor, size_t rows, row_function *run,
                            const void *job, qvit_error *error)
{
    struct shares shares = {run, job, rows, rows < executor->workers ? rows : executor->workers};
    if (shares.tasks <= 1) {
        run(job, 0, rows);
        return QVIT_OK;
    }
    qvit_status status = executor->run(executor->user, shares.tasks, run_share, &shares);
    return status == QVIT_OK ? status : fail(error, QVIT_ERR_EXECUTOR, "the executor failed");
}

/* ---- sums that vectorise: one for each of LANES columns, then a tree ---- */

enum { LANES = 16 };

static float add_lanes(float lanes[LANES])
{
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) lanes[i] += lanes[half + i];
    }
    return lanes[0];
}

static float sum_of(const float *a, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) lanes[j] += a[i + j];
    }
    for (size_t j = 0; i < n; i++, j++) lanes[j] += a[i];
    return add_lanes(lanes);
}

static float dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) lanes[j] += a[i + j] * b[i + j];
    }
    for (size_t j = 0; i < n; i++, j++) lanes[j] += a[i] * b[i];
    return add_lanes(lanes);
}

/* ---- GELU ---- */

/* |x|, or 13 if that is less. Of integers, as a choice between floats would keep gcc from vectors. */
static inline float size_up_to_13(float x)
{
    const int32_t most = 0x41500000; /* 13.0f */
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= INT32_MAX;
    bits = bits < most ? bits : most;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

/*
 * exp(t) for -85 <= t <= 0, within 2e-7. 2^x is put together from its whole part, which goes into
 * the exponent's bits, and the power series of the rest.
 */
static inline float exp_negative(float t)
{
    const float whole = 0x1.8p23f; /* adding it leaves the whole part in the lowest bits */
    float x = t * 1.44269504f, shifted = x + whole;
    float y = (x - (shifted - whole)) * 0.693147181f; /* at most ln(2) / 2 in size */
    float series = 1.0f / 120 + y * (1.0f / 720);
    series = 1.0f / 6 + y * (1.0f / 24 + y * series);
    series = 1 + y * (1 + y * (1.0f / 2 + y * series));
    uint32_t bits;
    float power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

/*
 * Phi(x) + x phi(x), where nothing changes any more from |x| = 13 on. The error function is 7.1.26
 * of Abramowitz and Stegun, Handbook of Mathematical Functions, within 1.5e-7 for z >= 0; it needs
 * the same exponential as phi:
 *
 *     erf(z) = 1 - (a1 t + .. + a5 t^5) exp(-z^2), t = 1 / (1 + p z);  z = |x| / sqrt(2)
 */
static inline float gelu_slope(float x)
{
    const float a1 = 0.254829592f, a2 = -0.284496736f, a3 = 1.421413741f, a4 = -1.453152027f;
    const float a5 = 1.061405429f, p = 0.3275911f, half_root = 0.707106781f;
    const float density = 0.398942280f; /* 1 / sqrt(2 pi) */
    const float size = size_up_to_13(x), bell = exp_negative(-0.5f * size * size);
    const float t = 1 / (1 + p * half_root * size);
    const float tail = 0.5f * bell * t * (a1 + t * (a2 + t * (a3 + t * (a4 + t * a5))));
    return 0.5f + copysignf(0.5f - tail, x) + x * density * bell;
}

struct gelu_job {
    const float *x;
    float *gradient;
};

static void gelu_rows(const void *job, size_t first, size_t end)
{
    const struct gelu_job *g = job;
    const float *restrict x = g->x;
    float *restrict gradient = g->gradient;
    for (size_t i = first; i < end; i++) gradient[i] *= gelu_slope(x[i]);
}

qvit_status gelu_backward(const qvit_executor *executor, const float *x, size_t count,
                          float *gradient, qvit_error *error)
{
    const struct gelu_job job = {x, gradient};
    return for_rows(executor, count, gelu_rows, &job, error);
}

/* ---- softmax ---- */

struct softmax_job {
    const float *p;
    size_t cols;
    float scale;
    float *gradient;
};

static void softmax_rows(const void *job, size_t first, size_t end)
{
    const struct softmax_job *s = job;
    for (size_t row = first; row < end; row++) {
        const float *restrict p = s->p + row * s->cols;
        float *restrict gradient = s->gradient + row * s->cols;
        const float mean = dot(p, gradient, s->cols);
        for (size_t i = 0; i < s->cols; i++) gradient[i] = s->scale * p[i] * (gradient[i] - mean);
    }
}

qvit_status softmax_backward(const qvit_executor *executor, const float *p, size_t rows,
                             size_t cols, float scale, float *gradient, qvit_error *error)
{
    const struct softmax_job job = {p, cols, scale, gradient};
    return for_rows(executor, rows, softmax_rows, &job, error);
}

/* ---- LayerNorm ---- */

struct norm_job {
    const vit_norm *norm;
    const float *x, *dy;
    float *sum;
    size_t stride;
};

/* Of the row: d is x less its mean, u is gamma dy. */
struct norm_lanes {
    float dd[LANES], u[LANES], ud[LANES];
};

static inline void norm_add(struct norm_lanes *sums, const float *gamma, const float *x, float mean,
                            const float *dy, size_t lanes)
{
    for (size_t j = 0; j < lanes; j++) {
        const float d = x[j] - mean, u = gamma[j] * dy[j];
        sums->dd[j] += d * d;
        sums->u[j] += u;
        sums->ud[j] += u * d;
    }
}

/* What all columns of a row share. */
struct norm_row {
    float mean, scale;     /* of x: its mean, and one over its deviation */
    float mean_u, mean_uh; /* h is d times scale */
};

static struct norm_row norm_row(const float *gamma, const float *x, const float *dy, size_t n)
{
    const float share = 1 / (float)n, mean = sum_of(x, n) * share;
    struct norm_lanes sums = {{0}, {0}, {0}};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) norm_add(&sums, gamma + i, x + i, mean, dy + i, LANES);
    norm_add(&sums, gamma + i, x + i, mean, dy + i, n - i);
    const float scale = 1 / sqrtf(add_lanes(sums.dd) * share + VIT_LAYER_NORM_EPS);
    return (struct norm_row){mean, scale, add_lanes(sums.u) * share,
                             add_lanes(sums.ud) * share * scale};
}

static void norm_rows(const void *job, size_t first, size_t end)
{
    const struct norm_job *l = job;
    const size_t n = l->norm->gamma.dims[0];
    const float *restrict gamma = l->norm->gamma.data;
    for (size_t row = first; row < end; row++) {
        const float *restrict x = l->x + row * l->stride, *restrict dy = l->dy + row * n;
        float *restrict sum = l->sum + row * l->stride;
        const struct norm_row s = norm_row(gamma, x, dy, n);
        for (size_t i = 0; i < n; i++) {
            const float h = (x[i] - s.mean) * s.scale;
            sum[i] += (gamma[i] * dy[i] - s.mean_u - h * s.mean_uh) * s.scale;
        }
    }
}

qvit_status layer_norm_backward(const qvit_executor *executor, const vit_norm *norm, const float *x,
                                size_t rows, size_t stride, const float *dy, float *sum,
                                qvit_error *error)
{
    const struct norm_job job = {norm, x, dy, sum, stride};
    return for_rows(executor, rows, norm_rows, &job, error);
}

/* ---- transposing ---- */

struct transpose_job {
    const matrices *from, *to;
};

/* By strips of columns as wide as a cache line: while one is turned, its lines stay in the cache. */
static void transpose_matrices(const void *job, size_t first, size_t end)
{
    enum { STRIP = 16 };
    const matrices *from = ((const struct transpose_job *)job)->from;
    const matrices *to = ((const struct transpose_job *)job)->to;
    for (size_t number = first; number < end; number++) {
        const float *in = from->data + number * from->rows * from->stride;
        float *out = to->data + number * to->rows * to->stride;
        for (size_t strip = 0; strip < from->cols; strip += STRIP) {
            const size_t last = strip + STRIP < from->cols ? strip + STRIP : from->cols;
            for (size_t col = strip; col < last; col++) {
                for (size_t row = 0; row < from->rows; row++)
                    out[col * to->stride + row] = in[row * from->stride + col];
            }
        }
    }
}

qvit_status transpose(const qvit_executor *executor, const matrices *from, const matrices *to,
                      qvit_error *error)
{
    const struct transpose_job job = {from, to};
    return for_rows(executor, from->count, transpose_matrices, &job, error);
}
