/* matmul.c - products of two activations, head by head: making and running the plan. */
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "base/shares.h"
#include "op/heads.h"
#include "plan/plan.h"
#include "sched/sched.h"
#include "tensor.h"

/* The numbers of one head that the epilogue's vectors repeat for every column. */
struct head {
    float scale, scale2, bias;
};

struct matmul {
    struct qvit_plan base;
    struct qvitp_left left;
    struct qvitp_epilogue epilogue; /* without its vectors */
    size_t heads;
    int32_t by_k; /* right is [k][n] */
    qvit_dtype left_type, right_type, output;
    struct head *head;
};

QVITP_DEFINE_INIT(qvit_matmul_options, QVIT_MATMUL_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_matmul_args, QVIT_MATMUL_ARGS_INIT)

/* ---- making ---- */

static qvit_status check_types(const qvit_matmul_options *o, qvit_error *error)
{
    QVITP_TRY(qvitp_port_check(&o->left, "left", error));
    QVITP_TRY(qvitp_port_check(&o->right, "right", error));
    QVITP_TRY(qvitp_port_check(&o->output, "output", error));
    const qvit_quantizer *left = o->left.quantizer, *right = o->right.quantizer;
    if (!left != !right || o->left.dtype == QVIT_DTYPE_S32 || o->right.dtype == QVIT_DTYPE_S32)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "left %s, right %s: both are codes or both are f32",
                          qvitp_dtype_name(o->left.dtype), qvitp_dtype_name(o->right.dtype));
    if (right) QVITP_TRY(qvitp_right_check(&o->right, "right", error));
    if (qvitp_dtype_packed(o->right.dtype) || qvitp_dtype_packed(o->output.dtype))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "activations of packed codes");
    if (o->output.dtype == QVIT_DTYPE_S32 && (!left || qvitp_quantizer_is_twin(left)))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "s32 output: the sums of plain codes only");
    if (o->output.quantizer && qvitp_quantizer_is_twin(o->output.quantizer))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: twin codes");
    return QVIT_OK;
}

static qvit_status check_options(const qvit_matmul_options *o, qvit_error *error)
{
    QVITP_TRY(check_types(o, error));
    QVITP_TRY(qvitp_left_heads_check(o->left.quantizer, o->heads, 0, "left", error));
    QVITP_TRY(qvitp_heads_check(o->right.quantizer, o->heads, 0, "right", error));
    QVITP_TRY(qvitp_heads_check(o->output.quantizer, o->heads, 0, "output", error));
    if (isfinite(o->scale)) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_VALUE, "scale is not finite");
}

/* What one head's sums are multiplied by on the way to its output. */
static qvit_status set_head(const struct matmul *p, const qvit_matmul_options *o, size_t h,
                            qvit_error *error)
{
    struct head *head = &p->head[h];
    *head = (struct head){o->scale, o->scale, 0};
    if (o->left.quantizer) {
        struct qvitp_coder left = qvitp_head_coder(o->left.quantizer, h);
        struct qvitp_coder right = qvitp_head_coder(o->right.quantizer, h);
        head->scale = qvitp_low_sign(&p->left) * left.scale * right.scale * o->scale;
        head->scale2 = left.scale2 * right.scale * o->scale;
    }
    if (o->output.quantizer) {
        struct qvitp_coder out = qvitp_head_coder(o->output.quantizer, h);
        head->scale *= 1.0f / out.scale;
        head->scale2 *= 1.0f / out.scale;
        head->bias = out.zero;
    }
    if (isfinite(head->scale) && isfinite(head->scale2)) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_VALUE, "the scales of head %zu, multiplied, are not finite",
                      h);
}

static void explain(struct matmul *p, const qvit_matmul_options *o)
{
    char what[100], left[40];
    qvitp_port_text(&o->left, left, sizeof left);
    snprintf(what, sizeof what, "matmul, %zu heads, %s x %s -> %s", p->heads, left,
             qvitp_dtype_name(o->right.dtype), qvitp_dtype_name(o->output.dtype));
    p->base.kernel = p->left.kernel->name;
    qvitp_plan_explain(&p->base, what, p->base.kernel);
}

static void lay_out(struct qvit_plan *plan, struct qvitp_carver *c)
{
    struct matmul *p = (struct matmul *)plan;
    p->head = qvitp_carve(c, p->heads, sizeof *p->head);
}

qvit_status qvit_matmul_create(const qvit_engine *engine, const qvit_matmul_options *options,
                               qvit_plan **out, qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_matmul_options o = QVIT_MATMUL_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    if (!o.heads) o.heads = 1;
    if (o.scale == 0) o.scale = 1;
    QVITP_TRY(check_options(&o, error));
    struct qvitp_left left;
    QVITP_TRY(qvitp_left_init(&left, engine, &o.left, o.right.quantizer, "left", error));
    qvitp_left_join(&left, engine, qvitp_left_multiple(o.left.quantizer), 0);
    struct matmul made = {.base = {.engine = engine, .op = QVITP_OP_MATMUL},
                          .left = left,
                          .heads = o.heads,
                          .by_k = !o.right_transposed,
                          .left_type = o.left.dtype,
                          .right_type = o.right.dtype,
                          .output = o.output.dtype};
    qvitp_output_form(&o.output, &made.epilogue);
    struct matmul *p = (struct matmul *)qvitp_plan_place(&made.base, sizeof made, lay_out, error);
    if (!p) return QVIT_ERR_NO_MEMORY;
    qvit_status status = QVIT_OK;
    for (size_t h = 0; h < o.heads && status == QVIT_OK; h++) status = set_head(p, &o, h, error);
    if (status == QVIT_OK) explain(p, &o);
    return qvitp_plan_finish(&p->base, status, out, error);
}

/* ---- running ---- */

/* One worker's part of the workspace. */
struct scratch {
    struct qvitp_right right;
    float *scale, *scale2, *bias;
    void *staged;
};

static size_t carve_scratch(const struct matmul *p, size_t n, size_t k, void *base,
                            struct scratch *s)
{
    struct qvitp_carver c = {base, 0};
    size_t columns = qvitp_vector_columns(p->left.kernel, n);
    qvitp_right_carve(&s->right, &p->left, n, k, &c);
    s->scale = qvitp_carve(&c, columns, sizeof(float));
    s->scale2 = qvitp_carve(&c, columns, sizeof(float));
    s->bias = qvitp_carve(&c, columns, sizeof(float));
    /* Also where this k could be read in place: a smaller one, for which this size is asked as well,
     * might not. */
    size_t plane = p->left.stage ? qvitp_left_plane_bytes(&p->left, k) : 0;
    s->staged = qvitp_carve(&c, qvitp_mul(plane, p->left.twin ? 2 : 1), 1);
    return qvitp_round_up(c.used, QVIT_ALIGNMENT);
}

size_t qvit_matmul_workspace_size(const qvit_plan *plan, size_t m, size_t n, size_t k)
{
    if (!plan || plan->op != QVITP_OP_MATMUL || !m || !n || !k) return 0;
    struct scratch unused;
    size_t one = carve_scratch((const struct matmul *)plan, n, k, NULL, &unused);
    return qvitp_mul(one, plan->engine->executor.workers);
}

struct run {
    const struct matmul *plan;
    const qvit_matmul_args *args;
    size_t m, n, k, per_worker;
    struct qvitp_units units;
};

static char *matrix_at(const qvit_tensor *t, size_t batch, size_t head)
{
    ptrdiff_t offset = (ptrdiff_t)batch * qvitp_stride(t, 0) + (ptrdiff_t)head * qvitp_stride(t, 1);
    return (char *)t->data + offset * (ptrdiff_t)(qvitp_dtype_bits(t->dtype) / 8);
}

/* Sets the vectors of the epilogue to one head's numbers. A float product has its scale in mul. */
static void fill_vectors(const struct run *r, const struct head *head, const struct scratch *s,
                         struct qvitp_epilogue *e)
{
    size_t columns = qvitp_vector_columns(r->plan->left.kernel, r->n);
    for (size_t j = 0; j < columns; j++) {
        s->scale[j] = head->scale;
        s->scale2[j] = head->scale2;
        s->bias[j] = 0;
    }
    *e = r->plan->epilogue;
    e->init = s->right.init;
    e->scale = s->scale;
    e->scale2 = s->scale2;
    e->bias = s->bias;
    if (r->plan->left_type == QVIT_DTYPE_F32) {
        for (size_t j = 0; j < columns; j++) s->scale2[j] = head->bias;
        e->mul = s->scale;
        e->add = s->scale2;
    } else {
        for (size_t j = 0; j < columns; j++) s->bias[j] = head->bias;
    }
}

static void run_unit(void *argument, size_t unit, size_t worker)
{
    const struct run *r = argument;
    const struct matmul *p = r->plan;
    const qvit_tensor *left = r->args->left, *right = r->args->right, *out = r->args->output;
    size_t split = unit % r->units.splits, pair = unit / r->units.splits;
    size_t batch = pair / p->heads, head = pair % p->heads;
    struct scratch s;
    carve_scratch(p, r->n, r->k, (char *)r->args->workspace + worker * r->per_worker, &s);
    struct qvitp_operand operand = {matrix_at(right, batch, head), qvitp_stride(right, 2), NULL,
                                    p->by_k};
    qvitp_right_pack(&s.right, &p->left, &operand, r->n, r->k, s.staged);
    struct qvitp_epilogue epilogue;
    fill_vectors(r, &p->head[head], &s, &epilogue);

    size_t first = qvitp_share(r->m, r->units.splits, split);
    size_t left_size = qvitp_dtype_bits(left->dtype) / 8;
    size_t out_size = qvitp_dtype_bits(out->dtype) / 8;
    ptrdiff_t lda = qvitp_stride(left, 2) * (ptrdiff_t)left_size;
    struct qvitp_block block = {
        .left = &p->left,
        .epilogue = &epilogue,
        .m = qvitp_share(r->m, r->units.splits, split + 1) - first,
        .k = r->k,
        .a = matrix_at(left, batch, head) + (ptrdiff_t)first * lda,
        .lda = lda,
        .b = s.right.panels,
        .columns = r->n,
        .out = matrix_at(out, batch, head) +
               (ptrdiff_t)first * qvitp_stride(out, 2) * (ptrdiff_t)out_size,
        .ldo = qvitp_stride(out, 2),
        .out_size = out_size,
        .staged = s.staged,
    };
    qvitp_block_run(&block);
}

static qvit_status check_args(struct run *r, qvit_error *error)
{
    const struct matmul *p = r->plan;
    const qvit_matmul_args *a = r->args;
    size_t left[4] = {0, p->heads, 0, 0};
    QVITP_TRY(qvitp_tensor_expect(a->left, "left", p->left_type, 0, 4, left, error));
    r->m = a->left->dims[2];
    r->k = a->left->dims[3];
    size_t right[4] = {a->left->dims[0], p->heads, p->by_k ? r->k : 0, p->by_k ? 0 : r->k};
    QVITP_TRY(qvitp_tensor_expect(a->right, "right", p->right_type, 0, 4, right, error));
    r->n = a->right->dims[p->by_k ? 3 : 2];
    size_t out[4] = {a->left->dims[0], p->heads, r->m, r->n};
    QVITP_TRY(qvitp_tensor_expect(a->output, "output", p->output, QVITP_OUTPUT, 4, out, error));
    return qvitp_sums_fit(&p->left, r->k, error);
}

qvit_status qvit_matmul_run(const qvit_plan *plan, const qvit_matmul_args *args, qvit_error *error)
{
    QVITP_TRY(qvitp_plan_expect(plan, QVITP_OP_MATMUL, error));
    qvit_matmul_args a = QVIT_MATMUL_ARGS_INIT;
    QVITP_TRY(QVITP_READ(&a, args, error));
    struct run r = {.plan = (const struct matmul *)plan, .args = &a};
    QVITP_TRY(check_args(&r, error));
    size_t workers = plan->engine->executor.workers;
    size_t needed = qvit_matmul_workspace_size(plan, r.m, r.n, r.k);
    QVITP_TRY(qvitp_workspace_check(a.workspace, a.workspace_size, needed, error));
    r.per_worker = needed / workers;
    qvitp_units_init(&r.units, a.left->dims[0], r.plan->heads, r.m, workers);
    QVITP_TRY(qvitp_parallel_shares(&plan->engine->executor, r.units.units, run_unit, &r, error));
    return qvitp_ok(error);
}
