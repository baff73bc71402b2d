/* dispatch.h - from the tables of kernels to the ones that an engine uses. */
#ifndef QVITP_DISPATCH_H
#define QVITP_DISPATCH_H

#include "kernels/kernels.h"

/* Fills every slot with the newest kernel that needs nothing outside `isa`; returns the instruction
 * sets of the tables that were used. */
uint64_t qvitp_dispatch(uint64_t isa, struct qvitp_kernels *out);

/* The names of all tables that `isa` allows, plainest first, with blanks between. Static size. */
void qvitp_dispatch_names(uint64_t isa, char *text, size_t size);

#endif
