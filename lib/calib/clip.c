/* clip.c - the range of each channel that costs least. */
#include "calib/clip.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "sched/sched.h"

/* Rounds of drawing in one end and then the other; candidates of each, and the step between them. */
enum { ROUNDS = 2, CANDIDATES = 20 };
static const float step = 0.04f;

struct clip {
    size_t m, k;
    const float *rows, *weight;
    float levels; /* 2^bits - 1 */
    float *lo, *hi;
    float *column; /* [workers][2][m] */
};

static double error_of(const struct clip *c, const float *x, float lo, float hi)
{
    float scale = fmaxf((hi - lo) / c->levels, 1e-30f), inverse = 1 / scale, sums[8] = {0};
    for (size_t i = 0; i < c->m; i++) {
        float t = (x[i] - lo) * inverse;
        t = t < 0 ? 0 : t > c->levels ? c->levels : t;
        t = (t + QVITP_ROUND_MAGIC) - QVITP_ROUND_MAGIC;
        float d = t * scale + lo - x[i];
        sums[i % 8] += c->weight[i] * d * d;
    }
    double sum = 0;
    for (size_t i = 0; i < 8; i++) sum += (double)sums[i];
    return sum;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void clip_channel(void *argument, size_t channel, size_t worker)
{
    const struct clip *c = argument;
    float *x = c->column + worker * 2 * c->m, *sorted = x + c->m;
    for (size_t i = 0; i < c->m; i++) x[i] = c->rows[i * c->k + channel];
    memcpy(sorted, x, c->m * sizeof *x);
    qsort(sorted, c->m, sizeof *sorted, compare);
    float lo = c->lo[channel], hi = c->hi[channel], middle = sorted[c->m / 2];
    float ends[2] = {lo - middle, hi - middle}, factor[2] = {1, 1};
    double least = error_of(c, x, lo, hi);
    for (int turn = 0; turn < 2 * ROUNDS; turn++) {
        float found = factor[turn % 2];
        for (int i = 0; i < CANDIDATES; i++) {
            factor[turn % 2] = 1 - step * (float)i;
            double error =
                error_of(c, x, middle + ends[0] * factor[0], middle + ends[1] * factor[1]);
            if (error < least) least = error, found = factor[turn % 2];
        }
        factor[turn % 2] = found;
    }
    c->lo[channel] = middle + ends[0] * factor[0];
    c->hi[channel] = middle + ends[1] * factor[1];
}

qvit_status qvitp_clip_channels(const qvit_engine *engine, size_t m, size_t k, const float *rows,
                                const float *weight, int32_t bits, float *lo, float *hi,
                                qvit_error *error)
{
    size_t floats = qvitp_mul(engine->executor.workers, qvitp_mul(2, m));
    struct clip c = {m, k, rows, weight, (float)((1 << bits) - 1), lo, hi, NULL};
    c.column = qvitp_engine_alloc(engine, floats, sizeof *c.column);
    if (!c.column) return qvitp_no_memory(error);
    qvit_status status = qvitp_parallel(&engine->executor, k, clip_channel, &c, error);
    qvitp_engine_free(engine, c.column);
    return status;
}
