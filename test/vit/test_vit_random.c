/* A small ViT of random weights through the whole host: floats, calibration, codes, reports. */
#define _POSIX_C_SOURCE 200809L

#include "random_model.h"
#include "run_eval.h"

#include <math.h>

enum { IMAGES = 20, CLASSES = 10 };

/* The arguments of every evaluation. The files are made once, from the run's seed. */
static const char *common(void)
{
    static char text[400];
    if (*text) return text;
    run_ok(command_random,
           "--out %s --images %s --labels %s --n %d --width 128 --depth 3 --classes %d --size 32 "
           "--patch 8 --seed %d",
           run_path("model"), run_path("images"), run_path("labels"), IMAGES, CLASSES,
           (int)test_below(1000000));
    snprintf(text, sizeof text, "--model %s --images %s --labels %s", run_path("model"),
             run_path("images"), run_path("labels"));
    return text;
}

/* ---- the same seed, the same bytes ---- */

static void random_files_repeat(void)
{
    const random_sizes sizes = {.width = 64, .depth = 1, .classes = 2, .image = 8, .patch = 4};
    char hex[3][SHA256_HEX];
    for (uint64_t i = 0; i < 3; i++) {
        qvit_error error;
        CHECK_EQ(random_images_write(run_path("again"), &sizes, 3, i / 2, &error), QVIT_OK);
        npy images = run_fetch("again");
        sha256 hash;
        sha256_begin(&hash);
        sha256_add(&hash, images.data, images.count);
        sha256_end(&hash, hex[i]);
        npy_close(&images);
    }
    CHECK_STR(hex[0], hex[1]);
    CHECK(strcmp(hex[0], hex[2]));
}

/* ---- the float model ---- */

static npy float_logits(const char *arguments)
{
    run_ok(command_eval, "%s %s --logits %s", common(), arguments, run_path("f.npy"));
    return run_fetch("f.npy");
}

static void float_logits_hardly_depend_on_the_isa(void)
{
    npy best = float_logits("--threads 1"), scalar = float_logits("--threads 2 --isa scalar");
    CHECK_EQ(best.rank, 2);
    CHECK_EQ(best.dims[0], IMAGES);
    CHECK_EQ(best.dims[1], CLASSES);
    double sqnr = eval_sqnr_db(best.data, scalar.data, best.count);
    npy_close(&best);
    npy_close(&scalar);
    CHECK(sqnr > 80);
}

static void float_logits_do_not_depend_on_batch_and_threads(void)
{
    npy one = float_logits("--threads 1 --batch 1"), many = float_logits("--threads 3 --batch 7");
    bool same = !memcmp(one.data, many.data, one.count * sizeof(float));
    npy_close(&one);
    npy_close(&many);
    CHECK(same);
}

/* ---- the quantized model ---- */

static void check_quantized(const char *recipe, double sqnr_bound)
{
    char arguments[RUN_TEXT];
    npy floats = float_logits("");
    snprintf(arguments, sizeof arguments, "%s --calib %s --calib-n 12 --calib-first 3 %s", common(),
             run_path("images"), recipe);
    npy quantized = run_bit_identical(arguments);
    double sqnr = eval_sqnr_db(floats.data, quantized.data, floats.count);
    npy_close(&floats);
    npy_close(&quantized);
    printf("      %s: %.1f dB\n", recipe, sqnr);
    CHECK(sqnr > sqnr_bound);
}

static void minmax_is_bit_identical(void) { check_quantized("--recipe minmax", 20); }

static void twins_are_bit_identical(void)
{
    check_quantized("--recipe mse --set twin=softmax,gelu", 20);
}

static void symmetric_is_bit_identical(void)
{
    check_quantized("--recipe cosine --set input=symmetric --set weights=layer", 18);
}

static void equalized_is_bit_identical(void)
{
    check_quantized("--recipe percentile --set equalize=0.5", 18);
}

static void six_bits_are_bit_identical(void) { check_quantized("--recipe mse --bits w6a6", 12); }

static void four_bit_weights_are_bit_identical(void)
{
    check_quantized("--recipe mse --bits w4a8", 10);
}

/* ---- calibration in parts ---- */

static void sublayers_are_bit_identical(void)
{
    check_quantized("--recipe ptq-sl --granularity k:16 --act-chunks 4 --reorder search", 20);
}

/* Calibrates as the arguments say and saves what was observed; the quantized logits. */
static npy calibrated(const char *arguments, const char *file)
{
    run_ok(command_eval,
           "%s --recipe mse --set candidates=4 --save-calibration %s %s "
           "--quantized-logits %s",
           common(), run_path(file), arguments, run_path("q.npy"));
    return run_fetch("q.npy");
}

static bool files_equal(const char *one, const char *other)
{
    FILE *a = fopen(run_path(one), "rb"), *b = fopen(run_path(other), "rb");
    CHECK(a && b);
    int x, y;
    do {
        x = getc(a), y = getc(b);
    } while (x == y && x != EOF);
    fclose(a), fclose(b);
    return x == y;
}

/* In one go; in two processes and merged; and one process going on where another stopped. */
static void calibrations_may_come_in_parts(void)
{
    static const struct {
        const char *file, *images; /* NULL: none */
        const char *loads[2];
    } runs[] = {
        {"whole", "--calib-first 2 --calib-n 11", {0}},
        {"a", "--calib-first 2 --calib-n 4 --batch 3", {0}},
        {"b", "--calib-first 6 --calib-n 7 --threads 1", {0}},
        {"merged", NULL, {"a", "b"}},
        {"again", "--calib-n 0", {"b", "a"}},
        {"resumed", "--calib-first 6 --calib-n 7", {"a", NULL}},
    };
    enum { RUNS = sizeof runs / sizeof runs[0], APART = 3 };
    npy logits[RUNS];
    for (size_t i = 0; i < RUNS; i++) {
        char text[RUN_TEXT] = "";
        size_t used = 0;
        if (runs[i].images)
            used = (size_t)sprintf(text, "--calib %s %s ", run_path("images"), runs[i].images);
        for (int l = 0; l < 2 && runs[i].loads[l]; l++)
            used +=
                (size_t)sprintf(text + used, "--load-calibration %s ", run_path(runs[i].loads[l]));
        logits[i] = calibrated(text, runs[i].file);
    }
    bool same = true;
    for (size_t i = APART; i < RUNS; i++) {
        same = same && files_equal("whole", runs[i].file);
        same = same && !memcmp(logits[0].data, logits[i].data, logits[0].count * sizeof(float));
    }
    for (size_t i = 0; i < RUNS; i++) npy_close(&logits[i]), unlink(run_path(runs[i].file));
    CHECK(same);
}

/* ---- results ---- */

static char *read_text(const char *path, size_t size, char *out)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t length = fread(out, 1, size - 1, file);
    fclose(file);
    out[length] = '\0';
    return out;
}

static void check_json(const char *arguments, char first, const char *const *needed, size_t count)
{
    static char text[200000];
    run_ok(command_eval, "%s --n 4 %s --json %s", common(), arguments, run_path("json"));
    read_text(run_path("json"), sizeof text, text);
    unlink(run_path("json"));
    CHECK_EQ(text[0], first);
    for (size_t i = 0; i < count; i++) {
        if (!strstr(text, needed[i])) FAIL("no %s in %s", needed[i], text);
    }
}

static void writes_json(void)
{
    static const char *const needed[] = {
        "\"model\"",
        "\"n\"",
        "\"fp32\"",
        "\"top1\"",
        "\"top5\"",
        "\"ms_per_image\"",
        "\"quantized\"",
        "\"recipe\"",
        "\"w8a8\"",
        "\"agreement\"",
        "\"logits_sqnr_db\"",
        "\"weight_bytes\"",
        "\"packed_bytes\"",
        "\"kernels\"",
        "\"blocks.2.attn.qkv gemm_",
        "\"logits_sha256\"",
        "\"calibration\"",
        "\"images\"",
        "\"seconds\"",
        "\"peak_bytes\"",
    };
    char one[160], several[300];
    snprintf(one, sizeof one, "--calib %s --calib-n 4", run_path("images"));
    snprintf(several, sizeof several, "%s --recipe minmax,percentile --bits w8a8,w4a8", one);
    check_json("", '{', needed, 6);
    check_json(one, '{', needed, sizeof needed / sizeof needed[0]);
    check_json(several, '[', needed, sizeof needed / sizeof needed[0]);
}

/* The digest of the last entry. */
static void last_digest(const char *arguments, char digest[65])
{
    static char text[200000];
    run_ok(command_eval,
           "%s --n 4 --calib %s --calib-n 4 --granularity k:16 --reorder search %s --json %s",
           common(), run_path("images"), arguments, run_path("d.json"));
    read_text(run_path("d.json"), sizeof text, text);
    unlink(run_path("d.json"));
    const char *found = NULL;
    for (char *at = text; (at = strstr(at, "\"logits_sha256\": \"")) != NULL; at++) found = at;
    CHECK(found != NULL);
    snprintf(digest, 65, "%s", found + strlen("\"logits_sha256\": \""));
}

/* What an entry of a run found, and the orders in which it wants channels, is nothing to the next. */
static void entries_do_not_see_each_other(void)
{
    char alone[65], second[65];
    last_digest("--recipe best --bits w4a4", alone);
    last_digest("--recipe ptq-sl,best --bits w4a4", second);
    CHECK_STR(second, alone);
}

static void writes_traces(void)
{
    static const char *const names[] = {"x",    "ln1", "qkv", "scores", "probs", "context",
                                        "proj", "ln2", "fc1", "gelu",   "fc2",   "y"};
    run_ok(command_eval, "%s --n 1 --trace 1 %s", common(), run_path("trace"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "trace/%s.npy", names[i]);
        npy tensor = run_fetch(name);
        bool whole = tensor.rank >= 3 && tensor.dims[0] == 1 && tensor.dtype == NPY_F32;
        npy_close(&tensor);
        CHECK(whole);
    }
    CHECK_EQ(rmdir(run_path("trace")), 0);
}

/* ---- bad command lines and data ---- */

/* Common arguments are given unless the text brings a --model of its own. */
static void check_fails(const char *arguments, qvit_status expected, const char *words)
{
    char text[RUN_TEXT];
    qvit_error error;
    snprintf(text, sizeof text, "%s %s", strstr(arguments, "--model") ? "" : common(), arguments);
    qvit_status status = run_words(command_eval, text, &error);
    if (status != expected) FAIL("%s: status %d, not %d", arguments, (int)status, (int)expected);
    if (!strstr(error.text, words)) FAIL("%s: no \"%s\" in \"%s\"", arguments, words, error.text);
}

static void refuses_bad_arguments(void)
{
    static const struct {
        const char *arguments, *words;
    } bad[] = {
        {"--model x", "--images"},
        {"--nonsense", "\"--nonsense\""},
        {"--n", "--n needs"},
        {"--n 0", "--n takes"},
        {"--n 2x", "--n takes"},
        {"--n 99999999999999999999", "--n takes"},
        {"--n 21", "fewer than --n 21"},
        {"--batch 0", "--batch takes"},
        {"--batch -1", "--batch takes"},
        {"--threads 0", "--threads takes"},
        {"--isa sse9", "\"sse9\""},
        {"--heads 3", "3 heads"},
        {"--mean 1,2", "mean"},
        {"--recipe minmax", "--calib is needed"},
        {"--set twin=gelu", "--calib is needed"},
        {"--save-calibration s", "--calib is needed"},
        {"--trace 3 /tmp", "no block 3"},
        {"--granularity tensor", "--granularity takes"},
        {"--granularity k:0", "--granularity takes"},
        {"--granularity sublayer:4", "--granularity takes"},
        {"--granularity sublayer:4x4x4", "--granularity takes"},
        {"--act-chunks 0", "--act-chunks takes"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_fails(bad[i].arguments, QVIT_ERR_ARGUMENT, bad[i].words);
}

static void refuses_bad_calibrations(void)
{
    static const struct {
        const char *arguments, *words;
    } bad[] = {
        {"--recipe magic", "\"magic\""},
        {"--recipe minmax,", "\"\""},
        {"--bits w9a8", "w9a8"},
        {"--bits w8", "\"w8\""},
        {"--bits w8a8,w1a8", "w1a8"},
        {"--calib-n 0", "--load-calibration"},
        {"--calib-n 21", "20 images"},
        {"--calib-n 4 --calib-first 17", "20 images"},
        {"--calib-n 2 --set colour=blue", "colour"},
        {"--calib-n 2 --set twin=maybe", "twin"},
        {"--recipe mse,cosine --quantized-logits q", "one recipe"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char arguments[RUN_TEXT];
        snprintf(arguments, sizeof arguments, "--calib %s %s", run_path("images"),
                 bad[i].arguments);
        check_fails(arguments, QVIT_ERR_ARGUMENT, bad[i].words);
    }
}

static void refuses_bad_files(void)
{
    static const struct {
        const char *format; /* with the folder */
        qvit_status status;
    } bad[] = {
        {"--images %s/missing", QVIT_ERR_FORMAT}, {"--images %s/labels", QVIT_ERR_SHAPE},
        {"--images %s/model", QVIT_ERR_FORMAT},   {"--labels %s/images", QVIT_ERR_SHAPE},
        {"--labels %s/missing", QVIT_ERR_FORMAT}, {"--calib %s/labels", QVIT_ERR_SHAPE},
        {"--json %s/no/j", QVIT_ERR_IO},          {"--logits %s/no/l", QVIT_ERR_IO},
        {"--trace 0 %s/no/t", QVIT_ERR_IO},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char arguments[RUN_TEXT];
        snprintf(arguments, sizeof arguments, bad[i].format, run_folder);
        check_fails(arguments, bad[i].status, run_folder);
    }
}

static void refuses_bad_calibration_files(void)
{
    char text[RUN_TEXT];
    run_ok(command_eval, "%s --calib %s --calib-n 2 --save-calibration %s", common(),
           run_path("images"), run_path("state"));
    snprintf(text, sizeof text, "--load-calibration %s --load-calibration %s", run_path("state"),
             run_path("state"));
    check_fails(text, QVIT_ERR_STATE, "twice");
    snprintf(text, sizeof text, "--load-calibration %s --calib %s --calib-n 1", run_path("state"),
             run_path("images"));
    check_fails(text, QVIT_ERR_STATE, "twice");
    snprintf(text, sizeof text, "--heads 4 --load-calibration %s", run_path("state"));
    check_fails(text, QVIT_ERR_STATE, "another model: number of heads 2, not 4");
    snprintf(text, sizeof text, "--load-calibration %s", run_path("labels"));
    check_fails(text, QVIT_ERR_FORMAT, "not the state");
    snprintf(text, sizeof text, "--load-calibration %s", run_path("missing"));
    check_fails(text, QVIT_ERR_IO, run_folder);
    snprintf(text, sizeof text, "--load-calibration %s --save-calibration %s/no/s",
             run_path("state"), run_folder);
    check_fails(text, QVIT_ERR_IO, run_folder);
    unlink(run_path("state"));
}

static void refuses_labels_outside_the_classes(void)
{
    qvit_error error;
    const random_sizes more = {.classes = 1000};
    char arguments[RUN_TEXT];
    CHECK_EQ(random_labels_write(run_path("more"), &more, IMAGES, 1, &error), QVIT_OK);
    snprintf(arguments, sizeof arguments, "--labels %s", run_path("more"));
    check_fails(arguments, QVIT_ERR_VALUE, "10 classes");
    unlink(run_path("more"));
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
    RUN(random_files_repeat);
    RUN(float_logits_hardly_depend_on_the_isa);
    RUN(float_logits_do_not_depend_on_batch_and_threads);
    RUN(minmax_is_bit_identical);
    RUN(twins_are_bit_identical);
    RUN(symmetric_is_bit_identical);
    RUN(equalized_is_bit_identical);
    RUN(six_bits_are_bit_identical);
    RUN(four_bit_weights_are_bit_identical);
    RUN(sublayers_are_bit_identical);
    RUN(calibrations_may_come_in_parts);
    RUN(writes_json);
    RUN(entries_do_not_see_each_other);
    RUN(writes_traces);
    RUN(refuses_bad_arguments);
    RUN(refuses_bad_calibrations);
    RUN(refuses_bad_files);
    RUN(refuses_bad_calibration_files);
    RUN(refuses_labels_outside_the_classes);
    test_run.only = NULL; /* whatever ran */
    RUN(leaves_nothing);
    return test_end();
}
