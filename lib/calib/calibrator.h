/* calibrator.h - the inside of a calibrator. */
#ifndef QVITP_CALIBRATOR_H
#define QVITP_CALIBRATOR_H

#include "calib/site.h"
#include "qvit.h"

struct qvit_calibrator {
    const qvit_engine *engine;
    uint64_t seed, max_bytes;
    size_t max_rows;
    size_t count, room;
    struct qvitp_site **sites;
    int32_t observed;
};

/* Of each of its sites, which are at least one. */
static inline struct qvitp_bounds qvitp_calibrator_bounds(const qvit_calibrator *c)
{
    return (struct qvitp_bounds){c->seed, c->max_bytes / c->count, c->max_rows};
}

#endif
