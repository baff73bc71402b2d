/* test_tensor.c - views: sizes, strides, packed codes, and what every call refuses. */
#include "support.h"

/* Calls take views in many places; encoding with this quantizer is the plainest of them. */
static qvit_quantizer *u4_ones(void)
{
    return quantizer_layer(engine_new(), QVIT_SCHEME_ASYMMETRIC, 4, 0, 1, 0, 0);
}

/* ---- qvit_tensor_init ---- */

static void init_gives_dense_strides(void)
{
    const size_t dims[QVIT_MAX_RANK] = {2, 3, 4, 5, 6, 7};
    for (size_t rank = 1; rank <= QVIT_MAX_RANK; rank++) {
        float data;
        qvit_tensor t;
        memset(&t, 0xFF, sizeof t);
        qvit_tensor_init(&t, &data, QVIT_DTYPE_F32, rank, dims);
        CHECK(t.data == &data);
        CHECK_EQ(t.dtype, QVIT_DTYPE_F32);
        CHECK_EQ(t.rank, rank);
        ptrdiff_t stride = 1;
        for (size_t i = rank; i-- > 0;) {
            CHECK_EQ(t.dims[i], dims[i]);
            CHECK_EQ(t.strides[i], stride);
            stride *= (ptrdiff_t)dims[i];
        }
    }
}

static void init_starts_rows_of_packed_codes_at_a_byte(void)
{
    qvit_tensor t;
    qvit_tensor_init(&t, NULL, QVIT_DTYPE_U4, 3, (size_t[]){2, 3, 5});
    CHECK_EQ(t.strides[2], 1);
    CHECK_EQ(t.strides[1], 6);
    CHECK_EQ(t.strides[0], 18);
    qvit_tensor_init(&t, NULL, QVIT_DTYPE_S4, 2, (size_t[]){3, 4});
    CHECK_EQ(t.strides[0], 4);
    for (size_t cols = 1; cols <= 9; cols++) {
        qvit_tensor_init(&t, NULL, QVIT_DTYPE_S6, 3, (size_t[]){2, 3, cols});
        CHECK_EQ(t.strides[2], 1);
        CHECK_EQ(t.strides[1], (cols + 3) / 4 * 4);
        CHECK_EQ(t.strides[0], (cols + 3) / 4 * 12);
    }
}

static void init_with_an_unusable_rank_gives_rank_0(void)
{
    float data[8] = {0};
    const size_t dims[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const size_t ranks[] = {0, QVIT_MAX_RANK + 1, 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        qvit_tensor t;
        memset(&t, 0xFF, sizeof t);
        qvit_tensor_init(&t, data, QVIT_DTYPE_F32, ranks[i], dims);
        CHECK_EQ(t.rank, 0);
    }
    qvit_tensor t;
    qvit_tensor_init(&t, data, QVIT_DTYPE_F32, 1, NULL);
    CHECK_EQ(t.rank, 0);
    qvit_tensor_init(NULL, data, QVIT_DTYPE_F32, 1, dims);
}

/* ---- qvit_tensor_bytes ---- */

static void bytes_of_every_type(void)
{
    const size_t dims[2] = {3, 5};
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 2, dims), 60);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S32, 2, dims), 60);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U8, 2, dims), 15);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S8, 2, dims), 15);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U4, 2, dims), 9);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S4, 2, dims), 9);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S4, 1, &dims[1]), 3);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U4, 3, (size_t[]){2, 2, 1}), 4);
    const size_t rows_of_s6[] = {3, 3, 3, 3, 6, 6, 6, 6, 9};
    for (size_t cols = 1; cols <= 9; cols++) {
        CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S6, 1, &cols), rows_of_s6[cols - 1]);
        CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S6, 3, (size_t[]){5, 2, cols}),
                 10 * rows_of_s6[cols - 1]);
    }
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U8, 6, (size_t[]){1, 2, 3, 4, 5, 6}), 720);
}

static void bytes_that_overflow_are_0(void)
{
    const size_t half = SIZE_MAX / 2 + 1;
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 1, (size_t[]){SIZE_MAX}), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 1, (size_t[]){SIZE_MAX / 4 + 1}), 0);
    CHECK(qvit_tensor_bytes(QVIT_DTYPE_F32, 1, (size_t[]){SIZE_MAX / 4}) == SIZE_MAX / 4 * 4);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U8, 2, (size_t[]){2, half}), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_U8, 3, (size_t[]){half, 2, 2}), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S4, 2, (size_t[]){4, SIZE_MAX}), 0);
    CHECK(qvit_tensor_bytes(QVIT_DTYPE_S4, 1, (size_t[]){SIZE_MAX}) == half);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S6, 2, (size_t[]){2, SIZE_MAX}), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S6, 2, (size_t[]){SIZE_MAX / 3 + 1, 1}), 0);
    CHECK(qvit_tensor_bytes(QVIT_DTYPE_S6, 1, (size_t[]){SIZE_MAX}) == half / 2 * 3);
}

static void bytes_of_nonsense_are_0(void)
{
    const size_t dims[7] = {1, 1, 1, 1, 1, 1, 1};
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 0, dims), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 7, dims), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 1, NULL), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_NONE, 1, dims), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_S6 + 1, 1, dims), 0);
    CHECK_EQ(qvit_tensor_bytes(-1, 1, dims), 0);
    CHECK_EQ(qvit_tensor_bytes(QVIT_DTYPE_F32, 2, (size_t[]){0, 5}), 0);
}

/* ---- 4 bits ---- */

static void low_nibble_comes_first_and_odd_rows_end_in_a_zero(void)
{
    float x[2][5] = {{1, 2, 3, 4, 5}, {10, 11, 12, 13, 15}};
    const unsigned char packed[6] = {0x21, 0x43, 0x05, 0xBA, 0xDC, 0x0F};
    unsigned char codes[7];
    memset(codes, 0xFF, sizeof codes);
    qvit_tensor in, out;
    qvit_tensor_init(&in, x, QVIT_DTYPE_F32, 2, (size_t[]){2, 5});
    qvit_tensor_init(&out, codes, QVIT_DTYPE_U4, 2, (size_t[]){2, 5});
    const qvit_quantizer *q = u4_ones();
    MUST(qvit_quantizer_encode(q, &in, &out, &why));
    CHECK(!memcmp(codes, packed, sizeof packed));
    CHECK_EQ(codes[6], 0xFF);

    float back[2][5];
    qvit_tensor floats;
    qvit_tensor_init(&floats, back, QVIT_DTYPE_F32, 2, (size_t[]){2, 5});
    codes[2] |= 0xF0; /* the unused nibble means nothing */
    MUST(qvit_quantizer_decode(q, &out, &floats, &why));
    CHECK(!memcmp(back, x, sizeof x));
    release();
}

static void signed_nibbles_are_two_s_complement(void)
{
    float x[4] = {-8, -1, 7, 0}, back[4];
    unsigned char codes[2];
    const unsigned char packed[2] = {0xF8, 0x07};
    const qvit_quantizer *q = quantizer_layer(engine_new(), QVIT_SCHEME_SYMMETRIC, 4, 0, 1, 0, 0);
    qvit_tensor in, out, floats;
    qvit_tensor_init(&in, x, QVIT_DTYPE_F32, 1, (size_t[]){4});
    qvit_tensor_init(&out, codes, QVIT_DTYPE_S4, 1, (size_t[]){4});
    qvit_tensor_init(&floats, back, QVIT_DTYPE_F32, 1, (size_t[]){4});
    MUST(qvit_quantizer_encode(q, &in, &out, &why));
    CHECK(!memcmp(codes, packed, sizeof packed));
    MUST(qvit_quantizer_decode(q, &out, &floats, &why));
    CHECK(!memcmp(back, x, sizeof x));
    release();
}

static void rows_of_4_bits_may_have_gaps(void)
{
    float x[6] = {1, 2, 3, 4, 5, 6};
    unsigned char codes[8];
    memset(codes, CANARY, sizeof codes);
    qvit_tensor in, out;
    qvit_tensor_init(&in, x, QVIT_DTYPE_F32, 2, (size_t[]){2, 3});
    qvit_tensor_init(&out, codes, QVIT_DTYPE_U4, 2, (size_t[]){2, 3});
    out.strides[0] = 8;
    MUST(qvit_quantizer_encode(u4_ones(), &in, &out, &why));
    const unsigned char packed[8] = {0x21, 0x03, CANARY, CANARY, 0x54, 0x06, CANARY, CANARY};
    CHECK(!memcmp(codes, packed, sizeof packed));
    release();
}

/* ---- 6 bits ---- */

static const qvit_quantizer *s6_ones(void)
{
    return quantizer_layer(engine_new(), QVIT_SCHEME_SYMMETRIC, 6, 0, 1, 0, 0);
}

static void four_codes_of_6_bits_fill_three_bytes(void)
{
    float x[2][5] = {{1, 2, 3, 4, 5}, {-32, -1, 31, 0, -2}}, back[2][5];
    /* 1 | 2 << 6 | 3 << 12 | 4 << 18, 5; and the same of 32, 63, 31, 0, 62 */
    const unsigned char packed[12] = {0x81, 0x30, 0x10, 0x05, 0, 0, 0xE0, 0xFF, 0x01, 0x3E, 0, 0};
    unsigned char codes[13];
    memset(codes, 0xFF, sizeof codes);
    qvit_tensor in, out, floats;
    qvit_tensor_init(&in, x, QVIT_DTYPE_F32, 2, (size_t[]){2, 5});
    qvit_tensor_init(&out, codes, QVIT_DTYPE_S6, 2, (size_t[]){2, 5});
    qvit_tensor_init(&floats, back, QVIT_DTYPE_F32, 2, (size_t[]){2, 5});
    const qvit_quantizer *q = s6_ones();
    MUST(qvit_quantizer_encode(q, &in, &out, &why));
    CHECK(!memcmp(codes, packed, sizeof packed));
    CHECK_EQ(codes[12], 0xFF);
    codes[3] |= 0xC0, codes[4] = codes[5] = 0xFF; /* the unused bits mean nothing */
    MUST(qvit_quantizer_decode(q, &out, &floats, &why));
    CHECK(!memcmp(back, x, sizeof x));
    release();
}

/* Every code at every place of rows of every length, between forbidden pages and canaries. */
static void every_code_of_6_bits_at_every_place(void)
{
    const qvit_quantizer *q = s6_ones();
    for (size_t cols = 1; cols <= 13; cols++)
        for (int shift = 0; shift < 64; shift++) {
            size_t mark = kept.count;
            const size_t dims[3] = {2, 3, cols};
            struct view in = view_dense(QVIT_DTYPE_F32, 3, dims);
            struct view dense = view_dense(QVIT_DTYPE_S6, 3, dims);
            struct view gaps = view_strided(QVIT_DTYPE_S6, 3, dims, 13);
            struct view back = view_dense(QVIT_DTYPE_F32, 3, dims);
            CHECK_EQ(6 * dtype_group_bytes(QVIT_DTYPE_S6) * ((cols + 3) / 4),
                     qvit_tensor_bytes(QVIT_DTYPE_S6, 3, dims));
            for (size_t i = 0; i < tensor_count(&in.t); i++)
                tensor_set(&in.t, i, ((int)i * 29 + shift) % 64 - 32);
            MUST(qvit_quantizer_encode(q, &in.t, &dense.t, &why));
            MUST(qvit_quantizer_encode(q, &in.t, &gaps.t, &why));
            CHECK_SAME(&dense.t, &in.t);
            CHECK_SAME(&gaps.t, &in.t);
            CHECK(view_gaps_untouched(&dense));
            CHECK(view_gaps_untouched(&gaps));
            MUST(qvit_quantizer_decode(q, &gaps.t, &back.t, &why));
            CHECK_SAME(&back.t, &in.t);
            release_to(mark);
        }
    release();
}

/* Rows may run backwards, and only bytes that hold codes are read. */
static void rows_of_6_bits_end_where_their_last_code_does(void)
{
    const size_t whole[] = {0, 1, 2, 3, 3}; /* bytes with a part of 1, 2, .. codes */
    const qvit_quantizer *q = s6_ones();
    for (size_t cols = 1; cols <= 4; cols++) {
        size_t usable, bytes = 3 + whole[cols];
        unsigned char *end = mapping(bytes, &usable) + usable;
        memset(end - bytes, 0, bytes);
        end[-1] = 0xFF;
        float back[2][4];
        qvit_tensor codes, floats;
        qvit_tensor_init(&codes, end - whole[cols], QVIT_DTYPE_S6, 2, (size_t[]){2, cols});
        qvit_tensor_init(&floats, back, QVIT_DTYPE_F32, 2, (size_t[]){2, cols});
        codes.strides[0] = -4;
        floats.strides[0] = 4;
        MUST(qvit_quantizer_decode(q, &codes, &floats, &why));
        CHECK(back[0][cols - 1] != 0);
        for (size_t i = 0; i < cols; i++) CHECK_NEAR(back[1][i], 0, 0);
    }
    release();
}

/* ---- strides ---- */

static void any_strides_reach_their_elements(void)
{
    float x[24], y[24];
    for (int i = 0; i < 24; i++) x[i] = (float)i;
    const qvit_quantizer *q = quantizer_layer(engine_new(), QVIT_SCHEME_ASYMMETRIC, 8, 0, 1, 0, 0);
    qvit_tensor in, out;
    qvit_tensor_init(&out, y, QVIT_DTYPE_F32, 3, (size_t[]){2, 3, 4});
    for (int a = 0; a < 3; a++) {
        const ptrdiff_t strides[3][3] = {{1, 2, 6}, {-12, 4, -1}, {0, 0, 3}};
        const ptrdiff_t start[3] = {0, 12 + 3, 0};
        qvit_tensor_init(&in, x + start[a], QVIT_DTYPE_F32, 3, (size_t[]){2, 3, 4});
        memcpy(in.strides, strides[a], sizeof strides[a]);
        MUST(qvit_quantizer_fake(q, &in, &out, &why));
        for (size_t i = 0; i < 24; i++) CHECK_NEAR(y[i], x[start[a] + tensor_place(&in, i)], 0);
    }
    release();
}

/* ---- what is refused ---- */

static qvit_status encoded(const qvit_tensor *in, const qvit_tensor *out)
{
    qvit_status status = qvit_quantizer_encode(u4_ones(), in, out, &why);
    CHECK_EQ(why.status, status);
    CHECK(status == QVIT_OK || why.text[0]);
    return status;
}

static float floats[64];
static unsigned char bytes[64];

static void pair(qvit_tensor *in, qvit_tensor *out, qvit_dtype dtype)
{
    memset(floats, 0, sizeof floats);
    qvit_tensor_init(in, floats, QVIT_DTYPE_F32, 2, (size_t[]){3, 4});
    qvit_tensor_init(out, bytes, dtype, 2, (size_t[]){3, 4});
}

static void impossible_views_are_refused(void)
{
    qvit_tensor in, out;
    pair(&in, &out, QVIT_DTYPE_U8);
    CHECK_EQ(encoded(&in, &out), QVIT_OK);
    CHECK_EQ(encoded(NULL, &out), QVIT_ERR_ARGUMENT);
    CHECK_EQ(encoded(&in, NULL), QVIT_ERR_ARGUMENT);
    in.data = NULL;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_ARGUMENT);
    pair(&in, &out, QVIT_DTYPE_U8);
    in.data = (char *)floats + 1;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_ARGUMENT);
    for (int32_t rank = -1; rank <= 7; rank += 8) {
        pair(&in, &out, QVIT_DTYPE_U8);
        in.rank = rank;
        CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    }
    pair(&in, &out, QVIT_DTYPE_U8);
    in.rank = 0;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    for (qvit_dtype dtype = -1; dtype <= QVIT_DTYPE_S6 + 1; dtype += QVIT_DTYPE_S6 + 2) {
        pair(&in, &out, QVIT_DTYPE_U8);
        in.dtype = dtype;
        CHECK_EQ(encoded(&in, &out), QVIT_ERR_ARGUMENT);
    }
    release();
}

static void sizes_of_0_and_sizes_without_end_are_refused(void)
{
    for (int d = 0; d < 2; d++) {
        qvit_tensor in, out;
        pair(&in, &out, QVIT_DTYPE_U8);
        in.dims[d] = out.dims[d] = 0;
        CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
        in.dims[d] = out.dims[d] = SIZE_MAX;
        CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
        in.dims[d] = out.dims[d] = (size_t)1 << 61;
        CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    }
    qvit_tensor in, out;
    pair(&in, &out, QVIT_DTYPE_U8);
    in.dims[0] = in.dims[1] = out.dims[0] = out.dims[1] = (size_t)1 << 32; /* the product is 0 */
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    release();
}

static void impossible_strides_are_refused(void)
{
    qvit_tensor in, out;
    pair(&in, &out, QVIT_DTYPE_U8);
    in.strides[0] = 0; /* repeats a row: fine for an input */
    CHECK_EQ(encoded(&in, &out), QVIT_OK);
    pair(&in, &out, QVIT_DTYPE_U8);
    out.strides[0] = 0;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    pair(&in, &out, QVIT_DTYPE_U4);
    out.strides[0] = 5; /* the second row would start inside a byte */
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    pair(&in, &out, QVIT_DTYPE_U4);
    out.strides[1] = 2;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    const qvit_quantizer *q = s6_ones();
    for (ptrdiff_t stride = -9; stride <= 9; stride++) { /* a row starts at each fourth code only */
        if (!stride) continue;
        pair(&in, &out, QVIT_DTYPE_S6);
        out.data = bytes + 24;
        out.strides[0] = stride;
        CHECK_EQ(qvit_quantizer_encode(q, &in, &out, &why), stride % 4 ? QVIT_ERR_SHAPE : QVIT_OK);
    }
    pair(&in, &out, QVIT_DTYPE_S6);
    out.strides[1] = 2;
    CHECK_EQ(qvit_quantizer_encode(q, &in, &out, &why), QVIT_ERR_SHAPE);
    release();
}

static void sides_that_differ_are_refused(void)
{
    qvit_tensor in, out;
    pair(&in, &out, QVIT_DTYPE_U8);
    out.dims[1] = 3;
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    qvit_tensor_init(&out, bytes, QVIT_DTYPE_U8, 1, (size_t[]){12});
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    qvit_tensor_init(&out, bytes, QVIT_DTYPE_U8, 3, (size_t[]){1, 3, 4});
    CHECK_EQ(encoded(&in, &out), QVIT_ERR_SHAPE);
    release();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(init_gives_dense_strides);
    RUN(init_starts_rows_of_packed_codes_at_a_byte);
    RUN(init_with_an_unusable_rank_gives_rank_0);
    RUN(bytes_of_every_type);
    RUN(bytes_that_overflow_are_0);
    RUN(bytes_of_nonsense_are_0);
    RUN(low_nibble_comes_first_and_odd_rows_end_in_a_zero);
    RUN(signed_nibbles_are_two_s_complement);
    RUN(rows_of_4_bits_may_have_gaps);
    RUN(four_codes_of_6_bits_fill_three_bytes);
    RUN(every_code_of_6_bits_at_every_place);
    RUN(rows_of_6_bits_end_where_their_last_code_does);
    RUN(any_strides_reach_their_elements);
    RUN(impossible_views_are_refused);
    RUN(sizes_of_0_and_sizes_without_end_are_refused);
    RUN(impossible_strides_are_refused);
    RUN(sides_that_differ_are_refused);
    return test_end();
}
