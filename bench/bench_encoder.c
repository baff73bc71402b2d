/* bench_encoder.c - whole transformers, against the time of all their multiplications at peak. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoder.h"
#include "shapes_vit.h"

static const struct form {
    const char *bits, *operand, *order;
} forms[] = {{"w8a8", "plain", "none"},  {"w8a8", "plain", "random"}, {"w8a8", "twin", "none"},
             {"w8a8", "twin", "random"}, {"w4a8", "plain", "none"},   {"w4a8", "plain", "random"},
             {"w4a8", "twin", "none"},   {"w4a8", "twin", "random"},  {"f32", "plain", "none"}};
enum { FORMS = sizeof forms / sizeof forms[0] };

static void run(void *user) { encoder_run(user); }

static int wanted(const struct bench_options *o, const struct form *form)
{
    const char *order = o->order ? o->order : "none";
    return bench_wants(o->bits, form->bits) && bench_wants(o->operand, form->operand) &&
           (!strcmp(order, "all") || !strcmp(order, form->order) || form->bits[0] == 'f');
}

static void add(struct bench *b, const struct material *m, const struct vit_arch *arch,
                const struct form *form)
{
    const size_t batch = b->options.batch ? b->options.batch : 1;
    const struct encoder_form made = {form->bits, form->operand[0] == 't', form->order[0] == 'r'};
    const int floats = form->bits[0] == 'f';
    struct encoder *encoder = encoder_create(m, arch->width, batch, &made);
    char name[40];
    snprintf(name, sizeof name, "%s.%s.%s%s", arch->name, form->bits, form->operand,
             made.reordered ? ".reordered" : "");
    struct bench_row *row = bench_add(b, "encoder", name, run, encoder);
    row->macs = vit_macs(arch->width) * (double)batch;
    row->peak = floats ? PEAK_F32 : PEAK_INT8;
    bench_text(row, "arch", arch->name);
    bench_text(row, "isa", qvit_engine_isa_name(b->engine));
    bench_text(row, "bits", form->bits);
    bench_text(row, "operand", form->operand);
    bench_text(row, "recipe", "random");
    bench_text(row, "order", form->order);
    bench_number(row, "batch", (double)batch, 0);
    bench_number(row, "threads", (double)b->options.threads, 0);
}

/* Their sum is less disturbed than any whole run: a step is too short to be interrupted each time. */
static void add_steps(struct bench_row *row, int all)
{
    double sum = 0;
    for (int kind = 0; kind < ENCODER_STEPS; kind++) {
        double ms = encoder_step_time(row->user, (enum encoder_step)kind) * 1e-6;
        if (all) bench_number(row, encoder_step_names[kind], ms, 3);
        sum += ms;
    }
    bench_number(row, "ms_steps", sum, 3);
}

/* What can be said once all rows are measured. A float encoder, where there is one, is the last. */
static void add_results(struct bench *b, size_t first)
{
    const struct bench_row *last = b->count > first ? &b->rows[b->count - 1] : NULL;
    if (last && last->peak != PEAK_F32) last = NULL;
    for (size_t i = first; i < b->count; i++) {
        struct bench_row *row = &b->rows[i];
        bench_number(row, "ms", row->timing.fastest * 1e-6, 3);
        bench_number(row, "x_peak_time", 100 / bench_percent(b, row), 2);
        if (last) bench_number(row, "x_f32", last->timing.fastest / row->timing.fastest, 2);
        add_steps(row, b->options.steps);
    }
}

void bench_encoder(struct bench *b)
{
    struct material m;
    material_open(&m, b->engine);
    for (size_t a = 0; a < VIT_ARCHS;
         a++) { /* one after the other: the largest needs much memory */
        if (!bench_wants(b->options.arch, vit_archs[a].name)) continue;
        if (b->options.quick && !b->options.arch && a > 0) continue;
        size_t first = b->count;
        for (size_t i = 0; i < FORMS; i++)
            if (wanted(&b->options, &forms[i])) add(b, &m, &vit_archs[a], &forms[i]);
        bench_measure(b, first);
        add_results(b, first);
        bench_print(b, first);
        for (size_t i = first; i < b->count; i++) encoder_destroy(b->rows[i].user);
    }
    material_close(&m);
}
