/*
 * calibrate.h - chooses the quantizers of a ViT: shows the calibrator what flows through the float
 * model, and has it solve.
 *
 *     calibration_begin      adds a site for every product of the model
 *     calibration_observe    any number of times, any number of images
 *     calibration_solve      as often as there are recipes and widths to try
 *     calibration_end
 *
 * Where gradients are wanted, each observation goes back through the model too, and every site is
 * also shown the gradient of a loss at its output.
 */
#ifndef VIT_CALIBRATE_H
#define VIT_CALIBRATE_H

#include "backward.h"

/* The sites of a block, in the order in which they are added. */
enum { SITE_QKV, SITE_QK, SITE_PV, SITE_PROJ, SITE_FC1, SITE_FC2, SITES_PER_BLOCK };

/* The numbers of the sites: the patch embedding is 0, the blocks follow, the head is last. */
enum { SITE_PATCH_EMBED = 0 };

static inline size_t site_in_block(size_t block, size_t site)
{
    return 1 + block * SITES_PER_BLOCK + site;
}

static inline size_t site_head(const vit_model *model) { return site_in_block(model->depth, 0); }

static inline size_t site_count(const vit_model *model) { return site_head(model) + 1; }

/* "blocks.3.attn.qkv". Returns name. */
enum { SITE_NAME = 48 };
const char *site_name(const vit_model *model, size_t site, char name[SITE_NAME]);

/*
 *   batch      images that are shown at once, at most
 *   gradients  whether gradients are observed too; it takes about three times as long
 *   executor   that of the engine, for the parts of the backward pass that are no plans, or NULL
 *   max_rows, max_bytes  see qvit_calibrator_options; 0: the defaults
 */
typedef struct calibration_options {
    size_t batch;
    bool gradients;
    const qvit_executor *executor;
    size_t max_rows;
    uint64_t max_bytes;
} calibration_options;

typedef struct calibration {
    const vit_model *model;
    qvit_calibrator *calibrator;
    network net;       /* the float model */
    backward backward; /* through it; all zero without gradients */
    bool gradients;
    float *logits; /* of a batch, read by nobody */
    size_t first;  /* number of the first image that is being shown */
} calibration;

/* What the inputs of fc2 and the probabilities of P V are: whatever the recipe wants, or else. */
enum { TWIN_BY_RECIPE, TWIN_NEVER, TWIN_ALWAYS };

/*
 * What to solve with; see qvit_solve_options. Sites that differ from each other say so in arrays with
 * an entry for every site, or NULL: weight_bits_of instead of weight_bits, and twin_of.
 */
typedef struct calibration_recipe {
    const char *recipe;
    int32_t weight_bits, input_bits;
    const char *const *settings;
    size_t setting_count;
    int32_t (*progress)(void *user, double done, const char *site); /* or NULL */
    const int32_t *weight_bits_of;
    const int32_t *twin_of;
} calibration_recipe;

/* One result for each site, by its number. */
typedef struct calibration_results {
    qvit_result **site;
    size_t count;
} calibration_results;

/* Model and engine must outlive the calibration. End it even if this fails. */
qvit_status calibration_begin(calibration *c, const vit_model *model, const qvit_engine *engine,
                              const calibration_options *options, qvit_error *error);

/* Shows count <= batch images. `first` is the number of the first of them: every image of a calibration
 * has one of its own, whichever process shows it. */
qvit_status calibration_observe(calibration *c, const uint8_t *images, size_t first, size_t count,
                                qvit_error *error);

/* Solves for what the float model showed: what was seen behind a quantized prefix is forgotten. *out is empty after a
 * failure. The results do not need the calibration any more. */
qvit_status calibration_solve(calibration *c, const calibration_recipe *recipe,
                              calibration_results *out, qvit_error *error);

void calibration_end(calibration *c);

/* Pieces of solving: some sites, for the float model's inputs or for those `behind` a quantized prefix;
 * the last results of all sites; to forget what was shown behind another prefix; and queries, keys or
 * values as sites want them, a view [n, heads, t, head_dim] of a qkv tensor. */
qvit_status calibration_solve_sites(calibration *c, const calibration_recipe *recipe,
                                    const size_t *sites, size_t count, bool behind,
                                    qvit_error *error);
qvit_status calibration_fetch(const calibration *c, calibration_results *out, qvit_error *error);
qvit_status calibration_forget_quantized(calibration *c, qvit_error *error);
qvit_tensor calibration_heads(const qvit_tensor *qkv, size_t part, size_t heads);

/* Bytes that the weights take when stored. */
size_t calibration_results_weight_bytes(const calibration_results *results);

void calibration_results_close(calibration_results *results);

#endif
