/*
 * backward.h - the gradient of a loss at the output of every product of a float ViT.
 *
 * Only activations have gradients here, no weights: that is what metrics need that weigh the error
 * of a layer's output by what it does to the predictions. The loss is the random probe of probe.h.
 *
 *     backward_create(&net, engine, &options, &b, error)
 *     backward_run(&b, ...)             any number of times; allocates nothing
 *     backward_close(&b)
 *
 * A pass goes forward once and keeps what goes into every block and out of the last one,
 * [depth + 1][n, t, width]: no other tensor grows with the depth. Then, from the last block to the
 * first, it runs one block again up to fc1, keeps what its derivative needs, and goes back through
 * it. All products are plans of the library: dX = dY W is a linear layer with the transposed
 * weights, and those of attention are float matmuls. In all it takes about three times as long as
 * the forward pass alone.
 *
 * The class token alone is read behind the last block, so there the gradients of fc1, fc2, proj,
 * P V and Q K^T are zero in all rows but that of the class token.
 */
#ifndef VIT_BACKWARD_H
#define VIT_BACKWARD_H

#include "network.h"

/* Where a gradient is handed out, with its shape; n images, t tokens. Before any bias or scale. */
typedef enum gradient_stage {
    GRADIENT_HEAD,       /* [n, classes] */
    GRADIENT_FC2,        /* [n, t, width] */
    GRADIENT_FC1,        /* [n, t, hidden]: in front of GELU */
    GRADIENT_PROJ,       /* [n, t, width] */
    GRADIENT_PV,         /* [n, heads, t, head_dim] */
    GRADIENT_QK,         /* [n, heads, t, t]: Q K^T, not yet scaled */
    GRADIENT_QKV,        /* [n, t, 3 * width] */
    GRADIENT_PATCH_EMBED /* [n, patches, width] */
} gradient_stage;
enum { GRADIENT_STAGES = GRADIENT_PATCH_EMBED + 1 };

/*
 * Sees every gradient once, in the order of the stages: the head's, those of the last block to the
 * first, that of the patch embedding. block is 0 outside the blocks. The tensor is F32, need not be
 * dense, and is valid during the call only. A failure ends the pass.
 */
typedef struct gradient_observer {
    void *user;
    qvit_status (*see)(void *user, gradient_stage stage, size_t block, const qvit_tensor *gradient,
                       qvit_error *error);
} gradient_observer;

/*
 *   draws     probes of every image, at least 1. Of one probe the gradient itself is handed out, of
 *             several the root of the mean of its square. More draws cost time, and each another
 *             [n, t, width]; from two on, all gradients of a block are summed up apart.
 *   seed      of the probes
 *   executor  shares out what is no product; NULL: the calling thread does it
 */
typedef struct backward_options {
    size_t draws;
    uint64_t seed;
    const qvit_executor *executor;
} backward_options;

/* The plans of one block that its forward pass does not have. */
typedef struct backward_block {
    qvit_plan *bare_fc1;               /* fc1 without GELU */
    qvit_plan *fc2, *fc1, *proj, *qkv; /* from the gradient of the output to that of the input */
} backward_block;

typedef struct backward {
    network *net;
    size_t draws;
    uint64_t seed;
    qvit_executor executor;
    backward_block *blocks;
    qvit_plan *head;
    qvit_plan *matmul, *matmul_transposed; /* A B and A B^T, for each head */

    void *memory;   /* holds all that follows, for the batch of the network */
    float *inputs;  /* of every block, and what the last one wrote */
    float *stream;  /* [draws]: the gradient of what goes through the blocks */
    float *logits;  /* [n, classes] */
    float *probe;   /* the same: their gradient */
    float *context; /* the gradient of P V */
    float *qkv, *scores, *hidden;
    float *normed;                /* the gradient of a layer norm's output */
    float *left, *product;        /* transposed operands and results of products: [n, width, t] */
    float *sums[GRADIENT_STAGES]; /* with several draws: of the squares */
    void *workspace;
    size_t workspace_size;
} backward;

/*
 * net: a float network that is observed and whose memory is reserved; passes work in it, and it
 * must outlive *out, which is empty after a failure. The engine is that of the network.
 */
qvit_status backward_create(network *net, const qvit_engine *engine,
                            const backward_options *options, backward *out, qvit_error *error);

/*
 * One pass forward, which `forward` sees unless it is NULL, and one back, which `gradients` sees.
 * images: `count` of them, at most the batch of the network; first_image: the number of the first,
 * which chooses its probe. The gradients of an image do not depend on what else is in the batch.
 */
qvit_status backward_run(backward *b, const uint8_t *images, size_t first_image, size_t count,
                         const network_observer *forward, const gradient_observer *gradients,
                         qvit_error *error);

void backward_close(backward *b);

#endif
