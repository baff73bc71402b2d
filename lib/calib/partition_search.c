/*
 * partition_search.c - improving partitions: swaps while they help, and an evolutionary search.
 *
 * A swap of channels a and b changes two blocks. Of each a layout knows the largest square, the next one
 * and the sum of weights, of every feature: what the swap does to the noise takes one pass over the
 * features, and only a swap that is made has its two blocks counted anew.
 */
#include "calib/partition.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/numerics.h"

/* Products that a descent may take (channels looked at for a swap, times features): so many, and more for
 * each channel. */
enum { DESCENT_PRODUCTS = 5000000, DESCENT_EACH = 10000 };

/* The population; children in a generation; how many generations, and how many without anything better. */
enum { PARENTS = 16, CHILDREN = 16, GENERATIONS = 300, PATIENCE = 60, FEWEST = 20 };

/* Numbers of layouts that all generations together may copy. */
enum { MOST_COPIED = 100000000 };

/* What a mutation picks from: channels to move, and partners to swap with. */
enum { MOVERS = 4, PARTNERS = 16 };

struct searching {
    const struct qvitp_segment *segment;
    double *rest, *left; /* [features] of a block without a channel: largest squares, weights */
    double *others; /* [channels][features] the largest squares of a channel's block without it */
    struct qvitp_keyed *keyed; /* [channels] */
    uint64_t random;
};

static int make(struct qvitp_pool *pool, const struct qvitp_segment *segment, struct searching *s)
{
    *s = (struct searching){.segment = segment, .random = 1};
    s->rest = qvitp_pool_alloc(pool, qvitp_mul(2, segment->features), sizeof *s->rest);
    s->keyed = qvitp_pool_alloc(pool, segment->channels, sizeof *s->keyed);
    s->others =
        qvitp_pool_alloc(pool, qvitp_mul(segment->channels, segment->features), sizeof *s->others);
    if (!s->rest || !s->keyed || !s->others) return 0;
    s->left = s->rest + segment->features;
    return 1;
}

/* ---- what a change does to the noise ---- */

static double add_parts(const double *part) { return (part[0] + part[1]) + (part[2] + part[3]); }

/* The largest squares of a channel's block without it. */
static void find_rest(const struct qvitp_segment *segment, const struct qvitp_layout *layout,
                      size_t channel, double *restrict rest)
{
    size_t features = segment->features, at = layout->home[channel] * features;
    const double *square = segment->square + channel * features;
    const double *peak = layout->peak + at, *below = layout->below + at;
    for (size_t f = 0; f < features; f++) {
        double high = peak[f], next = below[f];
        rest[f] = square[f] == high ? next : high;
    }
}

static void find_other(const struct searching *s, const struct qvitp_layout *layout, size_t channel)
{
    find_rest(s->segment, layout, channel, s->others + channel * s->segment->features);
}

/* Takes a channel out of its block: rest and left. Returns the noise of what stays. */
static double lift(const struct searching *s, const struct qvitp_layout *layout, size_t channel)
{
    size_t features = s->segment->features;
    const double *sum = layout->sum + layout->home[channel] * features;
    const double *weight = s->segment->weight + channel * features;
    const double *rest = s->rest;
    double *restrict left = s->left, part[QVITP_LANES] = {0};
    find_rest(s->segment, layout, channel, s->rest);
    for (size_t f = 0; f < features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++) {
            left[f + l] = sum[f + l] - weight[f + l];
            part[l] += rest[f + l] * left[f + l];
        }
    return add_parts(part);
}

/* The noise of a block with a channel more. */
static double with(const struct searching *s, const struct qvitp_layout *layout, size_t channel,
                   size_t block)
{
    size_t features = s->segment->features, at = block * features;
    const double *square = s->segment->square + channel * features;
    const double *weight = s->segment->weight + channel * features;
    const double *peak = layout->peak + at, *sum = layout->sum + at;
    double part[QVITP_LANES] = {0};
    for (size_t f = 0; f < features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++) {
            double x = square[f + l], high = peak[f + l];
            part[l] += (x > high ? x : high) * (sum[f + l] + weight[f + l]);
        }
    return add_parts(part);
}

/* The noise of both blocks if a, which is lifted, and b, whose `others` is set, change places, less what
 * it is. */
static double swap_change(const struct searching *s, const struct qvitp_layout *layout, size_t a,
                          size_t b)
{
    size_t features = s->segment->features;
    const double *square_a = s->segment->square + a * features, *rest = s->rest;
    const double *square_b = s->segment->square + b * features, *other = s->others + b * features;
    const double *weight_a = s->segment->weight + a * features, *left = s->left;
    const double *weight_b = s->segment->weight + b * features;
    const double *sum = layout->sum + layout->home[b] * features;
    double part[QVITP_LANES] = {0};
    for (size_t f = 0; f < features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++) {
            double x = square_a[f + l], y = square_b[f + l], p = rest[f + l], q = other[f + l];
            part[l] += (y > p ? y : p) * (left[f + l] + weight_b[f + l]) +
                       (x > q ? x : q) * (sum[f + l] - weight_b[f + l] + weight_a[f + l]);
        }
    return add_parts(part) - (layout->noise[layout->home[a]] + layout->noise[layout->home[b]]);
}

static void swap(const struct searching *s, struct qvitp_layout *layout, size_t a, size_t b)
{
    uint32_t home = layout->home[a];
    layout->home[a] = layout->home[b];
    layout->home[b] = home;
    qvitp_layout_recount(s->segment, layout, layout->home[a]);
    qvitp_layout_recount(s->segment, layout, layout->home[b]);
}

/* ---- descent ---- */

/* Makes the best swap of a channel, if it lessens the noise; `others` is set for all. */
static int swap_best(const struct searching *s, struct qvitp_layout *layout, size_t a)
{
    double least = 0, before = layout->total;
    size_t best = a;
    lift(s, layout, a);
    for (size_t b = 0; b < s->segment->channels; b++) {
        if (layout->home[b] == layout->home[a]) continue;
        double change = swap_change(s, layout, a, b);
        if (change < least) least = change, best = b;
    }
    if (best == a) return 0;
    swap(s, layout, a, best);
    int lessens = layout->total < before; /* it may have been rounding */
    if (!lessens)
        swap(s, layout, a, best);
    else
        for (size_t c = 0; c < s->segment->channels; c++)
            if (layout->home[c] == layout->home[a] || layout->home[c] == layout->home[best])
                find_other(s, layout, c);
    return lessens;
}

/* Sorts channels: those first without which their blocks would have least of their noise. */
static void rank_channels(const struct searching *s, const struct qvitp_layout *layout)
{
    for (size_t c = 0; c < s->segment->channels; c++) {
        double gain = layout->noise[layout->home[c]] - lift(s, layout, c);
        s->keyed[c] = (struct qvitp_keyed){-gain, (uint32_t)c};
    }
    qvitp_keyed_sort(s->keyed, s->segment->channels);
}

/* Swaps the first `width` channels of the ranks; more of them when those are content. */
static void descend(const struct searching *s, struct qvitp_layout *layout)
{
    const struct qvitp_segment *segment = s->segment;
    double look = (double)segment->channels * (double)segment->features; /* for one channel */
    double work = DESCENT_PRODUCTS + DESCENT_EACH * (double)segment->channels;
    for (size_t c = 0; c < segment->channels; c++) find_other(s, layout, c);
    for (size_t width = segment->channels / 8 + 32;;) {
        int swapped = 0;
        width = qvitp_min(width, segment->channels);
        rank_channels(s, layout);
        for (size_t i = 0; i < width; i++, work -= look) {
            if (work < look) return;
            swapped |= swap_best(s, layout, s->keyed[i].channel);
        }
        if (!swapped && width == segment->channels) return;
        if (!swapped) width *= 4;
    }
}

int qvitp_layout_descend(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                         struct qvitp_layout *layout)
{
    struct searching s;
    if (!make(pool, segment, &s)) return 0;
    descend(&s, layout);
    return 1;
}

/* ---- mutations ---- */

/* Uniform in [0, n), by splitmix64. */
static size_t below(struct searching *s, size_t n)
{
    uint64_t z = (s->random += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (size_t)((z ^ (z >> 31)) % n);
}

/* Of a few channels the one that its block would gain most without. */
static size_t pick_mover(struct searching *s, const struct qvitp_layout *layout)
{
    size_t mover = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < MOVERS; i++) {
        size_t c = below(s, s->segment->channels);
        double gain = layout->noise[layout->home[c]] - lift(s, layout, c);
        if (gain > most) most = gain, mover = c;
    }
    return mover;
}

/* Swaps with the best of a few partners, even if that is a loss. */
static void mutate_by_swap(struct searching *s, struct qvitp_layout *layout, size_t a)
{
    double least = INFINITY;
    size_t best = a;
    lift(s, layout, a);
    for (size_t i = 0; i < PARTNERS; i++) {
        size_t b = below(s, s->segment->channels);
        if (layout->home[b] == layout->home[a]) continue;
        find_other(s, layout, b);
        double change = swap_change(s, layout, a, b);
        if (change < least) least = change, best = b;
    }
    if (best != a) swap(s, layout, a, best);
}

static size_t best_block_for(const struct searching *s, const struct qvitp_layout *layout, size_t c)
{
    size_t best = layout->home[c];
    double least = INFINITY;
    for (size_t b = 0; b < s->segment->blocks; b++) {
        if (b == layout->home[c]) continue;
        double change = with(s, layout, c, b) - layout->noise[b];
        if (change < least) least = change, best = b;
    }
    return best;
}

/* Moves `multiple` channels of a's block, which has more, to the one that a suits best: those for which
 * it alone would be best. */
static void mutate_by_move(struct searching *s, struct qvitp_layout *layout, size_t a)
{
    uint32_t from = layout->home[a], to = (uint32_t)best_block_for(s, layout, a);
    size_t count = 0;
    for (size_t c = 0; c < s->segment->channels; c++) {
        if (layout->home[c] != from) continue;
        double change = lift(s, layout, c) + with(s, layout, c, to);
        s->keyed[count++] = (struct qvitp_keyed){change, (uint32_t)c};
    }
    qvitp_keyed_sort(s->keyed, count);
    for (size_t i = 0; i < s->segment->multiple; i++) layout->home[s->keyed[i].channel] = to;
    qvitp_layout_recount(s->segment, layout, from);
    qvitp_layout_recount(s->segment, layout, to);
}

static void mutate(struct searching *s, struct qvitp_layout *layout)
{
    size_t a = pick_mover(s, layout);
    if (below(s, 4) == 0 && layout->size[layout->home[a]] > s->segment->multiple)
        mutate_by_move(s, layout, a);
    else
        mutate_by_swap(s, layout, a);
}

/* ---- the population ---- */

static void copy(const struct qvitp_segment *segment, const struct qvitp_layout *from,
                 struct qvitp_layout *to)
{
    size_t table = segment->blocks * segment->features;
    memcpy(to->home, from->home, segment->channels * sizeof *to->home);
    memcpy(to->size, from->size, segment->blocks * sizeof *to->size);
    memcpy(to->peak, from->peak, table * sizeof *to->peak);
    memcpy(to->below, from->below, table * sizeof *to->below);
    memcpy(to->sum, from->sum, table * sizeof *to->sum);
    memcpy(to->noise, from->noise, segment->blocks * sizeof *to->noise);
    to->total = from->total;
}

/* Sorts by noise; of equals all but the first come last. */
static void rank(struct qvitp_layout *all, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct qvitp_layout layout = all[i];
        size_t at = i;
        for (; at && all[at - 1].total > layout.total; at--) all[at] = all[at - 1];
        if (at && all[at - 1].total == layout.total) {
            for (; at < i; at++) all[at] = all[at + 1];
            layout.total = INFINITY;
        }
        all[at] = layout;
    }
}

/* Generations until nothing better comes; all [PARENTS + CHILDREN], of which the first two are given. The
 * best is the first then. */
static void evolve(struct searching *s, struct qvitp_layout *all)
{
    const struct qvitp_segment *segment = s->segment;
    double size = 4 * (double)segment->channels + 6 * (double)(segment->blocks * segment->features);
    double generations = fmin(GENERATIONS, FEWEST + 2 * (double)segment->channels);
    generations = fmin(generations, fmax(MOST_COPIED / (CHILDREN * size), FEWEST));
    rank(all, 2);
    for (size_t i = 2; i < PARENTS; i++) {
        copy(segment, all, all + i);
        mutate(s, all + i);
    }
    rank(all, PARENTS);
    for (size_t still = 0; generations >= 1 && still < PATIENCE; generations--, still++) {
        double before = all[0].total;
        for (size_t i = PARENTS; i < PARENTS + CHILDREN; i++) {
            copy(segment, all + below(s, PARENTS), all + i);
            for (size_t count = 1 + below(s, 3); count; count--) mutate(s, all + i);
        }
        rank(all, PARENTS + CHILDREN);
        if (all[0].total < before) still = 0;
    }
}

static qvit_status search(struct qvitp_pool *pool, const struct qvitp_segment *segment,
                          uint32_t *home, qvit_error *error)
{
    struct searching s;
    struct qvitp_layout all[PARENTS + CHILDREN];
    if (!make(pool, segment, &s) || !qvitp_layouts_make(pool, segment, PARENTS + CHILDREN, all))
        return qvitp_no_memory(error);
    QVITP_TRY(qvitp_order_sort(pool->engine, segment, all[0].home, error));
    QVITP_TRY(qvitp_order_cluster(pool->engine, segment, all[1].home, error));
    qvitp_layout_fill(segment, all);
    qvitp_layout_fill(segment, all + 1);
    descend(&s, all);
    evolve(&s, all);
    descend(&s, all);
    memcpy(home, all[0].home, segment->channels * sizeof *home);
    return QVIT_OK;
}

qvit_status qvitp_order_search(const qvit_engine *engine, const struct qvitp_segment *segment,
                               uint32_t *home, qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    qvit_status status = search(&pool, segment, home, error);
    qvitp_pool_free(&pool);
    return status;
}
