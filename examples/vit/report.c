#include "report.h"

#include <math.h>

#include "fail.h"
#include "json_writer.h"
#include "output_file.h"

/* ---- the table ---- */

static void print_entry(FILE *stream, const report *r, const report_entry *e)
{
    char sqnr[24] = "-"; /* of logits that are all 0, or not finite, there is none */
    if (isfinite(e->sqnr_db)) snprintf(sqnr, sizeof sqnr, "%.2f", e->sqnr_db);
    fprintf(stream, "%-12s %-5s %7.2f %7.2f %10.2f %8s %9.2f %8.2f %11.1f\n", e->recipe, e->bits,
            e->accuracy.top1, e->accuracy.top5, e->agreement, sqnr, e->ms_per_image,
            r->ms_per_image / e->ms_per_image, (double)e->weight_bytes / 1000);
}

void report_print(const report *r, FILE *stream)
{
    fprintf(stream, "%s: %zu images, batch %zu, threads %zu, %s\n\n", r->model, r->n, r->batch,
            r->threads, r->isa);
    fprintf(stream, "%-12s %-5s %7s %7s %10s %8s %9s %8s %11s\n", "recipe", "bits", "top-1",
            "top-5", "agreement", "SQNR dB", "ms/image", "x float", "weights kB");
    fprintf(stream, "%-12s %-5s %7.2f %7.2f %10s %8s %9.2f %8s %11.1f\n", "float", "-",
            r->accuracy.top1, r->accuracy.top5, "-", "-", r->ms_per_image, "-",
            (double)r->float_weight_bytes / 1000);
    for (const report_entry *e = r->entries; e < r->entries + r->count; e++)
        print_entry(stream, r, e);
}

/* ---- JSON ---- */

static void write_text(json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    json_string(w, value);
}

static void write_number(json_writer *w, const char *key, double value)
{
    json_key(w, key);
    json_number(w, value);
}

static void write_count(json_writer *w, const char *key, size_t value)
{
    json_key(w, key);
    json_integer(w, (int64_t)value);
}

/* Which kernel each plan runs: "blocks.0.attn.qkv gemm_u8s8_12x32_avx512vnni". */
static void write_kernels(json_writer *w, const network *net)
{
    json_key(w, "kernels");
    json_array(w);
    for (size_t i = 0; i < net->step_count; i++) {
        char name[NETWORK_NAME], text[NETWORK_NAME + 80];
        snprintf(text, sizeof text, "%s %s", network_step_name(net, i, name),
                 qvit_plan_kernel(net->steps[i].plan));
        json_string(w, text);
    }
    json_array_end(w);
}

static void write_quantized(json_writer *w, const report_entry *e)
{
    json_key(w, "quantized");
    json_object(w);
    write_text(w, "recipe", e->recipe);
    write_text(w, "bits", e->bits);
    write_number(w, "top1", e->accuracy.top1);
    write_number(w, "top5", e->accuracy.top5);
    write_number(w, "agreement", e->agreement);
    write_number(w, "logits_sqnr_db", e->sqnr_db);
    write_number(w, "ms_per_image", e->ms_per_image);
    write_count(w, "weight_bytes", e->weight_bytes);
    write_count(w, "packed_bytes", network_packed_bytes(e->net));
    mixed_write_json(e->choice, w);
    write_kernels(w, e->net);
    write_text(w, "logits_sha256", e->logits_sha256);
    json_object_end(w);
}

static void write_calibration(json_writer *w, const report_entry *e)
{
    json_key(w, "calibration");
    json_object(w);
    write_count(w, "images", e->calibration_images);
    write_number(w, "seconds", e->calibration_seconds);
    write_count(w, "peak_bytes", e->calibration_peak_bytes);
    json_object_end(w);
}

/* entry: NULL for the float model alone. */
static void write_object(json_writer *w, const report *r, const report_entry *entry)
{
    json_object(w);
    write_text(w, "model", r->model);
    write_count(w, "n", r->n);
    json_key(w, "fp32");
    json_object(w);
    write_number(w, "top1", r->accuracy.top1);
    write_number(w, "top5", r->accuracy.top5);
    write_number(w, "ms_per_image", r->ms_per_image);
    json_object_end(w);
    if (entry) {
        write_quantized(w, entry);
        write_calibration(w, entry);
    }
    json_object_end(w);
}

qvit_status report_write_json(const report *r, const char *path, qvit_error *error)
{
    output_file file;
    TRY(output_file_begin(&file, path, error));
    json_writer w;
    json_begin(&w, file.stream);
    if (r->count > 1) {
        json_array(&w);
        for (size_t i = 0; i < r->count; i++) write_object(&w, r, &r->entries[i]);
        json_array_end(&w);
    } else {
        write_object(&w, r, r->entries);
    }
    json_end(&w); /* a failure stays in the stream, where output_file_end finds it */
    return output_file_end(&file, error);
}
