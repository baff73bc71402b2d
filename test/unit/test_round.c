/*
 * test_round.c - rounding with the inputs in mind, against a textbook GPTQ, against trying every code, and
 * against the equations that solutions fulfil.
 */
#include "support.h"

#include "calib/linalg.h"
#include "calib/round.h"

enum { MOST_K = 160 };

static double *doubles(size_t n) { return guarded(n * sizeof(double)); }
static float *floats(size_t n) { return guarded(n * sizeof(float)); }

static qvit_engine *engine_of(struct shuffled *s, size_t workers)
{
    *s = (struct shuffled){.workers = workers};
    qvit_executor executor = shuffled_hook(s);
    return engine_with(0, NULL, &executor);
}

static int zero_of(const struct qvitp_rounding *job, size_t row)
{
    return job->zero[row * job->scale_stride];
}

static int lowest(const struct qvitp_rounding *job, size_t row)
{
    if (job->zero) return -zero_of(job, row);
    return job->bits == 8 ? -127 : -(1 << (job->bits - 1));
}

static int highest(const struct qvitp_rounding *job, size_t row)
{
    if (job->zero) return (1 << job->bits) - 1 - zero_of(job, row);
    return (1 << (job->bits - 1)) - 1;
}

/* ---- problems ---- */

/* Correlated inputs: each is a mix of a few causes, and some noise of its own. */
static double *make_gram(size_t m, size_t k)
{
    enum { CAUSES = 4 };
    double *x = doubles(m * k), *gram = doubles(k * k), mix[MOST_K][CAUSES];
    for (size_t j = 0; j < k; j++)
        for (size_t c = 0; c < CAUSES; c++) mix[j][c] = (double)test_normal();
    for (size_t r = 0; r < m; r++) {
        double cause[CAUSES];
        for (size_t c = 0; c < CAUSES; c++) cause[c] = (double)test_normal();
        for (size_t j = 0; j < k; j++) {
            x[r * k + j] = 0.7 * (double)test_normal();
            for (size_t c = 0; c < CAUSES; c++) x[r * k + j] += mix[j][c] * cause[c];
        }
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) {
            double sum = 0;
            for (size_t r = 0; r < m; r++) sum += x[r * k + i] * x[r * k + j];
            gram[i * k + j] = sum;
        }
    return gram;
}

static void kill_input(size_t k, double *gram, size_t dead)
{
    for (size_t j = 0; j < k; j++) gram[dead * k + j] = gram[j * k + dead] = 0;
}

/* Every second job of up to 7 bits has zero points. */
static struct qvitp_rounding make_job(size_t n, size_t k, int32_t bits, const double *gram)
{
    float *w = floats(n * k), *scale = floats(n);
    int32_t *zero = guarded(n * sizeof *zero);
    struct qvitp_rounding job = {.n = n,
                                 .k = k,
                                 .weight = w,
                                 .scale = scale,
                                 .scale_stride = 1,
                                 .zero = bits < 8 && test_below(2) ? zero : NULL,
                                 .bits = bits,
                                 .gram = gram,
                                 .damping = 0.01};
    for (size_t i = 0; i < n; i++) {
        float most = 0;
        for (size_t j = 0; j < k; j++) {
            w[i * k + j] = test_normal();
            most = fmaxf(most, fabsf(w[i * k + j]));
        }
        zero[i] = (int32_t)test_below((size_t)1 << bits);
        /* 0.5 would make ties of the largest weights */
        scale[i] = most / ((float)(job.zero ? 1 << (bits - 1) : highest(&job, i)) + 0.45f);
    }
    return job;
}

static double scale_at(const struct qvitp_rounding *job, size_t row)
{
    return (double)job->scale[row * job->scale_stride];
}

static double loss_of(const struct qvitp_rounding *job, size_t row, const int8_t *codes)
{
    double e[MOST_K], sum = 0;
    size_t k = job->k;
    for (size_t j = 0; j < k; j++)
        e[j] = (double)job->weight[row * k + j] - scale_at(job, row) * codes[row * k + j];
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) sum += e[i] * job->gram[i * k + j] * e[j];
    return sum;
}

static double loss_of_all(const struct qvitp_rounding *job, const int8_t *codes)
{
    double sum = 0;
    for (size_t i = 0; i < job->n; i++) sum += loss_of(job, i, codes);
    return sum;
}

static double nearest_code(const struct qvitp_rounding *job, size_t row, double code)
{
    return fmin(fmax(nearbyint(code), lowest(job, row)), highest(job, row));
}

static void nearest(const struct qvitp_rounding *job, int8_t *codes)
{
    for (size_t i = 0; i < job->n * job->k; i++) {
        const size_t row = i / job->k;
        codes[i] = (int8_t)nearest_code(job, row, (double)job->weight[i] / scale_at(job, row));
    }
}

static void check_range(const struct qvitp_rounding *job, const int8_t *codes)
{
    for (size_t i = 0; i < job->n * job->k; i++)
        CHECK(codes[i] >= lowest(job, i / job->k) && codes[i] <= highest(job, i / job->k));
}

/* What a call says of its loss must be the loss. */
static void check_loss(const struct qvitp_rounding *job, const int8_t *codes, const double *loss)
{
    double all = loss_of_all(job, codes);
    for (size_t i = 0; i < job->n; i++) CHECK_NEAR(loss[i], loss_of(job, i, codes), 1e-9 * all);
}

/* ---- the textbook: invert, factor, update the weights column by column ---- */

static void invert(size_t k, double *a, double *out)
{
    for (size_t i = 0; i < k * k; i++) out[i] = i % (k + 1) == 0;
    for (size_t p = 0; p < k; p++) {
        double pivot = a[p * k + p];
        for (size_t j = 0; j < k; j++) a[p * k + j] /= pivot, out[p * k + j] /= pivot;
        for (size_t i = 0; i < k; i++) {
            double factor = i == p ? 0 : a[i * k + p];
            for (size_t j = 0; j < k; j++) {
                a[i * k + j] -= factor * a[p * k + j];
                out[i * k + j] -= factor * out[p * k + j];
            }
        }
    }
}

/* a = U^T U, U upper triangular. */
static void upper_factor(size_t k, const double *a, double *u)
{
    for (size_t i = 0; i < k; i++)
        for (size_t j = i; j < k; j++) {
            double sum = a[i * k + j];
            for (size_t p = 0; p < i; p++) sum -= u[p * k + i] * u[p * k + j];
            u[i * k + j] = i == j ? sqrt(sum) : sum / u[i * k + i];
        }
}

static void textbook_order(const struct qvitp_rounding *job, size_t *order)
{
    const double *gram = job->gram;
    size_t k = job->k;
    for (size_t i = 0; i < k; i++) order[i] = i;
    for (size_t i = 0; job->by_diagonal && i < k; i++) /* bubbles keep equals in place */
        for (size_t j = 0; j + 1 < k; j++)
            if (gram[order[j] * (k + 1)] < gram[order[j + 1] * (k + 1)]) {
                size_t swapped = order[j];
                order[j] = order[j + 1];
                order[j + 1] = swapped;
            }
}

static void textbook_row(const struct qvitp_rounding *job, size_t row, const size_t *order,
                         const double *u, int8_t *codes)
{
    double w[MOST_K], scale = scale_at(job, row);
    size_t k = job->k;
    for (size_t j = 0; j < k; j++) w[j] = (double)job->weight[row * k + order[j]];
    for (size_t j = 0; j < k; j++) {
        double code = nearest_code(job, row, w[j] / scale);
        double error = (w[j] - scale * code) / u[j * k + j];
        for (size_t p = j; p < k; p++) w[p] -= error * u[j * k + p];
        codes[row * k + order[j]] = (int8_t)code;
    }
}

static void textbook(const struct qvitp_rounding *job, int8_t *codes)
{
    size_t k = job->k, order[MOST_K], live = 0;
    double *damped = doubles(k * k), *inverse = doubles(k * k), *u = doubles(k * k), mean = 0;
    textbook_order(job, order);
    for (size_t j = 0; j < k; j++)
        if (job->gram[j * (k + 1)] > 0) mean += job->gram[j * (k + 1)], live++;
    mean /= live ? (double)live : 1;
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) {
            double h = job->gram[order[i] * k + order[j]];
            damped[i * k + j] = i != j ? h : h > 0 ? h + job->damping * mean : 1;
        }
    invert(k, damped, inverse);
    upper_factor(k, inverse, u);
    for (size_t i = 0; i < job->n; i++) textbook_row(job, i, order, u, codes);
}

static void codes_are_those_of_the_textbook(void)
{
    static const size_t sizes[] = {1, 3, 17, 63, 64, 65, 127, 130, MOST_K};
    for (int round = 0; round < 18; round++) {
        size_t mark = kept.count, k = sizes[round % 9], n = 1 + test_below(100);
        double *gram = make_gram(k / 2 + 5, k); /* half of them singular but for the damping */
        if (k > 3) kill_input(k, gram, test_below(k));
        struct qvitp_rounding job = make_job(n, k, 2 + (int32_t)test_below(7), gram);
        job.by_diagonal = round & 1;
        int8_t *codes = guarded(n * k), *expected = guarded(n * k);
        double *loss = doubles(n);
        qvit_engine *e = engine_with(isa_variants[(size_t)round % isa_variant_count()], NULL, NULL);
        MUST(qvitp_round_weights(e, &job, codes, loss, &why));
        textbook(&job, expected);
        check_range(&job, codes);
        check_loss(&job, codes, loss);
        size_t differing = 0; /* rows: a tie that falls the other way changes what follows it */
        for (size_t i = 0; i < n; i++) differing += memcmp(codes + i * k, expected + i * k, k) != 0;
        if (differing > n / 50 + 1) FAIL("%zu of %zu rows differ, k %zu", differing, n, k);
        double ours = loss_of_all(&job, codes), theirs = loss_of_all(&job, expected);
        CHECK_NEAR(ours, theirs, (differing ? 0.5 : 1e-12) * theirs);
        release_to(mark);
    }
    release();
}

/* ---- tiny problems: every code tried ---- */

static double best_loss(const struct qvitp_rounding *job, size_t row)
{
    int lo = lowest(job, row), count = highest(job, row) - lo + 1;
    int8_t codes[8 * 8] = {0};
    double best = INFINITY;
    size_t all = 1;
    for (size_t j = 0; j < job->k; j++) all *= (size_t)count;
    for (size_t trial = 0; trial < all; trial++) {
        size_t rest = trial;
        for (size_t j = 0; j < job->k; j++, rest /= (size_t)count)
            codes[row * job->k + j] = (int8_t)(lo + (int)(rest % (size_t)count));
        best = fmin(best, loss_of(job, row, codes));
    }
    return best;
}

static void tiny_problems_come_close_to_the_best(void)
{
    enum { N = 4 };
    double sum_nearest = 0, sum_gptq = 0, sum_descent = 0, sum_best = 0;
    for (int round = 0; round < 60; round++) {
        size_t k = 1 + test_below(6);
        int32_t bits = k > 4 ? 2 : 2 + (int32_t)test_below(2);
        struct qvitp_rounding job = make_job(N, k, bits, make_gram(30, k));
        int8_t plain[N * 8], gptq[N * 8], descent[N * 8];
        double gptq_loss[N], descent_loss[N];
        nearest(&job, plain);
        MUST(qvitp_round_weights(engine_new(), &job, gptq, gptq_loss, &why));
        job.passes = 10;
        MUST(qvitp_round_weights(engine_new(), &job, descent, descent_loss, &why));
        check_loss(&job, gptq, gptq_loss), check_loss(&job, descent, descent_loss);
        for (size_t i = 0; i < N; i++) {
            double best = best_loss(&job, i), slack = 1e-9 * loss_of(&job, i, plain) + 1e-12;
            CHECK(descent_loss[i] >= best - slack);
            CHECK(descent_loss[i] <= gptq_loss[i] + slack);
            sum_best += best, sum_descent += descent_loss[i], sum_gptq += gptq_loss[i];
            sum_nearest += loss_of(&job, i, plain);
        }
        release();
    }
    CHECK(sum_gptq < sum_nearest && sum_descent < sum_gptq);
    CHECK(sum_descent < 2 * sum_best);
}

/* ---- descent ---- */

/* From any codes: nothing gets worse, and in the end no change of one code is an improvement. */
static void descent_ends_where_no_code_improves(void)
{
    for (int round = 0; round < 8; round++) {
        size_t k = 1 + test_below(40), n = 1 + test_below(50);
        struct qvitp_rounding job = make_job(n, k, 2 + round % 7, make_gram(k + 9, k));
        int8_t *codes = guarded(n * k);
        for (size_t i = 0; i < n * k; i++) {
            const int lo = lowest(&job, i / k), hi = highest(&job, i / k);
            codes[i] = (int8_t)(lo + (int)test_below((size_t)(hi - lo + 1)));
        }
        double *before = doubles(n), *loss = doubles(n);
        MUST(qvitp_round_descend(engine_new(), &job, codes, before, &why));
        check_loss(&job, codes, before);
        for (job.passes = 1; job.passes <= 1000; job.passes += 999) {
            MUST(qvitp_round_descend(engine_new(), &job, codes, loss, &why));
            check_loss(&job, codes, loss), check_range(&job, codes);
            for (size_t i = 0; i < n; i++) CHECK(loss[i] <= before[i] * (1 + 1e-12));
            memcpy(before, loss, n * sizeof *loss);
        }
        for (size_t at = 0; at < k; at++) { /* of row 0 */
            int8_t kept_code = codes[at];
            for (int code = lowest(&job, 0); code <= highest(&job, 0); code++) {
                codes[at] = (int8_t)code;
                CHECK(loss_of(&job, 0, codes) >= loss[0] - 1e-7 * (1 + loss[0]));
            }
            codes[at] = kept_code;
        }
        release();
    }
}

/* ---- corners ---- */

static void dead_inputs_are_rounded_to_nearest(void)
{
    enum { K = 70, N = 50 };
    for (int round = 0; round < 4; round++) {
        double *gram = make_gram(100, K);
        bool dead[K] = {false};
        for (size_t j = 0; j < K; j++) {
            dead[j] = round == 3 || test_below(4) == 0; /* round 3: all of them */
            if (dead[j]) kill_input(K, gram, j);
        }
        struct qvitp_rounding job = make_job(N, K, 4, gram);
        job.by_diagonal = round & 1, job.passes = round & 2;
        int8_t *codes = guarded(N * K), *plain = guarded(N * K), *other = guarded(N * K);
        MUST(qvitp_round_weights(engine_new(), &job, codes, NULL, &why));
        nearest(&job, plain);
        float *changed = floats(N * K); /* what dead inputs weigh changes nothing else */
        for (size_t i = 0; i < N * K; i++) changed[i] = dead[i % K] ? 1 : job.weight[i];
        job.weight = changed;
        MUST(qvitp_round_weights(engine_new(), &job, other, NULL, &why));
        for (size_t i = 0; i < N * K; i++) CHECK_EQ(codes[i], dead[i % K] ? plain[i] : other[i]);
        release();
    }
}

static void a_scale_can_be_shared(void)
{
    struct qvitp_rounding job = make_job(60, 33, 3, make_gram(50, 33));
    int8_t *codes = guarded(60 * 33), *shared = guarded(60 * 33);
    float *same = floats(60), one = 0.4f;
    int32_t zeros[60], zero = 2;
    for (size_t i = 0; i < 60; i++) same[i] = one, zeros[i] = zero;
    job.scale = same, job.passes = 2;
    if (job.zero) job.zero = zeros;
    MUST(qvitp_round_weights(engine_new(), &job, codes, NULL, &why));
    job.scale = &one, job.scale_stride = 0;
    if (job.zero) job.zero = &zero;
    MUST(qvitp_round_weights(engine_new(), &job, shared, NULL, &why));
    CHECK(!memcmp(codes, shared, 60 * 33));
    release();
}

/* More inputs than rows and no damping: it is raised until the factor exists. */
static void damping_is_raised_where_it_must(void)
{
    enum { K = 100, N = 30 };
    struct qvitp_rounding job = make_job(N, K, 4, make_gram(20, K));
    job.zero = NULL; /* nothing makes up for weights that it clips */
    job.damping = 0;
    int8_t *codes = guarded(N * K), *plain = guarded(N * K);
    double *loss = doubles(N), sum = 0;
    MUST(qvitp_round_weights(engine_new(), &job, codes, loss, &why));
    nearest(&job, plain);
    for (size_t i = 0; i < N; i++) sum += loss[i];
    CHECK(sum < 0.5 * loss_of_all(&job, plain));
    release();
}

static void bad_matrices_are_told(void)
{
    enum { K = 20 };
    static const double bad[] = {NAN, INFINITY, 1e9};
    for (size_t i = 0; i < 3; i++) {
        double *gram = make_gram(40, K), cross[K] = {0};
        gram[3 * K + 5] = gram[5 * K + 3] = bad[i];
        if (i < 2 && test_below(2)) gram[7 * K + 7] = bad[i];
        struct qvitp_rounding job = make_job(1, K, 4, gram);
        int8_t codes[K];
        float out[K];
        CHECK_EQ(qvitp_round_weights(engine_new(), &job, codes, NULL, &why), QVIT_ERR_VALUE);
        CHECK_EQ(qvitp_weight_correct(engine_new(), 1, K, job.weight, gram, cross, 0.01, out, &why),
                 QVIT_ERR_VALUE);
        release();
    }
}

/* ---- weights corrected in closed form ---- */

static void correction_fulfils_its_equation(void)
{
    for (int round = 0; round < 6; round++) {
        size_t k = 1 + test_below(140), n = 1 + test_below(80), live = 0;
        double *gram = make_gram(k + 10, k), *cross = doubles(n * k), *saved = doubles(n * k);
        double mean = 0, ridge = 0.05;
        size_t dead = k > 2 ? test_below(k) : k;
        if (dead < k) kill_input(k, gram, dead);
        float *w = floats(n * k), *out = floats(n * k);
        for (size_t i = 0; i < n * k; i++) w[i] = test_normal();
        for (size_t i = 0; i < n * k; i++) cross[i] = saved[i] = 10 * (double)test_normal();
        for (size_t j = 0; j < k; j++)
            if (j != dead) mean += gram[j * (k + 1)], live++;
        mean /= (double)live;
        MUST(qvitp_weight_correct(engine_new(), n, k, w, gram, cross, ridge, out, &why));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++) {
                CHECK_NEAR(out[i * k + j], (double)w[i * k + j] + cross[i * k + j], 1e-6);
                double sum = ridge * mean * cross[i * k + j];
                for (size_t p = 0; p < k; p++) sum += cross[i * k + p] * gram[p * k + j];
                if (j == dead) {
                    CHECK(out[i * k + j] == w[i * k + j]);
                } else {
                    CHECK_NEAR(sum, saved[i * k + j], 1e-8);
                }
            }
        release();
    }
}

/* A layer behind a quantized prefix, done as round.h tells: inputs with noise and a mean, float targets. */
struct layer {
    size_t m, n, k;
    float *x, *target, *weight, *bias; /* x: as the layer will see it */
};

static struct layer make_layer(size_t m, size_t n, size_t k)
{
    struct layer l = {m, n, k, floats(m * k), floats(m * n), floats(n * k), floats(n)};
    for (size_t i = 0; i < n * k; i++) l.weight[i] = test_normal();
    for (size_t i = 0; i < n; i++) l.bias[i] = test_normal();
    for (size_t r = 0; r < m; r++) {
        float cause = test_normal(), plain[MOST_K];
        for (size_t j = 0; j < k; j++) {
            plain[j] = cause + test_normal() + (float)(j % 3);
            l.x[r * k + j] = 0.8f * plain[j] + 0.3f + 0.2f * test_normal();
        }
        for (size_t i = 0; i < n; i++) {
            l.target[r * n + i] = l.bias[i];
            for (size_t j = 0; j < k; j++) l.target[r * n + i] += l.weight[i * k + j] * plain[j];
        }
    }
    return l;
}

static double error_of(const struct layer *l, const float *weight, const float *scale,
                       const int8_t *codes, const float *bias)
{
    double all = 0;
    for (size_t r = 0; r < l->m; r++)
        for (size_t i = 0; i < l->n; i++) {
            double y = (double)bias[i];
            for (size_t j = 0; j < l->k; j++) {
                size_t at = i * l->k + j;
                double w = codes ? (double)scale[i] * codes[at] : (double)weight[at];
                y += w * (double)l->x[r * l->k + j];
            }
            y -= (double)l->target[r * l->n + i];
            all += y * y;
        }
    return all;
}

/* The residual t - W x, its mean, and all other means. */
static float *residual(const struct layer *l)
{
    float *e = floats(l->m * l->n);
    for (size_t r = 0; r < l->m; r++)
        for (size_t i = 0; i < l->n; i++) {
            double y = (double)l->target[r * l->n + i];
            for (size_t j = 0; j < l->k; j++)
                y -= (double)l->weight[i * l->k + j] * (double)l->x[r * l->k + j];
            e[r * l->n + i] = (float)y;
        }
    return e;
}

static void the_whole_recipe_lowers_the_error(void)
{
    for (int round = 0; round < 4; round++) {
        struct layer l = make_layer(400, 20, 40);
        size_t m = l.m, n = l.n, k = l.k;
        qvit_engine *e = engine_new();
        float *mean_x = floats(k), *mean_t = floats(n), *mean_e = floats(n), *r = residual(&l);
        MUST(qvitp_column_means(e, m, k, l.x, NULL, mean_x, &why));
        MUST(qvitp_column_means(e, m, n, l.target, NULL, mean_t, &why));
        MUST(qvitp_column_means(e, m, n, r, NULL, mean_e, &why));
        struct qvitp_columns x = {k, l.x, mean_x}, d = {n, r, mean_e};
        double *gram = doubles(k * k), *cross = doubles(n * k), *loss = doubles(n);
        MUST(qvitp_gram(e, m, &x, NULL, gram, &why));
        MUST(qvitp_cross(e, m, &d, &x, NULL, cross, &why));

        struct qvitp_rounding job = make_job(n, k, 4, gram);
        float *corrected = floats(n * k), *bias = floats(n);
        for (size_t i = 0; i < n; i++) ((float *)(uintptr_t)job.scale)[i] = 0.4f;
        MUST(qvitp_weight_correct(e, n, k, l.weight, gram, cross, 1e-6, corrected, &why));
        int8_t *codes = guarded(n * k), *plain = guarded(n * k), *nearest_codes = guarded(n * k);
        job.weight = l.weight;
        nearest(&job, nearest_codes);
        MUST(qvitp_round_weights(e, &job, plain, NULL, &why));
        job.weight = corrected, job.passes = 3;
        MUST(qvitp_round_weights(e, &job, codes, loss, &why));
        qvitp_round_bias(&job, codes, mean_x, mean_t, bias);

        /* The error is that of the best float weights, and the loss: what round.h promises. */
        float *best_bias = floats(n);
        double total = 0;
        for (size_t i = 0; i < n; i++) {
            double sum = (double)mean_t[i];
            for (size_t j = 0; j < k; j++) sum -= (double)corrected[i * k + j] * (double)mean_x[j];
            best_bias[i] = (float)sum, total += loss[i];
        }
        double best = error_of(&l, corrected, NULL, NULL, best_bias);
        double done = error_of(&l, NULL, job.scale, codes, bias);
        CHECK(best < 0.5 * error_of(&l, l.weight, NULL, NULL, l.bias));
        CHECK_NEAR(done, best + total, 1e-3 * done);
        double gptq = error_of(&l, NULL, job.scale, plain, l.bias);
        double rtn = error_of(&l, NULL, job.scale, nearest_codes, l.bias);
        CHECK(done < gptq && done < rtn);
        release();
    }
}

/* ---- threads, memory, executors ---- */

static void threads_change_no_bit(void)
{
    enum { N = 200, K = 150 };
    struct qvitp_rounding job = make_job(N, K, 4, make_gram(200, K));
    job.by_diagonal = 1, job.passes = 2;
    int8_t *codes = guarded(N * K), *again = guarded(N * K);
    double *loss = doubles(N), *loss_again = doubles(N), *cross = doubles(N * K);
    float *out = floats(N * K), *out_again = floats(N * K);
    MUST(qvitp_round_weights(engine_new(), &job, codes, loss, &why));
    for (size_t i = 0; i < N * K; i++) cross[i] = (double)job.weight[i];
    MUST(qvitp_weight_correct(engine_new(), N, K, job.weight, job.gram, cross, 0.1, out, &why));
    for (size_t workers = 2; workers < 8; workers++) {
        struct shuffled s;
        qvit_engine *e = engine_of(&s, workers);
        MUST(qvitp_round_weights(e, &job, again, loss_again, &why));
        for (size_t i = 0; i < N * K; i++) cross[i] = (double)job.weight[i];
        MUST(qvitp_weight_correct(e, N, K, job.weight, job.gram, cross, 0.1, out_again, &why));
        CHECK(s.runs > 0 && !memcmp(codes, again, N * K));
        CHECK(!memcmp(loss, loss_again, N * sizeof *loss));
        CHECK(!memcmp(out, out_again, N * K * sizeof *out));
    }
    release();
}

static void memory_that_runs_out_is_told(void)
{
    enum { N = 5, K = 70 };
    struct qvitp_rounding job = make_job(N, K, 4, make_gram(90, K));
    job.passes = 1;
    int8_t codes[N * K];
    float out[N * K];
    double loss[N], cross[N * K] = {0};
    size_t mark = kept.count;
    for (int correct = 0; correct < 2; correct++)
        for (size_t fail_at = 2;; fail_at++) { /* the first is the engine's */
            struct heap heap = {.fail_at = fail_at, .fail_count = 1};
            qvit_allocator allocator = heap_hook(&heap);
            qvit_engine *e = engine_with(0, &allocator, NULL);
            qvit_status status =
                correct ? qvitp_weight_correct(e, N, K, job.weight, job.gram, cross, 0, out, &why)
                        : qvitp_round_weights(e, &job, codes, loss, &why);
            size_t calls = heap.calls;
            release_to(mark);
            heap_check_empty(&heap);
            CHECK_EQ(status, calls < fail_at ? QVIT_OK : QVIT_ERR_NO_MEMORY);
            if (calls < fail_at) break;
        }
    release();
}

static void executors_that_fail_are_told(void)
{
    enum { N = 100, K = 70 };
    struct qvitp_rounding job = make_job(N, K, 4, make_gram(90, K));
    struct shuffled s;
    qvit_engine *e = engine_of(&s, 2);
    s.answer = QVIT_ERR_STATE;
    int8_t *codes = guarded(N * K);
    double *cross = doubles(N * K);
    float *out = floats(N * K);
    memset(codes, 0, N * K);
    CHECK_EQ(qvitp_round_weights(e, &job, codes, NULL, &why), QVIT_ERR_EXECUTOR);
    CHECK_EQ(qvitp_round_descend(e, &job, codes, NULL, &why), QVIT_ERR_EXECUTOR);
    CHECK_EQ(qvitp_weight_correct(e, N, K, job.weight, job.gram, cross, 0, out, &why),
             QVIT_ERR_EXECUTOR);
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(codes_are_those_of_the_textbook);
    RUN(tiny_problems_come_close_to_the_best);
    RUN(descent_ends_where_no_code_improves);
    RUN(dead_inputs_are_rounded_to_nearest);
    RUN(a_scale_can_be_shared);
    RUN(damping_is_raised_where_it_must);
    RUN(bad_matrices_are_told);
    RUN(correction_fulfils_its_equation);
    RUN(the_whole_recipe_lowers_the_error);
    RUN(threads_change_no_bit);
    RUN(memory_that_runs_out_is_told);
    RUN(executors_that_fail_are_told);
    return test_end();
}
