/* product.c - what linear, matmul and attention share: staging, tiles, output ports. */
#include "op/product.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/numerics.h"
#include "base/shares.h"
#include "op/order.h"
#include "tensor.h"

/* ---- tiles ---- */

size_t qvitp_tiles(size_t m, size_t mr) { return m / mr + (m % mr != 0); }

static const char *left_row(const struct qvitp_block *b, size_t row)
{
    ptrdiff_t place = b->a_index ? b->a_index[row] : (ptrdiff_t)row;
    return (const char *)b->a + place * b->lda;
}

/* Stages, of every row, n codes from place `from` on to the packed places [to, end). */
static void stage_run(const struct qvitp_block *b, struct qvitp_stage rows, size_t from, size_t n,
                      size_t to, size_t end)
{
    rows.n = n;
    rows.padded = end - to;
    rows.codes += from;
    rows.dst = (char *)rows.dst + to * qvitp_left_element(b->left);
    if (b->left->twin) rows.dst2 = (char *)rows.dst + qvitp_left_plane_bytes(b->left, b->k);
    b->left->stage(&rows);
}

/* Copies m rows that follow `row` into row i and on of the tile's scratch memory, in the form that the kernel reads. */
static void stage_rows(const struct qvitp_block *b, size_t row, size_t m, size_t i,
                       const struct qvitp_tile *tile)
{
    const struct qvitp_left *left = b->left;
    char *dst = (char *)b->staged + (ptrdiff_t)i * tile->lda;
    const char *from = left_row(b, row + i);
    if (!left->stage) {
        for (size_t j = 0; j < m; j++, dst += tile->lda, from += b->lda)
            memcpy(dst, from, b->k * sizeof(float));
        return;
    }
    struct qvitp_stage rows = {.m = m,
                               .codes = (const uint8_t *)from,
                               .dst = dst,
                               .ldc = b->lda,
                               .ldd = tile->lda / (ptrdiff_t)qvitp_left_element(left),
                               .form = left->stage_form,
                               .half = left->half,
                               .zero = left->point,
                               .high = left->high};
    const struct qvitp_k_blocks *blocks = left->k_blocks;
    if (!blocks || blocks->packed == b->k) { /* nothing is padded but the end */
        stage_run(b, rows, 0, b->k, 0, tile->k);
        return;
    }
    for (size_t h = 0, to = 0; h < blocks->count; to = blocks->ends[h++])
        stage_run(b, rows, blocks->starts[h], blocks->starts[h + 1] - blocks->starts[h], to,
                  blocks->ends[h]);
}

/* Whether its rows can be multiplied where they lie. */
static int is_ready(const struct qvitp_block *b)
{
    return b->ready || (!b->a_index && qvitp_left_in_place(b->left, b->k));
}

/* Points the tile at its left rows, staging them first where they cannot be read in place. */
static void set_left(const struct qvitp_block *b, size_t row, struct qvitp_tile *tile)
{
    const struct qvitp_left *left = b->left;
    tile->k = qvitp_left_packed_k(left, b->k);
    if (is_ready(b)) {
        tile->a = left_row(b, row);
        tile->lda = b->lda;
        if (b->a2) tile->a2 = (const char *)b->a2 + (ptrdiff_t)row * b->lda;
        return;
    }
    tile->a = b->staged;
    tile->lda = (ptrdiff_t)(tile->k * qvitp_left_element(left));
    if (left->twin) tile->a2 = (char *)b->staged + qvitp_left_plane_bytes(left, b->k);
    size_t together = b->a_index ? 1 : tile->m; /* rows that follow each other */
    for (size_t i = 0; i < tile->m; i += together) stage_rows(b, row, together, i, tile);
}

void qvitp_block_stage(struct qvitp_block *block, size_t m, void *staged)
{
    struct qvitp_tile all = {.m = m};
    block->staged = staged;
    set_left(block, 0, &all);
    block->a = all.a;
    block->lda = all.lda;
    block->a_index = NULL;
    block->ready = 1;
}

/* All panels of one row tile, or of many. */
static void run_tile(const struct qvitp_block *b, size_t row, size_t rows)
{
    const struct qvitp_gemm_kernel *kernel = b->left->kernel;
    size_t b_size = kernel->a_form == QVITP_A_F32 ? sizeof(float) : 1;
    struct qvitp_tile tile = {.m = rows, .ldr = b->ldr, .ldo = b->ldo};
    tile.a_max = qvitp_left_plane_max(b->left);
    tile.b_max = b->left->right_max;
    set_left(b, row, &tile);
    const char *residual = b->residual;
    if (residual) residual += (ptrdiff_t)row * b->ldr * (ptrdiff_t)b->residual_size;
    char *out = (char *)b->out + (ptrdiff_t)row * b->ldo * (ptrdiff_t)b->out_size;
    size_t width = kernel->wide ? b->columns : kernel->nr;
    for (size_t done = 0; done < b->columns; done += width) {
        tile.column = b->first_column + done;
        tile.n = qvitp_min(width, b->columns - done);
        tile.b = (const char *)b->b + done * tile.k * b_size;
        if (residual) tile.residual = residual + tile.column * b->residual_size;
        tile.out = out + tile.column * b->out_size;
        kernel->run(&tile, b->epilogue);
    }
}

void qvitp_block_run(const struct qvitp_block *b)
{
    const struct qvitp_left *left = b->left;
    size_t tiles = qvitp_tiles(b->m, qvitp_left_rows(left));
    if (left->kernel->tall && is_ready(b)) tiles = 1;
    for (size_t i = 0; i < tiles; i++) {
        size_t first = qvitp_share(b->m, tiles, i);
        run_tile(b, first, qvitp_share(b->m, tiles, i + 1) - first);
    }
}

/* ---- output ports ---- */

qvit_status qvitp_output_check(const struct qvitp_output *o, size_t columns, qvit_error *error)
{
    const qvit_quantizer *q = o->port->quantizer;
    QVITP_TRY(qvitp_port_check(o->port, "output", error));
    if (q && (qvitp_dtype_packed(o->port->dtype) || q->scheme == QVIT_SCHEME_TWIN_SOFTMAX))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: twin softmax or packed codes");
    if (q && (!qvitp_granularity_fits(q->granularity, QVIT_ANY, columns) ||
              q->granularity->row_blocks != 1))
        return qvitp_fail(error, QVIT_ERR_SHAPE, "output: the granularity is not over %zu columns",
                          columns);
    QVITP_TRY(qvitp_vector_check(o->scale, "output_scale", columns, error));
    QVITP_TRY(qvitp_vector_check(o->shift, "output_shift", columns, error));
    for (size_t j = 0; o->scale && j < columns; j++)
        if (!(qvitp_vector_get(o->scale, j, 1) > 0))
            return qvitp_fail(error, QVIT_ERR_VALUE, "output_scale: element %zu is not positive",
                              j);
    if (q && q->scheme == QVIT_SCHEME_TWIN_GELU && o->shift)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "output: twin codes cannot be shifted");
    return QVIT_OK;
}

void qvitp_output_form(const qvit_port *port, struct qvitp_epilogue *epilogue)
{
    const qvit_quantizer *q = port->quantizer;
    int sums = port->dtype == QVIT_DTYPE_S32;
    epilogue->out = q ? QVITP_OUT_CODE : sums ? QVITP_OUT_S32 : QVITP_OUT_F32;
    if (q) epilogue->lo = q->lo, epilogue->hi = q->hi;
}

void qvitp_output_fill(const struct qvitp_output *o, size_t first, size_t n, float *mul,
                       float *mul_neg, float *add, struct qvitp_epilogue *epilogue)
{
    const qvit_quantizer *q = o->port->quantizer;
    qvitp_output_form(o->port, epilogue);
    if (!q && !o->scale && !o->shift) return;
    epilogue->mul = mul;
    epilogue->add = add;
    int twin = q && q->scheme == QVIT_SCHEME_TWIN_GELU;
    if (twin) epilogue->mul_neg = mul_neg;
    for (size_t j = 0; j < n; j++) {
        struct qvitp_coder c = {.scale = 1, .scale2 = 1};
        size_t channel = qvitp_order_at(o->order, first + j);
        if (q) c = qvitp_quantizer_coder(q, qvitp_col_block(q->granularity, channel));
        float scale = qvitp_vector_get(o->scale, channel, 1);
        mul[j] = 1.0f / (scale * (twin ? c.scale2 : c.scale));
        if (twin) mul_neg[j] = 1.0f / (scale * c.scale);
        add[j] = c.zero - qvitp_vector_get(o->shift, channel, 0) * mul[j];
    }
}

void qvitp_epilogue_fold(struct qvitp_epilogue *e, size_t nr, size_t n, float *scale, float *scale2,
                         float *bias, const float *mul, const float *add)
{
    if (!e->mul || e->mul_neg || e->gelu || e->residual != QVITP_RESIDUAL_NONE) return;
    const size_t blocks = qvitp_k_count(e);
    for (size_t h = 0; h < blocks; h++)
        for (size_t j = 0; j < n; j++) {
            size_t at = qvitp_k_place(nr, blocks, h, j);
            if (scale) scale[at] *= mul[j];
            if (scale2) scale2[at] *= mul[j];
        }
    for (size_t j = 0; j < n; j++) bias[j] = bias[j] * mul[j] + add[j];
    e->mul = e->add = NULL;
}

/* ---- ports and heads ---- */

qvit_status qvitp_port_check(const qvit_port *port, const char *name, qvit_error *error)
{
    const qvit_quantizer *q = port->quantizer;
    if (!q) {
        if (port->dtype == QVIT_DTYPE_F32 || port->dtype == QVIT_DTYPE_S32) return QVIT_OK;
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: %s without a quantizer", name,
                          qvitp_dtype_name(port->dtype));
    }
    if (q->flags & QVIT_QUANTIZER_RELATIVE)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED,
                          "%s: relative codes are for attention's probabilities", name);
    return qvitp_port_check_codes(port, name, error);
}

qvit_status qvitp_port_check_codes(const qvit_port *port, const char *name, qvit_error *error)
{
    const qvit_quantizer *q = port->quantizer;
    if (qvitp_quantizer_holds(q, port->dtype)) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s: the type is %s, the quantizer's codes are %s",
                      name, qvitp_dtype_name(port->dtype),
                      qvitp_dtype_name(qvit_quantizer_code_dtype(q)));
}

qvit_status qvitp_right_check(const qvit_port *port, const char *name, qvit_error *error)
{
    const qvit_quantizer *q = port->quantizer;
    if (!q || q->scheme != QVIT_SCHEME_SYMMETRIC)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: only symmetric codes", name);
    if (q->bits == 8 && !(q->flags & QVIT_QUANTIZER_NARROW))
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: 8-bit codes must be narrow (+-127)",
                          name);
    return QVIT_OK;
}

qvit_status qvitp_heads_check(const qvit_quantizer *q, size_t heads, size_t width, const char *name,
                              qvit_error *error)
{
    if (!q || qvitp_quantizer_is_layer(q)) return QVIT_OK;
    const qvit_granularity *g = q->granularity;
    int fits = g->row_blocks == 1 && g->col_blocks == heads && g->cols % heads == 0 &&
               (width == 0 || g->cols == heads * width);
    for (size_t column = 0; fits && column < g->cols; column++)
        fits = qvitp_col_block(g, column) == column / (g->cols / heads);
    if (fits) return QVIT_OK;
    return qvitp_fail(error, QVIT_ERR_SHAPE,
                      "%s: the granularity is neither layer nor one column "
                      "block for each of %zu heads",
                      name, heads);
}

qvit_status qvitp_left_heads_check(const qvit_quantizer *q, size_t heads, size_t width,
                                   const char *name, qvit_error *error)
{
    QVITP_TRY(qvitp_heads_check(q, heads, width, name, error));
    for (size_t i = 1; q && q->zero_point && i < q->blocks; i++)
        if (q->zero_point[i] != q->zero_point[0])
            return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "%s: heads with different zero points",
                              name);
    return QVIT_OK;
}

struct qvitp_coder qvitp_head_coder(const qvit_quantizer *q, size_t head)
{
    return qvitp_quantizer_coder(q, qvitp_quantizer_is_layer(q) ? 0 : head);
}

qvit_status qvitp_columns_check(const qvit_quantizer *q, size_t heads, size_t width,
                                const char *name, qvit_error *error)
{
    const qvit_granularity *g = q ? q->granularity : NULL;
    int each = g && g->row_blocks == 1 && g->cols == heads * width && g->col_blocks == g->cols;
    for (size_t column = 0; each && column < g->cols; column++)
        each = qvitp_col_block(g, column) == column;
    return each ? QVIT_OK : qvitp_heads_check(q, heads, width, name, error);
}

struct qvitp_coder qvitp_column_coder(const qvit_quantizer *q, size_t column)
{
    return qvitp_quantizer_coder(
        q, qvitp_quantizer_is_layer(q) ? 0 : qvitp_col_block(q->granularity, column));
}
