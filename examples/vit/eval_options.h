/*
 * eval_options.h - the command line of `qvit-vit eval`.
 */
#ifndef VIT_EVAL_OPTIONS_H
#define VIT_EVAL_OPTIONS_H

#include "granularity_options.h"
#include "mixed.h"
#include "model.h"
#include "options.h"

enum { EVAL_MAX_RECIPES = 16, EVAL_MAX_WIDTHS = 16, EVAL_WIDTH_TEXT = 8 };

/* "w4a8": bits of every weight, and of every other input of a product. */
typedef struct eval_width {
    char text[EVAL_WIDTH_TEXT];
    int32_t weight_bits, input_bits;
} eval_width;

typedef struct eval_options {
    const char *model, *images, *labels;
    const char *calib;                            /* images to calibrate with, or NULL */
    text_list load_calibration;                   /* files with what was observed before */
    const char *save_calibration;                 /* a file to write, or NULL */
    const char *card, *html;                      /* files to write, or NULL */
    const char *json, *logits, *quantized_logits; /* files to write, or NULL */
    const char *trace_folder;                     /* NULL: no trace */
    size_t trace_block;
    const char *isa; /* NULL: all that the CPU has */
    vit_model_options model_options;
    size_t n;                           /* 0: all images */
    size_t calib_n, calib_first;        /* 0 images without `calib` */
    size_t calib_rows, calib_megabytes; /* 0: the library's defaults */
    bool calibrates; /* with images or files; else there is the float model alone */
    size_t batch, threads;
    const char *recipes[EVAL_MAX_RECIPES]; /* the library's own texts */
    size_t recipe_count;
    eval_width widths[EVAL_MAX_WIDTHS];
    size_t width_count;
    text_list settings;
    granularity_options granularity; /* already among the settings */
    mixed_options mixed;             /* budgets */
} eval_options;

/* Reads the arguments behind "eval". Errors: ARGUMENT. */
qvit_status eval_options_parse(eval_options *out, int argc, char **argv, qvit_error *error);

/* Prints what eval_options_parse takes. */
void eval_options_help(FILE *stream);

#endif
