/* test_calibrator_ties.c - sites that are tied, and equalizing channels, which ties carry to producers. */
#include "solving.h"

/* ---- equalizing ---- */

static void check_equalizer(const qvit_tensor *scale, const qvit_tensor *x, double strength)
{
    size_t k = scale->dims[0];
    double range[64], mean = 0;
    CHECK(k <= 64);
    for (size_t ch = 0; ch < k; ch++) {
        double lo = 0, hi = 0;
        for (size_t i = ch; i < tensor_count(x); i += k)
            lo = fmin(lo, tensor_get(x, i)), hi = fmax(hi, tensor_get(x, i));
        range[ch] = hi - lo;
        mean += range[ch] / (double)k;
    }
    for (size_t ch = 0; ch < k; ch++)
        CHECK_NEAR(tensor_get(scale, ch) / pow(range[ch] / mean, strength), 1, 1e-5);
}

/* x divided and weights multiplied by a vector, channel by channel. */
static qvit_tensor rescaled(const qvit_tensor *t, const qvit_tensor *scale, bool divide)
{
    qvit_tensor out = view_dense(QVIT_DTYPE_F32, 2, t->dims).t;
    for (size_t i = 0; i < tensor_count(t); i++) {
        double s = tensor_get(scale, i % t->dims[1]);
        tensor_set(&out, i, divide ? tensor_get(t, i) / s : tensor_get(t, i) * s);
    }
    return out;
}

static void equalizing_preserves_the_function(void)
{
    for (size_t i = 0; i < RECIPES; i++) {
        qvit_tensor w = matrix(6, 20, 1), x = uneven(80, 20);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w, NULL);
        observe(c, 0, &x);
        solve(c, recipes[i], 8, 8, "equalize=0.5");
        const qvit_result *r = result_of(c, 0);
        qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE);
        CHECK(scale.data && scale.dtype == QVIT_DTYPE_F32 && scale.rank == 1);
        CHECK_EQ(scale.dims[0], 20);
        check_equalizer(&scale, &x, 0.5);

        qvit_tensor xs = rescaled(&x, &scale, true), ws = rescaled(&w, &scale, false);
        double *exact = product_of(&x, &w), *same = product_of(&xs, &ws);
        double norm = 0;
        for (size_t j = 0; j < 480; j++) norm += exact[j] * exact[j];
        CHECK(squared_distance(exact, same, 480) < 1e-10 * norm);

        /* The codes are those of the scaled weights, the quantizer's range that of what the
         * producer will write: the whole comes near the floats. */
        struct view again = view_dense(QVIT_DTYPE_S8, 2, w.dims);
        qvit_tensor codes = part_of(r, QVIT_RESULT_WEIGHT_CODES);
        MUST(qvit_quantizer_encode(second_of(r), &ws, &again.t, &why));
        for (size_t j = 0; j < 120; j++)
            CHECK_NEAR(tensor_get(&codes, j), tensor_get(&again.t, j), 1);
        qvit_tensor xq = fake_of(input_of(r), &xs), wq = weights_of(r);
        double *coded = product_of(&xq, &wq);
        double error = squared_distance(exact, coded, 480) / norm;
        free(exact), free(same), free(coded);
        if (!(error < 1e-3)) FAIL("%s: relative squared error %g", recipes[i], error);
        give_back();
    }
}

static void equalizing_helps_uneven_channels(void)
{
    qvit_tensor w = matrix(6, 20, 1), x = uneven(80, 20);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_LAYER_NORM, &w, NULL);
    observe(c, 0, &x);
    solve(c, "mse", 8, 4, NULL);
    double before = distance_of(result_of(c, 0), &x, &w, false);
    solve(c, "mse", 8, 4, "equalize=0.7");
    const qvit_result *r = result_of(c, 0);
    qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE);
    qvit_tensor xs = rescaled(&x, &scale, true), ws = rescaled(&w, &scale, false);
    double after = distance_of(r, &xs, &ws, false);
    if (!(after < before)) FAIL("%g, not equalized %g", after, before);
    give_back();
}

static void only_inputs_whose_producer_can_apply_it_are_equalized(void)
{
    const qvit_input_kind kinds[] = {QVIT_INPUT_GENERIC, QVIT_INPUT_GELU, QVIT_INPUT_IMAGE};
    for (size_t i = 0; i < 3; i++) {
        qvit_tensor w = matrix(3, 8, 1), x = uneven(30, 8);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, kinds[i], &w, NULL);
        observe(c, 0, &x);
        solve(c, "minmax", 8, 8, "equalize=1");
        CHECK(!part_of(result_of(c, 0), QVIT_RESULT_INPUT_SCALE).data);
        give_back();
    }
}

/* ---- ties ---- */

static void producers_carry_what_their_consumer_asks_for(void)
{
    qvit_tensor w1 = matrix(12, 6, 1), w2 = matrix(4, 12, 1), x = matrix(50, 6, 1);
    qvit_tensor hidden = uneven(50, 12);
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_GENERIC, &w1, NULL);
    add_linear(c, QVIT_INPUT_GENERIC, &w2, NULL);
    MUST(tie(c, QVIT_TIE_PRODUCER, 0, 1));
    observe(c, 0, &x), observe(c, 1, &hidden);
    solve(c, "minmax", 8, 8, "equalize=0.5");
    const qvit_result *producer = result_of(c, 0), *consumer = result_of(c, 1);
    qvit_tensor asked = part_of(consumer, QVIT_RESULT_INPUT_SCALE);
    qvit_tensor carried = part_of(producer, QVIT_RESULT_OUTPUT_SCALE);
    CHECK(asked.data && carried.data);
    CHECK_EQ(carried.dims[0], 12);
    CHECK_SAME(&asked, &carried);
    CHECK(!part_of(producer, QVIT_RESULT_INPUT_SCALE).data);
    CHECK(!part_of(consumer, QVIT_RESULT_OUTPUT_SCALE).data);
    solve(c, "minmax", 8, 8, NULL);
    CHECK(!part_of(result_of(c, 0), QVIT_RESULT_OUTPUT_SCALE).data);
    give_back();
}

static void readers_of_one_tensor_get_one_quantizer(void)
{
    for (size_t i = 0; i < RECIPES; i++) {
        qvit_tensor w1 = matrix(5, 10, 1), w2 = matrix(7, 10, 4), w3 = matrix(2, 10, 1);
        qvit_tensor x = uneven(60, 10);
        qvit_calibrator *c = calibrator_new(engine_new());
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w1, NULL);
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w3, NULL);
        add_linear(c, QVIT_INPUT_LAYER_NORM, &w2, NULL);
        MUST(tie(c, QVIT_TIE_INPUT, 2, 0)); /* in any order */
        for (size_t s = 0; s < 3; s++) observe(c, s, &x);
        solve(c, recipes[i], 5, 5, "equalize=0.3");
        struct bytes a = {0}, b = {0};
        bytes_add_quantizer(&a, input_of(result_of(c, 0)));
        bytes_add_quantizer(&b, input_of(result_of(c, 2)));
        bool same = bytes_equal(&a, &b);
        bytes_free(&a), bytes_free(&b);
        CHECK(same);
        qvit_tensor scale1 = part_of(result_of(c, 0), QVIT_RESULT_INPUT_SCALE);
        qvit_tensor scale2 = part_of(result_of(c, 2), QVIT_RESULT_INPUT_SCALE);
        CHECK_SAME(&scale1, &scale2);
        give_back();
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(equalizing_preserves_the_function);
    RUN(equalizing_helps_uneven_channels);
    RUN(only_inputs_whose_producer_can_apply_it_are_equalized);
    RUN(producers_carry_what_their_consumer_asks_for);
    RUN(readers_of_one_tensor_get_one_quantizer);
    return test_end();
}
