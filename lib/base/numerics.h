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
 * A softmax that gives codes of 8 bits works with whole numbers of 16 bits, of which a register holds twice as
 * many. A score's depth is how far it lies below the largest, in 1024ths of an octave, a whole number. Its
 * mantissa is 2^(-depth % 1024 / 1024) in 65536ths: entry depth / 32 % 32 of a table times a straight line in
 * depth % 32, without the lower 16 bits. depth / 1024 is how far that is shifted. Relative error: 3.4e-4 for
 * the rounding of the depth, 9e-5 for the rest.
 */
#define QVITP_SOFTMAX_OCTAVE 1024
#define QVITP_SOFTMAX_MOST                                                                         \
    131071 /* columns of a row: sums of their exponentials fit 32 bits, unsigned */
#define QVITP_SOFTMAX_ONE 32768.0f     /* 1, among the exponentials: the largest is 32767 */
#define QVITP_SOFTMAX_STEPS 1477.3197f /* 1024 / ln 2: depth of a score that is less by one */
#define QVITP_SOFTMAX_DEEPEST 65535.0f /* 64 octaves: what lies deeper lies there, and is 0 */
#define QVITP_SOFTMAX_FINE(j) (65535 - ((j)*1405 >> 5)) /* 65535 * 2^(-j / 1024), j = 0..31 */

/* Plain codes are made of the shifted exponentials, if codes of 16 bits so leave so many behind the point; else, as a
 * twin's are, of mantissas, which are exact for small exponentials too. */
#define QVITP_SOFTMAX_FRACTION 5

/* 65535 * 2^(-i / 32), i = 0..31; a macro, as above */
#define QVITP_SOFTMAX_COARSE                                                                       \
    65535, 64131, 62757, 61412, 60096, 58808, 57548, 56315, 55108, 53927, 52772, 51641, 50534,     \
        49452, 48392, 47355, 46340, 45347, 44376, 43425, 42494, 41584, 40693, 39821, 38967, 38132, \
        37315, 36516, 35733, 34968, 34218, 33485

/*
 * Sums of products need not become scores before they become depths: where nothing is added to them, they are
 * multiplied by the scale and the steps at once, if heads are at most so wide, whose sums differ by less than 2^24,
 * and if no depth reaches 2^31.
 */
#define QVITP_SOFTMAX_SUM_DIM 256
#define QVITP_SOFTMAX_SUM_STEPS 127.0f

/*
 * GELU(x) = max(0, x) - g(|x|), where g(u) = u * Phi(-u) is a small bump on [0, 6): 32 cubics, the
 * coefficients c0 + c1 f + c2 f^2 + c3 f^3 of each fitted at the Chebyshev points of its segment.
 * f is the position inside the segment, in [0, 1). Largest error of the whole: 1.3e-6, absolute.
 */
#define QVITP_GELU_SEGMENTS 32
#define QVITP_GELU_SCALE 5.33333349f /* segments per unit: 32 / 6 */
#define QVITP_GELU_LAST 31.999998f   /* the largest float below 32 */

/* The cubics, one a segment, as C(c0, c1, c2, c3); a macro, so that each kernel lays out a table of its own. */
/* clang-format off */
#define QVITP_GELU_CUBICS(C)                                                                       \
    C(0.0f, 0.0937578231f, -0.0140947234f, 0.00014243662f),                                        \
    C(0.0798058882f, 0.066042982f, -0.0136267394f, 0.000463692588f),                               \
    C(0.132685959f, 0.0402093083f, -0.0122158574f, 0.000694584567f),                               \
    C(0.161374167f, 0.0178777836f, -0.0101079447f, 0.00082638592f),                                \
    C(0.169970542f, 0.000144130419f, -0.00760513404f, 0.000850569515f),                            \
    C(0.163360253f, -0.0125232497f, -0.00503444951f, 0.000779015303f),                             \
    C(0.14658165f, -0.0202724822f, -0.00268565817f, 0.00063873519f),                               \
    C(0.124262266f, -0.0237493198f, -0.000765528239f, 0.000463738106f),                            \
    C(0.100211136f, -0.02391118f, 0.000622919062f, 0.000286692462f),                               \
    C(0.0772095174f, -0.0218244586f, 0.0014757422f, 0.000132637622f),                              \
    C(0.0569933727f, -0.0184896328f, 0.00186441711f, 1.59342126e-05f),                             \
    C(0.0403840281f, -0.0147224544f, 0.00190315361f, -5.95631172e-05f),                            \
    C(0.0275051128f, -0.0110996859f, 0.0017170026f, -9.8036493e-05f),                              \
    C(0.018024357f, -0.00796111114f, 0.00141766854f, -0.000108242006f),                            \
    C(0.0113726519f, -0.00544953858f, 0.0010899317f, -0.000100226345f),                            \
    C(0.00691280933f, -0.00356822531f, 0.000788027945f, -8.29565688e-05f),                         \
    C(0.00404965552f, -0.00223857397f, 0.000539138156f, -6.30916184e-05f),                         \
    C(0.00228713243f, -0.00134728639f, 0.000350498914f, -4.47373641e-05f),                         \
    C(0.00124561379f, -0.000778639514f, 0.000217160603f, -2.98351479e-05f),                        \
    C(0.000654305622f, -0.00043244462f, 0.000128505882f, -1.88192826e-05f),                        \
    C(0.000331552466f, -0.00023094374f, 7.27486549e-05f, -1.12717889e-05f),                        \
    C(0.000162089171f, -0.000118652832f, 3.94494564e-05f, -6.4287392e-06f),                        \
    C(7.64594879e-05f, -5.86709466e-05f, 2.05121632e-05f, -3.49883339e-06f),                       \
    C(3.48033936e-05f, -2.79311316e-05f, 1.02351141e-05f, -1.82010581e-06f),                       \
    C(1.52881712e-05f, -1.28055617e-05f, 4.90430602e-06f, -9.06167713e-07f),                       \
    C(6.48124887e-06f, -5.65534174e-06f, 2.25792837e-06f, -4.3222812e-07f),                        \
    C(2.65187214e-06f, -2.40635495e-06f, 9.9930071e-07f, -1.97688905e-07f),                        \
    C(1.04726143e-06f, -9.86686814e-07f, 4.25315193e-07f, -8.67613679e-08f),                       \
    C(3.99191805e-07f, -3.89929198e-07f, 1.74142542e-07f, -3.65600172e-08f),                       \
    C(1.46874015e-07f, -1.48538291e-07f, 6.86133674e-08f, -1.4799423e-08f),                        \
    C(5.21622425e-08f, -5.45493748e-08f, 2.60217483e-08f, -5.75748604e-09f),                       \
    C(1.7882364e-08f, -1.9314621e-08f, 9.50141477e-09f, -2.15345941e-09f)
/* clang-format on */

/*
 * The same where codes of 8 bits follow: of numbers in units of 5/16, by 16 cubics, one a unit, as many as a register
 * holds, of the number itself and not of its place in the segment. Result and coefficients are in that unit too: who
 * makes a plan moves it into the scales before and after. Largest error: 6e-6, absolute, not in units.
 */
enum { QVITP_GELU_NONE, QVITP_GELU_FULL, QVITP_GELU_IN_UNITS };
#define QVITP_GELU_UNIT 0.3125f
#define QVITP_GELU_UNITS 3.2f           /* 1 / 0.3125 */
#define QVITP_GELU_LAST_UNIT 15.999999f /* the largest float below 16 */

/* clang-format off */
#define QVITP_GELU_UNIT_CUBICS(C)                                                                  \
    C(0.0f, 0.500358462f, -0.126855105f, 0.00380985718f),                                          \
    C(-0.00637725228f, 0.518739522f, -0.145298675f, 0.0102569796f),                                \
    C(-0.021875415f, 0.543400049f, -0.158477858f, 0.0126195755f),                                  \
    C(0.0316460021f, 0.492615044f, -0.142391756f, 0.0109182466f),                                  \
    C(0.297030002f, 0.29564321f, -0.0935410783f, 0.00686972216f),                                  \
    C(0.81847024f, -0.0170899611f, -0.0309174377f, 0.00268278876f),                                \
    C(1.42765594f, -0.323214829f, 0.0204181522f, -0.000189990868f),                                \
    C(1.84233904f, -0.502937615f, 0.0464013331f, -0.00144305709f),                                 \
    C(1.88119268f, -0.518949568f, 0.0485849231f, -0.00154170755f),                                 \
    C(1.57724702f, -0.418200672f, 0.0374480374f, -0.00113115448f),                                 \
    C(1.11128151f, -0.278344721f, 0.0234500505f, -0.000663949933f),                                \
    C(0.668346643f, -0.157232344f, 0.0124076679f, -0.000328241964f),                               \
    C(0.346958399f, -0.0765877888f, 0.00566051994f, -0.000140022603f),                             \
    C(0.156763092f, -0.0325032063f, 0.00225366536f, -5.22418886e-05f),                             \
    C(0.0620365441f, -0.0121054985f, 0.000789282145f, -1.71916581e-05f),                           \
    C(0.0216092728f, -0.00397776673f, 0.00024450972f, -5.01829072e-06f)
/* clang-format on */

/* A C: a row of coefficients. */
#define QVITP_GELU_CUBIC(c0, c1, c2, c3)                                                           \
    {                                                                                              \
        c0, c1, c2, c3                                                                             \
    }

#endif
