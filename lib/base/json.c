/* json.c - writes JSON as it comes. */
#include "base/json.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct qvitp_json *j, const char *text) { qvitp_put(&j->out, text, strlen(text)); }

/* ---- text ---- */

/* Bytes of the UTF-8 character that begins here; 0 if none does. No overlong forms, no surrogates, and
 * nothing beyond U+10FFFF (Unicode 15, table 3-7). */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    unsigned least = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned most = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < least || s[1] > most) return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0; /* also the NUL: nothing behind it is read */
    return length;
}

static void put_character(struct qvitp_json *j, const unsigned char *s, size_t length)
{
    char escape[8];
    if (!length) {
        put(j, "\xEF\xBF\xBD");
    } else if (*s == '"' || *s == '\\') {
        snprintf(escape, sizeof escape, "\\%c", *s);
        put(j, escape);
    } else if (*s < 0x20 || *s == 0x7F) {
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
        put(j, escape);
    } else {
        qvitp_put(&j->out, s, length);
    }
}

static void quote(struct qvitp_json *j, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    put(j, "\"");
    while (*s) {
        size_t length = utf8_length(s);
        put_character(j, s, length);
        s += length ? length : 1;
    }
    put(j, "\"");
}

/* ---- nesting ---- */

static void new_line(struct qvitp_json *j)
{
    put(j, "\n");
    for (int i = 0; i < j->depth; i++) put(j, "  ");
}

/* What precedes every value: nothing after a key, else a comma after another element. */
static void begin_value(struct qvitp_json *j)
{
    assert(j->after_key == j->level[j->depth].object);
    if (!j->after_key && j->level[j->depth].filled) put(j, ", ");
    j->after_key = 0;
    j->level[j->depth].filled = 1;
}

static void open_level(struct qvitp_json *j, int object)
{
    begin_value(j);
    assert(j->depth < QVITP_JSON_DEPTH);
    j->depth++;
    j->level[j->depth].object = object;
    j->level[j->depth].filled = 0;
    put(j, object ? "{" : "[");
}

static void close_level(struct qvitp_json *j, int object)
{
    assert(j->depth > 0 && !j->after_key && j->level[j->depth].object == object);
    int filled = j->level[j->depth].filled;
    j->depth--;
    if (object && filled) new_line(j);
    put(j, object ? "}" : "]");
}

void qvitp_json_object(struct qvitp_json *j) { open_level(j, 1); }
void qvitp_json_object_end(struct qvitp_json *j) { close_level(j, 1); }
void qvitp_json_array(struct qvitp_json *j) { open_level(j, 0); }
void qvitp_json_array_end(struct qvitp_json *j) { close_level(j, 0); }

void qvitp_json_end(struct qvitp_json *j)
{
    assert(j->depth == 0 && j->level[0].filled);
    put(j, "\n");
    qvitp_put_rest(&j->out);
}

void qvitp_json_key(struct qvitp_json *j, const char *name)
{
    assert(j->level[j->depth].object && !j->after_key);
    if (j->level[j->depth].filled) put(j, ",");
    new_line(j);
    quote(j, name);
    put(j, ": ");
    j->after_key = 1;
    j->level[j->depth].filled = 1;
}

/* ---- values ---- */

void qvitp_json_string(struct qvitp_json *j, const char *text)
{
    begin_value(j);
    quote(j, text);
}

void qvitp_json_integer(struct qvitp_json *j, int64_t value)
{
    char text[32];
    begin_value(j);
    snprintf(text, sizeof text, "%" PRId64, value);
    put(j, text);
}

void qvitp_json_count(struct qvitp_json *j, uint64_t value)
{
    char text[32];
    begin_value(j);
    snprintf(text, sizeof text, "%" PRIu64, value);
    put(j, text);
}

void qvitp_json_boolean(struct qvitp_json *j, int value)
{
    begin_value(j);
    put(j, value ? "true" : "false");
}

/* The locale's decimal point, which may be of several bytes, is whatever no number has else. */
static void put_number(struct qvitp_json *j, const char *text)
{
    while (*text) {
        size_t plain = strspn(text, "0123456789+-e");
        qvitp_put(&j->out, text, plain);
        text += plain;
        size_t point = strcspn(text, "0123456789+-e");
        if (point) put(j, ".");
        text += point;
    }
}

void qvitp_json_number(struct qvitp_json *j, double value)
{
    char text[48];
    begin_value(j);
    if (!isfinite(value)) {
        put(j, "null");
        return;
    }
    if (fabs(value) < 1e9 && value == floor(value)) {
        qvitp_put(&j->out, text, (size_t)snprintf(text, sizeof text, "%.0f", value));
        return;
    }
    int is_float = fabs(value) >= (double)FLT_MIN && fabs(value) <= (double)FLT_MAX;
    for (int digits = is_float ? 1 : 9; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) break;
    }
    put_number(j, text);
}
