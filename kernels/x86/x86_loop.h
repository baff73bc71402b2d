/* x86_loop.h - three things that compilers must be told about the inner loops of products. */
#ifndef QVITP_X86_LOOP_H
#define QVITP_X86_LOOP_H

/* The loop that follows is unrolled whole, so that an array of vectors lives in registers. */
#if defined(__clang__)
#define QVITP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define QVITP_UNROLL _Pragma("GCC unroll 16")
#endif

/* Hides how a pointer was computed: gcc 12 would keep one register per row, and spill most of
 * them. */
#define QVITP_OPAQUE(pointer) __asm__("" : "+r"(pointer))

/* Hides what a vector holds: where accumulators start at a constant, or the loop lies within another, gcc
 * 12 would keep each of them twice. */
#define QVITP_OPAQUE_VECTOR(vector) __asm__("" : "+v"(vector))

#endif
