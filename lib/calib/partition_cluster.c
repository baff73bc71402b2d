/*
 * partition_cluster.c - channels that are large in the same features share a block: k-means of their levels,
 * blocks of equal size filled by regret, then swaps.
 */
#include "calib/partition.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/numerics.h"
#include "base/shares.h"

/* Rounds of k-means, and products that all of them together may take: fewer rounds where there are many
 * channels and blocks. */
enum { MOST_ROUNDS = 12, LEAST_ROUNDS = 2, MOST_PRODUCTS = 1 << 26 };

struct clustering {
    struct qvitp_pool pool;
    const struct qvitp_segment *segment;
    float *level;          /* [channels][features] */
    float *center;         /* [blocks][features] */
    float *distance;       /* [channels][blocks], squared */
    double *sum;           /* [blocks][features] */
    uint32_t *order;       /* [channels] along the principal direction */
    uint32_t *near, *next; /* [channels] the nearest cluster with room, and the second */
    float *regret;         /* [channels] how much farther the second one is */
    uint32_t *waiting;     /* [channels] for a block */
    size_t *count;         /* [blocks] channels nearest to a cluster */
    size_t *room;          /* [blocks] of a cluster */
    uint32_t *block;       /* [blocks] the block that a cluster becomes */
    struct qvitp_layout even, best, layout;
};

static int make(struct clustering *k)
{
    const struct qvitp_segment *segment = k->segment;
    size_t channels = segment->channels, blocks = segment->blocks;
    struct qvitp_layout layouts[3];
    k->level = qvitp_pool_alloc(&k->pool, qvitp_mul(channels, segment->features), sizeof *k->level);
    k->center = qvitp_pool_alloc(&k->pool, qvitp_mul(blocks, segment->features), sizeof *k->center);
    k->distance = qvitp_pool_alloc(&k->pool, qvitp_mul(channels, blocks), sizeof *k->distance);
    k->sum = qvitp_pool_alloc(&k->pool, qvitp_mul(blocks, segment->features), sizeof *k->sum);
    k->order = qvitp_pool_alloc(&k->pool, channels, sizeof *k->order);
    k->near = qvitp_pool_alloc(&k->pool, channels, sizeof *k->near);
    k->next = qvitp_pool_alloc(&k->pool, channels, sizeof *k->next);
    k->regret = qvitp_pool_alloc(&k->pool, channels, sizeof *k->regret);
    k->waiting = qvitp_pool_alloc(&k->pool, channels, sizeof *k->waiting);
    k->count = qvitp_pool_alloc(&k->pool, blocks, sizeof *k->count);
    k->room = qvitp_pool_alloc(&k->pool, blocks, sizeof *k->room);
    k->block = qvitp_pool_alloc(&k->pool, blocks, sizeof *k->block);
    if (!k->level || !k->center || !k->distance || !k->sum || !k->order || !k->near || !k->next ||
        !k->regret || !k->waiting || !k->count || !k->room || !k->block ||
        !qvitp_layouts_make(&k->pool, segment, 3, layouts))
        return 0;
    k->even = layouts[0], k->best = layouts[1], k->layout = layouts[2];
    return qvitp_segment_levels(&k->pool, segment, k->level) &&
           qvitp_segment_principal_order(&k->pool, segment, k->level, k->order);
}

static float distance(size_t features, const float *a, const float *b)
{
    float part[QVITP_LANES] = {0};
    for (size_t f = 0; f < features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++) {
            float gap = a[f + l] - b[f + l];
            part[l] += gap * gap;
        }
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* ---- seeds ---- */

static void seed(struct clustering *k, size_t cluster, size_t channel)
{
    size_t features = k->segment->features;
    memcpy(k->center + cluster * features, k->level + channel * features,
           features * sizeof *k->center);
}

/* Evenly along the principal direction. */
static void seed_evenly(struct clustering *k)
{
    size_t channels = k->segment->channels, blocks = k->segment->blocks;
    for (size_t b = 0; b < blocks; b++)
        seed(
            k, b,
            k->order[(qvitp_share(channels, blocks, b) + qvitp_share(channels, blocks, b + 1) - 1) /
                     2]);
}

/* The last along the principal direction, then always the one farthest from all before: of groups that
 * lie far apart, each gets one. `distance` holds the least distances. */
static void seed_far(struct clustering *k)
{
    size_t channels = k->segment->channels, features = k->segment->features;
    size_t farthest = k->order[channels - 1];
    for (size_t c = 0; c < channels; c++) k->distance[c] = INFINITY;
    for (size_t b = 0; b < k->segment->blocks; b++) {
        seed(k, b, farthest);
        for (size_t c = 0, from = farthest * features; c < channels; c++) {
            float gap = distance(features, k->level + c * features, k->level + from);
            if (gap < k->distance[c]) k->distance[c] = gap;
        }
        for (size_t c = farthest = 0; c < channels; c++)
            if (k->distance[c] > k->distance[farthest]) farthest = c;
    }
}

/* ---- k-means ---- */

static void measure(struct clustering *k)
{
    const struct qvitp_segment *segment = k->segment;
    const float *level = k->level;
    float *row = k->distance;
    for (size_t c = 0; c < segment->channels;
         c++, level += segment->features, row += segment->blocks)
        for (size_t b = 0; b < segment->blocks; b++)
            row[b] = distance(segment->features, level, k->center + b * segment->features);
}

/* The clusters with room that are nearest to a channel. If only one is left it is both. */
static void rank_clusters(struct clustering *k, size_t channel)
{
    const float *row = k->distance + channel * k->segment->blocks;
    size_t near = SIZE_MAX, next = SIZE_MAX;
    for (size_t b = 0; b < k->segment->blocks; b++) {
        if (!k->room[b]) continue;
        if (near == SIZE_MAX || row[b] < row[near])
            next = near, near = b;
        else if (next == SIZE_MAX || row[b] < row[next])
            next = b;
    }
    if (next == SIZE_MAX) next = near;
    k->near[channel] = (uint32_t)near;
    k->next[channel] = (uint32_t)next;
    k->regret[channel] = row[next] - row[near];
}

/* Gives every channel to its nearest cluster; whether any moved. */
static int attract(struct clustering *k)
{
    size_t blocks = k->segment->blocks;
    int moved = 0;
    measure(k);
    memset(k->count, 0, blocks * sizeof *k->count);
    for (size_t b = 0; b < blocks; b++) k->room[b] = 1;
    for (size_t c = 0; c < k->segment->channels; c++) {
        uint32_t before = k->near[c];
        rank_clusters(k, c);
        moved |= k->near[c] != before;
        k->count[k->near[c]]++;
    }
    return moved;
}

/* Moves every center to the mean of its channels; without any it stays. */
static void center(struct clustering *k)
{
    size_t features = k->segment->features;
    memset(k->sum, 0, k->segment->blocks * features * sizeof *k->sum);
    for (size_t i = 0; i < k->segment->channels * features; i++)
        k->sum[k->near[i / features] * features + i % features] += (double)k->level[i];
    for (size_t i = 0; i < k->segment->blocks * features; i++) {
        size_t count = k->count[i / features];
        if (count) k->center[i] = (float)(k->sum[i] / (double)count);
    }
}

/* `near` and `distance` are those of the last centers. */
static void find_means(struct clustering *k)
{
    const struct qvitp_segment *segment = k->segment;
    double products =
        (double)segment->channels * (double)segment->blocks * (double)segment->features;
    double rounds = fmin(fmax(MOST_PRODUCTS / products, LEAST_ROUNDS), MOST_ROUNDS);
    attract(k);
    do center(k);
    while (attract(k) && --rounds >= 1);
}

/* ---- blocks of equal size ---- */

/* Clusters become blocks in the order of falling counts: the larger blocks stand in front. */
static void name_clusters(struct clustering *k)
{
    size_t blocks = k->segment->blocks;
    for (size_t b = 0; b < blocks; b++) {
        size_t before = 0;
        for (size_t other = 0; other < blocks; other++)
            before +=
                k->count[other] > k->count[b] || (k->count[other] == k->count[b] && other < b);
        k->block[b] = (uint32_t)before;
        k->room[b] = k->even.size[before];
    }
}

/* Gives away channels by falling regret; the layout's home is the result. */
static void fill_blocks(struct clustering *k)
{
    size_t waiting = k->segment->channels;
    uint32_t *list = k->waiting;
    for (size_t c = 0; c < waiting; c++) {
        list[c] = (uint32_t)c;
        rank_clusters(k, c);
    }
    while (waiting) {
        size_t first = 0;
        for (size_t i = 1; i < waiting; i++)
            if (k->regret[list[i]] > k->regret[list[first]]) first = i;
        uint32_t channel = list[first], cluster = k->near[channel];
        k->layout.home[channel] = k->block[cluster];
        list[first] = list[--waiting];
        if (--k->room[cluster]) continue;
        for (size_t i = 0; i < waiting; i++)
            if (k->near[list[i]] == cluster || k->next[list[i]] == cluster)
                rank_clusters(k, list[i]);
    }
}

/* ---- the method ---- */

/* From seeds to blocks; the best layout is kept. */
static void cluster_once(struct clustering *k)
{
    find_means(k);
    name_clusters(k);
    fill_blocks(k);
    qvitp_layout_fill(k->segment, &k->layout);
    if (k->layout.total >= k->best.total) return;
    struct qvitp_layout worse = k->best;
    k->best = k->layout;
    k->layout = worse;
}

static int cluster(struct clustering *k)
{
    if (!make(k)) return 0;
    qvitp_segment_cut_evenly(k->segment, k->even.home);
    qvitp_layout_fill(k->segment, &k->even);
    memcpy(k->best.home, k->even.home, k->segment->channels * sizeof *k->best.home);
    qvitp_layout_fill(k->segment, &k->best);
    seed_evenly(k);
    cluster_once(k);
    seed_far(k);
    cluster_once(k);
    return qvitp_layout_descend(&k->pool, k->segment, &k->best);
}

qvit_status qvitp_order_cluster(const qvit_engine *engine, const struct qvitp_segment *segment,
                                uint32_t *home, qvit_error *error)
{
    struct clustering k = {.pool = {engine, NULL}, .segment = segment};
    int done = cluster(&k);
    if (done) memcpy(home, k.best.home, segment->channels * sizeof *home);
    qvitp_pool_free(&k.pool);
    return done ? QVIT_OK : qvitp_no_memory(error);
}
