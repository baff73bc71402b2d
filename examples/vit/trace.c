#define _POSIX_C_SOURCE 200809L

#include "trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fail.h"
#include "float_model.h"
#include "npy.h"

struct tracer {
    const vit_model *model;
    const qvit_engine *engine;
    size_t block;
    const char *folder;
};

static qvit_status write_tensor(const struct tracer *t, const char *name, const qvit_tensor *tensor,
                                qvit_error *error)
{
    size_t size = strlen(t->folder) + strlen(name) + sizeof "/.npy";
    char *path = malloc(size);
    if (!path) return fail_memory(error);
    snprintf(path, size, "%s/%s.npy", t->folder, name);
    char text[sizeof error->text];
    int failed = npy_write(path, NPY_F32, (unsigned)tensor->rank, tensor->dims, tensor->data, text,
                           sizeof text);
    free(path);
    return failed ? fail(error, QVIT_ERR_IO, "%s", text) : QVIT_OK;
}

/* Runs a plan once, on memory of its own, and writes its output. */
static qvit_status run_and_write(const struct tracer *t, const char *name, const qvit_plan *plan,
                                 const qvit_tensor *input, size_t outputs, qvit_error *error)
{
    const size_t dims[] = {input->dims[0], input->dims[1], outputs};
    const size_t workspace_size = qvit_linear_workspace_size(plan, dims[0] * dims[1]);
    void *memory = calloc(dims[0] * dims[1], outputs * sizeof(float));
    void *workspace =
        aligned_alloc(QVIT_ALIGNMENT, (workspace_size / QVIT_ALIGNMENT + 1) * QVIT_ALIGNMENT);
    qvit_tensor output;
    qvit_tensor_init(&output, memory, QVIT_DTYPE_F32, 3, dims);
    qvit_linear_args args = QVIT_LINEAR_ARGS_INIT;
    args.input = input;
    args.output = &output;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    qvit_status status = memory && workspace ? QVIT_OK : fail_memory(error);
    if (status == QVIT_OK) status = qvit_linear_run(plan, &args, error);
    if (status == QVIT_OK) status = write_tensor(t, name, &output, error);
    free(workspace);
    free(memory);
    return status;
}

/* Writes what the network never holds: the layer's bare output, without GELU or residual. */
static qvit_status write_layer(const struct tracer *t, const char *name, const vit_linear *layer,
                               const qvit_tensor *input, qvit_error *error)
{
    qvit_plan *plan;
    TRY(float_linear_create(t->engine, layer, QVIT_ACTIVATION_NONE, false, &plan, error));
    qvit_status status = run_and_write(t, name, plan, input, layer->weight.dims[0], error);
    qvit_plan_destroy(plan);
    return status;
}

static qvit_status see(void *user, network_stage stage, size_t block, const qvit_tensor *tensor,
                       qvit_error *error)
{
    static const char *const names[] = {
        [STAGE_X] = "x",           [STAGE_LN1] = "ln1",         [STAGE_QKV] = "qkv",
        [STAGE_SCORES] = "scores", [STAGE_CONTEXT] = "context", [STAGE_PROBABILITIES] = "probs",
        [STAGE_LN2] = "ln2",       [STAGE_HIDDEN] = "gelu",     [STAGE_Y] = "y",
        [STAGE_FEATURES] = NULL,
    };
    const struct tracer *t = user;
    const vit_block *layers = &t->model->blocks[t->block];
    if (block != t->block || !names[stage]) return QVIT_OK;
    TRY(write_tensor(t, names[stage], tensor, error));
    if (stage == STAGE_CONTEXT) return write_layer(t, "proj", &layers->proj, tensor, error);
    if (stage == STAGE_LN2) return write_layer(t, "fc1", &layers->fc1, tensor, error);
    if (stage == STAGE_HIDDEN) return write_layer(t, "fc2", &layers->fc2, tensor, error);
    return QVIT_OK;
}

static qvit_status run_traced(struct tracer *t, const uint8_t *image, qvit_error *error)
{
    const network_observer observer = {t, see};
    float *logits = calloc(t->model->classes, sizeof *logits);
    if (!logits) return fail_memory(error);
    network net;
    qvit_status status = float_model_create(t->model, t->engine, 1, true, &net, error);
    if (status == QVIT_OK) status = network_forward(&net, image, 1, logits, &observer, error);
    network_close(&net);
    free(logits);
    return status;
}

qvit_status trace_block(const vit_model *model, const qvit_engine *engine, const uint8_t *image,
                        size_t block, const char *folder, qvit_error *error)
{
    if (block >= model->depth)
        return fail(error, QVIT_ERR_ARGUMENT, "--trace: the model has no block %zu, only %zu",
                    block, model->depth);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(error, QVIT_ERR_IO, "%s: cannot be made: %s", folder, strerror(errno));
    struct tracer tracer = {model, engine, block, folder};
    return run_traced(&tracer, image, error);
}
