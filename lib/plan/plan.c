/* plan.c - what all plans have in common: life, memory, introspection. */
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "plan/dispatch.h"
#include "quant/quantizer.h"
#include "tensor.h"

void qvit_plan_destroy(qvit_plan *plan)
{
    if (plan) qvitp_engine_free(plan->engine, plan);
}

const char *qvit_plan_kernel(const qvit_plan *plan) { return plan ? plan->kernel : ""; }
size_t qvit_plan_packed_bytes(const qvit_plan *plan) { return plan ? plan->packed_bytes : 0; }

size_t qvit_plan_describe(const qvit_plan *plan, char *text, size_t size)
{
    return (size_t)snprintf(text, text ? size : 0, "%s", plan ? plan->text : "");
}

void *qvitp_carve(struct qvitp_carver *carver, size_t count, size_t size)
{
    size_t at = qvitp_round_up(carver->used, QVIT_ALIGNMENT);
    carver->used = qvitp_add(at, qvitp_mul(count, size));
    return carver->base ? carver->base + at : NULL;
}

struct qvit_plan *qvitp_plan_place(struct qvit_plan *made, size_t size, qvitp_lay_out *lay_out,
                                   qvit_error *error)
{
    struct qvitp_carver carver = {NULL, size};
    lay_out(made, &carver);
    struct qvit_plan *plan =
        carver.used == SIZE_MAX ? NULL : qvitp_engine_alloc(made->engine, 1, carver.used);
    if (!plan) {
        qvitp_no_memory(error);
        return NULL;
    }
    memcpy(plan, made, size);
    plan->packed_bytes = carver.used - size;
    carver = (struct qvitp_carver){(char *)plan, size};
    lay_out(plan, &carver);
    return plan;
}

qvit_status qvitp_plan_finish(struct qvit_plan *plan, qvit_status status, qvit_plan **out,
                              qvit_error *error)
{
    if (status != QVIT_OK) {
        qvit_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return qvitp_ok(error);
}

qvit_status qvitp_plan_expect(const qvit_plan *plan, enum qvitp_op op, qvit_error *error)
{
    if (!plan) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "plan is NULL");
    if (plan->op == op) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the plan is of another operation: %s", plan->text);
}

qvit_status qvitp_workspace_check(const void *workspace, size_t size, size_t needed,
                                  qvit_error *error)
{
    if (!needed) return QVIT_OK;
    if (!workspace || size < needed)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the workspace has %zu bytes and needs %zu",
                          workspace ? size : 0, needed);
    if ((uintptr_t)workspace % QVIT_ALIGNMENT)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the workspace is not aligned to %d bytes",
                          QVIT_ALIGNMENT);
    return QVIT_OK;
}

void qvitp_port_text(const qvit_port *port, char *text, size_t size)
{
    int twin = port->quantizer && qvitp_quantizer_is_twin(port->quantizer);
    const char *scheme = twin ? qvitp_scheme_find(port->quantizer->scheme)->name : "";
    snprintf(text, size, "%s%s%s", scheme, twin ? " " : "", qvitp_dtype_name(port->dtype));
}

void qvitp_plan_explain(qvit_plan *plan, const char *what, const char *kernels)
{
    char names[80];
    qvitp_dispatch_names(plan->engine->isa, names, sizeof names);
    snprintf(plan->text, sizeof plan->text, "%s: %s; newest of %s", what, kernels, names);
    qvitp_log(plan->engine, QVIT_LOG_INFO, "%s", plan->text);
}
