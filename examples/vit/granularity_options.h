/*
 * granularity_options.h - the options --granularity, --act-chunks and --reorder, which stand for settings
 * of the recipes.
 */
#ifndef VIT_GRANULARITY_OPTIONS_H
#define VIT_GRANULARITY_OPTIONS_H

#include "options.h"

enum { GRANULARITY_SETTINGS = 6, GRANULARITY_TEXT = 32 };

typedef struct granularity_options {
    const char *granularity, *reorder; /* as given, or NULL */
    size_t chunks;                     /* 0: not given */
    char text[GRANULARITY_SETTINGS][GRANULARITY_TEXT];
} granularity_options;

/* Adds what the options mean to the settings, which point into `options`. Errors: ARGUMENT. */
qvit_status granularity_options_add(granularity_options *options, text_list *settings,
                                    qvit_error *error);

#endif
