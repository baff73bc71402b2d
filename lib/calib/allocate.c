/*
 * allocate.c - one alternative for every item, least loss under a budget (a multiple-choice knapsack).
 *
 * Dynamic programming over partial choices, after Nemhauser and Ullmann (1969): the choices of the last
 * items are kept as a list of rising cost and falling loss, and the item before them extends each by
 * each of its alternatives. What another one beats in both cost and loss goes, since rounded addition
 * is monotone: no extension turns the two round again. Two things keep the lists short:
 *
 *   bound      what the remaining items lose at least, if alternatives could be mixed: the lower convex
 *              hulls of the items, all their segments sorted by steepness, used up to the budget
 *              (Sinha and Zoltners 1979). A partial choice that cannot come below `best` goes.
 *   best       the loss of a choice that is known to be possible: of every partial choice with the
 *              last whole segment before its budget ends
 *
 * Losses are taken above the least of their item: all terms are positive and nothing cancels, so the
 * rounding of a sum is a share of the sum, and the bound is trusted but for that share (`slack`).
 */
#include <math.h>

#include "base/checked.h"
#include "base/numerics.h"
#include "calib/pool.h"

/* Partial choices that may be kept, over all items: 24 bytes each. */
enum { MOST_PARTIALS = 1 << 23, FIRST_PARTIALS = 1 << 10 };

/* An alternative that may be chosen: cost above the least of its item, as the loss. */
struct option {
    uint64_t cost;
    double loss;
    uint32_t number;
};

/* From one vertex of an item's hull to the next: what is paid more, and lost less. */
struct segment {
    const struct option *from;
    size_t item;
    uint64_t cost;
    double loss, slope;
};

/* The choice for an item and all after it; `next` is that for those after it. */
struct partial {
    uint64_t cost;
    double loss;
    uint32_t option, next;
};

/* What the items before some item lose at least, as a function of what is left for them. */
struct bound {
    size_t count, whole;          /* segments; those of them that the whole budget pays for */
    const struct segment **piece; /* [count], falling slope */
    uint64_t *cost;               /* [whole + 1] of the first t pieces */
    double *rise;                 /* [count + 1] loss that is left after the first t pieces */
};

/* Where the merged list stands in the extensions by one option. */
struct cursor {
    size_t at;
    uint64_t cost;
    double loss;
    uint32_t number;
};

struct allocation {
    struct qvitp_pool pool;
    size_t items, segments;
    uint64_t room;          /* budget above the cheapest choice */
    double best, slack;     /* see above */
    size_t *first;          /* [items + 1] of an item's options */
    struct option *options; /* of each item by rising cost and falling loss */
    struct segment *segment;
    size_t *steepest; /* numbers of the segments by falling slope */
    struct bound bound;
    struct cursor *cursor; /* by option */
    size_t *heap;
    struct partial *partial; /* the lists, one behind the other, the last item's first */
    size_t partials, reserved;
};

/* ---- a heap of numbers ---- */

/* Whether thing a of `of` comes before thing b. */
typedef int before(const void *of, size_t a, size_t b);

static void sift(size_t *heap, size_t count, size_t at, before *comes, const void *of)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && comes(of, heap[child + 1], heap[child])) child++;
        if (!comes(of, heap[child], heap[at])) return;
        size_t number = heap[at];
        heap[at] = heap[child];
        heap[child] = number;
    }
}

static void heapify(size_t *heap, size_t count, before *comes, const void *of)
{
    for (size_t i = count / 2; i-- > 0;) sift(heap, count, i, comes, of);
}

static size_t pop(size_t *heap, size_t *count, before *comes, const void *of)
{
    size_t top = heap[0];
    heap[0] = heap[--*count];
    sift(heap, *count, 0, comes, of);
    return top;
}

/* ---- what there is to choose from ---- */

static int alternative_before(const void *of, size_t a, size_t b)
{
    const qvit_alternative *x = (const qvit_alternative *)of + a;
    const qvit_alternative *y = (const qvit_alternative *)of + b;
    if (x->cost != y->cost) return x->cost < y->cost;
    if (x->loss != y->loss) return x->loss < y->loss;
    return a < b;
}

static uint64_t least_cost(const qvit_alternative *list, size_t count)
{
    uint64_t least = list[0].cost;
    for (size_t j = 1; j < count; j++)
        if (list[j].cost < least) least = list[j].cost;
    return least;
}

/* The options of one item: what the budget has room for, and nothing beats. */
static void add_options(struct allocation *a, size_t item, const qvit_alternative *list,
                        size_t count)
{
    struct option *options = a->options + a->first[item];
    uint64_t cheapest = least_cost(list, count);
    size_t kept = 0, heaped = 0;
    double least = INFINITY;
    for (size_t j = 0; j < count; j++) {
        if (list[j].cost - cheapest > a->room) continue;
        if (list[j].loss < least) least = list[j].loss;
        a->heap[heaped++] = j;
    }
    heapify(a->heap, heaped, alternative_before, list);
    while (heaped) {
        size_t j = pop(a->heap, &heaped, alternative_before, list);
        double loss = list[j].loss - least;
        if (kept && loss >= options[kept - 1].loss) continue;
        options[kept++] = (struct option){list[j].cost - cheapest, loss, (uint32_t)j};
    }
    a->first[item + 1] = a->first[item] + kept;
}

/* ---- the bound ---- */

static struct segment between(const struct option *from, const struct option *to, size_t item)
{
    struct segment s = {from, item, to->cost - from->cost, from->loss - to->loss, 0};
    s.slope = s.loss / (double)s.cost;
    return s;
}

/* The lower convex hull of an item's options: its segments fall ever less steeply. */
static void add_segments(struct allocation *a, size_t item)
{
    size_t start = a->segments;
    const struct option *vertex = a->options + a->first[item];
    const struct option *end = a->options + a->first[item + 1];
    for (const struct option *o = vertex + 1; o < end; vertex = o++) {
        struct segment s = between(vertex, o, item);
        while (a->segments > start && a->segment[a->segments - 1].slope <= s.slope)
            s = between(a->segment[--a->segments].from, o, item);
        a->segment[a->segments++] = s;
    }
}

static int segment_before(const void *of, size_t a, size_t b)
{
    const struct segment *x = (const struct segment *)of + a;
    const struct segment *y = (const struct segment *)of + b;
    return x->slope != y->slope ? x->slope > y->slope : a < b;
}

static void sort_segments(struct allocation *a)
{
    size_t count = a->segments;
    for (size_t i = 0; i < count; i++) a->heap[i] = i;
    heapify(a->heap, count, segment_before, a->segment);
    for (size_t i = 0; i < a->segments; i++)
        a->steepest[i] = pop(a->heap, &count, segment_before, a->segment);
}

/* The bound of the items below `item`. */
static void set_bound(struct allocation *a, size_t item)
{
    struct bound *b = &a->bound;
    b->count = b->whole = 0;
    for (size_t i = 0; i < a->segments; i++) {
        const struct segment *s = a->segment + a->steepest[i];
        if (s->item < item) b->piece[b->count++] = s;
    }
    b->cost[0] = 0;
    for (size_t t = 0; t < b->count && b->piece[t]->cost <= a->room - b->cost[t]; t++) {
        b->cost[t + 1] = b->cost[t] + b->piece[t]->cost;
        b->whole = t + 1;
    }
    b->rise[b->count] = 0;
    for (size_t t = b->count; t-- > 0;) b->rise[t] = b->rise[t + 1] + b->piece[t]->loss;
}

/* What is lost at least beyond the first t pieces, all of which `room` pays for. */
static double bound_at(const struct bound *b, size_t t, uint64_t room)
{
    if (t == b->count) return 0;
    double share = (double)(room - b->cost[t]) / (double)b->piece[t]->cost;
    return b->rise[t + 1] + b->piece[t]->loss * (1 - share);
}

/* ---- the lists ---- */

static int cursor_before(const void *of, size_t a, size_t b)
{
    const struct cursor *x = (const struct cursor *)of + a;
    const struct cursor *y = (const struct cursor *)of + b;
    if (x->cost != y->cost) return x->cost < y->cost;
    if (x->loss != y->loss) return x->loss < y->loss;
    return x->number < y->number;
}

/* Fills in what the cursor of an option points at; 0 if there is nothing more that can be paid. */
static int load(const struct allocation *a, const struct option *o, struct cursor *c, size_t end)
{
    if (c->at == end || a->partial[c->at].cost > a->room - o->cost) return 0;
    c->cost = a->partial[c->at].cost + o->cost;
    c->loss = a->partial[c->at].loss + o->loss;
    return 1;
}

/* Room for one partial choice more. */
static qvit_status reserve(struct allocation *a, qvit_error *error)
{
    if (a->partials < a->reserved) return QVIT_OK;
    if (a->reserved == MOST_PARTIALS)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "more than %d partial choices to compare: round the costs to a coarser "
                          "unit",
                          (int)MOST_PARTIALS);
    size_t room = a->reserved ? 2 * a->reserved : FIRST_PARTIALS;
    struct partial *larger = qvitp_engine_alloc(a->pool.engine, room, sizeof *larger);
    if (!larger) return qvitp_no_memory(error);
    for (size_t i = 0; i < a->partials; i++) larger[i] = a->partial[i];
    qvitp_engine_free(a->pool.engine, a->partial);
    a->partial = larger;
    a->reserved = room;
    return QVIT_OK;
}

/* Starts the cursors of an item's options at the list's begin; returns how many wait in the heap. */
static size_t start(struct allocation *a, size_t item, size_t begin, size_t end)
{
    const struct option *options = a->options + a->first[item];
    size_t count = a->first[item + 1] - a->first[item], waiting = 0;
    for (size_t j = 0; j < count; j++) {
        a->cursor[j] = (struct cursor){begin, 0, 0, options[j].number};
        if (load(a, options + j, a->cursor + j, end)) a->heap[waiting++] = j;
    }
    heapify(a->heap, waiting, cursor_before, a->cursor);
    return waiting;
}

/* The list of an item, behind that of the item after it, [begin, end): all its extensions, merged. Costs
 * rise, so what is left falls and with it the number of pieces that it pays for. */
static qvit_status extend(struct allocation *a, size_t item, size_t begin, size_t end,
                          qvit_error *error)
{
    const struct option *options = a->options + a->first[item];
    size_t waiting = start(a, item, begin, end);
    size_t t = a->bound.whole;
    while (waiting) {
        size_t j = a->heap[0];
        struct cursor c = a->cursor[j];
        a->cursor[j].at++;
        if (!load(a, options + j, a->cursor + j, end)) a->heap[0] = a->heap[--waiting];
        sift(a->heap, waiting, 0, cursor_before, a->cursor);

        if (a->partials > end && c.loss >= a->partial[a->partials - 1].loss) continue;
        while (a->bound.cost[t] > a->room - c.cost) t--;
        if (c.loss + bound_at(&a->bound, t, a->room - c.cost) > a->best * a->slack) continue;
        if (c.loss + a->bound.rise[t] < a->best) a->best = c.loss + a->bound.rise[t];
        QVITP_TRY(reserve(a, error));
        a->partial[a->partials++] = (struct partial){c.cost, c.loss, (uint32_t)j, (uint32_t)c.at};
    }
    return QVIT_OK;
}

static qvit_status search(struct allocation *a, qvit_error *error)
{
    QVITP_TRY(reserve(a, error));
    a->partial[a->partials++] = (struct partial){0, 0, 0, 0};
    a->best = INFINITY;
    for (size_t item = a->items, begin = 0; item-- > 0;) {
        size_t end = a->partials;
        set_bound(a, item);
        QVITP_TRY(extend(a, item, begin, end, error));
        begin = end;
    }
    return QVIT_OK;
}

/* ---- the call ---- */

/* Checks all numbers, and gives the cost of the cheapest choice and the number of alternatives. */
static qvit_status check(size_t items, const size_t *counts, const qvit_alternative *alternatives,
                         uint64_t budget, uint64_t *least, size_t *total, qvit_error *error)
{
    *least = 0, *total = 0;
    int fits = 1;
    for (size_t i = 0; i < items; i++) {
        if (!counts[i])
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "item %zu has no alternatives", i);
        if (counts[i] > UINT32_MAX - *total)
            return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "more than 2^32 - 1 alternatives");
        for (size_t j = 0; j < counts[i]; j++)
            if (!isfinite(alternatives[*total + j].loss))
                return qvitp_fail(error, QVIT_ERR_VALUE,
                                  "item %zu: the loss of alternative %zu is not finite", i, j);
        uint64_t cost = least_cost(alternatives + *total, counts[i]);
        if (cost > UINT64_MAX - *least) fits = 0;
        *least += cost;
        *total += counts[i];
    }
    if (!fits)
        return qvitp_fail(error, QVIT_ERR_VALUE,
                          "the budget is %llu, the cheapest choice costs 2^64 or more",
                          (unsigned long long)budget);
    if (*least <= budget) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_VALUE, "the budget is %llu, the cheapest choice costs %llu",
                      (unsigned long long)budget, (unsigned long long)*least);
}

/* Memory for everything but the lists. */
static int reserve_all(struct allocation *a, size_t total)
{
    a->first = qvitp_pool_alloc(&a->pool, qvitp_add(a->items, 1), sizeof *a->first);
    a->options = qvitp_pool_alloc(&a->pool, total, sizeof *a->options);
    a->segment = qvitp_pool_alloc(&a->pool, total, sizeof *a->segment);
    a->steepest = qvitp_pool_alloc(&a->pool, total, sizeof *a->steepest);
    a->cursor = qvitp_pool_alloc(&a->pool, total, sizeof *a->cursor);
    a->heap = qvitp_pool_alloc(&a->pool, total, sizeof *a->heap);
    a->bound.piece = qvitp_pool_alloc(&a->pool, total, sizeof *a->bound.piece);
    a->bound.cost = qvitp_pool_alloc(&a->pool, total, sizeof *a->bound.cost);
    a->bound.rise = qvitp_pool_alloc(&a->pool, total, sizeof *a->bound.rise);
    return a->first && a->options && a->segment && a->steepest && a->cursor && a->heap &&
           a->bound.piece && a->bound.cost && a->bound.rise;
}

static qvit_status allocate(struct allocation *a, const size_t *counts,
                            const qvit_alternative *alternatives, size_t total, qvit_error *error)
{
    if (!reserve_all(a, total)) return qvitp_no_memory(error);
    for (size_t i = 0; i < a->items; alternatives += counts[i++]) {
        add_options(a, i, alternatives, counts[i]);
        add_segments(a, i);
    }
    double range = 0;
    for (size_t i = a->items; i-- > 0;) range += a->options[a->first[i]].loss;
    if (!isfinite(range))
        return qvitp_fail(error, QVIT_ERR_VALUE, "the losses are too large to be added up");
    sort_segments(a);
    /* The bound and `best` are sums of at most items + segments rounded terms each. */
    a->slack = 1 + ldexp(16.0 + (double)a->items + (double)a->segments, -50);
    return search(a, error);
}

qvit_status qvit_allocate(const qvit_engine *engine, size_t items, const size_t *counts,
                          const qvit_alternative *alternatives, uint64_t budget, size_t *chosen,
                          qvit_error *error)
{
    if (!engine || !counts || !alternatives || !chosen)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                          "engine, counts, alternatives or chosen is NULL");
    if (!items) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there are no items");
    uint64_t least;
    size_t total;
    QVITP_TRY(check(items, counts, alternatives, budget, &least, &total, error));

    struct allocation a = {.pool = {engine, NULL}, .items = items, .room = budget - least};
    qvit_status status = allocate(&a, counts, alternatives, total, error);
    if (status == QVIT_OK) {
        size_t at = a.partials - 1; /* the last of the last list loses least */
        for (size_t i = 0; i < items; at = a.partial[at].next, i++)
            chosen[i] = a.options[a.first[i] + a.partial[at].option].number;
    }
    qvitp_engine_free(engine, a.partial);
    qvitp_pool_free(&a.pool);
    return status == QVIT_OK ? qvitp_ok(error) : status;
}
