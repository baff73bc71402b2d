/*
 * options.h - command lines as tables: one table says what is accepted and makes the help text.
 *
 *     size_t threads = 1;
 *     const char *model = NULL;
 *     const option table[] = {
 *         {.name = "--model", .value = "FILE", .help = "the model", .text = &model},
 *         {.name = "--threads", .value = "T", .help = "threads to use", .number = &threads,
 *          .least = 1, .most = 64},
 *     };
 *     TRY(options_parse(table, 2, argc, argv, error));
 */
#ifndef VIT_OPTIONS_H
#define VIT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <qvit.h>

enum { TEXT_LIST_MAX = 32 };

typedef struct text_list {
    const char *items[TEXT_LIST_MAX];
    size_t count;
} text_list;

/* Where the arguments behind the option go: each target that is set takes one, in this order. */
typedef struct option {
    const char *name;
    const char *value; /* names the arguments in the help */
    const char *help;
    size_t *number;    /* least..most */
    const char **text; /* a later one replaces an earlier one */
    text_list *list;   /* collects those of every time that the option is given */
    bool *flag;        /* set by an option without arguments */
    size_t least, most;
    bool required; /* its text must be given */
} option;

/* Texts point into argv. Errors: ARGUMENT, with a sentence that names the option. */
qvit_status options_parse(const option *options, size_t count, int argc, char **argv,
                          qvit_error *error);

/* One line for each option. */
void options_print(const option *options, size_t count, FILE *stream);

/* Whether "--help" is among the arguments. */
bool options_ask_help(int argc, char **argv);

/*
 * The parts of "a,b,c", one a call: returns the first part and its length, and moves *rest behind
 * the comma; NULL when nothing is left. Parts may be empty.
 */
const char *options_next_part(const char **rest, size_t *length);

#endif
