/*
 * qvit-shapes - pictures of shapes and their labels as .npy files, which qvit-vit takes.
 *
 * Exit status: 0 done, 1 something failed, 2 the command line is wrong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vit/dataset.h"
#include "../vit/fail.h"
#include "../vit/options.h"
#include "shapes.h"

enum { MOST = 1000000 };

struct arguments {
    const char *images, *labels;
    size_t n, first, seed;
};

static qvit_status draw(const struct arguments *a, qvit_error *error)
{
    if (!strcmp(a->images, a->labels))
        return fail(error, QVIT_ERR_ARGUMENT, "--images and --labels are the same file");
    uint8_t *pixels = calloc(a->n, SHAPES_BYTES);
    int32_t *labels = calloc(a->n, sizeof *labels);
    qvit_status status = pixels && labels ? QVIT_OK : fail_memory(error);
    if (status == QVIT_OK) {
        shapes_draw(a->seed, a->first, a->n, SHAPES_DIFFICULTY, pixels, labels);
        status = dataset_write(a->images, a->labels, a->n, SHAPES_SIDE, pixels, labels, error);
    }
    free(labels);
    free(pixels);
    return status;
}

static qvit_status parse_and_draw(int argc, char **argv, qvit_error *error)
{
    struct arguments a = {.n = 1000};
    const option table[] = {
        {"--images", "FILE", "images to write, npy", .text = &a.images, .required = true},
        {"--labels", "FILE", "labels to write, npy", .text = &a.labels, .required = true},
        {"--n", "N", "how many (1000)", .number = &a.n, .least = 1, .most = MOST},
        {"--first", "I", "number of the first one (0)", .number = &a.first, .most = 1000000000},
        {"--seed", "N", "other seeds give other pictures (0)", .number = &a.seed,
         .most = 1000000000},
    };
    const size_t count = sizeof table / sizeof table[0];
    if (!options_ask_help(argc, argv)) {
        TRY(options_parse(table, count, argc, argv, error));
        return draw(&a, error);
    }
    puts("qvit-shapes --images I.npy --labels L.npy [OPTION]...\n\n"
         "Draws small pictures of shapes, uint8 [n, 64, 64, 3], and their labels, int32 [n]:");
    for (int32_t label = 0; shapes_class_name(label); label++)
        printf("%s%d %s", label ? ", " : "", label, shapes_class_name(label));
    puts(".\n");
    options_print(table, count, stdout);
    return QVIT_OK;
}

int main(int argc, char **argv)
{
    qvit_error error;
    qvit_status status = parse_and_draw(argc - 1, argv + 1, &error);
    if (status == QVIT_OK && (fflush(stdout) || ferror(stdout)))
        status = fail(&error, QVIT_ERR_IO, "stdout cannot be written");
    if (status == QVIT_OK) return 0;
    fprintf(stderr, "qvit-shapes: %s\n", error.text);
    return status == QVIT_ERR_ARGUMENT ? 2 : 1;
}
