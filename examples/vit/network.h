/*
 * network.h - a ViT as a chain of plans, the memory that they work in, and the forward pass.
 *
 * A float network and a quantized one differ in their plans, and so in the types of what goes from
 * one plan to the next; the pass through them is the same. float_model.c makes the plans of the
 * one, quantized_model.c of the other:
 *
 *     network_begin(&net, model, error)              room for the steps
 *     ...make every step's plan...
 *     network_reserve(&net, batch, false, error)     memory for a batch
 *     network_forward(&net, ...)                     any number of times; allocates nothing
 *     network_close(&net)
 */
#ifndef VIT_NETWORK_H
#define VIT_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <qvit.h>

#include "model.h"

/* One plan and the type of its output, which is that of the next plan's input. */
typedef struct network_step {
    qvit_plan *plan;
    qvit_dtype output;
} network_step;

/* The steps of a block, in the order in which they run. */
enum {
    STEP_NORM1,
    STEP_QKV,
    STEP_ATTENTION,
    STEP_PROJ,
    STEP_NORM2,
    STEP_FC1,
    STEP_FC2,
    STEPS_PER_BLOCK
};

typedef struct network {
    const vit_model *model;
    size_t batch;        /* images that a pass takes at most */
    qvit_dtype patches;  /* what the patch embedding reads: U8, or F32 */
    network_step *steps; /* all of them: the patch embedding, the blocks, norm and head */
    size_t step_count;
    bool observed; /* whether passes can be observed */

    void *memory; /* holds all that follows but the workspace, for `batch` images */
    uint8_t *pixels;
    void *normed, *qkv, *context, *hidden;
    float *patches_f32, *stream;   /* stream: what every block reads and adds to */
    float *scores, *probabilities; /* observed networks only */
    void *workspace;
    size_t workspace_size;
} network;

static inline network_step *network_patch_embed(const network *net) { return net->steps; }

/* STEPS_PER_BLOCK steps. */
static inline network_step *network_block(const network *net, size_t block)
{
    return net->steps + 1 + block * STEPS_PER_BLOCK;
}

static inline network_step *network_norm(const network *net)
{
    return net->steps + net->step_count - 2;
}

static inline network_step *network_head(const network *net)
{
    return net->steps + net->step_count - 1;
}

/*
 * What a pass shows to an observer, with its shape; n images, t tokens. The values are those of the
 * network, so they are floats in a float network; the tensors are valid during the call only.
 */
typedef enum network_stage {
    STAGE_PATCHES,       /* [n, patches, inputs of the patch embedding], always U8 */
    STAGE_X,             /* [n, t, width]: what comes into a block */
    STAGE_LN1,           /* [n, t, width] */
    STAGE_QKV,           /* [n, t, 3 * width] */
    STAGE_SCORES,        /* [n, heads, t, t]: Q K^T before the scale */
    STAGE_PROBABILITIES, /* [n, heads, t, t] */
    STAGE_CONTEXT,       /* [n, t, width]: what proj reads */
    STAGE_LN2,           /* [n, t, width] */
    STAGE_HIDDEN,        /* [n, t, hidden], past the GELU */
    STAGE_Y,             /* [n, t, width]: what goes out of a block */
    STAGE_FEATURES       /* [n, width]: what the head reads */
} network_stage;

/* block is 0 for the stages outside the blocks. A failure ends the pass. */
typedef struct network_observer {
    void *user;
    qvit_status (*see)(void *user, network_stage stage, size_t block, const qvit_tensor *tensor,
                       qvit_error *error);
} network_observer;

/* An empty network for a model, which must outlive it. Close it even if its making fails later. */
qvit_status network_begin(network *net, const vit_model *model, qvit_error *error);

/* After the plans are made: memory for up to `batch` images at once, and for observing if asked. */
qvit_status network_reserve(network *net, size_t batch, bool observed, qvit_error *error);

/* Again, where plans are made later: a workspace for those that there are. */
qvit_status network_reserve_workspace(network *net, qvit_error *error);

/*
 * images: count * image * image pixels of red, green, blue; count <= batch
 * logits: [count, classes]
 * observer: NULL, or for a network that is observed
 *
 * One pass at a time: it works in the network's memory.
 */
qvit_status network_forward(network *net, const uint8_t *images, size_t count, float *logits,
                            const network_observer *observer, qvit_error *error);

void network_close(network *net);

/*
 * The same pass in parts, for hosts that stop between them or run one again:
 *
 *     network_embed           pixels to net->stream
 *     network_run_block       for each block; it reads net->stream and adds to it
 *       network_attend          x += proj(attention(qkv(norm1(x))))
 *       network_transform       x += fc2(gelu(fc1(norm2(x))))
 *     network_classify        the class tokens of net->stream to logits
 *
 * What goes on is in net->stream alone, so a host may copy it, or set it, before any part. Until
 * the next part runs, net->qkv and net->probabilities (of a network that is observed, with or
 * without an observer) hold what attending left.
 */
typedef struct network_pass {
    const network *net;
    size_t images; /* at most net->batch */
    const network_observer *observer;
    qvit_error *error;
} network_pass;

qvit_status network_embed(const network_pass *p, const uint8_t *images);
qvit_status network_attend(const network_pass *p, size_t block);
qvit_status network_transform(const network_pass *p, size_t block);
qvit_status network_run_block(const network_pass *p, size_t block);
qvit_status network_classify(const network_pass *p, float *logits);

/* Single steps; the output's type is that of the step. residual may be NULL. */
qvit_status network_run_norm(const network_pass *p, const network_step *step,
                             const qvit_tensor *input, const qvit_tensor *output);
qvit_status network_run_linear(const network_pass *p, const network_step *step,
                               const qvit_tensor *input, const qvit_tensor *residual,
                               const qvit_tensor *output);
qvit_status network_run_attention(const network_pass *p, size_t block, const qvit_tensor *qkv,
                                  const qvit_tensor *context);

/* The rows of all tokens of a pass: [images, tokens, cols]. */
qvit_tensor network_tokens(const network_pass *p, void *data, qvit_dtype dtype, size_t cols);

/* The heads of queries, keys or values in a qkv tensor: a view [n, t, heads, width of a head]. */
enum { PART_Q, PART_K, PART_V, PARTS };
qvit_tensor network_heads(const qvit_tensor *qkv, size_t part, size_t heads);

/* "blocks.3.attn.qkv", for reports. Returns name. */
enum { NETWORK_NAME = 48 };
const char *network_step_name(const network *net, size_t step, char name[NETWORK_NAME]);

/* Bytes that the plans of the linear layers take. */
size_t network_packed_bytes(const network *net);

#endif
