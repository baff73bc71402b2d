/*
 * pack.h - right operands into the panels that a product's kernel reads (layout: kernels/kernels.h).
 *
 * An operand comes in one of two orientations: its rows are the product's columns, [n][k], as weights
 * and K of Q K^T are; or its rows are the product's k, [k][n], as V of P V is.
 */
#ifndef QVITP_PACK_H
#define QVITP_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* Columns and k of the whole packed operand: rounded up to panels and steps. */
size_t qvitp_packed_n(const struct qvitp_gemm_kernel *kernel, size_t n);
size_t qvitp_packed_k(const struct qvitp_gemm_kernel *kernel, size_t k);
/* Elements of an epilogue's vector over n columns: padded as kernels.h asks. */
size_t qvitp_vector_columns(const struct qvitp_gemm_kernel *kernel, size_t n);
/* Bytes of the packed operand; SIZE_MAX if they do not fit. */
size_t qvitp_packed_bytes(const struct qvitp_gemm_kernel *kernel, size_t n, size_t k);

/*
 * Packs one row [k] as the product's column `column`. Panels must be zero before. int8 or float by the
 * kernel's form.
 */
void qvitp_pack_row(const struct qvitp_gemm_kernel *kernel, size_t k, const void *row,
                    size_t column, void *panels);

/*
 * Packs one row [k] of values as column `column` of panels of 4-bit codes, which are the values plus
 * `zero`: places [first, first + count) of the packed k. Panels must be zero before.
 */
void qvitp_pack_codes_4(const struct qvitp_gemm_kernel *kernel, size_t packed_k, size_t column,
                        size_t first, size_t count, const int8_t *values, int32_t zero,
                        uint8_t *panels);

/*
 * Packs a whole operand, whose rows lie `stride` elements apart, or at the places that row_index names
 * (NULL: 0, 1, 2, ...). by_k: [k][n], else [n][k]. Writes every byte of the panels.
 */
struct qvitp_operand {
    const void *data;
    ptrdiff_t stride;
    const int32_t *row_index;
    int by_k;
};
void qvitp_pack(const struct qvitp_gemm_kernel *kernel, const struct qvitp_operand *operand,
                size_t n, size_t k, void *panels);

/* Sums over k of every column of an int8 operand. */
void qvitp_operand_sums(const struct qvitp_operand *operand, size_t n, size_t k, int32_t *sums);

#endif
