#include "peak.h"

#include <stddef.h>

#include "kernels/target.h"
#include "qvit.h"
#include "timer.h"

/* ---- clock ---- */

/* The compiler may not know what it adds, nor what came out, so that it cannot add in one step. */
#define ADD (x += y, hide(&x))
#define ADD8 (ADD, ADD, ADD, ADD, ADD, ADD, ADD, ADD)

static inline void hide(uint64_t *x) { __asm__ volatile("" : "+r"(*x)); }

static void add_chain(size_t additions)
{
    uint64_t x = 1, y = 3;
    hide(&y);
    for (size_t i = 0; i < additions; i += 64) (ADD8, ADD8, ADD8, ADD8, ADD8, ADD8, ADD8, ADD8);
}

void peak_sample_clock(struct peak *peak)
{
    enum { ADDITIONS = 1 << 19 };
    for (int i = 0; i < 3; i++) {
        double start = timer_now();
        add_chain(ADDITIONS);
        double clock = ADDITIONS / (timer_now() - start);
        if (clock > peak->clock) peak->clock = clock;
    }
}

/* ---- multiplications ---- */

#if QVITP_X86

#include <immintrin.h>

#include "kernels/x86/x86_loop.h"

/* Operands that are not zero: some processors clock higher, or skip work, on zeros. */
static const union {
    uint8_t bytes[64];
    __m256i halves[2];
    __m512i whole;
} codes = {{0x9d, 0x53, 0xe6, 0x27, 0x71, 0xb8, 0x0c, 0xfa, 0x45, 0x8e, 0xd1, 0x36, 0x6b,
            0xa4, 0x1f, 0xc2, 0x5a, 0xef, 0x83, 0x14, 0x79, 0xbd, 0x62, 0xd8, 0x2b, 0x97,
            0xf1, 0x4c, 0xa6, 0x35, 0xcb, 0x70, 0x1e, 0x89, 0xe4, 0x5f, 0xb2, 0x07, 0x6d,
            0xd3, 0x98, 0x3a, 0xc5, 0x81, 0x2e, 0xf7, 0x54, 0xab, 0x10, 0xdd, 0x67, 0x92,
            0x4f, 0xe8, 0x23, 0xb6, 0x7c, 0x05, 0xd9, 0x31, 0x8a, 0xf4, 0x5b, 0xae}};

/*
 * One loop: `count` independent accumulators, enough to hide an instruction's latency, and few
 * enough for the registers. The empty assembly keeps the order, which needs no more of them, and
 * makes each product a new one.
 */
#define LOOP(name, target, vector, count, first, zero, step, fold)                                 \
    target static int name(size_t turns)                                                           \
    {                                                                                              \
        vector c[count], a = first, b = a;                                                         \
        __asm__("" : "+v"(b));                                                                     \
        QVITP_UNROLL                                                                               \
        for (size_t i = 0; i < count; i++) c[i] = zero;                                            \
        for (size_t turn = 0; turn < turns; turn++) {                                              \
            QVITP_UNROLL                                                                           \
            for (size_t i = 0; i < count; i++) {                                                   \
                c[i] = step;                                                                       \
                __asm__ volatile("" : "+v"(c[i]), "+v"(a));                                        \
            }                                                                                      \
        }                                                                                          \
        QVITP_UNROLL                                                                               \
        for (size_t i = 1; i < count; i++) c[0] = fold;                                            \
        int first_sum;                                                                             \
        __builtin_memcpy(&first_sum, c, sizeof first_sum);                                         \
        return first_sum;                                                                          \
    }                                                                                              \
    struct peak

LOOP(dpbusd_zmm, QVITP_TARGET_AVX512VNNI, __m512i, 16, codes.whole, _mm512_setzero_si512(),
     _mm512_dpbusd_epi32(c[i], a, b), _mm512_add_epi32(c[0], c[i]));
LOOP(dpbusd_ymm, QVITP_TARGET_AVX2VNNI, __m256i, 16, codes.halves[0], _mm256_setzero_si256(),
     QVITP_DPBUSD_256(c[i], a, b), _mm256_add_epi32(c[0], c[i]));
LOOP(maddwd_ymm, QVITP_TARGET_AVX2, __m256i, 12, codes.halves[0], _mm256_setzero_si256(),
     _mm256_madd_epi16(a, b), _mm256_add_epi32(c[0], c[i]));
LOOP(fma_zmm, QVITP_TARGET_AVX512VNNI, __m512, 16, _mm512_set1_ps(0.0371f), _mm512_setzero_ps(),
     _mm512_fmadd_ps(a, b, c[i]), _mm512_add_ps(c[0], c[i]));
LOOP(fma_ymm, QVITP_TARGET_AVX2, __m256, 12, _mm256_set1_ps(0.0371f), _mm256_setzero_ps(),
     _mm256_fmadd_ps(a, b, c[i]), _mm256_add_ps(c[0], c[i]));

static const struct loop {
    enum peak_kind kind;
    uint64_t needs;
    int (*run)(size_t turns);
    size_t macs; /* of a turn */
} loops[] = {
    {PEAK_INT8, QVIT_ISA_AVX512VNNI, dpbusd_zmm, 16 * 64},
    {PEAK_INT8, QVIT_ISA_AVX2VNNI, dpbusd_ymm, 16 * 32},
    {PEAK_INT8, QVIT_ISA_AVX2, maddwd_ymm, 12 * 16},
    {PEAK_F32, QVIT_ISA_AVX512VNNI, fma_zmm, 16 * 16},
    {PEAK_F32, QVIT_ISA_AVX2, fma_ymm, 12 * 8},
};
enum { LOOPS = sizeof loops / sizeof loops[0] };

/* About a third of a millisecond: several loops share a sample. */
static double loop_rate(const struct loop *loop)
{
    const size_t turns = (size_t)80000 * 256 / loop->macs;
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double start = timer_now();
        int sum = loop->run(turns);
        __asm__ volatile("" : : "r"(sum));
        double rate = (double)(turns * loop->macs) / (timer_now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

void peak_sample(struct peak *peak, enum peak_kind kind, uint64_t isa)
{
    for (size_t i = 0; i < LOOPS; i++) {
        if (loops[i].kind != kind || (loops[i].needs & ~isa)) continue;
        double rate = loop_rate(&loops[i]);
        if (rate > peak->gmacs[kind]) peak->gmacs[kind] = rate;
    }
}

#else

void peak_sample(struct peak *peak, enum peak_kind kind, uint64_t isa)
{
    (void)peak, (void)kind, (void)isa;
}

#endif
