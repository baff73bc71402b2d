/*
 * heads.h - work on activations head by head: a right operand that is packed while running, and how
 * (batch, head) pairs are shared among workers. matmul and attention stand on it.
 */
#ifndef QVITP_HEADS_H
#define QVITP_HEADS_H

#include "op/product.h"
#include "plan/pack.h"

/* Room for a right operand of n columns and k rows, in a worker's part of the workspace. */
struct qvitp_right {
    void *panels;
    int32_t *init;   /* integer products: where the sums start */
    uint8_t *points; /* [k] codes of 0, if the left operand's is not 0 */
};
/* Like qvitp_carve: counts with carver->base NULL. */
struct qvitp_carver;
void qvitp_right_carve(struct qvitp_right *right, const struct qvitp_left *left, size_t n, size_t k,
                       struct qvitp_carver *carver);
/* staged: scratch memory of the left operand, as in struct qvitp_block. */
void qvitp_right_pack(const struct qvitp_right *right, const struct qvitp_left *left,
                      const struct qvitp_operand *operand, size_t n, size_t k, void *staged);

/* Whether sums over k products of codes fit 32 bits, whatever the right codes are; else UNSUPPORTED. */
qvit_status qvitp_sums_fit(const struct qvitp_left *left, size_t k, qvit_error *error);

/* Units of work: every (batch, head) pair, its m rows cut into `splits` shares. */
struct qvitp_units {
    size_t splits, units;
};
void qvitp_units_init(struct qvitp_units *units, size_t batch, size_t heads, size_t m,
                      size_t workers);

#endif
