/*
 * run_eval.h - runs commands of qvit-vit inside a test, and fetches the logits that they write.
 */
#ifndef QVIT_TEST_RUN_EVAL_H
#define QVIT_TEST_RUN_EVAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "eval.h"
#include "npy.h"
#include "test.h"

enum { RUN_TEXT = 2048, RUN_ARGUMENTS = 64 };

/* A folder of the test's own, and the path of a file in it. */
static char run_folder[] = "/tmp/qvit-test-XXXXXX";

static inline const char *run_path(const char *name)
{
    static char paths[16][80]; /* so many may be in use at once */
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", run_folder, name);
    return path;
}

/* Runs a command on arguments that blanks separate. */
static inline qvit_status run_words(qvit_status (*command)(int, char **, qvit_error *), char *text,
                                    qvit_error *error)
{
    char *arguments[RUN_ARGUMENTS];
    int count = 0;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) arguments[count++] = word;
    return command(count, arguments, error);
}

/* The arguments as of printf; fails the test if the command fails. */
static inline void run_ok(qvit_status (*command)(int, char **, qvit_error *), const char *format,
                          ...)
{
    char text[RUN_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    qvit_error error;
    if (run_words(command, text, &error) != QVIT_OK) FAIL("%s", error.text);
}

/* The array in a file of the folder; the file is removed. */
static inline npy run_fetch(const char *name)
{
    npy array;
    char text[240];
    if (npy_open(run_path(name), &array, text, sizeof text)) FAIL("%s", text);
    unlink(run_path(name));
    return array;
}

/* Whether this CPU can evaluate with the instruction set. */
static inline bool run_has_isa(uint64_t isa)
{
    qvit_engine *engine;
    CHECK_EQ(qvit_engine_create(NULL, &engine, NULL), QVIT_OK);
    uint64_t found = qvit_engine_isa(engine);
    qvit_engine_destroy(engine);
    return (found & isa) == isa;
}

/*
 * Evaluates with `common` arguments, and again with each instruction set, other thread counts and
 * batch sizes: the quantized logits must be the same bit for bit. Returns the first ones.
 */
static inline npy run_bit_identical(const char *common)
{
    static const struct {
        const char *arguments;
        uint64_t isa;
    } variants[] = {
        {"--threads 2 --batch 8", 0},
        {"--threads 1 --batch 8", 0},
        {"--threads 3 --batch 1", 0},
        {"--threads 2 --batch 3 --isa scalar", 0},
        {"--threads 2 --batch 8 --isa avx2", QVIT_ISA_AVX2},
        {"--threads 2 --batch 8 --isa avx2vnni", QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI},
        {"--threads 2 --batch 8 --isa avx512vnni", QVIT_ISA_AVX2 | QVIT_ISA_AVX512VNNI},
    };
    npy first = {0};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (!run_has_isa(variants[i].isa)) continue;
        run_ok(command_eval, "%s %s --quantized-logits %s", common, variants[i].arguments,
               run_path("q.npy"));
        npy logits = run_fetch("q.npy");
        if (i == 0) {
            first = logits;
            continue;
        }
        bool same = !memcmp(first.data, logits.data, first.count * sizeof(float));
        npy_close(&logits);
        if (!same) FAIL("%s: other logits than %s", variants[i].arguments, variants[0].arguments);
    }
    return first;
}

static inline void run_begin(void)
{
    if (!mkdtemp(run_folder)) {
        perror(run_folder);
        exit(1);
    }
}

#endif
