/* ref_attention.c - one head of attention, from codes to the sums of P V. */
#include "ref/ref.h"

#include "base/numerics.h"

/* Codes of Q of either sign: unsigned ones have their zero point taken off. */
static int32_t score_sum(const struct qvitp_ref_attention *a, size_t i, size_t j)
{
    int64_t sum = 0;
    for (size_t p = 0; p < a->dim; p++) {
        const uint8_t *q = a->query + i * a->query_stride + p;
        int32_t code = a->query_signed ? (int8_t)*q : *q - a->query_zero;
        sum += (int64_t)code * a->key[j * a->key_stride + p];
    }
    return (int32_t)sum;
}

/* Whether sums become depths by one multiplication (numerics.h). */
static int takes_sums(const struct qvitp_ref_attention *a)
{
    float steps = a->score_scale * QVITP_SOFTMAX_STEPS;
    return a->dim <= QVITP_SOFTMAX_SUM_DIM && steps >= 0 && steps <= QVITP_SOFTMAX_SUM_STEPS;
}

void qvitp_ref_attention_row(const struct qvitp_ref_attention *a, size_t i, const float *bias,
                             const float *mask, float *scores, uint16_t *depths, uint8_t *codes,
                             float *relative, int32_t *lo, int32_t *hi)
{
    struct qvitp_ref_softmax_form form = a->form;
    int sums = !bias && !mask && takes_sums(a);
    form.steps = sums ? a->score_scale * QVITP_SOFTMAX_STEPS : QVITP_SOFTMAX_STEPS;
    for (size_t j = 0; j < a->keys; j++) {
        scores[j] = (float)score_sum(a, i, j);
        if (!sums) scores[j] = scores[j] * a->score_scale;
    }
    qvitp_ref_softmax_codes(a->keys, scores, bias, mask, &form, scores, depths, codes, relative);
    for (size_t d = 0; d < a->dim; d++) {
        int64_t low = 0, high = 0;
        for (size_t j = 0; j < a->keys; j++) {
            int32_t code = codes[j], value = a->value[j * a->value_stride + d];
            int32_t second = a->form.half > 0 && (float)code >= a->form.half;
            low += second ? 0 : (int64_t)code * value;
            high += second ? (int64_t)(code - (int32_t)a->form.half) * value : 0;
        }
        lo[d] = (int32_t)low;
        hi[d] = (int32_t)high;
    }
}
