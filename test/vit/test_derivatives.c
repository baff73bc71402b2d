/* The parts of the backward pass that are no products, and the probes that it starts from. */
#include "derivatives.h"
#include "probe.h"
#include "test.h"

#include <math.h>

/* ---- probes ---- */

/* The mean of v v^T tends to diag(p) - p p^T. */
static void probes_have_the_covariance_of_softmax(void)
{
    enum { CLASSES = 7, DRAWS = 20000 };
    const uint64_t seed = test_random(), number = test_below(1000);
    float logits[CLASSES];
    double p[CLASSES], mean[CLASSES][CLASSES] = {{0}};
    for (size_t i = 0; i < CLASSES; i++) logits[i] = 2 * test_normal();
    for (size_t i = 0; i < CLASSES; i++) {
        double sum = 0;
        for (size_t j = 0; j < CLASSES; j++) sum += exp((double)logits[j] - (double)logits[i]);
        p[i] = 1 / sum;
    }
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        float v[CLASSES];
        probe_draw(seed, number, draw, logits, CLASSES, v);
        for (size_t i = 0; i < CLASSES * CLASSES; i++)
            mean[i / CLASSES][i % CLASSES] +=
                (double)v[i / CLASSES] * (double)v[i % CLASSES] / DRAWS;
    }
    for (size_t i = 0; i < CLASSES; i++) {
        for (size_t j = 0; j < CLASSES; j++) {
            const double expected = (i == j) * p[i] - p[i] * p[j];
            CHECK_NEAR(mean[i][j], expected, 6 * sqrt(p[i] * p[j] / DRAWS) + 1e-6);
        }
    }
}

/* A prediction that is all but certain still has a gradient. */
static void sure_predictions_have_probes(void)
{
    const float logits[] = {60, 0, -5};
    float v[3];
    probe_draw(test_random(), 0, 0, logits, 3, v);
    for (size_t i = 0; i < 3; i++) CHECK(v[i] != 0);
}

/* ---- the steps that are no products ---- */

/* Workers of random number, whose tasks run in reverse order. */
static qvit_status run_backwards(void *user, size_t count, qvit_task *task, void *argument)
{
    (void)user;
    while (count-- > 0) task(argument, count, 0);
    return QVIT_OK;
}

static qvit_executor random_executor(void)
{
    qvit_executor executor = QVIT_EXECUTOR_INIT;
    executor.workers = 1 + test_below(5);
    executor.run = run_backwards;
    return executor;
}

static void gelu_slopes_are_exact(void)
{
    enum { COUNT = 5001 };
    static float x[COUNT], gradient[COUNT];
    const qvit_executor executor = random_executor();
    qvit_error error;
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (i % 2 ? 4 : 20) * test_uniform();
        gradient[i] = 1;
    }
    x[0] = 0, x[1] = -1e30f, x[2] = 1e30f, x[3] = 1e-40f;
    CHECK_EQ(gelu_backward(&executor, x, COUNT, gradient, &error), QVIT_OK);
    for (size_t i = 0; i < COUNT; i++) {
        const double z = (double)x[i];
        const double bell = exp(-0.5 * z * z) / sqrt(2 * acos(-1));
        CHECK_NEAR(gradient[i], 0.5 * erfc(-z / sqrt(2)) + z * bell, 1e-6);
    }
}

static void softmax_gradients_are_exact(void)
{
    enum { ROWS = 9, MOST = 70 };
    static float p[ROWS * MOST], gradient[ROWS * MOST], before[ROWS * MOST];
    const qvit_executor executor = random_executor();
    const size_t cols = 1 + test_below(MOST);
    const float scale = 0.1f + (float)test_below(10);
    qvit_error error;
    for (size_t i = 0; i < ROWS * cols; i++) {
        p[i] = (1 + test_uniform()) / (float)cols;
        before[i] = gradient[i] = test_normal();
    }
    CHECK_EQ(softmax_backward(&executor, p, ROWS, cols, scale, gradient, &error), QVIT_OK);
    for (size_t i = 0; i < ROWS * cols; i++) {
        const size_t row = i - i % cols;
        double mean = 0;
        for (size_t j = row; j < row + cols; j++) mean += (double)p[j] * (double)before[j];
        const double expected = (double)scale * (double)p[i] * ((double)before[i] - mean);
        CHECK_NEAR(gradient[i], expected, 1e-5);
    }
}

/* A row of x, and what its gradient adds, by the derivative of y_j = gamma_j d_j / deviation. */
static void check_norm_row(const float *gamma, const float *x, const float *dy, size_t n,
                           const float *added)
{
    double mean = 0, variance = 0, worst = 0, largest = 0, term = 0;
    for (size_t i = 0; i < n; i++) mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++) variance += pow((double)x[i] - mean, 2) / (double)n;
    const double r = 1 / sqrt(variance + (double)VIT_LAYER_NORM_EPS);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        term = fmax(term, fabs((double)gamma[i] * (double)dy[i]) * r);
        for (size_t j = 0; j < n; j++) {
            const double di = (double)x[i] - mean, dj = (double)x[j] - mean;
            sum += (double)gamma[j] * (double)dy[j] *
                   ((i == j) * r - r / (double)n - di * dj * r * r * r / (double)n);
        }
        worst = fmax(worst, fabs(sum - (double)added[i]));
        largest = fmax(largest, fabs(sum));
    }
    CHECK(worst <= 1e-4 * largest + 1e-6 * term); /* in short rows the terms cancel */
}

/* Also where the variance is as small as eps. */
static void layer_norm_gradients_are_exact(void)
{
    enum { ROWS = 7, MOST = 80 };
    static float gamma[MOST], x[ROWS * 2 * MOST], dy[ROWS * MOST], sum[ROWS * 2 * MOST];
    const size_t n = 2 + test_below(MOST - 1), stride = n + test_below(MOST);
    const qvit_executor executor = random_executor();
    vit_norm norm = {.gamma = {0}};
    qvit_error error;
    qvit_tensor_init(&norm.gamma, gamma, QVIT_DTYPE_F32, 1, &n);
    for (size_t i = 0; i < n; i++) gamma[i] = test_uniform();
    for (size_t i = 0; i < ROWS * n; i++) dy[i] = test_normal();
    for (size_t i = 0; i < ROWS * stride; i++) {
        x[i] = (i / stride % 2 ? 1e-3f : 3) * test_normal();
        sum[i] = 0;
    }
    CHECK_EQ(layer_norm_backward(&executor, &norm, x, ROWS, stride, dy, sum, &error), QVIT_OK);
    for (size_t row = 0; row < ROWS; row++) {
        check_norm_row(gamma, x + row * stride, dy + row * n, n, sum + row * stride);
        for (size_t i = n; i < stride; i++) CHECK(sum[row * stride + i] == 0);
    }
}

static void matrices_are_transposed(void)
{
    const size_t rows = 1 + test_below(50), cols = 1 + test_below(50), count = 1 + test_below(4);
    const size_t in_stride = cols + test_below(5), out_stride = rows + test_below(5);
    float *in = calloc(count * rows * in_stride, sizeof *in);
    float *out = calloc(count * cols * out_stride, sizeof *out);
    const matrices from = {in, count, rows, cols, in_stride};
    const matrices to = {out, count, cols, rows, out_stride};
    const qvit_executor executor = random_executor();
    qvit_error error;
    size_t wrong = 0;
    for (size_t i = 0; i < count * rows * in_stride; i++) in[i] = test_uniform();
    CHECK_EQ(transpose(&executor, &from, &to, &error), QVIT_OK);
    for (size_t i = 0; i < count * cols * out_stride; i++) {
        const size_t number = i / out_stride / cols, col = i / out_stride % cols;
        const size_t row = i % out_stride;
        wrong += out[i] != (row < rows ? in[(number * rows + row) * in_stride + col] : 0);
    }
    free(in), free(out);
    CHECK_EQ(wrong, 0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(probes_have_the_covariance_of_softmax);
    RUN(sure_predictions_have_probes);
    RUN(gelu_slopes_are_exact);
    RUN(softmax_gradients_are_exact);
    RUN(layer_norm_gradients_are_exact);
    RUN(matrices_are_transposed);
    return test_end();
}
