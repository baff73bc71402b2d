/* test_linalg.c - gram matrices, Cholesky and solving, against sums in double written out. */
#include "support.h"

#include "calib/linalg.h"

static double *doubles(size_t n) { return guarded(n * sizeof(double)); }

static float *normals(size_t n, float amplitude)
{
    float *x = guarded(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = amplitude * test_normal();
    return x;
}

static qvit_engine *engine_of(struct shuffled *s, size_t workers)
{
    *s = (struct shuffled){.workers = workers};
    qvit_executor executor = shuffled_hook(s);
    return engine_with(0, NULL, &executor);
}

/* Any of the sizes around which blocks and tiles end. */
static size_t any_size(void)
{
    static const size_t sizes[] = {1, 2, 5, 15, 31, 48, 63, 64, 65, 97, 130, 192, 193, 260};
    return sizes[test_below(sizeof sizes / sizeof sizes[0])];
}

/* ---- products of rows ---- */

struct rows {
    size_t m;
    struct qvitp_columns c;
    float *weight, *mean;
};

/* Channels with means and amplitudes of their own. */
static struct rows make_rows(size_t m, size_t width, bool centred)
{
    struct rows r = {.m = m};
    float *x = normals(m * width, 1), *mean = normals(width, 3);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < width; j++)
            x[i * width + j] = (x[i * width + j] + mean[j]) * (float)(1 + j % 7);
    for (size_t j = 0; j < width; j++) mean[j] *= (float)(1 + j % 7);
    r.mean = mean;
    r.c = (struct qvitp_columns){width, x, centred ? mean : NULL};
    return r;
}

static float *make_weights(size_t m)
{
    float *w = guarded(m * sizeof *w);
    for (size_t i = 0; i < m; i++) w[i] = test_below(5) ? fabsf(test_normal()) : 0;
    return w;
}

static double at(const struct qvitp_columns *c, size_t row, size_t column)
{
    return (double)c->values[row * c->width + column] - (c->mean ? (double)c->mean[column] : 0);
}

/* Compares with sums in double; the bound is the header's. */
static void check_products(const struct qvitp_columns *d, const struct qvitp_columns *x, size_t m,
                           const float *w, const double *out)
{
    for (size_t i = 0; i < d->width; i++)
        for (size_t j = 0; j < x->width; j++) {
            double sum = 0, size = 0;
            for (size_t r = 0; r < m; r++) {
                double term = (w ? (double)w[r] : 1) * at(d, r, i) * at(x, r, j);
                sum += term, size += fabs(term);
            }
            double bound = (QVITP_RUN + 3) * 0x1p-24 * size;
            CHECK_NEAR(out[i * x->width + j], sum, bound);
        }
}

static void gram_is_the_sum_of_outer_products(void)
{
    for (int round = 0; round < 12; round++) {
        size_t mark = kept.count, m = 1 + test_below(700), k = any_size();
        qvit_engine *e = engine_with(isa_variants[(size_t)round % isa_variant_count()], NULL, NULL);
        struct rows x = make_rows(m, k, round & 1);
        const float *w = round & 2 ? make_weights(m) : NULL;
        double *gram = doubles(k * k);
        MUST(qvitp_gram(e, m, &x.c, w, gram, &why));
        check_products(&x.c, &x.c, m, w, gram);
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < i; j++) CHECK(gram[i * k + j] == gram[j * k + i]);
        release_to(mark);
    }
    release();
}

static void cross_is_the_sum_of_outer_products(void)
{
    for (int round = 0; round < 12; round++) {
        size_t mark = kept.count, m = 1 + test_below(600), n = any_size(), k = any_size();
        qvit_engine *e = engine_with(isa_variants[(size_t)round % isa_variant_count()], NULL, NULL);
        struct rows d = make_rows(m, n, round & 1), x = make_rows(m, k, round & 2);
        const float *w = round & 4 ? make_weights(m) : NULL;
        double *cross = doubles(n * k);
        MUST(qvitp_cross(e, m, &d.c, &x.c, w, cross, &why));
        check_products(&d.c, &x.c, m, w, cross);
        release_to(mark);
    }
    release();
}

static void means_are_weighted(void)
{
    for (int round = 0; round < 8; round++) {
        size_t m = 1 + test_below(300), k = any_size();
        struct rows x = make_rows(m, k, false);
        float *w = round & 1 ? make_weights(m) : NULL, *mean = guarded(k * sizeof *mean);
        for (size_t i = 0; w && round == 1 && i < m; i++) w[i] = 0;
        MUST(qvitp_column_means(engine_new(), m, k, x.c.values, w, mean, &why));
        for (size_t j = 0; j < k; j++) {
            double sum = 0, total = 0, size = 0;
            for (size_t r = 0; r < m; r++) {
                double weight = w ? (double)w[r] : 1;
                sum += weight * at(&x.c, r, j), total += weight;
                size += weight * fabs(at(&x.c, r, j));
            }
            if (total > 0) {
                CHECK_NEAR(mean[j], sum / total, 1e-7 * size / total);
            } else {
                CHECK(mean[j] == 0);
            }
        }
        release();
    }
}

/* ---- the product of doubles ---- */

static void update_adds_a_product(void)
{
    for (int round = 0; round < 20; round++) {
        size_t m = 1 + test_below(40), n = any_size(), depth = test_below(600);
        struct qvitp_update u = {.m = m, .n = n, .depth = depth, .sign = round & 1 ? 1 : -1};
        u.lda = depth + test_below(5), u.ldb = n + test_below(5), u.ldc = n + test_below(5);
        double *a = doubles(m * u.lda + 1), *b = doubles(depth * u.ldb + 1);
        double *c = doubles(m * u.ldc), *before = doubles(m * u.ldc);
        for (size_t i = 0; i < m * u.lda; i++) a[i] = (double)test_normal();
        for (size_t i = 0; i < depth * u.ldb; i++) b[i] = (double)test_normal();
        for (size_t i = 0; i < m * u.ldc; i++) c[i] = before[i] = (double)test_normal();
        u.a = a, u.b = b, u.c = c;
        qvitp_update_run(&u, doubles(QVITP_PANEL));
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < u.ldc; j++) {
                double sum = 0;
                for (size_t p = 0; j < n && p < depth; p++)
                    sum += a[i * u.lda + p] * b[p * u.ldb + j];
                CHECK_NEAR(c[i * u.ldc + j], before[i * u.ldc + j] + u.sign * sum,
                           j < n ? 1e-12 * (double)(1 + depth) : 0);
            }
        release();
    }
}

/* ---- Cholesky ---- */

/* B B^T + floor I, B [k][rank], rows of B scaled by up to 10^spread: positive definite where floor > 0
 * or rank >= k. */
static double *make_definite(size_t k, size_t rank, double spread, double floor)
{
    double *b = malloc(k * rank * sizeof *b), *a = doubles(k * k);
    for (size_t i = 0; i < k; i++) {
        double gain = pow(10, spread * (double)test_uniform());
        for (size_t j = 0; j < rank; j++) b[i * rank + j] = gain * (double)test_normal();
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) {
            double sum = i == j ? floor : 0;
            for (size_t p = 0; p < rank; p++) sum += b[i * rank + p] * b[j * rank + p];
            a[i * k + j] = sum;
        }
    free(b);
    return a;
}

static double *copy_of(const double *a, size_t n) { return memcpy(doubles(n), a, n * sizeof *a); }

/* |A - L L^T| <= 4 k eps sqrt(a_ii a_jj): twice what theorem 10.3 of Higham's book gives. */
static void factor_gives_the_matrix_back(void)
{
    for (int round = 0; round < 12; round++) {
        size_t k = any_size();
        double spread = round % 3 * 3; /* up to 10^6 from row to row: 10^12 in the matrix */
        double *a = make_definite(k, k + 5, spread, round & 1 ? 1e-3 : 0), *l = copy_of(a, k * k);
        for (size_t i = 0; i < k; i++) /* above the diagonal nothing is read */
            for (size_t j = i + 1; j < k; j++) l[i * k + j] = NAN;
        int definite = 0;
        MUST(qvitp_cholesky(engine_new(), k, l, &definite, &why));
        CHECK(definite);
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j <= i; j++) {
                double sum = 0, size = sqrt(a[i * k + i] * a[j * k + j]);
                for (size_t p = 0; p <= j; p++) sum += l[i * k + p] * l[j * k + p];
                CHECK_NEAR(sum / size, a[i * k + j] / size, 4 * (double)k * 2.3e-16);
                CHECK(l[i * k + j] == l[j * k + i]);
            }
        release();
    }
}

static void what_is_not_definite_is_told(void)
{
    for (int round = 0; round < 16; round++) {
        /* Odd rounds: so many pivots are noise that one of them must be negative or tiny. */
        size_t k = (round & 1 ? 100 : 2) + any_size();
        double *a = make_definite(k, round & 1 ? k / 2 : k + 4, 1, 0);
        size_t i = test_below(k), j = test_below(k);
        if (round % 8 == 0) a[i * k + i] = -1;
        if (round % 8 == 2) a[i * k + i] = NAN;
        if (round % 8 == 4) a[i * k + i] = INFINITY;
        if (round % 8 == 6) a[i * k + j] = a[j * k + i] = 1e3 * (1 + a[i * k + i] + a[j * k + j]);
        if (i == j && round % 8 == 6) a[i * k + i] = 0;
        int definite = 1;
        MUST(qvitp_cholesky(engine_new(), k, a, &definite, &why));
        CHECK(!definite);
        release();
    }
}

static void solving_solves(void)
{
    for (int round = 0; round < 10; round++) {
        size_t k = any_size(), n = 1 + test_below(70);
        double *a = make_definite(k, k + 20, 0.5, 1e-2), *l = copy_of(a, k * k);
        double *x = doubles(n * k);
        for (size_t i = 0; i < n * k; i++) x[i] = (double)test_normal();
        double *y = copy_of(x, n * k);
        int definite;
        MUST(qvitp_cholesky(engine_new(), k, l, &definite, &why));
        MUST(qvitp_cholesky_solve(engine_new(), k, l, n, y, &why));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++) {
                double sum = 0, size = fabs(x[i * k + j]);
                for (size_t p = 0; p < k; p++) {
                    sum += a[j * k + p] * y[i * k + p];
                    size += sqrt(a[j * k + j] * a[p * k + p]) * fabs(y[i * k + p]);
                }
                CHECK_NEAR(sum, x[i * k + j], 4 * (double)k * 2.3e-16 * size);
            }
        release();
    }
}

/* ---- threads, memory, executors ---- */

struct all {
    size_t m, n, k;
    struct rows d, x;
    float *weight, *mean;
    double *gram, *cross, *factor;
};

static qvit_status run_all(const qvit_engine *e, struct all *a)
{
    int definite;
    qvit_status status = qvitp_column_means(e, a->m, a->k, a->x.c.values, a->weight, a->mean, &why);
    if (!status) status = qvitp_gram(e, a->m, &a->x.c, a->weight, a->gram, &why);
    if (!status) status = qvitp_cross(e, a->m, &a->d.c, &a->x.c, a->weight, a->cross, &why);
    if (status) return status;
    memcpy(a->factor, a->gram, a->k * a->k * sizeof *a->factor);
    for (size_t i = 0; i < a->k; i++) a->factor[i * a->k + i] += 1;
    status = qvitp_cholesky(e, a->k, a->factor, &definite, &why);
    if (!status) CHECK(definite);
    return status ? status : qvitp_cholesky_solve(e, a->k, a->factor, a->n, a->cross, &why);
}

static struct all make_all(size_t m, size_t n, size_t k)
{
    struct all a = {.m = m, .n = n, .k = k};
    a.d = make_rows(m, n, true), a.x = make_rows(m, k, true);
    a.weight = make_weights(m);
    a.mean = guarded(k * sizeof *a.mean);
    a.gram = doubles(k * k), a.factor = doubles(k * k), a.cross = doubles(n * k);
    return a;
}

static void threads_change_no_bit(void)
{
    struct all a = make_all(600, 70, 200);
    size_t k = a.k, n = a.n;
    MUST(run_all(engine_new(), &a));
    double *gram = copy_of(a.gram, k * k), *factor = copy_of(a.factor, k * k);
    double *cross = copy_of(a.cross, n * k);
    for (size_t workers = 2; workers <= 7; workers++) {
        struct shuffled s;
        MUST(run_all(engine_of(&s, workers), &a));
        CHECK(s.runs > 0);
        CHECK(!memcmp(a.gram, gram, k * k * sizeof *gram));
        CHECK(!memcmp(a.factor, factor, k * k * sizeof *factor));
        CHECK(!memcmp(a.cross, cross, n * k * sizeof *cross));
    }
    release();
}

static void memory_that_runs_out_is_told(void)
{
    struct all a = make_all(20, 9, 30);
    size_t mark = kept.count;
    for (size_t fail_at = 2;; fail_at++) { /* the first is the engine's */
        struct heap heap = {.fail_at = fail_at, .fail_count = 1};
        qvit_allocator allocator = heap_hook(&heap);
        qvit_status status = run_all(engine_with(0, &allocator, NULL), &a);
        size_t calls = heap.calls;
        release_to(mark);
        heap_check_empty(&heap);
        if (calls < fail_at) {
            CHECK_EQ(status, QVIT_OK);
            break;
        }
        CHECK_EQ(status, QVIT_ERR_NO_MEMORY);
    }
    release();
}

static void executors_that_fail_are_told(void)
{
    struct all a = make_all(20, 70, 130);
    struct shuffled s;
    qvit_engine *e = engine_of(&s, 2);
    int definite;
    MUST(run_all(e, &a));
    s.answer = QVIT_ERR_STATE;
    CHECK_EQ(qvitp_gram(e, a.m, &a.x.c, NULL, a.gram, &why), QVIT_ERR_EXECUTOR);
    CHECK_EQ(qvitp_cross(e, a.m, &a.d.c, &a.x.c, NULL, a.cross, &why), QVIT_ERR_EXECUTOR);
    memset(a.gram, 0, a.k * a.k * sizeof *a.gram);
    for (size_t i = 0; i < a.k; i++) a.gram[i * a.k + i] = 1;
    CHECK_EQ(qvitp_cholesky(e, a.k, a.gram, &definite, &why), QVIT_ERR_EXECUTOR);
    CHECK_EQ(qvitp_cholesky_solve(e, a.k, a.factor, a.n, a.cross, &why), QVIT_ERR_EXECUTOR);
    CHECK_EQ(qvitp_column_means(e, a.m, a.k, a.x.c.values, NULL, a.mean, &why), QVIT_ERR_EXECUTOR);
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(gram_is_the_sum_of_outer_products);
    RUN(cross_is_the_sum_of_outer_products);
    RUN(means_are_weighted);
    RUN(update_adds_a_product);
    RUN(factor_gives_the_matrix_back);
    RUN(what_is_not_definite_is_told);
    RUN(solving_solves);
    RUN(threads_change_no_bit);
    RUN(memory_that_runs_out_is_told);
    RUN(executors_that_fail_are_told);
    return test_end();
}
