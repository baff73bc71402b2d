/*
 * partition_sort.c - channels by size, cut by dynamic programming.
 *
 * least[n][j], the least noise of the first j cells in n blocks, is the minimum over i of least[n-1][i]
 * plus the noise of a block of cells i..j-1. Two ways to find it:
 *
 *   one feature, sorted   The noise of a block is p_j (s_i + .. + s_j-1) with p_j the square of its last
 *                         channel, which is Monge: of two blocks that overlap, taking the ends crosswise
 *                         gains nothing. So the best i rises with j, and is found by halving.
 *   else                  Largest squares of several features do not rise together, and nothing is Monge:
 *                         all i are tried, from j-1 down. Blocks become noisier as they grow, so that
 *                         the search ends with the first that is too noisy by itself.
 */
#include "calib/partition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/numerics.h"

/* Rounds of power iteration. A direction that is not quite the first one does as well. */
enum { POWER_ROUNDS = 50 };

/* Beginnings of a block that are looked at together. */
enum { RUN = 8 };

/* What a channel's reach is taken for at least, log2 of the feature's largest. */
#define LEAST_LEVEL (-10.0)

/* ---- sorting ---- */

static int compare(const void *left, const void *right)
{
    const struct qvitp_keyed *a = left, *b = right;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->channel < b->channel ? -1 : 1;
}

void qvitp_keyed_sort(struct qvitp_keyed *keyed, size_t count)
{
    qsort(keyed, count, sizeof *keyed, compare);
}

static void sort(const struct qvitp_segment *segment, struct qvitp_keyed *keyed, uint32_t *order)
{
    qvitp_keyed_sort(keyed, segment->channels);
    for (size_t i = 0; i < segment->channels; i++) order[i] = keyed[i].channel;
}

/* Sorts by the levels along a direction [features]; `keyed` is scratch. */
static void sort_along(const struct qvitp_segment *segment, const float *level,
                       const double *direction, struct qvitp_keyed *keyed, uint32_t *order)
{
    for (size_t c = 0; c < segment->channels; c++, level += segment->features) {
        double key = 0;
        for (size_t f = 0; f < segment->features; f++) key += direction[f] * (double)level[f];
        keyed[c] = (struct qvitp_keyed){key, (uint32_t)c};
    }
    sort(segment, keyed, order);
}

/* ---- levels and directions ---- */

/* log2(x) to 0.01, x > 0: the same on every machine, which libm's is not. */
static double log2_about(double x)
{
    int exponent;
    double t = 2 * frexp(x, &exponent) - 1;
    return exponent - 1 + t + 0.34 * t * (1 - t);
}

int qvitp_segment_levels(struct qvitp_pool *pool, const struct qvitp_segment *segment, float *level)
{
    size_t features = segment->features;
    double *peak = qvitp_pool_alloc(pool, qvitp_mul(3, features), sizeof *peak);
    if (!peak) return 0;
    double *sum = peak + features, *share = sum + features, total = 0;
    for (size_t i = 0; i < segment->channels * features; i++) {
        size_t f = i % features;
        if (segment->square[i] > peak[f]) peak[f] = segment->square[i];
        sum[f] += segment->weight[i];
    }
    for (size_t f = 0; f < features; f++) total += peak[f] * sum[f];
    for (size_t f = 0; f < features; f++) share[f] = total > 0 ? sqrt(peak[f] * sum[f] / total) : 0;
    for (size_t i = 0; i < segment->channels * features; i++) {
        size_t f = i % features;
        double ratio = peak[f] > 0 ? segment->square[i] / peak[f] : 0;
        double log = ratio > 0 ? log2_about(ratio) / 2 : LEAST_LEVEL;
        level[i] = (float)(share[f] * fmax(log, LEAST_LEVEL));
    }
    return 1;
}

/* covariance [features][features] of the levels but for a factor; mean [features] is scratch, zero. */
static void covary(const struct qvitp_segment *segment, const float *level, double *mean,
                   double *covariance)
{
    size_t features = segment->features;
    for (size_t i = 0; i < segment->channels * features; i++)
        mean[i % features] += (double)level[i];
    for (size_t f = 0; f < features; f++) mean[f] /= (double)segment->channels;
    for (size_t c = 0; c < segment->channels; c++, level += features)
        for (size_t f = 0; f < features; f++) {
            double x = (double)level[f] - mean[f], *row = covariance + f * features;
            for (size_t g = 0; g < features; g++) row[g] += x * ((double)level[g] - mean[g]);
        }
}

/* v becomes length 1, in the direction in which levels rise; a v of zeros stays. */
static void normalize(size_t n, double *v)
{
    double squares = 0, sum = 0;
    for (size_t i = 0; i < n; i++) squares += v[i] * v[i], sum += v[i];
    double length = sum < 0 ? -sqrt(squares) : sqrt(squares);
    for (size_t i = 0; i < n && squares > 0; i++) v[i] /= length;
}

/* The direction v [n] of the largest eigenvalue; next [n] is scratch. */
static void principal(size_t n, const double *covariance, double *v, double *next)
{
    size_t widest = 0;
    for (size_t i = 1; i < n; i++)
        if (covariance[i * n + i] > covariance[widest * n + widest]) widest = i;
    memcpy(v, covariance + widest * n, n * sizeof *v);
    normalize(n, v);
    for (size_t round = 0; round < POWER_ROUNDS; round++) {
        memset(next, 0, n * sizeof *next);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) next[j] += v[i] * covariance[i * n + j];
        normalize(n, next);
        memcpy(v, next, n * sizeof *v);
    }
}

int qvitp_segment_principal_order(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                                  const float *level, uint32_t *order)
{
    size_t features = segment->features;
    double *direction = qvitp_pool_alloc(pool, qvitp_mul(2, features), sizeof *direction);
    double *covariance = qvitp_pool_alloc(pool, qvitp_mul(features, features), sizeof *covariance);
    struct qvitp_keyed *keyed = qvitp_pool_alloc(pool, segment->channels, sizeof *keyed);
    if (!direction || !covariance || !keyed) return 0;
    covary(segment, level, direction, covariance);
    principal(features, covariance, direction, direction + features);
    sort_along(segment, level, direction, keyed, order);
    return 1;
}

/* ---- cutting ---- */

struct cutting {
    const struct qvitp_segment *segment;
    const uint32_t *order;   /* place -> channel */
    size_t cells, step;      /* a cell is `step` places */
    double *square, *weight; /* [cells][features] largest square, sum of weights; behind it zeros */
    double *cost;            /* [cells (cells + 1) / 2]: of cells i..j-1, at j (j-1) / 2 + i */
    double *least, *next, *mix; /* [cells + 1]; mix: [features] twice */
    uint32_t *from;             /* [blocks][cells + 1] where the last of n blocks begins */
};

/* Memory for cuts at every multiple of step. `triangle`: for any order. 0: it ran out. */
static int make_cutting(struct qvitp_pool *pool, const struct qvitp_segment *segment, size_t step,
                        int triangle, struct cutting *c)
{
    size_t cells = (segment->channels - 1) / step + 1, ends = cells + 1;
    size_t table = qvitp_mul(ends, segment->features), half = qvitp_mul(ends / 2, cells | 1);
    *c = (struct cutting){.segment = segment, .cells = cells, .step = step};
    c->square = qvitp_pool_alloc(pool, table, sizeof *c->square);
    c->weight = qvitp_pool_alloc(pool, table, sizeof *c->weight);
    c->cost = qvitp_pool_alloc(pool, triangle ? half : 1, sizeof *c->cost);
    c->least = qvitp_pool_alloc(pool, ends, sizeof *c->least);
    c->next = qvitp_pool_alloc(pool, ends, sizeof *c->next);
    c->mix = qvitp_pool_alloc(pool, qvitp_mul(2, segment->features), sizeof *c->mix);
    c->from = qvitp_pool_alloc(pool, qvitp_mul(segment->blocks, ends), sizeof *c->from);
    return c->square && c->weight && c->cost && c->least && c->next && c->mix && c->from;
}

/* The cells of an order. */
static void fill_cells(struct cutting *c, const uint32_t *order)
{
    size_t features = c->segment->features;
    c->order = order;
    memset(c->square, 0, c->cells * features * sizeof *c->square);
    memset(c->weight, 0, c->cells * features * sizeof *c->weight);
    for (size_t i = 0; i < c->segment->channels; i++) {
        size_t from = order[i] * features, to = i / c->step * features;
        for (size_t f = 0; f < features; f++) {
            double x = c->segment->square[from + f];
            if (x > c->square[to + f]) c->square[to + f] = x;
            c->weight[to + f] += c->segment->weight[from + f];
        }
    }
}

/* One cell more in a block with largest squares peak and sums of weights sum; its noise. */
static double grow(size_t features, const double *restrict square, const double *restrict weight,
                   double *restrict peak, double *restrict sum)
{
    double part[QVITP_LANES] = {0};
    for (size_t f = 0; f < features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++) {
            double high = peak[f + l], x = square[f + l];
            peak[f + l] = high = x > high ? x : high;
            sum[f + l] += weight[f + l];
            part[l] += high * sum[f + l];
        }
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* The noise of every run of cells. Rounded sums of more are never smaller, so that it rises both ways. */
static void fill_cost(struct cutting *c)
{
    size_t features = c->segment->features;
    double *peak = c->mix, *sum = peak + features, *row = c->cost;
    for (size_t j = 1; j <= c->cells; row += j++) {
        memset(c->mix, 0, 2 * features * sizeof *c->mix);
        for (size_t i = j; i-- > 0;)
            row[i] = grow(features, c->square + i * features, c->weight + i * features, peak, sum);
    }
}

/* The best beginning of the last of n + 1 blocks of cells 0..j-1, from n on; `guess` is one, n <= guess < j.
 * least rises and row falls, so that two ends of a run of beginnings bound all of it: runs grow while they
 * can be left out, and are halved until they can, or are short. */
static size_t begin_last(const struct cutting *c, size_t n, size_t j, size_t guess)
{
    const double *row = c->cost + j * (j - 1) / 2, *least = c->least;
    double best = least[guess] + row[guess];
    for (size_t high = j, run = RUN; high > n && least[n] + row[high - 1] < best;) {
        size_t low = high - n > run ? high - run : n;
        if (least[low] + row[high - 1] >= best) {
            high = low;
            run *= 2;
        } else if (run > RUN) {
            run /= 2;
        } else {
            for (size_t i = low; i < high; i++)
                if (least[i] + row[i] < best) best = least[i] + row[i], guess = i;
            high = low;
        }
    }
    return guess;
}

/* The cuts in any order. */
static void cut_any(struct cutting *c)
{
    size_t ends = c->cells + 1;
    fill_cost(c);
    for (size_t j = 1; j < ends; j++) c->least[j] = c->cost[j * (j - 1) / 2];
    for (size_t n = 1; n < c->segment->blocks; n++)
        for (size_t j = c->cells, i = n; j > n;
             j--) { /* least[j] of n blocks is not needed any more */
            i = begin_last(c, n, j, qvitp_min(i, j - 1));
            c->from[n * ends + j] = (uint32_t)i;
            c->least[j] = c->least[i] + c->cost[j * (j - 1) / 2 + i];
        }
}

/* least of n + 1 blocks for cells [begin, end), whose last blocks begin in [low, high]. weight[i] is the
 * sum of all from cell i on: such sums keep what the small ones beside noisy cells need. */
static void halve(struct cutting *c, size_t n, size_t begin, size_t end, size_t low, size_t high)
{
    if (begin == end) return;
    size_t j = begin + (end - begin) / 2, best = low, stride = c->segment->features;
    double square = c->square[(j - 1) * stride], after = c->weight[j * stride], least = INFINITY;
    for (size_t i = low; i <= high && i < j; i++) {
        double noise = c->least[i] + square * (c->weight[i * stride] - after);
        if (noise < least) least = noise, best = i;
    }
    c->next[j] = least;
    c->from[n * (c->cells + 1) + j] = (uint32_t)best;
    halve(c, n, begin, j, low, best);
    halve(c, n, j + 1, end, best, high);
}

/* The cuts of one feature in rising order. */
static void cut_sorted(struct cutting *c)
{
    size_t stride = c->segment->features;
    for (size_t i = c->cells; i-- > 0;) c->weight[i * stride] += c->weight[(i + 1) * stride];
    for (size_t j = 1; j <= c->cells; j++)
        c->least[j] = c->square[(j - 1) * stride] * (c->weight[0] - c->weight[j * stride]);
    for (size_t n = 1; n < c->segment->blocks; n++) {
        halve(c, n, n + 1, c->cells + 1, n, c->cells - 1);
        double *least = c->least;
        c->least = c->next;
        c->next = least;
    }
}

/* Where the cuts put the channels. */
static void read_cuts(const struct cutting *c, uint32_t *home)
{
    size_t end = c->cells;
    for (size_t b = c->segment->blocks; b-- > 0;) {
        size_t begin = b ? c->from[b * (c->cells + 1) + end] : 0;
        size_t last = qvitp_min(end * c->step, c->segment->channels);
        for (size_t i = begin * c->step; i < last; i++) home[c->order[i]] = (uint32_t)b;
        end = begin;
    }
}

/* ---- the method ---- */

struct sorting {
    struct qvitp_pool pool;
    const struct qvitp_segment *segment;
    struct cutting any;
    struct qvitp_layout layout;
    uint32_t *order, *home; /* home: the best of all tries */
    double least;
};

/* Takes the layout's home if it is the best yet. */
static void consider(struct sorting *s)
{
    qvitp_layout_fill(s->segment, &s->layout);
    if (s->layout.total >= s->least) return;
    s->least = s->layout.total;
    memcpy(s->home, s->layout.home, s->segment->channels * sizeof *s->home);
}

static void try_order(struct sorting *s, struct cutting *cutting, void cut(struct cutting *))
{
    fill_cells(cutting, s->order);
    cut(cutting);
    read_cuts(cutting, s->layout.home);
    consider(s);
}

static int try_reach(struct sorting *s)
{
    struct cutting cutting;
    struct qvitp_keyed *keyed = qvitp_pool_alloc(&s->pool, s->segment->channels, sizeof *keyed);
    if (!keyed || !make_cutting(&s->pool, s->segment, s->segment->multiple, 0, &cutting)) return 0;
    for (size_t i = 0; i < s->segment->channels; i++)
        keyed[i] = (struct qvitp_keyed){s->segment->square[i * s->segment->features], (uint32_t)i};
    sort(s->segment, keyed, s->order);
    try_order(s, &cutting, cut_sorted);
    return 1;
}

static int try_directions(struct sorting *s)
{
    const struct qvitp_segment *segment = s->segment;
    size_t table = qvitp_mul(segment->channels, segment->features);
    float *level = qvitp_pool_alloc(&s->pool, table, sizeof *level);
    double *ones = qvitp_pool_alloc(&s->pool, segment->features, sizeof *ones);
    struct qvitp_keyed *keyed = qvitp_pool_alloc(&s->pool, segment->channels, sizeof *keyed);
    if (!level || !ones || !keyed || !qvitp_segment_levels(&s->pool, segment, level)) return 0;
    for (size_t f = 0; f < segment->features; f++) ones[f] = 1;
    sort_along(segment, level, ones, keyed, s->order);
    try_order(s, &s->any, cut_any);
    if (!qvitp_segment_principal_order(&s->pool, segment, level, s->order)) return 0;
    try_order(s, &s->any, cut_any);
    return 1;
}

/* 0: no memory. */
static int try_all(struct sorting *s)
{
    const struct qvitp_segment *segment = s->segment;
    s->least = INFINITY;
    s->order = qvitp_pool_alloc(&s->pool, segment->channels, sizeof *s->order);
    if (!s->order || !qvitp_layouts_make(&s->pool, segment, 1, &s->layout) ||
        !make_cutting(&s->pool, segment, segment->step, 1, &s->any))
        return 0;
    qvitp_segment_cut_evenly(segment, s->home);
    for (size_t i = 0; i < segment->channels; i++) s->order[i] = (uint32_t)i;
    try_order(s, &s->any, cut_any);
    if (segment->fixed) return 1;
    return segment->single ? try_reach(s) : try_directions(s);
}

qvit_status qvitp_order_sort(const qvit_engine *engine, const struct qvitp_segment *segment,
                             uint32_t *home, qvit_error *error)
{
    struct sorting s = {.pool = {engine, NULL}, .segment = segment, .home = home};
    int done = try_all(&s);
    qvitp_pool_free(&s.pool);
    return done ? QVIT_OK : qvitp_no_memory(error);
}
