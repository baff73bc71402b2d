/* calibrator.h - the inside of a calibrator, shared by its public half and by solving. */
#ifndef QVITP_CALIBRATOR_H
#define QVITP_CALIBRATOR_H

#include "calib/recipe.h"
#include "calib/site.h"

struct qvit_calibrator {
    const qvit_engine *engine;
    uint64_t seed, max_bytes;
    size_t max_rows;
    size_t count, room;
    struct qvitp_site **sites;
    int32_t observed;
};

/* What solving one set of tied sites, or one matmul site, works with. */
struct qvitp_solving {
    const qvit_engine *engine;
    struct qvitp_recipe recipe;
    int32_t use_quantized;
    int32_t (*progress)(void *user, double share); /* inside the set */
    void *user;
};

/* Solve `count` linear sites that read one tensor, or one matmul site, and replace their results; on
 * failure the old results stay. */
qvit_status qvitp_solve_linear(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, qvit_error *error);
qvit_status qvitp_solve_matmul(const struct qvitp_solving *solving, struct qvitp_site *site,
                               qvit_error *error);

#endif
