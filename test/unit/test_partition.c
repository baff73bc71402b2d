/*
 * test_partition.c - orders and cuts of channels, against all partitions of small problems, groups that were
 * planted, and what must hold for every partition.
 */
#include "support.h"

#include "calib/partition.h"

enum { METHODS = 4, MOST_FEATURES = 64 };

/* ---- problems ---- */

static struct problem {
    struct qvitp_axis axis;
    struct qvitp_ordering ordering;
    float *reach;
    double *weight;
} it;

static void new_problem(size_t channels, size_t features)
{
    it.reach = guarded(channels * features * sizeof *it.reach);
    it.weight = guarded(channels * features * sizeof *it.weight);
    it.axis = (struct qvitp_axis){channels, features, it.reach, it.weight};
    it.ordering = (struct qvitp_ordering){QVITP_ORDER_SORT, 1, 1, 1};
}

/* 0: like activations, a few channels large; 1: zeros and ties; 2: eight orders of magnitude; 3: all
 * alike; else normal. */
static void fill_problem(size_t kind)
{
    for (size_t i = 0; i < it.axis.channels * it.axis.features; i++) {
        float x = fabsf(test_normal());
        double w = (double)x + 1;
        if (kind == 0) x *= test_below(20) ? 1 : 30;
        if (kind == 1) x = (float)test_below(4), w = (double)test_below(3);
        if (kind == 2) x = powf(10, 4 * test_uniform()), w = pow(10, 4 * (double)test_uniform());
        if (kind == 3) x = 2, w = 3;
        it.reach[i] = x;
        it.weight[i] = w;
    }
}

/* Channels that are alike in all features, but for a factor of their own each. */
static void fill_joint(void)
{
    for (size_t c = 0; c < it.axis.channels; c++) {
        float size = powf(2, 2 * test_normal());
        for (size_t f = 0; f < it.axis.features; f++) {
            size_t i = f * it.axis.channels + c;
            it.reach[i] = size * powf(2, test_normal() / 2);
            it.weight[i] = 1 + (double)test_below(100) / 10;
        }
    }
}

static void random_shape(size_t most_channels)
{
    size_t segments = test_below(3) ? 1 : 1 + test_below(8);
    size_t length = 1 + test_below(most_channels / segments);
    new_problem(segments * length, 1 + test_below(test_below(10) ? 9 : MOST_FEATURES));
    it.ordering.segments = segments;
    it.ordering.multiple = test_below(2) ? 1 : 1 + test_below(8);
    it.ordering.blocks = 1 + test_below(test_below(4) ? 9 : it.axis.channels + 3);
    fill_problem(test_below(5));
}

/* ---- what must hold ---- */

static double noise_of(const struct qvitp_partition *p)
{
    return qvitp_partition_noise(&it.axis, p);
}

/* The noise, channel by channel: each counts with the largest of its block. */
static double slow_noise(const struct qvitp_partition *p)
{
    double noise = 0;
    for (size_t c = 0; c < it.axis.channels; c++) {
        size_t place = 0, b = 0;
        while (p->order[place] != c) place++;
        while (p->bounds[b + 1] <= place) b++;
        for (size_t f = 0; f < it.axis.features; f++) {
            double most = 0;
            for (size_t i = p->bounds[b]; i < p->bounds[b + 1]; i++) {
                double reach = (double)it.reach[f * it.axis.channels + p->order[i]];
                if (reach > most) most = reach;
            }
            noise += most * most * it.weight[f * it.axis.channels + c];
        }
    }
    return noise;
}

static size_t wanted_blocks(void)
{
    size_t segments = it.ordering.segments, length = it.axis.channels / segments;
    size_t multiple = it.ordering.multiple, most = (length + multiple - 1) / multiple;
    if (it.ordering.blocks < segments) return it.ordering.blocks;
    size_t each = it.ordering.blocks / segments;
    return segments * (each < most ? each : most);
}

static void check_partition(const struct qvitp_partition *p)
{
    static unsigned char seen[1 << 14];
    size_t channels = it.axis.channels, length = channels / it.ordering.segments;
    CHECK_EQ(p->blocks, wanted_blocks());
    CHECK_EQ(p->bounds[0], 0);
    CHECK_EQ(p->bounds[p->blocks], channels);
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < channels; i++) {
        CHECK(p->order[i] < channels && !seen[p->order[i]]++);
        CHECK_EQ(p->order[i] / length, i / length);
    }
    for (size_t b = 0; b < p->blocks; b++) {
        size_t begin = p->bounds[b], end = p->bounds[b + 1];
        CHECK(begin < end);
        for (size_t i = begin + 1; i < end; i++) CHECK(p->order[i - 1] < p->order[i]);
        if (end % length == 0) continue; /* the last of a segment, or whole segments */
        CHECK_EQ(begin / length, end / length);
        CHECK_EQ((end - begin) % it.ordering.multiple, 0);
    }
}

static struct qvitp_partition choose(const qvit_engine *engine, int32_t method)
{
    struct qvitp_partition p;
    it.ordering.method = method;
    MUST(qvitp_partition_choose(engine, &it.axis, &it.ordering, &p, &why));
    check_partition(&p);
    return p;
}

static double noise_with(const qvit_engine *engine, int32_t method)
{
    struct qvitp_partition p = choose(engine, method);
    double noise = noise_of(&p);
    qvitp_partition_free(engine, &p);
    CHECK(!p.order && !p.bounds && !p.blocks);
    return noise;
}

/* a <= b but for rounding. */
static void check_at_most(double a, double b)
{
    if (!(a <= b * (1 + 1e-12))) FAIL("%.17g is more than %.17g", a, b);
}

/* ---- tests ---- */

static void any_problem_gets_a_partition_that_is_one(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 1000; round++) {
        const size_t mark = kept.count;
        random_shape(round % 50 ? 60 : 400);
        double noise[METHODS];
        for (int32_t m = 0; m < METHODS; m++) {
            struct qvitp_partition p = choose(engine, m);
            noise[m] = noise_of(&p);
            if (it.axis.channels < 100) CHECK_NEAR(noise[m], slow_noise(&p), 1e-12 * noise[m]);
            qvitp_partition_free(engine, &p);
        }
        check_at_most(noise[QVITP_ORDER_SORT], noise[QVITP_ORDER_NONE]);
        check_at_most(noise[QVITP_ORDER_CLUSTER], noise[QVITP_ORDER_NONE]);
        check_at_most(noise[QVITP_ORDER_SEARCH], noise[QVITP_ORDER_SORT]);
        check_at_most(noise[QVITP_ORDER_SEARCH], noise[QVITP_ORDER_CLUSTER]);
        release_to(mark);
    }
    release();
}

static void none_cuts_evenly_and_moves_nothing(void)
{
    const qvit_engine *engine = engine_new();
    new_problem(60, 3);
    fill_problem(0);
    it.ordering.blocks = 7, it.ordering.multiple = 4; /* 15 fours: 3, and six times 2 */
    struct qvitp_partition p = choose(engine, QVITP_ORDER_NONE);
    for (size_t i = 0; i < 60; i++) CHECK_EQ(p.order[i], i);
    for (size_t b = 0; b < 7; b++) CHECK_EQ(p.bounds[b + 1], 12 + 8 * b);
    qvitp_partition_free(engine, &p);
    release();
}

/* The least noise of all partitions into `blocks` blocks: channels [c, channels) may go anywhere. */
static double least_of_all(size_t c, size_t used, size_t blocks, size_t *home)
{
    size_t channels = it.axis.channels;
    if (c == channels) {
        double noise = 0;
        if (used < blocks) return INFINITY;
        for (size_t b = 0; b < blocks; b++) {
            double most = 0, sum = 0;
            for (size_t i = 0; i < channels; i++) {
                if (home[i] != b) continue;
                most = fmax(most, (double)it.reach[i]);
                sum += it.weight[i];
            }
            noise += most * most * sum;
        }
        return noise;
    }
    double least = INFINITY;
    for (size_t b = 0; b <= used && b < blocks; b++) {
        home[c] = b;
        least = fmin(least, least_of_all(c + 1, b == used ? used + 1 : used, blocks, home));
    }
    return least;
}

static void sorting_one_feature_is_the_best_of_all_partitions(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 600; round++) {
        const size_t mark = kept.count;
        size_t home[8];
        new_problem(1 + test_below(8), 1);
        fill_problem(round % 5);
        it.ordering.blocks = 1 + test_below(it.axis.channels);
        double least = least_of_all(0, 0, it.ordering.blocks, home);
        double noise = noise_with(engine, QVITP_ORDER_SORT);
        CHECK_NEAR(noise, least, 1e-12 * least);
        release_to(mark);
    }
    release();
}

/* What is best in a table over all cuts of the sorted channels, which are written to `sorted`. */
static double least_of_cuts(size_t blocks, size_t multiple)
{
    enum { MOST = 300 };
    static size_t sorted[MOST];
    static double least[MOST + 1][MOST + 1];
    size_t channels = it.axis.channels;
    for (size_t i = 0; i < channels; i++) {
        size_t at = i;
        for (; at && it.reach[sorted[at - 1]] > it.reach[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = i;
    }
    for (size_t n = 0; n <= blocks; n++)
        for (size_t j = 0; j <= channels; j++) {
            least[n][j] = n || j ? INFINITY : 0;
            double sum = 0;
            for (size_t i = j; n && i-- > 0;) {
                sum += it.weight[sorted[i]];
                if (i % multiple) continue;
                double most = (double)it.reach[sorted[j - 1]];
                least[n][j] = fmin(least[n][j], least[n - 1][i] + most * most * sum);
            }
        }
    return least[blocks][channels];
}

static void sorting_one_feature_finds_the_best_cuts_of_many(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 60; round++) {
        const size_t mark = kept.count;
        new_problem(1 + test_below(300), 1);
        fill_problem(round % 5);
        it.ordering.multiple = round % 2 ? 1 : 1 + test_below(5);
        size_t most = (it.axis.channels + it.ordering.multiple - 1) / it.ordering.multiple;
        it.ordering.blocks = 1 + test_below(most);
        double least = least_of_cuts(it.ordering.blocks, it.ordering.multiple);
        double noise = noise_with(engine, QVITP_ORDER_SORT);
        check_at_most(noise, least);
        if (it.ordering.multiple == 1) check_at_most(least, noise);
        release_to(mark);
    }
    release();
}

static void each_segment_is_a_problem_of_its_own(void)
{
    const qvit_engine *engine = engine_new();
    for (int32_t method = 0; method < METHODS; method++) {
        const size_t segments = 3, length = 40, features = 5;
        new_problem(segments * length, features);
        fill_joint();
        it.ordering = (struct qvitp_ordering){method, 5 * segments + 1, 4, segments};
        struct problem whole = it;
        struct qvitp_partition all = choose(engine, method);
        for (size_t s = 0; s < segments; s++) {
            new_problem(length, features);
            for (size_t i = 0; i < length * features; i++) {
                size_t from = i / length * segments * length + s * length + i % length;
                it.reach[i] = whole.reach[from];
                it.weight[i] = whole.weight[from];
            }
            it.ordering.blocks = 5, it.ordering.multiple = 4;
            struct qvitp_partition one = choose(engine, method);
            for (size_t i = 0; i < length; i++)
                CHECK_EQ(one.order[i] + s * length, all.order[s * length + i]);
            for (size_t b = 0; b <= 5; b++)
                CHECK_EQ(one.bounds[b] + s * length, all.bounds[5 * s + b]);
            qvitp_partition_free(engine, &one);
        }
        qvitp_partition_free(engine, &all);
    }
    release();
}

/* Six segments in three blocks: the best of the ten ways to cut. */
static void segments_are_joined_as_is_best(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 50; round++) {
        const size_t mark = kept.count;
        new_problem(6 * (1 + test_below(9)), 1 + test_below(5));
        fill_problem(round % 5);
        it.ordering.blocks = 3, it.ordering.segments = 6, it.ordering.multiple = 1 + test_below(5);
        struct qvitp_partition p = choose(engine, QVITP_ORDER_NONE);
        size_t length = it.axis.channels / 6;
        double least = INFINITY;
        for (size_t i = 1; i < 5; i++)
            for (size_t j = i + 1; j < 6; j++) {
                p.bounds[1] = i * length, p.bounds[2] = j * length;
                least = fmin(least, noise_of(&p));
            }
        qvitp_partition_free(engine, &p);
        for (int32_t m = QVITP_ORDER_SORT; m < METHODS; m++)
            CHECK_NEAR(noise_with(engine, m), least, 1e-12 * least);
        release_to(mark);
    }
    release();
}

static void more_blocks_never_mean_more_noise_if_sorted(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 12; round++) {
        const size_t mark = kept.count;
        size_t segments = round % 3 ? 1 : 1 + test_below(6);
        new_problem(segments * (1 + test_below(round == 1 ? 2500 : 100)), round % 4 ? 4 : 1);
        if (round % 2)
            fill_joint();
        else
            fill_problem(test_below(5));
        it.ordering.segments = segments;
        it.ordering.multiple = 1 + test_below(4);
        double before = INFINITY;
        for (size_t blocks = 1; blocks <= it.axis.channels; blocks += 1 + blocks / 4) {
            it.ordering.blocks = blocks;
            double noise = noise_with(engine, QVITP_ORDER_SORT);
            check_at_most(noise, before);
            before = noise;
        }
        release_to(mark);
    }
    release();
}

/* `groups` kinds of channels, each large in features of its own, dealt out at random. */
static void plant(size_t groups, size_t *kind)
{
    float pattern[16 * MOST_FEATURES];
    size_t channels = it.axis.channels, features = it.axis.features;
    for (size_t i = 0; i < groups * features; i++) pattern[i] = (float)(1 << 2 * test_below(4));
    for (size_t g = 0; g < groups; g++) /* no two are alike, nor much larger in all */
        for (size_t f = 0; f < 4; f++) pattern[g * features + f] = g >> f & 1 ? 100.0f : 1.0f;
    for (size_t c = 0; c < channels; c++) {
        size_t other = test_below(c + 1);
        kind[c] = kind[other];
        kind[other] = c % groups;
    }
    for (size_t c = 0; c < channels; c++)
        for (size_t f = 0; f < features; f++) {
            size_t i = f * channels + c;
            it.reach[i] = pattern[kind[c] * features + f] * (1 + 0.05f * test_uniform());
            it.weight[i] = 1;
        }
}

static void clusters_are_the_groups_that_were_planted(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 60; round++) {
        const size_t mark = kept.count;
        static size_t kind[16 * 40];
        size_t groups = 2 + test_below(15), size = 1 + test_below(40);
        new_problem(groups * size, 4 + test_below(20));
        plant(groups, kind);
        it.ordering.blocks = groups;
        for (int32_t m = QVITP_ORDER_CLUSTER; m <= QVITP_ORDER_SEARCH; m++) {
            if (m == QVITP_ORDER_SEARCH && groups * size > 100) continue;
            struct qvitp_partition p = choose(engine, m);
            for (size_t b = 0; b < p.blocks && m == QVITP_ORDER_CLUSTER; b++)
                for (size_t i = p.bounds[b]; i < p.bounds[b + 1]; i++)
                    CHECK_EQ(kind[p.order[i]], kind[p.order[p.bounds[b]]]);
            qvitp_partition_free(engine, &p);
        }
        release_to(mark);
    }
    release();
}

/* Whether some swap of two channels of different blocks would lessen the noise. */
static int can_swap(struct qvitp_partition *p)
{
    double noise = noise_of(p) * (1 - 1e-9);
    for (size_t b = 0; b < p->blocks; b++)
        for (size_t i = p->bounds[b]; i < p->bounds[b + 1]; i++)
            for (size_t j = p->bounds[b + 1]; j < it.axis.channels; j++) {
                uint32_t a = p->order[i];
                p->order[i] = p->order[j], p->order[j] = a;
                double swapped = noise_of(p);
                p->order[j] = p->order[i], p->order[i] = a;
                if (swapped < noise) return 1;
            }
    return 0;
}

static void no_swap_improves_a_small_result(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 40; round++) {
        const size_t mark = kept.count;
        new_problem(2 + test_below(40), 1 + test_below(8));
        if (round % 2)
            fill_joint();
        else
            fill_problem(4);
        it.ordering.blocks = 2 + test_below(5);
        it.ordering.multiple = 1 + test_below(4);
        for (int32_t m = QVITP_ORDER_CLUSTER; m <= QVITP_ORDER_SEARCH; m++) {
            struct qvitp_partition p = choose(engine, m);
            CHECK(!can_swap(&p));
            qvitp_partition_free(engine, &p);
        }
        release_to(mark);
    }
    release();
}

/* Of two features, all partitions of few channels: SEARCH hardly ever misses the best. */
static void searching_nearly_always_finds_the_best_of_few(void)
{
    const qvit_engine *engine = engine_new();
    size_t rounds = 60, missed = 0;
    for (size_t round = 0; round < rounds; round++) {
        const size_t mark = kept.count;
        const size_t channels = 8, features = 2, blocks = 3;
        new_problem(channels, features);
        fill_joint();
        it.ordering.blocks = blocks;
        double found = noise_with(engine, QVITP_ORDER_SEARCH), least = INFINITY;
        for (size_t code = 0; code < 6561; code++) { /* 3^8 */
            double most[3][2] = {{0}}, sum[3][2] = {{0}}, noise = 0;
            for (size_t c = 0, rest = code; c < channels; c++, rest /= 3)
                for (size_t f = 0; f < features; f++) {
                    double reach = (double)it.reach[f * channels + c];
                    if (reach > most[rest % 3][f]) most[rest % 3][f] = reach;
                    sum[rest % 3][f] += it.weight[f * channels + c];
                }
            for (size_t b = 0; b < 6; b++)
                noise += most[b / 2][b % 2] * most[b / 2][b % 2] * sum[b / 2][b % 2];
            least = fmin(least, noise);
        }
        check_at_most(least, found);
        missed += found > least * (1 + 1e-12);
        release_to(mark);
    }
    CHECK(missed <= rounds / 10);
    release();
}

/* Where features agree on what is large, blocks are worth a lot. */
static void orders_pay_where_features_agree(void)
{
    const qvit_engine *engine = engine_new();
    new_problem(384, 6);
    fill_joint();
    it.ordering.blocks = 12, it.ordering.multiple = 4;
    double none = noise_with(engine, QVITP_ORDER_NONE);
    CHECK(noise_with(engine, QVITP_ORDER_SORT) < none / 2);
    CHECK(noise_with(engine, QVITP_ORDER_CLUSTER) < none);
    CHECK(noise_with(engine, QVITP_ORDER_SEARCH) < none / 2);
    release();
}

static void channels_that_are_alike_stay(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t features = 1; features < 4; features++)
        for (int32_t m = 0; m < METHODS; m++) {
            new_problem(96, features);
            fill_problem(3);
            if (features == 2) memset(it.reach, 0, 96 * features * sizeof *it.reach);
            if (features == 3) memset(it.weight, 0, 96 * features * sizeof *it.weight);
            it.ordering.blocks = 6, it.ordering.multiple = 4;
            struct qvitp_partition p = choose(engine, m);
            for (size_t i = 0; i < 96; i++) CHECK_EQ(p.order[i], i);
            qvitp_partition_free(engine, &p);
        }
    release();
}

static void blocks_of_one_channel_are_the_end(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t channels = 1; channels < 40; channels += 3)
        for (int32_t m = 0; m < METHODS; m++) {
            new_problem(channels, 3);
            fill_problem(0);
            double least = 0;
            for (size_t i = 0; i < 3 * channels; i++)
                least += (double)it.reach[i] * (double)it.reach[i] * it.weight[i];
            it.ordering.blocks = channels + (m == 0);
            CHECK_NEAR(noise_with(engine, m), least, 1e-12 * least);
        }
    release();
}

static void a_result_is_always_the_same(void)
{
    const qvit_engine *engine = engine_new(), *other = engine_with(0, NULL, NULL);
    for (int32_t m = 0; m < METHODS; m++) {
        new_problem(300, 7);
        fill_problem(0);
        it.ordering.blocks = 11;
        struct qvitp_partition p = choose(engine, m), q = choose(other, m);
        CHECK(!memcmp(p.order, q.order, 300 * sizeof *p.order));
        CHECK(!memcmp(p.bounds, q.bounds, 12 * sizeof *p.bounds));
        qvitp_partition_free(engine, &p);
        qvitp_partition_free(other, &q);
    }
    release();
}

static void large_ones_work(void)
{
    const struct {
        size_t channels, features, blocks, multiple;
    } sizes[] = {{3072, 4, 24, 1}, {512, MOST_FEATURES, 24, 4}, {2100, 2, 600, 1}};
    const qvit_engine *engine = engine_new();
    for (size_t i = 0; i < 3; i++) {
        new_problem(sizes[i].channels, sizes[i].features);
        if (i)
            fill_joint();
        else
            fill_problem(0);
        it.ordering.blocks = sizes[i].blocks;
        it.ordering.multiple = sizes[i].multiple;
        double none = noise_with(engine, QVITP_ORDER_NONE);
        double sorted = noise_with(engine, QVITP_ORDER_SORT);
        double clustered = noise_with(engine, QVITP_ORDER_CLUSTER);
        double searched = noise_with(engine, QVITP_ORDER_SEARCH);
        check_at_most(sorted, none);
        check_at_most(clustered, none);
        check_at_most(searched, fmin(sorted, clustered));
    }
    release();
}

static void every_allocation_may_fail(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    size_t live = heap.live;
    for (size_t features = 1; features < 3; features++)
        for (int32_t m = 0; m < METHODS; m++) {
            size_t failures = 0;
            new_problem(24, features);
            fill_problem(0);
            it.ordering = (struct qvitp_ordering){m, 8, 2, 2};
            for (;; failures++) {
                struct qvitp_partition p;
                memset(&p, 0xFF, sizeof p);
                heap.fail_at = heap.calls + failures + 1, heap.fail_count = 1;
                qvit_status status =
                    qvitp_partition_choose(engine, &it.axis, &it.ordering, &p, &why);
                CHECK_EQ(why.status, status);
                if (status == QVIT_OK) {
                    check_partition(&p);
                    qvitp_partition_free(engine, &p);
                    break;
                }
                CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
                CHECK(!p.order && !p.bounds && !p.blocks);
                CHECK_EQ(heap.live, live);
            }
            CHECK_EQ(heap.live, live);
            CHECK(failures >= (m == QVITP_ORDER_NONE ? 5 : 20));
            heap.fail_at = 0;
        }
    release();
    heap_check_empty(&heap);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(any_problem_gets_a_partition_that_is_one);
    RUN(none_cuts_evenly_and_moves_nothing);
    RUN(sorting_one_feature_is_the_best_of_all_partitions);
    RUN(sorting_one_feature_finds_the_best_cuts_of_many);
    RUN(each_segment_is_a_problem_of_its_own);
    RUN(segments_are_joined_as_is_best);
    RUN(more_blocks_never_mean_more_noise_if_sorted);
    RUN(clusters_are_the_groups_that_were_planted);
    RUN(no_swap_improves_a_small_result);
    RUN(searching_nearly_always_finds_the_best_of_few);
    RUN(orders_pay_where_features_agree);
    RUN(channels_that_are_alike_stay);
    RUN(blocks_of_one_channel_are_the_end);
    RUN(a_result_is_always_the_same);
    RUN(large_ones_work);
    RUN(every_allocation_may_fail);
    return test_end();
}
