/* json.h - writes JSON to a stream: objects and arrays of texts and numbers, commas included. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdio.h>

enum { JSON_DEPTH = 8 };

/* Start from {.stream = ...}. */
struct json {
    FILE *stream;
    int depth;
    int filled[JSON_DEPTH]; /* whether the open object or array has a member */
};

/* key: NULL inside an array. bracket: '{' or '['; json_close takes the other one. */
void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);
void json_text(struct json *json, const char *key, const char *text);
/* Not a number, or infinite: null. */
void json_number(struct json *json, const char *key, double number, int decimals);

#endif
