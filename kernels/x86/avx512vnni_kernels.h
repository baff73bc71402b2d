/* avx512vnni_kernels.h - what the AVX-512 files of this folder define, for table_avx512vnni.c. */
#ifndef QVITP_AVX512VNNI_KERNELS_H
#define QVITP_AVX512VNNI_KERNELS_H

#include "kernels/kernels.h"

extern const struct qvitp_gemm_kernel qvitp_gemm_u8s8_12x32_avx512vnni;
extern const struct qvitp_gemm_kernel qvitp_gemm_t8s8_6x32_avx512vnni;
extern const struct qvitp_gemm_kernel qvitp_gemm_u8s8_14x32_avx512vnni;
extern const struct qvitp_gemm_kernel qvitp_gemm_t8s8_8x32_avx512vnni;
extern const struct qvitp_gemm_kernel qvitp_gemm_f32_14x32_avx512vnni;
extern const struct qvitp_named_softmax qvitp_softmax_f32_avx512vnni;
extern const struct qvitp_named_softmax_codes qvitp_softmax_u8_avx512vnni;
extern const struct qvitp_named_layer_norm qvitp_layer_norm_f32_avx512vnni;
extern const struct qvitp_named_rescale qvitp_rescale_f32_avx512vnni;
extern const struct qvitp_named_encode qvitp_encode_f32_avx512vnni;
qvitp_pack_fn qvitp_pack_s8_avx512vnni;
qvitp_gemm_fn qvitp_open_u8s8_avx512vnni; /* of gemm_u8s8_12x32_avx512vnni */
qvitp_stage_fn qvitp_stage_u8_avx512vnni;
qvitp_reorder_fn qvitp_reorder_u8_avx512vnni;

#endif
