#include "page.h"

#include <math.h>
#include <string.h>

#include "json_reader.h"
#include "page_parts.h"

enum { TEXT = 512 };

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fcfcfb;--ink:#1d2228;--soft:#5d6670;--line:#dcdfe2;"
    "--card:#fff;--warn:#a15c00;--warnbg:#fff6e5;--image:#7a8793;--layernorm:#2f6fb5;"
    "--generic:#2a9187;--softmax:#b5508f;--gelu:#c77a1c}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--ink:#e6e8ea;--soft:#9aa4ae;"
    "--line:#30363c;--card:#1b1f23;--warn:#f0b65c;--warnbg:#2c2414;--image:#8e9aa6;"
    "--layernorm:#6aa5e6;--generic:#52bfb3;--softmax:#dd85bb;--gelu:#e6a552}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:68rem;padding:2rem 1.25rem 4rem;"
    "background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',"
    "Roboto,'Helvetica Neue',sans-serif}h1{font-size:1.7rem;line-height:1.2;margin:0 0 .2rem;"
    "overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2.6rem 0 .6rem}p{margin:.4rem 0 .8rem;"
    "max-width:44rem}.soft,figcaption,caption{color:var(--soft)}.small,figcaption,footer"
    "{font-size:.85rem}.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;"
    "background:var(--card)}table{border-collapse:collapse;font-variant-numeric:tabular-nums;"
    "width:100%}th,td{padding:.35rem .7rem;text-align:right;border-bottom:1px solid var(--line);"
    "white-space:nowrap}tr:last-child td{border-bottom:0}th:first-child,td:first-child"
    "{text-align:left}th{font-weight:600;color:var(--soft);font-size:.85rem}td.l,th.l"
    "{text-align:left}.sites{font-size:.85rem}.summary "
    "td{white-space:normal}ul.warn{margin:0;padding:.7rem 1rem .7rem "
    "2rem;font-size:.9rem;max-height:22rem;overflow:auto;"
    "background:var(--warnbg);border-left:4px solid var(--warn);border-radius:4px}"
    ".key{display:inline-block;margin-right:1rem}.key i{display:inline-block;width:.8em;"
    "height:.8em;border-radius:2px;margin-right:.4em;vertical-align:-.05em}"
    "svg{display:block}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}"
    ".grid{stroke:var(--line);stroke-width:1}.dot{fill:var(--ink)}.dots{fill:none;"
    "stroke:var(--ink);stroke-width:1.2}.figures{display:grid;gap:1rem;"
    "grid-template-columns:repeat(auto-fill,minmax(19rem,1fr))}figure{margin:0;padding:.8rem;"
    "border:1px solid var(--line);border-radius:8px;background:var(--card)}figure svg{width:100%;"
    "height:auto}figure b{overflow-wrap:anywhere}.image{fill:var(--image);background:var(--image)}"
    ".layernorm{fill:var(--layernorm);background:var(--layernorm)}.generic{fill:var(--generic);"
    "background:var(--generic)}.softmax{fill:var(--softmax);background:var(--softmax)}"
    ".gelu{fill:var(--gelu);background:var(--gelu)}.second{opacity:.5}dl{display:grid;"
    "grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0;font-size:.9rem}"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}footer{margin-top:3rem;"
    "color:var(--soft)}@media(max-width:30rem){body{padding:1.2rem .8rem 3rem}"
    "th,td{padding:.3rem .5rem}}";

/* ---- what the parts share ---- */

void page_text(FILE *f, const char *value)
{
    char text[TEXT];
    for (const char *c = json_read_string(value, text, sizeof text); *c; c++) {
        const char *entity = *c == '<'    ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '&'  ? "&amp;"
                             : *c == '"'  ? "&quot;"
                             : *c == '\'' ? "&#39;"
                                          : NULL;
        if (entity)
            fputs(entity, f);
        else
            putc(*c, f);
    }
}

void page_number(FILE *f, const char *value, int decimals)
{
    double number = json_read_number(value);
    if (isnan(number))
        fputs("–", f);
    else
        fprintf(f, "%.*f", decimals, number);
}

const char *page_kind(const char *site)
{
    static const char *const kinds[][2] = {
        {"image", "image"}, {"layer norm", "layernorm"}, {"softmax", "softmax"}, {"gelu", "gelu"}};
    const char *kind = json_member(site, "kind");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (json_equals(kind, kinds[i][0])) return kinds[i][1];
    return "generic";
}

/* ---- the head ---- */

static void write_title(FILE *f, const char *card, const char *tag)
{
    fprintf(f, "<%s>", tag);
    page_text(f, json_member(json_member(card, "model"), "file"));
    fputs(" · ", f);
    page_text(f, json_member(card, "recipe"));
    putc(' ', f);
    page_text(f, json_member(card, "bits"));
    fprintf(f, "</%s>\n", tag);
}

static void write_head(FILE *f, const char *card)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
          f);
    write_title(f, card, "title");
    fprintf(f, "<style>%s</style>\n</head>\n<body>\n", style);
    write_title(f, card, "h1");
    fputs("<p class=\"soft\">Quantization card: ", f);
    page_number(f, json_member(json_member(card, "accuracy"), "n"), 0);
    fputs(" images evaluated, calibrated with ", f);
    page_number(f, json_member(json_member(card, "calibration_data"), "count"), 0);
    fputs(".</p>\n", f);
}

/* ---- float against quantized ---- */

static void row(FILE *f, const char *name, const char *floats, const char *quantized, int decimals,
                const char *unit)
{
    fprintf(f, "<tr><td>%s</td><td>", name);
    page_number(f, floats, decimals);
    fputs("</td><td>", f);
    page_number(f, quantized, decimals);
    fprintf(f, "</td><td class=\"l\">%s</td></tr>\n", unit);
}

static void write_summary(FILE *f, const char *card)
{
    const char *accuracy = json_member(card, "accuracy"), *measured = json_member(card, "measured");
    fputs("<div class=\"scroll\"><table "
          "class=\"summary\">\n<tr><th></th><th>float</th><th>quantized</th>"
          "<th class=\"l\"></th></tr>\n",
          f);
    row(f, "top-1", json_member(accuracy, "float_top1"), json_member(accuracy, "top1"), 2, "%");
    row(f, "top-5", json_member(accuracy, "float_top5"), json_member(accuracy, "top5"), 2, "%");
    row(f, "same class as the float model", NULL, json_member(accuracy, "agreement"), 2, "%");
    row(f, "SQNR of the logits", NULL, json_member(accuracy, "logits_sqnr_db"), 2, "dB");
    row(f, "time of an image", json_member(measured, "float_ms_per_image"),
        json_member(measured, "ms_per_image"), 2, "ms");
    fprintf(f, "<tr><td>weights</td><td>–</td><td>%.1f</td><td class=\"l\">kB</td></tr>\n",
            json_read_number(json_member(card, "weight_bytes")) / 1000);
    fputs("</table></div>\n<p class=\"small soft\">Measured with ", f);
    page_text(f, json_member(measured, "isa"));
    fputs(", threads: ", f);
    page_number(f, json_member(measured, "threads"), 0);
    fputs(", images at a time: ", f);
    page_number(f, json_member(measured, "batch"), 0);
    fputs(". Calibration took ", f);
    page_number(f, json_member(measured, "calibration_seconds"), 1);
    fputs(" s.</p>\n", f);
}

static void write_warnings(FILE *f, const char *quantization)
{
    const char *warning = json_first(json_member(quantization, "warnings"));
    fputs("<h2>Warnings</h2>\n", f);
    if (!warning) {
        fputs("<p class=\"soft\">None.</p>\n", f);
        return;
    }
    fputs("<ul class=\"warn\">\n", f);
    for (; warning; warning = json_next(warning)) {
        fputs("<li>", f);
        page_text(f, warning);
        fputs("</li>\n", f);
    }
    fputs("</ul>\n", f);
}

/* ---- sites ---- */

static void write_key(FILE *f)
{
    static const char *const kinds[][2] = {{"image", "pixels"},
                                           {"layernorm", "behind a layer norm"},
                                           {"generic", "queries and contexts"},
                                           {"softmax", "probabilities"},
                                           {"gelu", "behind GELU"}};
    fputs("<p class=\"small soft\">", f);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        fprintf(f, "<span class=\"key\"><i class=\"%s\"></i>%s</span>", kinds[i][0], kinds[i][1]);
    fputs("<span class=\"key\">○ accumulated</span></p>\n", f);
}

/* Without gradients all errors weigh alike, wherever they are. */
static void write_noise(FILE *f, const char *sites)
{
    const char *scores = json_member(json_first(sites), "scores");
    bool weighed = json_is_true(json_member(scores, "loss_by_gradient"));
    fprintf(f,
            "<h2>Noise of every site</h2>\n<p>Bars: the SQNR of a site's output when it alone is "
            "quantized. Circles: that of the input it gets when all sites before it are. Below: "
            "each site's share of %s. Numbers count the blocks.</p>\n",
            weighed ? "the expected rise of the loss"
                    : "the squared errors, which were not weighed by gradients");
    write_key(f);
    page_chart(f, sites);
}

static void write_kind(FILE *f, const char *sites, const char *kind)
{
    fputs("<div class=\"figures\">\n", f);
    for (const char *site = json_first(sites); site; site = json_next(site))
        if (json_equals(json_member(site, "kind"), kind)) page_distribution(f, site);
    fputs("</div>\n", f);
}

static void write_distributions(FILE *f, const char *sites)
{
    fputs("<h2>Probabilities</h2>\n<p>How often values of each magnitude occur, on logarithmic "
          "scales both ways. Bars below show what the codes cover, from the first step to the end "
          "of the range: two for a twin quantizer.</p>\n",
          f);
    write_kind(f, sites, "softmax");
    fputs("<h2>Behind GELU</h2>\n<p>Negative values to the left, positive ones to the right, the "
          "smallest of both in the middle; a range of codes for each sign.</p>\n",
          f);
    write_kind(f, sites, "gelu");
}

static void cell_quantizer(FILE *f, const char *quantizer)
{
    fputs("<td class=\"l\">", f);
    page_text(f, json_member(quantizer, "scheme"));
    putc(' ', f);
    page_number(f, json_member(quantizer, "bits"), 0);
    fputs(", ", f);
    page_text(f, json_member(quantizer, "granularity"));
    fputs("</td>", f);
}

static void cell_number(FILE *f, const char *value, int decimals)
{
    fputs("<td>", f);
    page_number(f, value, decimals);
    fputs("</td>", f);
}

static void cell_percent(FILE *f, const char *share)
{
    double value = json_read_number(share);
    if (isnan(value))
        fputs("<td>–</td>", f);
    else
        fprintf(f, "<td>%.2f</td>", 100 * value);
}

static void write_site(FILE *f, const char *site)
{
    const char *scores = json_member(site, "scores");
    fputs("<tr><td>", f);
    page_text(f, json_member(site, "name"));
    fputs("</td><td class=\"l\">", f);
    page_text(f, json_member(site, "kind"));
    fputs("</td>", f);
    cell_quantizer(f, json_member(site, "input"));
    cell_quantizer(f, json_member(site, "second"));
    cell_number(f, json_member(scores, "sqnr_db"), 1);
    cell_number(f, json_member(json_member(site, "accumulated"), "sqnr_db"), 1);
    cell_number(f, json_member(scores, "cosine"), 5);
    cell_percent(f, json_member(scores, "saturated_input"));
    cell_percent(f, json_member(scores, "saturated_second"));
    cell_number(f, json_member(site, "weight_bytes"), 0);
    fputs("</tr>\n", f);
}

static void write_sites(FILE *f, const char *sites)
{
    fputs("<h2>All sites</h2>\n<div class=\"scroll\"><table class=\"sites\">\n<tr><th>site</th>"
          "<th class=\"l\">input</th><th class=\"l\">its codes</th><th class=\"l\">weights, or "
          "right operand</th><th>SQNR dB</th><th>accum. dB</th><th>cosine</th><th>sat. input "
          "%</th><th>sat. second %</th><th>bytes</th></tr>\n",
          f);
    for (const char *site = json_first(sites); site; site = json_next(site)) write_site(f, site);
    fputs("</table></div>\n", f);
}

/* ---- how ---- */

static void write_recipe(FILE *f, const char *quantization)
{
    static const char *const keys[] = {"metric",  "range",    "twin_softmax", "twin_gelu", "input",
                                       "weights", "rounding", "bias",         "equalize"};
    const char *recipe = json_first(json_member(quantization, "recipes"));
    fputs("<h2>How it was chosen</h2>\n<dl>\n", f);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = json_member(recipe, keys[i]);
        fprintf(f, "<dt>%s</dt><dd>", keys[i]);
        if (value && *value == '"')
            page_text(f, value);
        else
            page_number(f, value, 2);
        fputs("</dd>\n", f);
    }
    fputs("</dl>\n", f);
}

static void write_footer(FILE *f, const char *card)
{
    fputs("<footer><p>Weights: SHA-256 <span style=\"overflow-wrap:anywhere\">", f);
    page_text(f, json_member(json_member(card, "model"), "sha256"));
    fputs("</span>. Between two products numbers are codes; the inside of layer norm, softmax and "
          "GELU, and the stream that the blocks add to, are float32. All settings are in the card "
          "(--card).</p></footer>\n</body>\n</html>\n",
          f);
}

void page_write(FILE *f, const char *card)
{
    const char *quantization = json_member(card, "quantization");
    const char *sites = json_member(quantization, "sites");
    write_head(f, card);
    write_summary(f, card);
    write_warnings(f, quantization);
    write_noise(f, sites);
    write_distributions(f, sites);
    write_recipe(f, quantization);
    write_sites(f, sites);
    write_footer(f, card);
}
