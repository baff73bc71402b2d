/* order.c - orders of channels: reading them, and putting rows in order. */
#include "op/order.h"

#include <string.h>

#include "base/error.h"
#include "tensor.h"

qvit_status qvitp_order_read(const qvit_tensor *order, const char *name, size_t n, int32_t *out,
                             uint8_t *seen, qvit_error *error)
{
    if (!order) return QVIT_OK;
    QVITP_TRY(
        qvitp_tensor_expect(order, name, QVIT_DTYPE_S32, QVITP_ANY_LAST_STRIDE, 1, &n, error));
    memset(seen, 0, n);
    for (size_t place = 0; place < n; place++) {
        int32_t channel = qvitp_get_int(order, 0, place);
        if (channel < 0 || (size_t)channel >= n || seen[channel])
            return qvitp_fail(error, QVIT_ERR_VALUE,
                              "%s: no permutation of %zu numbers: %d at place %zu", name, n,
                              (int)channel, place);
        seen[channel] = 1;
        out[place] = channel;
    }
    return QVIT_OK;
}

enum { END = -1 };

size_t qvitp_order_moves(const int32_t *order, size_t n, int32_t *moves, uint8_t *seen)
{
    size_t count = 0;
    memset(seen, 0, n);
    for (size_t first = 0; first < n; first++) {
        if (seen[first] || order[first] == (int32_t)first) continue;
        for (size_t place = first; !seen[place]; place = (size_t)order[place]) {
            seen[place] = 1;
            moves[count++] = (int32_t)place;
        }
        moves[count++] = END;
    }
    return count;
}

static void order_bytes(const int32_t *moves, size_t count, uint8_t *row)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t first = row[moves[i]];
        for (; moves[i + 1] != END; i++) row[moves[i]] = row[moves[i + 1]];
        row[moves[i++]] = first;
    }
}

static void order_floats(const int32_t *moves, size_t count, float *row)
{
    for (size_t i = 0; i < count; i++) {
        float first = row[moves[i]];
        for (; moves[i + 1] != END; i++) row[moves[i]] = row[moves[i + 1]];
        row[moves[i++]] = first;
    }
}

void qvitp_order_row(const int32_t *moves, size_t count, size_t size, void *row)
{
    if (size == 1) {
        order_bytes(moves, count, row);
    } else {
        order_floats(moves, count, row);
    }
}
