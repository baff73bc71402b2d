/* solve.h - what solving a linear and a matmul site have in common. */
#ifndef QVITP_SOLVE_H
#define QVITP_SOLVE_H

#include "calib/calibrator.h"
#include "calib/pool.h"
#include "calib/range.h"

/* The stream that quantizers are chosen for: behind the quantized prefix where asked for and seen. */
enum qvitp_stream qvitp_solve_stream(const struct qvitp_solving *solving,
                                     const struct qvitp_site *site, enum qvitp_stream plain);

/* Widens [*lo, *hi], which holds 0, by the range of one group of a stream, as the recipe takes it:
 * channels [first, first + channels). */
void qvitp_solve_range(const struct qvitp_recipe *recipe, const struct qvitp_stats *stats,
                       size_t group, size_t first, size_t channels, float *lo, float *hi);

/* The layer or head-wise quantizer of a left operand; heads 0: layer. `width`: columns of a head. */
qvit_status qvitp_solve_quantizer(const qvit_engine *engine, const struct qvitp_span *span,
                                  const struct qvitp_coder *coders, size_t heads, size_t width,
                                  qvit_quantizer **out, qvit_error *error);

#endif
