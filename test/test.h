/*
 * test.h - the few lines that every test program of libqvit shares.
 *
 * A test is a function without arguments; CHECK and its kin stop it at the first failure, SKIP ends
 * it as skipped. A program runs its tests with RUN and ends with the one line that the runner
 * (test/run.sh) adds up: "N passed, N failed, N skipped".
 *
 *     static void adds(void) { CHECK_EQ(1 + 1, 2); }
 *     int main(int argc, char **argv) { test_begin(argc, argv); RUN(adds); return test_end(); }
 *
 * Random input comes from test_random(): the seed is new on every run and printed; --seed N repeats
 * a run. --only TEXT runs the tests whose names contain TEXT.
 */
#ifndef QVIT_TEST_H
#define QVIT_TEST_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    uint64_t seed, state;
    const char *only;
    unsigned passed, failed, skipped;
    jmp_buf leave;
} test_run;

enum { TEST_RUNNING = 0, TEST_FAILED = 1, TEST_SKIPPED = 2 };

/* splitmix64: every state gives a full-period, well mixed sequence. */
static inline uint64_t test_random(void)
{
    uint64_t z = (test_run.state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Uniform in [0, n), n >= 1. */
static inline size_t test_below(size_t n) { return (size_t)(test_random() % n); }

/* Uniform in [-1, 1). */
static inline float test_uniform(void)
{
    return (float)((double)(test_random() >> 40) / (double)(1u << 23) - 1.0);
}

/* Roughly normal, mean 0, deviation 1: the sum of twelve uniforms, so |x| <= 12. */
static inline float test_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += test_uniform();
    return sum * 0.5f;
}

static inline void test_begin(int argc, char **argv)
{
    test_run.seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)clock();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seed")) test_run.seed = strtoull(argv[i + 1], NULL, 0);
        if (!strcmp(argv[i], "--only")) test_run.only = argv[i + 1];
    }
    printf("%s --seed %llu\n", argv[0], (unsigned long long)test_run.seed);
}

static inline int test_end(void)
{
    printf("%u passed, %u failed, %u skipped\n", test_run.passed, test_run.failed,
           test_run.skipped);
    return test_run.failed != 0;
}

/* Runs one test. Each starts from the seed, so that --only repeats it with the same numbers. */
static inline void test_one(const char *name, void (*test)(void))
{
    if (test_run.only && !strstr(name, test_run.only)) return;
    test_run.state = test_run.seed;
    int outcome = setjmp(test_run.leave);
    if (outcome == TEST_RUNNING) {
        test();
        test_run.passed++;
        printf("ok    %s\n", name);
    } else if (outcome == TEST_SKIPPED) {
        test_run.skipped++;
    } else {
        test_run.failed++;
        printf("FAIL  %s (--seed %llu)\n", name, (unsigned long long)test_run.seed);
    }
    fflush(stdout);
}

#define RUN(test) test_one(#test, test)

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), printf("\n");                  \
        longjmp(test_run.leave, TEST_FAILED);                                                      \
    } while (0)

#define SKIP(...)                                                                                  \
    do {                                                                                           \
        printf("skip  "), printf(__VA_ARGS__), printf("\n");                                       \
        longjmp(test_run.leave, TEST_SKIPPED);                                                     \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) FAIL("%s", #condition);                                                  \
    } while (0)

/* Integers of any kind, compared as long long. */
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long left_ = (long long)(a), right_ = (long long)(b);                                 \
        if (left_ != right_) FAIL("%s is %lld, not %s = %lld", #a, left_, #b, right_);             \
    } while (0)

#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *left_ = (a), *right_ = (b);                                                    \
        if (strcmp(left_, right_)) FAIL("%s is \"%s\", not \"%s\"", #a, left_, right_);            \
    } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                \
    do {                                                                                           \
        double left_ = (double)(a), right_ = (double)(b), gap_ = left_ - right_;                   \
        if (!(gap_ <= (tolerance) && gap_ >= -(tolerance)))                                        \
            FAIL("%s is %.9g, not %s = %.9g", #a, left_, #b, right_);                              \
    } while (0)

#endif
