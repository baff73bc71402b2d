/*
 * report.h - what an evaluation found: a table for people, JSON for programs.
 */
#ifndef VIT_REPORT_H
#define VIT_REPORT_H

#include <stdio.h>

#include "eval.h"
#include "mixed.h"
#include "network.h"

/* The quantized model of one recipe and width against the float model. */
typedef struct report_entry {
    const char *recipe, *bits;
    eval_accuracy accuracy;
    double agreement, sqnr_db, ms_per_image;
    size_t weight_bytes;
    const mixed_choice *choice; /* under the budgets */
    const network *net;         /* whose kernels and packed bytes are reported */
    char logits_sha256[SHA256_HEX];
    size_t calibration_images, calibration_peak_bytes;
    double calibration_seconds;
    char *card; /* what the library wrote of it; NULL: not asked for */
} report_entry;

typedef struct report {
    const char *model, *isa;
    size_t n, batch, threads;
    eval_accuracy accuracy; /* of the float model */
    double ms_per_image;
    size_t float_weight_bytes;
    const report_entry *entries;
    size_t count; /* 0: the float model alone */
} report;

void report_print(const report *r, FILE *stream);

/* One object; an array of them if there are several entries. */
qvit_status report_write_json(const report *r, const char *path, qvit_error *error);

#endif
