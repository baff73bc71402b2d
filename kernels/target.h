/*
 * target.h - one macro per instruction set: the function attribute that lets the compiler use it.
 *
 * Instruction sets are chosen in the source and not by per-file compiler flags, so that any build
 * (an amalgamation, a Rust build script, Xcode, the NDK) makes the same library with no special rule.
 * QVITP_X86 is 1 where the x86 kernels are built at all; -DQVIT_NO_SIMD leaves only scalar code.
 *
 * 256-bit VNNI comes in two encodings of the same instruction: EVEX, with AVX-512 VL and VNNI, and VEX, for
 * CPUs without AVX-512 (AVX-VNNI). The library is built with the first, unless -DQVIT_AVX_VNNI says VEX: a
 * build has one of the two, from the same source.
 */
#ifndef QVITP_TARGET_H
#define QVITP_TARGET_H

#if !defined(QVIT_NO_SIMD) && defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define QVITP_X86 1
#define QVITP_TARGET_AVX2 __attribute__((target("avx2,fma")))
#ifdef QVIT_AVX_VNNI
#define QVITP_TARGET_AVX2VNNI __attribute__((target("avx2,fma,avxvnni")))
#define QVITP_DPBUSD_256 _mm256_dpbusd_avx_epi32
#else
#define QVITP_TARGET_AVX2VNNI __attribute__((target("avx2,fma,avx512f,avx512vl,avx512vnni")))
#define QVITP_DPBUSD_256 _mm256_dpbusd_epi32
#endif
#if defined(__clang__)
#define QVITP_TARGET_AVX512VNNI                                                                    \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#else /* tuned so, gcc does not keep pointers of inner loops in vector registers */
#define QVITP_TARGET_AVX512VNNI                                                                    \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,"                \
                          "tune=icelake-server")))
#endif
#else
#define QVITP_X86 0
#endif

#endif
