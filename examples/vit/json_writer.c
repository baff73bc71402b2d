#include "json_writer.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void quote(FILE *file, const char *text)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    putc('"', file);
    for (; *text; text++) {
        const char *found = *text == '/' ? NULL : strchr(meanings, *text);
        if (found)
            fprintf(file, "\\%c", letters[found - meanings]);
        else if ((unsigned char)*text < 0x20)
            fprintf(file, "\\u%04x", (unsigned)*text);
        else
            putc(*text, file);
    }
    putc('"', file);
}

static void new_line(json_writer *w)
{
    putc('\n', w->file);
    for (unsigned i = 0; i < w->depth; i++) fputs("  ", w->file);
}

/* What precedes every value: nothing after a key, else a comma after another element. */
static void begin_value(json_writer *w)
{
    assert(w->depth > 0 || !w->levels[0].filled);
    assert(w->after_key == w->levels[w->depth].object);
    if (!w->after_key && w->levels[w->depth].filled) fputs(", ", w->file);
    w->after_key = false;
    w->levels[w->depth].filled = true;
}

static void open_level(json_writer *w, bool object)
{
    begin_value(w);
    assert(w->depth < JSON_MAX_DEPTH);
    w->depth++;
    w->levels[w->depth].object = object;
    w->levels[w->depth].filled = false;
    putc(object ? '{' : '[', w->file);
}

static void close_level(json_writer *w, bool object)
{
    assert(w->depth > 0 && !w->after_key && w->levels[w->depth].object == object);
    bool filled = w->levels[w->depth].filled;
    w->depth--;
    if (object && filled) new_line(w);
    putc(object ? '}' : ']', w->file);
}

void json_begin(json_writer *w, FILE *file) { *w = (json_writer){.file = file}; }

int json_end(json_writer *w)
{
    assert(w->depth == 0 && w->levels[0].filled);
    putc('\n', w->file);
    return fflush(w->file) || ferror(w->file) ? -1 : 0;
}

void json_object(json_writer *w) { open_level(w, true); }

void json_object_end(json_writer *w) { close_level(w, true); }

void json_array(json_writer *w) { open_level(w, false); }

void json_array_end(json_writer *w) { close_level(w, false); }

void json_key(json_writer *w, const char *name)
{
    assert(w->levels[w->depth].object && !w->after_key);
    if (w->levels[w->depth].filled) putc(',', w->file);
    new_line(w);
    quote(w->file, name);
    fputs(": ", w->file);
    w->after_key = true;
    w->levels[w->depth].filled = true;
}

void json_string(json_writer *w, const char *text)
{
    begin_value(w);
    quote(w->file, text);
}

void json_integer(json_writer *w, int64_t value)
{
    begin_value(w);
    fprintf(w->file, "%" PRId64, value);
}

void json_boolean(json_writer *w, bool value)
{
    begin_value(w);
    fputs(value ? "true" : "false", w->file);
}

void json_number(json_writer *w, double value)
{
    char text[32] = "null";
    begin_value(w);
    /* 17 digits always suffice for a double. */
    for (int digits = 1; isfinite(value) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    /* A program that set a locale may have a comma for the point. */
    char *comma = strchr(text, ',');
    if (comma) *comma = '.';
    fputs(text, w->file);
}

void json_raw(json_writer *w, const char *text)
{
    begin_value(w);
    for (; *text; text++) {
        if (*text != '\n')
            putc(*text, w->file);
        else if (text[1])
            new_line(w);
    }
}
