/* The resampler against PIL, against sums in double, and by what every resampler must do. */
#include "../../examples/photos/resample.h"
#include "../../examples/photos/transform.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>

/* Image.fromarray(made()).resize((4, 3) and (9, 8), Image.BICUBIC) of PIL 9.4. */
static const uint8_t smaller_by_pil[3 * 4 * 3] = {
    56,  113, 163, 127, 143, 139, 113, 140, 167, 151, 125, 110, 150, 137, 113, 117, 126, 135,
    130, 135, 143, 146, 127, 123, 99,  147, 136, 159, 133, 127, 143, 144, 134, 161, 128, 117};
static const uint8_t larger_by_pil[8 * 9 * 3] = {
    0,   44,  97,  15,  68,  120, 46,  98,  160, 74,  131, 200, 103, 174, 227, 147, 203, 255,
    180, 250, 128, 209, 173, 20,  233, 0,   64,  31,  82,  148, 54,  117, 182, 94,  161, 158,
    135, 165, 116, 162, 102, 155, 99,  130, 190, 104, 172, 135, 143, 150, 96,  169, 73,  133,
    95,  149, 191, 125, 171, 238, 158, 218, 148, 191, 195, 22,  221, 20,  73,  46,  50,  108,
    22,  89,  140, 74,  126, 176, 103, 153, 206, 170, 233, 71,  217, 116, 109, 154, 81,  109,
    63,  114, 101, 114, 88,  160, 86,  141, 212, 117, 198, 125, 172, 161, 67,  203, 50,  112,
    138, 201, 39,  187, 86,  78,  128, 54,  140, 41,  121, 174, 104, 176, 150, 166, 153, 203,
    161, 189, 121, 166, 162, 67,  206, 53,  116, 18,  71,  114, 56,  101, 156, 99,  150, 222,
    139, 204, 208, 191, 244, 43,  253, 80,  83,  136, 66,  131, 58,  127, 178, 113, 163, 216,
    61,  113, 187, 100, 175, 116, 168, 155, 114, 190, 106, 147, 109, 162, 102, 163, 117, 158,
    142, 149, 118, 138, 153, 99,  186, 91,  150, 112, 165, 230, 154, 227, 74,  224, 144, 21,
    212, 20,  94,  37,  90,  161, 81,  156, 231, 149, 230, 106, 214, 176, 23,  255, 20,  86};

static uint8_t made(size_t x, size_t y, size_t c)
{
    return (uint8_t)(x * 37 + y * 91 + c * 53 + x * y * 7);
}

static resample_axis whole(size_t from, size_t to) { return (resample_axis){from, to, 0, to}; }

/* The whole of a picture, resized; to be freed. */
static uint8_t *resized(const uint8_t *pixels, size_t w, size_t h, size_t new_w, size_t new_h)
{
    const resample_axis columns = whole(w, new_w), rows = whole(h, new_h);
    uint8_t *out = malloc(new_w * new_h * 3);
    qvit_error error;
    if (resample_bicubic(pixels, &columns, &rows, out, &error)) FAIL("%s", error.text);
    return out;
}

static uint8_t *random_picture(size_t w, size_t h)
{
    uint8_t *pixels = malloc(w * h * 3);
    for (size_t i = 0; i < w * h * 3; i++) {
        const uint8_t value = (uint8_t)test_random();
        pixels[i] = value < 50 ? 0 : value > 205 ? 255 : value; /* for clipping */
    }
    return pixels;
}

static void it_is_what_pil_made(void)
{
    uint8_t pixels[5 * 7 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = made(i / 3 % 7, i / 21, i % 3);
    uint8_t *smaller = resized(pixels, 7, 5, 4, 3), *larger = resized(pixels, 7, 5, 9, 8);
    CHECK(!memcmp(smaller, smaller_by_pil, sizeof smaller_by_pil));
    CHECK(!memcmp(larger, larger_by_pil, sizeof larger_by_pil));
    free(smaller);
    free(larger);
}

/* Keys's kernel with a = -1/2, its polynomials written out. */
static double keys(double s)
{
    s = fabs(s);
    if (s <= 1) return 1.5 * s * s * s - 2.5 * s * s + 1;
    if (s <= 2) return -0.5 * s * s * s + 2.5 * s * s - 4 * s + 2;
    return 0;
}

/* All pixels of a line with their weights, however small. */
static double sum_of_line(const uint8_t *line, size_t stride, size_t from, size_t to, size_t i)
{
    const double scale = (double)from / (double)to, stretch = fmax(scale, 1);
    double sum = 0, weights = 0;
    for (size_t k = 0; k < from; k++) {
        double weight = keys(((double)k + 0.5 - ((double)i + 0.5) * scale) / stretch);
        sum += weight * line[k * stride];
        weights += weight;
    }
    return fmin(fmax(sum / weights, 0), 255);
}

/*
 * Where one direction keeps its size, only one rounding is left: to the nearest, and a bit of
 * slack.
 */
static void one_direction_is_the_sum_in_double(void)
{
    for (int round = 0; round < 200; round++) {
        const bool across = test_below(2);
        const size_t from = 1 + test_below(90), to = 1 + test_below(90), other = 1 + test_below(5);
        const size_t w = across ? from : other, h = across ? other : from;
        const size_t new_w = across ? to : other;
        uint8_t *pixels = random_picture(w, h);
        uint8_t *out = resized(pixels, w, h, new_w, across ? other : to);
        for (size_t n = 0; n < other * to * 3; n++) {
            const size_t c = n % 3, i = n / 3 % to, o = n / 3 / to;
            const uint8_t *line = pixels + (across ? o * w : o) * 3 + c;
            const double sum = sum_of_line(line, across ? 3 : 3 * w, from, to, i);
            CHECK_NEAR(out[((across ? o * new_w + i : i * new_w + o)) * 3 + c], sum, 0.502);
        }
        free(out);
        free(pixels);
    }
}

/*
 * What is rounded in between may, at a tie, have been rounded the other way: that moves a pixel by one,
 * times the absolute weights of the lines, which are below 1.5; and half for the last rounding.
 */
static void both_directions_are_the_sums_in_double(void)
{
    for (int round = 0; round < 50; round++) {
        const size_t w = 1 + test_below(40), h = 1 + test_below(40);
        const size_t new_w = 1 + test_below(40), new_h = 1 + test_below(40);
        uint8_t *pixels = random_picture(w, h), *out = resized(pixels, w, h, new_w, new_h);
        uint8_t *between = malloc(h * new_w * 3);
        for (size_t n = 0; n < h * new_w * 3; n++)
            between[n] = (uint8_t)floor(
                sum_of_line(pixels + n / 3 / new_w * w * 3 + n % 3, 3, w, new_w, n / 3 % new_w) +
                0.5);
        for (size_t n = 0; n < new_h * new_w * 3; n++) {
            const size_t x = n / 3 % new_w, y = n / 3 / new_w;
            CHECK_NEAR(out[n], sum_of_line(between + x * 3 + n % 3, new_w * 3, h, new_h, y), 2);
        }
        free(between);
        free(out);
        free(pixels);
    }
}

static void a_constant_picture_stays_constant(void)
{
    for (int round = 0; round < 100; round++) {
        const size_t w = 1 + test_below(60), h = 1 + test_below(60);
        const size_t new_w = 1 + test_below(60), new_h = 1 + test_below(60);
        const uint8_t value = round == 0 ? 255 : (uint8_t)test_random();
        uint8_t *pixels = malloc(w * h * 3);
        memset(pixels, value, w * h * 3);
        uint8_t *out = resized(pixels, w, h, new_w, new_h);
        for (size_t i = 0; i < new_w * new_h * 3; i++) CHECK_EQ(out[i], value);
        free(out);
        free(pixels);
    }
}

/* Keys's kernel reproduces straight lines, away from the borders. */
static void a_ramp_stays_a_ramp(void)
{
    enum { FROM = 100, TO = 250 };
    uint8_t ramp[FROM * 3];
    for (size_t i = 0; i < sizeof ramp; i++) ramp[i] = (uint8_t)(20 + 2 * (i / 3));
    uint8_t *out = resized(ramp, FROM, 1, TO, 1);
    for (size_t x = 5; x < TO - 5; x++)
        CHECK_NEAR(out[3 * x], 20 + 2 * (((double)x + 0.5) * FROM / TO - 0.5), 0.501);
    free(out);
}

static void the_same_size_is_the_same_picture(void)
{
    uint8_t *pixels = random_picture(33, 21), *out = resized(pixels, 33, 21, 33, 21);
    CHECK(!memcmp(out, pixels, 33 * 21 * 3));
    free(out);
    free(pixels);
}

static void a_part_is_what_it_is_in_the_whole(void)
{
    for (int round = 0; round < 100; round++) {
        const size_t w = 1 + test_below(80), h = 1 + test_below(80);
        resample_axis columns = whole(w, 1 + test_below(80)), rows = whole(h, 1 + test_below(80));
        uint8_t *pixels = random_picture(w, h), *all = resized(pixels, w, h, columns.to, rows.to);
        columns.first = test_below(columns.to), rows.first = test_below(rows.to);
        columns.count = 1 + test_below(columns.to - columns.first);
        rows.count = 1 + test_below(rows.to - rows.first);
        uint8_t *part = malloc(columns.count * rows.count * 3);
        qvit_error error;
        if (resample_bicubic(pixels, &columns, &rows, part, &error)) FAIL("%s", error.text);
        for (size_t y = 0; y < rows.count; y++)
            CHECK(!memcmp(part + y * columns.count * 3,
                          all + ((rows.first + y) * columns.to + columns.first) * 3,
                          columns.count * 3));
        free(part);
        free(all);
        free(pixels);
    }
}

/* What torchvision computes: Resize(248) and CenterCrop(224), by hand. */
static void windows_are_torchvisions(void)
{
    static const struct {
        size_t w, h, new_w, new_h, left, top;
    } cases[] = {
        {500, 375, 330, 248, 53, 12}, /* 330.67 */
        {375, 500, 248, 330, 12, 53}, /* the same, upright */
        {248, 251, 248, 251, 12, 14}, /* 13.5: the even one is above */
        {248, 249, 248, 249, 12, 12}, /* 12.5: the even one is below */
        {1, 1000000, 248, 248000000, 12, 123999888},
    };
    const transform t = {224, 248};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        resample_axis columns, rows;
        transform_axes(&t, cases[i].w, cases[i].h, &columns, &rows);
        CHECK_EQ(columns.to, cases[i].new_w);
        CHECK_EQ(rows.to, cases[i].new_h);
        CHECK_EQ(columns.first, cases[i].left);
        CHECK_EQ(rows.first, cases[i].top);
        CHECK(columns.count == 224 && rows.count == 224);
        CHECK(columns.from == cases[i].w && rows.from == cases[i].h);
    }
}

static void a_picture_that_would_become_absurdly_long_is_refused(void)
{
    const transform t = {4096, 40960};
    photo picture = {100000, 1, NULL};
    qvit_error error;
    CHECK_EQ(transform_apply(&t, &picture, NULL, &error), QVIT_ERR_VALUE);
    CHECK(strstr(error.text, "100000 x 1"));
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(it_is_what_pil_made);
    RUN(one_direction_is_the_sum_in_double);
    RUN(both_directions_are_the_sums_in_double);
    RUN(a_constant_picture_stays_constant);
    RUN(a_ramp_stays_a_ramp);
    RUN(the_same_size_is_the_same_picture);
    RUN(a_part_is_what_it_is_in_the_whole);
    RUN(windows_are_torchvisions);
    RUN(a_picture_that_would_become_absurdly_long_is_refused);
    return test_end();
}
