/* calibrator.c - the calibrator's public half: sites, ties, observations, solving, results. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/options.h"
#include "calib/calibrator.h"
#include "calib/result.h"
#include "calib/solve.h"
#include "engine.h"
#include "tensor.h"

static const uint64_t default_max_bytes = UINT64_C(1) << 30;
static const size_t default_max_rows = 1024, most_rows = 65536;

QVITP_DEFINE_INIT(qvit_calibrator_options, QVIT_CALIBRATOR_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_site_options, QVIT_SITE_OPTIONS_INIT)
QVITP_DEFINE_INIT(qvit_observation, QVIT_OBSERVATION_INIT)
QVITP_DEFINE_INIT(qvit_solve_options, QVIT_SOLVE_OPTIONS_INIT)

qvit_status qvit_calibrator_create(const qvit_engine *engine,
                                   const qvit_calibrator_options *options, qvit_calibrator **out,
                                   qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!engine) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "engine is NULL");
    qvit_calibrator_options o = QVIT_CALIBRATOR_OPTIONS_INIT;
    if (options) QVITP_TRY(QVITP_READ(&o, options, error));
    qvit_calibrator *c = qvitp_engine_alloc(engine, 1, sizeof *c);
    if (!c) return qvitp_no_memory(error);
    c->engine = engine;
    c->seed = o.seed;
    c->max_bytes = o.max_bytes ? o.max_bytes : default_max_bytes;
    c->max_rows = o.max_rows ? qvitp_min(o.max_rows, most_rows) : default_max_rows;
    *out = c;
    return qvitp_ok(error);
}

void qvit_calibrator_destroy(qvit_calibrator *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->count; i++) {
        qvitp_site_free(c->sites[i], c->engine);
        qvitp_engine_free(c->engine, c->sites[i]);
    }
    qvitp_engine_free(c->engine, c->sites);
    qvitp_engine_free(c->engine, c);
}

/* ---- sites ---- */

static qvit_status check_weight(const qvit_site_options *o, qvit_error *error)
{
    size_t any[2] = {0, 0};
    QVITP_TRY(qvitp_tensor_expect(o->weight, "weight", QVIT_DTYPE_F32, QVITP_ANY_LAST_STRIDE, 2,
                                  any, error));
    for (size_t row = 0; row < o->weight->dims[0]; row++)
        for (size_t col = 0; col < o->weight->dims[1]; col++)
            if (!isfinite(qvitp_get_float(o->weight, qvitp_tensor_row(o->weight, row), col)))
                return qvitp_fail(error, QVIT_ERR_VALUE, "weight: [%zu, %zu] is not finite", row,
                                  col);
    return qvitp_vector_check(o->bias, "bias", o->weight->dims[0], error);
}

static qvit_status check_site(const qvit_site_options *o, qvit_error *error)
{
    if (o->type != QVIT_SITE_LINEAR && o->type != QVIT_SITE_MATMUL)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown site type %d", (int)o->type);
    if (o->input_kind < QVIT_INPUT_GENERIC || o->input_kind > QVIT_INPUT_IMAGE)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown input kind %d", (int)o->input_kind);
    int softmax = o->input_kind == QVIT_INPUT_SOFTMAX, matmul = o->type == QVIT_SITE_MATMUL;
    if (matmul ? o->input_kind != QVIT_INPUT_GENERIC && !softmax : softmax)
        return qvitp_fail(error, QVIT_ERR_UNSUPPORTED, "a %s site with input kind %d",
                          matmul ? "matmul" : "linear", (int)o->input_kind);
    if (!matmul) QVITP_TRY(check_weight(o, error));
    if (!matmul && o->output_parts && o->weight->dims[0] % o->output_parts)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%zu outputs do not make %zu equal parts",
                          o->weight->dims[0], o->output_parts);
    if (!matmul) return QVIT_OK;
    if (o->weight || o->bias)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "a matmul site has no weight and no bias");
    return QVIT_OK;
}

static int reserve_site(qvit_calibrator *c)
{
    if (c->count < c->room) return 1;
    size_t room = c->room ? 2 * c->room : 16;
    struct qvitp_site **larger = qvitp_engine_alloc(c->engine, room, sizeof *larger);
    if (!larger) return 0;
    if (c->count) memcpy(larger, c->sites, c->count * sizeof *larger);
    qvitp_engine_free(c->engine, c->sites);
    c->sites = larger;
    c->room = room;
    return 1;
}

qvit_status qvit_calibrator_add_site(qvit_calibrator *c, const qvit_site_options *options,
                                     size_t *out, qvit_error *error)
{
    if (!c) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator is NULL");
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    QVITP_TRY(QVITP_READ(&o, options, error));
    if (c->observed)
        return qvitp_fail(error, QVIT_ERR_STATE, "sites are added before anything is observed");
    QVITP_TRY(check_site(&o, error));
    if (!reserve_site(c)) return qvitp_no_memory(error);
    struct qvitp_site *site = qvitp_engine_alloc(c->engine, 1, sizeof *site);
    if (!site) return qvitp_no_memory(error);
    if (o.name) strncpy(site->name, o.name, sizeof site->name - 1);
    snprintf(site->label, sizeof site->label, "site %zu%s%s%s", c->count, o.name ? " (" : "",
             site->name, o.name ? ")" : "");
    site->index = site->group = c->count;
    site->producer = site->consumer = SIZE_MAX;
    site->input_heads = 1;
    site->type = o.type;
    site->kind = o.input_kind;
    site->heads = o.heads ? o.heads : 1;
    site->second_transposed = o.second_transposed;
    site->output_parts = o.output_parts ? o.output_parts : 1;
    if (o.weight) {
        site->weight = *o.weight;
        site->outputs = o.weight->dims[0];
        site->inputs = o.weight->dims[1];
    }
    if (o.bias) site->bias = *o.bias;
    if (out) *out = c->count;
    c->sites[c->count++] = site;
    return qvitp_ok(error);
}

/* ---- ties ---- */

static qvit_status tie_inputs(qvit_calibrator *c, const size_t *sites, size_t count,
                              qvit_error *error)
{
    const struct qvitp_site *first = c->sites[sites[0]];
    for (size_t i = 0; i < count; i++) {
        const struct qvitp_site *site = c->sites[sites[i]];
        if (site->type != QVIT_SITE_LINEAR || site->kind != first->kind)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                              "site %zu: only linear sites of one kind "
                              "share an input",
                              sites[i]);
        if (site->inputs != first->inputs)
            return qvitp_fail(error, QVIT_ERR_SHAPE, "site %zu has %zu inputs, not %zu", sites[i],
                              site->inputs, first->inputs);
        if (site->group != site->index)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "site %zu is tied already", sites[i]);
        for (size_t j = 0; j < c->count; j++)
            if (j != sites[i] && c->sites[j]->group == sites[i])
                return qvitp_fail(error, QVIT_ERR_ARGUMENT, "site %zu is tied already", sites[i]);
    }
    for (size_t i = 0; i < count; i++) c->sites[sites[i]]->group = first->index;
    return QVIT_OK;
}

static qvit_status tie_producer(qvit_calibrator *c, const size_t *sites, size_t count,
                                qvit_error *error)
{
    if (count != 2) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "a producer tie has two sites");
    struct qvitp_site *from = c->sites[sites[0]], *to = c->sites[sites[1]];
    if (to->type != QVIT_SITE_LINEAR)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "the consumer must be a linear site");
    if (from->consumer != SIZE_MAX || to->producer != SIZE_MAX)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "one of the sites is tied already");
    if (from->type == QVIT_SITE_LINEAR && from->outputs != to->inputs)
        return qvitp_fail(error, QVIT_ERR_SHAPE, "%zu outputs do not fit %zu inputs", from->outputs,
                          to->inputs);
    from->consumer = to->index;
    to->producer = from->index;
    if (from->type == QVIT_SITE_MATMUL) to->input_heads = from->heads;
    return QVIT_OK;
}

qvit_status qvit_calibrator_tie(qvit_calibrator *c, qvit_tie tie, const size_t *sites, size_t count,
                                qvit_error *error)
{
    if (!c || !sites) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator or sites is NULL");
    if (c->observed)
        return qvitp_fail(error, QVIT_ERR_STATE, "sites are tied before anything is observed");
    if (count < 2) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "a tie of %zu sites", count);
    for (size_t i = 0; i < count; i++) {
        if (sites[i] >= c->count)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there is no site %zu", sites[i]);
        for (size_t j = 0; j < i; j++)
            if (sites[j] == sites[i])
                return qvitp_fail(error, QVIT_ERR_ARGUMENT, "site %zu is tied to itself", sites[i]);
    }
    if (tie == QVIT_TIE_INPUT) {
        QVITP_TRY(tie_inputs(c, sites, count, error));
    } else if (tie == QVIT_TIE_PRODUCER) {
        QVITP_TRY(tie_producer(c, sites, count, error));
    } else {
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "unknown tie %d", (int)tie);
    }
    return qvitp_ok(error);
}

/* ---- observing ---- */

qvit_status qvit_calibrator_observe(qvit_calibrator *c, const qvit_observation *observation,
                                    qvit_error *error)
{
    if (!c) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator is NULL");
    qvit_observation o = QVIT_OBSERVATION_INIT;
    QVITP_TRY(QVITP_READ(&o, observation, error));
    if (o.site >= c->count)
        return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there is no site %zu", o.site);
    struct qvitp_bounds bounds = qvitp_calibrator_bounds(c);
    struct qvitp_site *site = c->sites[o.site];
    qvit_status status = qvitp_site_observe(site, c->engine, &bounds, &o, error);
    if (status != QVIT_OK) {
        qvitp_fail_in(error, site->label);
        return status;
    }
    c->observed = 1;
    return qvitp_ok(error);
}

qvit_status qvit_calibrator_forget(qvit_calibrator *c, size_t site, qvit_error *error)
{
    if (!c) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator is NULL");
    if (site >= c->count) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there is no site %zu", site);
    qvitp_site_forget(c->sites[site], c->engine);
    return qvitp_ok(error);
}

/* ---- solving ---- */

/* Progress of the whole from progress inside one set. */
struct watch {
    const qvit_solve_options *options;
    double done, share; /* before the set, and of the set */
    const char *site;
};

static int32_t watch_set(void *user, double inside)
{
    const struct watch *w = user;
    if (!w->options->progress) return 0;
    return w->options->progress(w->options->user, w->done + inside * w->share, w->site);
}

/* Marks the sites to solve; sites that share an input must all be among them. */
static qvit_status choose_sites(const qvit_calibrator *c, const qvit_solve_options *o,
                                unsigned char *chosen, qvit_error *error)
{
    if (o->site_count && !o->sites) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "sites is NULL");
    for (size_t i = 0; i < o->site_count; i++) {
        if (o->sites[i] >= c->count)
            return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there is no site %zu", o->sites[i]);
        chosen[o->sites[i]] = 1;
    }
    if (!o->site_count) memset(chosen, 1, c->count);
    for (size_t i = 0; i < c->count; i++)
        if (chosen[i] != chosen[c->sites[i]->group])
            return qvitp_fail(error, QVIT_ERR_ARGUMENT,
                              "sites %zu and %zu share an input and must be solved together", i,
                              c->sites[i]->group);
    return QVIT_OK;
}

/* Solves the set that the site leads; other members of it are solved with their leader. */
static qvit_status solve_set(const qvit_calibrator *c, const struct qvitp_solving *solving,
                             struct qvitp_site *leader, struct qvitp_site **members,
                             qvit_error *error)
{
    if (leader->type == QVIT_SITE_MATMUL) return qvitp_solve_matmul(solving, leader, error);
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->sites[i]->group == leader->index) members[count++] = c->sites[i];
    return qvitp_solve_linear(solving, members, count, error);
}

static qvit_status solve_chosen(qvit_calibrator *c, const qvit_solve_options *o,
                                const unsigned char *chosen, struct qvitp_site **members,
                                qvit_error *error)
{
    struct watch watch = {.options = o};
    struct qvitp_solving solving = {.engine = c->engine,
                                    .use_quantized = o->use_quantized,
                                    .progress = watch_set,
                                    .user = &watch};
    QVITP_TRY(qvitp_recipe_read(o, &solving.recipe, error));
    size_t sets = 0;
    for (size_t i = 0; i < c->count; i++) sets += chosen[i] && c->sites[i]->group == i;
    watch.share = sets ? 1 / (double)sets : 0;
    for (size_t i = 0; i < c->count; i++) {
        if (!chosen[i] || c->sites[i]->group != i) continue;
        watch.site = c->sites[i]->name;
        if (watch_set(&watch, 0)) return qvitp_fail(error, QVIT_ERR_CANCELLED, "cancelled");
        qvit_status status = solve_set(c, &solving, c->sites[i], members, error);
        if (status != QVIT_OK) {
            qvitp_fail_in(error, c->sites[i]->label);
            return status;
        }
        watch.done += watch.share;
    }
    return QVIT_OK;
}

/* After a cancel: what was not reached gets what its ranges say, unless it has an older result, so that
 * the model can be run. What fails here stays unsolved. */
static void solve_rest(qvit_calibrator *c, const qvit_solve_options *o, const unsigned char *chosen,
                       struct qvitp_site **members)
{
    struct qvitp_solving solving = {.engine = c->engine, .use_quantized = o->use_quantized};
    if (qvitp_recipe_read(o, &solving.recipe, NULL) != QVIT_OK) return;
    qvitp_recipe_use_ranges(&solving.recipe);
    for (size_t i = 0; i < c->count; i++)
        if (chosen[i] && c->sites[i]->group == i && !c->sites[i]->result)
            (void)solve_set(c, &solving, c->sites[i], members, NULL);
}

qvit_status qvit_calibrator_solve(qvit_calibrator *c, const qvit_solve_options *options,
                                  qvit_error *error)
{
    if (!c) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator is NULL");
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    if (options) QVITP_TRY(QVITP_READ(&o, options, error));
    unsigned char *chosen = qvitp_engine_alloc(c->engine, c->count, 1);
    struct qvitp_site **members = qvitp_engine_alloc(c->engine, c->count, sizeof *members);
    qvit_status status =
        chosen && members ? choose_sites(c, &o, chosen, error) : qvitp_no_memory(error);
    if (status == QVIT_OK) status = solve_chosen(c, &o, chosen, members, error);
    if (status == QVIT_ERR_CANCELLED) solve_rest(c, &o, chosen, members);
    qvitp_engine_free(c->engine, chosen);
    qvitp_engine_free(c->engine, members);
    return status == QVIT_OK ? qvitp_ok(error) : status;
}

/* ---- results ---- */

/* What a producer's plan must apply is what its consumer's result asks of its input. */
static qvit_status add_output(const qvit_calibrator *c, const struct qvitp_site *site,
                              qvit_result *result, qvit_error *error)
{
    if (site->consumer == SIZE_MAX) return QVIT_OK;
    const struct qvitp_site *consumer = c->sites[site->consumer];
    if (!consumer->result) return QVIT_OK;
    int ok = 1;
    const size_t n = consumer->inputs, one = sizeof(float);
    result->output_channels = n;
    result->output_scale = qvitp_engine_copy(c->engine, consumer->result->input_scale, n, one, &ok);
    result->output_shift = qvitp_engine_copy(c->engine, consumer->result->input_shift, n, one, &ok);
    result->output_order = qvitp_engine_copy(c->engine, consumer->result->input_order, n,
                                             sizeof *result->output_order, &ok);
    return ok ? QVIT_OK : qvitp_no_memory(error);
}

qvit_status qvit_calibrator_result(const qvit_calibrator *c, size_t site, qvit_result **out,
                                   qvit_error *error)
{
    if (!out) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "out is NULL");
    *out = NULL;
    if (!c) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "calibrator is NULL");
    if (site >= c->count) return qvitp_fail(error, QVIT_ERR_ARGUMENT, "there is no site %zu", site);
    const struct qvitp_site *s = c->sites[site];
    if (!s->result) return qvitp_fail(error, QVIT_ERR_STATE, "%s is not solved", s->label);
    qvit_result *copy = qvitp_result_clone(s->result);
    if (!copy) return qvitp_no_memory(error);
    qvit_status status = add_output(c, s, copy, error);
    if (status != QVIT_OK) {
        qvit_result_destroy(copy);
        return status;
    }
    *out = copy;
    return qvitp_ok(error);
}
