/*
 * json.h - writes JSON as it comes: nothing is kept but the nesting.
 *
 * Members of an object stand on lines of their own, elements of an array on one line unless they are
 * objects. The bytes depend on nothing but the calls: no locale, no machine. Calls in an order that is no
 * JSON are mistakes of the library, caught by assert.
 */
#ifndef QVITP_JSON_H
#define QVITP_JSON_H

#include "base/bytes.h"

enum { QVITP_JSON_DEPTH = 12 };

struct qvitp_json {
    struct qvitp_writer out;
    int depth;     /* open objects and arrays */
    int after_key; /* the next call writes the value of a member */
    struct {
        int object, filled;
    } level[QVITP_JSON_DEPTH + 1]; /* [0] is the document, which takes one value */
};

/* Ends the document with a line feed, and hands on what is left. */
void qvitp_json_end(struct qvitp_json *json);

void qvitp_json_object(struct qvitp_json *json);
void qvitp_json_object_end(struct qvitp_json *json);
void qvitp_json_array(struct qvitp_json *json);
void qvitp_json_array_end(struct qvitp_json *json);

/* The name of an object's next member; its value follows. Names are ASCII, and need no escapes. */
void qvitp_json_key(struct qvitp_json *json, const char *name);

/* Any bytes: what is no UTF-8 becomes U+FFFD, byte by byte. */
void qvitp_json_string(struct qvitp_json *json, const char *text);
void qvitp_json_integer(struct qvitp_json *json, int64_t value);
void qvitp_json_count(struct qvitp_json *json, uint64_t value);
void qvitp_json_boolean(struct qvitp_json *json, int value);

/* With as few digits as tell it from every other float, nine at most. NaN and infinities: null. */
void qvitp_json_number(struct qvitp_json *json, double value);

/* ---- members ---- */

static inline void qvitp_json_text(struct qvitp_json *j, const char *name, const char *text)
{
    qvitp_json_key(j, name);
    qvitp_json_string(j, text);
}
static inline void qvitp_json_real(struct qvitp_json *j, const char *name, double value)
{
    qvitp_json_key(j, name);
    qvitp_json_number(j, value);
}
static inline void qvitp_json_size(struct qvitp_json *j, const char *name, uint64_t value)
{
    qvitp_json_key(j, name);
    qvitp_json_count(j, value);
}
static inline void qvitp_json_whole(struct qvitp_json *j, const char *name, int64_t value)
{
    qvitp_json_key(j, name);
    qvitp_json_integer(j, value);
}
static inline void qvitp_json_flag(struct qvitp_json *j, const char *name, int value)
{
    qvitp_json_key(j, name);
    qvitp_json_boolean(j, value);
}
static inline void qvitp_json_begin_member(struct qvitp_json *j, const char *name)
{
    qvitp_json_key(j, name);
    qvitp_json_object(j);
}

#endif
