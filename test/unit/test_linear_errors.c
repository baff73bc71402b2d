/* test_linear_errors.c - every bad argument of linear plans, when they are made and when they run. */
#include "plan_scenes.h"

/* ---- making ---- */

/* A layer that gives the bare sums. */
static void linear_sums(void)
{
    linear.make.o.output = port(QVIT_DTYPE_S32, NULL);
    linear.make.o.bias = linear.make.o.output_scale = linear.make.o.output_shift = NULL;
}

static void linear_floats(void)
{
    linear.weights = view_dense(QVIT_DTYPE_F32, 2, (size_t[]){N, K});
    fill_normal(&linear.weights.t, 1);
    linear.make.o.input = linear.make.o.weight = port(QVIT_DTYPE_F32, NULL);
}

/* Weights of `count` columns, all 127. */
static void linear_long(size_t count)
{
    linear.weights = view_dense(QVIT_DTYPE_S8, 2, (size_t[]){N, count});
    fill_value(&linear.weights.t, 127);
}

/* Weights of a packed type whose rows are `stride` codes apart. */
static void linear_packed(qvit_dtype dtype, const qvit_quantizer *quantizer, ptrdiff_t stride)
{
    linear.weights = view_dense(dtype, 2, (size_t[]){N, 12});
    fill_codes(&linear.weights.t, -7, 7);
    linear.weights.t.dims[1] = K;
    linear.weights.t.strides[0] = stride;
    linear.make.o.weight = port(dtype, quantizer);
}

static void linear_asymmetric(void)
{
    linear.weights = view_dense(QVIT_DTYPE_U8, 2, (size_t[]){N, K});
    fill_codes(&linear.weights.t, 0, 15);
    linear.make.o.weight = port(QVIT_DTYPE_U8, kit.u4);
}

static void linear_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status, qvit_linear_create(linear.engine, &linear.make.o, &plan, error));
}

static void linear_begin(void)
{
    open_kit();
    linear.mark = kept.count;
}

#define BAD(status, change) (linear_scene(), (void)(change), linear_expect(#change, (status)))

static void linear_plans_refuse_null(void)
{
    linear_begin();
    linear_scene();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_linear_create(kit.engine, &linear.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_create(kit.engine, &linear.make.o, NULL, NULL), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_linear_options_init(NULL, sizeof(qvit_linear_options));
    qvit_linear_args_init(NULL, sizeof(qvit_linear_args));
    qvit_plan_destroy(NULL);
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, linear.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weights = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.scale.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.shift.t.data = NULL);
    close_kit();
}

static void linear_options_may_grow(void)
{
    linear_begin();
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.struct_size = sizeof(qvit_linear_options) - 1);
    BAD(QVIT_OK, linear.make.o.struct_size = sizeof linear.make);
    linear_scene();
    linear.make.o.struct_size = sizeof linear.make;
    linear.make.tail[31] = 1;
    linear_expect("an unknown field", QVIT_ERR_UNSUPPORTED);
    close_kit();
}

static void linear_plans_refuse_ports(void)
{
    linear_begin();
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = QVIT_DTYPE_U4);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = 99);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.dtype = -1);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.input.quantizer = NULL);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_SHAPE, linear.make.o.input = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_S4);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.dtype = QVIT_DTYPE_S6);
    BAD(QVIT_ERR_ARGUMENT, linear_packed(QVIT_DTYPE_S6, kit.s7, 8));
    BAD(QVIT_ERR_ARGUMENT, linear_packed(QVIT_DTYPE_S4, kit.s6, 8));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight.quantizer = NULL);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight = port(QVIT_DTYPE_U8, kit.u8)); /* 8 bits */
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S8, kit.u4));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S4, kit.u4));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.weight = port(QVIT_DTYPE_S6, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_S8, kit.twin_points));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.weight = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(QVIT_DTYPE_U8, NULL));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.u8));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.residual = port(77, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S8, kit.s8_columns));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.residual = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.output.quantizer = kit.u8);
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_U8, kit.twin_softmax));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.input = port(QVIT_DTYPE_U8, kit.relative));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_S4, kit.s4));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, linear.make.o.output.quantizer = kit.twin_gelu); /* with a shift */
    BAD(QVIT_ERR_SHAPE, linear.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_SHAPE, linear.make.o.output.quantizer = kit.s8_rows);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.activation = 2);
    BAD(QVIT_ERR_ARGUMENT, linear.make.o.activation = -1);
    close_kit();
}

static void bare_sums_stay_bare(void)
{
    linear_begin();
    BAD(QVIT_OK, linear_sums());
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.bias = &linear.bias.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.output_scale = &linear.scale.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.output_shift = &linear.shift.t));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.activation = QVIT_ACTIVATION_GELU));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear.make.o.residual = port(QVIT_DTYPE_F32, NULL)));
    BAD(QVIT_ERR_UNSUPPORTED,
        (linear_sums(), linear.make.o.input = port(QVIT_DTYPE_S8, kit.twin_gelu)));
    BAD(QVIT_ERR_UNSUPPORTED, (linear_sums(), linear_floats()));
    close_kit();
}

static void linear_plans_refuse_shapes(void)
{
    linear_begin();
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.rank = -1);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[0] = SIZE_MAX);
    BAD(QVIT_ERR_SHAPE, linear.weights.t.dims[1] = SIZE_MAX / 4);
    BAD(QVIT_ERR_SHAPE, linear.make.o.weight.quantizer = kit.narrow_five_rows);
    BAD(QVIT_OK, linear_packed(QVIT_DTYPE_S4, kit.narrow4, 6));
    BAD(QVIT_OK, linear_packed(QVIT_DTYPE_S6, kit.s6, 8));
    BAD(QVIT_ERR_SHAPE, linear_packed(QVIT_DTYPE_S4, kit.narrow4, 7)); /* no whole bytes */
    BAD(QVIT_ERR_SHAPE, linear_packed(QVIT_DTYPE_S6, kit.s6, 6));
    BAD(QVIT_ERR_SHAPE, linear.bias.t.dims[0] = N + 1);
    BAD(QVIT_ERR_SHAPE, linear.bias.t.rank = 2);
    BAD(QVIT_ERR_SHAPE, linear.scale.t.dims[0] = N - 1);
    BAD(QVIT_ERR_SHAPE, linear.shift.t.dims[0] = N - 1);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_F32);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_S6);
    BAD(QVIT_ERR_ARGUMENT, linear.weights.t.dtype = QVIT_DTYPE_S6 + 1);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, linear.bias.t.data = (char *)linear.bias.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, linear.scale.t.data = (char *)linear.scale.t.data - 2);
    close_kit();
}

static void linear_plans_refuse_values(void)
{
    linear_begin();
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.weights.t, 5, -128));
    BAD(QVIT_ERR_VALUE,
        (fill_value(&linear.weights.t, 8), linear.make.o.weight.quantizer = kit.s4));
    BAD(QVIT_ERR_VALUE,
        (linear_packed(QVIT_DTYPE_S6, kit.s4, 8), tensor_set(&linear.weights.t, 3, 8)));
    BAD(QVIT_OK, linear_asymmetric());
    BAD(QVIT_ERR_VALUE, (linear_asymmetric(), tensor_set(&linear.weights.t, 3, 16)));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.bias.t, 1, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.bias.t, N - 1, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, 0));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, -1));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, (double)NAN));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.scale.t, 2, (double)INFINITY));
    BAD(QVIT_ERR_VALUE, tensor_set(&linear.shift.t, 0, -(double)INFINITY));
    BAD(QVIT_ERR_VALUE, (linear_floats(), tensor_set(&linear.weights.t, 7, (double)NAN)));
    BAD(QVIT_ERR_VALUE, (linear_floats(), tensor_set(&linear.weights.t, 7, (double)INFINITY)));
    BAD(QVIT_ERR_VALUE, (linear.make.o.input.quantizer = kit.huge_u8,
                         linear.make.o.weight.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_VALUE,
        (linear.make.o.output.quantizer = kit.tiny, fill_value(&linear.scale.t, 1e-5)));
    BAD(QVIT_ERR_UNSUPPORTED, linear_long(70000));
    BAD(QVIT_OK, linear_long(33155)); /* the longest that no zero point makes too long */
    close_kit();
}

#undef BAD

/* ---- running ---- */

static void running_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_linear_run(plan, &running.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &running.output);
    CHECK_EQ(qvit_linear_run(plan, &running.args.o, NULL), status);
}

static void running_begin(void)
{
    linear_begin();
    running.plan = running_plan(kit.engine);
    running.mark = kept.count;
}

#define BAD(status, change)                                                                        \
    (running_scene(), (void)(change), running_expect(#change, running.plan, (status)))

static void linear_runs_refuse_arguments(void)
{
    running_begin();
    BAD(QVIT_OK, 0);
    running_scene();
    running_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_linear_run(running.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK(why.text[0]);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.struct_size = sizeof(qvit_linear_args) - 8);
    BAD(QVIT_OK, running.args.o.struct_size = sizeof running.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (running.args.o.struct_size = sizeof running.args, running.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, running.args.o.input = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.residual = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.input.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.input.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, running.output.t.data = (char *)running.output.t.data - 1);
    BAD(QVIT_ERR_ARGUMENT, running.residual.t.data = (char *)running.residual.t.data - 2);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace_size = 0);
    BAD(QVIT_ERR_ARGUMENT, running.args.o.workspace = (char *)running.args.o.workspace - 8);
    close_kit();
}

static void linear_runs_refuse_shapes(void)
{
    running_begin();
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, running.input.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, running.output.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, running.residual.t.rank = 1);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[1] = 0);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[1] = K - 1);
    BAD(QVIT_ERR_SHAPE, running.input.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.dims[1] = N - 1);
    BAD(QVIT_ERR_SHAPE, running.output.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.residual.t.dims[1] = N - 1);
    BAD(QVIT_ERR_SHAPE, running.residual.t.dims[0] = 2);
    BAD(QVIT_ERR_SHAPE, running.input.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.strides[1] = 2);
    BAD(QVIT_ERR_SHAPE, running.output.t.strides[0] = 0);
    close_kit();
}

static void a_residual_must_be_expected(void)
{
    linear_begin();
    linear_scene();
    linear.make.o.input = port(QVIT_DTYPE_S8, kit.s8);
    linear.make.o.output = port(QVIT_DTYPE_F32, NULL);
    qvit_plan *plan;
    MUST(qvit_linear_create(kit.engine, &linear.make.o, &plan, &why));
    running.plan = keep_plan(plan);
    running.mark = kept.count;
    BAD(QVIT_ERR_ARGUMENT, 0);
    BAD(QVIT_OK, running.args.o.residual = NULL);
    close_kit();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(linear_plans_refuse_null);
    RUN(linear_options_may_grow);
    RUN(linear_plans_refuse_ports);
    RUN(bare_sums_stay_bare);
    RUN(linear_plans_refuse_shapes);
    RUN(linear_plans_refuse_values);
    RUN(linear_runs_refuse_arguments);
    RUN(linear_runs_refuse_shapes);
    RUN(a_residual_must_be_expected);
    return test_end();
}
