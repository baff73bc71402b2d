/* measure.c - rows: made, measured, printed as tables. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void bench_die(const char *what, const char *why)
{
    fprintf(stderr, "qvit-bench: %s: %s\n", what, why);
    exit(1);
}

int bench_wants(const char *option, const char *value) { return !option || !strcmp(option, value); }

/* ---- making ---- */

struct bench_row *bench_add(struct bench *b, const char *group, const char *name, timer_call *call,
                            void *user)
{
    if (b->count == b->capacity) {
        b->capacity = b->capacity ? 2 * b->capacity : 64;
        b->rows = realloc(b->rows, b->capacity * sizeof *b->rows);
        if (!b->rows) bench_die("rows", "no memory");
    }
    struct bench_row *row = &b->rows[b->count++];
    *row = (struct bench_row){.group = group, .call = call, .user = user};
    row->timing.sample = b->options.quick ? 1e6 : 20e6;
    row->timing.slice = b->options.quick ? 0.2e6 : 1e6;
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static struct bench_field *new_field(struct bench_row *row, const char *key)
{
    if (row->fields == BENCH_FIELDS) bench_die(key, "too many fields");
    struct bench_field *field = &row->field[row->fields++];
    field->key = key;
    return field;
}

void bench_text(struct bench_row *row, const char *key, const char *text)
{
    new_field(row, key)->text = text;
}

void bench_number(struct bench_row *row, const char *key, double number, int decimals)
{
    struct bench_field *field = new_field(row, key);
    field->number = number;
    field->decimals = decimals;
}

const char *bench_text_of(const struct bench_row *row, const char *key)
{
    for (size_t i = 0; i < row->fields; i++)
        if (!strcmp(row->field[i].key, key) && row->field[i].text) return row->field[i].text;
    return "";
}

/* ---- measuring ---- */

void bench_measure(struct bench *b, size_t first)
{
    uint64_t isa = qvit_engine_isa(b->engine);
    for (size_t round = 0; round < b->options.rounds; round++) {
        for (size_t i = first; i < b->count; i++) {
            struct bench_row *row = &b->rows[i];
            peak_sample_clock(&b->peak);
            if (row->peak != PEAK_NONE) peak_sample(&b->peak, row->peak, isa);
            timer_sample(&row->timing, row->call, row->user);
        }
    }
    for (size_t i = first; i < b->count; i++) {
        struct bench_row *row = &b->rows[i];
        bench_number(row, "ns", row->timing.fastest, row->timing.fastest < 1e4 ? 1 : 0);
        bench_number(row, "ns_median", timer_median(&row->timing),
                     row->timing.fastest < 1e4 ? 1 : 0);
        if (row->macs == 0) continue;
        bench_number(row, "gmacs", bench_gmacs(row), 2);
        bench_number(row, "percent_of_peak", bench_percent(b, row), 1);
    }
}

double bench_gmacs(const struct bench_row *row) { return row->macs / row->timing.fastest; }

double bench_percent(const struct bench *b, const struct bench_row *row)
{
    double peak = b->peak.gmacs[row->peak] * (double)b->options.threads;
    return peak > 0 ? 100 * bench_gmacs(row) / peak : (double)NAN;
}

/* ---- printing ---- */

static int format(const struct bench_field *field, char *text, size_t size)
{
    if (field->text) return snprintf(text, size, "%s", field->text);
    if (isnan(field->number)) return snprintf(text, size, "-");
    return snprintf(text, size, "%.*f", field->decimals, field->number);
}

static int width_of(const struct bench *b, size_t first, size_t column)
{
    char text[80];
    int width = (int)strlen(b->rows[first].field[column].key);
    for (size_t i = first; i < b->count; i++) {
        int needed = format(&b->rows[i].field[column], text, sizeof text);
        if (needed > width) width = needed;
    }
    return width;
}

void bench_print(const struct bench *b, size_t first)
{
    if (b->options.json || first == b->count) return;
    int widths[BENCH_FIELDS];
    printf("\n%-26s", b->rows[first].group);
    for (size_t c = 0; c < b->rows[first].fields; c++) {
        widths[c] = width_of(b, first, c);
        printf("  %*s", widths[c], b->rows[first].field[c].key);
    }
    putchar('\n');
    for (size_t i = first; i < b->count; i++) {
        printf("%-26s", b->rows[i].name);
        for (size_t c = 0; c < b->rows[i].fields; c++) {
            char text[80];
            format(&b->rows[i].field[c], text, sizeof text);
            printf("  %*s", widths[c], text);
        }
        putchar('\n');
    }
    fflush(stdout);
}
