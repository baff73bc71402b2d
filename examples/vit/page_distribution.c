#include "page_parts.h"

#include <math.h>

#include "json_reader.h"

/* Of a figure, in pixels. Values below 2^-OCTAVES of the largest are not drawn. */
enum { WIDTH = 320, TOP = 6, HEIGHT = 110, BELOW = 44, OCTAVES = 16, ROW = 12 };

/* Where a magnitude lies: the positive ones from the middle to the right, the negative ones to the left,
 * or only the positive ones over the whole width. */
struct axis {
    double low, high;  /* log2 of the magnitudes at the ends */
    double zero, span; /* pixels */
};

/* One range of codes. */
struct span {
    double step, end; /* magnitudes of the first code beside 0, and of the last one */
    int negative;
};

static double place(const struct axis *a, double magnitude, int negative)
{
    double at = (log2(magnitude) - a->low) / (a->high - a->low);
    at = at < 0 ? 0 : at > 1 ? 1 : at;
    return negative ? a->zero - at * a->span : a->zero + at * a->span;
}

static const char *last_of(const char *array)
{
    const char *last = NULL;
    for (const char *at = json_first(array); at; at = json_next(at)) last = at;
    return last;
}

/* Values in an octave as wide as this bin is: bins of one octave differ in their logarithmic widths. */
static double density(const char *count, double from, double to)
{
    return json_read_number(count) / log2(to / from);
}

static double largest_density(const char *side)
{
    const char *edge = json_first(json_member(side, "edges"));
    double most = 0, from = json_read_number(edge);
    for (const char *c = json_first(json_member(side, "counts")); c; c = json_next(c)) {
        double to = json_read_number(edge = json_next(edge));
        most = fmax(most, density(c, from, to));
        from = to;
    }
    return most;
}

/* The heights are logarithms of densities: each sign is one path of steps. */
static void write_side(FILE *f, const char *side, const struct axis *a, int negative, double most,
                       const char *kind)
{
    const char *edge = json_first(json_member(side, "edges"));
    const char *count = json_first(json_member(side, "counts"));
    if (!count) return;
    const double base = TOP + HEIGHT;
    double from = json_read_number(edge), x = place(a, from, negative);
    fprintf(f, "<path class=\"%s\" d=\"M%.1f %.1f", kind, x, base);
    for (; count; count = json_next(count)) {
        double to = json_read_number(edge = json_next(edge)), end = place(a, to, negative);
        double height = log10(1 + density(count, from, to)) / log10(1 + most) * HEIGHT;
        from = to;
        if (end == x) continue; /* below what is drawn */
        fprintf(f, "V%.1fH%.1f", base - height, end);
        x = end;
    }
    fprintf(f, "V%.1fZ\"></path>\n", base);
}

/* ---- the quantizer ---- */

static struct span span_of(double scale, double codes, int negative)
{
    return (struct span){scale, scale * codes, negative};
}

/* Up to two ranges; how many. */
static size_t find_spans(const char *quantizer, struct span out[2])
{
    const char *scheme = json_member(quantizer, "scheme");
    double scale = json_read_number(json_first(json_member(quantizer, "scale")));
    double scale2 = json_read_number(json_first(json_member(quantizer, "scale2")));
    double zero = json_read_number(json_member(quantizer, "zero_point"));
    double half = exp2(json_read_number(json_member(quantizer, "bits")) - 1);
    size_t count = 0;
    if (isnan(scale) || isnan(half)) return 0;
    if (isnan(zero)) zero = 0;
    if (json_equals(scheme, "twin softmax")) {
        out[count++] = span_of(scale, half - 1, 0);
        out[count++] = span_of(scale2, half - 1, 0);
    } else if (json_equals(scheme, "twin gelu")) {
        if (zero > -half) out[count++] = span_of(scale, zero + half, 1);
        if (zero < half - 1) out[count++] = span_of(scale2, half - 1 - zero, 0);
    } else if (json_equals(scheme, "symmetric")) {
        out[count++] = span_of(scale, half, 1);
        out[count++] = span_of(scale, half - 1, 0);
    } else {
        if (zero > 0) out[count++] = span_of(scale, zero, 1);
        if (2 * half - 1 > zero) out[count++] = span_of(scale, 2 * half - 1 - zero, 0);
    }
    return count;
}

static void write_span(FILE *f, const struct span *s, const struct axis *a, size_t number,
                       const char *kind)
{
    double from = place(a, s->step, s->negative), to = place(a, s->end, s->negative);
    double left = fmin(from, to), y = TOP + HEIGHT + 4 + (double)(number * ROW);
    fprintf(f,
            "<rect class=\"%s%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\" rx=\"2\">"
            "<title>%s, step %.3g, to %.3g</title></rect>\n",
            kind, number ? " second" : "", left, y, fmax(fabs(to - from), 2),
            s->negative ? "negative" : "positive", s->step, s->end);
}

static void write_words(FILE *f, const char *site, const struct span *spans, size_t count)
{
    fputs("<figcaption><b>", f);
    page_text(f, json_member(site, "name"));
    fputs("</b>, ", f);
    page_text(f, json_member(json_member(site, "input"), "scheme"));
    for (size_t i = 0; i < count; i++)
        fprintf(f, "%s steps of %.3g to %s%.3g", i ? ";" : ":", spans[i].step,
                spans[i].negative ? "−" : "", spans[i].end);
    if (json_is_true(json_member(json_member(site, "input"), "relative")))
        fputs(", of the largest in each row", f);
    fputs("</figcaption></figure>\n", f);
}

/* ---- the figure ---- */

static struct axis make_axis(const char *negative, const char *positive, const struct span *spans,
                             size_t count)
{
    double most = json_read_number(last_of(json_member(positive, "edges")));
    double below = json_read_number(last_of(json_member(negative, "edges")));
    int both = !isnan(below);
    most = fmax(most, below);
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, spans[i].end);
        both |= spans[i].negative;
    }
    if (!(most > 0)) most = 1;
    const double high = ceil(log2(most));
    return (struct axis){high - OCTAVES, high, both ? WIDTH / 2.0 : 4,
                         both ? WIDTH / 2.0 - 4 : WIDTH - 8};
}

/* Marks of the powers of two, every fourth; between the signs lies what is too small to be drawn. */
static void write_ticks(FILE *f, const struct axis *a)
{
    const int both = a->zero > 4, step = both ? 8 : 4;
    for (int side = 0; side <= both; side++) {
        for (double e = a->low + (both ? step : 0); e <= a->high; e += step) {
            double x = place(a, exp2(e), side);
            const char *anchor = x < 24 ? "start" : x > WIDTH - 24 ? "end" : "middle";
            fprintf(f, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"></line>",
                    x, x, TOP, TOP + HEIGHT);
            fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s%.3g</text>\n", x,
                    TOP + HEIGHT + BELOW - 6, anchor, side ? "−" : "", exp2(e));
        }
    }
}

void page_distribution(FILE *f, const char *site)
{
    const char *histogram = json_member(site, "histogram"), *kind = page_kind(site);
    const char *negative = json_member(histogram, "negative");
    const char *positive = json_member(histogram, "positive");
    struct span spans[2];
    const size_t count = find_spans(json_member(site, "input"), spans);
    const struct axis axis = make_axis(negative, positive, spans, count);
    const double most = fmax(largest_density(negative), largest_density(positive));
    fprintf(f,
            "<figure><svg role=\"img\" aria-label=\"distribution of the input\" "
            "viewBox=\"0 0 %d %d\">\n",
            WIDTH, TOP + HEIGHT + BELOW);
    write_ticks(f, &axis);
    write_side(f, negative, &axis, 1, most, kind);
    write_side(f, positive, &axis, 0, most, kind);
    for (size_t i = 0; i < count; i++) write_span(f, &spans[i], &axis, i, kind);
    fputs("</svg>", f);
    write_words(f, site, spans, count);
}
