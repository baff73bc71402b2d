/*
 * checkasm.h - what the checks of all kernels share: random numbers, guarded memory, rows of
 * results.
 *
 * A row is one kernel and one group of cases; it stops at its first failure. Caller-owned memory
 * lies in slots, each between two pages that cannot be touched: flush with the front one, with the
 * back one, or loose in the middle with canaries around it.
 */
#ifndef QVIT_CHECKASM_H
#define QVIT_CHECKASM_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* ---- random input; every row begins with the seed ---- */

uint64_t check_random(void);
size_t check_below(size_t n); /* uniform in [0, n)                                            */
float check_uniform(void);    /* uniform in [-1, 1)                                           */
float check_normal(void);     /* mean 0, deviation 1, |x| <= 6                                */
float check_special(void);    /* NaN, infinities, zeros, subnormal and huge numbers           */

/* ---- guarded memory ---- */

enum { CHECK_FRONT, CHECK_BACK, CHECK_LOOSE, CHECK_SIDES };
enum { CHECK_SLOT_BYTES = 1 << 20, CHECK_SLOTS = 16 };

/* Room for `bytes` in a slot, aligned to `align` and, where loose, to no more; filled with
 * canaries, as is the room around it. */
void *check_place(int slot, size_t bytes, size_t align, int side);

/* Fails where a byte of the slot outside the rows of the block placed there was written. */
void check_canaries(int slot, size_t rows, size_t row_bytes, size_t stride_bytes);

/* ---- results ---- */

/* Says what is being done, for the message of a failure. */
void check_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the row as failed. */
_Noreturn void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

typedef void check_cases(const struct qvitp_kernels *table);
/* Runs cases(table) as the row `kernel group`, or lists or skips it. */
void check_row(const char *kernel, const char *group, check_cases *cases,
               const struct qvitp_kernels *table);

/* Equal bits, or both NaN: which NaN an operation returns is the compiler's choice of operand
 * order. */
int check_same_float(float a, float b);

check_cases check_gemms, check_softmax, check_rescale, check_layer_norm, check_encode, check_stage,
    check_expand, check_reorder, check_plans;

#endif
