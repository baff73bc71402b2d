/* heads.c - work on activations head by head. */
#include "op/heads.h"

#include "base/checked.h"
#include "base/error.h"
#include "plan/plan.h"

void qvitp_right_carve(struct qvitp_right *right, const struct qvitp_left *left, size_t n, size_t k,
                       struct qvitp_carver *carver)
{
    right->panels = qvitp_carve(carver, qvitp_packed_bytes(left->kernel, n, k), 1);
    right->init = qvitp_carve(carver, qvitp_vector_columns(left->kernel, n), sizeof *right->init);
}

void qvitp_right_pack(const struct qvitp_right *right, const struct qvitp_left *left,
                      const struct qvitp_operand *operand, size_t n, size_t k)
{
    qvitp_pack(left->kernel, operand, n, k, right->panels);
    if (left->kernel->a_form == QVITP_A_F32) return;
    size_t columns = qvitp_packed_n(left->kernel, n);
    for (size_t j = 0; j < columns; j++) right->init[j] = 0;
    if (!left->zero) return;
    qvitp_operand_sums(operand, n, k, right->init);
    for (size_t j = 0; j < n; j++) right->init[j] *= -left->zero;
}

qvit_status qvitp_sums_fit(const struct qvitp_left *left, size_t k, qvit_error *error)
{
    if (left->kernel->a_form == QVITP_A_F32) return QVIT_OK;
    size_t largest = (size_t)(left->code_max + left->zero) * 128;
    if (k <= INT32_MAX / largest) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "sums over %zu products could overflow 32 bits",
                      k);
}

void qvitp_units_init(struct qvitp_units *u, size_t batch, size_t heads, size_t m, size_t workers)
{
    size_t pairs = batch * heads;
    u->splits = 1;
    /* Few pairs: split their rows so that every worker gets as many shares as the others. Each share
     * packs its right operand again, so no more splits than that. */
    if (workers > 1 && pairs % workers && pairs < 8 * workers) u->splits = workers;
    u->splits = qvitp_min(u->splits, m);
    u->units = pairs * u->splits;
}
