#include "dataset.h"

#include <stdio.h>

#include "fail.h"

static qvit_status open_array(const char *path, npy *out, qvit_error *error)
{
    char text[sizeof error->text];
    if (npy_open(path, out, text, sizeof text)) return fail(error, QVIT_ERR_FORMAT, "%s", text);
    return QVIT_OK;
}

static qvit_status check_images(const char *path, const vit_model *model, const npy *images,
                                qvit_error *error)
{
    const size_t *dims = images->dims;
    if (images->dtype != NPY_U8 || images->rank != 4 || dims[3] != VIT_CHANNELS)
        return fail(error, QVIT_ERR_SHAPE, "%s: images are uint8 [n, height, width, 3]", path);
    if (dims[1] != model->image || dims[2] != model->image)
        return fail(error, QVIT_ERR_SHAPE, "%s: the images are %zu x %zu, the model's %zu x %zu",
                    path, dims[1], dims[2], model->image, model->image);
    if (dims[0] == 0) return fail(error, QVIT_ERR_SHAPE, "%s: there is no image", path);
    return QVIT_OK;
}

static qvit_status check_labels(const char *path, const vit_model *model, size_t n,
                                const npy *labels, qvit_error *error)
{
    if (labels->dtype != NPY_I32 || labels->rank != 1)
        return fail(error, QVIT_ERR_SHAPE, "%s: labels are int32 [n]", path);
    if (labels->dims[0] != n)
        return fail(error, QVIT_ERR_SHAPE, "%s: %zu labels for %zu images", path, labels->dims[0],
                    n);
    const int32_t *label = labels->data;
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || (size_t)label[i] >= model->classes)
            return fail(error, QVIT_ERR_VALUE, "%s: label %zu is %d, and there are %zu classes",
                        path, i, (int)label[i], model->classes);
    }
    return QVIT_OK;
}

qvit_status dataset_open_images(const char *path, const vit_model *model, npy *out,
                                qvit_error *error)
{
    TRY(open_array(path, out, error));
    qvit_status status = check_images(path, model, out, error);
    if (status != QVIT_OK) npy_close(out);
    return status;
}

qvit_status dataset_open_labels(const char *path, const vit_model *model, size_t n, npy *out,
                                qvit_error *error)
{
    TRY(open_array(path, out, error));
    qvit_status status = check_labels(path, model, n, out, error);
    if (status != QVIT_OK) npy_close(out);
    return status;
}

const uint8_t *dataset_image(const npy *images, size_t first)
{
    const uint8_t *pixels = images->data;
    return pixels + first * images->dims[1] * images->dims[2] * images->dims[3];
}

qvit_status dataset_write(const char *images, const char *labels, size_t n, size_t side,
                          const uint8_t *pixels, const int32_t *classes, qvit_error *error)
{
    const size_t dims[] = {n, side, side, VIT_CHANNELS};
    char text[sizeof error->text];
    if (npy_write(images, NPY_U8, 4, dims, pixels, text, sizeof text))
        return fail(error, QVIT_ERR_IO, "%s", text);
    if (!npy_write(labels, NPY_I32, 1, dims, classes, text, sizeof text)) return QVIT_OK;
    remove(images);
    return fail(error, QVIT_ERR_IO, "%s", text);
}
