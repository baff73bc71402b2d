/*
 * plan.h - what all plans have in common.
 *
 * A plan is one block of memory: the operation's own struct, which begins with struct qvit_plan, and
 * behind it every packed operand and vector. So a plan never points into anything but itself and the
 * kernels, destroying it is one free, and its size is what it costs.
 */
#ifndef QVITP_PLAN_H
#define QVITP_PLAN_H

#include "engine.h"
#include "qvit.h"

enum qvitp_op {
    QVITP_OP_LINEAR = 1,
    QVITP_OP_MATMUL,
    QVITP_OP_ATTENTION,
    QVITP_OP_LAYER_NORM,
    QVITP_OP_QUANTIZE
};

struct qvit_plan {
    const qvit_engine *engine;
    enum qvitp_op op;
    const char *kernel;  /* of the main work */
    size_t packed_bytes; /* of everything behind the operation's struct */
    char text[200];      /* qvit_plan_describe */
};

/*
 * Places the parts of a plan: with base NULL it only counts, with the real block it hands out
 * addresses, each aligned to QVIT_ALIGNMENT.
 */
struct qvitp_carver {
    char *base;
    size_t used; /* SIZE_MAX once it does not fit */
};
void *qvitp_carve(struct qvitp_carver *carver, size_t count, size_t size);

/*
 * Gives a plan made on the stack, `size` bytes long, its place: `lay_out` carves its parts, once to
 * count and once for good. NULL if memory runs out.
 */
typedef void qvitp_lay_out(struct qvit_plan *plan, struct qvitp_carver *carver);
struct qvit_plan *qvitp_plan_place(struct qvit_plan *made, size_t size, qvitp_lay_out *lay_out,
                                   qvit_error *error);

/* Ends a creation: hands the plan out, or, where its making failed, destroys it. */
qvit_status qvitp_plan_finish(struct qvit_plan *plan, qvit_status status, qvit_plan **out,
                              qvit_error *error);

/* Checks that a plan is one of this operation. */
qvit_status qvitp_plan_expect(const qvit_plan *plan, enum qvitp_op op, qvit_error *error);

/* Checks a caller's workspace. */
qvit_status qvitp_workspace_check(const void *workspace, size_t size, size_t needed,
                                  qvit_error *error);

/* "u8" for a port, with its quantizer's scheme where that is a twin: "twin gelu s8". */
void qvitp_port_text(const qvit_port *port, char *text, size_t size);

/* Fills in the description: what the plan does, then the kernels and why these. */
void qvitp_plan_explain(qvit_plan *plan, const char *what, const char *kernels);

#endif
