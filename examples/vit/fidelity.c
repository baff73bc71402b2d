#include "fidelity.h"

#include <math.h>
#include <stdlib.h>

#include "fail.h"

/* Sums over all values of a site's input. */
struct sums {
    double signal, noise, out, product;
};

struct measuring {
    network_pass plain, quantized;
    const calibration_results *results;
    float *decoded;    /* of the largest input of a batch */
    uint8_t *ordered;  /* its codes, where they stand in an order of their own */
    struct sums *sums; /* of each site */
    qvit_error *error;
};

/* Values are added one by one in the order of the images, so that batches make no difference. */
static void add(struct sums *s, double target, double value)
{
    s->signal += target * target;
    s->noise += (value - target) * (value - target);
    s->out += value * value;
    s->product += value * target;
}

/* Codes in the order of their channels, which quantizers know; a byte each. */
static qvit_tensor by_channel(struct measuring *m, const qvit_tensor *codes, const int32_t *order)
{
    const size_t rows = codes->dims[0], cols = codes->dims[1];
    for (size_t row = 0; row < rows; row++) {
        const uint8_t *from = (const uint8_t *)codes->data + (ptrdiff_t)row * codes->strides[0];
        for (size_t place = 0; place < cols; place++)
            m->ordered[row * cols + (size_t)order[place]] = from[place];
    }
    qvit_tensor channels;
    qvit_tensor_init(&channels, m->ordered, codes->dtype, 2, codes->dims);
    return channels;
}

/* Both are matrices of the same sizes, the floats' rows `ld` apart. */
static qvit_status compare(struct measuring *m, size_t site, const qvit_tensor *codes,
                           const float *floats, size_t ld)
{
    const qvit_result *result = m->results->site[site];
    const size_t rows = codes->dims[0], cols = codes->dims[1];
    qvit_tensor decoded, scale, shift, order, channels = *codes;
    qvit_tensor_init(&decoded, m->decoded, QVIT_DTYPE_F32, 2, codes->dims);
    TRY(qvit_result_tensor(result, QVIT_RESULT_INPUT_ORDER, &order, m->error));
    if (order.data) channels = by_channel(m, codes, order.data);
    TRY(qvit_result_tensor(result, QVIT_RESULT_INPUT_SCALE, &scale, m->error));
    TRY(qvit_result_tensor(result, QVIT_RESULT_INPUT_SHIFT, &shift, m->error));
    TRY(qvit_quantizer_decode(qvit_result_quantizer(result, QVIT_RESULT_INPUT), &channels, &decoded,
                              m->error));
    for (size_t row = 0; row < rows; row++) {
        for (size_t col = 0; col < cols; col++) {
            double value = (double)m->decoded[row * cols + col];
            if (scale.data) value *= (double)((const float *)scale.data)[col];
            if (shift.data) value += (double)((const float *)shift.data)[col];
            add(&m->sums[site], (double)floats[row * ld + col], value);
        }
    }
    return QVIT_OK;
}

/* Dense rows, as one step hands them to the next. */
static qvit_status compare_rows(struct measuring *m, size_t site, const network_step *producer,
                                void *codes, const void *floats, size_t rows, size_t cols)
{
    qvit_tensor tensor;
    qvit_tensor_init(&tensor, codes, producer->output, 2, (size_t[]){rows, cols});
    return compare(m, site, &tensor, floats, cols);
}

/* The queries are the first of three parts of a row. */
static qvit_status compare_queries(struct measuring *m, size_t block, size_t rows)
{
    const network *net = m->quantized.net;
    const size_t width = net->model->width;
    qvit_tensor queries;
    qvit_tensor_init(&queries, net->qkv, network_block(net, block)[STEP_QKV].output, 2,
                     (size_t[]){rows, width});
    queries.strides[0] = (ptrdiff_t)(PARTS * width);
    return compare(m, site_in_block(block, SITE_QK), &queries, m->plain.net->qkv, PARTS * width);
}

/* What a half of a block leaves in the networks' memory is what its sites have read. */
static qvit_status compare_block(struct measuring *m, size_t block)
{
    const network *net = m->quantized.net, *plain = m->plain.net;
    const network_step *step = network_block(net, block);
    const size_t rows = m->plain.images * net->model->tokens, width = net->model->width;
    TRY(network_attend(&m->plain, block));
    TRY(network_attend(&m->quantized, block));
    TRY(compare_rows(m, site_in_block(block, SITE_QKV), &step[STEP_NORM1], net->normed,
                     plain->normed, rows, width));
    TRY(compare_queries(m, block, rows));
    TRY(compare_rows(m, site_in_block(block, SITE_PROJ), &step[STEP_ATTENTION], net->context,
                     plain->context, rows, width));
    TRY(network_transform(&m->plain, block));
    TRY(network_transform(&m->quantized, block));
    TRY(compare_rows(m, site_in_block(block, SITE_FC1), &step[STEP_NORM2], net->normed,
                     plain->normed, rows, width));
    return compare_rows(m, site_in_block(block, SITE_FC2), &step[STEP_FC1], net->hidden,
                        plain->hidden, rows, net->model->hidden);
}

static qvit_status compare_batch(struct measuring *m, const uint8_t *images, float *logits)
{
    const network *net = m->quantized.net, *plain = m->plain.net;
    const vit_model *model = net->model;
    TRY(network_embed(&m->plain, images));
    TRY(network_embed(&m->quantized, images));
    for (size_t block = 0; block < model->depth; block++) TRY(compare_block(m, block));
    TRY(network_classify(&m->plain, logits));
    TRY(network_classify(&m->quantized, logits));
    return compare_rows(m, site_head(model), network_norm(net), net->normed, plain->normed,
                        m->plain.images, model->width);
}

static qvit_status compare_all(struct measuring *m, const uint8_t *images, size_t count,
                               float *logits)
{
    const vit_model *model = m->plain.net->model;
    const size_t batch = m->plain.net->batch, bytes = model->image * model->image * VIT_CHANNELS;
    if (count > FIDELITY_IMAGES) count = FIDELITY_IMAGES;
    for (size_t first = 0; first < count; first += batch) {
        m->plain.images = count - first < batch ? count - first : batch;
        m->quantized.images = m->plain.images;
        TRY(compare_batch(m, images + first * bytes, logits));
    }
    return QVIT_OK;
}

static qvit_fidelity fidelity_of(const struct sums *s)
{
    if (!(s->signal > 0)) return (qvit_fidelity){NAN, NAN};
    return (qvit_fidelity){10 * log10(s->signal / s->noise), s->product / sqrt(s->signal * s->out)};
}

qvit_status fidelity_measure(const network *plain, const network *quantized,
                             const calibration_results *results, const uint8_t *images,
                             size_t count, qvit_fidelity *out, qvit_error *error)
{
    const vit_model *model = plain->model;
    const size_t widest = model->hidden > model->width ? model->hidden : model->width;
    struct measuring m = {
        {plain, 0, NULL, error}, {quantized, 0, NULL, error}, .results = results, .error = error};
    m.decoded = calloc(plain->batch * model->tokens * widest, sizeof *m.decoded);
    m.ordered = calloc(plain->batch * model->tokens * widest, 1);
    m.sums = calloc(results->count, sizeof *m.sums);
    float *logits = calloc(plain->batch * model->classes, sizeof *logits);
    qvit_status status = m.decoded && m.ordered && m.sums && logits
                             ? compare_all(&m, images, count, logits)
                             : fail_memory(error);
    for (size_t i = 0; status == QVIT_OK && i < results->count; i++)
        out[i] = fidelity_of(&m.sums[i]);
    free(logits);
    free(m.sums);
    free(m.ordered);
    free(m.decoded);
    return status;
}
