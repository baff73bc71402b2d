#include "json.h"

#include <math.h>

static void write_text(FILE *stream, const char *text)
{
    fputc('"', stream);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(stream, "\\%c", c);
        else if (c < 0x20)
            fprintf(stream, "\\u%04x", c);
        else
            fputc(c, stream);
    }
    fputc('"', stream);
}

/* What stands before a member: a comma, a line of its own for what is shallow, its key. */
static void begin(struct json *json, const char *key)
{
    if (json->filled[json->depth]) fputs(json->depth > 2 ? ", " : ",", json->stream);
    if (json->depth > 0 && json->depth <= 2) fputc('\n', json->stream);
    json->filled[json->depth] = 1;
    if (!key) return;
    write_text(json->stream, key);
    fputs(": ", json->stream);
}

void json_open(struct json *json, const char *key, char bracket)
{
    begin(json, key);
    fputc(bracket, json->stream);
    json->filled[++json->depth] = 0;
}

void json_close(struct json *json, char bracket)
{
    if (json->depth <= 2) fputc('\n', json->stream);
    fputc(bracket, json->stream);
    json->depth--;
}

void json_text(struct json *json, const char *key, const char *text)
{
    begin(json, key);
    write_text(json->stream, text);
}

void json_number(struct json *json, const char *key, double number, int decimals)
{
    begin(json, key);
    if (isfinite(number))
        fprintf(json->stream, "%.*f", decimals, number);
    else
        fputs("null", json->stream);
}
