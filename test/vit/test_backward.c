/* Gradients of the float ViT against finite differences of a second ViT, in double precision. */
#define _POSIX_C_SOURCE 200809L

#include "../../examples/common/thread_pool.h"
#include "backward.h"
#include "calibrate.h"
#include "float_model.h"
#include "probe.h"
#include "random_model.h"
#include "reference_vit.h"
#include "run_eval.h"

enum { IMAGES = 5, MAX_DEPTH = 3, MAX_CLASSES = 16, MAX_DRAWS = 3 };

/* ---- a model, and images ---- */

static vit_model model;
static npy images;

static const uint8_t *image(size_t number)
{
    return (const uint8_t *)images.data + number * model.image * model.image * VIT_CHANNELS;
}

/* A small one of random sizes; every test makes its own. */
static void make_model(void)
{
    const size_t patch = 4 + 4 * test_below(2);
    const random_sizes sizes = {
        .width = 16 * (1 + test_below(4)),
        .depth = 1 + test_below(MAX_DEPTH),
        .classes = 2 + test_below(MAX_CLASSES - 1),
        .image = patch * (2 + test_below(3)),
        .patch = patch,
    };
    const vit_model_options options = {.heads = (size_t)1 << test_below(4)};
    qvit_error error;
    char text[240];
    CHECK_EQ(random_model_write(run_path("model"), &sizes, test_random(), &error), QVIT_OK);
    CHECK_EQ(random_images_write(run_path("images"), &sizes, IMAGES, test_random(), &error),
             QVIT_OK);
    if (vit_model_open(run_path("model"), &options, &model, &error)) FAIL("%s", error.text);
    CHECK_EQ(npy_open(run_path("images"), &images, text, sizeof text), 0);
    unlink(run_path("model"));
    unlink(run_path("images"));
    printf("      width %zu, %zu heads, %zu blocks, %zu tokens, %zu classes\n", model.width,
           model.heads, model.depth, model.tokens, model.classes);
}

static void drop_model(void)
{
    npy_close(&images);
    vit_model_close(&model);
}

/* ---- gradients of all images, dense, by stage and block ---- */

static size_t stage_blocks(gradient_stage stage)
{
    return stage == GRADIENT_HEAD || stage == GRADIENT_PATCH_EMBED ? 1 : model.depth;
}

/* Numbers of one image. */
static size_t stage_size(gradient_stage stage)
{
    const size_t sizes[GRADIENT_STAGES] = {
        [GRADIENT_HEAD] = model.classes,
        [GRADIENT_FC2] = model.tokens * model.width,
        [GRADIENT_FC1] = model.tokens * model.hidden,
        [GRADIENT_PROJ] = model.tokens * model.width,
        [GRADIENT_PV] = model.tokens * model.width,
        [GRADIENT_QK] = model.heads * model.tokens * model.tokens,
        [GRADIENT_QKV] = model.tokens * 3 * model.width,
        [GRADIENT_PATCH_EMBED] = model.patches * model.width,
    };
    return sizes[stage];
}

typedef struct record {
    float *values[GRADIENT_STAGES][MAX_DEPTH];
    size_t first_image; /* of the pass that goes on */
    size_t seen;        /* gradients in it */
} record;

static void record_begin(record *r)
{
    *r = (record){.seen = 0};
    for (size_t s = 0; s < GRADIENT_STAGES; s++) {
        for (size_t block = 0; block < stage_blocks((gradient_stage)s); block++)
            r->values[s][block] = calloc(IMAGES * stage_size((gradient_stage)s), sizeof(float));
    }
}

static void record_end(record *r)
{
    for (size_t s = 0; s < GRADIENT_STAGES; s++) {
        for (size_t block = 0; block < MAX_DEPTH; block++) free(r->values[s][block]);
    }
}

static bool record_equal(const record *a, const record *b)
{
    bool equal = true;
    for (size_t s = 0; s < GRADIENT_STAGES; s++) {
        const size_t bytes = IMAGES * stage_size((gradient_stage)s) * sizeof(float);
        for (size_t block = 0; block < stage_blocks((gradient_stage)s); block++)
            equal &= !memcmp(a->values[s][block], b->values[s][block], bytes);
    }
    return equal;
}

/* Takes the elements in the order of their indices, whatever the strides. */
static qvit_status see(void *user, gradient_stage stage, size_t block, const qvit_tensor *gradient,
                       qvit_error *error)
{
    (void)error;
    record *r = user;
    size_t count = 1;
    for (int32_t i = 0; i < gradient->rank; i++) count *= gradient->dims[i];
    CHECK_EQ(gradient->dtype, QVIT_DTYPE_F32);
    CHECK_EQ(count, gradient->dims[0] * stage_size(stage));
    float *out = r->values[stage][block] + r->first_image * stage_size(stage);
    for (size_t n = 0; n < count; n++) {
        ptrdiff_t at = 0;
        size_t rest = n;
        for (int32_t i = gradient->rank - 1; i >= 0; i--) {
            at += (ptrdiff_t)(rest % gradient->dims[i]) * gradient->strides[i];
            rest /= gradient->dims[i];
        }
        out[n] = ((const float *)gradient->data)[at];
    }
    r->seen++;
    return QVIT_OK;
}

/* How a record is made. */
typedef struct setting {
    size_t batch, threads, draws; /* threads: 0: no executor */
    uint64_t seed;
} setting;

static void run_batches(backward *b, record *out)
{
    const gradient_observer observer = {out, see};
    qvit_error error;
    for (size_t first = 0; first < IMAGES; first += b->net->batch) {
        const size_t left = IMAGES - first;
        out->first_image = first, out->seen = 0;
        CHECK_EQ(backward_run(b, image(first), first, left < b->net->batch ? left : b->net->batch,
                              NULL, &observer, &error),
                 QVIT_OK);
        CHECK_EQ(out->seen, 2 + 6 * model.depth);
    }
}

static void make_record(const setting *s, record *out)
{
    thread_pool *pool = thread_pool_create(s->threads ? s->threads : 1);
    const qvit_executor executor = thread_pool_executor(pool);
    qvit_engine_options engine_options = QVIT_ENGINE_OPTIONS_INIT;
    engine_options.executor = &executor;
    const backward_options options = {s->draws, s->seed, s->threads ? &executor : NULL};
    qvit_error error;
    qvit_engine *engine;
    network net;
    backward b;
    record_begin(out);
    CHECK_EQ(qvit_engine_create(&engine_options, &engine, &error), QVIT_OK);
    CHECK_EQ(float_model_create(&model, engine, s->batch, true, &net, &error), QVIT_OK);
    CHECK_EQ(backward_create(&net, engine, &options, &b, &error), QVIT_OK);
    run_batches(&b, out);
    backward_close(&b);
    network_close(&net);
    qvit_engine_destroy(engine);
    thread_pool_destroy(pool);
}

/* ---- finite differences ---- */

static double inner(const float *v, const double *logits)
{
    double sum = 0;
    for (size_t i = 0; i < model.classes; i++) sum += (double)v[i] * logits[i];
    return sum;
}

/* The root mean square, over the probes, of d<v, logits> / d(element). */
static double difference(size_t number, reference_poke poke, float (*probes)[MAX_CLASSES],
                         size_t draws)
{
    const double step = 1e-4;
    double up[MAX_CLASSES], down[MAX_CLASSES], sum = 0, one = 0;
    poke.delta = step;
    reference_logits(&model, image(number), &poke, up);
    poke.delta = -step;
    reference_logits(&model, image(number), &poke, down);
    for (size_t i = 0; i < draws; i++) {
        one = (inner(probes[i], up) - inner(probes[i], down)) / (2 * step);
        sum += one * one;
    }
    return draws == 1 ? one : sqrt(sum / (double)draws);
}

static void draw_probes(const setting *s, size_t number, float (*probes)[MAX_CLASSES])
{
    const reference_poke none = {.delta = 0};
    double logits[MAX_CLASSES];
    float rounded[MAX_CLASSES];
    reference_logits(&model, image(number), &none, logits);
    for (size_t i = 0; i < model.classes; i++) rounded[i] = (float)logits[i];
    for (size_t i = 0; i < s->draws; i++)
        probe_draw(s->seed, number, i, rounded, model.classes, probes[i]);
}

/* Any element, or one of the first row: behind the last attention only class tokens count. */
static size_t random_element(gradient_stage stage)
{
    return test_below(test_below(2) ? stage_size(stage) : stage_size(stage) / model.tokens / 4 + 1);
}

static double root_mean_square(const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum / (double)count);
}

static void check_element(const setting *s, const record *r, gradient_stage stage, size_t block)
{
    const size_t number = test_below(IMAGES), size = stage_size(stage);
    const reference_poke poke = {.stage = stage, .block = block, .index = random_element(stage)};
    const float *gradient = r->values[stage][block] + number * size;
    float probes[MAX_DRAWS][MAX_CLASSES];
    draw_probes(s, number, probes);
    const double expected = difference(number, poke, probes, s->draws);
    const double tolerance = 2e-4 * root_mean_square(gradient, size) + 2e-4 * fabs(expected);
    if (!(fabs((double)gradient[poke.index] - expected) <= tolerance))
        FAIL("stage %d, block %zu, image %zu, element %zu: %.9g, not %.9g", (int)stage, block,
             number, poke.index, (double)gradient[poke.index], expected);
}

static void check_differences(const setting *s)
{
    enum { ELEMENTS = 12 };
    record r;
    make_model();
    make_record(s, &r);
    for (size_t stage = 0; stage < GRADIENT_STAGES; stage++) {
        for (size_t block = 0; block < stage_blocks((gradient_stage)stage); block++) {
            CHECK(root_mean_square(r.values[stage][block],
                                   IMAGES * stage_size((gradient_stage)stage)) > 0);
            for (size_t i = 0; i < ELEMENTS; i++)
                check_element(s, &r, (gradient_stage)stage, block);
        }
    }
    record_end(&r);
    drop_model();
}

static void gradients_match_finite_differences(void)
{
    check_differences(&(setting){.batch = 3, .threads = 2, .draws = 1, .seed = test_random()});
}

static void several_draws_give_root_mean_squares(void)
{
    check_differences(&(setting){.batch = 2, .draws = MAX_DRAWS, .seed = test_random()});
}

static void batches_and_threads_do_not_matter(void)
{
    make_model();
    for (size_t draws = 1; draws <= 2; draws++) {
        const uint64_t seed = test_random();
        const setting settings[] = {
            {4, 1, draws, seed}, {1, 2, draws, seed},  {3, 3, draws, seed},
            {5, 0, draws, seed}, {4, 1, draws, ~seed},
        };
        record first;
        make_record(&settings[0], &first);
        for (size_t i = 1; i < 5; i++) {
            record other;
            make_record(&settings[i], &other);
            const bool equal = record_equal(&first, &other);
            record_end(&other);
            CHECK_EQ(equal, settings[i].seed == seed);
        }
        record_end(&first);
    }
    drop_model();
}

/* ---- failures ---- */

static qvit_status refuse(void *user, gradient_stage stage, size_t block,
                          const qvit_tensor *gradient, qvit_error *error)
{
    (void)user, (void)block, (void)gradient, (void)error;
    return stage == GRADIENT_QK ? QVIT_ERR_CANCELLED : QVIT_OK;
}

/* Does the plans' work until it is told to fail. */
static bool broken;

static qvit_status run_or_fail(void *user, size_t count, qvit_task *task, void *argument)
{
    (void)user;
    for (size_t i = 0; i < count && !broken; i++) task(argument, i, 0);
    return broken ? QVIT_ERR_VALUE : QVIT_OK;
}

static void failures_are_reported(void)
{
    qvit_executor executor = QVIT_EXECUTOR_INIT;
    executor.workers = 2;
    executor.run = run_or_fail;
    const backward_options options = {1, 0, &executor};
    const gradient_observer refusing = {NULL, refuse};
    qvit_error error;
    qvit_engine *engine;
    network net;
    backward b;
    make_model();
    CHECK_EQ(qvit_engine_create(NULL, &engine, &error), QVIT_OK);
    CHECK_EQ(float_model_create(&model, engine, 2, true, &net, &error), QVIT_OK);
    CHECK_EQ(backward_create(&net, engine, &options, &b, &error), QVIT_OK);
    CHECK_EQ(backward_run(&b, image(0), 0, 2, NULL, &refusing, &error), QVIT_ERR_CANCELLED);
    broken = true;
    CHECK_EQ(backward_run(&b, image(0), 0, 2, NULL, &refusing, &error), QVIT_ERR_EXECUTOR);
    broken = false;
    backward_close(&b);
    backward_close(&b);
    network_close(&net);
    qvit_engine_destroy(engine);
    drop_model();
}

/* ---- calibrating ---- */

/* Solves with or without gradients; the codes of all weights. */
static uint64_t solve(bool gradients, const char *recipe)
{
    qvit_error error;
    qvit_engine *engine;
    calibration c;
    calibration_results results;
    const calibration_options options = {.batch = 3, .gradients = gradients};
    const calibration_recipe how = {.recipe = recipe, .weight_bits = 8, .input_bits = 8};
    CHECK_EQ(qvit_engine_create(NULL, &engine, &error), QVIT_OK);
    CHECK_EQ(calibration_begin(&c, &model, engine, &options, &error), QVIT_OK);
    for (size_t i = 0; i < IMAGES; i += 3) {
        if (calibration_observe(&c, image(i), i, IMAGES - i < 3 ? IMAGES - i : 3, &error))
            FAIL("%s", error.text);
    }
    if (calibration_solve(&c, &how, &results, &error)) FAIL("%s", error.text);
    uint64_t hash = 0;
    for (size_t i = 0; i < results.count; i++) {
        qvit_tensor codes;
        CHECK_EQ(qvit_result_tensor(results.site[i], QVIT_RESULT_WEIGHT_CODES, &codes, &error),
                 QVIT_OK);
        for (size_t j = 0; codes.data && j < codes.dims[0] * codes.dims[1]; j++)
            hash = hash * 31 + ((const uint8_t *)codes.data)[j];
    }
    calibration_results_close(&results);
    calibration_end(&c);
    qvit_engine_destroy(engine);
    return hash;
}

/* Recipes that do not read gradients give what they give without them. */
static void calibrator_takes_gradients(void)
{
    make_model();
    CHECK(solve(true, "minmax") == solve(false, "minmax"));
    CHECK(solve(true, "mse") == solve(false, "mse"));
    drop_model();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    run_begin();
    RUN(gradients_match_finite_differences);
    RUN(several_draws_give_root_mean_squares);
    RUN(batches_and_threads_do_not_matter);
    RUN(failures_are_reported);
    RUN(calibrator_takes_gradients);
    rmdir(run_folder);
    return test_end();
}
