/*
 * numerics.h - the constants of libqvit's defined float functions, and how floats are computed here.
 *
 * Every float result of the library is defined by lib/ref, operation by operation, in IEEE float32:
 * one rounding per operation, no fused multiply-add, no reciprocal estimate, sums in 16 interleaved
 * partials that a fixed tree adds up. So a kernel of any instruction set returns the same bits.
 * A compiler may break that in two ways: by fast-math, which is refused here, and by contracting a
 * product and a sum into one rounding, which is switched off here. (clang's -ffp-contract=fast overrules
 * any pragma: a build of one's own must not pass it; ISO C mode and the Makefile do not.)
 */
#ifndef QVITP_NUMERICS_H
#define QVITP_NUMERICS_H

#ifdef __FAST_MATH__
#error "libqvit defines its results bit for bit: do not compile it with -ffast-math or -Ofast"
#endif

/* No contraction of a * b + c into one rounding. clang obeys the standard's pragma, gcc its own. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

/* Number of interleaved partial sums, and so the widest vector of floats that a kernel may use. */
#define QVITP_PARTIALS 16

/* x + 1.5 * 2^23 has no bits below 1: adding and subtracting it rounds |x| < 2^22 half to even. */
#define QVITP_ROUND_MAGIC 12582912.0f

/*
 * exp(x), for x <= 0: x = (n + r) ln 2 / 16, n whole, |r| <= 1/2, so exp(x) is 2^(n / 16), a root of 2
 * times a power, times 1 + r (C1 + C2 r), of the least largest relative error (4.3e-7). The rounding of
 * n + r adds up to 9e-8 |x|. Below QVITP_EXP_LOW the result is 0: no subnormal number ever appears, not
 * even in the product of a root with r, which is a multiple of the last bit of n + r.
 */
#define QVITP_EXP_LOW (-70.0f)
#define QVITP_EXP_ROOTS 16
#define QVITP_EXP_SCALE 23.08312f /* 16 / ln 2 */
#define QVITP_EXP_C1 0.043324232f
#define QVITP_EXP_C2 0.0009383845f

/* 2^(i / 16), i = 0..15; a macro, so that each kernel lays out a table of its own. */
#define QVITP_EXP_ROOTS_OF_2                                                                       \
    1.0f, 1.0442737f, 1.0905077f, 1.1387886f, 1.1892071f, 1.2418578f, 1.2968396f, 1.3542556f,      \
        1.4142135f, 1.4768262f, 1.5422108f, 1.6104903f, 1.6817929f, 1.7562522f, 1.8340081f,        \
        1.9152066f

/*
 * GELU(x) = max(0, x) - g(|x|), where g(u) = u * Phi(-u) is a small bump on [0, 5): 16 cubics, the
 * coefficients c0 + c1 f + c2 f^2 + c3 f^3 of each of the least largest error in its segment; that of the
 * first segment is 0 at 0. f is the position inside the segment, in [0, 1). 16, so that one permutation of
 * a register looks a coefficient up. Largest error of the whole: 5.6e-6, absolute.
 */
#define QVITP_GELU_SEGMENTS 16
#define QVITP_GELU_SCALE 3.2f      /* segments per unit: 16 / 5 */
#define QVITP_GELU_LAST 15.999999f /* the largest float below 16 */

/* The cubics, one a segment, as C(c0, c1, c2, c3). */
/* clang-format off */
#define QVITP_GELU_CUBICS(C)                                                                       \
    C(0.0f, 0.15636075f, -0.039638024f, 0.0011875312f),                                             \
    C(0.11791293f, 0.08090589f, -0.03577789f, 0.0031972395f),                                       \
    C(0.16624077f, 0.019035304f, -0.02585332f, 0.003937116f),                                       \
    C(0.16336203f, -0.020922318f, -0.013782808f, 0.0034073002f),                                    \
    C(0.13206494f, -0.03841847f, -0.003469906f, 0.002146667f),                                      \
    C(0.092322744f, -0.039078206f, 0.0029097341f, 0.0008411467f),                                   \
    C(0.05699442f, -0.03084691f, 0.005307045f, -5.6077984e-05f),                                    \
    C(0.031397585f, -0.020451348f, 0.0050269607f, -0.0004486832f),                                  \
    C(0.015524006f, -0.011749019f, 0.0036185405f, -0.00048083768f),                                 \
    C(0.0069125476f, -0.005939515f, 0.0021582947f, -0.00035342292f),                                \
    C(0.002777951f, -0.0026653742f, 0.0011040365f, -0.00020776976f),                                \
    C(0.0010089399f, -0.0010675055f, 0.00049284665f, -0.00010287286f),                              \
    C(0.00033148602f, -0.0003829467f, 0.0001939513f, -4.395234e-05f),                               \
    C(9.8583536e-05f, -0.0001233506f, 6.772209e-05f, -1.6425212e-05f),                              \
    C(2.655102e-05f, -3.574036e-05f, 2.1073414e-05f, -5.4144725e-06f),                              \
    C(6.477974e-06f, -9.327681e-06f, 5.862369e-06f, -1.5833682e-06f)
/* clang-format on */

/* A C: a row of coefficients. */
#define QVITP_GELU_CUBIC(c0, c1, c2, c3)                                                           \
    {                                                                                              \
        c0, c1, c2, c3                                                                             \
    }

#endif
