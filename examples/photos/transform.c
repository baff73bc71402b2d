#include "transform.h"

#include "../vit/fail.h"

/* Python's round((resized - size) / 2): halves go to the even number. */
static size_t center(size_t resized, size_t size)
{
    size_t left_over = resized - size, half = left_over / 2;
    return left_over % 2 ? half + half % 2 : half;
}

static resample_axis axis_of(size_t from, size_t to, size_t size)
{
    return (resample_axis){from, to, center(to, size), size};
}

void transform_axes(const transform *t, size_t width, size_t height, resample_axis *columns,
                    resample_axis *rows)
{
    const uint64_t side = t->short_side;
    const size_t shorter = width < height ? width : height;
    *columns = axis_of(width, (size_t)(side * width / shorter), t->size);
    *rows = axis_of(height, (size_t)(side * height / shorter), t->size);
}

qvit_status transform_apply(const transform *t, const photo *picture, uint8_t *out,
                            qvit_error *error)
{
    resample_axis columns, rows;
    transform_axes(t, picture->width, picture->height, &columns, &rows);
    if (columns.to > RESAMPLE_MAX || rows.to > RESAMPLE_MAX)
        return fail(error, QVIT_ERR_VALUE, "a picture of %zu x %zu pixels is too narrow",
                    picture->width, picture->height);
    return resample_bicubic(picture->pixels, &columns, &rows, out, error);
}
