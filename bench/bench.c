/*
 * bench.c - qvit-bench: how fast the kernels, the plans and whole encoders are, and how near to
 * what the processor can do.
 *
 * Exit status: 0 done, 1 something failed, 2 the command line is wrong.
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/common/thread_pool.h"
#include "json.h"

static const struct benchmark {
    const char *name, *purpose;
    void (*run)(struct bench *bench);
} benchmarks[] = {
    {"gemm", "linear layers of the transformers' shapes, all weights and epilogues", bench_gemm},
    {"attention", "codes of Q, K and V to codes of the context", bench_attention},
    {"encoder", "whole transformers of random weights", bench_encoder},
    {"ops", "layer norm, softmax, quantization", bench_ops},
};
enum { BENCHMARKS = sizeof benchmarks / sizeof benchmarks[0] };

/* ---- command line ---- */

/* An option sets a text, a number, or, without a value, a flag. */
struct option {
    const char *name, *value, *help;
    const char **text;
    size_t *number;
    int *flag;
};
enum { OPTIONS = 15 };

static void list_options(struct bench_options *o, struct option list[OPTIONS])
{
    const struct option all[OPTIONS] = {
        {"--json", "", "one JSON object instead of tables", NULL, NULL, &o->json},
        {"--threads", "T", "threads (1)", NULL, &o->threads, NULL},
        {"--isa", "NAME", "kernels up to scalar, avx2, avx2vnni or avx512vnni (the newest)",
         &o->isa, NULL, NULL},
        {"--quick", "", "a few shapes, seconds in all: does it work?", NULL, NULL, &o->quick},
        {"--rounds", "N", "how often every row is measured, 1..64 (7)", NULL, &o->rounds, NULL},
        {"--arch", "NAME", "shapes of tiny, small or base only", &o->arch, NULL, NULL},
        {"--operand", "KIND", "plain or twin codes only", &o->operand, NULL, NULL},
        {"--m", "M", "gemm: rows (197, 1576)", NULL, &o->m, NULL},
        {"--weights", "TYPE", "gemm: s8, s6, s4, u4 or f32 only", &o->weights, NULL, NULL},
        {"--epilogue", "KIND", "gemm: s32, requant, gelu-twin or f32 only", &o->epilogue, NULL,
         NULL},
        {"--granularity", "KIND",
         "gemm: weight scales: rows, layer, k128, k64 (of every row), or all (rows)",
         &o->granularity, NULL, NULL},
        {"--bits", "KIND", "encoder: w8a8, w4a8 or f32 only", &o->bits, NULL, NULL},
        {"--order", "KIND", "encoder: channels of layer norms: none, random, or all (none)",
         &o->order, NULL, NULL},
        {"--batch", "B", "encoder, attention: images (1)", NULL, &o->batch, NULL},
        {"--steps", "", "encoder: columns with the time of each kind of step", NULL, NULL,
         &o->steps},
    };
    memcpy(list, all, sizeof all);
}

static void print_usage(FILE *stream)
{
    struct bench_options unused;
    struct option list[OPTIONS];
    list_options(&unused, list);
    fprintf(stream,
            "usage: qvit-bench [BENCHMARK] [OPTION]...     all benchmarks if none is named\n\n");
    for (size_t i = 0; i < BENCHMARKS; i++)
        fprintf(stream, "  %-22s%s\n", benchmarks[i].name, benchmarks[i].purpose);
    fputc('\n', stream);
    for (size_t i = 0; i < OPTIONS; i++)
        fprintf(stream, "  %-13s %-7s %s\n", list[i].name, list[i].value, list[i].help);
}

_Noreturn static void usage_error(const char *what, const char *text)
{
    fprintf(stderr, "qvit-bench: %s: %s; --help lists what there is\n", text, what);
    exit(2);
}

static size_t parse_number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value == 0 || value > 1000000)
        usage_error("not a number from 1 to 1000000", text);
    return value;
}

/* Takes one option, and its value, off the arguments. */
static char **parse_option(struct bench_options *o, char **next)
{
    struct option list[OPTIONS];
    list_options(o, list);
    const char *name = *next++;
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strcmp(name, list[i].name)) continue;
        if (list[i].flag) {
            *list[i].flag = 1;
            return next;
        }
        if (!*next) usage_error("needs a value", name);
        if (list[i].text) *list[i].text = *next;
        if (list[i].number) *list[i].number = parse_number(*next);
        return next + 1;
    }
    usage_error("no such option", name);
}

static const struct benchmark *find_benchmark(const char *name)
{
    for (size_t i = 0; i < BENCHMARKS; i++)
        if (!strcmp(benchmarks[i].name, name)) return &benchmarks[i];
    usage_error("no such benchmark", name);
}

/* Every text is one of a few words. */
static void check_words(const struct bench_options *o)
{
    const struct {
        const char *text, *words;
    } checks[] = {
        {o->isa, " scalar avx2 avx2vnni avx512vnni "},
        {o->arch, " tiny small base "},
        {o->operand, " plain twin "},
        {o->weights, " s8 s6 s4 u4 f32 "},
        {o->epilogue, " s32 requant gelu-twin f32 "},
        {o->granularity, " rows layer k128 k64 all "},
        {o->bits, " w8a8 w4a8 f32 "},
        {o->order, " none random all "},
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        char word[40];
        if (!checks[i].text) continue;
        snprintf(word, sizeof word, " %s ", checks[i].text);
        if (!strstr(checks[i].words, word)) usage_error("not one of the values", checks[i].text);
    }
    if (o->rounds > TIMER_SAMPLES) usage_error("at most 64", "--rounds");
}

/* ---- engine ---- */

static uint64_t disabled(const char *isa)
{
    static const struct {
        const char *newest;
        uint64_t bit;
    } sets[] = {
        {"avx512vnni", QVIT_ISA_AVX512VNNI},
        {"avx2vnni", QVIT_ISA_AVX2VNNI},
        {"avx2", QVIT_ISA_AVX2},
    };
    uint64_t out = 0;
    for (size_t i = 0; isa && i < sizeof sets / sizeof sets[0]; i++) {
        if (!strcmp(isa, sets[i].newest)) break;
        out |= sets[i].bit;
    }
    return out;
}

static void open_engine(struct bench *b, thread_pool *pool)
{
    qvit_executor executor = thread_pool_executor(pool);
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.isa_disable = disabled(b->options.isa);
    options.executor = &executor;
    BENCH_TRY(qvit_engine_create(&options, &b->engine, &bench_error));
    const char *isa = b->options.isa;
    if (isa && strcmp(isa, qvit_engine_isa_name(b->engine)))
        bench_die(isa, "this machine does not have it");
}

/* ---- report ---- */

static const char *machine(void)
{
    static char name[100] = "unknown";
    char line[200];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !value) continue;
        value[strcspn(value, "\n")] = 0;
        snprintf(name, sizeof name, "%s", value + 2);
        break;
    }
    if (file) fclose(file);
    return name;
}

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

static void write_row(struct json *json, const struct bench_row *row)
{
    json_open(json, NULL, '{');
    json_text(json, "benchmark", row->group);
    json_text(json, "name", row->name);
    for (size_t i = 0; i < row->fields; i++) {
        const struct bench_field *f = &row->field[i];
        if (f->text)
            json_text(json, f->key, f->text);
        else
            json_number(json, f->key, f->number, f->decimals);
    }
    json_close(json, '}');
}

/* NaN, and so null, for a peak that this instruction set has no loop for. */
static double known(double peak) { return peak > 0 ? peak : (double)NAN; }

static void write_json(const struct bench *b)
{
    struct json json = {.stream = stdout};
    json_open(&json, NULL, '{');
    json_text(&json, "machine", machine());
    json_text(&json, "compiler", compiler());
    json_text(&json, "version", qvit_version_string());
    json_number(&json, "clock_ghz", b->peak.clock, 3);
    json_number(&json, "peak_gmacs", known(b->peak.gmacs[PEAK_INT8]), 2);
    json_number(&json, "peak_f32_gmacs", known(b->peak.gmacs[PEAK_F32]), 2);
    json_open(&json, "rows", '[');
    for (size_t i = 0; i < b->count; i++) write_row(&json, &b->rows[i]);
    json_close(&json, ']');
    json_close(&json, '}');
    putchar('\n');
}

static void print_head(const struct bench *b)
{
    printf("%s, %s, libqvit %s, %s, %zu thread%s\n", machine(), compiler(), qvit_version_string(),
           qvit_engine_isa_name(b->engine), b->options.threads, b->options.threads > 1 ? "s" : "");
}

/* The peaks in cycles say whether they are what the processor's makers promise. */
static void print_peaks(const struct bench *b)
{
    const struct peak *p = &b->peak;
    printf("\nclock %.3f GHz", p->clock);
    if (p->gmacs[PEAK_INT8] > 0)
        printf(", int8 peak %.1f multiplications a ns, %.1f a cycle", p->gmacs[PEAK_INT8],
               p->gmacs[PEAK_INT8] / p->clock);
    if (p->gmacs[PEAK_F32] > 0)
        printf(", f32 peak %.1f, %.1f a cycle", p->gmacs[PEAK_F32], p->gmacs[PEAK_F32] / p->clock);
    printf("; one core\n");
}

/* Both peaks are reported, whatever the rows are compared with. */
static void sample_peaks(struct bench *b)
{
    uint64_t isa = qvit_engine_isa(b->engine);
    for (int i = 0; i < 5; i++) {
        peak_sample_clock(&b->peak);
        peak_sample(&b->peak, PEAK_INT8, isa);
        peak_sample(&b->peak, PEAK_F32, isa);
    }
}

static void run(struct bench *b, const struct benchmark *chosen)
{
    thread_pool *pool = thread_pool_create(b->options.threads);
    if (!pool) bench_die("threads", "cannot be started");
    open_engine(b, pool);
    if (!b->options.json) print_head(b);
    sample_peaks(b);
    for (size_t i = 0; i < BENCHMARKS; i++)
        if (!chosen || chosen == &benchmarks[i]) benchmarks[i].run(b);
    if (b->options.json)
        write_json(b);
    else
        print_peaks(b);
    qvit_engine_destroy(b->engine);
    thread_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    struct bench b = {.options = {.threads = 1}};
    const struct benchmark *chosen = NULL;
    char **next = argv + (argc > 0);
    if (*next && !strcmp(*next, "--help")) {
        print_usage(stdout);
        return 0;
    }
    if (*next && **next != '-') chosen = find_benchmark(*next++);
    while (*next) next = parse_option(&b.options, next);
    check_words(&b.options);
    if (b.options.rounds == 0) b.options.rounds = b.options.quick ? 2 : 7;
    run(&b, chosen);
    int empty = b.count == 0;
    free(b.rows);
    if (empty) usage_error("nothing fits these options", "rows");
    return fflush(stdout) || ferror(stdout);
}
