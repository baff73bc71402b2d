#include "mixed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "latency.h"
#include "options.h"
#include "quantized_model.h"

enum { MAX_ALTERNATIVES = 3, PARETO_ROWS = 11 };

static const int32_t widths[MAX_ALTERNATIVES] = {4, 6, 8};
static const char *const width_names[MAX_ALTERNATIVES] = {"4 bits", "6 bits", "8 bits"};

static const int32_t twins[] = {TWIN_NEVER, TWIN_ALWAYS};
static const char *const twin_names[] = {"plain", "twin"};
enum { TWINS = sizeof twins / sizeof twins[0] };

/* ---- options ---- */

static bool parse_bytes(const char *text, mixed_options *out)
{
    char *end;
    if (text[0] == 'w') {
        out->uniform_bits = text[1] - '0';
        return text[1] >= '2' && text[1] <= '8' && !text[2];
    }
    out->bytes = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && out->bytes > 0 && out->bytes <= INT64_MAX;
}

qvit_status mixed_options_parse(mixed_options *out, const char *bytes, const char *ms,
                                qvit_error *error)
{
    out->by_bytes = bytes != NULL;
    out->by_time = ms != NULL;
    if (bytes && !parse_bytes(bytes, out))
        return fail(error, QVIT_ERR_ARGUMENT,
                    "--budget-bytes takes a number, or a width such as w6, not \"%s\"", bytes);
    char *end;
    if (ms) out->ms = strtod(ms, &end);
    if (ms && (end == ms || *end || !(out->ms > 0) || out->ms > 1e9))
        return fail(error, QVIT_ERR_ARGUMENT, "--budget-ms takes milliseconds, not \"%s\"", ms);
    return QVIT_OK;
}

bool mixed_wanted(const mixed_options *options)
{
    return options->by_bytes || options->by_time || options->pareto;
}

/* ---- a choice between alternatives, whatever they cost ---- */

/* Every item is a site, and all have the same alternatives. */
struct problem {
    const char *option; /* of the command line, for messages */
    double unit;        /* costs in one unit of the option */
    const char *unit_name;
    const char *const *names; /* of the alternatives */
    size_t items, alternatives;
    size_t *sites;            /* [items] */
    size_t *counts;           /* [items], as qvit_allocate wants them */
    size_t *chosen;           /* [items] */
    qvit_alternative *offers; /* [items][alternatives] */
    uint64_t constant;        /* what everything else costs */
};

static qvit_status problem_begin(struct problem *p, size_t items, size_t alternatives,
                                 qvit_error *error)
{
    p->items = items;
    p->alternatives = alternatives;
    p->sites = calloc(items, sizeof *p->sites);
    p->counts = calloc(items, sizeof *p->counts);
    p->chosen = calloc(items, sizeof *p->chosen);
    p->offers = calloc(items * alternatives, sizeof *p->offers);
    if (!p->sites || !p->counts || !p->chosen || !p->offers) return fail_memory(error);
    for (size_t i = 0; i < items; i++) p->counts[i] = alternatives;
    return QVIT_OK;
}

static void problem_close(struct problem *p)
{
    free(p->sites);
    free(p->counts);
    free(p->chosen);
    free(p->offers);
}

/* What the cheapest and the dearest choice cost. */
static void find_range(const struct problem *p, mixed_bill *bill)
{
    bill->least = bill->most = p->constant;
    for (size_t i = 0; i < p->items; i++) {
        const qvit_alternative *offers = p->offers + i * p->alternatives;
        uint64_t least = offers[0].cost, most = least;
        for (size_t k = 1; k < p->alternatives; k++) {
            if (offers[k].cost < least) least = offers[k].cost;
            if (offers[k].cost > most) most = offers[k].cost;
        }
        bill->least += least;
        bill->most += most;
    }
}

/* Chooses under bill->budget, and fills in the rest of the bill. */
static qvit_status choose(const qvit_engine *engine, struct problem *p, mixed_bill *bill,
                          qvit_error *error)
{
    find_range(p, bill);
    if (bill->budget < bill->least)
        return fail(error, QVIT_ERR_ARGUMENT,
                    "%s: %.10g is too little, the least possible is %.10g", p->option,
                    (double)bill->budget / p->unit, (double)bill->least / p->unit);
    TRY(qvit_allocate(engine, p->items, p->counts, p->offers, bill->budget - p->constant, p->chosen,
                      error));
    bill->cost = p->constant;
    bill->loss = 0;
    for (size_t i = 0; i < p->items; i++) {
        const qvit_alternative *chosen = &p->offers[i * p->alternatives + p->chosen[i]];
        bill->cost += chosen->cost;
        bill->loss += chosen->loss;
    }
    return QVIT_OK;
}

/* ---- printing ---- */

static void print_row(const struct problem *p, const mixed_bill *bill, FILE *stream)
{
    size_t histogram[MAX_ALTERNATIVES] = {0};
    for (size_t i = 0; i < p->items; i++) histogram[p->chosen[i]]++;
    fprintf(stream, "%12.10g %14.6e", (double)bill->cost / p->unit, bill->loss);
    for (size_t k = 0; k < p->alternatives; k++) fprintf(stream, " %8zu", histogram[k]);
    fputc('\n', stream);
}

/* The best choices for budgets from the least to the most that can be spent. */
static qvit_status print_pareto(const qvit_engine *engine, struct problem *p, const char *title,
                                FILE *stream, qvit_error *error)
{
    mixed_bill range;
    find_range(p, &range);
    fprintf(stream, "%s\n%12s %14s", title, p->unit_name, "expected loss");
    for (size_t k = 0; k < p->alternatives; k++) fprintf(stream, " %8s", p->names[k]);
    fputc('\n', stream);
    const uint64_t step = (range.most - range.least) / (PARETO_ROWS - 1);
    for (uint64_t row = 0; row < PARETO_ROWS; row++) {
        const bool last = row == PARETO_ROWS - 1;
        mixed_bill bill = {.budget = last ? range.most : range.least + row * step};
        TRY(choose(engine, p, &bill, error));
        print_row(p, &bill, stream);
    }
    fputc('\n', stream);
    return QVIT_OK;
}

/* One line for each block. */
static void print_chosen(const struct problem *p, const vit_model *model, FILE *stream)
{
    char name[SITE_NAME];
    for (size_t i = 0; i < p->items; i++) {
        const size_t site = p->sites[i];
        const bool inside = site > SITE_PATCH_EMBED && site < site_head(model);
        const bool joins = inside && i && p->sites[i - 1] != SITE_PATCH_EMBED &&
                           (p->sites[i - 1] - 1) / SITES_PER_BLOCK == (site - 1) / SITES_PER_BLOCK;
        fprintf(stream, "%s%s: %s",
                joins ? ", "
                : i   ? "\n"
                      : "",
                site_name(model, site, name), p->names[p->chosen[i]]);
    }
    fputs("\n\n", stream);
}

/* ---- what alternatives lose ---- */

struct chooser {
    const mixed_context *context;
    calibration *c;
    calibration_recipe recipe; /* as the caller gave it, and then with what is chosen */
    mixed_choice *out;
    qvit_error *error;
};

static qvit_status score(const struct chooser *h, size_t site, qvit_alternative *out)
{
    char name[SITE_NAME];
    qvit_result *result;
    TRY(qvit_calibrator_result(h->c->calibrator, site, &result, h->error));
    out->loss = qvit_result_score(result, QVIT_SCORE_LOSS);
    out->cost = qvit_result_weight_bytes(result);
    qvit_result_destroy(result);
    if (isfinite(out->loss)) return QVIT_OK;
    return fail(h->error, QVIT_ERR_VALUE, "%s: there is no telling what its quantization loses",
                site_name(h->c->model, site, name));
}

/* Solves the items of a problem as `recipe` says, and scores them as their alternative number k. */
static qvit_status try_alternative(const struct chooser *h, const calibration_recipe *recipe,
                                   struct problem *p, size_t k)
{
    TRY(calibration_solve_sites(h->c, recipe, p->sites, p->items, false, h->error));
    for (size_t i = 0; i < p->items; i++)
        TRY(score(h, p->sites[i], &p->offers[i * p->alternatives + k]));
    return QVIT_OK;
}

/* Gives a recipe one more setting; all of them then lie in `settings`. */
static qvit_status add_setting(calibration_recipe *recipe, const char *setting,
                               const char *settings[TEXT_LIST_MAX + 1], qvit_error *error)
{
    if (recipe->setting_count > TEXT_LIST_MAX)
        return fail(error, QVIT_ERR_ARGUMENT, "too many settings");
    for (size_t i = 0; i < recipe->setting_count; i++) settings[i] = recipe->settings[i];
    settings[recipe->setting_count++] = setting;
    recipe->settings = settings;
    return QVIT_OK;
}

/* Takes the numbers that are chosen to the sites; the others get `rest`. */
static qvit_status spread(const struct chooser *h, const struct problem *p, const int32_t *values,
                          int32_t rest, int32_t **out)
{
    const size_t count = site_count(h->c->model);
    *out = calloc(count, sizeof **out);
    if (!*out) return fail_memory(h->error);
    for (size_t i = 0; i < count; i++) (*out)[i] = rest;
    for (size_t i = 0; i < p->items; i++) (*out)[p->sites[i]] = values[p->chosen[i]];
    return QVIT_OK;
}

/* ---- bytes ---- */

static size_t widths_up_to(int32_t bits)
{
    size_t count = 0;
    while (count < MAX_ALTERNATIVES && widths[count] <= bits) count++;
    return count;
}

static void list_linear_sites(const vit_model *model, size_t *sites)
{
    static const size_t linear[] = {SITE_QKV, SITE_PROJ, SITE_FC1, SITE_FC2};
    *sites++ = SITE_PATCH_EMBED;
    for (size_t block = 0; block < model->depth; block++)
        for (size_t i = 0; i < sizeof linear / sizeof linear[0]; i++)
            *sites++ = site_in_block(block, linear[i]);
    *sites = site_head(model);
}

/* The stored bytes of weights that all have the first of the widths that holds `bits`. */
static uint64_t uniform_bytes(const struct problem *p, int32_t bits)
{
    uint64_t bytes = 0;
    size_t k = 0;
    while (k + 1 < p->alternatives && widths[k] < bits) k++;
    for (size_t i = 0; i < p->items; i++) bytes += p->offers[i * p->alternatives + k].cost;
    return bytes;
}

/*
 * What widths are expected to lose, with weights rounded to nearest: those that are fitted to the kept
 * rows do better on these than on others, the more so the fewer rows count, as in the last block and the
 * head, where the class token does alone.
 */
static qvit_status expect_widths(const struct chooser *h, struct problem *p)
{
    const char *settings[TEXT_LIST_MAX + 1];
    calibration_recipe recipe = h->recipe;
    TRY(add_setting(&recipe, "rounding=nearest", settings, h->error));
    for (size_t k = 0; k < p->alternatives; k++) {
        recipe.weight_bits = widths[k];
        TRY(try_alternative(h, &recipe, p, k));
    }
    return QVIT_OK;
}

static bool has_sensitivity(const calibration_recipe *recipe)
{
    static const char key[] = "sensitivity=";
    for (size_t i = 0; i < recipe->setting_count; i++)
        if (!strncmp(recipe->settings[i], key, sizeof key - 1)) return true;
    return false;
}

static qvit_status judge_widths(const struct chooser *h, struct problem *p)
{
    const width_judges *judges = &h->context->judges;
    if (!judges->count || has_sensitivity(&h->recipe)) return expect_widths(h, p);
    return width_losses_measure(judges, h->c->model, &h->recipe, p->sites, p->items, widths,
                                p->alternatives, p->offers, h->error);
}

static qvit_status allocate_bytes(struct chooser *h, struct problem *p)
{
    const mixed_options *o = h->context->options;
    char title[80];
    list_linear_sites(h->c->model, p->sites);
    TRY(judge_widths(h, p));
    snprintf(title, sizeof title, "%s: widths of weights", h->recipe.recipe);
    if (o->pareto) TRY(print_pareto(h->context->engine, p, title, h->context->print, h->error));
    if (!o->by_bytes) return QVIT_OK;
    h->out->bytes.budget = o->bytes ? o->bytes : uniform_bytes(p, o->uniform_bits);
    TRY(choose(h->context->engine, p, &h->out->bytes, h->error));
    if (o->pareto) print_chosen(p, h->c->model, h->context->print);
    TRY(spread(h, p, widths, h->recipe.weight_bits, &h->out->weight_bits));
    h->recipe.weight_bits_of = h->out->weight_bits;
    snprintf(h->out->bits, sizeof h->out->bits, "w*a%d", (int)h->recipe.input_bits);
    return QVIT_OK;
}

static qvit_status choose_widths(struct chooser *h)
{
    struct problem p = {
        .option = "--budget-bytes", .unit = 1, .unit_name = "bytes", .names = width_names};
    const size_t alternatives = widths_up_to(h->recipe.weight_bits);
    if (!alternatives)
        return fail(h->error, QVIT_ERR_ARGUMENT,
                    "--budget-bytes gives weights 4, 6 or 8 bits, and --bits allows %d",
                    (int)h->recipe.weight_bits);
    qvit_status status =
        problem_begin(&p, site_count(h->c->model) - 2 * h->c->model->depth, alternatives, h->error);
    if (status == QVIT_OK) status = allocate_bytes(h, &p);
    problem_close(&p);
    return status;
}

/* ---- time ---- */

static void list_twin_sites(const vit_model *model, size_t *sites)
{
    for (size_t block = 0; block < model->depth; block++) {
        *sites++ = site_in_block(block, SITE_PV);
        *sites++ = site_in_block(block, SITE_FC2);
    }
}

/* Solves alternative k of the items, for h->recipe, and makes the network that has it everywhere. */
static qvit_status make_alternative(struct chooser *h, struct problem *p, size_t k, network *net)
{
    calibration_results results;
    calibration_recipe recipe = h->recipe;
    const char *settings[TEXT_LIST_MAX + 1];
    int32_t *twin_of;
    /* P V has no nuclear norm, and its loss must compare with that of fc2 */
    TRY(add_setting(&recipe, "sensitivity=gradient", settings, h->error));
    for (size_t i = 0; i < p->items; i++) p->chosen[i] = k;
    TRY(spread(h, p, twins, TWIN_BY_RECIPE, &twin_of));
    recipe.twin_of = twin_of;
    qvit_status status = try_alternative(h, &recipe, p, k);
    free(twin_of);
    if (status != QVIT_OK) return status;
    TRY(calibration_fetch(h->c, &results, h->error));
    status = quantized_model_create(h->c->model, h->context->engine, &results, h->context->batch,
                                    net, h->error);
    calibration_results_close(&results);
    return status;
}

/* An alternative costs what half its block takes: fc1 writes the codes that fc2 reads. */
static qvit_status measure(struct chooser *h, struct problem *p, network nets[TWINS])
{
    const network *const list[TWINS] = {&nets[0], &nets[1]};
    latency times[TWINS];
    TRY(latency_measure(list, TWINS, h->context->images, h->context->count, times, h->error));
    for (size_t k = 0; k < TWINS; k++)
        for (size_t i = 0; i < p->items; i++)
            p->offers[i * TWINS + k].cost = i % 2 ? times[k].transform : times[k].attend;
    p->constant = times[0].rest < times[1].rest ? times[0].rest : times[1].rest;
    return QVIT_OK;
}

static qvit_status measure_twins(struct chooser *h, struct problem *p)
{
    network nets[TWINS] = {0};
    calibration_results others;
    list_twin_sites(h->c->model, p->sites);
    /* the sites without alternatives are solved once, for the networks */
    qvit_status status = calibration_solve(h->c, &h->recipe, &others, h->error);
    calibration_results_close(&others);
    for (size_t k = 0; status == QVIT_OK && k < TWINS; k++)
        status = make_alternative(h, p, k, &nets[k]);
    if (status == QVIT_OK) status = measure(h, p, nets);
    for (size_t k = 0; k < TWINS; k++) network_close(&nets[k]);
    return status;
}

static qvit_status allocate_time(struct chooser *h, struct problem *p)
{
    const mixed_options *o = h->context->options;
    char title[80];
    TRY(measure_twins(h, p));
    snprintf(title, sizeof title, "%s: twins for P V and fc2", h->recipe.recipe);
    if (o->pareto) TRY(print_pareto(h->context->engine, p, title, h->context->print, h->error));
    h->out->time.budget = (uint64_t)(o->ms * MIXED_NS_PER_MS);
    TRY(choose(h->context->engine, p, &h->out->time, h->error));
    if (o->pareto) print_chosen(p, h->c->model, h->context->print);
    return spread(h, p, twins, TWIN_BY_RECIPE, &h->out->twins);
}

static qvit_status choose_twins(struct chooser *h)
{
    struct problem p = {.option = "--budget-ms",
                        .unit = MIXED_NS_PER_MS,
                        .unit_name = "ms/image",
                        .names = twin_names};
    qvit_status status = problem_begin(&p, 2 * h->c->model->depth, TWINS, h->error);
    if (status == QVIT_OK) status = allocate_time(h, &p);
    problem_close(&p);
    return status;
}

/* ---- all of it ---- */

qvit_status mixed_choose(const mixed_context *context, calibration *c,
                         const calibration_recipe *recipe, mixed_choice *out, qvit_error *error)
{
    const mixed_options *o = context->options;
    struct chooser h = {context, c, *recipe, out, error};
    *out = (mixed_choice){.model = c->model};
    qvit_status status = calibration_forget_quantized(c, error);
    if (status == QVIT_OK && (o->by_bytes || (o->pareto && !o->by_time)))
        status = choose_widths(&h);
    if (status == QVIT_OK && o->by_time) status = choose_twins(&h);
    if (status != QVIT_OK) mixed_choice_close(out);
    return status;
}

void mixed_choice_close(mixed_choice *choice)
{
    free(choice->weight_bits);
    free(choice->twins);
    *choice = (mixed_choice){0};
}
