/*
 * card.h - the card of a quantized model: what the library tells of the quantization, and around it what
 * only the host knows. One JSON object, the same bytes on every run but for its member "measured".
 *
 *     card_capture      right after solving, while the calibrator has these results
 *     card_compose      when all is evaluated
 *     card_write, page_write
 */
#ifndef VIT_CARD_H
#define VIT_CARD_H

#include "calibrate.h"
#include "report.h"

/* What the library writes, as text to be freed. accumulated: [site_count], or NULL. */
qvit_status card_capture(const calibration *c, const qvit_fidelity *accumulated, char **text,
                         qvit_error *error);

/* What is the same for all cards of an evaluation. */
typedef struct card_source {
    const vit_model *model;
    const char *images, *calib; /* files; calib may be NULL */
    size_t calib_first, accumulated_images;
    char model_sha256[SHA256_HEX];
} card_source;

/* SHA-256 of a file's bytes. */
qvit_status card_hash_file(const char *path, char hex[SHA256_HEX], qvit_error *error);

/* The whole card, to be freed. entry->card is what was captured. */
qvit_status card_compose(const card_source *source, const report *r, const report_entry *entry,
                         char **text, qvit_error *error);

/*
 * The path of an entry's file: the path itself if it is the only one, else with -RECIPE-BITS before the
 * extension. To be freed; NULL if memory runs out.
 */
char *card_path(const char *path, const report_entry *entry, bool only);

#endif
