/* order.h - orders of channels, as hosts give them to plans. */
#ifndef QVITP_ORDER_H
#define QVITP_ORDER_H

#include "qvit.h"

/*
 * Reads an order: NULL, or a S32 vector that is a permutation of n numbers, any stride. Copies it to
 * `out` [n]; `seen` is scratch memory of n bytes.
 */
qvit_status qvitp_order_read(const qvit_tensor *order, const char *name, size_t n, int32_t *out,
                             uint8_t *seen, qvit_error *error);

/* The channel at a place, where NULL is the order that things have anyway. */
static inline size_t qvitp_order_at(const int32_t *order, size_t place)
{
    return order ? (size_t)order[place] : place;
}

/*
 * An order as its cycles, [2 n] numbers, and how many: the places of a cycle, each of which takes what the
 * next one holds, the last what the first one held, and a negative number behind. So a row is put in
 * order in place, without following the order from load to load.
 */
size_t qvitp_order_moves(const int32_t *order, size_t n, int32_t *moves, uint8_t *seen);

/* Puts in order a row whose elements, of 1 or 4 bytes, stand as channels. */
void qvitp_order_row(const int32_t *moves, size_t count, size_t size, void *row);

#endif
