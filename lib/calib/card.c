/* card.c - the quantization card: what was chosen, on what grounds, and what it cost, as JSON. */
#include "calib/card.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/options.h"
#include "calib/result.h"
#include "quant/quantizer.h"

enum { CARD_VERSION = 1 };

QVITP_DEFINE_INIT(qvit_card_options, QVIT_CARD_OPTIONS_INIT)

/* ---- warnings ---- */

/* Noise is a matter of concern below these: of one site, of half of them, at the model's end. */
static const double SITE_DB = 5, MEDIAN_DB = 8, END_DB = 3;
static const double MOST_SATURATED = 0.1;

static void warn(struct qvitp_json *j, const char *format, ...) QVITP_PRINTF(2, 3);
static void warn(struct qvitp_json *j, const char *format, ...)
{
    char text[320]; /* a label and some words */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    qvitp_json_string(j, text);
}

static void warn_saturated(struct qvitp_json *j, const struct qvitp_site *s, qvit_score_key key,
                           const char *side)
{
    double share = qvit_result_score(s->result, key);
    if (share > MOST_SATURATED) /* numbers without decimals, as those have the locale's point */
        warn(j, "%s: %.0f %% of the codes of its %s lie at an end of their range", s->label,
             100 * share, side);
}

static void warn_of_site(struct qvitp_json *j, const struct qvitp_site *s)
{
    if (!s->seen && s->kind != QVIT_INPUT_IMAGE) warn(j, "%s: nothing was observed", s->label);
    if (!s->result) {
        warn(j, "%s is not solved", s->label);
        return;
    }
    double sqnr = qvit_result_score(s->result, QVIT_SCORE_SQNR_DB);
    /* Behind a quantized prefix the error is against a target that asks for more than the site's own. */
    if (sqnr < SITE_DB && !s->result->use_quantized)
        warn(j, "%s: its output has an SQNR of %.0f dB only, so much of it is noise", s->label,
             floor(sqnr));
    if (s->kind != QVIT_INPUT_IMAGE) warn_saturated(j, s, QVIT_SCORE_SATURATED_INPUT, "input");
    warn_saturated(j, s, QVIT_SCORE_SATURATED_SECOND,
                   s->type == QVIT_SITE_LINEAR ? "weights" : "right operand");
}

/* NaN if no site has one. */
static double median_sqnr(struct qvitp_card *card)
{
    const qvit_calibrator *c = card->calibrator;
    size_t known = 0;
    for (size_t i = 0; i < c->count; i++) {
        double sqnr = qvit_result_score(c->sites[i]->result, QVIT_SCORE_SQNR_DB);
        if (!isnan(sqnr)) card->scratch[known++] = (float)sqnr;
    }
    return known ? (double)qvitp_card_median(card->scratch, known) : NAN;
}

/* The last site's accumulated SQNR that is known. */
static double end_sqnr(const struct qvitp_card *card)
{
    for (size_t i = card->accumulated ? card->calibrator->count : 0; i-- > 0;)
        if (!isnan(card->accumulated[i].sqnr_db)) return card->accumulated[i].sqnr_db;
    return NAN;
}

void qvitp_card_warnings(struct qvitp_card *card)
{
    struct qvitp_json *j = &card->json;
    const qvit_calibrator *c = card->calibrator;
    qvitp_json_key(j, "warnings");
    qvitp_json_array(j);
    if (median_sqnr(card) < MEDIAN_DB || end_sqnr(card) < END_DB)
        warn(j, "the model has probably collapsed: expect an accuracy near chance. More bits, or a "
                "recipe that searches, may help");
    for (size_t i = 0; i < c->count; i++) warn_of_site(j, c->sites[i]);
    qvitp_json_array_end(j);
}

/* ---- numerics ---- */

static void put_numerics(struct qvitp_json *j)
{
    qvitp_json_begin_member(j, "numerics");
    qvitp_json_text(j, "rounding", "to nearest, halves to even");
    qvitp_json_text(j, "accumulators", "int32; plans are only made where none can overflow");
    qvitp_json_text(j, "scales", "float32");
    qvitp_json_text(j, "bias", "float32, added behind the scale");
    qvitp_json_text(j, "between_products",
                    "float32 inside a plan, codes from one plan to the next");
    qvitp_json_key(j, "float");
    qvitp_json_array(j);
    static const char *const floats[] = {"inside of layer norm", "inside of softmax",
                                         "inside of GELU", "residual stream"};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) qvitp_json_string(j, floats[i]);
    qvitp_json_array_end(j);
    qvitp_json_object_end(j);
}

/* ---- calibration ---- */

/* Samples whose rows or matrices were kept, by sorting them; of a matmul those of its first head. SIZE_MAX
 * if memory runs out. */
static size_t samples_kept(struct qvitp_card *card, const struct qvitp_site *site)
{
    const struct qvitp_sample *rows = site->matrices ? &site->matrices[0].keys : &site->rows;
    if (!rows->count) return 0;
    size_t *order = qvitp_pool_alloc(&card->pool, rows->count, 2 * sizeof *order);
    if (!order) return SIZE_MAX;
    size_t count = qvitp_sample_order(rows, 0, order);
    return qvitp_sample_ends(rows, order, count, order + rows->count);
}

static int has_gradient(const struct qvitp_sample *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].parts >> QVITP_PART_GRADIENT & 1) return 1;
    return 0;
}

static int saw_gradients(const struct qvitp_site *site)
{
    if (has_gradient(&site->rows)) return 1;
    for (size_t head = 0; site->matrices && head < site->heads; head++) {
        const struct qvitp_matrices *m = &site->matrices[head];
        for (size_t i = 0; i < m->keys.count; i++)
            if (has_gradient(&m->left[m->keys.rows[i].slot])) return 1;
    }
    return 0;
}

static void put_calibration(struct qvitp_card *card, size_t samples)
{
    struct qvitp_json *j = &card->json;
    const qvit_calibrator *c = card->calibrator;
    int gradients = 0;
    for (size_t i = 0; i < c->count && !gradients; i++) gradients = saw_gradients(c->sites[i]);
    qvitp_json_begin_member(j, "calibration");
    qvitp_json_size(j, "seed", c->seed);
    qvitp_json_size(j, "max_bytes", c->max_bytes);
    qvitp_json_size(j, "max_rows", c->max_rows);
    qvitp_json_size(j, "samples_kept", samples);
    qvitp_json_flag(j, "gradients", gradients);
    qvitp_json_object_end(j);
}

/* ---- recipes and sites ---- */

static void find_leaders(struct qvitp_card *card)
{
    const qvit_calibrator *c = card->calibrator;
    for (size_t i = 0; i < c->count; i++) {
        const qvit_result *result = c->sites[i]->result;
        card->leader[i] = SIZE_MAX;
        for (size_t k = 0; result && k <= i && card->leader[i] == SIZE_MAX; k++)
            if (k == i ||
                (card->leader[k] == k && qvitp_card_same_recipe(c->sites[k]->result, result)))
                card->leader[i] = k;
    }
}

static size_t recipe_number(const struct qvitp_card *card, size_t site)
{
    size_t number = 0;
    for (size_t i = 0; i < site && i < card->leader[site]; i++) number += card->leader[i] == i;
    return number;
}

static void put_recipes(struct qvitp_card *card)
{
    struct qvitp_json *j = &card->json;
    const qvit_calibrator *c = card->calibrator;
    qvitp_json_key(j, "recipes");
    qvitp_json_array(j);
    for (size_t i = 0; i < c->count; i++) {
        if (card->leader[i] != i) continue;
        qvitp_json_object(j);
        qvitp_card_recipe(j, c->sites[i]->result);
        qvitp_json_object_end(j);
    }
    qvitp_json_array_end(j);
}

static void put_sites(struct qvitp_card *card)
{
    struct qvitp_json *j = &card->json;
    qvitp_json_key(j, "sites");
    qvitp_json_array(j);
    for (size_t i = 0; i < card->calibrator->count; i++)
        qvitp_card_site(card, card->calibrator->sites[i], recipe_number(card, i));
    qvitp_json_array_end(j);
}

/* ---- the whole ---- */

/* Before the first byte is written: what may fail for want of memory. */
static qvit_status prepare(struct qvitp_card *card, size_t *samples, qvit_error *error)
{
    const qvit_calibrator *c = card->calibrator;
    size_t most = c->count;
    for (size_t i = 0; i < c->count; i++) {
        const struct qvitp_site *s = c->sites[i];
        size_t kept = samples_kept(card, s);
        if (kept == SIZE_MAX) return qvitp_no_memory(error);
        if (kept > *samples) *samples = kept;
        if (!s->result) continue;
        const size_t sizes[] = {s->result->input->blocks, s->result->second->blocks, s->inputs};
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            if (sizes[k] > most) most = sizes[k];
    }
    card->scratch = qvitp_pool_alloc(&card->pool, most, sizeof *card->scratch);
    card->leader = qvitp_pool_alloc(&card->pool, c->count, sizeof *card->leader);
    if (!card->scratch || !card->leader) return qvitp_no_memory(error);
    find_leaders(card);
    return QVIT_OK;
}

static void put_card(struct qvitp_card *card, size_t samples)
{
    struct qvitp_json *j = &card->json;
    qvitp_json_object(j);
    qvitp_json_text(j, "format", "qvit card");
    qvitp_json_whole(j, "version", CARD_VERSION);
    qvitp_json_text(j, "library", qvit_version_string());
    put_numerics(j);
    put_calibration(card, samples);
    put_recipes(card);
    qvitp_card_warnings(card);
    put_sites(card);
    qvitp_json_object_end(j);
    qvitp_json_end(j);
}

qvit_status qvit_calibrator_card(const qvit_calibrator *c, const qvit_card_options *options,
                                 qvit_write write, void *user, qvit_error *error)
{
    if (!c || !write) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator or write is NULL");
    qvit_card_options o = QVIT_CARD_OPTIONS_INIT;
    if (options) QVITP_TRY(QVITP_READ(&o, options, error));
    if (o.accumulated_count && !o.accumulated)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "accumulated is NULL");
    if (o.accumulated && o.accumulated_count != c->count)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "accumulated_count is %zu; there are %zu sites",
                          o.accumulated_count, c->count);
    struct qvitp_card card = {.calibrator = c,
                              .accumulated = o.accumulated,
                              .pool = {c->engine, NULL},
                              .json.out = {.write = write, .user = user}};
    size_t samples = 0;
    qvit_status status = prepare(&card, &samples, error);
    if (status == QVIT_OK) put_card(&card, samples);
    qvitp_pool_free(&card.pool);
    if (status != QVIT_OK) return status;
    if (card.json.out.refused)
        return qvitp_fail(error, QVIT_ERR_IO, "the writing callback returned %d",
                          (int)card.json.out.refused);
    return qvitp_ok(error);
}
