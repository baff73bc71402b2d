#define _POSIX_C_SOURCE 200809L

#include "eval_options.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"

enum { MAX_COUNT = 1000000000, MAX_BATCH = 4096, MAX_THREADS = 1024, MAX_OPTIONS = 37 };

/* What the command line says in its own words: lists that still have to be taken apart. */
struct raw_options {
    const char *recipes, *widths, *budget_bytes, *budget_ms;
};

static size_t make_table(option table[MAX_OPTIONS], eval_options *o, struct raw_options *raw)
{
    const option options[] = {
        {"--model", "FILE", "a plain ViT or DeiT with timm's names, safetensors", .text = &o->model,
         .required = true},
        {"--images", "FILE", "npy, uint8 [n, height, width, 3]", .text = &o->images,
         .required = true},
        {"--labels", "FILE", "npy, int32 [n]", .text = &o->labels, .required = true},
        {"--n", "N", "evaluate the first N images only", .number = &o->n, .least = 1,
         .most = MAX_COUNT},
        {"--calib", "FILE", "images to calibrate with; without, only floats are evaluated",
         .text = &o->calib},
        {"--calib-n", "N", "how many of them (32)", .number = &o->calib_n, .most = MAX_COUNT},
        {"--calib-first", "I", "the first one's number (0)", .number = &o->calib_first,
         .most = MAX_COUNT},
        {"--calib-rows", "N", "rows kept for each layer, at most (0: the library's default)",
         .number = &o->calib_rows, .least = 0, .most = 65536},
        {"--calib-memory", "MB", "memory of the kept rows (0: the library's default)",
         .number = &o->calib_megabytes, .least = 0, .most = 1 << 20},
        {"--load-calibration", "FILE", "add what was observed and saved; may be repeated",
         .list = &o->load_calibration},
        {"--save-calibration", "FILE", "write what was observed", .text = &o->save_calibration},
        {"--recipe", "NAME,..", "how to choose quantizers (minmax)", .text = &raw->recipes},
        {"--bits", "wXaY,..", "widths of weights and of inputs, 2 to 8 (w8a8)",
         .text = &raw->widths},
        {"--set", "KEY=VALUE", "change one choice of the recipes; may be repeated",
         .list = &o->settings},
        {"--granularity", "G", "of weights: layer, channel, sublayer:RxC or k:L, see below",
         .text = &o->granularity.granularity},
        {"--act-chunks", "N", "scales of each linear input", .number = &o->granularity.chunks,
         .least = 1, .most = 65536},
        {"--reorder", "HOW", "order channels for these blocks: none, sort, cluster or search",
         .text = &o->granularity.reorder},
        {"--budget-bytes", "B", "choose widths of weights, see below; B may be w6",
         .text = &raw->budget_bytes},
        {"--budget-ms", "T", "choose plain or twin inputs, see below", .text = &raw->budget_ms},
        {"--pareto", "", "print what other budgets would give", .flag = &o->mixed.pareto},
        {"--batch", "B", "images at a time (8)", .number = &o->batch, .least = 1,
         .most = MAX_BATCH},
        {"--threads", "T", "threads (one for each CPU)", .number = &o->threads, .least = 1,
         .most = MAX_THREADS},
        {"--isa", "NAME", "evaluate with no more than scalar, avx2, avx2vnni or avx512vnni",
         .text = &o->isa},
        {"--heads", "H", "attention heads (width / 64)", .number = &o->model_options.heads,
         .least = 1, .most = MAX_COUNT},
        {"--mean", "R,G,B", "of the images (from the model's file)",
         .text = &o->model_options.mean},
        {"--std", "R,G,B", "of the images (from the model's file)", .text = &o->model_options.std},
        {"--json", "FILE", "write the results", .text = &o->json},
        {"--card", "FILE",
         "write the quantization card, JSON; of several entries each to FILE-RECIPE-BITS",
         .text = &o->card},
        {"--html", "FILE", "the same as a page to read", .text = &o->html},
        {"--logits", "FILE", "write the float model's logits, npy", .text = &o->logits},
        {"--quantized-logits", "FILE", "write the quantized model's logits, npy",
         .text = &o->quantized_logits},
        {"--trace", "BLOCK FOLDER", "write what flows through a block for the first image, npy",
         .number = &o->trace_block, .most = MAX_COUNT, .text = &o->trace_folder},
    };
    _Static_assert(sizeof options / sizeof options[0] <= MAX_OPTIONS, "the table is too small");
    memcpy(table, options, sizeof options);
    return sizeof options / sizeof options[0];
}

static qvit_status find_recipe(const char *name, size_t length, const char **out, qvit_error *error)
{
    for (size_t i = 0; (*out = qvit_recipe_name(i)) != NULL; i++) {
        if (strlen(*out) == length && !memcmp(*out, name, length)) return QVIT_OK;
    }
    return fail(error, QVIT_ERR_ARGUMENT, "there is no recipe \"%.*s\"; --help lists them",
                (int)length, name);
}

static qvit_status parse_width(const char *text, size_t length, eval_width *out, qvit_error *error)
{
    if (length != 4 || text[0] != 'w' || text[2] != 'a' || text[1] < '2' || text[1] > '8' ||
        text[3] < '2' || text[3] > '8')
        return fail(error, QVIT_ERR_ARGUMENT,
                    "--bits takes widths such as w8a8, each from 2 to 8, not \"%.*s\"", (int)length,
                    text);
    *out = (eval_width){.weight_bits = text[1] - '0', .input_bits = text[3] - '0'};
    memcpy(out->text, text, length);
    return QVIT_OK;
}

static qvit_status split_lists(eval_options *o, const struct raw_options *raw, qvit_error *error)
{
    const char *rest = raw->recipes ? raw->recipes : "minmax", *part;
    size_t length;
    while ((part = options_next_part(&rest, &length)) != NULL) {
        if (o->recipe_count == EVAL_MAX_RECIPES)
            return fail(error, QVIT_ERR_ARGUMENT, "too many recipes");
        TRY(find_recipe(part, length, &o->recipes[o->recipe_count++], error));
    }
    rest = raw->widths ? raw->widths : "w8a8";
    while ((part = options_next_part(&rest, &length)) != NULL) {
        if (o->width_count == EVAL_MAX_WIDTHS)
            return fail(error, QVIT_ERR_ARGUMENT, "too many widths");
        TRY(parse_width(part, length, &o->widths[o->width_count++], error));
    }
    return QVIT_OK;
}

static qvit_status check_together(eval_options *o, const struct raw_options *raw, qvit_error *error)
{
    bool quantizes = raw->recipes || raw->widths || o->settings.count || o->quantized_logits ||
                     o->card || o->html || o->save_calibration || o->calib;
    TRY(mixed_options_parse(&o->mixed, raw->budget_bytes, raw->budget_ms, error));
    quantizes = quantizes || mixed_wanted(&o->mixed);
    if (!o->calib) o->calib_n = 0;
    o->calibrates = o->calib_n || o->load_calibration.count;
    if (quantizes && !o->calibrates)
        return fail(error, QVIT_ERR_ARGUMENT,
                    "--calib is needed to quantize, with images, or --load-calibration");
    if (o->quantized_logits && o->recipe_count * o->width_count > 1)
        return fail(error, QVIT_ERR_ARGUMENT,
                    "--quantized-logits takes one recipe and one width only");
    return QVIT_OK;
}

qvit_status eval_options_parse(eval_options *out, int argc, char **argv, qvit_error *error)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *out = (eval_options){.batch = 8, .calib_n = 32, .threads = cpus > 0 ? (size_t)cpus : 1};
    if (out->threads > MAX_THREADS) out->threads = MAX_THREADS;
    struct raw_options raw = {0};
    option table[MAX_OPTIONS];
    size_t count = make_table(table, out, &raw);
    TRY(options_parse(table, count, argc, argv, error));
    TRY(split_lists(out, &raw, error));
    TRY(granularity_options_add(&out->granularity, &out->settings, error));
    return check_together(out, &raw, error);
}

static void help_granularity(FILE *stream)
{
    fputs(
        "\nGranularity of weights: one scale for a layer, one for each output channel, one for "
        "each "
        "of\n"
        "R x C blocks of outputs and inputs, or one for every L inputs of each output. Reordering "
        "puts\n"
        "inputs that suit each other into one block; layer norms, fc1 and attention then write "
        "them\n"
        "in that order.\n",
        stream);
}

static void help_budgets(FILE *stream)
{
    fputs(
        "\nBudgets. Every layer is calibrated in all ways that it could have, and the choice is "
        "the\n"
        "one that loses least of all that the budget allows.\n"
        "--budget-bytes B: layers get weights of 4, 6 or 8 bits, at most the X of --bits wXaY, "
        "that\n"
        "  take at most B bytes when stored; w6: as many as if all had 6. It sets no speed: with\n"
        "  AVX2 weights of 4 and 6 bits are faster, with AVX-512 all widths run equally fast. "
        "What\n"
        "  a width loses is measured: each half of the --calib images judges weights that are "
        "fitted\n"
        "  to the other. By --set sensitivity=gradient it is estimated, in less time.\n"
        "--budget-ms T: the inputs of fc2 and the probabilities of attention are plain or twins, "
        "so\n"
        "  that an image takes at most T milliseconds by what was measured at --batch and "
        "--threads;\n"
        "  a setting \"twin\" has no say. Widths are chosen first if both budgets are given.\n",
        stream);
}

void eval_options_help(FILE *stream)
{
    eval_options unused;
    struct raw_options raw;
    option table[MAX_OPTIONS];
    size_t count = make_table(table, &unused, &raw);
    fputs("qvit-vit eval --model FILE --images FILE --labels FILE [--calib FILE] [OPTION]...\n\n"
          "Runs a float model and, given images to calibrate with, its quantized versions.\n\n",
          stream);
    options_print(table, count, stream);
    fputs("\nRecipes:", stream);
    for (size_t i = 0; qvit_recipe_name(i); i++) fprintf(stream, " %s", qvit_recipe_name(i));
    fputs(". Settings: see qvit_solve_options in qvit.h.\n", stream);
    help_granularity(stream);
    help_budgets(stream);
}
