/* k_blocks.c - how the k of a linear layer is cut into blocks of one scale. */
#include "op/k_blocks.h"

#include "base/checked.h"
#include "op/order.h"

/* Whether a block ends before this place (> 0). */
static int changes(const struct qvitp_k_sides *s, size_t place)
{
    const qvit_granularity *input = s->input->granularity, *weight = s->weight->granularity;
    size_t last = qvitp_order_at(s->order, place - 1), next = qvitp_order_at(s->order, place);
    return qvitp_col_block(input, last) != qvitp_col_block(input, next) ||
           qvitp_col_block(weight, last) != qvitp_col_block(weight, next);
}

size_t qvitp_k_blocks_count(const struct qvitp_k_sides *s)
{
    size_t count = 1;
    for (size_t place = 1; place < s->k; place++) count += changes(s, place) != 0;
    return count;
}

void qvitp_k_blocks_cut(const struct qvitp_k_sides *s, size_t kstep, struct qvitp_k_blocks *blocks)
{
    size_t block = 0, start = 0;
    blocks->packed = 0;
    for (size_t place = 1; place <= s->k; place++) {
        if (place < s->k && !changes(s, place)) continue;
        blocks->packed += qvitp_round_up(place - start, kstep);
        if (blocks->starts) blocks->starts[block] = start;
        if (blocks->ends) blocks->ends[block] = blocks->packed;
        start = place;
        block++;
    }
    if (blocks->starts) blocks->starts[block] = s->k;
}
