/* scalar_kernels.h - what the files of this folder define; table_scalar.c is the only reader. */
#ifndef QVITP_SCALAR_KERNELS_H
#define QVITP_SCALAR_KERNELS_H

#include "kernels/kernels.h"

extern const struct qvitp_gemm_kernel qvitp_gemm_u8s8_4x8_scalar;
extern const struct qvitp_gemm_kernel qvitp_gemm_t8s8_2x8_scalar;
extern const struct qvitp_gemm_kernel qvitp_gemm_f32_4x8_scalar;
extern const struct qvitp_named_softmax qvitp_softmax_f32_scalar;
extern const struct qvitp_named_softmax_codes qvitp_softmax_u8_scalar;
extern const struct qvitp_named_layer_norm qvitp_layer_norm_f32_scalar;
extern const struct qvitp_named_rescale qvitp_rescale_f32_scalar;
extern const struct qvitp_named_encode qvitp_encode_f32_scalar;
qvitp_stage_fn qvitp_stage_u8_scalar;
qvitp_expand_fn qvitp_expand_u4_scalar;
qvitp_reorder_fn qvitp_reorder_u8_scalar;

#endif
