/*
 * observed_model.h - what the tests of saved states share: a small model with a site of every kind, all
 * that can be observed of it, whole or in random pieces, and states as bytes.
 */
#ifndef QVIT_TEST_OBSERVED_MODEL_H
#define QVIT_TEST_OBSERVED_MODEL_H

#include "calibration.h"

/* ---- the model ---- */

enum { SAMPLES = 10, ROWS = 5, INPUTS = 6, OUTPUTS = 4, HEADS = 2, WIDTH = 3 };
enum { READER, OTHER_READER, IMAGE, SCORES, VALUES, SITES };
enum tensor { INPUT, INPUT_QUANTIZED, GRADIENT, SECOND, SECOND_QUANTIZED, TENSORS };

static const struct {
    qvit_input_kind kind;
    bool matmul, transposed;
    size_t k, n;
} sites[SITES] = {
    [READER] = {QVIT_INPUT_LAYER_NORM, false, false, INPUTS, OUTPUTS},
    [OTHER_READER] = {QVIT_INPUT_LAYER_NORM, false, false, INPUTS, INPUTS},
    [IMAGE] = {QVIT_INPUT_IMAGE, false, false, INPUTS, OUTPUTS},
    [SCORES] = {QVIT_INPUT_GENERIC, true, true, WIDTH, ROWS},
    [VALUES] = {QVIT_INPUT_SOFTMAX, true, false, ROWS, WIDTH},
};

static struct {
    qvit_tensor weight[SITES], bias, tensor[SITES][TENSORS];
} model;

/* Numbers with zeros of both signs among them, whose order must not show. */
static inline qvit_tensor lively(size_t site, size_t rows, size_t cols)
{
    const size_t matmul[] = {SAMPLES, HEADS, rows, cols}, linear[] = {SAMPLES, rows, cols};
    qvit_tensor t = sites[site].matmul ? normals(4, matmul, 1) : normals(3, linear, 1);
    for (size_t i = 0; i < tensor_count(&t); i++) {
        double value = site == VALUES ? fabs(tensor_get(&t, i)) / 40 : tensor_get(&t, i);
        bool zero = !test_below(8) || i % cols == 0; /* one channel is nothing but zeros */
        tensor_set(&t, i, zero ? (test_below(2) ? 0.0 : -0.0) : value);
    }
    return t;
}

static inline void make_model(void)
{
    memset(&model, 0, sizeof model);
    for (size_t s = 0; s < SITES; s++) {
        const size_t k = sites[s].k, n = sites[s].n;
        qvit_tensor *t = model.tensor[s];
        if (!sites[s].matmul) model.weight[s] = matrix(n, k, 0.5f);
        t[INPUT] = lively(s, ROWS, k), t[INPUT_QUANTIZED] = lively(s, ROWS, k);
        t[GRADIENT] = lively(s, ROWS, n);
        if (!sites[s].matmul) continue;
        for (int q = SECOND; q <= SECOND_QUANTIZED; q++)
            t[q] = sites[s].transposed ? lively(s, n, k) : lively(s, k, n);
    }
    for (int p = INPUT; p <= INPUT_QUANTIZED; p++) {
        model.tensor[IMAGE][p] = view_dense(QVIT_DTYPE_U8, 3, (size_t[]){SAMPLES, ROWS, INPUTS}).t;
        fill_codes(&model.tensor[IMAGE][p], 0, 255);
    }
    model.bias = normals(1, (size_t[]){OUTPUTS}, 1);
}

/* Limits that keep everything, that drop rows, and that drop matrices once n is known. */
static const struct limits {
    uint64_t seed, max_bytes;
    size_t max_rows;
} limits[] = {{1, 0, 0}, {2, 0, 20}, {3, 12000, 40}, {4, 6000, 20}};
enum { LIMITS = sizeof limits / sizeof limits[0] };

static inline qvit_calibrator *new_run(const qvit_engine *engine, const struct limits *l)
{
    qvit_calibrator *c = calibrator_capped(engine, l->seed, l->max_bytes, l->max_rows);
    for (size_t s = 0; s < SITES; s++)
        if (sites[s].matmul) {
            add_matmul(c, sites[s].kind, HEADS, sites[s].transposed);
        } else {
            add_linear(c, sites[s].kind, &model.weight[s], s == READER ? &model.bias : NULL);
        }
    MUST(tie(c, QVIT_TIE_INPUT, READER, OTHER_READER));
    MUST(tie(c, QVIT_TIE_PRODUCER, VALUES, READER));
    return c;
}

/* ---- states ---- */

static inline int32_t append(void *user, const void *data, size_t size)
{
    CHECK(size > 0);
    bytes_add(user, data, size);
    return 0;
}

static inline struct bytes state_of(const qvit_calibrator *c)
{
    struct bytes state = {0};
    MUST(qvit_calibrator_save(c, append, &state, &why));
    return state;
}

static inline void load(qvit_calibrator *c, const struct bytes *state)
{
    MUST(qvit_calibrator_load(c, state->data, state->size, &why));
    CHECK_EQ(why.status, QVIT_OK);
}

static inline void check_state(const qvit_calibrator *c, const struct bytes *expected,
                               const char *what)
{
    struct bytes got = state_of(c);
    bool same = bytes_equal(&got, expected);
    bytes_free(&got);
    if (!same) FAIL("another state: %s", what);
}

/* ---- pieces of observations ---- */

/* One tensor of some rows of some samples of one site. */
struct piece {
    size_t site, tensor, first_sample, samples, first_row, rows;
};

enum { MAX_PIECES = 4000 };
static struct piece pieces[MAX_PIECES];
static size_t piece_count;

/* The first `count` of them. */
static inline void shuffle_pieces(size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = test_below(i);
        struct piece swapped = pieces[i - 1];
        pieces[i - 1] = pieces[j], pieces[j] = swapped;
    }
}

/* Everything there is, one tensor of a site at a time, cut anywhere. */
static inline void cut_pieces(void)
{
    piece_count = 0;
    for (size_t s = 0; s < SITES; s++)
        for (size_t t = 0; t < TENSORS; t++) {
            if (!model.tensor[s][t].data) continue;
            for (size_t at = 0, samples; at < SAMPLES; at += samples) {
                samples = 1 + test_below(SAMPLES - at);
                for (size_t row = 0, rows; row < ROWS; row += rows) {
                    size_t left = ROWS - row; /* right operands come whole */
                    rows = t >= SECOND || test_below(2) ? left : 1 + test_below(left);
                    CHECK(piece_count < MAX_PIECES);
                    pieces[piece_count++] = (struct piece){s, t, at, samples, row, rows};
                }
            }
        }
    shuffle_pieces(piece_count);
}

static inline void show_piece(qvit_calibrator *c, const struct piece *p)
{
    qvit_tensor t = model.tensor[p->site][p->tensor];
    ptrdiff_t from = (ptrdiff_t)p->first_sample * t.strides[0];
    t.dims[0] = p->samples;
    if (p->tensor < SECOND) {
        from += (ptrdiff_t)p->first_row * t.strides[t.rank - 2];
        t.dims[t.rank - 2] = p->rows;
    }
    t.data = (unsigned char *)t.data + from * (t.dtype == QVIT_DTYPE_F32 ? 4 : 1);
    qvit_observation o = QVIT_OBSERVATION_INIT;
    o.site = p->site, o.first_sample = p->first_sample, o.first_row = p->first_row;
    const qvit_tensor **tensors[TENSORS] = {&o.input, &o.input_quantized, &o.gradient, &o.second,
                                            &o.second_quantized};
    *tensors[p->tensor] = &t;
    MUST(qvit_calibrator_observe(c, &o, &why));
}

static inline void show_whole(qvit_calibrator *c)
{
    for (size_t s = 0; s < SITES; s++)
        for (size_t t = 0; t < TENSORS; t++)
            if (model.tensor[s][t].data) show_piece(c, &(struct piece){s, t, 0, SAMPLES, 0, ROWS});
}

#endif
