/* test_attention_errors.c - every bad argument of attention plans, when they are made and when they run. */
#include "plan_scenes.h"

/* ---- making ---- */

static void attention_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_attention_create(attention.engine, &attention.make.o, &plan, error));
}

static void attention_begin(void)
{
    open_kit();
    attention.plan = NULL;
    attention.mark = kept.count;
    attention_scene();
    qvit_plan *plan;
    MUST(qvit_attention_create(kit.engine, &attention.make.o, &plan, &why));
    release_to(attention.mark);
    attention.plan = keep_plan(plan);
    attention.mark = kept.count;
}

#define BAD(status, change) (attention_scene(), (void)(change), attention_expect(#change, (status)))

static void attention_plans_refuse_ports(void)
{
    attention_begin();
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.query.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.query.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.key.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.value.dtype = 1000);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.probability.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.output.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_OK, attention.make.o.probability.quantizer = kit.relative);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_S4, kit.s4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.query = port(QVIT_DTYPE_U8, kit.u8_heads_zeros));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S4, kit.narrow4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.key = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.value.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.value.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.probability = port(QVIT_DTYPE_U8, kit.u8_columns));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, attention.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, attention.make.o.query = port(QVIT_DTYPE_U8, kit.u8_columns));
    BAD(QVIT_ERR_SHAPE, attention.make.o.key.quantizer = kit.narrow_columns);
    BAD(QVIT_ERR_SHAPE, attention.make.o.value.quantizer = kit.narrow_five_rows);
    BAD(QVIT_ERR_SHAPE, attention.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    close_kit();
}

static void attention_plans_refuse_options(void)
{
    attention_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    attention_scene();
    CHECK_EQ(qvit_attention_create(kit.engine, &attention.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_attention_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_attention_options_init(NULL, sizeof(qvit_attention_options));
    qvit_attention_args_init(NULL, sizeof(qvit_attention_args));
    BAD(QVIT_ERR_ARGUMENT, attention.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, attention.make.o.struct_size = sizeof(qvit_attention_options) - 1);
    BAD(QVIT_OK, attention.make.o.struct_size = sizeof attention.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (attention.make.o.struct_size = sizeof attention.make, attention.make.tail[1] = 1));
    BAD(QVIT_ERR_SHAPE, attention.make.o.head_dim = 0);
    BAD(QVIT_ERR_SHAPE, attention.make.o.head_dim = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, attention.make.o.heads = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, attention.make.o.heads = HEADS + 1);
    BAD(QVIT_ERR_SHAPE, attention.scale.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.shift.t.rank = 2);
    BAD(QVIT_ERR_ARGUMENT, attention.shift.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.scale.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.scale.t, 1, 0));
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.scale.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&attention.shift.t, 1, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, attention.make.o.score_scale = NAN);
    BAD(QVIT_ERR_VALUE, attention.make.o.score_scale = INFINITY);
    BAD(QVIT_ERR_VALUE, (attention.make.o.query = port(QVIT_DTYPE_U8, kit.huge_u8),
                         attention.make.o.key.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_UNSUPPORTED, (attention.make.o.output_scale = attention.make.o.output_shift = NULL,
                               attention.make.o.head_dim = 43805));
    BAD(QVIT_OK, (attention.make.o.output_scale = attention.make.o.output_shift = NULL,
                  attention.make.o.head_dim = 43804));
    close_kit();
}

#undef BAD

/* ---- running ---- */

static void attention_run_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_attention_run(plan, &attention.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &attention.output);
    CHECK_EQ(qvit_attention_run(plan, &attention.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (attention_scene(), (void)(change), attention_run_expect(#change, attention.plan, (status)))

static void attention_runs_refuse_arguments(void)
{
    attention_begin();
    BAD(QVIT_OK, 0);
    attention_scene();
    attention_run_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_attention_run(attention.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.struct_size = sizeof(qvit_attention_args) - 8);
    BAD(QVIT_OK, attention.args.o.struct_size = sizeof attention.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (attention.args.o.struct_size = sizeof attention.args, attention.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.query = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.key = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.value = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.key.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.bias.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.query.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.mask.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, attention.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, attention.bias.t.data = (char *)attention.bias.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, attention.args.o.workspace = (char *)attention.args.o.workspace - 4);
    BAD(QVIT_ERR_UNSUPPORTED, attention.args.o.scores = &attention.cells.t);
    BAD(QVIT_ERR_UNSUPPORTED, attention.args.o.probabilities = &attention.cells.t);
    close_kit();
}

/* One key more than the sums over twin probabilities have room for. */
static void attention_long(void)
{
    size_t keys = 2147483647 / (128 * 128) + 1;
    attention.key = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, keys, HEADS, DIM});
    attention.value = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, keys, HEADS, DIM});
    attention.args.o.bias = attention.args.o.mask = NULL;
}

static void attention_runs_refuse_shapes(void)
{
    attention_begin();
    BAD(QVIT_ERR_SHAPE, attention.query.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, attention.query.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, attention.key.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[1] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[2] = 1);
    BAD(QVIT_ERR_SHAPE, attention.query.t.dims[3] = 1);
    BAD(QVIT_ERR_SHAPE, attention.output.t.dims[1] = QUERIES - 1);
    BAD(QVIT_ERR_SHAPE, attention.key.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, attention.key.t.dims[3] = 1);
    BAD(QVIT_ERR_SHAPE, attention.value.t.dims[1] = KEYS - 1);
    BAD(QVIT_ERR_SHAPE, attention.bias.t.dims[0] = 3);
    BAD(QVIT_ERR_SHAPE, attention.bias.t.dims[3] = KEYS - 1);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.dims[2] = QUERIES - 1);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, attention.query.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.value.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.mask.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, attention.output.t.strides[1] = 0);
    BAD(QVIT_ERR_UNSUPPORTED, attention_long());
    close_kit();
}

/* Key and value of one sample, whose rows both windows name. */
static void attention_key_windows(void)
{
    attention.key.t.dims[0] = attention.value.t.dims[0] = 1;
    attention.args.o.key_rows = &attention.key_rows.t;
}

/* One window over one sample. */
static void attention_query_windows(void)
{
    attention.query.t.dims[0] = attention.output.t.dims[0] = 1;
    attention.key.t.dims[0] = attention.value.t.dims[0] = 1;
    attention.args.o.query_rows = &attention.query_rows.t;
    attention.args.o.mask = NULL;
}

static void windows_refuse_rows(void)
{
    attention_begin();
    BAD(QVIT_OK, attention_key_windows());
    BAD(QVIT_ERR_VALUE, (attention_key_windows(), tensor_set(&attention.key_rows.t, 9, KEYS)));
    BAD(QVIT_ERR_VALUE, (attention_key_windows(), tensor_set(&attention.key_rows.t, 0, -1)));
    BAD(QVIT_ERR_ARGUMENT, (attention_key_windows(), attention.key_rows.t.dtype = QVIT_DTYPE_F32));
    BAD(QVIT_ERR_ARGUMENT, (attention_key_windows(), attention.key_rows.t.data = NULL));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.rank = 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.dims[0] = 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key_rows.t.dims[1] = KEYS - 1));
    BAD(QVIT_ERR_SHAPE, (attention_key_windows(), attention.key.t.dims[0] = 2));
    BAD(QVIT_OK, attention_query_windows());
    BAD(QVIT_ERR_VALUE,
        (attention_query_windows(), tensor_set(&attention.query_rows.t, 2, QUERIES)));
    BAD(QVIT_ERR_VALUE, (attention_query_windows(), tensor_set(&attention.query_rows.t, 1, -7)));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.query.t.dims[0] = 2));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.output.t.dims[0] = 2));
    BAD(QVIT_ERR_SHAPE, (attention_query_windows(), attention.query_rows.t.rank = 3));
    close_kit();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(attention_plans_refuse_ports);
    RUN(attention_plans_refuse_options);
    RUN(attention_runs_refuse_arguments);
    RUN(attention_runs_refuse_shapes);
    RUN(windows_refuse_rows);
    return test_end();
}
