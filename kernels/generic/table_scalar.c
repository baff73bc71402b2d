/* table_scalar.c - plain C for every slot: what any machine can run, and what others inherit. */
#include "scalar_kernels.h"

const struct qvitp_kernels qvitp_kernels_scalar = {
    .isa = "scalar",
    .needs = 0,
    .gemm_u8s8 = &qvitp_gemm_u8s8_4x8_scalar,
    .gemm_u8s7 = &qvitp_gemm_u8s8_4x8_scalar,
    .gemm_t8s8 = &qvitp_gemm_t8s8_2x8_scalar,
    .gemm_u8s8_k = &qvitp_gemm_u8s8_4x8_scalar,
    .gemm_u8s7_k = &qvitp_gemm_u8s8_4x8_scalar,
    .gemm_t8s8_k = &qvitp_gemm_t8s8_2x8_scalar,
    .gemm_f32 = &qvitp_gemm_f32_4x8_scalar,
    .stage = qvitp_stage_u8_scalar,
    .expand = qvitp_expand_u4_scalar,
    .reorder = qvitp_reorder_u8_scalar,
    .softmax = &qvitp_softmax_f32_scalar,
    .softmax_codes = &qvitp_softmax_u8_scalar,
    .layer_norm = &qvitp_layer_norm_f32_scalar,
    .rescale = &qvitp_rescale_f32_scalar,
    .encode = &qvitp_encode_f32_scalar,
};
