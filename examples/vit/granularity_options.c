#include "granularity_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

enum { MOST_BLOCKS = 65536 };

struct adding {
    granularity_options *options;
    text_list *settings;
    size_t used;
    qvit_error *error;
};

static qvit_status add(struct adding *a, const char *key, const char *value)
{
    if (a->settings->count == TEXT_LIST_MAX)
        return fail(a->error, QVIT_ERR_ARGUMENT, "too many settings");
    char *text = a->options->text[a->used++];
    if (snprintf(text, GRANULARITY_TEXT, "%s=%s", key, value) >= GRANULARITY_TEXT)
        return fail(a->error, QVIT_ERR_ARGUMENT, "%s: \"%s\" is too long", key, value);
    a->settings->items[a->settings->count++] = text;
    return QVIT_OK;
}

static qvit_status add_number(struct adding *a, const char *key, unsigned long number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lu", number);
    return add(a, key, digits);
}

/* A number from 1 on, and what stands behind it. */
static bool read_count(const char *text, unsigned long *out, const char **rest)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    *out = strtoul(text, &end, 10);
    *rest = end;
    return *out >= 1 && *out <= MOST_BLOCKS;
}

static qvit_status add_whole(struct adding *a, const char *weights)
{
    TRY(add(a, "weights", weights));
    TRY(add(a, "row-blocks", "0"));
    TRY(add(a, "column-blocks", "1"));
    return add(a, "block-length", "0");
}

static qvit_status add_granularity(struct adding *a, const char *text)
{
    unsigned long rows, cols;
    const char *rest;
    if (!strcmp(text, "layer")) return add_whole(a, "layer");
    if (!strcmp(text, "channel")) return add_whole(a, "row");
    if (!strncmp(text, "k:", 2) && read_count(text + 2, &cols, &rest) && !*rest) {
        TRY(add(a, "weights", "row"));
        TRY(add(a, "row-blocks", "0"));
        return add_number(a, "block-length", cols);
    }
    if (!strncmp(text, "sublayer:", 9) && read_count(text + 9, &rows, &rest) && *rest == 'x' &&
        read_count(rest + 1, &cols, &rest) && !*rest) {
        TRY(add_number(a, "row-blocks", rows));
        TRY(add_number(a, "column-blocks", cols));
        return add(a, "block-length", "0");
    }
    return fail(a->error, QVIT_ERR_ARGUMENT,
                "--granularity takes layer, channel, sublayer:RxC or k:L, not \"%s\"", text);
}

qvit_status granularity_options_add(granularity_options *options, text_list *settings,
                                    qvit_error *error)
{
    struct adding a = {options, settings, 0, error};
    if (options->granularity) TRY(add_granularity(&a, options->granularity));
    if (options->chunks) TRY(add_number(&a, "chunks", options->chunks));
    return options->reorder ? add(&a, "reorder", options->reorder) : QVIT_OK;
}
