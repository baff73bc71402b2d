/* avx2_kernels.h - what the AVX2 files of this folder define, for table_avx2.c. */
#ifndef QVITP_AVX2_KERNELS_H
#define QVITP_AVX2_KERNELS_H

#include "kernels/kernels.h"

extern const struct qvitp_gemm_kernel qvitp_gemm_u8s8_6x16_avx2;
extern const struct qvitp_gemm_kernel qvitp_gemm_u8s7_6x16_avx2;
extern const struct qvitp_gemm_kernel qvitp_gemm_t8s8_3x16_avx2;
extern const struct qvitp_gemm_kernel qvitp_gemm_f32_6x16_avx2;
extern const struct qvitp_named_softmax qvitp_softmax_f32_avx2;
extern const struct qvitp_named_softmax_codes qvitp_softmax_u8_avx2;
extern const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx2;
extern const struct qvitp_named_rescale qvitp_rescale_f32_avx2;
extern const struct qvitp_named_encode qvitp_encode_f32_avx2;
qvitp_stage_fn qvitp_stage_u8_avx2;
qvitp_stage_fn qvitp_stage_u8s16_avx2;
qvitp_expand_fn qvitp_expand_u4_avx2;

#endif
