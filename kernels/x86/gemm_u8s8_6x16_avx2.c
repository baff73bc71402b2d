/*
 * gemm_u8s8_6x16_avx2 - plain codes, widened to 16 bits, times 8-bit weights.
 *
 * Registers: 6 x 2 accumulators, 2 of the panel, 1 broadcast, 1 product: 16 of 16. A step is 2
 * values of k:
 *
 *     panel   | column 0: k k+1 | column 1: k k+1 | ... | column 15 |      32 bytes, vpmovsxbw
 *     row i   a[k], a[k+1] as one 32-bit broadcast
 *
 * Saturation: vpmaddubsw would add two products of 8-bit values in 16 bits, where 2 * 255 * 127
 * does not fit. vpmaddwd adds two products of 16-bit values in 32 bits and is exact; that is why A
 * is staged as 16-bit integers.
 */
#include "avx2_epilogue.h"
#include "avx2_kernels.h"

#if QVITP_X86

enum { MR = 6, NR = 16, KSTEP = 2 };

typedef void rows_fn(const struct qvitp_tile *tile, const int32_t *init, int32_t acc[][NR]);

/* m is a constant wherever this is called. */
QVITP_INLINE256 void multiply(const struct qvitp_tile *tile, size_t m, const int32_t *init,
                              int32_t acc[][NR])
{
    const char *a = tile->a;
    const __m128i *b = tile->b;
    ptrdiff_t lda = tile->lda;
    __m256i c[MR][2];
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        c[i][0] = _mm256_load_si256((const __m256i *)init);
        c[i][1] = _mm256_load_si256((const __m256i *)init + 1);
    }
    for (size_t k = 0; k < tile->k; k += KSTEP, a += KSTEP * sizeof(int16_t), b += 2) {
        __m256i b0 = _mm256_cvtepi8_epi16(b[0]), b1 = _mm256_cvtepi8_epi16(b[1]);
        const char *next = a;
        QVITP_UNROLL
        for (size_t i = 0; i < m; i++, next += lda) {
            QVITP_OPAQUE(next);
            __m256i row = qvitp_256_broadcast2(next);
            c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(row, b0));
            c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(row, b1));
        }
    }
    QVITP_UNROLL
    for (size_t i = 0; i < m; i++) {
        _mm256_store_si256((__m256i *)acc[i], c[i][0]);
        _mm256_store_si256((__m256i *)acc[i] + 1, c[i][1]);
    }
}

/* The last line, which declares nothing new, takes the semicolon. */
#define ROWS(m)                                                                                    \
    QVITP_TARGET_AVX2 static void rows_##m(const struct qvitp_tile *tile, const int32_t *init,     \
                                           int32_t acc[][NR])                                      \
    {                                                                                              \
        multiply(tile, m, init, acc);                                                              \
    }                                                                                              \
    struct qvitp_tile
ROWS(1);
ROWS(2);
ROWS(3);
ROWS(4);
ROWS(5);
ROWS(6);

QVITP_TARGET_AVX2 static void run(const struct qvitp_tile *tile, const struct qvitp_epilogue *e)
{
    static rows_fn *const rows[MR + 1] = {NULL, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};
    int32_t acc[MR][NR] __attribute__((aligned(32)));
    rows[tile->m](tile, e->init + tile->column, acc);

    if (e->out == QVITP_OUT_S32) {
        int32_t *out = tile->out;
        for (size_t i = 0; i < tile->m; i++, out += tile->ldo)
            memcpy(out, acc[i], tile->n * sizeof *out);
        return;
    }
    for (size_t j = 0; j < tile->n; j += 8) {
        __m256 scale = _mm256_load_ps(e->scale + tile->column + j);
        __m256 bias = _mm256_load_ps(e->bias + tile->column + j);
        for (size_t i = 0; i < tile->m; i++) {
            __m256 t = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)(acc[i] + j)));
            qvitp_256_finish(qvitp_256_step(t, scale, bias), i, j, tile, e);
        }
    }
}

const struct qvitp_gemm_kernel qvitp_gemm_u8s8_6x16_avx2 = {
    .name = "gemm_u8s8_6x16_avx2",
    .run = run,
    .mr = MR,
    .nr = NR,
    .kstep = KSTEP,
    .a_form = QVITP_A_S16,
    .macs_per_cycle = 32,
};

#endif
