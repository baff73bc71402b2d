#define _POSIX_C_SOURCE 200809L

#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fail.h"
#include "progress.h"

double eval_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* Writes the seconds per image of each batch to `seconds`. */
static qvit_status run_batches(network *net, const char *what, const uint8_t *images, size_t n,
                               float *logits, double *seconds, qvit_error *error)
{
    const vit_model *model = net->model;
    const size_t bytes = model->image * model->image * VIT_CHANNELS;
    for (size_t first = 0; first < n; first += net->batch) {
        size_t count = n - first < net->batch ? n - first : net->batch;
        double start = eval_seconds();
        TRY(network_forward(net, images + first * bytes, count, logits + first * model->classes,
                            NULL, error));
        *seconds++ = (eval_seconds() - start) / (double)count;
        progress(what, first + count, n);
    }
    return QVIT_OK;
}

qvit_status eval_run(network *net, const char *what, const uint8_t *images, size_t n, float *logits,
                     double *ms_per_image, qvit_error *error)
{
    const size_t batches = (n + net->batch - 1) / net->batch;
    double *seconds = calloc(batches, sizeof *seconds);
    if (!seconds) return fail_memory(error);
    qvit_status status = run_batches(net, what, images, n, logits, seconds, error);
    if (status == QVIT_OK) *ms_per_image = 1000 * median(seconds, batches);
    free(seconds);
    return status;
}

/* How many logits come before the label's: those that are greater, and of equals the earlier ones, or a
 * model that says nothing would always be right. One that is not a number is beaten by all. */
static size_t rank_of(const float *logits, size_t classes, size_t label)
{
    size_t rank = 0;
    for (size_t i = 0; i < classes; i++)
        rank += !(logits[i] <= logits[label]) || (i < label && logits[i] == logits[label]);
    return rank;
}

eval_accuracy eval_accuracy_of(const float *logits, const int32_t *labels, size_t n, size_t classes)
{
    size_t first = 0, first_five = 0;
    for (size_t i = 0; i < n; i++) {
        size_t rank = rank_of(logits + i * classes, classes, (size_t)labels[i]);
        first += rank < 1;
        first_five += rank < 5;
    }
    return (eval_accuracy){100.0 * (double)first / (double)n,
                           100.0 * (double)first_five / (double)n};
}

static size_t largest(const float *logits, size_t classes)
{
    size_t best = 0;
    for (size_t i = 1; i < classes; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

double eval_agreement(const float *logits, const float *others, size_t n, size_t classes)
{
    size_t same = 0;
    for (size_t i = 0; i < n; i++)
        same += largest(logits + i * classes, classes) == largest(others + i * classes, classes);
    return 100.0 * (double)same / (double)n;
}

double eval_sqnr_db(const float *logits, const float *others, size_t count)
{
    double signal = 0, noise = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)logits[i] - (double)others[i];
        signal += (double)logits[i] * (double)logits[i];
        noise += difference * difference;
    }
    return 10 * log10(signal / noise);
}

void eval_sha256(const float *values, size_t count, char hex[SHA256_HEX])
{
    sha256 hash;
    sha256_begin(&hash);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        const unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8),
                                        (unsigned char)(bits >> 16), (unsigned char)(bits >> 24)};
        sha256_add(&hash, bytes, sizeof bytes);
    }
    sha256_end(&hash, hex);
}
