/* table_avx2vnni.c - 256-bit VNNI beside AVX2, from which all but the products of codes comes. */
#include "qvit.h"

#include "avx2vnni_kernels.h"
#include "kernels/target.h"

#if QVITP_X86

const struct qvitp_kernels qvitp_kernels_avx2vnni = {
    .isa = "avx2vnni",
    .needs = QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI,
    .gemm_u8s8 = &qvitp_gemm_u8s8_6x16_avx2vnni,
    .gemm_u8s7 = &qvitp_gemm_u8s8_6x16_avx2vnni, /* no faster one for small weights */
    .gemm_t8s8 = &qvitp_gemm_t8s8_3x16_avx2vnni,
    .gemm_u8s8_k = &qvitp_gemm_u8s8_6x16_avx2vnni,
    .gemm_u8s7_k = &qvitp_gemm_u8s8_6x16_avx2vnni,
    .gemm_t8s8_k = &qvitp_gemm_t8s8_3x16_avx2vnni,
};

#endif
