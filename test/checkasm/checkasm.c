/*
 * checkasm - compares every kernel that this CPU can run with lib/ref, bit for bit.
 *
 *     --seed N             repeat a run        --function WILDCARD  only kernels of that name
 *     --repeat N           that many seeds     --isa NAME           only tables up to that one
 *     --list               the rows, not run
 */
#define _DEFAULT_SOURCE
#include "checkasm.h"

#include <fnmatch.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/target.h"

enum { PAGE = 65536, MARGIN = 512, CANARY = 0xA5 }; /* PAGE: a multiple of any page size */

static struct {
    uint64_t seed, state;
    const char *function, *isa;
    int list, supported;
    unsigned passed, failed, skipped;
    char doing[256];
    sigjmp_buf leave;
    uint8_t *memory; /* the slots, with a forbidden page before each and after the last */
    struct {
        uint8_t *first, *end;
    } placed[CHECK_SLOTS];
} check;

/* ---- random input ---- */

/* splitmix64 */
uint64_t check_random(void)
{
    uint64_t z = (check.state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

size_t check_below(size_t n) { return (size_t)(check_random() % n); }

float check_uniform(void)
{
    return (float)((double)(check_random() >> 40) / (double)(1u << 23) - 1.0);
}

float check_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += check_uniform();
    return sum * 0.5f;
}

float check_special(void)
{
    static const float values[] = {NAN,     INFINITY, -INFINITY, 0.0f,   -0.0f,       1e-40f,
                                   -1e-40f, 3e38f,    -3e38f,    1e-38f, 16777216.0f, -0.5f};
    return values[check_below(sizeof values / sizeof *values)];
}

int check_same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a);
}

/* ---- guarded memory ---- */

static uint8_t *slot_start(int slot)
{
    return check.memory + PAGE + (size_t)slot * (CHECK_SLOT_BYTES + PAGE);
}

static void make_slots(void)
{
    size_t bytes = PAGE + (size_t)CHECK_SLOTS * (CHECK_SLOT_BYTES + PAGE);
    void *memory = mmap(NULL, bytes + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(2);
    check.memory = (uint8_t *)memory + (PAGE - (uintptr_t)memory % PAGE) % PAGE;
    for (int i = 0; i < CHECK_SLOTS; i++)
        if (mprotect(slot_start(i), CHECK_SLOT_BYTES, PROT_READ | PROT_WRITE)) exit(2);
}

void *check_place(int slot, size_t bytes, size_t align, int side)
{
    uint8_t *start = slot_start(slot), *end = start + CHECK_SLOT_BYTES, *first = start;
    if (bytes + 2 * MARGIN + 64 > CHECK_SLOT_BYTES) check_fail("slot %d is too small", slot);
    if (side == CHECK_BACK) first = end - (bytes + align - 1) / align * align;
    if (side == CHECK_LOOSE) first = start + MARGIN + align + check_below(64 / align) * align;
    uint8_t *low = first - start > MARGIN ? first - MARGIN : start;
    uint8_t *high = end - (first + bytes) > MARGIN ? first + bytes + MARGIN : end;
    memset(low, CANARY, (size_t)(high - low));
    check.placed[slot].first = first;
    check.placed[slot].end = first + bytes;
    return first;
}

void check_canaries(int slot, size_t rows, size_t row_bytes, size_t stride_bytes)
{
    uint8_t *start = slot_start(slot), *end = start + CHECK_SLOT_BYTES;
    uint8_t *first = check.placed[slot].first, *last = check.placed[slot].end;
    uint8_t *low = first - start > MARGIN ? first - MARGIN : start;
    uint8_t *high = end - last > MARGIN ? last + MARGIN : end;
    for (uint8_t *p = low; p < high; p++) {
        if (*p == CANARY) continue;
        if (p < first) check_fail("wrote above, %d bytes before it", (int)(first - p));
        size_t at = (size_t)(p - first), row = at / stride_bytes, column = at % stride_bytes;
        if (row >= rows || p >= last)
            check_fail("wrote below, %d bytes after it", (int)(p - last) + 1);
        if (column < row_bytes) continue;
        if (column - row_bytes < stride_bytes - column)
            check_fail("wrote right of row %zu, %zu bytes after it", row, column - row_bytes + 1);
        check_fail("wrote left of row %zu, %zu bytes before it", row + 1, stride_bytes - column);
    }
}

/* ---- results ---- */

void check_case(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check.doing, sizeof check.doing, format, arguments);
    va_end(arguments);
}

void check_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("    ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    siglongjmp(check.leave, -1);
}

static void on_signal(int number) { siglongjmp(check.leave, number); }

static void catch_signals(void)
{
    static char stack[1 << 16];
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

/* Flush to zero and denormals are zero: a caller may have set them. */
static void set_flush(int on)
{
#if QVITP_X86
    __builtin_ia32_ldmxcsr(0x1F80u | (on ? 0x8040u : 0));
#else
    (void)on;
#endif
}

static void one_row(const char *kernel, const char *group, check_cases *cases,
                    const struct qvitp_kernels *table, int flush)
{
    const char *state = flush ? ", subnormals flushed" : "";
    if (check.function && fnmatch(check.function, kernel, 0)) return;
    if (check.list) {
        printf("%s: %s%s\n", kernel, group, state);
        return;
    }
    if (!check.supported) {
        check.skipped++;
        return;
    }
    check.state = check.seed;
    check_case("nothing yet");
    int outcome = sigsetjmp(check.leave, 1);
    if (!outcome) {
        set_flush(flush);
        cases(table);
        set_flush(0);
        check.passed++;
        printf("ok    %s: %s%s\n", kernel, group, state);
    } else {
        set_flush(0);
        check.failed++;
        if (outcome > 0) printf("    signal %d (%s)\n", outcome, strsignal(outcome));
        printf("FAIL  %s: %s%s, in %s (--seed %llu)\n", kernel, group, state, check.doing,
               (unsigned long long)check.seed);
    }
    fflush(stdout);
}

void check_row(const char *kernel, const char *group, check_cases *cases,
               const struct qvitp_kernels *table)
{
    one_row(kernel, group, cases, table, 0);
#if QVITP_X86
    one_row(kernel, group, cases, table, 1);
#endif
}

/* ---- the tables ---- */

#if QVITP_X86 && defined(QVIT_AVX_VNNI)
#include <cpuid.h>

/* Not every compiler knows it by name. */
static int supports_avx_vnni(void)
{
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

static int supported(const struct qvitp_kernels *table)
{
#if QVITP_X86
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int vnni = avx2 && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    if (table == &qvitp_kernels_avx2) return avx2;
#ifdef QVIT_AVX_VNNI
    if (table == &qvitp_kernels_avx2vnni) return avx2 && supports_avx_vnni();
#endif
    if (table == &qvitp_kernels_avx2vnni) return vnni;
    if (table == &qvitp_kernels_avx512vnni)
        return vnni && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq");
#endif
    return table == &qvitp_kernels_scalar;
}

static void run_tables(void)
{
    static const struct qvitp_kernels *const tables[] = {
        &qvitp_kernels_scalar,
#if QVITP_X86
        &qvitp_kernels_avx2,
        &qvitp_kernels_avx2vnni,
        &qvitp_kernels_avx512vnni,
#endif
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        check.supported = supported(tables[i]);
        if (!check.supported) printf("skip  %s: not on this CPU\n", tables[i]->isa);
        check_gemms(tables[i]);
        check_softmax(tables[i]);
        check_rescale(tables[i]);
        check_layer_norm(tables[i]);
        check_encode(tables[i]);
        check_stage(tables[i]);
        check_expand(tables[i]);
        check_reorder(tables[i]);
        check_plans(tables[i]);
        if (check.isa && !strcmp(check.isa, tables[i]->isa)) break;
    }
}

int main(int argc, char **argv)
{
    unsigned long repeat = 1;
    check.seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)clock();
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--list")) {
            check.list = 1;
            continue;
        }
        if (!strcmp(argv[i], "--seed"))
            check.seed = strtoull(value, NULL, 0);
        else if (!strcmp(argv[i], "--repeat"))
            repeat = strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--function"))
            check.function = value;
        else if (!strcmp(argv[i], "--isa"))
            check.isa = value;
        else {
            fprintf(stderr, "%s: unknown option %s\n", argv[0], argv[i]);
            return 2;
        }
        i++;
    }
    make_slots();
    catch_signals();
    for (unsigned long i = 0; i < repeat; i++, check.seed++) {
        if (!check.list) printf("%s --seed %llu\n", argv[0], (unsigned long long)check.seed);
        run_tables();
    }
    printf("%u passed, %u failed, %u skipped\n", check.passed, check.failed, check.skipped);
    return check.failed != 0;
}
