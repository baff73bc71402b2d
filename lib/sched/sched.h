/* sched.h - running tasks, on the host's executor or on the calling thread. */
#ifndef QVITP_SCHED_H
#define QVITP_SCHED_H

#include "qvit.h"

/* Calls task(argument, i, worker) once for every i < count; returns after the last. */
qvit_status qvitp_parallel(const qvit_executor *executor, size_t count, qvit_task *task,
                           void *argument, qvit_error *error);

/* Calls one(argument, i, worker) for every i < count, cut into as many contiguous shares as there are
 * workers: neighbours run on one worker, in order. */
qvit_status qvitp_parallel_shares(const qvit_executor *executor, size_t count, qvit_task *one,
                                  void *argument, qvit_error *error);

/* The executor of engines made without one: serial, or OpenMP's threads in an OpenMP build. */
void qvitp_default_executor(qvit_executor *executor);

#endif
