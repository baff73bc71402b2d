/*
 * test_unary_errors.c - every bad argument of layer normalisation and quantize plans, when they are made
 * and when they run.
 */
#include "plan_scenes.h"

/* ---- making ---- */

static void norm_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_layer_norm_create(unary.engine, &unary.make.o, &plan, error));
}

static void unary_begin(void)
{
    open_kit();
    unary.mark = kept.count;
    unary_scene();
}

#define BAD(status, change) (unary_scene(), (void)(change), norm_expect(#change, (status)))

static void layer_norm_plans_refuse_options(void)
{
    unary_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_layer_norm_create(kit.engine, &unary.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_layer_norm_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_layer_norm_options_init(NULL, sizeof(qvit_layer_norm_options));
    qvit_unary_args_init(NULL, sizeof(qvit_unary_args));
    BAD(QVIT_OK, 0);
    BAD(QVIT_OK, unary.make.o.output = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_ARGUMENT, unary.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.struct_size = sizeof(qvit_layer_norm_options) - 1);
    BAD(QVIT_OK, unary.make.o.struct_size = sizeof unary.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.make.o.struct_size = sizeof unary.make, unary.make.tail[30] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.gamma = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.beta = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.gamma.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.gamma.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, unary.beta.t.data = (char *)unary.beta.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, unary.make.o.output.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_U8, kit.twin_softmax));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, unary.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, unary.make.o.output.quantizer = kit.u8_five_columns);
    BAD(QVIT_ERR_SHAPE, unary.make.o.output = port(QVIT_DTYPE_S8, kit.s8_rows));
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, unary.gamma.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, unary.beta.t.dims[0] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.scale.t.dims[0] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.shift.t.dims[0] = K - 1);
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.gamma.t, 5, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.beta.t, 0, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.scale.t, 1, -0.5));
    BAD(QVIT_ERR_VALUE, tensor_set(&unary.shift.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = -1e-6f);
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = NAN);
    BAD(QVIT_ERR_VALUE, unary.make.o.eps = INFINITY);
    BAD(QVIT_ERR_VALUE,
        (unary.make.o.output = port(QVIT_DTYPE_S8, kit.tiny), fill_value(&unary.scale.t, 1e-5)));
    close_kit();
}

#undef BAD

static void quantize_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status,
                  qvit_quantize_create(unary.engine, &unary.quantize.o, &plan, error));
}

#define BAD(status, change) (unary_scene(), (void)(change), quantize_expect(#change, (status)))

static void quantize_plans_refuse_options(void)
{
    unary_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_quantize_create(kit.engine, &unary.quantize.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantize_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_quantize_options_init(NULL, sizeof(qvit_quantize_options));
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, unary.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.struct_size = sizeof(qvit_quantize_options) - 1);
    BAD(QVIT_OK, unary.quantize.o.struct_size = sizeof unary.quantize);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.quantize.o.struct_size = sizeof unary.quantize, unary.quantize.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, unary.quantize.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, unary.quantize.o.output = port(QVIT_DTYPE_S8, kit.s8_rows));
    close_kit();
}

#undef BAD

/* ---- running ---- */

/* Both plans read the same arguments. */
static void unary_expect(const char *change, const qvit_plan *norm, const qvit_plan *quantize,
                         qvit_status status)
{
    qvit_status got = qvit_layer_norm_run(norm, &unary.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &unary.output);
    CHECK_EQ(qvit_layer_norm_run(norm, &unary.args.o, NULL), status);
    got = qvit_quantize_run(quantize, &unary.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &unary.output);
    CHECK_EQ(qvit_quantize_run(quantize, &unary.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (unary_scene(), (void)(change), unary_expect(#change, norm, quantize, (status)))

static void unary_runs_refuse_arguments(void)
{
    unary_begin();
    qvit_plan *norm, *quantize;
    MUST(qvit_layer_norm_create(kit.engine, &unary.make.o, &norm, &why));
    MUST(qvit_quantize_create(kit.engine, &unary.quantize.o, &quantize, &why));
    BAD(QVIT_OK, fill_normal(&unary.input.t, 1));
    unary_scene();
    unary_expect("no plan", NULL, NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_layer_norm_run(norm, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_quantize_run(quantize, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.struct_size = sizeof(qvit_unary_args) - 8);
    BAD(QVIT_OK, unary.args.o.struct_size = sizeof unary.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (unary.args.o.struct_size = sizeof unary.args, unary.args.tail[3] = 1));
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.input = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.output.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, unary.output.t.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, unary.input.t.data = (char *)unary.input.t.data - 2);
    BAD(QVIT_ERR_SHAPE, unary.input.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, unary.input.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, unary.output.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, unary.input.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.output.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, unary.output.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, unary.input.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, unary.output.t.strides[1] = -1);
    BAD(QVIT_ERR_SHAPE, unary.output.t.strides[0] = 0);
    qvit_plan_destroy(norm);
    qvit_plan_destroy(quantize);
    close_kit();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(layer_norm_plans_refuse_options);
    RUN(quantize_plans_refuse_options);
    RUN(unary_runs_refuse_arguments);
    return test_end();
}
