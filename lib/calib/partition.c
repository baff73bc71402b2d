/* partition.c - partitions of channels: their noise, the segments they are made of, layouts. */
#include "calib/partition.h"

#include <math.h>

#include "base/checked.h"
#include "base/numerics.h"
#include "base/shares.h"

/* Where there are more places to cut than this, every other one is left out. */
enum { MANY_CELLS = 1024 };

double qvitp_partition_noise(const struct qvitp_axis *axis, const struct qvitp_partition *partition)
{
    double noise = 0;
    for (size_t f = 0; f < axis->features; f++) {
        const float *reach = axis->reach + f * axis->channels;
        const double *weight = axis->weight + f * axis->channels;
        for (size_t b = 0; b < partition->blocks; b++) {
            double most = 0, sum = 0;
            for (size_t i = partition->bounds[b]; i < partition->bounds[b + 1]; i++) {
                most = fmax(most, (double)reach[partition->order[i]]);
                sum += weight[partition->order[i]];
            }
            noise += most * most * sum;
        }
    }
    return noise;
}

/* ---- layouts ---- */

int qvitp_layouts_make(struct qvitp_pool *pool, const struct qvitp_segment *segment, size_t count,
                       struct qvitp_layout *layouts)
{
    size_t table = qvitp_mul(segment->blocks, segment->features);
    uint32_t *home = qvitp_pool_alloc(pool, qvitp_mul(count, segment->channels), sizeof *home);
    size_t *size = qvitp_pool_alloc(pool, qvitp_mul(count, segment->blocks), sizeof *size);
    double *tables = qvitp_pool_alloc(pool, qvitp_mul(3 * count, table), sizeof *tables);
    double *noise = qvitp_pool_alloc(pool, qvitp_mul(count, segment->blocks), sizeof *noise);
    if (!home || !size || !tables || !noise) return 0;
    for (size_t i = 0; i < count; i++) {
        double *own = tables + 3 * i * table;
        layouts[i] = (struct qvitp_layout){.home = home + i * segment->channels,
                                           .size = size + i * segment->blocks,
                                           .peak = own,
                                           .below = own + table,
                                           .sum = own + 2 * table,
                                           .noise = noise + i * segment->blocks};
    }
    return 1;
}

/* One channel more in a block. */
static void add_channel(const struct qvitp_segment *segment, const struct qvitp_layout *layout,
                        size_t channel, size_t block)
{
    size_t features = segment->features;
    const double *square = segment->square + channel * features;
    const double *weight = segment->weight + channel * features;
    double *restrict peak = layout->peak + block * features;
    double *restrict below = layout->below + block * features;
    double *restrict sum = layout->sum + block * features;
    for (size_t f = 0; f < features; f++) {
        double high = peak[f], x = square[f], low = x < high ? x : high;
        peak[f] = x > high ? x : high;
        below[f] = low > below[f] ? low : below[f];
        sum[f] += weight[f];
    }
    layout->size[block]++;
}

static void clear_block(const struct qvitp_segment *segment, const struct qvitp_layout *layout,
                        size_t block)
{
    size_t at = block * segment->features;
    for (size_t f = at; f < at + segment->features; f++)
        layout->peak[f] = layout->below[f] = layout->sum[f] = 0;
    layout->size[block] = 0;
}

static void weigh_block(const struct qvitp_segment *segment, const struct qvitp_layout *layout,
                        size_t block)
{
    size_t at = block * segment->features;
    double part[QVITP_LANES] = {0};
    for (size_t f = at; f < at + segment->features; f += QVITP_LANES)
        for (size_t l = 0; l < QVITP_LANES; l++)
            part[l] += layout->peak[f + l] * layout->sum[f + l];
    layout->noise[block] = (part[0] + part[1]) + (part[2] + part[3]);
}

static void add_up(const struct qvitp_segment *segment, struct qvitp_layout *layout)
{
    layout->total = 0;
    for (size_t b = 0; b < segment->blocks; b++) layout->total += layout->noise[b];
}

void qvitp_layout_fill(const struct qvitp_segment *segment, struct qvitp_layout *layout)
{
    for (size_t b = 0; b < segment->blocks; b++) clear_block(segment, layout, b);
    for (size_t c = 0; c < segment->channels; c++) add_channel(segment, layout, c, layout->home[c]);
    for (size_t b = 0; b < segment->blocks; b++) weigh_block(segment, layout, b);
    add_up(segment, layout);
}

void qvitp_layout_recount(const struct qvitp_segment *segment, struct qvitp_layout *layout,
                          size_t block)
{
    clear_block(segment, layout, block);
    for (size_t c = 0; c < segment->channels; c++)
        if (layout->home[c] == block) add_channel(segment, layout, c, block);
    weigh_block(segment, layout, block);
    add_up(segment, layout);
}

/* ---- segments ---- */

static size_t parts(size_t channels, size_t step) { return (channels - 1) / step + 1; }

void qvitp_segment_cut_evenly(const struct qvitp_segment *segment, uint32_t *home)
{
    size_t cells = parts(segment->channels, segment->step);
    for (size_t b = 0; b < segment->blocks; b++) {
        size_t end = qvitp_share(cells, segment->blocks, b + 1) * segment->step;
        size_t c = qvitp_share(cells, segment->blocks, b) * segment->step;
        for (; c < end && c < segment->channels; c++) home[c] = (uint32_t)b;
    }
}

/* The shape of the segments, all alike, that an axis falls into. */
static struct qvitp_segment segment_shape(const struct qvitp_axis *axis,
                                          const struct qvitp_ordering *ordering)
{
    size_t length = axis->channels / ordering->segments;
    struct qvitp_segment segment = {.channels = length,
                                    .features = qvitp_round_up(axis->features, QVITP_LANES),
                                    .blocks = ordering->blocks / ordering->segments,
                                    .multiple = ordering->multiple,
                                    .single = axis->features == 1};
    if (ordering->blocks < ordering->segments) {
        segment.channels = axis->channels;
        segment.blocks = ordering->blocks;
        segment.multiple = length;
        segment.fixed = 1;
    }
    size_t cells = parts(segment.channels, segment.multiple);
    segment.blocks = qvitp_min(segment.blocks, cells);
    for (segment.step = segment.multiple; cells > MANY_CELLS; segment.step *= 2) {
        cells = parts(segment.channels, 2 * segment.step);
        if (cells / 2 < segment.blocks) break;
    }
    return segment;
}

/* The numbers of the channels from `first` on, a channel's features one behind the other. */
static void fill_segment(const struct qvitp_axis *axis, size_t first,
                         const struct qvitp_segment *segment)
{
    for (size_t f = 0; f < axis->features; f++) {
        const float *reach = axis->reach + f * axis->channels + first;
        const double *weight = axis->weight + f * axis->channels + first;
        for (size_t c = 0; c < segment->channels; c++) {
            segment->square[c * segment->features + f] = (double)reach[c] * (double)reach[c];
            segment->weight[c * segment->features + f] = weight[c];
        }
    }
}

static qvit_status choose(const qvit_engine *engine, const struct qvitp_segment *segment,
                          int32_t method, uint32_t *home, qvit_error *error)
{
    qvitp_segment_cut_evenly(segment, home);
    if (method == QVITP_ORDER_NONE) return QVIT_OK;
    if (segment->blocks == 1 || segment->blocks == segment->channels)
        return QVIT_OK; /* no choice, or best */
    if (method == QVITP_ORDER_SORT || segment->fixed)
        return qvitp_order_sort(engine, segment, home, error);
    if (method == QVITP_ORDER_CLUSTER) return qvitp_order_cluster(engine, segment, home, error);
    return qvitp_order_search(engine, segment, home, error);
}

/* ---- partitions ---- */

/* Writes down the partition of the segment that begins at place `first`, with block `block`. */
static void place(const struct qvitp_segment *segment, const uint32_t *home, size_t first,
                  size_t block, const struct qvitp_partition *partition)
{
    size_t *bounds = partition->bounds + block + 1; /* ends of blocks; beginnings at first */
    for (size_t b = 0; b < segment->blocks; b++) bounds[b] = 0;
    for (size_t c = 0; c < segment->channels; c++) bounds[home[c]]++;
    for (size_t b = 0, at = first; b < segment->blocks; b++) {
        size_t size = bounds[b];
        bounds[b] = at;
        at += size;
    }
    for (size_t c = 0; c < segment->channels; c++)
        partition->order[bounds[home[c]]++] = (uint32_t)(first + c);
}

static qvit_status choose_all(struct qvitp_pool *pool, const struct qvitp_axis *axis,
                              struct qvitp_segment *segment, int32_t method,
                              struct qvitp_partition *partition, qvit_error *error)
{
    const qvit_engine *engine = pool->engine;
    size_t segments = axis->channels / segment->channels, blocks = segments * segment->blocks;
    size_t table = qvitp_mul(segment->channels, segment->features);
    uint32_t *home = qvitp_pool_alloc(pool, segment->channels, sizeof *home);
    segment->square = qvitp_pool_alloc(pool, table, sizeof *segment->square);
    segment->weight = qvitp_pool_alloc(pool, table, sizeof *segment->weight);
    partition->order = qvitp_engine_alloc(engine, axis->channels, sizeof *partition->order);
    partition->bounds = qvitp_engine_alloc(engine, blocks + 1, sizeof *partition->bounds);
    if (!home || !segment->square || !segment->weight || !partition->order || !partition->bounds)
        return qvitp_no_memory(error);

    partition->blocks = blocks;
    for (size_t i = 0; i < segments; i++) {
        fill_segment(axis, i * segment->channels, segment);
        QVITP_TRY(choose(engine, segment, method, home, error));
        place(segment, home, i * segment->channels, i * segment->blocks, partition);
    }
    return qvitp_ok(error);
}

qvit_status qvitp_partition_choose(const qvit_engine *engine, const struct qvitp_axis *axis,
                                   const struct qvitp_ordering *ordering,
                                   struct qvitp_partition *partition, qvit_error *error)
{
    struct qvitp_pool pool = {engine, NULL};
    struct qvitp_segment segment = segment_shape(axis, ordering);
    *partition = (struct qvitp_partition){0};
    qvit_status status = choose_all(&pool, axis, &segment, ordering->method, partition, error);
    qvitp_pool_free(&pool);
    if (status != QVIT_OK) qvitp_partition_free(engine, partition);
    return status;
}

void qvitp_partition_free(const qvit_engine *engine, struct qvitp_partition *partition)
{
    qvitp_engine_free(engine, partition->order);
    qvitp_engine_free(engine, partition->bounds);
    *partition = (struct qvitp_partition){0};
}
