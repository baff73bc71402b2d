#define _POSIX_C_SOURCE 200809L

#include "card.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "files.h"
#include "json_writer.h"

/* ---- what the library tells ---- */

static int32_t write_piece(void *user, const void *data, size_t size)
{
    return fwrite(data, 1, size, user) != size;
}

/* Ends a stream in memory. Its text is the caller's if all of it could be written. */
static qvit_status end_text(FILE *stream, char **text, qvit_status status, qvit_error *error)
{
    bool failed = ferror(stream);
    failed |= fclose(stream) != 0;
    if (status == QVIT_OK && failed) status = fail_memory(error);
    if (status == QVIT_OK) return QVIT_OK;
    free(*text);
    *text = NULL;
    return status;
}

qvit_status card_capture(const calibration *c, const qvit_fidelity *accumulated, char **text,
                         qvit_error *error)
{
    size_t size;
    *text = NULL;
    FILE *stream = open_memstream(text, &size);
    if (!stream) return fail_memory(error);
    qvit_card_options options = QVIT_CARD_OPTIONS_INIT;
    options.accumulated = accumulated;
    options.accumulated_count = accumulated ? site_count(c->model) : 0;
    qvit_status status = qvit_calibrator_card(c->calibrator, &options, write_piece, stream, error);
    return end_text(stream, text, status, error);
}

/* ---- what only the host knows ---- */

qvit_status card_hash_file(const char *path, char hex[SHA256_HEX], qvit_error *error)
{
    FILE *stream = open_to_read(path);
    if (!stream) return fail(error, QVIT_ERR_IO, "%s: %s", path, strerror(errno));
    sha256 hash;
    static const size_t piece = 1 << 16;
    unsigned char *buffer = malloc(piece);
    sha256_begin(&hash);
    for (size_t got = buffer ? piece : 0; got == piece;) {
        got = fread(buffer, 1, piece, stream);
        sha256_add(&hash, buffer, got);
    }
    sha256_end(&hash, hex);
    bool read = !ferror(stream);
    fclose(stream);
    if (!buffer) return fail_memory(error);
    free(buffer);
    return read ? QVIT_OK : fail(error, QVIT_ERR_IO, "%s: cannot be read in full", path);
}

static void put_text(json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    json_string(w, value);
}

static void put_number(json_writer *w, const char *key, double value)
{
    json_key(w, key);
    json_number(w, value);
}

static void put_count(json_writer *w, const char *key, size_t value)
{
    json_key(w, key);
    json_integer(w, (int64_t)value);
}

static void begin(json_writer *w, const char *key)
{
    json_key(w, key);
    json_object(w);
}

/* Names of files without their folders, which are no part of what was measured. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void put_colour(json_writer *w, const char *key, const float colour[VIT_CHANNELS])
{
    json_key(w, key);
    json_array(w);
    for (int i = 0; i < VIT_CHANNELS; i++) {
        char text[16]; /* as it was given: a float has no more digits than these */
        snprintf(text, sizeof text, "%.7g", (double)colour[i]);
        json_number(w, strtod(text, NULL));
    }
    json_array_end(w);
}

static void put_model(json_writer *w, const card_source *s, const report *r)
{
    const vit_model *m = s->model;
    begin(w, "model");
    put_text(w, "file", base_name(r->model));
    put_text(w, "sha256", s->model_sha256);
    put_count(w, "width", m->width);
    put_count(w, "depth", m->depth);
    put_count(w, "heads", m->heads);
    put_count(w, "hidden", m->hidden);
    put_count(w, "tokens", m->tokens);
    put_count(w, "classes", m->classes);
    json_object_end(w);
    begin(w, "preprocessing");
    put_count(w, "image", m->image);
    put_count(w, "patch", m->patch);
    put_text(w, "pixels", "uint8, red green blue; resized and cropped beforehand");
    put_colour(w, "mean", m->mean);
    put_colour(w, "std", m->std);
    json_object_end(w);
}

static void put_data(json_writer *w, const card_source *s, const report_entry *e)
{
    begin(w, "calibration_data");
    if (s->calib) put_text(w, "file", base_name(s->calib));
    put_count(w, "first", s->calib_first);
    put_count(w, "count", e->calibration_images);
    put_count(w, "accumulated_images", s->accumulated_images);
    json_key(w, "labels_used");
    json_boolean(w, false);
    json_object_end(w);
}

static void put_accuracy(json_writer *w, const card_source *s, const report *r,
                         const report_entry *e)
{
    begin(w, "accuracy");
    put_text(w, "images", base_name(s->images));
    put_count(w, "n", r->n);
    put_number(w, "float_top1", r->accuracy.top1);
    put_number(w, "float_top5", r->accuracy.top5);
    put_number(w, "top1", e->accuracy.top1);
    put_number(w, "top5", e->accuracy.top5);
    put_number(w, "agreement", e->agreement);
    put_number(w, "logits_sqnr_db", e->sqnr_db);
    put_text(w, "logits_sha256", e->logits_sha256);
    json_object_end(w);
}

static void put_measured(json_writer *w, const report *r, const report_entry *e)
{
    begin(w, "measured");
    put_number(w, "calibration_seconds", e->calibration_seconds);
    put_count(w, "calibration_peak_bytes", e->calibration_peak_bytes);
    put_number(w, "float_ms_per_image", r->ms_per_image);
    put_number(w, "ms_per_image", e->ms_per_image);
    put_count(w, "packed_bytes", network_packed_bytes(e->net));
    put_text(w, "isa", r->isa);
    put_count(w, "threads", r->threads);
    put_count(w, "batch", r->batch);
    json_object_end(w);
}

qvit_status card_compose(const card_source *s, const report *r, const report_entry *e, char **text,
                         qvit_error *error)
{
    size_t size;
    *text = NULL;
    FILE *stream = open_memstream(text, &size);
    if (!stream) return fail_memory(error);
    json_writer w;
    json_begin(&w, stream);
    json_object(&w);
    put_text(&w, "format", "qvit-vit card");
    put_text(&w, "recipe", e->recipe);
    put_text(&w, "bits", e->bits);
    put_model(&w, s, r);
    put_data(&w, s, e);
    put_accuracy(&w, s, r, e);
    put_count(&w, "weight_bytes", e->weight_bytes);
    put_measured(&w, r, e);
    json_key(&w, "quantization");
    json_raw(&w, e->card);
    json_object_end(&w);
    json_end(&w);
    return end_text(stream, text, QVIT_OK, error);
}

char *card_path(const char *path, const report_entry *entry, bool only)
{
    const char *name = base_name(path), *dot = strrchr(name, '.');
    const size_t stem = dot && dot != name ? (size_t)(dot - path) : strlen(path);
    const size_t size = strlen(path) + strlen(entry->recipe) + strlen(entry->bits) + 3;
    char *out = malloc(size);
    if (!out) return NULL;
    if (only)
        snprintf(out, size, "%s", path);
    else
        snprintf(out, size, "%.*s-%s-%s%s", (int)stem, path, entry->recipe, entry->bits,
                 path + stem);
    return out;
}
