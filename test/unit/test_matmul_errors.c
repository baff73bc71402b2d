/* test_matmul_errors.c - every bad argument of matmul plans, when they are made and when they run. */
#include "plan_scenes.h"

/* ---- making ---- */

static void matmul_expect(const char *change, qvit_status status)
{
    EXPECT_CREATE(change, status, qvit_matmul_create(matmul.engine, &matmul.make.o, &plan, error));
}

static void matmul_begin(void)
{
    open_kit();
    matmul.plan = NULL;
    matmul.mark = kept.count;
    matmul_scene();
    qvit_plan *plan;
    MUST(qvit_matmul_create(kit.engine, &matmul.make.o, &plan, &why));
    release_to(matmul.mark);
    matmul.plan = keep_plan(plan);
    matmul.mark = kept.count;
}

#define BAD(status, change) (matmul_scene(), (void)(change), matmul_expect(#change, (status)))

static void matmul_plans_refuse_options(void)
{
    matmul_begin();
    qvit_plan *plan = (qvit_plan *)&kit;
    CHECK_EQ(qvit_matmul_create(kit.engine, &matmul.make.o, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_matmul_create(kit.engine, NULL, &plan, &why), QVIT_ERR_ARGUMENT);
    CHECK(!plan && why.text[0]);
    qvit_matmul_options_init(NULL, sizeof(qvit_matmul_options));
    qvit_matmul_args_init(NULL, sizeof(qvit_matmul_args));
    BAD(QVIT_OK, 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.engine = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.struct_size = sizeof(qvit_matmul_options) - 1);
    BAD(QVIT_OK, matmul.make.o.struct_size = sizeof matmul.make);
    BAD(QVIT_ERR_UNSUPPORTED,
        (matmul.make.o.struct_size = sizeof matmul.make, matmul.make.tail[8] = 1));
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = QVIT_DTYPE_S8);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.dtype = -5);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.left.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.right.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.right.quantizer = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.output.dtype = QVIT_DTYPE_NONE);
    BAD(QVIT_ERR_ARGUMENT, matmul.make.o.output.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_F32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_S32, NULL));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_U8, kit.u8));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right.quantizer = kit.s8);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right.quantizer = kit.twin_gelu);
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_S4, kit.narrow4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.right = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_S8, kit.twin_gelu));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_U4, kit.u4));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.output = port(QVIT_DTYPE_S6, kit.s6));
    BAD(QVIT_ERR_UNSUPPORTED, (matmul.make.o.output = port(QVIT_DTYPE_S32, NULL),
                               matmul.make.o.left = port(QVIT_DTYPE_U8, kit.twin_softmax)));
    BAD(QVIT_ERR_UNSUPPORTED, matmul.make.o.left.quantizer = kit.u8_heads_zeros);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.left.quantizer = kit.u8_columns);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.right.quantizer = kit.narrow_columns);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.right.quantizer = kit.narrow_five_rows);
    BAD(QVIT_ERR_SHAPE, matmul.make.o.output = port(QVIT_DTYPE_U8, kit.u8_five_columns));
    BAD(QVIT_ERR_VALUE, matmul.make.o.scale = NAN);
    BAD(QVIT_ERR_VALUE, matmul.make.o.scale = -INFINITY);
    BAD(QVIT_ERR_VALUE,
        (matmul.make.o.left.quantizer = kit.huge_u8, matmul.make.o.right.quantizer = kit.huge_s8));
    BAD(QVIT_ERR_NO_MEMORY, matmul.make.o.heads = SIZE_MAX);
    BAD(QVIT_ERR_NO_MEMORY, matmul.make.o.heads = SIZE_MAX / 16);
    close_kit();
}

#undef BAD

/* ---- running ---- */

static void matmul_run_expect(const char *change, const qvit_plan *plan, qvit_status status)
{
    qvit_status got = qvit_matmul_run(plan, &matmul.args.o, &why);
    check_failure(change, status, got);
    if (status) check_untouched(change, &matmul.output);
    CHECK_EQ(qvit_matmul_run(plan, &matmul.args.o, NULL), status);
}

#define BAD(status, change)                                                                        \
    (matmul_scene(), (void)(change), matmul_run_expect(#change, matmul.plan, (status)))

/* Operands whose k is one more than what surely fits, with codes to 255 and a zero point of 3. */
static void matmul_long(void)
{
    size_t k = 2147483647 / ((255 + 3) * 128) + 1;
    matmul.left = view_dense(QVIT_DTYPE_U8, 4, (size_t[]){2, HEADS, 3, k});
    matmul.right = view_dense(QVIT_DTYPE_S8, 4, (size_t[]){2, HEADS, k, N});
}

static void matmul_runs_refuse_arguments(void)
{
    matmul_begin();
    BAD(QVIT_OK, 0);
    matmul_scene();
    matmul_run_expect("no plan", NULL, QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_matmul_run(matmul.plan, NULL, &why), QVIT_ERR_ARGUMENT);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.struct_size = 0);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.struct_size = sizeof(qvit_matmul_args) - 8);
    BAD(QVIT_OK, matmul.args.o.struct_size = sizeof matmul.args);
    BAD(QVIT_ERR_UNSUPPORTED,
        (matmul.args.o.struct_size = sizeof matmul.args, matmul.args.tail[0] = 1));
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.left = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.right = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.output = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.left.t.data = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.right.t.dtype = QVIT_DTYPE_U8);
    BAD(QVIT_ERR_ARGUMENT, matmul.output.t.dtype = QVIT_DTYPE_S32);
    BAD(QVIT_ERR_ARGUMENT, matmul.output.t.data = (char *)matmul.output.t.data - 3);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace = NULL);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace_size--);
    BAD(QVIT_ERR_ARGUMENT, matmul.args.o.workspace = (char *)matmul.args.o.workspace - 32);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.rank = 3);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.rank = 0);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.rank = 7);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[0] = 1);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[1] = HEADS + 1);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[2] = 0);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.dims[3] = K - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[1] = 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[2] = K - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[3] = N - 1);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.dims[0] = SIZE_MAX / 2);
    BAD(QVIT_ERR_SHAPE, matmul.output.t.dims[2] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.left.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.right.t.strides[3] = 2);
    BAD(QVIT_ERR_SHAPE, matmul.output.t.strides[0] = 0);
    BAD(QVIT_ERR_UNSUPPORTED, matmul_long());
    close_kit();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(matmul_plans_refuse_options);
    RUN(matmul_runs_refuse_arguments);
    return test_end();
}
