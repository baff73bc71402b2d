/*
 * test_allocate.c - bit allocation: the least loss under a budget, exactly.
 *
 * Small instances are compared with all choices that there are, middle ones with a table over the
 * budget, large ones with the bounds of Lagrange multipliers from both sides.
 */
#include "support.h"

#include <float.h>

enum { MOST_ITEMS = 160, MOST_ALTERNATIVES = 20000 };

/* What there is to choose from, and what was chosen. */
static struct {
    size_t items, counts[MOST_ITEMS];
    qvit_alternative list[MOST_ALTERNATIVES];
    size_t chosen[MOST_ITEMS];
} it;

/* The alternatives of an item. */
static qvit_alternative *alternatives_of(size_t item)
{
    qvit_alternative *list = it.list;
    for (size_t i = 0; i < item; i++) list += it.counts[i];
    return list;
}

static uint64_t cheapest(size_t item)
{
    const qvit_alternative *list = alternatives_of(item);
    uint64_t least = UINT64_MAX;
    for (size_t j = 0; j < it.counts[item]; j++)
        if (list[j].cost < least) least = list[j].cost;
    return least;
}

static uint64_t least_budget(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < it.items; i++) sum += cheapest(i);
    return sum;
}

/* A budget above which nothing changes. */
static uint64_t most_budget(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < it.items; i++) {
        uint64_t most = 0;
        for (size_t j = 0; j < it.counts[i]; j++)
            if (alternatives_of(i)[j].cost > most) most = alternatives_of(i)[j].cost;
        sum += most;
    }
    return sum;
}

static uint64_t cost_of(const size_t *chosen)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < it.items; i++) {
        CHECK(chosen[i] < it.counts[i]);
        sum += alternatives_of(i)[chosen[i]].cost;
    }
    return sum;
}

/* As the header defines it: above what the item can afford, in double, from the last item on. */
static double loss_of(const size_t *chosen, uint64_t budget)
{
    uint64_t room = budget - least_budget();
    double sum = 0;
    for (size_t i = it.items; i-- > 0;) {
        const qvit_alternative *list = alternatives_of(i);
        double least = INFINITY;
        for (size_t j = 0; j < it.counts[i]; j++)
            if (list[j].cost - cheapest(i) <= room && list[j].loss < least) least = list[j].loss;
        sum += list[chosen[i]].loss - least;
    }
    return sum;
}

static double plain_loss(const size_t *chosen)
{
    double sum = 0;
    for (size_t i = 0; i < it.items; i++) sum += alternatives_of(i)[chosen[i]].loss;
    return sum;
}

static qvit_status solve(const qvit_engine *engine, uint64_t budget)
{
    return qvit_allocate(engine, it.items, it.counts, it.list, budget, it.chosen, &why);
}

/* Solves, and checks that the budget is kept. */
static void must_solve(const qvit_engine *engine, uint64_t budget)
{
    MUST(solve(engine, budget));
    CHECK_EQ(why.status, QVIT_OK);
    CHECK(cost_of(it.chosen) <= budget);
}

static void set_counts(size_t items, size_t least, size_t most)
{
    it.items = items;
    for (size_t i = 0; i < items; i++) it.counts[i] = least + test_below(most - least + 1);
}

static double uniform01(void) { return ((double)test_uniform() + 1) / 2; }

/* ---- all choices ---- */

/* The next choice in lexicographic order; false after the last. */
static bool next_choice(size_t *choice)
{
    for (size_t i = it.items; i-- > 0; choice[i] = 0)
        if (++choice[i] < it.counts[i]) return true;
    return false;
}

/* The first of the choices with the least loss, and of those with the least cost. */
static void try_all(uint64_t budget, size_t *best)
{
    size_t choice[MOST_ITEMS] = {0};
    double least = INFINITY;
    uint64_t cost = 0;
    do {
        if (cost_of(choice) > budget) continue;
        double loss = loss_of(choice, budget);
        if (loss > least || (loss == least && cost_of(choice) >= cost)) continue;
        least = loss, cost = cost_of(choice);
        memcpy(best, choice, it.items * sizeof *best);
    } while (next_choice(choice));
}

static void fill_small(size_t kind)
{
    set_counts(1 + test_below(6), 1, 5);
    for (size_t i = 0; i < it.items; i++)
        for (size_t j = 0; j < it.counts[i]; j++) {
            qvit_alternative *a = alternatives_of(i) + j;
            a->cost = test_below(kind % 2 ? 6 : 1000000);
            if (kind < 2)
                a->loss = (double)test_below(8) - 4; /* ties */
            else if (kind < 4)
                a->loss = (double)test_uniform();
            else if (kind < 6)
                a->loss = pow(10, 9 * (double)test_uniform());
            else
                a->loss = -(double)a->cost; /* what the bound cannot tell apart */
        }
}

static void small_ones_equal_the_best_of_all_choices(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 6000; round++) {
        size_t best[MOST_ITEMS];
        fill_small(round % 8);
        uint64_t budget = least_budget() + test_below((size_t)(most_budget() - least_budget()) + 2);
        must_solve(engine, budget);
        try_all(budget, best);
        if (loss_of(it.chosen, budget) != loss_of(best, budget))
            FAIL("round %zu: %.17g, not %.17g", round, loss_of(it.chosen, budget),
                 loss_of(best, budget));
        CHECK_EQ(cost_of(it.chosen), cost_of(best));
        if (round % 8 < 2) /* sums of whole numbers: equal ones are equal however they are made */
            for (size_t i = 0; i < it.items; i++) CHECK_EQ(it.chosen[i], best[i]);
    }
    release();
}

/* ---- a table over the budget ---- */

enum { MOST_UNITS = 3000 };

static double table_loss(size_t budget)
{
    static double table[2][MOST_UNITS + 1];
    memset(table, 0, sizeof table);
    for (size_t i = 0; i < it.items; i++) {
        double *from = table[i % 2], *to = table[(i + 1) % 2];
        for (size_t b = 0; b <= budget; b++) {
            to[b] = INFINITY;
            for (size_t j = 0; j < it.counts[i]; j++) {
                const qvit_alternative *a = alternatives_of(i) + j;
                if (a->cost <= b) to[b] = fmin(to[b], from[b - (size_t)a->cost] + a->loss);
            }
        }
    }
    return table[it.items % 2][budget];
}

static void middle_ones_equal_a_table_over_the_budget(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 60; round++) {
        set_counts(20 + test_below(40), 1, 6);
        for (size_t i = 0; i < it.items; i++)
            for (size_t j = 0; j < it.counts[i]; j++) {
                size_t cost = test_below(50);
                double loss = (double)test_below(1000);
                if (round % 3 == 1) loss = 1000 - 10 * (double)cost;
                if (round % 3 == 2) loss = floor(1e6 / (double)(cost + 1) * uniform01());
                alternatives_of(i)[j] = (qvit_alternative){loss, cost};
            }
        uint64_t least = least_budget();
        uint64_t budget = least + test_below((size_t)(most_budget() - least) + 1);
        must_solve(engine, budget);
        CHECK(plain_loss(it.chosen) == table_loss((size_t)budget));
    }
    release();
}

/* ---- as large as models are ---- */

/* Layers of a vision transformer at 8 to 3 bits: bytes or nanoseconds, losses over six decades. */
static void fill_layers(size_t items, bool times)
{
    static const size_t rows[4] = {3, 1, 4, 1}, columns[4] = {1, 1, 1, 4};
    set_counts(items, 3, 6);
    size_t width = 64 * (3 + test_below(14));
    for (size_t i = 0; i < items; i++) {
        size_t outputs = rows[i % 4] * width, inputs = columns[i % 4] * width;
        double sensitivity = pow(10, 3 * (double)test_uniform());
        for (size_t j = 0; j < it.counts[i]; j++) {
            size_t bits = 8 - j, cost = outputs * inputs * bits / 8 + 4 * outputs;
            if (times) cost = (size_t)((double)cost * (0.8 + 0.4 * uniform01()));
            double loss = sensitivity * pow(4, -(double)bits) * exp((double)test_uniform() / 4);
            alternatives_of(i)[j] = (qvit_alternative){loss, cost};
        }
    }
}

/* The choice that is best where a unit of cost is worth `price`. */
static void choose_at(double price, size_t *choice)
{
    for (size_t i = 0; i < it.items; i++) {
        const qvit_alternative *list = alternatives_of(i);
        choice[i] = 0;
        for (size_t j = 1; j < it.counts[i]; j++)
            if (list[j].loss + price * (double)list[j].cost <
                list[choice[i]].loss + price * (double)list[choice[i]].cost)
                choice[i] = j;
    }
}

/* For every price the best choice is an upper bound where the budget allows it, and its loss, less
 * what it leaves of the budget at that price, a lower one everywhere. */
static void check_prices(uint64_t budget)
{
    double loss = plain_loss(it.chosen), lower = -INFINITY, upper = INFINITY;
    for (double e = -14; e < 0; e += 0.02) {
        size_t choice[MOST_ITEMS];
        double price = pow(10, e);
        choose_at(price, choice);
        double cost = (double)cost_of(choice), value = plain_loss(choice);
        if (cost_of(choice) <= budget) upper = fmin(upper, value);
        lower = fmax(lower, value + price * (cost - (double)budget));
    }
    CHECK(loss <= upper * (1 + 1e-12));
    CHECK(loss >= lower - 1e-9 * fabs(lower));
}

static void large_ones_lie_between_their_bounds(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 12; round++) {
        fill_layers(50 + 10 * test_below(11), round % 2);
        uint64_t least = least_budget(), most = most_budget();
        for (uint64_t part = 0; part <= 8; part++) {
            uint64_t budget = least + (most - least) / 8 * part;
            must_solve(engine, budget);
            check_prices(budget);
        }
    }
    release();
}

static void a_larger_budget_never_loses_more(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 4; round++) {
        fill_layers(100, round % 2);
        uint64_t least = least_budget(), step = (most_budget() - least) / 60 + 1;
        double before = INFINITY;
        for (uint64_t b = least; b < least + 62 * step; b += step) {
            must_solve(engine, b);
            double loss = plain_loss(it.chosen);
            CHECK(loss <= before * (1 + 1e-12));
            before = loss;
        }
        /* enough for the best of each */
        for (size_t i = 0; i < it.items; i++)
            for (size_t j = 0; j < it.counts[i]; j++)
                CHECK(alternatives_of(i)[it.chosen[i]].loss <= alternatives_of(i)[j].loss);
    }
    release();
}

static void the_order_of_alternatives_does_not_matter(void)
{
    const qvit_engine *engine = engine_new();
    for (size_t round = 0; round < 20; round++) {
        fill_layers(80, true);
        uint64_t budget = (least_budget() + most_budget()) / 2;
        must_solve(engine, budget);
        double loss = loss_of(it.chosen, budget);
        uint64_t cost = cost_of(it.chosen);
        for (size_t i = 0; i < it.items; i++)
            for (size_t j = it.counts[i]; j-- > 1;) {
                qvit_alternative *list = alternatives_of(i), kept_one = list[j];
                size_t other = test_below(j + 1);
                list[j] = list[other];
                list[other] = kept_one;
            }
        must_solve(engine, budget);
        CHECK(loss_of(it.chosen, budget) == loss);
        CHECK_EQ(cost_of(it.chosen), cost);
    }
    release();
}

/* ---- single numbers ---- */

static void give(size_t items, size_t each, const qvit_alternative *list)
{
    it.items = items;
    for (size_t i = 0; i < items; i++) it.counts[i] = each, it.chosen[i] = SIZE_MAX;
    memcpy(it.list, list, items * each * sizeof *list);
}

static void equal_ones_go_by_cost_then_by_number(void)
{
    const qvit_engine *engine = engine_new();
    give(1, 5, (qvit_alternative[]){{1, 9}, {0, 7}, {0, 6}, {0, 6}, {2, 1}});
    must_solve(engine, 100);
    CHECK_EQ(it.chosen[0], 2);
    give(2, 2, (qvit_alternative[]){{0, 1}, {1, 0}, {0, 1}, {1, 0}}); /* one of the two */
    must_solve(engine, 1);
    CHECK_EQ(it.chosen[0], 0);
    CHECK_EQ(it.chosen[1], 1);
    give(2, 2, (qvit_alternative[]){{1, 0}, {0, 1}, {0, 1}, {1, 0}});
    must_solve(engine, 1);
    CHECK_EQ(it.chosen[0], 0);
    CHECK_EQ(it.chosen[1], 0);
    give(2, 2, (qvit_alternative[]){{-0.0, 3}, {0.0, 3}, {5, 5}, {5, 5}});
    must_solve(engine, UINT64_MAX);
    CHECK_EQ(it.chosen[0], 0);
    CHECK_EQ(it.chosen[1], 0);
    release();
}

static void one_alternative_is_no_choice(void)
{
    const qvit_engine *engine = engine_new();
    set_counts(MOST_ITEMS, 1, 1);
    for (size_t i = 0; i < it.items; i++)
        it.list[i] = (qvit_alternative){(double)test_uniform(), test_below(100)};
    must_solve(engine, least_budget());
    for (size_t i = 0; i < it.items; i++) CHECK_EQ(it.chosen[i], 0);
    release();
}

static void a_budget_below_the_cheapest_is_refused_with_that(void)
{
    const qvit_engine *engine = engine_new();
    give(2, 2, (qvit_alternative[]){{0, 30}, {1, 20}, {0, 9}, {1, 17}});
    CHECK_EQ(solve(engine, 28), QVIT_ERR_VALUE);
    CHECK(strstr(why.text, "29"));
    CHECK_EQ(it.chosen[0], SIZE_MAX);
    must_solve(engine, 29);
    CHECK_EQ(it.chosen[0], 1);
    CHECK_EQ(it.chosen[1], 0);
    release();
}

static void costs_near_the_largest_do_not_wrap(void)
{
    const qvit_engine *engine = engine_new();
    const uint64_t most = UINT64_MAX;
    give(3, 2, (qvit_alternative[]){{0, most}, {1, 1}, {0, most}, {3, 1}, {0, most}, {2, 1}});
    must_solve(engine, 3);
    for (size_t i = 0; i < 3; i++) CHECK_EQ(it.chosen[i], 1);
    must_solve(engine, most);
    for (size_t i = 0; i < 3; i++) CHECK_EQ(it.chosen[i], 1);
    it.list[2].cost = most - 2; /* just fits */
    must_solve(engine, most);
    CHECK_EQ(it.chosen[1], 0);
    it.list[0].cost = it.list[4].cost = most / 2;
    must_solve(engine, most - 1); /* only one of the three */
    CHECK_EQ(it.chosen[0], 1);
    CHECK_EQ(it.chosen[1], 1);
    CHECK_EQ(it.chosen[2], 0);
    must_solve(engine, most); /* the first and the last, or the other one: the same */
    CHECK_EQ(it.chosen[0], 0);
    CHECK_EQ(it.chosen[1], 1);
    CHECK_EQ(it.chosen[2], 0);
    give(2, 1, (qvit_alternative[]){{0, most}, {0, 1}});
    CHECK_EQ(solve(engine, most), QVIT_ERR_VALUE);
    give(2, 2, (qvit_alternative[]){{0, most}, {1, 0}, {0, most}, {1, 0}});
    must_solve(engine, most); /* one of the two, and nothing is left */
    CHECK_EQ(it.chosen[0] + it.chosen[1], 1);
    release();
}

static void losses_that_are_no_numbers_are_refused(void)
{
    const qvit_engine *engine = engine_new();
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        give(2, 2, (qvit_alternative[]){{0, 1}, {1, 0}, {0, 1}, {1, 0}});
        it.list[3].loss = bad[i];
        CHECK_EQ(solve(engine, 5), QVIT_ERR_VALUE);
        CHECK(strstr(why.text, "item 1"));
        CHECK_EQ(it.chosen[0], SIZE_MAX);
    }
    release();
}

static void losses_near_the_largest_count_or_are_refused(void)
{
    const qvit_engine *engine = engine_new();
    give(2, 3,
         (qvit_alternative[]){{DBL_MAX, 0}, {2e-9, 1}, {1e-9, 2}, {DBL_MAX, 4}, {3, 1}, {2, 2}});
    must_solve(engine, 3); /* the small ones keep their digits beside the large ones */
    CHECK_EQ(it.chosen[0], 1);
    CHECK_EQ(it.chosen[1], 2);
    give(1, 2, (qvit_alternative[]){{DBL_MAX, 0}, {-DBL_MAX, 1}});
    CHECK_EQ(solve(engine, 1), QVIT_ERR_VALUE);
    CHECK_EQ(it.chosen[0], SIZE_MAX);
    must_solve(engine, 0); /* the other one is out of reach */
    give(2, 2, (qvit_alternative[]){{DBL_MAX, 0}, {0, 1}, {DBL_MAX, 0}, {0, 1}});
    CHECK_EQ(solve(engine, 1), QVIT_ERR_VALUE);
    release();
}

static void one_item_may_have_many_alternatives(void)
{
    const qvit_engine *engine = engine_new();
    it.items = 2, it.counts[0] = 1, it.counts[1] = MOST_ALTERNATIVES - 1;
    it.list[0] = (qvit_alternative){-5, 0};
    for (size_t j = 1; j < MOST_ALTERNATIVES; j++) {
        size_t cost = (j * 7919) % (MOST_ALTERNATIVES - 1);
        it.list[j] = (qvit_alternative){-(double)cost, cost};
    }
    for (uint64_t budget = 0; budget < MOST_ALTERNATIVES - 1; budget += 997) {
        must_solve(engine, budget);
        CHECK_EQ(cost_of(it.chosen), budget);
    }
    release();
}

/* Every cost is worth the same, so the bound says nothing, and no two sums are equal. */
static void fill_hard(uint64_t unit)
{
    set_counts(40, 2, 2);
    uint64_t state = 1;
    for (size_t i = 0; i < it.items; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t cost = (state >> 14) / unit * unit; /* below 2^50 */
        it.list[2 * i] = (qvit_alternative){0, cost};
        it.list[2 * i + 1] = (qvit_alternative){(double)cost, 0};
    }
}

static void what_takes_too_much_is_refused_and_a_coarser_unit_helps(void)
{
    const qvit_engine *engine = engine_new();
    fill_hard(1);
    uint64_t budget = most_budget() / 2, unit = budget >> 15;
    memset(it.chosen, 0xFF, sizeof it.chosen);
    CHECK_EQ(solve(engine, budget), QVIT_ERR_UNSUPPORTED);
    CHECK_EQ(it.chosen[0], SIZE_MAX);
    fill_hard(unit);
    must_solve(engine, budget);
    CHECK_EQ(cost_of(it.chosen), budget / unit * unit);
    release();
}

static void null_and_nothing_are_refused(void)
{
    const qvit_engine *engine = engine_new();
    const size_t count = 1, none[] = {1, 0};
    const qvit_alternative list[2] = {{1, 1}, {1, 1}};
    size_t chosen[2] = {7, 7};
    CHECK_EQ(qvit_allocate(NULL, 1, &count, list, 1, chosen, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 1, NULL, list, 1, chosen, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 1, &count, NULL, 1, chosen, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 1, &count, list, 1, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 0, &count, list, 1, chosen, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 2, none, list, 2, chosen, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_allocate(engine, 1, &count, list, 0, chosen, NULL), QVIT_ERR_VALUE);
    CHECK_EQ(chosen[0], 7);
    MUST(qvit_allocate(engine, 1, &count, list, 1, chosen, NULL));
    CHECK_EQ(chosen[0], 0);
    release();
}

static void every_allocation_may_fail(void)
{
    struct heap heap = {0};
    qvit_allocator hook = heap_hook(&heap);
    qvit_engine *engine = engine_with(0, &hook, NULL);
    size_t live = heap.live, failures = 0;
    fill_layers(150, true); /* more partial choices than the first block holds */
    uint64_t budget = (least_budget() + most_budget()) / 2;
    for (;; failures++) {
        memset(it.chosen, 0xFF, sizeof it.chosen);
        heap.fail_at = heap.calls + failures + 1, heap.fail_count = 1;
        qvit_status status = solve(engine, budget);
        CHECK_EQ(heap.live, live);
        if (status == QVIT_OK) break;
        CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
        CHECK_EQ(it.chosen[0], SIZE_MAX);
    }
    CHECK(failures >= 10);
    release();
    heap_check_empty(&heap);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(small_ones_equal_the_best_of_all_choices);
    RUN(middle_ones_equal_a_table_over_the_budget);
    RUN(large_ones_lie_between_their_bounds);
    RUN(a_larger_budget_never_loses_more);
    RUN(the_order_of_alternatives_does_not_matter);
    RUN(equal_ones_go_by_cost_then_by_number);
    RUN(one_alternative_is_no_choice);
    RUN(a_budget_below_the_cheapest_is_refused_with_that);
    RUN(costs_near_the_largest_do_not_wrap);
    RUN(losses_that_are_no_numbers_are_refused);
    RUN(losses_near_the_largest_count_or_are_refused);
    RUN(one_item_may_have_many_alternatives);
    RUN(what_takes_too_much_is_refused_and_a_coarser_unit_helps);
    RUN(null_and_nothing_are_refused);
    RUN(every_allocation_may_fail);
    return test_end();
}
