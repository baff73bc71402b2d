/* cpu.h - what the processor and the operating system offer. Detects, decides nothing. */
#ifndef QVITP_CPU_H
#define QVITP_CPU_H

#include <stdint.h>

/* QVIT_ISA_* bits whose instructions may be executed here. */
uint64_t qvitp_cpu_isa(void);

#endif
