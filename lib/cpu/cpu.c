/*
 * cpu.c - what the processor and the operating system offer.
 *
 * The CPU's feature bits alone are not enough: the operating system must also save the wide registers
 * when it switches threads, which it says in the XCR0 register.
 */
#include "cpu/cpu.h"

#include "qvit.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <cpuid.h>

/* Register state that the operating system saves: bits of XCR0. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xE6 };

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/* The encoding of 256-bit VNNI that this build has (kernels/target.h). */
#ifdef QVIT_AVX_VNNI
#define EVEX_256 0
#define VEX_256 QVIT_ISA_AVX2VNNI
#else
#define EVEX_256 QVIT_ISA_AVX2VNNI
#define VEX_256 0
#endif

/* Whether the second part of leaf 7, if `last` says that there is one, tells of AVX-VNNI. */
static int has_avx_vnni(uint32_t last)
{
    const uint32_t avx_vnni = 1u << 4; /* eax */
    uint32_t a, b, c, d;
    return last >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, avx_vnni);
}

uint64_t qvitp_cpu_isa(void)
{
    const uint32_t fma_osxsave_avx = 1u << 12 | 1u << 27 | 1u << 28;              /* leaf 1, ecx */
    const uint32_t avx2 = 1u << 5;                                                /* leaf 7, ebx */
    const uint32_t avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* leaf 7, ebx */
    const uint32_t avx512_vnni = 1u << 11;                                        /* leaf 7, ecx */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, fma_osxsave_avx)) return 0;
    uint64_t saved = xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!has(saved, XCR0_AVX) || !has(b, avx2)) return 0;
    uint64_t isa = QVIT_ISA_AVX2;
    if (has(saved, XCR0_AVX512) && has(b, avx512_f_dq_bw_vl) && has(c, avx512_vnni))
        isa |= QVIT_ISA_AVX512VNNI | EVEX_256;
    if (has_avx_vnni(a)) isa |= VEX_256;
    return isa;
}

#else

uint64_t qvitp_cpu_isa(void) { return 0; }

#endif
