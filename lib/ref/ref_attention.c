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

void qvitp_ref_attention_row(const struct qvitp_ref_attention *a, size_t i, const float *bias,
                             const float *mask, float *scratch, uint8_t *codes, float *relative,
                             int32_t *lo, int32_t *hi)
{
    float *scores = scratch, *e = scratch + a->keys;
    for (size_t j = 0; j < a->keys; j++) scores[j] = (float)score_sum(a, i, j) * a->score_scale;
    if (a->half > 0) {
        qvitp_ref_softmax_twin(a->keys, scores, bias, mask, a->mul, a->mul2, a->half, e, codes,
                               relative);
    } else {
        qvitp_ref_softmax_codes(a->keys, scores, bias, mask, a->mul, a->hi, e, codes, relative);
    }
    for (size_t d = 0; d < a->dim; d++) {
        int64_t low = 0, high = 0;
        for (size_t j = 0; j < a->keys; j++) {
            int32_t code = codes[j], value = a->value[j * a->value_stride + d];
            int32_t second = a->half > 0 && (float)code >= a->half;
            low += second ? 0 : (int64_t)code * value;
            high += second ? (int64_t)(code - (int32_t)a->half) * value : 0;
        }
        lo[d] = (int32_t)low;
        hi[d] = (int32_t)high;
    }
}
