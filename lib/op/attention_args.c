/* attention_args.c - what a run of attention is given: checks, and the sizes that follow from it. */
#include "base/error.h"
#include "base/numerics.h"
#include "op/attention.h"
#include "op/heads.h"
#include "tensor.h"

/* Checks a row index and that all its rows lie inside a tensor of `tokens` rows. */
static qvit_status check_rows(const qvit_tensor *rows, const char *name, size_t tokens,
                              qvit_error *error)
{
    size_t any[2] = {0, 0};
    QVITP_TRY(qvitp_tensor_expect(rows, name, QVIT_DTYPE_S32, 0, 2, any, error));
    for (size_t b = 0; b < rows->dims[0]; b++)
        for (size_t t = 0; t < rows->dims[1]; t++) {
            int32_t row = qvitp_get_int(rows, (ptrdiff_t)b * rows->strides[0], t);
            if (row < 0 || (size_t)row >= tokens)
                return qvitp_fail(error, QVIT_ERR_VALUE, "%s: row %d of %zu", name, (int)row,
                                  tokens);
        }
    return QVIT_OK;
}

/* A [batch or 1, heads or 1, queries, keys] tensor, or NULL. `exact`: no 1 stands for many. */
static qvit_status check_cells(const struct qvitp_attention_run *r, const qvit_tensor *t,
                               const char *name, int exact, qvit_error *error)
{
    if (!t) return QVIT_OK;
    size_t heads = r->plan->heads;
    size_t dims[4] = {exact ? r->batch : 0, exact ? heads : 0, r->queries, r->keys};
    QVITP_TRY(
        qvitp_tensor_expect(t, name, QVIT_DTYPE_F32, exact ? QVITP_OUTPUT : 0, 4, dims, error));
    if ((t->dims[0] == 1 || t->dims[0] == r->batch) && (t->dims[1] == 1 || t->dims[1] == heads))
        return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE,
                      "%s: %zu batches and %zu heads fit neither 1 nor %zu "
                      "and %zu",
                      name, t->dims[0], t->dims[1], r->batch, heads);
}

/* Reads the sizes off the tensors that have them, then checks all the others against these. */
static qvit_status check_tensors(struct qvitp_attention_run *r, qvit_error *error)
{
    const struct qvitp_attention *p = r->plan;
    const qvit_attention_args *a = r->args;
    size_t any[4] = {a->query_rows ? 1 : 0, 0, p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->query, "query", p->types[0], 0, 4, any, error));
    size_t same[4] = {a->query->dims[0], a->query->dims[1], p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->output, "output", p->types[3], QVITP_OUTPUT, 4, same, error));
    r->batch = a->query->dims[0];
    r->queries = a->query->dims[1];
    if (a->query_rows) {
        QVITP_TRY(check_rows(a->query_rows, "query_rows", a->query->dims[1], error));
        r->batch = a->query_rows->dims[0];
        r->queries = a->query_rows->dims[1];
    }
    size_t keys[4] = {a->key_rows ? 1 : r->batch, 0, p->heads, p->dim};
    QVITP_TRY(qvitp_tensor_expect(a->key, "key", p->types[1], 0, 4, keys, error));
    r->keys = keys[1] = a->key->dims[1];
    QVITP_TRY(qvitp_tensor_expect(a->value, "value", p->types[2], 0, 4, keys, error));
    if (!a->key_rows) return QVIT_OK;
    QVITP_TRY(check_rows(a->key_rows, "key_rows", a->key->dims[1], error));
    r->keys = a->key_rows->dims[1];
    if (a->key_rows->dims[0] == r->batch) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE, "key_rows has %zu batches, not %zu",
                      a->key_rows->dims[0], r->batch);
}

qvit_status qvitp_attention_check(struct qvitp_attention_run *r, qvit_error *error)
{
    const qvit_attention_args *a = r->args;
    QVITP_TRY(check_tensors(r, error));
    QVITP_TRY(check_cells(r, a->bias, "bias", 0, error));
    QVITP_TRY(check_cells(r, a->mask, "mask", 0, error));
    if ((a->scores || a->probabilities) && r->plan->types[0] != QVIT_DTYPE_F32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "scores and probabilities are written by float plans only");
    QVITP_TRY(check_cells(r, a->scores, "scores", 1, error));
    QVITP_TRY(check_cells(r, a->probabilities, "probabilities", 1, error));
    if (r->plan->types[0] != QVIT_DTYPE_F32 && r->keys > QVITP_SOFTMAX_MOST)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%zu key tokens: at most %d over codes",
                          r->keys, QVITP_SOFTMAX_MOST);
    return qvitp_sums_fit(&r->plan->probability, r->keys, error);
}
