/*
 * qvit-photos - from a folder of JPEG and PNG files to images.npy and labels.npy, which qvit-vit
 * takes.
 *
 * Exit status: 0 done, 1 something failed, 2 the command line is wrong.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vit/dataset.h"
#include "../vit/fail.h"
#include "../vit/files.h"
#include "../vit/options.h"
#include "../vit/progress.h"
#include "photo.h"
#include "photo_list.h"
#include "transform.h"

struct arguments {
    const char *images, *out, *labels_out, *labels, *crop;
    size_t size, n, first, classes;
    bool skip_bad;
};

/* All pictures are in memory until the last: qvit-vit holds them all as well. */
struct job {
    struct arguments arguments;
    transform transform;
    photo_list list;
    size_t n;   /* of the list from arguments.first on; later, those that could be read */
    size_t bad; /* pictures that could not be read */
    uint8_t *images;
    int32_t *labels;
    bool advised; /* about what to install */
    qvit_error *error;
};

static void release(struct job *job)
{
    free(job->labels);
    free(job->images);
    photo_list_close(&job->list);
}

/* ---- before the work ---- */

static qvit_status read_crop(struct job *job)
{
    char *end;
    const double crop = strtod(job->arguments.crop, &end);
    if (end == job->arguments.crop || *end || !(crop >= 0.1 && crop <= 1))
        return fail(job->error, QVIT_ERR_ARGUMENT, "--crop takes a number from 0.1 to 1");
    const size_t size = job->arguments.size;
    job->transform = (transform){size, (size_t)floor((double)size / crop)};
    return QVIT_OK;
}

/* Before hours of work rather than behind them. */
static qvit_status check_writable(const char *path, qvit_error *error)
{
    const size_t size = strlen(path) + PART_SUFFIX;
    char *part = malloc(size);
    if (!part) return fail_memory(error);
    FILE *stream = open_part(path, part, size);
    if (stream) {
        fclose(stream);
        remove(part);
    }
    free(part);
    return stream ? QVIT_OK : fail(error, QVIT_ERR_IO, "%s: cannot be written", path);
}

static qvit_status list_photos(struct job *job)
{
    const struct arguments *a = &job->arguments;
    if (a->labels)
        TRY(photo_list_from_file(a->labels, a->classes, &job->list, job->error));
    else
        TRY(photo_list_from_folders(a->images, a->classes, &job->list, job->error));
    photo_list_shuffle(&job->list);
    const size_t found = job->list.count;
    if (found == 0)
        return fail(job->error, QVIT_ERR_ARGUMENT, "%s: there are no .jpg, .jpeg or .png files",
                    a->labels ? a->labels : a->images);
    if (a->first >= found || a->n > found - a->first)
        return fail(job->error, QVIT_ERR_ARGUMENT,
                    "there are %zu pictures: not %zu from number %zu on (--n, --first)", found,
                    a->n ? a->n : 1, a->first);
    job->n = a->n ? a->n : found - a->first;
    return QVIT_OK;
}

static qvit_status allocate(struct job *job)
{
    const size_t image = job->transform.size * job->transform.size * PHOTO_CHANNELS;
    if (job->n > SIZE_MAX / image) return fail_memory(job->error);
    job->images = malloc(job->n * image);
    job->labels = malloc(job->n * sizeof *job->labels);
    return job->images && job->labels ? QVIT_OK : fail_memory(job->error);
}

/* ---- the work ---- */

static qvit_status convert(const struct job *job, const char *path, uint8_t *out, qvit_error *error)
{
    photo picture;
    TRY(photo_open(path, &picture, error));
    qvit_status status = transform_apply(&job->transform, &picture, out, error);
    photo_close(&picture);
    return status;
}

/* The name is printed apart from the error's text, which might be too short for both. */
static qvit_status report_bad(struct job *job, const char *path, const qvit_error *reason)
{
    progress("pictures", 1, 1);
    fprintf(stderr, "qvit-photos: %s: %s\n", path, reason->text);
    job->bad++;
    const char *advice = photo_missing_libraries();
    if (reason->status == QVIT_ERR_UNSUPPORTED && advice && !job->advised) {
        fprintf(stderr, "qvit-photos: %s\n", advice);
        job->advised = true;
    }
    if (job->arguments.skip_bad && reason->status != QVIT_ERR_NO_MEMORY) return QVIT_OK;
    return fail(job->error, reason->status,
                "stopped there; --skip-bad goes on without pictures that cannot be read");
}

static qvit_status convert_all(struct job *job)
{
    const struct arguments *a = &job->arguments;
    const size_t image = a->size * a->size * PHOTO_CHANNELS, listed = job->n;
    job->n = 0;
    for (size_t i = 0; i < listed; i++) {
        const photo_entry *entry = &job->list.entries[a->first + i];
        qvit_error reason;
        char *path = photo_path(a->images, entry->name);
        if (!path) return fail_memory(job->error);
        qvit_status status = convert(job, path, job->images + job->n * image, &reason);
        if (status == QVIT_OK)
            job->labels[job->n++] = entry->label;
        else
            status = report_bad(job, path, &reason);
        free(path);
        TRY(status);
        progress("pictures", i + 1, listed);
    }
    return job->n ? QVIT_OK : fail(job->error, QVIT_ERR_FORMAT, "no picture can be read");
}

static void print_summary(const struct job *job)
{
    const struct arguments *a = &job->arguments;
    printf("%s: %zu of %zu pictures, %zu x %zu, centre of shorter side %zu\n", a->out, job->n,
           job->list.count, a->size, a->size, job->transform.short_side);
    if (job->bad) printf("left out: %zu that cannot be read\n", job->bad);
    if (job->list.other_files)
        printf("passed over: %zu files that are not .jpg, .jpeg or .png\n", job->list.other_files);
    if (a->labels)
        printf("%s: classes from %s\n", a->labels_out, a->labels);
    else if (job->list.numbered)
        printf("%s: classes from the numbers that %zu folders have as names\n", a->labels_out,
               job->list.classes);
    else
        printf("%s: classes 0 to %zu are the folders in the order of their names\n", a->labels_out,
               job->list.classes - 1);
}

static qvit_status run(struct job *job)
{
    const struct arguments *a = &job->arguments;
    if (!strcmp(a->out, a->labels_out))
        return fail(job->error, QVIT_ERR_ARGUMENT, "--out and --labels-out are the same file");
    TRY(read_crop(job));
    TRY(list_photos(job));
    TRY(check_writable(a->out, job->error));
    TRY(check_writable(a->labels_out, job->error));
    TRY(allocate(job));
    TRY(convert_all(job));
    TRY(dataset_write(a->out, a->labels_out, job->n, a->size, job->images, job->labels,
                      job->error));
    print_summary(job);
    return QVIT_OK;
}

/* ---- the command line ---- */

static void print_help(const option *table, size_t count)
{
    const char *advice = photo_missing_libraries();
    puts(
        "qvit-photos --images DIR --out I.npy --labels-out L.npy [OPTION]...\n\n"
        "Reads JPEG and PNG files and writes what a vision transformer of timm's sees of them:\n"
        "images uint8 [n, size, size, 3] and labels int32 [n], for qvit-vit eval.\n\n"
        "DIR has a folder for each class. Its name is the number of the class; where not all "
        "names\n"
        "are numbers, the folders are the classes 0, 1, ... in the order of their names, as those\n"
        "of ImageNet are. The pictures are shuffled, always in the same way: --n 32 and --first "
        "32\n"
        "are a sample for calibration and all others.\n");
    options_print(table, count, stdout);
    if (advice) printf("\nNote: %s\n", advice);
}

static qvit_status parse_and_run(struct job *job, int argc, char **argv)
{
    struct arguments *a = &job->arguments;
    const option table[] = {
        {"--images", "DIR", "the pictures", .text = &a->images, .required = true},
        {"--out", "FILE", "images to write, npy", .text = &a->out, .required = true},
        {"--labels-out", "FILE", "labels to write, npy", .text = &a->labels_out, .required = true},
        {"--labels", "FILE", "lines \"relative/path.jpg label\", instead of folders",
         .text = &a->labels},
        {"--size", "N", "pixels of an image's side (224)", .number = &a->size, .least = 1,
         .most = 4096},
        {"--crop", "X", "share of the shorter side that is seen, timm's crop_pct (0.9)",
         .text = &a->crop},
        {"--n", "N", "pictures to take (all)", .number = &a->n, .least = 1, .most = 1000000000},
        {"--first", "I", "number of the first one (0)", .number = &a->first, .most = 1000000000},
        {"--classes", "N", "of the model: checks that the labels are for it", .number = &a->classes,
         .least = 1, .most = INT32_MAX},
        {"--skip-bad", "", "go on without pictures that cannot be read", .flag = &a->skip_bad},
    };
    const size_t count = sizeof table / sizeof table[0];
    if (options_ask_help(argc, argv)) {
        print_help(table, count);
        return QVIT_OK;
    }
    TRY(options_parse(table, count, argc, argv, job->error));
    if (photo_reads_nothing()) {
        fprintf(stderr, "qvit-photos: %s\n", photo_missing_libraries());
        return fail(job->error, QVIT_ERR_UNSUPPORTED, "nothing can be read");
    }
    return run(job);
}

int main(int argc, char **argv)
{
    qvit_error error;
    struct job job = {.arguments = {.crop = "0.9", .size = 224}, .error = &error};
    qvit_status status = parse_and_run(&job, argc - 1, argv + 1);
    release(&job);
    if (status == QVIT_OK && (fflush(stdout) || ferror(stdout)))
        status = fail(&error, QVIT_ERR_IO, "stdout cannot be written");
    if (status == QVIT_OK) return 0;
    fprintf(stderr, "qvit-photos: %s\n", error.text);
    return status == QVIT_ERR_ARGUMENT ? 2 : 1;
}
