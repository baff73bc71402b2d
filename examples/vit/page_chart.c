#include "page_parts.h"

#include <math.h>

#include "json_reader.h"

/* Of the figure, in pixels: the two parts lie one below the other. */
enum { STEP = 12, BAR = 9, LEFT = 44, TOP = 10, HEIGHT = 200, GAP = 28, LOSS = 70, FOOT = 22 };

/* The axis of decibels ends at a multiple of 10 that no finite bar exceeds. */
static double largest_db(const char *sites)
{
    double most = 10;
    for (const char *site = json_first(sites); site; site = json_next(site)) {
        double alone = json_read_number(json_member(json_member(site, "scores"), "sqnr_db"));
        double all = json_read_number(json_member(json_member(site, "accumulated"), "sqnr_db"));
        most = fmax(most, fmax(alone, all));
    }
    return 10 * ceil(most / 10);
}

static double loss_of(const char *site)
{
    double loss = json_read_number(json_member(json_member(site, "scores"), "loss"));
    return loss > 0 ? loss : 0;
}

static void write_title(FILE *f, const char *site, const char *what, double value)
{
    fputs("<title>", f);
    page_text(f, json_member(site, "name"));
    if (isnan(value))
        fprintf(f, ": %s unknown</title>", what);
    else
        fprintf(f, ": %s %.1f</title>", what, value);
}

/* Negative decibels, and sites without rows, have a bar without height. */
static void write_bar(FILE *f, const char *site, double x, double most)
{
    double db = json_read_number(json_member(json_member(site, "scores"), "sqnr_db"));
    double height = db > 0 ? db / most * HEIGHT : 0;
    fprintf(f, "<rect class=\"bar %s\" x=\"%.0f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\">",
            page_kind(site), x, TOP + HEIGHT - height, BAR, height);
    write_title(f, site, "SQNR dB", db);
    fputs("</rect>\n", f);
}

static void write_dot(FILE *f, const char *site, double x, double most)
{
    double db = json_read_number(json_member(json_member(site, "accumulated"), "sqnr_db"));
    if (isnan(db)) return;
    fprintf(f, "<circle class=\"dots\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\">", x + BAR / 2.0,
            TOP + HEIGHT - fmax(db, 0) / most * HEIGHT);
    write_title(f, site, "accumulated SQNR dB", db);
    fputs("</circle>\n", f);
}

static void write_loss(FILE *f, const char *site, double x, double share, double most)
{
    double height = most > 0 ? share / most * LOSS : 0;
    fprintf(f, "<rect class=\"loss %s\" x=\"%.0f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\">",
            page_kind(site), x, TOP + HEIGHT + GAP + LOSS - height, BAR, height);
    write_title(f, site, "% of the loss", 100 * share);
    fputs("</rect>\n", f);
}

static void write_line(FILE *f, double y, double width, const char *label)
{
    fprintf(f, "<line class=\"grid\" x1=\"%d\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"></line>", LEFT,
            width, y, y);
    fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 5, y + 4, label);
}

static void write_axes(FILE *f, double width, double most_db, double most_share)
{
    char label[32];
    for (double db = 0; db <= most_db; db += 10) {
        snprintf(label, sizeof label, "%.0f%s", db, db == most_db ? " dB" : "");
        write_line(f, TOP + HEIGHT - db / most_db * HEIGHT, width, label);
    }
    snprintf(label, sizeof label, "%.0f %%", 100 * most_share);
    write_line(f, TOP + HEIGHT + GAP, width, label);
    write_line(f, TOP + HEIGHT + GAP + LOSS, width, "0");
}

/* "blocks.3" is what sites up to the next block have in common: its number stands below its first. */
static void write_label(FILE *f, const char *site, double x, unsigned *block)
{
    char name[80];
    unsigned number;
    json_read_string(json_member(site, "name"), name, sizeof name);
    if (sscanf(name, "blocks.%u.", &number) != 1 || number + 1 == *block) return;
    *block = number + 1;
    fprintf(f, "<text x=\"%.0f\" y=\"%d\">%u</text>\n", x, TOP + HEIGHT + GAP + LOSS + 15, number);
}

void page_chart(FILE *f, const char *sites)
{
    const double width = LEFT + (double)(json_length(sites) * STEP) + 8,
                 most_db = largest_db(sites);
    double sum = 0, most = 0, x = LEFT + 4;
    unsigned block = 0;
    for (const char *site = json_first(sites); site; site = json_next(site)) {
        sum += loss_of(site);
        most = fmax(most, loss_of(site));
    }
    if (!(sum > 0)) sum = 1;
    fprintf(f,
            "<div class=\"scroll\"><svg role=\"img\" aria-label=\"SQNR and share of the loss of "
            "every site\" width=\"%.0f\" height=\"%d\">\n",
            width, TOP + HEIGHT + GAP + LOSS + FOOT);
    write_axes(f, width, most_db, most / sum);
    for (const char *site = json_first(sites); site; site = json_next(site), x += STEP) {
        write_bar(f, site, x, most_db);
        write_dot(f, site, x, most_db);
        write_loss(f, site, x, loss_of(site) / sum, most / sum);
        write_label(f, site, x, &block);
    }
    fputs("</svg></div>\n", f);
}
