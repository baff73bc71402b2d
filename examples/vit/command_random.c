#include "commands.h"

#include <stdio.h>

#include "fail.h"
#include "options.h"
#include "random_model.h"

enum { MAX_SIZE = 4096 };

struct arguments {
    const char *out, *images, *labels;
    random_sizes sizes;
    size_t n, seed;
};

static qvit_status run(const struct arguments *a, qvit_error *error)
{
    const random_sizes *sizes = &a->sizes;
    if (sizes->image % sizes->patch)
        return fail(error, QVIT_ERR_ARGUMENT, "--size %zu is no multiple of --patch %zu",
                    sizes->image, sizes->patch);
    TRY(random_model_write(a->out, sizes, a->seed, error));
    /* other seeds, so that the images are not made of the numbers in the weights */
    if (a->images) TRY(random_images_write(a->images, sizes, a->n, a->seed + 1, error));
    if (a->labels) TRY(random_labels_write(a->labels, sizes, a->n, a->seed + 2, error));
    return QVIT_OK;
}

qvit_status command_random(int argc, char **argv, qvit_error *error)
{
    struct arguments a = {
        .sizes = {.width = 192, .depth = 12, .classes = 10, .image = 64, .patch = 16}, .n = 64};
    const option table[] = {
        {"--out", "FILE", "the model to write, safetensors", .text = &a.out, .required = true},
        {"--width", "N", "numbers in a token (192)", .number = &a.sizes.width, .least = 1,
         .most = MAX_SIZE},
        {"--depth", "N", "blocks (12)", .number = &a.sizes.depth, .least = 1, .most = MAX_SIZE},
        {"--classes", "N", "(10)", .number = &a.sizes.classes, .least = 1, .most = MAX_SIZE},
        {"--size", "N", "pixels of an image's side (64)", .number = &a.sizes.image, .least = 1,
         .most = MAX_SIZE},
        {"--patch", "N", "pixels of a patch's side (16)", .number = &a.sizes.patch, .least = 1,
         .most = MAX_SIZE},
        {"--seed", "N", "other seeds give other numbers (0)", .number = &a.seed,
         .most = 1000000000},
        {"--images", "FILE", "images to write, npy", .text = &a.images},
        {"--labels", "FILE", "labels to write, npy", .text = &a.labels},
        {"--n", "N", "number of images and labels (64)", .number = &a.n, .least = 1,
         .most = 1000000},
    };
    const size_t count = sizeof table / sizeof table[0];
    if (options_ask_help(argc, argv)) {
        puts("qvit-vit random --out FILE [OPTION]...\n\n"
             "Writes a model of random weights, and images, for trying qvit-vit without a trained\n"
             "one. Its predictions mean nothing.\n\n"
             "  qvit-vit random --out M.safetensors --images I.npy --labels L.npy\n"
             "  qvit-vit eval --model M.safetensors --images I.npy --labels L.npy --calib I.npy\n");
        options_print(table, count, stdout);
        return QVIT_OK;
    }
    TRY(options_parse(table, count, argc, argv, error));
    return run(&a, error);
}
