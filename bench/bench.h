/* bench.h - what the benchmarks share: the command line's choices, rows, measuring. */
#ifndef BENCH_H
#define BENCH_H

#include "engine.h"
#include "peak.h"
#include "qvit.h"
#include "timer.h"

/* The command line. A NULL or 0 leaves the choice to the benchmark: usually all there are. */
struct bench_options {
    const char *isa, *arch, *bits, *weights, *operand, *epilogue, *granularity, *order;
    size_t threads, batch, m, rounds;
    int json, quick, steps;
};

/* A column of the table and a member of the JSON object: a text, or a number if text is NULL. */
struct bench_field {
    const char *key, *text;
    double number;
    int decimals;
};

enum { BENCH_FIELDS = 24 };

/* One thing that is timed. */
struct bench_row {
    char name[32];
    const char *group; /* rows of a group share their columns */
    timer_call *call;
    void *user;
    double macs;         /* multiplications of one call; 0: no such measure */
    enum peak_kind peak; /* what they are compared with */
    struct bench_field field[BENCH_FIELDS];
    size_t fields;
    struct timing timing;
};

struct bench {
    struct bench_options options;
    qvit_engine *engine;
    struct peak peak; /* the best of this run so far */
    struct bench_row *rows;
    size_t count, capacity;
};

/* The benchmarks. Each adds its rows, measures them and prints them. */
void bench_gemm(struct bench *bench);
void bench_attention(struct bench *bench);
void bench_encoder(struct bench *bench);
void bench_ops(struct bench *bench);

/* Whether `value` is the one that an option names; NULL names all. */
int bench_wants(const char *option, const char *value);

/* A new row, empty but for these; valid until the next one is added. */
struct bench_row *bench_add(struct bench *bench, const char *group, const char *name,
                            timer_call *call, void *user);
void bench_text(struct bench_row *row, const char *key, const char *text);
void bench_number(struct bench_row *row, const char *key, double number, int decimals);
/* The text under a key, or "". */
const char *bench_text_of(const struct bench_row *row, const char *key);

/*
 * Measures the rows from `first` on: every row once, and the peak beside it, then all again, for as
 * many rounds as were asked for; so what disturbs the machine for a second disturbs all alike.
 */
void bench_measure(struct bench *bench, size_t first);
/* The same rows as a table, unless JSON is wanted: that is written at the end. */
void bench_print(const struct bench *bench, size_t first);

/* Results of a measured row: multiplications a nanosecond, and the share of the peak, or NaN. */
double bench_gmacs(const struct bench_row *row);
double bench_percent(const struct bench *bench, const struct bench_row *row);

/* Ends the program with a sentence: for what cannot fail but for a fault here or in the library. */
_Noreturn void bench_die(const char *what, const char *why);
#define BENCH_TRY(call)                                                                            \
    do {                                                                                           \
        qvit_error bench_error;                                                                    \
        if ((call) != QVIT_OK) bench_die(#call, bench_error.text);                                 \
    } while (0)

#endif
