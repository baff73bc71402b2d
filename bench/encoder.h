/* encoder.h - a whole vision transformer of random weights, as a host runs it through qvit.h. */
#ifndef BENCH_ENCODER_H
#define BENCH_ENCODER_H

#include "material.h"

/* The kinds of steps, for the question where the time goes. */
enum encoder_step {
    ENCODER_PATCH,
    ENCODER_NORM,
    ENCODER_QKV,
    ENCODER_ATTENTION,
    ENCODER_PROJ,
    ENCODER_FC1,
    ENCODER_FC2,
    ENCODER_HEAD,
    ENCODER_STEPS
};
extern const char *const encoder_step_names[ENCODER_STEPS];

struct encoder;

/*
 * bits: "w8a8", "w4a8" or "f32". twin: twin codes behind softmax and GELU. reordered: layer norms write
 * their channels in a random order, as where they share blocks; all other orders end in plans.
 */
struct encoder_form {
    const char *bits;
    int twin, reordered;
};
struct encoder *encoder_create(const struct material *material, size_t width, size_t batch,
                               const struct encoder_form *form);
void encoder_destroy(struct encoder *encoder);

/* Patches in rows to logits: `batch` images. */
void encoder_run(struct encoder *encoder);

/* Nanoseconds of all steps of a kind together, each in the fastest of its runs so far. */
double encoder_step_time(const struct encoder *encoder, enum encoder_step kind);

#endif
