/* avx2vnni_kernels.h - what the 256-bit VNNI files of this folder define, for table_avx2vnni.c. */
#ifndef QVITP_AVX2VNNI_KERNELS_H
#define QVITP_AVX2VNNI_KERNELS_H

#include "kernels/kernels.h"

extern const struct qvitp_gemm_kernel qvitp_gemm_u8s8_6x16_avx2vnni;
extern const struct qvitp_gemm_kernel qvitp_gemm_t8s8_3x16_avx2vnni;

#endif
