#include "latency.h"

#include <stdlib.h>

#include "eval.h"
#include "fail.h"

enum { PASSES = 9 };

static void keep_least(double *kept, double start, bool first)
{
    const double seconds = eval_seconds() - start;
    if (first || seconds < *kept) *kept = seconds;
}

/* parts: seconds of the embedding, of both halves of every block in turn, and of classifying. */
static qvit_status run_once(const network_pass *p, const uint8_t *images, float *logits, bool first,
                            double *parts)
{
    double start = eval_seconds();
    TRY(network_embed(p, images));
    keep_least(parts++, start, first);
    for (size_t block = 0; block < p->net->model->depth; block++) {
        start = eval_seconds();
        TRY(network_attend(p, block));
        keep_least(parts++, start, first);
        start = eval_seconds();
        TRY(network_transform(p, block));
        keep_least(parts++, start, first);
    }
    start = eval_seconds();
    TRY(network_classify(p, logits));
    keep_least(parts, start, first);
    return QVIT_OK;
}

static uint64_t nanoseconds(double seconds, size_t share)
{
    return (uint64_t)(seconds * 1e9 / (double)share + 0.5);
}

static latency sum_up(const double *parts, size_t depth, size_t images)
{
    double attend = 0, transform = 0;
    for (size_t block = 0; block < depth; block++) {
        attend += parts[1 + 2 * block];
        transform += parts[2 + 2 * block];
    }
    return (latency){.attend = nanoseconds(attend, depth * images),
                     .transform = nanoseconds(transform, depth * images),
                     .rest = nanoseconds(parts[0] + parts[1 + 2 * depth], images)};
}

static qvit_status measure(const network *const *nets, size_t net_count, const uint8_t *images,
                           size_t count, double *parts, float *logits, qvit_error *error)
{
    const size_t part_count = 2 * nets[0]->model->depth + 2;
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t i = 0; i < net_count; i++) {
            const network_pass p = {nets[i], count, NULL, error};
            TRY(run_once(&p, images, logits, pass == 0, parts + i * part_count));
        }
    }
    return QVIT_OK;
}

qvit_status latency_measure(const network *const *nets, size_t net_count, const uint8_t *images,
                            size_t count, latency *out, qvit_error *error)
{
    const vit_model *model = nets[0]->model;
    const size_t part_count = 2 * model->depth + 2;
    double *parts = calloc(net_count * part_count, sizeof *parts);
    float *logits = calloc(count * model->classes, sizeof *logits);
    qvit_status status = parts && logits ? QVIT_OK : fail_memory(error);
    if (status == QVIT_OK) status = measure(nets, net_count, images, count, parts, logits, error);
    for (size_t i = 0; status == QVIT_OK && i < net_count; i++)
        out[i] = sum_up(parts + i * part_count, model->depth, count);
    free(logits);
    free(parts);
    return status;
}
