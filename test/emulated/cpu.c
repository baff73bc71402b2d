/* cpu.c - in place of lib/cpu/cpu.c where AVX-512 is emulated: all that the library knows is there. */
#include "cpu/cpu.h"

#include "qvit.h"

uint64_t qvitp_cpu_isa(void) { return QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX512VNNI; }
