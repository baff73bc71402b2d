/* pack.c - right operands into the panels that a product's kernel reads. */
#include "plan/pack.h"

#include <string.h>

#include "base/checked.h"

static size_t element_size(const struct qvitp_gemm_kernel *kernel)
{
    return kernel->a_form == QVITP_A_F32 ? sizeof(float) : 1;
}

size_t qvitp_packed_n(const struct qvitp_gemm_kernel *kernel, size_t n)
{
    return qvitp_round_up(n, kernel->nr);
}

size_t qvitp_packed_k(const struct qvitp_gemm_kernel *kernel, size_t k)
{
    return qvitp_round_up(k, kernel->kstep);
}

size_t qvitp_vector_columns(const struct qvitp_gemm_kernel *kernel, size_t n)
{
    enum { PADDING = 64 };
    return qvitp_round_up(qvitp_packed_n(kernel, n), PADDING);
}

size_t qvitp_packed_bytes(const struct qvitp_gemm_kernel *kernel, size_t n, size_t k)
{
    return qvitp_mul(qvitp_mul(qvitp_packed_n(kernel, n), qvitp_packed_k(kernel, k)),
                     element_size(kernel));
}

void qvitp_pack_row(const struct qvitp_gemm_kernel *kernel, size_t k, const void *row,
                    size_t column, void *panels)
{
    size_t size = element_size(kernel), step = kernel->kstep * size, nr = kernel->nr;
    size_t panel_bytes = qvitp_packed_k(kernel, k) * nr * size;
    char *to = (char *)panels + column / nr * panel_bytes + column % nr * step;
    const char *from = row;
    size_t bytes = k * size, done = 0;
    if (step == 4) /* the common steps, as single moves */
        for (; done + 4 <= bytes; done += 4, to += nr * 4) memcpy(to, from + done, 4);
    if (step == 2)
        for (; done + 2 <= bytes; done += 2, to += nr * 2) memcpy(to, from + done, 2);
    for (; done < bytes; done += step, to += nr * step)
        memcpy(to, from + done, qvitp_min(step, bytes - done));
}

void qvitp_pack_codes_4(const struct qvitp_gemm_kernel *kernel, size_t packed_k, size_t column,
                        size_t first, size_t count, const int8_t *values, int32_t zero,
                        uint8_t *panels)
{
    size_t nr = kernel->nr, kstep = kernel->kstep, half = nr * kstep / 2;
    uint8_t *panel = panels + column / nr * nr * packed_k / 2;
    for (size_t p = first; p < first + count; p++) {
        size_t at = column % nr * kstep + p % kstep; /* in the step */
        uint8_t *both = panel + p / kstep * half + at % half;
        *both |= (uint8_t)((values[p - first] + zero) << (at < half ? 0 : 4));
    }
}

static const char *row_of(const struct qvitp_operand *o, size_t row, size_t size)
{
    ptrdiff_t place = o->row_index ? o->row_index[row] : (ptrdiff_t)row;
    return (const char *)o->data + place * o->stride * (ptrdiff_t)size;
}

/* Columns that are interleaved at once: a panel of any kernel but the scalar ones is some of these. */
enum { GROUP = 16, GROUP_STEP = 4, MAX_STEP = 8 };

/* GROUP columns of a step of k, of which rows past the last are NULL. kstep, 2 or 4, is a constant wherever
 * this is called. Such steps are those of x86: bytes are joined, to 16 bits and those to 32, as its memory
 * has them, in loops that compilers vectorise. */
static inline void interleave_group(const int8_t *const *rows, size_t first, size_t kstep,
                                    int8_t *to)
{
    static const int8_t zeros[GROUP];
    uint8_t from[GROUP_STEP][GROUP];
    uint16_t low[GROUP], high[GROUP];
    uint32_t all[GROUP];
    for (size_t s = 0; s < kstep; s++) memcpy(from[s], rows[s] ? rows[s] + first : zeros, GROUP);
    for (size_t j = 0; j < GROUP; j++) low[j] = (uint16_t)(from[0][j] | from[1][j] << 8);
    if (kstep == 2) {
        memcpy(to, low, sizeof low);
        return;
    }
    for (size_t j = 0; j < GROUP; j++) high[j] = (uint16_t)(from[2][j] | from[3][j] << 8);
    for (size_t j = 0; j < GROUP; j++) all[j] = low[j] | (uint32_t)high[j] << 16;
    memcpy(to, all, sizeof all);
}

/* One step of k of a [k][n] operand: its rows, interleaved column by column, into every panel. */
static void interleave(const int8_t *const *rows, size_t kstep, size_t n, size_t nr,
                       size_t panel_bytes, int8_t *to)
{
    for (size_t first = 0; first < n; first += nr, to += panel_bytes) {
        size_t columns = qvitp_min(nr, n - first), j = 0;
        if (kstep == 2)
            for (; j + GROUP <= columns; j += GROUP)
                interleave_group(rows, first + j, 2, to + j * 2);
        if (kstep == 4)
            for (; j + GROUP <= columns; j += GROUP)
                interleave_group(rows, first + j, 4, to + j * 4);
        for (; j < columns; j++)
            for (size_t s = 0; s < kstep; s++) to[j * kstep + s] = rows[s] ? rows[s][first + j] : 0;
        memset(to + columns * kstep, 0, (nr - columns) * kstep);
    }
}

static void pack_by_k_bytes(const struct qvitp_gemm_kernel *kernel, const struct qvitp_operand *o,
                            size_t n, size_t k, int8_t *panels)
{
    size_t kstep = kernel->kstep, nr = kernel->nr;
    size_t panel_bytes = qvitp_packed_k(kernel, k) * nr;
    for (size_t p = 0; p < k; p += kstep, panels += nr * kstep) {
        const int8_t *rows[MAX_STEP] = {NULL};
        for (size_t s = 0; s < kstep && p + s < k; s++)
            rows[s] = (const int8_t *)row_of(o, p + s, 1);
        interleave(rows, kstep, n, nr, panel_bytes, panels);
    }
}

/* Float panels have a k step of 1: each row of k is copied, cut into panels. */
static void pack_by_k_floats(const struct qvitp_gemm_kernel *kernel, const struct qvitp_operand *o,
                             size_t n, size_t k, float *panels)
{
    size_t nr = kernel->nr;
    for (size_t p = 0; p < k; p++) {
        const char *row = row_of(o, p, sizeof(float));
        for (size_t first = 0; first < n; first += nr) {
            size_t columns = qvitp_min(nr, n - first);
            float *to = panels + first * k + p * nr;
            memcpy(to, row + first * sizeof(float), columns * sizeof(float));
            memset(to + columns, 0, (nr - columns) * sizeof(float));
        }
    }
}

/* Columns whose rows are read side by side; divides the width of every kernel whose steps are 4. */
enum { SIDE = 8 };

/* One step of 4 of some columns; `bytes` are left of it. */
static inline void pack_step(const char *const *rows, size_t columns, size_t from, size_t bytes,
                             char *to)
{
    for (size_t j = 0; j < columns; j++) memcpy(to + j * 4, rows[j] + from, bytes);
}

/* Bytes in steps of 4, the common form of activations: step by step, where pack_row would scatter. */
static void pack_by_4_bytes(const struct qvitp_gemm_kernel *kernel, const struct qvitp_operand *o,
                            size_t n, size_t k, char *panels)
{
    size_t nr = kernel->nr, panel_bytes = qvitp_packed_k(kernel, k) * nr;
    if (n % nr) memset(panels + n / nr * panel_bytes, 0, panel_bytes);
    for (size_t first = 0; first < n; first += SIDE) {
        size_t columns = qvitp_min(SIDE, n - first), p = 0;
        char *to = panels + first / nr * panel_bytes + first % nr * 4;
        const char *rows[SIDE] = {NULL};
        for (size_t j = 0; j < columns; j++) rows[j] = row_of(o, first + j, 1);
        if (columns == SIDE)
            for (; p + 4 <= k; p += 4, to += nr * 4) pack_step(rows, SIDE, p, 4, to);
        for (; p + 4 <= k; p += 4, to += nr * 4) pack_step(rows, columns, p, 4, to);
        if (p == k) continue;
        memset(to, 0, columns * 4);
        pack_step(rows, columns, p, k - p, to);
    }
}

void qvitp_pack(const struct qvitp_gemm_kernel *kernel, const struct qvitp_operand *o, size_t n,
                size_t k, void *panels)
{
    size_t size = element_size(kernel);
    if (kernel->pack) {
        const struct qvitp_pack all = {n,       k,     kernel->nr, o->data, o->stride, o->row_index,
                                       o->by_k, panels};
        kernel->pack(&all);
    } else if (o->by_k && size == 1) {
        pack_by_k_bytes(kernel, o, n, k, panels);
    } else if (o->by_k) {
        pack_by_k_floats(kernel, o, n, k, panels);
    } else if (size == 1 && kernel->kstep == 4) {
        pack_by_4_bytes(kernel, o, n, k, panels);
    } else {
        memset(panels, 0, qvitp_packed_bytes(kernel, n, k));
        for (size_t column = 0; column < n; column++)
            qvitp_pack_row(kernel, k, row_of(o, column, size), column, panels);
    }
}

/* Bytes may alias anything: without `restrict` and a sum of its own no loop here could be vectorised. */
static void add_row(size_t n, const int8_t *restrict row, int32_t *restrict sums)
{
    for (size_t j = 0; j < n; j++) sums[j] += row[j];
}

static int32_t row_sum(size_t k, const int8_t *row)
{
    int32_t sum = 0;
    for (size_t p = 0; p < k; p++) sum += row[p];
    return sum;
}

void qvitp_operand_sums(const struct qvitp_operand *o, size_t n, size_t k, int32_t *sums)
{
    if (o->by_k) {
        for (size_t j = 0; j < n; j++) sums[j] = 0;
        for (size_t p = 0; p < k; p++) add_row(n, (const int8_t *)row_of(o, p, 1), sums);
    } else {
        for (size_t j = 0; j < n; j++) sums[j] = row_sum(k, (const int8_t *)row_of(o, j, 1));
    }
}
