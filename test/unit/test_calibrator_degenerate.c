/* test_calibrator_degenerate.c - zeros, constants, tiny and huge numbers: every recipe solves them. */
#include <float.h>

#include "solving.h"

static void check_usable(const qvit_quantizer *q)
{
    size_t blocks = qvit_granularity_blocks(qvit_quantizer_granularity(q));
    for (size_t b = 0; b < blocks; b++)
        CHECK(scale_of(q, b) >= FLT_MIN && scale_of(q, b) <= FLT_MAX);
}

/* Solves one linear site with every recipe: zeros stay zeros, and every number stays finite. */
static void check_all_recipes(const qvit_tensor *w, const qvit_tensor *x, qvit_input_kind kind)
{
    for (size_t i = 0; i < RECIPES; i++)
        for (int bits = 2; bits <= 8; bits += 3) {
            qvit_calibrator *c = calibrator_new(engine_new());
            add_linear(c, kind, w, NULL);
            observe(c, 0, x);
            qvit_status status =
                solve_status(c, recipes[i], bits, bits, "twin=gelu,softmax equalize=0.5");
            if (status) FAIL("%s, %d bits: %s", recipes[i], bits, why.text);
            const qvit_result *r = result_of(c, 0);
            check_usable(input_of(r)), check_usable(second_of(r));
            qvit_tensor wq = weights_of(r);
            for (size_t j = 0; j < tensor_count(w); j++) {
                CHECK(isfinite(tensor_get(&wq, j)));
                if (tensor_get(w, j) == 0) CHECK_NEAR(tensor_get(&wq, j), 0, 0);
            }
            qvit_tensor xq = fake_of(input_of(r), x);
            for (size_t j = 0; j < tensor_count(x); j++)
                if (tensor_get(x, j) == 0) CHECK_NEAR(tensor_get(&xq, j), 0, 0);
            forget_calibrators();
        }
}

static const qvit_input_kind float_kinds[] = {QVIT_INPUT_GENERIC, QVIT_INPUT_LAYER_NORM,
                                              QVIT_INPUT_GELU};

static void zeros_of_every_kind_are_solved(void)
{
    for (size_t k = 0; k < 3; k++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        qvit_tensor nothing = zeros(2, w.dims), silence = zeros(2, x.dims);
        check_all_recipes(&w, &silence, float_kinds[k]);
        check_all_recipes(&nothing, &x, float_kinds[k]);
        check_all_recipes(&nothing, &silence, float_kinds[k]);
        for (size_t j = 6; j < 12; j++) tensor_set(&w, j, 0);    /* one row */
        for (size_t j = 3; j < 54; j += 6) tensor_set(&x, j, 0); /* one channel */
        check_all_recipes(&w, &x, float_kinds[k]);
        give_back();
    }
}

static void single_rows_and_constants_are_solved(void)
{
    for (size_t k = 0; k < 3; k++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(1, 6, 1), one = matrix(1, 1, 1);
        check_all_recipes(&w, &x, float_kinds[k]);
        check_all_recipes(&one, &one, float_kinds[k]);
        const double constants[] = {1, -1, 1e-6, -0.17, 1000};
        for (size_t j = 0; j < 5; j++) {
            fill_value(&x, constants[j]);
            check_all_recipes(&w, &x, float_kinds[k]);
        }
        give_back();
    }
}

/* Weights of a dead channel may have decayed to numbers below the smallest normal one. */
static void vanishing_weights_are_solved(void)
{
    const double tiny[] = {1e-45, 1e-40, 1e-38, 1e-36, 1e-30};
    for (size_t i = 0; i < 5; i++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        for (size_t j = 6; j < 12; j++) tensor_set(&w, j, tiny[i]);
        check_all_recipes(&w, &x, QVIT_INPUT_GENERIC);
        give_back();
    }
}

static void vanishing_inputs_are_solved(void)
{
    const double tiny[] = {1e-45, 1e-40, 1e-38, 1e-36, 1e-30};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < 5; i++) {
            qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
            for (size_t j = 0; j < 54; j++) tensor_set(&x, j, tiny[i] * (j % 2 ? 1 : -1));
            check_all_recipes(&w, &x, float_kinds[k]);
            for (size_t j = 0; j < 54; j++) tensor_set(&x, j, j ? (double)j : -tiny[i]);
            check_all_recipes(&w, &x, float_kinds[k]); /* a lower end next to nothing */
            give_back();
        }
}

static void huge_numbers_are_solved(void)
{
    const double huge[] = {1e10, 1e20, 1e30, 1e38};
    for (size_t i = 0; i < 4; i++) {
        qvit_tensor w = matrix(4, 6, 1), x = matrix(9, 6, 1);
        tensor_set(&w, 3, huge[i]);
        tensor_set(&x, 3, huge[i]), tensor_set(&x, 4, -huge[i]);
        check_all_recipes(&w, &x, QVIT_INPUT_GENERIC);
        give_back();
    }
}

static void degenerate_operands_of_matmul_sites_are_solved(void)
{
    const double values[] = {0, 1, -1, 1e-40, 1e-36, 1e20};
    for (size_t i = 0; i < RECIPES; i++)
        for (size_t v = 0; v < 6; v++)
            for (int side = 0; side < 4; side++) {
                struct operand a = operand_new(2, 2, 1, 4, 1), b = operand_new(2, 2, 4, 3, 1);
                if (side & 1) fill_value(&a.flat, values[v]);
                if (side & 2) fill_value(&b.flat, values[v]);
                qvit_calibrator *c = calibrator_new(engine_new());
                add_matmul(c, QVIT_INPUT_GENERIC, 2, false);
                add_matmul(c, QVIT_INPUT_SOFTMAX, 2, false);
                observe_pair(c, 0, &a.view, &b.view), observe_pair(c, 1, &a.view, &b.view);
                if (solve_status(c, recipes[i], 8, 5, "twin=softmax"))
                    FAIL("%s, %g, sides %d: %s", recipes[i], values[v], side, why.text);
                for (size_t s = 0; s < 2; s++) {
                    check_usable(input_of(result_of(c, s)));
                    check_usable(second_of(result_of(c, s)));
                }
                give_back();
            }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(zeros_of_every_kind_are_solved);
    RUN(single_rows_and_constants_are_solved);
    RUN(vanishing_weights_are_solved);
    RUN(vanishing_inputs_are_solved);
    RUN(huge_numbers_are_solved);
    RUN(degenerate_operands_of_matmul_sites_are_solved);
    return test_end();
}
