/* left.c - the left operand of a product: its kernel, how it is staged, and how large that is. */
#include "op/left.h"

#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "plan/pack.h"
#include "tensor.h"

/* ---- choosing ---- */

const struct qvitp_gemm_kernel *qvitp_codes_kernel(const qvit_engine *engine, int twin,
                                                   int32_t right_max, int k_blocks)
{
    const struct qvitp_kernels *k = &engine->kernels;
    if (twin) return k_blocks ? k->gemm_t8s8_k : k->gemm_t8s8;
    if (right_max <= QVITP_S7_MAX) return k_blocks ? k->gemm_u8s7_k : k->gemm_u8s7;
    return k_blocks ? k->gemm_u8s8_k : k->gemm_u8s8;
}

static int is_joined(const struct qvitp_left *left)
{
    return left->stage_form == QVITP_STAGE_JOINED_SOFTMAX ||
           left->stage_form == QVITP_STAGE_JOINED_GELU;
}

static int is_gelu(const struct qvitp_left *left)
{
    return left->stage_form == QVITP_STAGE_TWIN_GELU || left->stage_form == QVITP_STAGE_JOINED_GELU;
}

/* Whether bytes hold a twin's values, if a high code counts as `high` low ones. */
static int fits_bytes(const struct qvitp_left *left, int32_t high)
{
    if (is_gelu(left)) return left->low_max <= -INT8_MIN && left->high_max * high <= INT8_MAX;
    return left->high_max * high <= UINT8_MAX;
}

static void choose_kernel(struct qvitp_left *left, const qvit_engine *engine)
{
    int wide = is_joined(left) && !fits_bytes(left, left->high);
    int32_t right_max = wide ? INT8_MAX : left->right_max; /* kernels of less read bytes */
    left->kernel = qvitp_codes_kernel(engine, left->twin, right_max, left->k_blocks != NULL);
    if (left->twin && left->kernel->ab_max &&
        qvitp_left_plane_max(left) * right_max > left->kernel->ab_max)
        left->kernel = qvitp_kernels_scalar.gemm_t8s8_k; /* slow, and never wrong */
    left->stage =
        left->kernel->a_form == QVITP_A_S16 ? engine->kernels.stage_s16 : engine->kernels.stage;
}

void qvitp_left_codes(struct qvitp_left *left, const qvit_engine *engine,
                      const struct qvitp_coder *coder, int32_t right_max)
{
    static const int32_t forms[] = {
        [QVIT_SCHEME_SYMMETRIC] = QVITP_STAGE_S8,
        [QVIT_SCHEME_ASYMMETRIC] = QVITP_STAGE_U8,
        [QVIT_SCHEME_TWIN_SOFTMAX] = QVITP_STAGE_TWIN_SOFTMAX,
        [QVIT_SCHEME_TWIN_GELU] = QVITP_STAGE_TWIN_GELU,
    };
    const int32_t lo = (int32_t)coder->lo, hi = (int32_t)coder->hi, zero = (int32_t)coder->zero;
    *left = (struct qvitp_left){.stage_form = forms[coder->scheme],
                                .twin = qvitp_scheme_is_twin(coder->scheme),
                                .right_max = right_max};
    if (coder->scheme == QVIT_SCHEME_TWIN_SOFTMAX) {
        left->half = left->code_max = (hi + 1) / 2;
        left->low_max = left->high_max = left->half - 1;
    } else if (coder->scheme == QVIT_SCHEME_TWIN_GELU) {
        left->point = zero;
        left->low_max = zero - lo, left->high_max = hi - zero;
        left->code_max = qvitp_left_plane_max(left);
    } else {
        left->zero = coder->scheme == QVIT_SCHEME_SYMMETRIC ? 128 : zero;
        left->code_max = 255;
    }
    choose_kernel(left, engine);
}

/* Planes know one code of 0. */
static qvit_status check_points(const qvit_quantizer *q, const char *name, qvit_error *error)
{
    for (size_t i = 1; qvitp_quantizer_is_twin(q) && q->zero_point && i < q->blocks; i++)
        if (q->zero_point[i] != q->zero_point[0])
            return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                              "%s: twin codes with different zero points", name);
    return QVIT_OK;
}

qvit_status qvitp_left_init(struct qvitp_left *left, const qvit_engine *engine,
                            const qvit_port *port, const qvit_quantizer *right, const char *name,
                            qvit_error *error)
{
    *left = (struct qvitp_left){.kernel = engine->kernels.gemm_f32};
    if (!port->quantizer) return QVIT_OK;
    if (qvitp_dtype_packed(port->dtype))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: activations of packed codes", name);
    QVITP_TRY(check_points(port->quantizer, name, error));
    struct qvitp_coder coder = qvitp_quantizer_coder(port->quantizer, 0);
    qvitp_left_codes(left, engine, &coder, qvitp_quantizer_reach(right));
    return QVIT_OK;
}

void qvitp_left_cut(struct qvitp_left *left, const qvit_engine *engine,
                    const struct qvitp_k_blocks *blocks)
{
    if (blocks->count == 1) return;
    left->k_blocks = blocks;
    choose_kernel(left, engine);
}

/* ---- joined twins ---- */

/* Right codes of up to 4 bits are no further from zero. Plans keep them packed, for kernels that read bytes. */
enum { REACH_4 = 15 };

/* How many times the first scale of every block the second one is, if that is the same whole number for
 * all and not too large; else 0. */
int32_t qvitp_left_multiple(const qvit_quantizer *q)
{
    if (!q || !q->scale2) return 0;
    int32_t common = 0;
    for (size_t i = 0; i < q->blocks; i++) {
        const double scale = (double)q->scale[i], scale2 = (double)q->scale2[i];
        const double high = nearbyint(fmin(scale2 / scale, QVITP_JOINED_MOST));
        if (high * scale != scale2 || (i && (int32_t)high != common)) return 0;
        common = (int32_t)high;
    }
    return common;
}

/* The largest that a joined value may be in magnitude, its zero point included. */
static int32_t largest(const struct qvitp_left *left, int32_t high)
{
    int32_t highest = left->high_max * high;
    if (fits_bytes(left, high)) return is_gelu(left) ? 255 + 128 : 255;
    return highest > left->low_max ? highest : left->low_max;
}

void qvitp_left_join(struct qvitp_left *left, const qvit_engine *engine, int32_t high, size_t k)
{
    int32_t gelu = is_gelu(left);
    if (!left->twin || !high) return;
    int bytes = fits_bytes(left, high);
    int32_t most = largest(left, high);
    if (k ? k > INT32_MAX / ((size_t)most * (size_t)left->right_max) : !bytes) return;
    int words = engine->kernels.gemm_u8s8->a_form == QVITP_A_S16 && left->right_max > REACH_4 &&
                left->high_max * high <= INT16_MAX;
    left->high = high;
    if (bytes || words) {
        left->twin = 0;
        left->stage_form = gelu ? QVITP_STAGE_JOINED_GELU : QVITP_STAGE_JOINED_SOFTMAX;
        choose_kernel(left, engine);
        left->zero = gelu && left->kernel->a_form == QVITP_A_U8 ? 128 : 0;
    } else {
        left->low = gelu ? -1 : 1;
    }
    left->code_max = most - left->zero;
}

/* ---- sizes ---- */

size_t qvitp_left_packed_k(const struct qvitp_left *left, size_t k)
{
    return left->k_blocks ? left->k_blocks->packed : qvitp_packed_k(left->kernel, k);
}

int qvitp_left_in_place(const struct qvitp_left *left, size_t k)
{
    if (left->kernel->a_form == QVITP_A_F32) return 1;
    return left->kernel->a_form == QVITP_A_U8 && left->stage_form == QVITP_STAGE_U8 &&
           qvitp_left_packed_k(left, k) == k;
}

size_t qvitp_left_element(const struct qvitp_left *left)
{
    return left->kernel->a_form == QVITP_A_F32 ? 4 : left->kernel->a_form == QVITP_A_S16 ? 2 : 1;
}

size_t qvitp_left_row_bytes(const struct qvitp_left *left, size_t k)
{
    return qvitp_mul(qvitp_left_packed_k(left, k), qvitp_left_element(left));
}

size_t qvitp_left_rows(const struct qvitp_left *left)
{
    return (size_t)left->kernel->mr * (left->kernel->tall ? 2 : 1);
}

size_t qvitp_left_plane_bytes(const struct qvitp_left *left, size_t k)
{
    size_t bytes = qvitp_mul(qvitp_left_rows(left), qvitp_left_row_bytes(left, k));
    return qvitp_round_up(bytes, QVIT_ALIGNMENT);
}

size_t qvitp_left_staged_bytes(const struct qvitp_left *left, size_t k)
{
    if (qvitp_left_in_place(left, k)) return 0;
    return qvitp_mul(qvitp_left_plane_bytes(left, k), left->twin ? 2 : 1);
}
