/* timer.h - how long a call takes: samples of many calls, their median, and the fastest slice. */
#ifndef BENCH_TIMER_H
#define BENCH_TIMER_H

#include <stddef.h>

/* Nanoseconds of a clock that only runs forward. */
double timer_now(void);

typedef void timer_call(void *user);

enum { TIMER_SAMPLES = 64 };

/*
 * A sample is at least `sample` nanoseconds of back-to-back calls. It is timed in slices of at
 * least `slice` nanoseconds: their fastest is what the machine can do while nobody else disturbs
 * it, the median of whole samples what it does.
 */
struct timing {
    double sample, slice;        /* ns; set by the caller, all else zero                          */
    size_t calls;                /* in a slice; found by the first sample                         */
    double fastest;              /* ns of one call in the fastest slice                           */
    double means[TIMER_SAMPLES]; /* ns of one call, for each sample                               */
    size_t count;
};

/* Takes one more sample; the first call warms up and is not timed. */
void timer_sample(struct timing *timing, timer_call *call, void *user);

/* Median of the samples' means; 0 without any. */
double timer_median(const struct timing *timing);

#endif
