/* card.h - the parts of a quantization card. */
#ifndef QVITP_CARD_H
#define QVITP_CARD_H

#include "base/json.h"
#include "calib/calibrator.h"
#include "calib/pool.h"

struct qvitp_card {
    const qvit_calibrator *calibrator;
    const qvit_fidelity *accumulated; /* [sites], or NULL */
    struct qvitp_pool pool;
    size_t *leader; /* [sites] the first site solved with the same recipe; SIZE_MAX: not solved */
    float *scratch; /* as many as any array of a result has, or as there are sites */
    struct qvitp_json json;
};

/* What a set of sites was solved with, as the members of an object; and whether two results agree in all
 * of it. */
void qvitp_card_recipe(struct qvitp_json *json, const qvit_result *result);
int qvitp_card_same_recipe(const qvit_result *a, const qvit_result *b);

/* One site, as an object. `recipe`: the number of what it was solved with. */
void qvitp_card_site(struct qvitp_card *card, const struct qvitp_site *site, size_t recipe);

/* The array of warnings; see qvit_calibrator_card. */
void qvitp_card_warnings(struct qvitp_card *card);

/* The median; sorts the values, of which there are some. */
float qvitp_card_median(float *values, size_t count);

/* What was observed of the input: of the float model, or else behind a quantized prefix; NULL: nothing. */
const struct qvitp_stats *qvitp_card_input(const struct qvitp_site *site);

/* How many rows were kept, of a matmul site those of left operands. */
size_t qvitp_card_rows(const struct qvitp_site *site);

#endif
