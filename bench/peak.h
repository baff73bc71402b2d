/* peak.h - what one core can do at most, measured: its clock, and multiplications a nanosecond. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include <stdint.h>

/* What a row's speed is compared with. */
enum peak_kind { PEAK_NONE, PEAK_INT8, PEAK_F32, PEAK_KINDS };

/* The best seen so far; 0 where the instruction set has no loop here. Start from all zero. */
struct peak {
    double clock;             /* GHz */
    double gmacs[PEAK_KINDS]; /* multiply-adds a nanosecond, on one core */
};

/*
 * Measures for about a millisecond and keeps what is better than before. PEAK_INT8 is the fastest
 * exact way to multiply 8-bit values that `isa` (QVIT_ISA_* bits) offers: vpdpbusd, which adds as
 * well, or vpmaddwd on values widened before, without the vpaddd that has to follow. PEAK_F32 is
 * vfmadd.
 */
void peak_sample(struct peak *peak, enum peak_kind kind, uint64_t isa);

/* The clock, from a chain of additions that each wait for the one before: one a cycle. */
void peak_sample_clock(struct peak *peak);

#endif
