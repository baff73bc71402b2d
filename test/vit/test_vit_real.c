/*
 * The trained ViT-Tiny: its float logits equal the oracle's, and its quantized ones are the same on
 * every instruction set. Reads the folder named by QVIT_TEST_DATA; skipped without it.
 */
#define _POSIX_C_SOURCE 200809L

#include "run_eval.h"

#include <math.h>

/* The arguments that name the model and the images, or SKIP. */
static const char *common(void)
{
    static char text[1000];
    const char *data = getenv("QVIT_TEST_DATA");
    if (!data || !*data) SKIP("QVIT_TEST_DATA names no folder with the model");
    snprintf(text, sizeof text,
             "--model %s/vit_tiny_patch16_224.safetensors --images %s/val1300.images.npy "
             "--labels %s/val1300.labels.npy",
             data, data, data);
    return text;
}

/* The first n rows of the oracle's logits. */
static npy oracle_logits(size_t n)
{
    char path[RUN_TEXT], text[240];
    snprintf(path, sizeof path, "%s/val1300.logits.npy", getenv("QVIT_TEST_DATA"));
    npy logits;
    if (npy_open(path, &logits, text, sizeof text)) FAIL("%s", text);
    CHECK(logits.rank == 2 && logits.dtype == NPY_F32 && logits.dims[0] >= n);
    return logits;
}

static void float_logits_equal_the_oracles(void)
{
    enum { IMAGES = 16 };
    run_ok(command_eval, "%s --n %d --logits %s", common(), IMAGES, run_path("f.npy"));
    npy ours = run_fetch("f.npy"), oracle = oracle_logits(IMAGES);
    CHECK_EQ(ours.dims[1], oracle.dims[1]);
    const float *a = ours.data, *b = oracle.data;
    double worst = 0, largest = 0;
    for (size_t i = 0; i < ours.count; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    npy_close(&ours);
    npy_close(&oracle);
    printf("      off by %.2e of the largest logit\n", worst / largest);
    CHECK(worst <= 1e-4 * largest);
}

/* Few images, for speed: what all 1300 say is for .ci/run. */
static void check_quantized(const char *settings, double agreement_bound)
{
    enum { IMAGES = 12 };
    char arguments[RUN_TEXT];
    snprintf(arguments, sizeof arguments,
             "%s --n %d --calib %s/calib1000.images.npy --calib-n 8 %s", common(), IMAGES,
             getenv("QVIT_TEST_DATA"), settings);
    npy quantized = run_bit_identical(arguments), floats = oracle_logits(IMAGES);
    const size_t classes = quantized.dims[1];
    double agreement = eval_agreement(floats.data, quantized.data, IMAGES, classes);
    double sqnr = eval_sqnr_db(floats.data, quantized.data, IMAGES * classes);
    npy_close(&quantized);
    npy_close(&floats);
    printf("      minmax %s: agreement %.0f %%, %.1f dB\n", settings, agreement, sqnr);
    CHECK(agreement >= agreement_bound);
}

static void minmax_is_bit_identical(void) { check_quantized("", 60); }

static void twins_are_bit_identical(void) { check_quantized("--set twin=softmax,gelu", 60); }

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    run_begin();
    RUN(float_logits_equal_the_oracles);
    RUN(minmax_is_bit_identical);
    RUN(twins_are_bit_identical);
    rmdir(run_folder);
    return test_end();
}
