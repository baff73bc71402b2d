/* solve.h - solving one set of tied linear sites, or one matmul site, and what the two share. */
#ifndef QVITP_SOLVE_H
#define QVITP_SOLVE_H

#include "calib/pool.h"
#include "calib/range.h"
#include "calib/recipe.h"
#include "calib/site.h"

/* What solving one set of tied sites, or one matmul site, works with. */
struct qvitp_solving {
    const qvit_engine *engine;
    struct qvitp_recipe recipe;
    int32_t use_quantized;
    int32_t (*progress)(void *user, double share); /* inside the set */
    void *user;
};

/* Solve `count` linear sites that read one tensor, or one matmul site, and replace their results; on
 * failure the old results stay. */
qvit_status qvitp_solve_linear(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, qvit_error *error);
qvit_status qvitp_solve_matmul(const struct qvitp_solving *solving, struct qvitp_site *site,
                               qvit_error *error);

/* The stream that quantizers are chosen for: behind the quantized prefix where asked for and seen. */
enum qvitp_stream qvitp_solve_stream(const struct qvitp_solving *solving,
                                     const struct qvitp_site *site, enum qvitp_stream plain);

/* Widens [*lo, *hi], which holds 0, by the range of one group of a stream, as the recipe takes it for
 * codes of `bits` bits: channels [first, first + channels). */
void qvitp_solve_range(const struct qvitp_recipe *recipe, int32_t bits,
                       const struct qvitp_site *site, enum qvitp_stream stream, size_t group,
                       size_t first, size_t channels, float *lo, float *hi);

/* One part of chosen kept rows, dense, [count][width of the part]; NULL if memory runs out. */
float *qvitp_solve_gather(struct qvitp_pool *pool, const struct qvitp_sample *rows,
                          const size_t *order, size_t count, enum qvitp_part part);

/* The quantizer of a left operand: one coder for each block of the granularity; NULL: layer. Or, of
 * matmuls, for each of `heads` blocks of `width` columns; heads 0: layer. */
qvit_status qvitp_solve_quantizer(const qvit_engine *engine, const struct qvitp_span *span,
                                  const struct qvitp_coder *coders,
                                  const qvit_granularity *granularity, qvit_quantizer **out,
                                  qvit_error *error);
qvit_status qvitp_solve_heads(const qvit_engine *engine, const struct qvitp_span *span,
                              const struct qvitp_coder *coders, size_t heads, size_t width,
                              qvit_quantizer **out, qvit_error *error);

#endif
