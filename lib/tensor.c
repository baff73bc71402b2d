/* tensor.c - the caller's views: making, checking and walking them. */
#include "tensor.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"

/* `group`: the fewest elements that fill whole bytes. Rows start at a byte, so at a group. */
static const struct {
    const char *name;
    uint8_t bits, is_signed, group;
} types[] = {
    [QVIT_DTYPE_NONE] = {"none", 0, 0, 1}, [QVIT_DTYPE_F32] = {"f32", 32, 1, 1},
    [QVIT_DTYPE_S32] = {"s32", 32, 1, 1},  [QVIT_DTYPE_U8] = {"u8", 8, 0, 1},
    [QVIT_DTYPE_S8] = {"s8", 8, 1, 1},     [QVIT_DTYPE_U4] = {"u4", 4, 0, 2},
    [QVIT_DTYPE_S4] = {"s4", 4, 1, 2},     [QVIT_DTYPE_S6] = {"s6", 6, 1, 4},
};

static int known(qvit_dtype dtype)
{
    return dtype > QVIT_DTYPE_NONE && (size_t)dtype < sizeof types / sizeof types[0];
}

size_t qvitp_dtype_bits(qvit_dtype dtype) { return known(dtype) ? types[dtype].bits : 0; }
const char *qvitp_dtype_name(qvit_dtype dtype) { return known(dtype) ? types[dtype].name : "none"; }
int qvitp_dtype_signed(qvit_dtype dtype) { return known(dtype) && types[dtype].is_signed; }
int qvitp_dtype_packed(qvit_dtype dtype) { return known(dtype) && types[dtype].group > 1; }

static size_t group_bytes(qvit_dtype dtype)
{
    return (size_t)types[dtype].group * types[dtype].bits / 8;
}

size_t qvit_tensor_bytes(qvit_dtype dtype, size_t rank, const size_t *dims)
{
    if (!known(dtype) || rank < 1 || rank > QVIT_MAX_RANK || !dims) return 0;
    size_t row = dims[rank - 1], rows = 1, group = types[dtype].group;
    for (size_t i = 0; i + 1 < rank; i++) rows = qvitp_mul(rows, dims[i]);
    size_t groups = row / group + (row % group != 0);
    size_t bytes = qvitp_mul(rows, qvitp_mul(groups, group_bytes(dtype)));
    return bytes == SIZE_MAX ? 0 : bytes;
}

void qvit_tensor_init(qvit_tensor *tensor, void *data, qvit_dtype dtype, size_t rank,
                      const size_t *dims)
{
    if (!tensor) return;
    memset(tensor, 0, sizeof *tensor);
    if (rank < 1 || rank > QVIT_MAX_RANK || !dims) return;
    tensor->data = data;
    tensor->dtype = dtype;
    tensor->rank = (int32_t)rank;
    size_t stride = 1;
    for (size_t i = rank; i-- > 0;) {
        tensor->dims[i] = dims[i];
        tensor->strides[i] = (ptrdiff_t)stride;
        size_t step = dims[i];
        if (i + 1 == rank && known(dtype)) step = qvitp_round_up(step, types[dtype].group);
        stride *= step; /* sizes that overflow are refused by qvitp_tensor_check */
    }
}

static qvit_status check_strides(const qvit_tensor *t, const char *name, uint32_t flags,
                                 qvit_error *error)
{
    int32_t last = t->rank - 1;
    int packed = qvitp_dtype_packed(t->dtype);
    if (t->dims[last] > 1 && t->strides[last] != 1 && (packed || !(flags & QVITP_ANY_LAST_STRIDE)))
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: the last stride is %td, not 1", name,
                          t->strides[last]);
    for (int32_t i = 0; i <= last; i++) {
        if (i < last && t->dims[i] > 1 && t->strides[i] % types[t->dtype].group)
            return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: rows of %s codes start inside a byte",
                              name, qvitp_dtype_name(t->dtype));
        if (flags & QVITP_OUTPUT && t->dims[i] > 1 && t->strides[i] == 0)
            return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: an output with a stride of 0", name);
    }
    return QVIT_OK;
}

qvit_status qvitp_tensor_check(const qvit_tensor *t, const char *name, qvit_dtype dtype,
                               uint32_t flags, qvit_error *error)
{
    if (!t || !t->data) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s is NULL", name);
    if (t->rank < 1 || t->rank > QVIT_MAX_RANK)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has rank %d", name, (int)t->rank);
    if (!known(t->dtype))
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s has the unknown type %d", name,
                          (int)t->dtype);
    if (dtype != QVIT_DTYPE_NONE && t->dtype != dtype)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s is %s, not %s", name,
                          qvitp_dtype_name(t->dtype), qvitp_dtype_name(dtype));
    size_t elements = 4; /* the widest element's bytes, so that byte counts fit too */
    for (int32_t i = 0; i < t->rank; i++) {
        if (!t->dims[i]) return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: size %d is 0", name, (int)i);
        elements = qvitp_mul(elements, t->dims[i]);
    }
    if (elements > PTRDIFF_MAX)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: the sizes do not fit in memory", name);
    if (types[t->dtype].bits == 32 && (uintptr_t)t->data % 4)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "%s is not aligned to its elements", name);
    return check_strides(t, name, flags, error);
}

qvit_status qvitp_tensor_expect(const qvit_tensor *t, const char *name, qvit_dtype dtype,
                                uint32_t flags, size_t rank, const size_t *dims, qvit_error *error)
{
    QVITP_TRY(qvitp_tensor_check(t, name, dtype, flags, error));
    if ((size_t)t->rank != rank)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%s has rank %d, not %zu", name, (int)t->rank,
                          rank);
    for (size_t i = 0; i < rank; i++)
        if (dims[i] && t->dims[i] != dims[i])
            return qvitp_fail(error, QVIT_ERR_SHAPE, "%s: size %zu is %zu, not %zu", name, i,
                              t->dims[i], dims[i]);
    return QVIT_OK;
}

size_t qvitp_tensor_rows(const qvit_tensor *t)
{
    size_t rows = 1;
    for (int32_t i = 0; i + 1 < t->rank; i++) rows *= t->dims[i];
    return rows;
}

size_t qvitp_tensor_cols(const qvit_tensor *t) { return t->dims[t->rank - 1]; }

ptrdiff_t qvitp_tensor_row(const qvit_tensor *t, size_t row)
{
    ptrdiff_t offset = 0;
    for (int32_t i = t->rank - 2; i >= 0 && row; i--) {
        offset += (ptrdiff_t)(row % t->dims[i]) * t->strides[i];
        row /= t->dims[i];
    }
    return offset;
}

/* Offset of an element inside its row. */
static ptrdiff_t at(const qvit_tensor *t, ptrdiff_t row, size_t col)
{
    return row + (ptrdiff_t)col * t->strides[t->rank - 1];
}

float qvitp_get_float(const qvit_tensor *t, ptrdiff_t row, size_t col)
{
    return ((const float *)t->data)[at(t, row, col)];
}

void qvitp_set_float(const qvit_tensor *t, ptrdiff_t row, size_t col, float value)
{
    ((float *)t->data)[at(t, row, col)] = value;
}

/* The byte in which a packed code begins: rows start at a group, and columns follow one another. */
static uint8_t *packed_byte(const qvit_tensor *t, ptrdiff_t row, size_t col)
{
    ptrdiff_t start = row / types[t->dtype].group * (ptrdiff_t)group_bytes(t->dtype);
    return (uint8_t *)t->data + start + col * types[t->dtype].bits / 8;
}

/* Only bytes that hold a part of the code are read: the rest of a group may not be there. */
static int32_t get_packed(const qvit_tensor *t, ptrdiff_t row, size_t col)
{
    size_t bits = types[t->dtype].bits, shift = col * bits % 8;
    const uint8_t *byte = packed_byte(t, row, col);
    uint32_t code = (uint32_t)byte[0] >> shift;
    if (shift + bits > 8) code |= (uint32_t)byte[1] << (8 - shift);
    int32_t value = (int32_t)(code & ((1u << bits) - 1)), half = 1 << (bits - 1);
    return types[t->dtype].is_signed && value >= half ? value - 2 * half : value;
}

/* The first code of a group clears the rest, which so stays 0 where a row ends inside a group. */
static void set_packed(const qvit_tensor *t, ptrdiff_t row, size_t col, int32_t value)
{
    size_t bits = types[t->dtype].bits, shift = col * bits % 8;
    uint8_t *byte = packed_byte(t, row, col);
    uint32_t code = (uint32_t)value & ((1u << bits) - 1);
    if (col % types[t->dtype].group == 0) memset(byte, 0, group_bytes(t->dtype));
    byte[0] = (uint8_t)(byte[0] | code << shift);
    if (shift + bits > 8) byte[1] = (uint8_t)(byte[1] | code >> (8 - shift));
}

int32_t qvitp_get_int(const qvit_tensor *t, ptrdiff_t row, size_t col)
{
    ptrdiff_t i = at(t, row, col);
    const uint8_t *bytes = t->data;
    if (t->dtype == QVIT_DTYPE_S32) return ((const int32_t *)t->data)[i];
    if (t->dtype == QVIT_DTYPE_U8) return bytes[i];
    if (t->dtype == QVIT_DTYPE_S8) return (int8_t)bytes[i];
    return get_packed(t, row, col);
}

void qvitp_set_int(const qvit_tensor *t, ptrdiff_t row, size_t col, int32_t value)
{
    if (t->dtype == QVIT_DTYPE_S32) {
        ((int32_t *)t->data)[at(t, row, col)] = value;
    } else if (qvitp_dtype_packed(t->dtype)) {
        set_packed(t, row, col, value);
    } else {
        ((uint8_t *)t->data)[at(t, row, col)] = (uint8_t)value;
    }
}

qvit_status qvitp_vector_check(const qvit_tensor *t, const char *name, size_t n, qvit_error *error)
{
    if (!t) return QVIT_OK;
    QVITP_TRY(qvitp_tensor_expect(t, name, QVIT_DTYPE_F32, QVITP_ANY_LAST_STRIDE, 1, &n, error));
    for (size_t i = 0; i < n; i++)
        if (!isfinite(qvitp_get_float(t, 0, i)))
            return qvitp_fail(error, QVIT_ERR_VALUE, "%s: element %zu is not finite", name, i);
    return QVIT_OK;
}

float qvitp_vector_get(const qvit_tensor *t, size_t i, float absent)
{
    return t ? qvitp_get_float(t, 0, i) : absent;
}
