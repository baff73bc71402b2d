#define _POSIX_C_SOURCE 200809L

#include "timer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double timer_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double run_calls(timer_call *call, void *user, size_t calls)
{
    double start = timer_now();
    for (size_t i = 0; i < calls; i++) call(user);
    return timer_now() - start;
}

/* Doubles until a slice is long enough, so that a call of a few nanoseconds can be timed, too. */
static size_t find_calls(double slice, timer_call *call, void *user)
{
    for (size_t calls = 1;; calls *= 2) {
        double took = run_calls(call, user, calls);
        if (took >= slice) return calls;
        if (took * 2 >= slice) return calls * 2;
    }
}

void timer_sample(struct timing *t, timer_call *call, void *user)
{
    if (t->count == TIMER_SAMPLES) return;
    call(user);
    if (!t->calls) t->calls = find_calls(t->slice, call, user);
    double total = 0;
    size_t slices = 0;
    while (total < t->sample || slices == 0) {
        double took = run_calls(call, user, t->calls);
        double each = took / (double)t->calls;
        if (t->fastest == 0 || each < t->fastest) t->fastest = each;
        total += took;
        slices++;
    }
    t->means[t->count++] = total / (double)(slices * t->calls);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double timer_median(const struct timing *t)
{
    double sorted[TIMER_SAMPLES];
    if (t->count == 0) return 0;
    memcpy(sorted, t->means, t->count * sizeof *sorted);
    qsort(sorted, t->count, sizeof *sorted, compare);
    return (sorted[(t->count - 1) / 2] + sorted[t->count / 2]) / 2;
}
