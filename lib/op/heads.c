/* heads.c - work on activations head by head. */
#include "op/heads.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "plan/plan.h"

void qvitp_right_carve(struct qvitp_right *right, const struct qvitp_left *left, size_t n, size_t k,
                       struct qvitp_carver *carver)
{
    right->panels = qvitp_carve(carver, qvitp_packed_bytes(left->kernel, n, k), 1);
    right->init = qvitp_carve(carver, qvitp_vector_columns(left->kernel, n), sizeof *right->init);
    right->points = qvitp_carve(carver, left->zero ? k : 0, 1);
}

/* The sums start at what a row of the left operand's zeros would give, negated: such a row is multiplied. */
static void start_sums(const struct qvitp_right *right, const struct qvitp_left *left, size_t n,
                       size_t k, void *staged)
{
    const struct qvitp_epilogue sums = {.init = right->init, .out = QVITP_OUT_S32};
    const struct qvitp_block block = {.left = left,
                                      .epilogue = &sums,
                                      .m = 1,
                                      .k = k,
                                      .a = right->points,
                                      .b = right->panels,
                                      .columns = n,
                                      .out = right->init,
                                      .out_size = sizeof *right->init,
                                      .staged = staged};
    memset(right->points, qvitp_left_zero_code(left), k);
    qvitp_block_run(&block);
    for (size_t j = 0; j < n; j++) right->init[j] = -right->init[j];
}

void qvitp_right_pack(const struct qvitp_right *right, const struct qvitp_left *left,
                      const struct qvitp_operand *operand, size_t n, size_t k, void *staged)
{
    qvitp_pack(left->kernel, operand, n, k, right->panels);
    if (left->kernel->a_form == QVITP_A_F32) return;
    memset(right->init, 0, qvitp_packed_n(left->kernel, n) * sizeof *right->init);
    if (left->zero) start_sums(right, left, n, k, staged);
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
