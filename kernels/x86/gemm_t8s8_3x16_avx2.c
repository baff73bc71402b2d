/*
 * gemm_t8s8_3x16_avx2 - twin codes, as two planes of 16-bit magnitudes, times 8-bit weights.
 *
 * Registers: 3 x 2 accumulators for each plane, 2 of the panel, 1 broadcast, 1 product: 16 of 16.
 * The panel is that of gemm_u8s8_6x16_avx2: two planes are, to the inner loop, twice the rows.
 * Saturation: none, as there.
 */
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = 3, NR = 16, KSTEP = 2 };

typedef void rows_fn(const struct qvitp_tile *tile, int32_t lo[][NR], int32_t hi[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE256 void multiply(const struct qvitp_tile *tile, size_t m, int32_t lo[][NR],
                              int32_t hi[][NR])
{
    const char *a = tile->a, *a2 = tile->a2;
    const __m128i *b = tile->b;
    ptrdiff_t lda = tile->lda;
    const size_t step = KSTEP * sizeof(int16_t);
    __m256i c[MR][4]; /* low, low, high, high */
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = _mm256_setzero_si256();
    for (size_t k = 0; k < tile->k; k += KSTEP, a += step, a2 += step, b += 2) {
        __m256i b0 = _mm256_cvtepi8_epi16(b[0]), b1 = _mm256_cvtepi8_epi16(b[1]);
        const char *next = a, *next2 = a2;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda, next2 += lda) {
            QVITP_OPAQUE(next);
            QVITP_OPAQUE(next2);
            __m256i row = qvitp_256_broadcast2(next);
            c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(row, b0));
            c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(row, b1));
            row = qvitp_256_broadcast2(next2);
            c[i][2] = _mm256_add_epi32(c[i][2], _mm256_madd_epi16(row, b0));
            c[i][3] = _mm256_add_epi32(c[i][3], _mm256_madd_epi16(row, b1));
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm256_store_si256((__m256i *)lo[i], c[i][0]);
        _mm256_store_si256((__m256i *)lo[i] + 1, c[i][1]);
        _mm256_store_si256((__m256i *)hi[i], c[i][2]);
        _mm256_store_si256((__m256i *)hi[i] + 1, c[i][3]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile, int32_t lo[][NR],        \
                                           int32_t hi[][NR])                                       \
    {                                                                                              \
        multiply(tile, m, lo, hi);                                                                 \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);

QVITP_TARGET_AVX2 static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL, rows_1, rows_2, rows_3};
    int32_t lo[MR][NR] __attribute__((aligned(32))), hi[MR][NR] __attribute__((aligned(32)));
    rows[tile->m](tile, lo, hi);

    for (size_t j = 0; j < tile->n; j += 8) {
        __m256 scale = _mm256_load_ps(e->scale + tile->column + j);
        __m256 scale2 = _mm256_load_ps(e->scale2 + tile->column + j);
        __m256 bias = _mm256_load_ps(e->bias + tile->column + j);
        for (size_t i = 0; i < tile->m; i++) {
            __m256 t = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)(lo[i] + j)));
            __m256 u = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)(hi[i] + j)));
            t = _mm256_add_ps(_mm256_mul_ps(t, scale), _mm256_mul_ps(u, scale2));
            qvitp_256_finish(_mm256_add_ps(t, bias), i, j, tile, e);
        }
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_t8s8_3x16_avx2 = {
    .name = "gemm_t8s8_3x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_S16,
    .macs_per_cycle = 16,
};

#endif
