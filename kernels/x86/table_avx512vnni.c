/* table_avx512vnni.c - AVX-512 F, BW, DQ, VL and VNNI: Cascade Lake, Zen 4, and later. */
#include "qvit.h"

#include "avx512vnni_kernels.h"
#include "kernels/target.h"

#if QVITP_X86

const struct qvitp_kernels qvitp_kernels_avx512vnni = {
    .isa = "avx512vnni",
    .needs = QVIT_ISA_AVX2 | QVIT_ISA_AVX512VNNI,
    .gemm_u8s8 = &qvitp_gemm_u8s8_12x32_avx512vnni,
    .gemm_u8s7 = &qvitp_gemm_u8s8_12x32_avx512vnni, /* no faster one for small weights */
    .gemm_t8s8 = &qvitp_gemm_t8s8_6x32_avx512vnni,
    .gemm_f32 = &qvitp_gemm_f32_14x32_avx512vnni,
    .stage = qvitp_stage_u8_avx512vnni,
    .reorder = qvitp_reorder_u8_avx512vnni,
    .gemm_u8s8_k = &qvitp_gemm_u8s8_14x32_avx512vnni,
    .gemm_u8s7_k = &qvitp_gemm_u8s8_14x32_avx512vnni,
    .gemm_t8s8_k = &qvitp_gemm_t8s8_8x32_avx512vnni,
    .softmax = &qvitp_softmax_f32_avx512vnni,
    .softmax_codes = &qvitp_softmax_u8_avx512vnni,
    .layer_norm = &qvitp_layer_norm_f32_avx512vnni,
    .rescale = &qvitp_rescale_f32_avx512vnni,
    .encode = &qvitp_encode_f32_avx512vnni,
};

#endif
