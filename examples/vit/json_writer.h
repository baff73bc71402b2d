/*
 * json_writer.h - writes JSON to a stream as it comes: nothing is kept but the nesting.
 *
 *     json_writer w;
 *     json_begin(&w, stdout);
 *     json_object(&w);
 *     json_key(&w, "images"), json_integer(&w, 1300);
 *     json_key(&w, "top1"), json_number(&w, 82.23);
 *     json_object_end(&w);
 *     if (json_end(&w)) ...the stream had an error...
 *
 * Members of an object stand on lines of their own, elements of an array on one line. Calls in an
 * order that is no JSON (a value without a key, an end that does not match) are mistakes of the
 * program, caught by assert. Text must be UTF-8.
 */
#ifndef VIT_JSON_WRITER_H
#define VIT_JSON_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_MAX_DEPTH = 32 };

typedef struct json_writer {
    FILE *file;
    unsigned depth; /* open objects and arrays */
    bool after_key; /* the next call writes the value of a member */
    struct {
        bool object, filled;
    } levels[JSON_MAX_DEPTH + 1]; /* [0] is the document, which takes one value */
} json_writer;

void json_begin(json_writer *w, FILE *file);

/* Ends the document with a line feed and flushes. Returns 0, or -1 if anything was not written. */
int json_end(json_writer *w);

void json_object(json_writer *w);
void json_object_end(json_writer *w);
void json_array(json_writer *w);
void json_array_end(json_writer *w);

/* The name of an object's next member; its value follows. */
void json_key(json_writer *w, const char *name);

void json_string(json_writer *w, const char *text);
void json_integer(json_writer *w, int64_t value);
void json_boolean(json_writer *w, bool value);

/* With as few digits as give the same double again. JSON has no infinity and no NaN: null. */
void json_number(json_writer *w, double value);

/* A value that is JSON already, brought to the present indentation. Its strings have no line feeds, as no
 * string of JSON has; a line feed at its end is left out. */
void json_raw(json_writer *w, const char *text);

#endif
