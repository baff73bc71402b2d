#include "json_reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_space(const char *at) { return at + strspn(at, " \n\r\t"); }

/* What follows a string. */
static const char *skip_string(const char *at)
{
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    return *at ? at + 1 : at;
}

/* What follows a value: brackets are counted, and those inside of strings are not. */
static const char *skip_value(const char *at)
{
    int depth = 0;
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '{' || *at == '[') depth++;
        if (*at == '}' || *at == ']') depth--;
        at++;
    } while (*at && (depth > 0 || !strchr(",]} \n", *at)));
    return at;
}

const char *json_next(const char *element)
{
    if (!element) return NULL;
    const char *at = skip_space(skip_value(element));
    return *at == ',' ? skip_space(at + 1) : NULL;
}

static const char *enter(const char *value, char bracket)
{
    if (!value || *value != bracket) return NULL;
    const char *at = skip_space(value + 1);
    return *at == '}' || *at == ']' ? NULL : at;
}

const char *json_first(const char *array) { return enter(array, '['); }

size_t json_length(const char *array)
{
    size_t length = 0;
    for (const char *at = json_first(array); at; at = json_next(at)) length++;
    return length;
}

bool json_equals(const char *value, const char *text)
{
    const size_t length = strlen(text);
    return value && *value == '"' && !strncmp(value + 1, text, length) && value[length + 1] == '"';
}

const char *json_member(const char *object, const char *key)
{
    const char *name = enter(object, '{');
    while (name) {
        const char *value = skip_space(skip_space(skip_string(name)) + 1); /* behind the colon */
        if (json_equals(name, key)) return value;
        name = json_next(value);
    }
    return NULL;
}

double json_read_number(const char *value)
{
    if (!value || !strchr("-0123456789", *value)) return NAN;
    return strtod(value, NULL);
}

bool json_is_true(const char *value) { return value && *value == 't'; }

const char *json_read_string(const char *value, char *text, size_t size)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    size_t used = 0;
    for (const char *at = value && *value == '"' ? value + 1 : ""; *at && *at != '"'; at++) {
        char c = *at;
        if (c == '\\') {
            const char *letter = strchr(letters, *++at);
            c = letter ? meanings[letter - letters] : *at;
            if (c == 'u') c = '?', at += 4; /* control bytes: nothing to show */
        }
        if (used + 1 < size) text[used++] = c;
    }
    text[used] = '\0';
    return text;
}
