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
    size_t input_heads;        /* runs of channels that the producer keeps together; 1: all */

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

/* ---- taking in, in steps: reserve, which may fail; settle; then put what comes ---- */

/* What is about to come. The masks are of streams, of parts of rows, and of right operands. */
struct qvitp_need {
    size_t inputs, outputs; /* k and n, as known with it; 0: still unknown */
    uint32_t streams, parts, seconds;
    size_t rows; /* linear: how many; matmul: matrices of each head */
    size_t left; /* rows of a matrix, at most */
};

/* Reserves the memory. What is kept has not changed, whether this fails or not. */
qvit_status qvitp_site_reserve(struct qvitp_site *site, const qvit_engine *engine,
                               const struct qvitp_bounds *bounds, const struct qvitp_need *need,
                               qvit_error *error);

/* Then takes over sizes and streams, and drops the matrices that the sizes leave no room for. */
void qvitp_site_settle(struct qvitp_site *site, const qvit_engine *engine,
                       const struct qvitp_bounds *bounds, const struct qvitp_need *need);

/* Most rows of a linear site, or matrices of a head of this k and n; and most left rows of one matrix. */
size_t qvitp_site_capacity(const struct qvitp_site *site, const struct qvitp_bounds *bounds,
                           size_t inputs, size_t outputs);
size_t qvitp_left_capacity(const struct qvitp_bounds *bounds);

/* Row numbers inside a sample are below this one, which stands for a matrix as a whole. */
enum { QVITP_WHOLE_MATRIX = 0x7FFFFFFF };
struct qvitp_key qvitp_site_key(const struct qvitp_site *site, const struct qvitp_bounds *bounds,
                                uint64_t sample, size_t head, uint64_t row);

/* Makes the matrix one of the kept, a new one without rows; NULL if its key is too large for that. */
struct qvitp_sample_row *qvitp_matrix_put(struct qvitp_matrices *m, const struct qvitp_key *key);

/* ---- shapes ---- */

/* Whether a part of a row has a number for each output; else it has one for each input. */
static inline int qvitp_part_is_output(enum qvitp_part part) { return part >= QVITP_PART_GRADIENT; }

/* Histograms and ranges of each stream. */
static inline size_t qvitp_site_groups(const struct qvitp_site *site)
{
    return site->type == QVIT_SITE_LINEAR ? 1 : site->heads;
}
static inline size_t qvitp_site_channels(const struct qvitp_site *site)
{
    return site->type == QVIT_SITE_LINEAR ? site->inputs : site->heads;
}

static inline int qvitp_site_saw(const struct qvitp_site *site, enum qvitp_stream stream)
{
    return site->seen >> stream & 1;
}

#endif
