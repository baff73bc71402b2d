/*
 * left.h - the left operand of a product: the form in which its kernel reads it.
 */
#ifndef QVITP_LEFT_H
#define QVITP_LEFT_H

#include "engine.h"
#include "op/k_blocks.h"
#include "quant/quantizer.h"

/* The left operand as the kernel wants it. */
struct qvitp_left {
    const struct qvitp_gemm_kernel *kernel;
    qvitp_stage_fn *stage;           /* NULL: float rows, always read in place */
    int32_t stage_form, half, point; /* half of a softmax's codes; the code of a GELU's 0 */
    int32_t twin;                    /* two planes */
    int32_t low_max, high_max;       /* twins: the largest of either range */
    int32_t low,
        high; /* joined: what codes of the ranges count; see struct qvitp_epilogue, qvitp_stage */
    int32_t zero;      /* point of the staged codes: a sum starts at -zero * column sum */
    int32_t code_max;  /* the largest staged code */
    int32_t right_max; /* no code that it is multiplied by is larger in magnitude */
    const struct qvitp_k_blocks *k_blocks; /* NULL: one scale over all of k */
};

/* The kernel for products of codes: plain or twin ones with right codes up to right_max, in K-blocks
 * or not. */
const struct qvitp_gemm_kernel *qvitp_codes_kernel(const qvit_engine *engine, int twin,
                                                   int32_t right_max, int k_blocks);

/* Chooses kernel and staging for codes, and for a port (quantizer NULL: float) and the quantizer of the
 * right operand, UNSUPPORTED where there is none. */
void qvitp_left_codes(struct qvitp_left *left, const qvit_engine *engine,
                      const struct qvitp_coder *coder, int32_t right_max);
qvit_status qvitp_left_init(struct qvitp_left *left, const qvit_engine *engine,
                            const qvit_port *port, const qvit_quantizer *right, const char *name,
                            qvit_error *error);

/*
 * Joins the ranges of a twin if in all blocks the second scale is `high` times the first, a whole number: low
 * codes count once and high ones `high` times, and `scale` alone multiplies the sum. Where bytes hold these
 * values, or a kernel that reads 16-bit integers is there, they cost what plain codes times 8-bit weights cost;
 * elsewhere each range is summed apart, and the sums are joined. Does nothing for other left operands, and where
 * sums over k products could overflow. k 0: not known yet; then only what bytes hold is joined. Comes before
 * qvitp_left_cut. qvitp_left_multiple: the number of these coders, or 0.
 */
void qvitp_left_join(struct qvitp_left *left, const qvit_engine *engine, int32_t high, size_t k);
int32_t qvitp_left_multiple(const qvit_quantizer *quantizer);

/* Of a twin: the largest value of its planes. */
static inline int32_t qvitp_left_plane_max(const struct qvitp_left *left)
{
    return left->low_max > left->high_max ? left->low_max : left->high_max;
}

/* The code whose staged form is left->zero. */
static inline int32_t qvitp_left_zero_code(const struct qvitp_left *left)
{
    if (left->stage_form == QVITP_STAGE_JOINED_GELU) return left->point;
    return left->stage_form == QVITP_STAGE_S8 ? left->zero - 128 : left->zero;
}

/* What the scale of the low range is multiplied by: -1 where negative codes are summed as magnitudes, and
 * not joined to the others. */
static inline float qvitp_low_sign(const struct qvitp_left *left)
{
    return left->stage_form == QVITP_STAGE_TWIN_GELU && !left->high ? -1.0f : 1.0f;
}

/* Lets the product run in K-blocks; they must live as long. One block changes nothing. */
void qvitp_left_cut(struct qvitp_left *left, const qvit_engine *engine,
                    const struct qvitp_k_blocks *blocks);

/* k as the kernel sees it: padded, in K-blocks each of these. */
size_t qvitp_left_packed_k(const struct qvitp_left *left, size_t k);

/* Rows that are staged together: a tile, and two of tall kernels, which finish one while they sum the other.
 * Bytes of one staged plane of so many rows of k codes, and of all planes. */
size_t qvitp_left_rows(const struct qvitp_left *left);
size_t qvitp_left_plane_bytes(const struct qvitp_left *left, size_t k);
size_t qvitp_left_staged_bytes(const struct qvitp_left *left, size_t k);

/* Whether rows of k codes can be multiplied where they lie; bytes of an element as the kernel reads it. */
int qvitp_left_in_place(const struct qvitp_left *left, size_t k);
size_t qvitp_left_element(const struct qvitp_left *left);
/* Of a plane's staged row of k codes. */
size_t qvitp_left_row_bytes(const struct qvitp_left *left, size_t k);

#endif
