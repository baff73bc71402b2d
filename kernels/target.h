/*
 * target.h - one macro per instruction set: the function attribute that lets the compiler use it.
 *
 * Instruction sets are chosen in the source and not by per-file compiler flags, so that any build
 * (an amalgamation, a Rust build script, Xcode, the NDK) makes the same library with no special rule.
 * QVITP_X86 is 1 where the x86 kernels are built at all; -DQVIT_NO_SIMD leaves only scalar code.
 */
#ifndef QVITP_TARGET_H
#define QVITP_TARGET_H

#if !defined(QVIT_NO_SIMD) && defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define QVITP_X86 1
#define QVITP_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define QVITP_TARGET_AVX512VNNI                                                                    \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#else
#define QVITP_X86 0
#endif

#endif
