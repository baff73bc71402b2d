#include "mixed.h"

/* Bytes are whole numbers, milliseconds are not. */
static void write_cost(json_writer *w, const char *key, uint64_t cost, double unit)
{
    json_key(w, key);
    if (unit > 1)
        json_number(w, (double)cost / unit);
    else
        json_integer(w, (int64_t)cost);
}

static void write_bill(json_writer *w, const char *key, const mixed_bill *bill, double unit)
{
    json_key(w, key);
    json_object(w);
    write_cost(w, "budget", bill->budget, unit);
    write_cost(w, "least", bill->least, unit);
    write_cost(w, "most", bill->most, unit);
    write_cost(w, "expected", bill->cost, unit);
    json_key(w, "expected_loss");
    json_number(w, bill->loss);
    json_object_end(w);
}

static void write_widths(json_writer *w, const mixed_choice *choice)
{
    char name[SITE_NAME];
    json_key(w, "weight_bits");
    json_object(w);
    for (size_t i = 0; i < site_count(choice->model); i++) {
        const size_t place = (i + SITES_PER_BLOCK - 1) % SITES_PER_BLOCK;
        const bool ends = i == SITE_PATCH_EMBED || i == site_head(choice->model);
        if (!ends && (place == SITE_QK || place == SITE_PV)) continue; /* no weights */
        json_key(w, site_name(choice->model, i, name));
        json_integer(w, choice->weight_bits[i]);
    }
    json_object_end(w);
}

static void write_twins(json_writer *w, const mixed_choice *choice)
{
    char name[SITE_NAME];
    json_key(w, "twins");
    json_object(w);
    for (size_t i = 0; i < site_count(choice->model); i++) {
        if (choice->twins[i] == TWIN_BY_RECIPE) continue;
        json_key(w, site_name(choice->model, i, name));
        json_boolean(w, choice->twins[i] == TWIN_ALWAYS);
    }
    json_object_end(w);
}

void mixed_write_json(const mixed_choice *choice, json_writer *w)
{
    if (!choice->weight_bits && !choice->twins) return;
    json_key(w, "budget");
    json_object(w);
    if (choice->weight_bits) write_bill(w, "weight_bytes", &choice->bytes, 1);
    if (choice->twins) write_bill(w, "ms_per_image", &choice->time, MIXED_NS_PER_MS);
    json_object_end(w);
    if (choice->weight_bits) write_widths(w, choice);
    if (choice->twins) write_twins(w, choice);
}
