/* Cards and pages of a small ViT of random weights: the same bytes again, and whole HTML. */
#define _POSIX_C_SOURCE 200809L

#include "json_reader.h"
#include "run_eval.h"

enum { IMAGES = 12, DEPTH = 2, SITES = 2 + 6 * DEPTH, ROOM = 1 << 21 };

static const char *common(void)
{
    static char text[400];
    if (*text) return text;
    run_ok(command_random,
           "--out %s --images %s --labels %s --n %d --width 64 --depth %d --classes 5 --size 16 "
           "--patch 8 --seed %d",
           run_path("model"), run_path("images"), run_path("labels"), IMAGES, DEPTH,
           (int)test_below(1000000));
    snprintf(text, sizeof text, "--model %s --images %s --labels %s --calib %s --calib-n 6",
             run_path("model"), run_path("images"), run_path("labels"), run_path("images"));
    return text;
}

static char *fetch_text(const char *name, char *out)
{
    FILE *file = fopen(run_path(name), "rb");
    if (!file) FAIL("%s was not written", name);
    out[fread(out, 1, ROOM - 1, file)] = '\0';
    fclose(file);
    unlink(run_path(name));
    return out;
}

/* Whether two cards differ in "measured" alone. */
static bool same_but_measured(char *a, char *b)
{
    char *from_a = strstr(a, "\"measured\""), *from_b = strstr(b, "\"measured\"");
    CHECK(from_a && from_b);
    bool head = from_a - a == from_b - b && !memcmp(a, b, (size_t)(from_a - a));
    return head && !strcmp(strstr(from_a, "\"quantization\""), strstr(from_b, "\"quantization\""));
}

static void cards_are_the_same_again(void)
{
    static char first[ROOM], again[ROOM];
    run_ok(command_eval, "%s --bits w6a6 --threads 1 --card %s", common(), run_path("c.json"));
    fetch_text("c.json", first);
    run_ok(command_eval, "%s --bits w6a6 --threads 2 --batch 5 --card %s", common(),
           run_path("c.json"));
    CHECK(same_but_measured(first, fetch_text("c.json", again)));
    const char *quantization = json_member(first, "quantization");
    const char *sites = json_member(quantization, "sites");
    CHECK(json_equals(json_member(quantization, "format"), "qvit card"));
    CHECK_EQ(json_length(sites), SITES);
    size_t known = 0;
    for (const char *s = json_first(sites); s; s = json_next(s))
        known += json_read_number(json_member(json_member(s, "accumulated"), "sqnr_db")) > 0;
    CHECK_EQ(known, SITES - 1 - DEPTH); /* all but the pixels and the probabilities */
}

/* Every tag that is opened is closed, in order; void ones apart. */
static void check_tags(const char *html)
{
    char open[64][16];
    size_t depth = 0;
    for (const char *at = strchr(html, '<'); at; at = strchr(at + 1, '<')) {
        char tag[16] = "";
        bool closes = at[1] == '/';
        sscanf(at + 1 + closes, "%15[a-z0-9]", tag);
        if (!*tag || !strcmp(tag, "meta")) continue;
        if (closes) {
            if (!depth || strcmp(open[--depth], tag)) FAIL("</%s> closes nothing", tag);
        } else {
            CHECK(depth < 64);
            strcpy(open[depth++], tag);
        }
    }
    CHECK_EQ(depth, 0);
}

static size_t count(const char *text, const char *part)
{
    size_t found = 0;
    for (; (text = strstr(text, part)) != NULL; text++) found++;
    return found;
}

static void check_page(const char *name)
{
    static char html[ROOM];
    fetch_text(name, html);
    CHECK(!strncmp(html, "<!DOCTYPE html>", 15));
    check_tags(html);
    CHECK_EQ(count(html, "<rect class=\"bar "), SITES);
    CHECK_EQ(count(html, "<rect class=\"loss "), SITES);
    CHECK_EQ(count(html, "<figure>"), 2 * DEPTH);
    CHECK(!count(html, "nan") && !count(html, "inf\"") && !count(html, "<script"));
}

static void pages_are_whole(void)
{
    run_ok(command_eval, "%s --html %s", common(), run_path("p.html"));
    check_page("p.html");
    run_ok(command_eval, "%s --bits w2a2 --set twin=softmax,gelu --html %s", common(),
           run_path("p.html"));
    check_page("p.html");
}

static void several_entries_have_files_of_their_own(void)
{
    run_ok(command_eval, "%s --recipe minmax,percentile --html %s --card %s", common(),
           run_path("p.html"), run_path("card"));
    check_page("p-minmax-w8a8.html");
    check_page("p-percentile-w8a8.html");
    static char text[ROOM];
    CHECK(
        json_equals(json_member(fetch_text("card-percentile-w8a8", text), "recipe"), "percentile"));
    fetch_text("card-minmax-w8a8", text);
}

static void refuses_bad_paths(void)
{
    static const char *const options[] = {"--card", "--html"};
    for (int i = 0; i < 2; i++) {
        char text[RUN_TEXT];
        qvit_error error;
        snprintf(text, sizeof text, "%s %s %s/no/file", common(), options[i], run_folder);
        CHECK_EQ(run_words(command_eval, text, &error), QVIT_ERR_IO);
        CHECK(strstr(error.text, run_folder));
    }
}

/* Half-written files would be in the way. */
static void leaves_nothing(void)
{
    unlink(run_path("model"));
    unlink(run_path("images"));
    unlink(run_path("labels"));
    CHECK_EQ(rmdir(run_folder), 0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    run_begin();
    RUN(cards_are_the_same_again);
    RUN(pages_are_whole);
    RUN(several_entries_have_files_of_their_own);
    RUN(refuses_bad_paths);
    test_run.only = NULL; /* whatever ran */
    RUN(leaves_nothing);
    return test_end();
}
