/*
 * 01_quantize_tensor - lesson: a quantizer turns numbers into codes and codes into numbers.
 *
 * Four channels of very different size are encoded twice, with one scale for all of them and with a
 * scale for each, and the error of both is compared.
 */
#include <math.h>
#include <stdio.h>
#include <qvit.h>

#define TRY(call)                                                                                  \
    if ((call) != QVIT_OK) return puts(e.text), 1

enum { ROWS = 64, CHANNELS = 4 };

static qvit_error e;

/* Codes of 8 bits for +-scale * 127; scales: one, or one for each block of the granularity. */
static qvit_status make(const qvit_engine *engine, const qvit_granularity *granularity,
                        const float *scales, size_t count, qvit_quantizer **out)
{
    const qvit_parameter scale = {QVIT_PARAMETER_SCALE, QVIT_DTYPE_F32, count, scales};
    qvit_quantizer_options options = QVIT_QUANTIZER_OPTIONS_INIT; /* symmetric, 8 bits */
    options.granularity = granularity;                            /* NULL: one scale for all */
    options.parameters = &scale;
    options.parameter_count = 1;
    return qvit_quantizer_create(engine, &options, out, &e);
}

/* The largest error of a channel, relative to the channel's size. */
static double worst_error(const float *x, const float *y, const float *size)
{
    double worst = 0;
    for (int i = 0; i < ROWS * CHANNELS; i++)
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]) / (double)size[i % CHANNELS]);
    return worst;
}

/* To codes and back; prints what it used and what it lost. */
static qvit_status try_quantizer(const qvit_quantizer *quantizer, const float *size, double *error)
{
    static float x[ROWS * CHANNELS], y[ROWS * CHANNELS];
    static signed char q[ROWS * CHANNELS];
    for (int i = 0; i < ROWS * CHANNELS; i++) x[i] = size[i % CHANNELS] * sinf((float)(i + 1));
    const size_t dims[] = {ROWS, CHANNELS};
    qvit_tensor numbers, codes, back;
    qvit_tensor_init(&numbers, x, QVIT_DTYPE_F32, 2, dims);
    qvit_tensor_init(&codes, q, QVIT_DTYPE_S8, 2, dims);
    qvit_tensor_init(&back, y, QVIT_DTYPE_F32, 2, dims);
    qvit_status status = qvit_quantizer_encode(quantizer, &numbers, &codes, &e);
    if (status == QVIT_OK) status = qvit_quantizer_decode(quantizer, &codes, &back, &e);
    *error = worst_error(x, y, size);
    char text[200];
    qvit_quantizer_describe(quantizer, text, sizeof text);
    printf("%s\n    %g -> %d -> %g; worst error %.1f %%\n", text, (double)x[1], q[1], (double)y[1],
           100 * *error);
    return status;
}

int main(void)
{
    static const float size[CHANNELS] = {10, 0.1f, 3, 1};
    float scales[CHANNELS];
    for (int i = 0; i < CHANNELS; i++) scales[i] = size[i] / 127;

    qvit_engine *engine;
    TRY(qvit_engine_create(NULL, &engine, &e));
    qvit_granularity_options blocks = QVIT_GRANULARITY_OPTIONS_INIT;
    blocks.cols = blocks.col_blocks = CHANNELS; /* every column its own block */
    static const size_t bounds[] = {0, 1, 2, 3, 4};
    blocks.col_bounds = bounds;
    qvit_granularity *channels;
    TRY(qvit_granularity_create(engine, &blocks, &channels, &e));

    qvit_quantizer *one, *each;
    TRY(make(engine, NULL, &scales[0], 1, &one)); /* the largest channel decides */
    TRY(make(engine, channels, scales, CHANNELS, &each));
    double error_one, error_each;
    TRY(try_quantizer(one, size, &error_one));
    TRY(try_quantizer(each, size, &error_each));

    qvit_quantizer_destroy(one), qvit_quantizer_destroy(each);
    qvit_granularity_destroy(channels), qvit_engine_destroy(engine);
    /* At most half a step of 127 where each channel has its scale; the small ones suffer else. */
    int right = error_each < 0.005 && error_one > 0.2;
    puts(right ? "ok" : "wrong");
    return !right;
}
