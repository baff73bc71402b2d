/* Measured losses of widths against a second ViT, in double precision, whose weights the test rounds. */
#define _POSIX_C_SOURCE 200809L

#include "width_losses.h"

#include "random_model.h"
#include "reference_vit.h"
#include "run_eval.h"

enum { IMAGES = 5, DEPTH = 2, SITES = 4 * DEPTH + 2, WIDTHS = 3, MAX_CLASSES = 16 };

static const int32_t widths[WIDTHS] = {4, 6, 8};

static vit_model model;
static npy images;
static qvit_engine *engine;
static size_t sites[SITES];
static vit_linear *layers[SITES];

static const uint8_t *image(size_t number)
{
    return (const uint8_t *)images.data + number * model.image * model.image * VIT_CHANNELS;
}

static void list_sites(void)
{
    size_t count = 0;
    sites[count] = SITE_PATCH_EMBED, layers[count++] = &model.patch_embed;
    for (size_t b = 0; b < DEPTH; b++) {
        vit_block *block = &model.blocks[b];
        sites[count] = site_in_block(b, SITE_QKV), layers[count++] = &block->qkv;
        sites[count] = site_in_block(b, SITE_PROJ), layers[count++] = &block->proj;
        sites[count] = site_in_block(b, SITE_FC1), layers[count++] = &block->fc1;
        sites[count] = site_in_block(b, SITE_FC2), layers[count++] = &block->fc2;
    }
    sites[count] = site_head(&model), layers[count++] = &model.head;
    CHECK_EQ(count, SITES);
}

/* The largest weight of an output lies between two codes, of which it gets the outer one if that is in
 * their range. A positive one's never is, so that there is nothing to guess. */
static void turn_largest(const vit_linear *layer)
{
    const size_t rows = layer->weight.dims[0], cols = layer->weight.dims[1];
    for (size_t row = 0; row < rows; row++) {
        float *w = (float *)layer->weight.data + row * cols;
        size_t largest = 0;
        for (size_t i = 0; i < cols; i++)
            if (fabsf(w[i]) > fabsf(w[largest])) largest = i;
        w[largest] = fabsf(w[largest]);
    }
}

/* A small one of random sizes; every test makes its own. */
static void begin(void)
{
    const random_sizes sizes = {.width = 16 * (1 + test_below(4)),
                                .depth = DEPTH,
                                .classes = 2 + test_below(MAX_CLASSES - 1),
                                .image = 4 * (2 + test_below(3)),
                                .patch = 4};
    const vit_model_options options = {.heads = (size_t)1 << test_below(3)};
    const qvit_engine_options plain = QVIT_ENGINE_OPTIONS_INIT;
    qvit_error error;
    char text[240];
    CHECK_EQ(random_model_write(run_path("model"), &sizes, test_random(), &error), QVIT_OK);
    CHECK_EQ(random_images_write(run_path("images"), &sizes, IMAGES, test_random(), &error),
             QVIT_OK);
    if (vit_model_open(run_path("model"), &options, &model, &error)) FAIL("%s", error.text);
    CHECK_EQ(npy_open(run_path("images"), &images, text, sizeof text), 0);
    CHECK_EQ(qvit_engine_create(&plain, &engine, &error), QVIT_OK);
    unlink(run_path("model"));
    unlink(run_path("images"));
    list_sites();
    for (size_t i = 0; i < SITES; i++) turn_largest(layers[i]);
}

static void end(void)
{
    qvit_engine_destroy(engine);
    npy_close(&images);
    vit_model_close(&model);
}

static void measure(const char *name, size_t first, size_t count, qvit_alternative *out)
{
    const width_judges judges = {.engine = engine,
                                 .options = {.batch = 1 + test_below(3)},
                                 .images = image(first),
                                 .first = first,
                                 .count = count};
    const calibration_recipe recipe = {.recipe = name, .input_bits = 8};
    qvit_error error;
    if (width_losses_measure(&judges, &model, &recipe, sites, SITES, widths, WIDTHS, out, &error))
        FAIL("%s", error.text);
}

/* ---- the truth ---- */

/* Each output's weights to the nearest multiple of a scale that its largest one fixes, as minmax does: that
 * stands half a step beyond the last code. */
static void round_weights(const vit_linear *layer, int32_t bits)
{
    const size_t rows = layer->weight.dims[0], cols = layer->weight.dims[1];
    for (size_t row = 0; row < rows; row++) {
        float *w = (float *)layer->weight.data + row * cols, largest = 0;
        for (size_t i = 0; i < cols; i++) largest = fmaxf(largest, fabsf(w[i]));
        const float last = (float)((1 << (bits - 1)) - 1), scale = largest / (last + 0.5f);
        for (size_t i = 0; i < cols && scale > 0; i++)
            w[i] = scale * fminf(rintf(w[i] / scale), last);
    }
}

/* [IMAGES][classes] */
static void run_reference(double *logits)
{
    const reference_poke none = {.block = SIZE_MAX};
    for (size_t i = 0; i < IMAGES; i++)
        reference_logits(&model, image(i), &none, logits + i * model.classes);
}

static double true_loss(const vit_linear *layer, int32_t bits, const double *logits)
{
    double changed[IMAGES * MAX_CLASSES], noise = 0, energy = 0;
    const size_t bytes = layer->weight.dims[0] * layer->weight.dims[1] * sizeof(float);
    float *kept = malloc(bytes);
    memcpy(kept, layer->weight.data, bytes);
    round_weights(layer, bits);
    run_reference(changed);
    memcpy(layer->weight.data, kept, bytes);
    free(kept);
    for (size_t i = 0; i < IMAGES * model.classes; i++) {
        noise += (changed[i] - logits[i]) * (changed[i] - logits[i]);
        energy += logits[i] * logits[i];
    }
    return noise / energy;
}

static void equal_those_of_a_second_model(void)
{
    qvit_alternative found[SITES * WIDTHS];
    double logits[IMAGES * MAX_CLASSES];
    begin();
    run_reference(logits);
    measure("minmax", 0, IMAGES, found);
    for (size_t i = 0; i < SITES; i++) {
        for (size_t k = 0; k < WIDTHS; k++) {
            const double loss = found[i * WIDTHS + k].loss;
            const double truth = true_loss(layers[i], widths[k], logits);
            if (!(fabs(loss - truth) < 0.01 * truth))
                FAIL("site %zu, %d bits: %g, not %g", sites[i], (int)widths[k], loss, truth);
        }
    }
    end();
}

/* ---- properties ---- */

/* Scales, shifts and orders of channels, zero points and corrected biases are all taken into account: 8
 * bits lose next to nothing, and less than 4. */
static void of_eight_bits_are_next_to_nothing(void)
{
    qvit_alternative found[SITES * WIDTHS];
    begin();
    measure("best", 0, IMAGES, found);
    for (size_t i = 0; i < SITES; i++) {
        const qvit_alternative *at = found + i * WIDTHS;
        if (!(at[2].loss < 1e-3 && at[2].loss < at[0].loss / 2))
            FAIL("site %zu: %g, %g, %g", sites[i], at[0].loss, at[1].loss, at[2].loss);
        CHECK(at[0].cost < at[1].cost && at[1].cost < at[2].cost);
    }
    end();
}

/* The head reads one row of an image: weights that one row was fitted to are nearly right there, and those
 * that another's was are not. */
static void are_judged_by_other_images(void)
{
    qvit_alternative own[SITES * WIDTHS], other[SITES * WIDTHS];
    const size_t head = (SITES - 1) * WIDTHS;
    begin();
    const size_t first = test_below(IMAGES - 1);
    measure("best", first, 1, own);
    measure("best", first, 2, other);
    if (!(own[head].loss < other[head].loss / 2))
        FAIL("%g by itself, %g by another", own[head].loss, other[head].loss);
    end();
}

static void leaves_nothing(void) { CHECK_EQ(rmdir(run_folder), 0); }

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    run_begin();
    RUN(equal_those_of_a_second_model);
    RUN(of_eight_bits_are_next_to_nothing);
    RUN(are_judged_by_other_images);
    test_run.only = NULL; /* whatever ran */
    RUN(leaves_nothing);
    return test_end();
}
