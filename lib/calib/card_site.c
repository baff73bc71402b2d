/* card_site.c - one site of a quantization card. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calib/card.h"
#include "calib/result.h"
#include "quant/quantizer.h"
#include "tensor.h"

/* So many scales are listed one by one; of more only what they range over is told. */
enum { LISTED = 16 };

/* Bins of a card's histogram to an octave, and how many of the statistics' bins one of them joins. */
enum { BINS_PER_OCTAVE = 8, JOINED = QVITP_BINS_PER_OCTAVE / BINS_PER_OCTAVE };
enum { BINS = QVITP_BINS / JOINED };

/* ---- words ---- */

static const char *kind_name(qvit_input_kind kind)
{
    static const char *const names[] = {[QVIT_INPUT_GENERIC] = "generic",
                                        [QVIT_INPUT_LAYER_NORM] = "layer norm",
                                        [QVIT_INPUT_SOFTMAX] = "softmax",
                                        [QVIT_INPUT_GELU] = "gelu",
                                        [QVIT_INPUT_IMAGE] = "image"};
    return names[kind];
}

/* ---- quantizers ---- */

static int compare(const void *left, const void *right)
{
    float a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

float qvitp_card_median(float *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return (float)(((double)values[(count - 1) / 2] + (double)values[count / 2]) / 2);
}

/* What `count` numbers in the scratch range over. */
static void put_range(struct qvitp_card *card, size_t count)
{
    struct qvitp_json *j = &card->json;
    float median = qvitp_card_median(card->scratch, count);
    qvitp_json_object(j);
    qvitp_json_real(j, "min", (double)card->scratch[0]);
    qvitp_json_real(j, "median", (double)median);
    qvitp_json_real(j, "max", (double)card->scratch[count - 1]);
    qvitp_json_size(j, "count", count);
    qvitp_json_object_end(j);
}

/* `count` numbers in the scratch, one by one or what they range over. */
static void put_numbers(struct qvitp_card *card, const char *name, size_t count)
{
    struct qvitp_json *j = &card->json;
    qvitp_json_key(j, name);
    if (count > LISTED) {
        put_range(card, count);
        return;
    }
    qvitp_json_array(j);
    for (size_t i = 0; i < count; i++) qvitp_json_number(j, (double)card->scratch[i]);
    qvitp_json_array_end(j);
}

static void put_scales(struct qvitp_card *card, const char *name, const float *scale, size_t count)
{
    if (!scale) return;
    memcpy(card->scratch, scale, count * sizeof *scale);
    put_numbers(card, name, count);
}

/* One is a number, several are listed as scales are. */
static void put_zero_points(struct qvitp_card *card, const qvit_quantizer *q)
{
    if (!q->zero_point) return;
    if (q->blocks == 1) {
        qvitp_json_whole(&card->json, "zero_point", q->zero_point[0]);
        return;
    }
    for (size_t i = 0; i < q->blocks; i++) card->scratch[i] = (float)q->zero_point[i];
    put_numbers(card, "zero_point", q->blocks);
}

static void put_quantizer(struct qvitp_card *card, const char *name, const char *granularity,
                          const qvit_quantizer *q)
{
    struct qvitp_json *j = &card->json;
    const struct qvitp_scheme *scheme = qvitp_scheme_find(q->scheme);
    qvitp_json_begin_member(j, name);
    qvitp_json_text(j, "scheme", scheme->name);
    qvitp_json_whole(j, "bits", q->bits);
    qvitp_json_flag(j, "signed", scheme->code_dtype == QVIT_DTYPE_S8);
    qvitp_json_flag(j, "narrow", (q->flags & QVIT_QUANTIZER_NARROW) != 0);
    qvitp_json_flag(j, "relative", (q->flags & QVIT_QUANTIZER_RELATIVE) != 0);
    qvitp_json_text(j, "granularity", q->blocks == 1 ? "layer" : granularity);
    qvitp_json_size(j, "row_blocks", q->granularity->row_blocks);
    qvitp_json_size(j, "column_blocks", q->granularity->col_blocks);
    put_scales(card, "scale", q->scale, q->blocks);
    put_scales(card, "scale2", q->scale2, q->blocks);
    put_zero_points(card, q);
    qvitp_json_object_end(j);
}

/* ---- the result ---- */

static void put_channels(struct qvitp_card *card, const char *name, const float *values,
                         size_t count)
{
    if (!values) return;
    qvitp_json_key(&card->json, name);
    memcpy(card->scratch, values, count * sizeof *values);
    put_range(card, count);
}

static int bias_changed(const struct qvitp_site *site, const qvit_result *r)
{
    if (!r->bias) return 0;
    for (size_t i = 0; i < r->outputs; i++)
        if (r->bias[i] != (site->bias.data ? qvitp_get_float(&site->bias, 0, i) : 0.0f)) return 1;
    return 0;
}

static void put_scores(struct qvitp_json *j, const qvit_result *r)
{
    qvitp_json_begin_member(j, "scores");
    qvitp_json_real(j, "sqnr_db", qvit_result_score(r, QVIT_SCORE_SQNR_DB));
    qvitp_json_real(j, "cosine", qvit_result_score(r, QVIT_SCORE_COSINE));
    qvitp_json_real(j, "loss", qvit_result_score(r, QVIT_SCORE_LOSS));
    qvitp_json_flag(j, "loss_by_gradient", r->score.gradient);
    qvitp_json_real(j, "saturated_input", qvit_result_score(r, QVIT_SCORE_SATURATED_INPUT));
    qvitp_json_real(j, "saturated_second", qvit_result_score(r, QVIT_SCORE_SATURATED_SECOND));
    qvitp_json_size(j, "samples", r->score.samples);
    qvitp_json_object_end(j);
}

static void put_result(struct qvitp_card *card, const struct qvitp_site *site, const qvit_result *r)
{
    struct qvitp_json *j = &card->json;
    int linear = site->type == QVIT_SITE_LINEAR;
    int by_head = r->second->blocks == site->heads, by_row = r->second->blocks == r->outputs;
    put_quantizer(card, "input", linear ? "chunk" : "head", r->input);
    const char *weights = by_row && r->second->granularity->col_blocks == 1 ? "row" : "sublayer";
    put_quantizer(card, "second", linear ? weights : by_head ? "head" : "channel", r->second);
    if (linear) qvitp_json_flag(j, "reordered", r->input_order != NULL);
    put_channels(card, "channel_scale", r->input_scale, r->inputs);
    put_channels(card, "channel_shift", r->input_shift, r->inputs);
    if (linear) {
        qvitp_json_flag(j, "bias", r->bias != NULL);
        qvitp_json_flag(j, "bias_changed", bias_changed(site, r));
        qvitp_json_text(j, "codes", qvitp_dtype_name(r->code_dtype));
        qvitp_json_size(j, "weight_bytes", qvit_result_weight_bytes(r));
    }
    put_scores(j, r);
}

static void put_accumulated(struct qvitp_json *j, const qvit_fidelity *f)
{
    qvitp_json_begin_member(j, "accumulated");
    qvitp_json_real(j, "sqnr_db", f->sqnr_db);
    qvitp_json_real(j, "cosine", f->cosine);
    qvitp_json_object_end(j);
}

/* ---- what was observed ---- */

const struct qvitp_stats *qvitp_card_input(const struct qvitp_site *site)
{
    if (qvitp_site_saw(site, QVITP_STREAM_INPUT)) return &site->stats[QVITP_STREAM_INPUT];
    if (qvitp_site_saw(site, QVITP_STREAM_INPUT_QUANTIZED))
        return &site->stats[QVITP_STREAM_INPUT_QUANTIZED];
    return NULL;
}

static uint64_t joined_count(const struct qvitp_stats *stats, int negative, size_t bin)
{
    uint64_t count = 0;
    for (size_t group = 0; group < stats->groups; group++)
        for (size_t i = 0; i < JOINED; i++)
            count += qvitp_stats_count(stats, group, negative, bin * JOINED + i);
    return count;
}

/* One sign: its bins from the first to the last that is not empty, and their edges as magnitudes. The
 * very first bin, which also holds the zeros, is told apart. */
static void put_side(struct qvitp_json *j, const struct qvitp_stats *stats, int negative)
{
    size_t first = 1, last = BINS;
    while (first < BINS && !joined_count(stats, negative, first)) first++;
    while (last > first && !joined_count(stats, negative, last - 1)) last--;
    qvitp_json_begin_member(j, negative ? "negative" : "positive");
    qvitp_json_key(j, "edges");
    qvitp_json_array(j);
    for (size_t bin = first; first < last && bin <= last; bin++)
        qvitp_json_number(j, (double)qvitp_stats_edge(bin * JOINED));
    qvitp_json_array_end(j);
    qvitp_json_key(j, "counts");
    qvitp_json_array(j);
    for (size_t bin = first; bin < last; bin++)
        qvitp_json_count(j, joined_count(stats, negative, bin));
    qvitp_json_array_end(j);
    qvitp_json_object_end(j);
}

static void put_histogram(struct qvitp_json *j, const struct qvitp_stats *stats)
{
    float low = 0, high = 0;
    for (size_t c = 0; c < stats->channels; c++) {
        float lo, hi;
        qvitp_stats_range(stats, c, &lo, &hi);
        low = c && low < lo ? low : lo;
        high = c && high > hi ? high : hi;
    }
    qvitp_json_begin_member(j, "histogram");
    qvitp_json_real(j, "min", (double)low);
    qvitp_json_real(j, "max", (double)high);
    qvitp_json_real(j, "tiny_below", (double)qvitp_stats_edge(JOINED));
    qvitp_json_size(j, "tiny", joined_count(stats, 0, 0) + joined_count(stats, 1, 0));
    put_side(j, stats, 1);
    put_side(j, stats, 0);
    qvitp_json_object_end(j);
}

size_t qvitp_card_rows(const struct qvitp_site *site)
{
    size_t rows = site->rows.count;
    for (size_t head = 0; site->matrices && head < site->heads; head++)
        for (size_t i = 0; i < site->matrices[head].keys.count; i++)
            rows += site->matrices[head].left[site->matrices[head].keys.rows[i].slot].count;
    return rows;
}

/* ---- the whole ---- */

static void put_description(struct qvitp_json *j, const struct qvitp_site *site)
{
    int linear = site->type == QVIT_SITE_LINEAR;
    qvitp_json_size(j, "number", site->index);
    qvitp_json_text(j, "name", site->name);
    qvitp_json_text(j, "type", linear ? "linear" : "matmul");
    qvitp_json_text(j, "kind", kind_name(site->kind));
    if (!linear) qvitp_json_size(j, "heads", site->heads);
    qvitp_json_size(j, "inputs", site->inputs);
    qvitp_json_size(j, "outputs", site->outputs);
    if (site->group != site->index) qvitp_json_size(j, "shares_input_with", site->group);
    if (site->producer != SIZE_MAX) qvitp_json_size(j, "producer", site->producer);
}

void qvitp_card_site(struct qvitp_card *card, const struct qvitp_site *site, size_t recipe)
{
    struct qvitp_json *j = &card->json;
    const struct qvitp_stats *stats = qvitp_card_input(site);
    qvitp_json_object(j);
    put_description(j, site);
    qvitp_json_flag(j, "solved", site->result != NULL);
    if (site->result) qvitp_json_size(j, "solved_with", recipe);
    if (site->result) put_result(card, site, site->result);
    if (card->accumulated) put_accumulated(j, &card->accumulated[site->index]);
    qvitp_json_flag(j, "observed", site->seen != 0);
    qvitp_json_size(j, "rows_kept", qvitp_card_rows(site));
    if (stats) put_histogram(j, stats);
    qvitp_json_object_end(j);
}
