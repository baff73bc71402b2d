#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

/* The arguments that are still to be read. */
struct arguments {
    char **next, **end;
};

static qvit_status take(struct arguments *a, const char *name, const char **out, qvit_error *error)
{
    *out = a->next < a->end ? *a->next++ : NULL;
    return *out ? QVIT_OK : fail(error, QVIT_ERR_ARGUMENT, "%s needs another argument", name);
}

static qvit_status take_number(struct arguments *a, const option *o, qvit_error *error)
{
    const char *text;
    TRY(take(a, o->name, &text, error));
    size_t value = 0;
    bool valid = *text != '\0';
    for (; valid && *text; text++) {
        valid = *text >= '0' && *text <= '9' && value <= o->most;
        value = value * 10 + (size_t)(*text - '0');
    }
    if (!valid || value < o->least || value > o->most)
        return fail(error, QVIT_ERR_ARGUMENT, "%s takes a number from %zu to %zu", o->name,
                    o->least, o->most);
    *o->number = value;
    return QVIT_OK;
}

static qvit_status take_list_item(struct arguments *a, const option *o, qvit_error *error)
{
    if (o->list->count == TEXT_LIST_MAX)
        return fail(error, QVIT_ERR_ARGUMENT, "%s is given more than %d times", o->name,
                    TEXT_LIST_MAX);
    return take(a, o->name, &o->list->items[o->list->count++], error);
}

static qvit_status take_option(struct arguments *a, const option *options, size_t count,
                               qvit_error *error)
{
    const char *name = *a->next++;
    for (const option *o = options; o < options + count; o++) {
        if (strcmp(o->name, name)) continue;
        if (o->number) TRY(take_number(a, o, error));
        if (o->text) TRY(take(a, o->name, o->text, error));
        if (o->list) TRY(take_list_item(a, o, error));
        if (o->flag) *o->flag = true;
        return QVIT_OK;
    }
    return fail(error, QVIT_ERR_ARGUMENT, "there is no option \"%s\"; --help lists them", name);
}

qvit_status options_parse(const option *options, size_t count, int argc, char **argv,
                          qvit_error *error)
{
    struct arguments arguments = {argv, argv + argc};
    while (arguments.next < arguments.end) TRY(take_option(&arguments, options, count, error));
    for (const option *o = options; o < options + count; o++) {
        if (o->required && !*o->text)
            return fail(error, QVIT_ERR_ARGUMENT, "%s %s is needed", o->name, o->value);
    }
    return QVIT_OK;
}

void options_print(const option *options, size_t count, FILE *stream)
{
    for (const option *o = options; o < options + count; o++) {
        int width = fprintf(stream, "  %s %s", o->name, o->value);
        fprintf(stream, "%*s%s\n", width < 30 ? 30 - width : 1, "", o->help);
    }
}

bool options_ask_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) return true;
    }
    return false;
}

const char *options_next_part(const char **rest, size_t *length)
{
    const char *part = *rest;
    if (!part) return NULL;
    *length = strcspn(part, ",");
    *rest = part[*length] ? part + *length + 1 : NULL;
    return part;
}
