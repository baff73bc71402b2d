/*
 * site.h - one place where the model multiplies: what it is, and what was seen there.
 *
 * A linear site keeps a sample of rows. A matmul site keeps, for each head, a sample of matrices - a
 * matrix is one head of one sample: its whole right operand, and a sample of the left operand's rows.
 */
#ifndef QVITP_SITE_H
#define QVITP_SITE_H

#include "calib/sample.h"
#include "calib/stats.h"
#include "qvit.h"

/* Matrices kept for each head of a matmul site, at most; its rows are shared out among them. */
enum { QVITP_MATRICES = 16 };

/* The matrices of one head. In `keys`, the parts INPUT and INPUT_QUANTIZED are the right operands, and
 * the bit QVITP_HELD marks a slot that the present key has taken over. */
enum { QVITP_HELD = 1u << QVITP_PARTS };
struct qvitp_matrices {
    struct qvitp_sample keys;
    struct qvitp_sample left[QVITP_MATRICES]; /* by slot */
};

/* The streams of numbers whose statistics are kept. */
enum qvitp_stream {
    QVITP_STREAM_INPUT,
    QVITP_STREAM_INPUT_QUANTIZED,
    QVITP_STREAM_SECOND,
    QVITP_STREAM_SECOND_QUANTIZED,
    QVITP_STREAMS
};

struct qvitp_site {
    char name[64];
    char label[96]; /* "site 3 (fc1)", for messages */
    size_t index;
    qvit_site_type type;
    qvit_input_kind kind;
    size_t inputs, outputs; /* k and n; of a matmul 0 until seen */
    size_t heads;
    size_t output_parts; /* of a linear site: parts that share no scale */
    int32_t second_transposed;
    qvit_tensor weight, bias; /* borrowed; data NULL: none */

    /* Ties: sites with one `group` read the same tensor; a producer writes this site's input. */
    size_t group;
    size_t producer, consumer; /* SIZE_MAX: none */

    struct qvitp_stats stats[QVITP_STREAMS];
    uint32_t seen;                   /* mask of the streams that were observed */
    struct qvitp_sample rows;        /* linear */
    struct qvitp_matrices *matrices; /* matmul: [heads] */
    struct qvit_result *result;      /* NULL: not solved */
};

/* What bounds a site's memory. */
struct qvitp_bounds {
    uint64_t seed;
    uint64_t bytes; /* of this site's kept rows */
    size_t rows;
};

/* Takes in one observation, whole or not at all. */
qvit_status qvitp_site_observe(struct qvitp_site *site, const qvit_engine *engine,
                               const struct qvitp_bounds *bounds, const qvit_observation *seen,
                               qvit_error *error);
/* Forgets all that came behind a quantized prefix. */
void qvitp_site_forget(struct qvitp_site *site, const qvit_engine *engine);
void qvitp_site_free(struct qvitp_site *site, const qvit_engine *engine);

static inline int qvitp_site_saw(const struct qvitp_site *site, enum qvitp_stream stream)
{
    return site->seen >> stream & 1;
}

#endif
