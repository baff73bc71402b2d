/* Budgets of the host: widths of weights and twins, chosen for a small ViT of random weights. */
#define _POSIX_C_SOURCE 200809L

#include "mixed.h"
#include "run_eval.h"

enum { DEPTH = 2, LINEAR_SITES = 4 * DEPTH + 2, IMAGES = 8, JSON_TEXT = 50000 };

/* The arguments of every evaluation. The files are made once, from the run's seed. */
static const char *common(void)
{
    static char text[400];
    if (*text) return text;
    run_ok(command_random,
           "--out %s --images %s --labels %s --n %d --width 64 --depth %d --classes 10 --size 32 "
           "--patch 8 --seed %d",
           run_path("model"), run_path("images"), run_path("labels"), IMAGES, DEPTH,
           (int)test_below(1000000));
    snprintf(text, sizeof text, "--model %s --images %s --labels %s --calib %s --calib-n %d",
             run_path("model"), run_path("images"), run_path("labels"), run_path("images"), IMAGES);
    return text;
}

/* ---- what a report says ---- */

/* What is looked at of one evaluation. */
struct outcome {
    long bytes, least, most;
    int widths[9]; /* layers with weights of so many bits */
    int plain, twin;
    char logits[SHA256_HEX];
};

/* The text behind `key` and a colon, from the first place at or behind `from`. */
static const char *value_of(const char *from, const char *key)
{
    char quoted[60];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *found = from ? strstr(from, quoted) : NULL;
    return found ? found + strlen(quoted) : NULL;
}

static long number_of(const char *from, const char *key)
{
    const char *value = value_of(from, key);
    if (!value) FAIL("no %s in the report", key);
    return strtol(value, NULL, 10);
}

/* Visits the members of an object that stands in lines. */
static void count_members(const char *object, struct outcome *out)
{
    for (const char *p = object; p && *p != '}'; p++) {
        if (*p != ':') continue;
        if (p[2] == 't') out->twin++;
        if (p[2] == 'f') out->plain++;
        if (p[2] >= '2' && p[2] <= '8') out->widths[p[2] - '0']++;
    }
}

static struct outcome evaluate(const char *arguments)
{
    static char text[JSON_TEXT];
    struct outcome out = {0};
    run_ok(command_eval, "%s --n 2 %s --json %s", common(), arguments, run_path("json"));
    FILE *file = fopen(run_path("json"), "rb");
    CHECK(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    unlink(run_path("json"));
    out.bytes = number_of(text, "weight_bytes");
    const char *bill = value_of(value_of(text, "budget"), "weight_bytes");
    if (bill) out.least = number_of(bill, "least"), out.most = number_of(bill, "most");
    count_members(value_of(text, "weight_bits"), &out);
    count_members(value_of(text, "twins"), &out);
    for (const char *p = text; (p = value_of(p, "logits_sha256")) != NULL;)
        snprintf(out.logits, sizeof out.logits, "%s", p + 1); /* of the last entry */
    return out;
}

static void check_fails(const char *arguments, const char *words)
{
    char text[RUN_TEXT];
    qvit_error error;
    snprintf(text, sizeof text, "%s %s", common(), arguments);
    CHECK_EQ(run_words(command_eval, text, &error), QVIT_ERR_ARGUMENT);
    if (!strstr(error.text, words)) FAIL("%s: no \"%s\" in \"%s\"", arguments, words, error.text);
}

static struct outcome with_budget(const char *arguments, long bytes)
{
    char text[200];
    snprintf(text, sizeof text, "%s --budget-bytes %ld", arguments, bytes);
    return evaluate(text);
}

/* ---- bytes ---- */

/* From one end of what can be spent to the other; the ends are the uniform models themselves. */
static void check_budgets(const char *recipe)
{
    char text[200];
    struct outcome uniform[9];
    for (int bits = 4; bits <= 8; bits += 4) {
        snprintf(text, sizeof text, "%s --bits w%da8", recipe, bits);
        uniform[bits] = evaluate(text);
    }
    struct outcome all = with_budget(recipe, 1000000000);
    struct outcome least = with_budget(recipe, all.least);
    CHECK_EQ(all.least, uniform[4].bytes);
    CHECK_EQ(all.most, uniform[8].bytes);
    CHECK_EQ(least.widths[4], LINEAR_SITES);
    CHECK_STR(least.logits, uniform[4].logits);
    CHECK(all.bytes <= uniform[8].bytes);
    CHECK_EQ(all.widths[4] + all.widths[6] + all.widths[8], LINEAR_SITES);
    if (all.widths[8] == LINEAR_SITES) CHECK_STR(all.logits, uniform[8].logits);
    for (int i = 0; i < 3; i++) {
        long budget = all.least + (long)test_below((uint32_t)(all.most - all.least));
        struct outcome some = with_budget(recipe, budget);
        CHECK(some.bytes <= budget && some.bytes >= all.least);
        CHECK_EQ(some.widths[4] + some.widths[6] + some.widths[8], LINEAR_SITES);
    }
    snprintf(text, sizeof text, "%s --budget-bytes %ld", recipe, all.least - 1);
    check_fails(text, "the least possible is");
}

static void keeps_to_budgets(void) { check_budgets("--recipe minmax"); }

static void keeps_to_budgets_in_order(void) { check_budgets("--recipe best --set order=prefix"); }

/* A layer of a random model may lose a trifle less with 6 bits; by minmax none does. */
static void large_budgets_give_eight_bits(void)
{
    CHECK_EQ(with_budget("", 1000000000).widths[8], LINEAR_SITES);
}

static void takes_the_size_of_a_width(void)
{
    struct outcome uniform = evaluate("--bits w6a8"), mixed = evaluate("--budget-bytes w6");
    CHECK(mixed.bytes <= uniform.bytes);
    CHECK(mixed.bytes > mixed.least);
    CHECK_EQ(evaluate("--budget-bytes w3").widths[4], LINEAR_SITES);
    CHECK_EQ(evaluate("--bits w6a8 --budget-bytes w8").widths[8], 0);
}

static void chooses_the_same_twice(void)
{
    const char *arguments = "--recipe mse --set candidates=8 --budget-bytes w6 --pareto";
    struct outcome one = evaluate(arguments), other = evaluate(arguments);
    CHECK(!memcmp(one.widths, other.widths, sizeof one.widths));
    CHECK_STR(one.logits, other.logits);
}

static void takes_nuclear_norms(void)
{
    struct outcome mixed = evaluate("--budget-bytes w6 --set sensitivity=nuclear");
    CHECK_EQ(mixed.widths[4] + mixed.widths[6] + mixed.widths[8], LINEAR_SITES);
    CHECK(mixed.bytes <= evaluate("--bits w6a8").bytes);
}

/* A calibration that is loaded brings no images to measure with: what widths lose is then what the
 * calibrator expects, as with a setting "sensitivity". */
static void expects_without_images(void)
{
    char text[200], asked[200];
    snprintf(text, sizeof text, "--budget-bytes w6 --calib-n 0 --load-calibration %s",
             run_path("calibration"));
    snprintf(asked, sizeof asked,
             "--budget-bytes w6 --set sensitivity=gradient --save-calibration %s",
             run_path("calibration"));
    struct outcome shown = evaluate(asked), loaded = evaluate(text);
    CHECK_EQ(loaded.widths[4] + loaded.widths[6] + loaded.widths[8], LINEAR_SITES);
    CHECK_STR(loaded.logits, shown.logits);
    unlink(run_path("calibration"));
}

/* What a recipe leaves in the calibrator must not show in what the next one chooses. */
static void recipes_do_not_disturb_each_other(void)
{
    static const char *const recipes[] = {"minmax", "best"};
    struct outcome alone[2];
    for (int i = 0; i < 2; i++) {
        char text[100];
        snprintf(text, sizeof text, "--recipe %s --budget-bytes w6", recipes[i]);
        alone[i] = evaluate(text);
    }
    CHECK_STR(evaluate("--recipe minmax,best --budget-bytes w6").logits, alone[1].logits);
    CHECK_STR(evaluate("--recipe best,minmax --budget-bytes w6").logits, alone[0].logits);
    /* easyquant is shown what is behind a quantized prefix */
    struct outcome cosine = evaluate("--recipe cosine --set candidates=8");
    CHECK_STR(evaluate("--recipe easyquant,cosine --set candidates=8").logits, cosine.logits);
}

/* ---- time ---- */

static void chooses_twins(void)
{
    struct outcome mixed = evaluate("--recipe minmax --budget-ms 100000 --pareto");
    CHECK_EQ(mixed.plain + mixed.twin, 2 * DEPTH);
    CHECK_EQ(mixed.bytes, evaluate("").bytes);
    mixed =
        evaluate("--recipe best --budget-ms 100000 --budget-bytes w6 --set sensitivity=nuclear");
    CHECK_EQ(mixed.plain + mixed.twin, 2 * DEPTH);
    CHECK_EQ(mixed.widths[4] + mixed.widths[6] + mixed.widths[8], LINEAR_SITES);
    check_fails("--budget-ms 0.000001", "the least possible is");
}

/* ---- command lines ---- */

static void refuses_bad_budgets(void)
{
    static const struct {
        const char *arguments, *words;
    } bad[] = {
        {"--budget-bytes 0", "\"0\""},
        {"--budget-bytes -1", "\"-1\""},
        {"--budget-bytes 12k", "\"12k\""},
        {"--budget-bytes w9", "\"w9\""},
        {"--budget-bytes w66", "\"w66\""},
        {"--budget-bytes 99999999999999999999", "\"99999999999999999999\""},
        {"--budget-ms 0", "\"0\""},
        {"--budget-ms nan", "\"nan\""},
        {"--budget-ms 1ms", "\"1ms\""},
        {"--bits w3a8 --budget-bytes w6", "4, 6 or 8"},
        {"--calib-n 0 --pareto", "--calib is needed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_fails(bad[i].arguments, bad[i].words);
}

/* Everything that a test made it removed, but for the common files. */
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
    RUN(keeps_to_budgets);
    RUN(keeps_to_budgets_in_order);
    RUN(large_budgets_give_eight_bits);
    RUN(takes_the_size_of_a_width);
    RUN(chooses_the_same_twice);
    RUN(takes_nuclear_norms);
    RUN(expects_without_images);
    RUN(recipes_do_not_disturb_each_other);
    RUN(chooses_twins);
    RUN(refuses_bad_budgets);
    test_run.only = NULL; /* whatever ran */
    RUN(leaves_nothing);
    return test_end();
}
