/*
 * test_recipes.c - what recipes beyond the plain searches do to a site: gradients, targets, centred
 * channels, corrected biases, rounding that looks at the inputs.
 */
#include "calibration.h"

enum { SAMPLES = 6, TOKENS = 20, INPUTS = 24, OUTPUTS = 15 };

/* Inputs with channels of very different range and place, that depend on one another. */
static qvit_tensor channels(void)
{
    qvit_tensor x = normals(3, (size_t[]){SAMPLES, TOKENS, INPUTS}, 1);
    for (size_t row = 0; row < SAMPLES * TOKENS; row++) {
        double common = tensor_get(&x, row * INPUTS);
        for (size_t c = 0; c < INPUTS; c++) {
            double v = 0.6 * common + tensor_get(&x, row * INPUTS + c);
            tensor_set(&x, row * INPUTS + c, v * pow(1.3, (double)c) / 50 + (c % 5 == 0 ? 2 : 0));
        }
    }
    return x;
}

struct layer {
    qvit_tensor w, b, x, g, t;
    double *exact; /* [rows][OUTPUTS], bias included */
};

static struct layer layer_new(void)
{
    struct layer l = {matrix(OUTPUTS, INPUTS, 1),
                      normals(1, (size_t[]){OUTPUTS}, 1),
                      channels(),
                      normals(3, (size_t[]){SAMPLES, TOKENS, OUTPUTS}, 1),
                      zeros(3, (size_t[]){SAMPLES, TOKENS, OUTPUTS}),
                      NULL};
    l.exact = product_of(&l.x, &l.w);
    for (size_t i = 0; i < SAMPLES * TOKENS * OUTPUTS; i++) {
        l.exact[i] += tensor_get(&l.b, i % OUTPUTS);
        tensor_set(&l.g, i,
                   tensor_get(&l.g, i) * (i / OUTPUTS % 3 ? 0.05 : 1)); /* few rows count */
    }
    return l;
}

static qvit_calibrator *observed(const struct layer *l, const qvit_tensor *gradient,
                                 const qvit_tensor *target)
{
    qvit_calibrator *c = calibrator_new(engine_new());
    add_linear(c, QVIT_INPUT_LAYER_NORM, &l->w, &l->b);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input = &l->x, o.gradient = gradient, o.target = target;
    MUST(qvit_calibrator_observe(c, &o, &why));
    return c;
}

/* What a host makes of a result: ((x - shift) / scale) quantized, times the codes, plus the bias. */
static double *outputs_of(const qvit_result *r, const qvit_tensor *x)
{
    qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE),
                shift = part_of(r, QVIT_RESULT_INPUT_SHIFT);
    qvit_tensor bias = part_of(r, QVIT_RESULT_BIAS), w = weights_of(r);
    size_t count = tensor_count(x);
    qvit_tensor moved = view_dense(QVIT_DTYPE_F32, (size_t)x->rank, x->dims).t;
    for (size_t i = 0; i < count; i++) {
        double v = tensor_get(x, i);
        if (shift.data) v -= tensor_get(&shift, i % INPUTS);
        if (scale.data) v /= tensor_get(&scale, i % INPUTS);
        tensor_set(&moved, i, v);
    }
    qvit_tensor quantized = fake_of(input_of(r), &moved);
    double *y = product_of(&quantized, &w);
    for (size_t i = 0; bias.data && i < count / INPUTS * OUTPUTS; i++)
        y[i] += tensor_get(&bias, i % OUTPUTS);
    return y;
}

static double loss_of(const qvit_result *r, const struct layer *l, const double *goal, bool weighed)
{
    double *y = outputs_of(r, &l->x), sum = 0;
    for (size_t i = 0; i < SAMPLES * TOKENS * OUTPUTS; i++) {
        double e = (y[i] - goal[i]) * (weighed ? tensor_get(&l->g, i) : 1);
        sum += e * e;
    }
    free(y);
    return sum;
}

/* The squared error of what the input's codes mean, each row by the inverse of its energy, as without
 * gradients, each channel in units of its own. */
static double input_error_of(const qvit_result *r, const qvit_tensor *x)
{
    qvit_tensor scale = part_of(r, QVIT_RESULT_INPUT_SCALE),
                shift = part_of(r, QVIT_RESULT_INPUT_SHIFT);
    qvit_tensor moved = view_dense(QVIT_DTYPE_F32, (size_t)x->rank, x->dims).t;
    double energy[INPUTS] = {0}, error[INPUTS] = {0}, sum = 0;
    for (size_t i = 0; i < tensor_count(x); i++) {
        size_t c = i % INPUTS;
        tensor_set(&moved, i, (tensor_get(x, i) - tensor_get(&shift, c)) / tensor_get(&scale, c));
    }
    qvit_tensor quantized = fake_of(input_of(r), &moved);
    for (size_t i = 0; i < tensor_count(x); i++) {
        size_t c = i % INPUTS;
        double d = (tensor_get(&quantized, i) - tensor_get(&moved, i)) * tensor_get(&scale, c),
               e = 0;
        for (size_t j = 0; j < INPUTS; j++) e += pow(tensor_get(x, i - c + j), 2);
        error[c] += d * d / e, energy[c] += tensor_get(x, i) * tensor_get(x, i);
    }
    for (size_t c = 0; c < INPUTS; c++) sum += error[c] / energy[c];
    return sum;
}

static void names_tell_what_they_need(void)
{
    static const struct {
        const char *recipe, *setting;
        uint32_t needs;
    } cases[] = {
        {"minmax", NULL, 0},
        {"aciq", NULL, QVIT_NEEDS_ROWS},
        {"mse", NULL, QVIT_NEEDS_ROWS},
        {"mse", "metric=hessian", QVIT_NEEDS_ROWS | QVIT_NEEDS_GRADIENT},
        {"ptq4vit-fast", NULL, QVIT_NEEDS_ROWS | QVIT_NEEDS_GRADIENT},
        {"best", NULL,
         QVIT_NEEDS_ROWS | QVIT_NEEDS_GRADIENT | QVIT_NEEDS_MANY_ROWS | QVIT_NEEDS_PREFIX},
        {"best", "order=any", QVIT_NEEDS_ROWS | QVIT_NEEDS_GRADIENT | QVIT_NEEDS_MANY_ROWS},
        {"easyquant", NULL, QVIT_NEEDS_ROWS | QVIT_NEEDS_PREFIX},
        {"liu2021", "order=prefix", QVIT_NEEDS_ROWS | QVIT_NEEDS_PREFIX},
        {"nothing", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
        o.recipe = cases[i].recipe, o.settings = &cases[i].setting;
        o.setting_count = cases[i].setting != NULL;
        CHECK_EQ(qvit_recipe_needs(&o), cases[i].needs);
    }
    CHECK_EQ(qvit_recipe_needs(NULL), 0);
}

/* Clipping may only gain: each channel by itself, against its range of values seen. */
static void clipped_channels_lose_less(void)
{
    const char *centred[] = {"equalize=1", "channels=centered"};
    const char *clipped[] = {"equalize=1", "channels=centered", "clip=channels"};
    for (int bits = 3; bits <= 6; bits++) {
        struct layer l = layer_new();
        double error[2] = {0, 0};
        for (int i = 0; i < 2; i++) {
            qvit_calibrator *c = observed(&l, NULL, NULL);
            qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
            o.settings = i ? clipped : centred, o.setting_count = i ? 3 : 2;
            o.input_bits = bits;
            MUST(qvit_calibrator_solve(c, &o, &why));
            error[i] = input_error_of(result_of(c, 0), &l.x);
        }
        if (!(error[1] < error[0] * 1.02))
            FAIL("%d bits: error %g clipped, %g not", bits, error[1], error[0]);
        if (bits == 3) CHECK(error[1] < 0.9 * error[0]);
        free(l.exact);
    }
}

/* Values with a channel far larger than the others, and rows of probabilities both flat and steep: a scale for
 * each channel and codes relative to the row's largest both lose far less at 4 bits. */
static void attention_gains_from_channels_and_relative_probabilities(void)
{
    enum { HEADS = 2, QUERIES = 12, KEYS = 60, DIM = 16 };
    qvit_tensor p = zeros(4, (size_t[]){3, HEADS, QUERIES, KEYS});
    qvit_tensor v = normals(4, (size_t[]){3, HEADS, KEYS, DIM}, 1);
    for (size_t row = 0; row < 3 * HEADS * QUERIES; row++) {
        double sum = 0, e[KEYS];
        for (size_t j = 0; j < KEYS; j++)
            sum += e[j] = exp((row % 2 ? 1 : 12) * (double)random_between(-1, 1));
        for (size_t j = 0; j < KEYS; j++) tensor_set(&p, row * KEYS + j, e[j] / sum);
    }
    for (size_t i = 0; i < tensor_count(&v); i++)
        if (i % DIM == 5) tensor_set(&v, i, 10 * tensor_get(&v, i));
    const char *settings[] = {"metric=mse", "probabilities=absolute", "values=head"};
    double db[3];
    for (int i = 0; i < 3; i++) {
        if (i > 0) settings[2] = "values=channel";
        if (i > 1) settings[1] = "probabilities=relative";
        qvit_calibrator *c = calibrator_new(engine_new());
        add_matmul(c, QVIT_INPUT_SOFTMAX, HEADS, 0);
        qvit_observation seen = QVIT_OBSERVATION_INIT;
        seen.input = &p, seen.second = &v;
        MUST(qvit_calibrator_observe(c, &seen, &why));
        qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
        o.settings = settings, o.setting_count = 3, o.input_bits = 4;
        MUST(qvit_calibrator_solve(c, &o, &why));
        const qvit_result *r = result_of(c, 0);
        db[i] = qvit_result_score(r, QVIT_SCORE_SQNR_DB);
        CHECK_EQ(qvit_quantizer_flags(input_of(r)), i > 1 ? QVIT_QUANTIZER_RELATIVE : 0);
        qvit_parameter scales;
        MUST(qvit_quantizer_parameter(second_of(r), QVIT_PARAMETER_SCALE, &scales, &why));
        CHECK_EQ(scales.count, i > 0 ? HEADS * DIM : HEADS);
    }
    if (!(db[1] > db[0] + 1 && db[2] > db[1] + 1)) FAIL("%g, %g, %g dB", db[0], db[1], db[2]);
}

static void every_recipe_solves_and_says_how_well(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, &l.g, NULL);
    for (size_t i = 0; qvit_recipe_name(i); i++)
        for (int bits = 2; bits <= 8; bits += 2) {
            solve(c, qvit_recipe_name(i), bits, bits, NULL);
            const qvit_result *r = result_of(c, 0);
            double loss = loss_of(r, &l, l.exact, true) / SAMPLES,
                   plain = loss_of(r, &l, l.exact, false);
            double signal = 0;
            for (size_t j = 0; j < SAMPLES * TOKENS * OUTPUTS; j++) {
                double y = l.exact[j] - tensor_get(&l.b, j % OUTPUTS);
                signal += y * y;
            }
            CHECK_NEAR(qvit_result_score(r, QVIT_SCORE_LOSS), loss, 1e-3 * loss + 1e-9);
            CHECK_NEAR(qvit_result_score(r, QVIT_SCORE_SQNR_DB), 10 * log10(signal / plain), 0.02);
            CHECK(qvit_result_score(r, QVIT_SCORE_SATURATED_INPUT) <= 1);
            CHECK(qvit_result_score(r, QVIT_SCORE_COSINE) <= 1 + 1e-12);
        }
    CHECK(isnan(qvit_result_score(NULL, QVIT_SCORE_LOSS)));
    CHECK(isnan(qvit_result_score(result_of(c, 0), 99)));
    free(l.exact);
    give_back();
}

/* Of one layer the alternation may end in a worse corner; of many it does not. */
static void gradients_are_asked_for_and_used(void)
{
    double mse = 0, hessian = 0;
    for (int i = 0; i < 12; i++) {
        struct layer l = layer_new();
        qvit_calibrator *without = observed(&l, NULL, NULL), *c = observed(&l, &l.g, NULL);
        CHECK_EQ(solve_status(without, "mse", 4, 4, "metric=hessian"), QVIT_ERR_STATE);
        solve(c, "mse", 4, 4, "rounds=3");
        mse += loss_of(result_of(c, 0), &l, l.exact, true);
        solve(c, "mse", 4, 4, "rounds=3 metric=hessian");
        hessian += loss_of(result_of(c, 0), &l, l.exact, true);
        free(l.exact);
        give_back();
    }
    CHECK(hessian < mse);
}

/* How much a row counts: by its gradient, and a tenth by the inverse of its energy, each with mean 1. */
static void count_rows(const struct layer *l, int by_gradient, double weight[SAMPLES * TOKENS])
{
    const size_t rows = SAMPLES * TOKENS;
    double energy[SAMPLES * TOKENS] = {0}, slope[SAMPLES * TOKENS] = {0}, means[3] = {0};
    for (size_t i = 0; i < rows * OUTPUTS; i++) {
        double y = l->exact[i] - tensor_get(&l->b, i % OUTPUTS), g = tensor_get(&l->g, i);
        energy[i / OUTPUTS] += y * y, slope[i / OUTPUTS] += g * g;
    }
    for (size_t i = 0; i < rows; i++) means[0] += energy[i] / (double)rows;
    for (size_t i = 0; i < rows; i++) {
        weight[i] = 1 / (energy[i] + 1e-6 * means[0]);
        means[1] += weight[i] / (double)rows, means[2] += slope[i] / (double)rows;
    }
    for (size_t i = 0; i < rows; i++) {
        weight[i] /= means[1];
        if (by_gradient) weight[i] = 0.1 * weight[i] + 0.9 * slope[i] / means[2];
    }
}

/* Without gradients, with some that the recipe does not ask for, and with some that it does. */
static void corrected_biases_leave_no_mean_error(void)
{
    for (int given = 0; given < 3; given++) {
        struct layer l = layer_new();
        double weight[SAMPLES * TOKENS];
        const int by_gradient = given == 2;
        qvit_calibrator *c = observed(&l, given ? &l.g : NULL, NULL);
        if (by_gradient)
            solve(c, "mse", 3, 3, "bias=corrected metric=hessian candidates=8");
        else
            solve(c, "minmax", 3, 3, "bias=corrected");
        double *y = outputs_of(result_of(c, 0), &l.x);
        count_rows(&l, by_gradient, weight);
        for (size_t j = 0; j < OUTPUTS; j++) {
            double error = 0, size = 0;
            for (size_t row = 0; row < SAMPLES * TOKENS; row++) {
                size_t i = row * OUTPUTS + j;
                error += (y[i] - l.exact[i]) * weight[row];
                size += fabs(l.exact[i]) * weight[row];
            }
            CHECK(fabs(error) <= 1e-4 * size);
        }
        free(y), free(l.exact);
        give_back();
    }
}

static void centred_channels_preserve_the_function(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, NULL, NULL);
    double norm = 0;
    for (size_t i = 0; i < SAMPLES * TOKENS * OUTPUTS; i++) norm += l.exact[i] * l.exact[i];
    solve(c, "minmax", 8, 8, "channels=centered equalize=1");
    const qvit_result *r = result_of(c, 0);
    CHECK(part_of(r, QVIT_RESULT_INPUT_SHIFT).data);
    CHECK(loss_of(r, &l, l.exact, false) < 1e-3 * norm);
    solve(c, "minmax", 8, 3, "equalize=1");
    double plain = loss_of(result_of(c, 0), &l, l.exact, false);
    solve(c, "minmax", 8, 3, "channels=centered equalize=1");
    CHECK(loss_of(result_of(c, 0), &l, l.exact, false) < plain);
    free(l.exact);
    give_back();
}

static void rounding_and_ridge_look_at_the_inputs(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, NULL, NULL);
    static const char *const ways[] = {"bias=corrected", "bias=corrected rounding=gptq row-floor=1",
                                       "bias=corrected rounding=gptq passes=4 ridge=0.01"};
    double loss[3];
    for (size_t i = 0; i < 3; i++) {
        solve(c, "minmax", 3, 4, ways[i]);
        double *y = outputs_of(result_of(c, 0), &l.x);
        loss[i] = 0;
        for (size_t row = 0; row < SAMPLES * TOKENS;
             row++) { /* as rows are counted: by 1 / energy */
            double error = 0, energy = 0;
            for (size_t j = 0; j < OUTPUTS; j++) {
                double e = y[row * OUTPUTS + j] - l.exact[row * OUTPUTS + j];
                double t = l.exact[row * OUTPUTS + j] - tensor_get(&l.b, j);
                error += e * e, energy += t * t;
            }
            loss[i] += error / energy;
        }
        free(y);
    }
    CHECK(loss[1] < loss[0]);
    CHECK(loss[2] < loss[1]);
    free(l.exact);
    give_back();
}

/* Another layer's outputs as targets: weights may move there, and the float product is not needed. */
static void targets_are_what_is_fitted(void)
{
    struct layer l = layer_new();
    for (size_t i = 0; i < SAMPLES * TOKENS * OUTPUTS; i++)
        tensor_set(&l.t, i, l.exact[i] + (i % OUTPUTS ? 0.5 : -1));
    double *goal = malloc(SAMPLES * TOKENS * OUTPUTS * sizeof *goal);
    if (!goal) FAIL("memory");
    for (size_t i = 0; i < SAMPLES * TOKENS * OUTPUTS; i++) goal[i] = tensor_get(&l.t, i);
    qvit_calibrator *c = observed(&l, NULL, &l.t), *plain = observed(&l, NULL, NULL);
    solve(c, "minmax", 8, 8, "bias=corrected");
    solve(plain, "minmax", 8, 8, "bias=corrected");
    /* The corrected bias takes up what the target is moved by; rows count a little differently. */
    qvit_tensor bias = part_of(result_of(c, 0), QVIT_RESULT_BIAS);
    qvit_tensor before = part_of(result_of(plain, 0), QVIT_RESULT_BIAS);
    for (size_t j = 0; j < OUTPUTS; j++)
        CHECK_NEAR(tensor_get(&bias, j) - tensor_get(&before, j), j ? 0.5 : -1, 0.05);
    double near = loss_of(result_of(c, 0), &l, goal, false);
    double far = loss_of(result_of(plain, 0), &l, goal, false);
    CHECK_NEAR((far - near) / (SAMPLES * TOKENS * ((OUTPUTS - 1) * 0.25 + 1)), 1, 0.2);
    free(goal), free(l.exact);
    give_back();
}

static void what_was_seen_behind_a_prefix_can_be_forgotten(void)
{
    struct layer l = layer_new();
    qvit_calibrator *c = observed(&l, NULL, NULL), *once = observed(&l, NULL, NULL);
    qvit_tensor other = channels();
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.input_quantized = &other, o.target = &l.t;
    MUST(qvit_calibrator_observe(c, &o, &why));
    CHECK_EQ(qvit_calibrator_observe(c, &o, &why), QVIT_ERR_STATE);
    MUST(qvit_calibrator_forget(c, 0, &why));
    o.input_quantized = &l.x, o.target = NULL;
    MUST(qvit_calibrator_observe(c, &o, &why));
    MUST(qvit_calibrator_observe(once, &o, &why));
    qvit_solve_options s = QVIT_SOLVE_OPTIONS_INIT;
    s.recipe = "mse", s.use_quantized = 1;
    MUST(qvit_calibrator_solve(c, &s, &why));
    MUST(qvit_calibrator_solve(once, &s, &why));
    struct bytes a = bytes_of_results(c, 1), b = bytes_of_results(once, 1);
    bool same = bytes_equal(&a, &b);
    bytes_free(&a), bytes_free(&b);
    CHECK(same);
    CHECK_EQ(qvit_calibrator_forget(c, 1, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_calibrator_forget(NULL, 0, &why), QVIT_ERR_ARGUMENT);
    free(l.exact);
    give_back();
}

static void parts_of_a_layer_have_scales_of_their_own(void)
{
    qvit_tensor w = matrix(6, 5, 1), x = matrix(30, 5, 1);
    for (size_t i = 0; i < 30; i++)
        tensor_set(&w, i, tensor_get(&w, i) * (i < 10 ? 1 : i < 20 ? 10 : 100));
    qvit_calibrator *c = calibrator_new(engine_new());
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    o.weight = &w, o.output_parts = 4;
    CHECK_EQ(qvit_calibrator_add_site(c, &o, NULL, &why), QVIT_ERR_SHAPE);
    o.output_parts = 3;
    MUST(qvit_calibrator_add_site(c, &o, NULL, &why));
    observe(c, 0, &x);
    for (size_t i = 0; qvit_recipe_name(i); i++) {
        const char *name = qvit_recipe_name(i);
        if (!strncmp(name, "ptq", 3)) continue; /* they want gradients, ptq-sl other blocks too */
        solve(c, name, 8, 8, "weights=layer");
        const qvit_quantizer *q = second_of(result_of(c, 0));
        CHECK_EQ(qvit_granularity_blocks(qvit_quantizer_granularity(q)), 3);
        CHECK(scale_of(q, 0) < scale_of(q, 1) && scale_of(q, 1) < scale_of(q, 2));
    }
    give_back();
}

/* Of one layer the other operand may then fall into a worse place; of many a refined grid gains. */
static void refining_gains(void)
{
    double coarse = 0, refined = 0;
    for (int bits = 3; bits <= 8; bits++) {
        struct layer l = layer_new();
        qvit_calibrator *c = observed(&l, NULL, NULL);
        solve(c, "mse", bits, 8, "candidates=8");
        double before = loss_of(result_of(c, 0), &l, l.exact, false);
        solve(c, "mse", bits, 8, "candidates=8 refine=6");
        refined += loss_of(result_of(c, 0), &l, l.exact, false) / before;
        coarse += 1;
        free(l.exact);
        give_back();
    }
    CHECK(refined < coarse);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(names_tell_what_they_need);
    RUN(clipped_channels_lose_less);
    RUN(attention_gains_from_channels_and_relative_probabilities);
    RUN(every_recipe_solves_and_says_how_well);
    RUN(gradients_are_asked_for_and_used);
    RUN(corrected_biases_leave_no_mean_error);
    RUN(centred_channels_preserve_the_function);
    RUN(rounding_and_ridge_look_at_the_inputs);
    RUN(targets_are_what_is_fitted);
    RUN(what_was_seen_behind_a_prefix_can_be_forgotten);
    RUN(parts_of_a_layer_have_scales_of_their_own);
    RUN(refining_gains);
    return test_end();
}
