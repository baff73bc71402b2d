/* table_avx2.c - AVX2 with FMA: Haswell, Zen, and what came after. FMA serves gemm_f32 only. */
#include "qvit.h"

#include "avx2_kernels.h"
#include "kernels/target.h"

#if QVITP_X86

const struct qvitp_kernels qvitp_kernels_avx2 = {
    .isa = "avx2",
    .needs = QVIT_ISA_AVX2,
    .gemm_u8s8 = &qvitp_gemm_u8s8_6x16_avx2,
    .gemm_u8s7 = &qvitp_gemm_u8s7_6x16_avx2,
    .gemm_t8s8 = &qvitp_gemm_t8s8_3x16_avx2,
    .gemm_u8s8_k = &qvitp_gemm_u8s8_6x16_avx2,
    .gemm_u8s7_k = &qvitp_gemm_u8s7_6x16_avx2,
    .gemm_t8s8_k = &qvitp_gemm_t8s8_3x16_avx2,
    .gemm_f32 = &qvitp_gemm_f32_6x16_avx2,
    .stage = qvitp_stage_u8_avx2,
    .stage_s16 = qvitp_stage_u8s16_avx2,
    .expand = qvitp_expand_u4_avx2,
    .softmax = &qvitp_softmax_f32_avx2,
    .softmax_codes = &qvitp_softmax_u8_avx2,
    .layer_norm = &qvitp_layer_norm_f32_avx2,
    .rescale = &qvitp_rescale_f32_avx2,
    .encode = &qvitp_encode_f32_avx2,
};

#endif
