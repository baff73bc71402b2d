#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "../common/counting_allocator.h"
#include "../common/thread_pool.h"
#include "calibrate.h"
#include "calibration_file.h"
#include "card.h"
#include "dataset.h"
#include "eval.h"
#include "eval_options.h"
#include "fail.h"
#include "fidelity.h"
#include "in_order.h"
#include "float_model.h"
#include "output_file.h"
#include "page.h"
#include "progress.h"
#include "quantized_model.h"
#include "report.h"
#include "trace.h"

/* Everything of one evaluation; release() releases what there is. */
struct evaluation {
    eval_options options;
    vit_model model;
    npy images, labels, calib;
    size_t n;
    float *logits, *quantized_logits; /* [n, classes]; the latter of one entry after the other */
    thread_pool *pool;
    counting_allocator calibration_memory;
    qvit_engine *calibration_engine; /* NULL if nothing is calibrated */
    qvit_engine *engine;             /* evaluates */
    size_t entry_count;              /* recipes times widths */
    report_entry *entries;
    network *quantized; /* of each entry */
    mixed_choice *choices;
    report report;
    qvit_error *error;
};

static void release(struct evaluation *e)
{
    for (size_t i = 0; e->quantized && i < e->entry_count; i++) network_close(&e->quantized[i]);
    for (size_t i = 0; e->choices && i < e->entry_count; i++) mixed_choice_close(&e->choices[i]);
    free(e->choices);
    for (size_t i = 0; e->entries && i < e->entry_count; i++) free(e->entries[i].card);
    free(e->quantized);
    free(e->entries);
    qvit_engine_destroy(e->engine);
    qvit_engine_destroy(e->calibration_engine);
    thread_pool_destroy(e->pool);
    free(e->quantized_logits);
    free(e->logits);
    npy_close(&e->calib);
    npy_close(&e->labels);
    npy_close(&e->images);
    vit_model_close(&e->model);
}

/* ---- what is evaluated ---- */

static qvit_status open_calibration_images(struct evaluation *e)
{
    const eval_options *o = &e->options;
    TRY(dataset_open_images(o->calib, &e->model, &e->calib, e->error));
    size_t found = e->calib.dims[0];
    if (o->calib_first < found && o->calib_n <= found - o->calib_first) return QVIT_OK;
    return fail(e->error, QVIT_ERR_ARGUMENT,
                "%s has %zu images: not %zu from number %zu on (--calib-n, --calib-first)",
                o->calib, found, o->calib_n, o->calib_first);
}

static qvit_status open_data(struct evaluation *e)
{
    const eval_options *o = &e->options;
    TRY(vit_model_open(o->model, &o->model_options, &e->model, e->error));
    TRY(dataset_open_images(o->images, &e->model, &e->images, e->error));
    size_t found = e->images.dims[0];
    TRY(dataset_open_labels(o->labels, &e->model, found, &e->labels, e->error));
    e->n = o->n ? o->n : found;
    if (e->n > found)
        return fail(e->error, QVIT_ERR_ARGUMENT, "%s has %zu images, fewer than --n %zu", o->images,
                    found, e->n);
    if (o->calib_n) TRY(open_calibration_images(e));
    e->logits = calloc(e->n * e->model.classes, sizeof(float));
    e->quantized_logits = calloc(e->n * e->model.classes, sizeof(float));
    return e->logits && e->quantized_logits ? QVIT_OK : fail_memory(e->error);
}

/* ---- engines ---- */

static qvit_status create_engine(const struct evaluation *e, uint64_t isa_disable,
                                 const qvit_allocator *allocator, qvit_engine **out)
{
    qvit_executor executor = thread_pool_executor(e->pool);
    qvit_engine_options options = QVIT_ENGINE_OPTIONS_INIT;
    options.isa_disable = isa_disable;
    options.allocator = allocator;
    options.executor = &executor;
    return qvit_engine_create(&options, out, e->error);
}

/* An engine that has the instruction set of that name and what it builds on, and no more. */
static qvit_status create_limited_engine(const struct evaluation *e, const char *isa,
                                         qvit_engine **out)
{
    static const struct {
        const char *name;
        uint64_t allowed;
    } sets[] = {
        {"scalar", 0},
        {"avx2", QVIT_ISA_AVX2},
        {"avx2vnni", QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI},
        {"avx512vnni", QVIT_ISA_AVX2 | QVIT_ISA_AVX2VNNI | QVIT_ISA_AVX512VNNI},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (strcmp(sets[i].name, isa)) continue;
        TRY(create_engine(e, ~sets[i].allowed, NULL, out));
        if (!strcmp(qvit_engine_isa_name(*out), isa)) return QVIT_OK;
        return fail(e->error, QVIT_ERR_ARGUMENT, "--isa: this CPU has no %s", isa);
    }
    return fail(e->error, QVIT_ERR_ARGUMENT,
                "--isa takes scalar, avx2, avx2vnni or avx512vnni, not \"%s\"", isa);
}

/*
 * Calibration has an engine of its own. It always runs on all that the CPU has, whatever --isa
 * says: float sums may fuse their multiplications and so differ in their last bits from one
 * instruction set to the next, and with them what is calibrated. So the same codes are evaluated
 * everywhere, and those give the same bits everywhere.
 */
static qvit_status create_engines(struct evaluation *e)
{
    const eval_options *o = &e->options;
    e->pool = thread_pool_create(o->threads);
    if (!e->pool)
        return fail(e->error, QVIT_ERR_NO_MEMORY, "%zu threads cannot be had", o->threads);
    if (o->calibrates) {
        qvit_allocator allocator = counting_allocator_hook(&e->calibration_memory);
        TRY(create_engine(e, 0, &allocator, &e->calibration_engine));
    }
    if (o->isa) return create_limited_engine(e, o->isa, &e->engine);
    return create_engine(e, 0, NULL, &e->engine);
}

/* ---- calibration ---- */

static int32_t show_solving(void *user, double done, const char *site)
{
    (void)user, (void)site;
    progress("solve, percent", (size_t)(100 * done), 100);
    return 0;
}

static qvit_solve_options options_of(const eval_options *o, size_t recipe, size_t width)
{
    qvit_solve_options options = QVIT_SOLVE_OPTIONS_INIT;
    options.recipe = o->recipes[recipe];
    options.weight_bits = o->widths[width].weight_bits;
    options.input_bits = o->widths[width].input_bits;
    options.settings = o->settings.items;
    options.setting_count = o->settings.count;
    return options;
}

/* For recipes that ask for many rows, and more where few bits leave much to make up for; the memory is
 * taken only as rows come. */
enum { MANY_ROWS = 3072, FEW_BITS = 6, FEW_BITS_ROWS = 8192 };
static const uint64_t MANY_ROWS_BYTES = (uint64_t)4 << 30;

/* What any of the entries needs: QVIT_NEEDS_ bits. */
static uint32_t needs_of_all(const eval_options *o)
{
    uint32_t needs = 0;
    for (size_t i = 0; i < o->recipe_count * o->width_count; i++) {
        const qvit_solve_options options = options_of(o, i / o->width_count, i % o->width_count);
        needs |= qvit_recipe_needs(&options);
    }
    /* budgets make the losses of sites comparable */
    return needs | (mixed_wanted(&o->mixed) ? QVIT_NEEDS_GRADIENT : 0);
}

static bool has_few_bits(const eval_options *o)
{
    for (size_t i = 0; i < o->width_count; i++)
        if (o->widths[i].weight_bits < FEW_BITS || o->widths[i].input_bits < FEW_BITS) return true;
    return mixed_wanted(&o->mixed);
}

/* How images are shown; the executor must outlive it. */
static calibration_options observing(const eval_options *o, const qvit_executor *executor)
{
    const uint32_t needs = needs_of_all(o);
    calibration_options options = {.batch = o->batch,
                                   .gradients = needs & QVIT_NEEDS_GRADIENT,
                                   .executor = executor,
                                   .max_rows = o->calib_rows,
                                   .max_bytes = (uint64_t)o->calib_megabytes << 20};
    if (needs & QVIT_NEEDS_MANY_ROWS && !o->calib_rows && !o->calib_megabytes) {
        options.max_rows = has_few_bits(o) ? FEW_BITS_ROWS : MANY_ROWS;
        options.max_bytes = MANY_ROWS_BYTES;
    }
    return options;
}

static qvit_status observe(struct evaluation *e, calibration *c)
{
    const eval_options *o = &e->options;
    const qvit_executor executor = thread_pool_executor(e->pool);
    const calibration_options options = observing(o, &executor);
    TRY(calibration_begin(c, &e->model, e->calibration_engine, &options, e->error));
    for (size_t i = 0; i < o->load_calibration.count; i++)
        TRY(calibration_file_load(o->load_calibration.items[i], c->calibrator, e->error));
    for (size_t done = 0; done < o->calib_n;) {
        size_t left = o->calib_n - done, count = left < o->batch ? left : o->batch;
        size_t first = o->calib_first + done;
        TRY(calibration_observe(c, dataset_image(&e->calib, first), first, count, e->error));
        done += count;
        progress("calibrate", done, o->calib_n);
    }
    if (!o->save_calibration) return QVIT_OK;
    return calibration_file_save(o->save_calibration, c->calibrator, e->error);
}

/* Lets a recipe's sites differ as the budgets of the command line want it. */
static qvit_status choose_mixed(struct evaluation *e, calibration *c, size_t number,
                                calibration_recipe *recipe)
{
    const eval_options *o = &e->options;
    mixed_choice *choice = &e->choices[number];
    e->entries[number].choice = choice;
    if (!mixed_wanted(&o->mixed)) return QVIT_OK;
    const qvit_executor executor = thread_pool_executor(e->pool);
    mixed_context context = {.options = &o->mixed,
                             .engine = e->engine,
                             .images = dataset_image(&e->images, 0),
                             .count = e->n < o->batch ? e->n : o->batch,
                             .batch = o->batch,
                             .judges = {.engine = e->calibration_engine,
                                        .options = observing(o, &executor),
                                        .first = o->calib_first,
                                        .count = o->calib_n},
                             .print = stdout};
    if (o->calib_n) context.judges.images = dataset_image(&e->calib, o->calib_first);
    TRY(mixed_choose(&context, c, recipe, choice, e->error));
    recipe->weight_bits_of = choice->weight_bits;
    recipe->twin_of = choice->twins;
    if (choice->weight_bits) e->entries[number].bits = choice->bits;
    return QVIT_OK;
}

static bool cards_wanted(const eval_options *o) { return o->card || o->html; }

/* Images that show how errors add up: those of the calibration, or else those of the evaluation. */
static const uint8_t *fidelity_images(const struct evaluation *e, size_t *count)
{
    const eval_options *o = &e->options;
    *count = o->calib_n ? o->calib_n : e->n;
    if (*count > FIDELITY_IMAGES) *count = FIDELITY_IMAGES;
    return o->calib_n ? dataset_image(&e->calib, o->calib_first) : dataset_image(&e->images, 0);
}

/* While the calibrator still has the entry's results. */
static qvit_status capture_card(struct evaluation *e, calibration *c,
                                const calibration_results *results, size_t number)
{
    size_t count;
    const uint8_t *images = fidelity_images(e, &count);
    qvit_fidelity *accumulated = calloc(results->count, sizeof *accumulated);
    if (!accumulated) return fail_memory(e->error);
    qvit_status status = fidelity_measure(&c->net, &e->quantized[number], results, images, count,
                                          accumulated, e->error);
    if (status == QVIT_OK)
        status = card_capture(c, accumulated, &e->entries[number].card, e->error);
    free(accumulated);
    return status;
}

/* Solves for one entry, and makes its network: that and the card are all that is kept of the results. */
static qvit_status solve_entry(struct evaluation *e, calibration *c, size_t number)
{
    const eval_options *o = &e->options;
    const eval_width *width = &o->widths[number % o->width_count];
    report_entry *entry = &e->entries[number];
    entry->recipe = o->recipes[number / o->width_count];
    entry->bits = width->text;
    entry->net = &e->quantized[number];
    entry->calibration_images = o->calib_n;
    calibration_recipe recipe = {.recipe = entry->recipe,
                                 .weight_bits = width->weight_bits,
                                 .input_bits = width->input_bits,
                                 .settings = o->settings.items,
                                 .setting_count = o->settings.count,
                                 .progress = show_solving};
    calibration_results results;
    TRY(choose_mixed(e, c, number, &recipe));
    const qvit_solve_options options =
        options_of(o, number / o->width_count, number % o->width_count);
    if (qvit_recipe_needs(&options) & QVIT_NEEDS_PREFIX)
        TRY(solve_in_order(c, e->calibration_engine, &recipe,
                           dataset_image(&e->calib, o->calib_first), o->calib_first, o->calib_n,
                           &results, e->error));
    else
        TRY(calibration_solve(c, &recipe, &results, e->error));
    entry->weight_bytes = calibration_results_weight_bytes(&results);
    qvit_status status = quantized_model_create(&e->model, e->engine, &results, o->batch,
                                                &e->quantized[number], e->error);
    if (status == QVIT_OK && cards_wanted(o)) status = capture_card(e, c, &results, number);
    calibration_results_close(&results);
    return status;
}

/* The images are observed once; what that cost is a part of what every entry cost. */
static qvit_status solve_all(struct evaluation *e, calibration *c)
{
    counting_allocator *memory = &e->calibration_memory;
    double start = eval_seconds();
    TRY(observe(e, c));
    double observing = eval_seconds() - start;
    size_t observing_peak = memory->peak;
    for (size_t i = 0; i < e->entry_count; i++) {
        start = eval_seconds();
        memory->peak = memory->live;
        TRY(solve_entry(e, c, i));
        size_t peak = memory->peak > observing_peak ? memory->peak : observing_peak;
        e->entries[i].calibration_peak_bytes = peak;
        e->entries[i].calibration_seconds = observing + eval_seconds() - start;
    }
    return QVIT_OK;
}

static qvit_status calibrate(struct evaluation *e)
{
    const eval_options *o = &e->options;
    if (!o->calibrates) return QVIT_OK;
    e->entry_count = o->recipe_count * o->width_count;
    e->entries = calloc(e->entry_count, sizeof *e->entries);
    e->quantized = calloc(e->entry_count, sizeof *e->quantized);
    e->choices = calloc(e->entry_count, sizeof *e->choices);
    if (!e->entries || !e->quantized || !e->choices) return fail_memory(e->error);
    calibration c = {0};
    qvit_status status = solve_all(e, &c);
    calibration_end(&c);
    return status;
}

/* ---- evaluation ---- */

static qvit_status evaluate_float(struct evaluation *e)
{
    const size_t classes = e->model.classes;
    network net;
    TRY(float_model_create(&e->model, e->engine, e->options.batch, false, &net, e->error));
    qvit_status status = eval_run(&net, "float", dataset_image(&e->images, 0), e->n, e->logits,
                                  &e->report.ms_per_image, e->error);
    network_close(&net);
    e->report.accuracy = eval_accuracy_of(e->logits, e->labels.data, e->n, classes);
    return status;
}

static qvit_status evaluate_entry(struct evaluation *e, size_t number)
{
    const size_t classes = e->model.classes;
    report_entry *entry = &e->entries[number];
    TRY(eval_run(&e->quantized[number], entry->recipe, dataset_image(&e->images, 0), e->n,
                 e->quantized_logits, &entry->ms_per_image, e->error));
    entry->accuracy = eval_accuracy_of(e->quantized_logits, e->labels.data, e->n, classes);
    entry->agreement = eval_agreement(e->logits, e->quantized_logits, e->n, classes);
    entry->sqnr_db = eval_sqnr_db(e->logits, e->quantized_logits, e->n * classes);
    eval_sha256(e->quantized_logits, e->n * classes, entry->logits_sha256);
    return QVIT_OK;
}

static qvit_status evaluate(struct evaluation *e)
{
    TRY(evaluate_float(e));
    for (size_t i = 0; i < e->entry_count; i++) TRY(evaluate_entry(e, i));
    return QVIT_OK;
}

/* ---- results ---- */

static qvit_status write_logits(const struct evaluation *e, const char *path, const float *logits)
{
    const size_t dims[] = {e->n, e->model.classes};
    char text[sizeof e->error->text];
    if (!npy_write(path, NPY_F32, 2, dims, logits, text, sizeof text)) return QVIT_OK;
    return fail(e->error, QVIT_ERR_IO, "%s", text);
}

static qvit_status write_card(const struct evaluation *e, const report_entry *entry,
                              const char *path, const char *card,
                              void (*write)(FILE *stream, const char *card))
{
    if (!path) return QVIT_OK;
    char *own = card_path(path, entry, e->entry_count == 1);
    if (!own) return fail_memory(e->error);
    output_file file;
    qvit_status status = output_file_begin(&file, own, e->error);
    if (status == QVIT_OK) {
        write(file.stream, card);
        status = output_file_end(&file, e->error);
    }
    free(own);
    return status;
}

static void write_text(FILE *stream, const char *card) { fputs(card, stream); }

static qvit_status write_cards(const struct evaluation *e)
{
    const eval_options *o = &e->options;
    card_source source = {
        .model = &e->model, .images = o->images, .calib = o->calib, .calib_first = o->calib_first};
    if (!cards_wanted(o)) return QVIT_OK;
    fidelity_images(e, &source.accumulated_images);
    TRY(card_hash_file(o->model, source.model_sha256, e->error));
    for (size_t i = 0; i < e->entry_count; i++) {
        char *card;
        TRY(card_compose(&source, &e->report, &e->entries[i], &card, e->error));
        qvit_status status = write_card(e, &e->entries[i], o->card, card, write_text);
        if (status == QVIT_OK) status = write_card(e, &e->entries[i], o->html, card, page_write);
        free(card);
        TRY(status);
    }
    return QVIT_OK;
}

static qvit_status report_all(struct evaluation *e)
{
    const eval_options *o = &e->options;
    report *r = &e->report;
    r->model = o->model;
    r->isa = qvit_engine_isa_name(e->engine);
    r->n = e->n;
    r->batch = o->batch;
    r->threads = o->threads;
    r->float_weight_bytes = vit_model_weight_bytes(&e->model);
    r->entries = e->entries;
    r->count = e->entry_count;
    report_print(r, stdout);
    if (o->logits) TRY(write_logits(e, o->logits, e->logits));
    if (o->quantized_logits) TRY(write_logits(e, o->quantized_logits, e->quantized_logits));
    TRY(write_cards(e));
    return o->json ? report_write_json(r, o->json, e->error) : QVIT_OK;
}

static qvit_status run(struct evaluation *e)
{
    const eval_options *o = &e->options;
    TRY(open_data(e));
    TRY(create_engines(e));
    if (o->trace_folder)
        TRY(trace_block(&e->model, e->engine, dataset_image(&e->images, 0), o->trace_block,
                        o->trace_folder, e->error));
    TRY(calibrate(e));
    TRY(evaluate(e));
    return report_all(e);
}

qvit_status command_eval(int argc, char **argv, qvit_error *error)
{
    if (options_ask_help(argc, argv)) {
        eval_options_help(stdout);
        return QVIT_OK;
    }
    struct evaluation e = {.error = error};
    TRY(eval_options_parse(&e.options, argc, argv, error));
    qvit_status status = run(&e);
    release(&e);
    return status;
}
