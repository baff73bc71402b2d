/*
 * json_reader.h - looks into JSON that this program wrote itself: nothing is checked, nothing copied.
 *
 * A value is a pointer to its first byte; NULL stands for what is not there, and every question may be
 * asked of it. Each one reads what lies before its answer, so it is for texts that are not large.
 */
#ifndef VIT_JSON_READER_H
#define VIT_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>

/* The member of an object: its value. */
const char *json_member(const char *object, const char *key);

/* The first element of an array, and the one behind an element. */
const char *json_first(const char *array);
const char *json_next(const char *element);
size_t json_length(const char *array);

/* NaN for what is no number. */
double json_read_number(const char *value);

bool json_is_true(const char *value);

/* The string without its escapes, cut after size - 1 bytes; "" for what is no string. Returns text. */
const char *json_read_string(const char *value, char *text, size_t size);

/* Whether the value is this string, which has no escapes. */
bool json_equals(const char *value, const char *text);

#endif
