/* solve_linear.c - linear sites that read one tensor: from what was observed to results. */
#include "base/error.h"
#include "calib/linear_group.h"
#include "calib/result.h"
#include "calib/search.h"
#include "calib/settle.h"
#include "calib/sublayer.h"

static qvit_status search(struct qvitp_linear_group *g, qvit_error *error)
{
    const struct qvitp_solving *solving = g->solving;
    const struct qvitp_recipe *recipe = &solving->recipe;
    const struct qvitp_site *first = g->part[0].site;
    const struct qvitp_metric *metric = qvitp_recipe_metric(recipe, first->type, first->kind);
    struct qvitp_product *products = qvitp_pool_alloc(&g->pool, g->count, sizeof *products);
    if (!products) return qvitp_no_memory(error);
    for (size_t i = 0; i < g->count; i++) products[i] = g->part[i].product;
    struct qvitp_search s = {.engine = solving->engine,
                             .recipe = recipe,
                             .metric = metric,
                             .groups = 1,
                             .span = g->cut.span,
                             .coder = g->cut.coder,
                             .products = g->count,
                             .product = products,
                             .progress = solving->progress,
                             .user = solving->user};
    struct qvitp_sublayer blocks = {.engine = solving->engine,
                                    .recipe = recipe,
                                    .metric = metric,
                                    .cut = &g->cut,
                                    .products = g->count,
                                    .product = products,
                                    .progress = solving->progress,
                                    .user = solving->user};
    if (!metric) return QVIT_OK;
    return g->cut.blocks.count > 1 ? qvitp_sublayer_run(&blocks, error)
                                   : qvitp_search_run(&s, error);
}

static qvit_status check_observed(const struct qvitp_linear_group *g, qvit_error *error)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct qvitp_site *s = g->part[i].site;
        if (s->kind != QVIT_INPUT_IMAGE &&
            !qvitp_site_saw(s, qvitp_solve_stream(g->solving, s, QVITP_STREAM_INPUT)))
            return qvitp_fail(error, QVIT_ERR_STATE, "site %zu (%s): nothing was observed",
                              s->index, s->name);
    }
    return QVIT_OK;
}

static qvit_status settle(struct qvitp_linear_group *g, struct qvitp_linear_part *p,
                          qvit_error *error)
{
    const struct qvitp_settling s = {.engine = g->solving->engine,
                                     .recipe = &g->solving->recipe,
                                     .pool = &g->pool,
                                     .product = &p->product,
                                     .coder = g->cut.coder,
                                     .offset = p->offset,
                                     .codes = p->codes,
                                     .bias = p->bias};
    QVITP_TRY(qvitp_settle_linear(&s, &p->score, error));
    p->result = qvitp_engine_alloc(g->solving->engine, 1, sizeof *p->result);
    if (!p->result) return qvitp_no_memory(error);
    p->result->engine = g->solving->engine;
    p->result->recipe = g->solving->recipe;
    p->result->use_quantized = g->solving->use_quantized != 0;
    return qvitp_linear_result(g, p, error);
}

static int solved_before(const struct qvitp_linear_group *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (!g->part[i].site->result) return 0;
    return 1;
}

/* What was found before a cancel is settled too, where there is nothing older. */
static qvit_status solve(struct qvitp_linear_group *g, struct qvitp_site *const *sites,
                         qvit_error *error)
{
    QVITP_TRY(check_observed(g, error));
    QVITP_TRY(qvitp_input_choose(g->solving, sites, g->count, &g->pool, &g->input, error));
    QVITP_TRY(qvitp_cut_choose(g->solving, sites, g->count, &g->input, &g->pool, &g->cut, error));
    for (size_t i = 0; i < g->count; i++) QVITP_TRY(qvitp_linear_read(g, &g->part[i], error));
    qvit_status searched = search(g, error);
    if (searched != QVIT_OK && (searched != QVIT_ERR_CANCELLED || solved_before(g)))
        return searched;
    for (size_t i = 0; i < g->count; i++) QVITP_TRY(settle(g, &g->part[i], error));
    return searched == QVIT_OK ? QVIT_OK : qvitp_fail(error, searched, "cancelled");
}

static void keep_result(struct qvitp_linear_part *p)
{
    if (!p->result) return;
    qvit_result_destroy(p->site->result);
    p->site->result = p->result;
}

qvit_status qvitp_solve_linear(const struct qvitp_solving *solving, struct qvitp_site *const *sites,
                               size_t count, qvit_error *error)
{
    struct qvitp_linear_group g = {.solving = solving,
                                   .pool = {solving->engine, NULL},
                                   .count = count,
                                   .inputs = sites[0]->inputs};
    g.part = qvitp_pool_alloc(&g.pool, count, sizeof *g.part);
    for (size_t i = 0; g.part && i < count; i++) g.part[i].site = sites[i];
    qvit_status status = g.part ? solve(&g, sites, error) : qvitp_no_memory(error);
    for (size_t i = 0; g.part && i < count; i++) {
        if (status == QVIT_OK || status == QVIT_ERR_CANCELLED) {
            keep_result(&g.part[i]);
        } else {
            qvit_result_destroy(g.part[i].result);
        }
    }
    qvitp_pool_free(&g.pool);
    return status;
}
