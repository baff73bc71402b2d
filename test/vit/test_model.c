/* What of a model file becomes the model, and what is refused with which words. */
#define _POSIX_C_SOURCE 200809L

#include "model.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>
#include <unistd.h>

/* ---- a small model in memory, to be spoilt by the tests ---- */

enum { WIDTH = 4, HEADS = 2, DEPTH = 2, HIDDEN = 6, CLASSES = 3, PATCH = 2, SIDE = 2 };
enum { TOKENS = SIDE * SIDE + 1, MAX_TENSORS = 40, MAX_ELEMENTS = 96, MAX_FILE = 65536 };

struct entry {
    char name[48];
    const char *dtype; /* "F32", ... */
    size_t rank, dims[5];
    float values[MAX_ELEMENTS];
};

struct file {
    struct entry entries[MAX_TENSORS];
    size_t count;
    const char *metadata; /* JSON text of the object */
};

static size_t elements(const struct entry *e)
{
    size_t count = 1;
    for (size_t i = 0; i < e->rank; i++) count *= e->dims[i];
    return count;
}

static void add(struct file *f, const char *name, size_t rank, const size_t *dims)
{
    struct entry *e = &f->entries[f->count++];
    *e = (struct entry){.dtype = "F32", .rank = rank};
    snprintf(e->name, sizeof e->name, "%s", name);
    memcpy(e->dims, dims, rank * sizeof *dims);
    for (size_t i = 0; i < elements(e); i++) e->values[i] = test_uniform();
}

/* "PREFIX.weight" and "PREFIX.bias"; inputs 0: of a LayerNorm */
static void add_layer(struct file *f, const char *prefix, size_t outputs, size_t inputs)
{
    char name[48];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(f, name, inputs ? 2 : 1, (size_t[]){outputs, inputs});
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(f, name, 1, &outputs);
}

static void add_block(struct file *f, int number)
{
    static const struct {
        const char *name;
        size_t outputs, inputs;
    } layers[] = {
        {"norm1", WIDTH, 0}, {"attn.qkv", 3 * WIDTH, WIDTH}, {"attn.proj", WIDTH, WIDTH},
        {"norm2", WIDTH, 0}, {"mlp.fc1", HIDDEN, WIDTH},     {"mlp.fc2", WIDTH, HIDDEN},
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        char prefix[40];
        snprintf(prefix, sizeof prefix, "blocks.%d.%s", number, layers[i].name);
        add_layer(f, prefix, layers[i].outputs, layers[i].inputs);
    }
}

static struct file good_file(void)
{
    struct file f = {.metadata = "{\"mean\": \"0.5,0.4,0.3\", \"std\": \"0.5,0.25,0.2\"}"};
    add(&f, "patch_embed.proj.weight", 4, (size_t[]){WIDTH, 3, PATCH, PATCH});
    add(&f, "patch_embed.proj.bias", 1, (size_t[]){WIDTH});
    add(&f, "cls_token", 3, (size_t[]){1, 1, WIDTH});
    add(&f, "pos_embed", 3, (size_t[]){1, TOKENS, WIDTH});
    for (int i = 0; i < DEPTH; i++) add_block(&f, i);
    add_layer(&f, "norm", WIDTH, 0);
    add_layer(&f, "head", CLASSES, WIDTH);
    return f;
}

static struct entry *entry_of(struct file *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (!strcmp(f->entries[i].name, name)) return &f->entries[i];
    }
    FAIL("the test has no tensor %s", name);
}

static void drop(struct file *f, const char *name)
{
    struct entry *dropped = entry_of(f, name);
    *dropped = f->entries[--f->count];
}

/* ---- its bytes ---- */

static size_t width_of(const char *dtype) { return strstr(dtype, "16") ? 2 : 4; }

/* The upper half of a float is a bfloat16; as F16, only small whole numbers are exact. */
static uint16_t to_16_bits(const char *dtype, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (!strcmp(dtype, "BF16") || value == 0) return (uint16_t)(bits >> 16);
    uint32_t exponent = (bits >> 23 & 255) - 127 + 15;
    return (uint16_t)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 1023));
}

static size_t put_values(const struct entry *e, unsigned char *out)
{
    size_t width = width_of(e->dtype);
    for (size_t i = 0; i < elements(e); i++) {
        uint16_t half = to_16_bits(e->dtype, e->values[i]);
        memcpy(out + i * width, width == 2 ? (const void *)&half : &e->values[i], width);
    }
    return elements(e) * width;
}

static size_t put_header(const struct file *f, char *out)
{
    char *at = out + sprintf(out, "{\"__metadata__\": %s", f->metadata);
    size_t offset = 0;
    for (const struct entry *e = f->entries; e < f->entries + f->count; e++) {
        at += sprintf(at, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", e->name, e->dtype);
        for (size_t i = 0; i < e->rank; i++) at += sprintf(at, "%s%zu", i ? ", " : "", e->dims[i]);
        size_t end = offset + elements(e) * width_of(e->dtype);
        at += sprintf(at, "], \"data_offsets\": [%zu, %zu]}", offset, end);
        offset = end;
    }
    return (size_t)(at - out) + (size_t)sprintf(at, "}");
}

static size_t put_file(const struct file *f, unsigned char *out)
{
    size_t header = put_header(f, (char *)out + 8), size = 8 + header;
    for (size_t i = 0; i < 8; i++) out[i] = (unsigned char)(header >> 8 * i);
    for (size_t i = 0; i < f->count; i++) size += put_values(&f->entries[i], out + size);
    return size;
}

static qvit_status read_with(const struct file *f, const vit_model_options *options,
                             vit_model *model, qvit_error *error)
{
    static unsigned char bytes[MAX_FILE];
    safetensors file;
    char text[240] = "";
    if (safetensors_parse(bytes, put_file(f, bytes), &file, text, sizeof text))
        FAIL("the test's own file: %s", text);
    qvit_status status = vit_model_read(&file, options, model, error);
    safetensors_close(&file);
    return status;
}

static const vit_model_options two_heads = {.heads = HEADS};

static vit_model read_good(const struct file *f)
{
    vit_model model;
    qvit_error error;
    if (read_with(f, &two_heads, &model, &error) != QVIT_OK) FAIL("%s", error.text);
    return model;
}

/* The file must be refused, with this status and words that contain the text. */
static void check_refused(const struct file *f, const vit_model_options *options,
                          qvit_status expected, const char *text)
{
    vit_model model;
    qvit_error error;
    CHECK_EQ(read_with(f, options, &model, &error), expected);
    CHECK_EQ(error.status, expected);
    if (!strstr(error.text, text)) FAIL("no \"%s\" in \"%s\"", text, error.text);
    CHECK(!model.memory && !model.blocks);
}

/* ---- what is taken ---- */

static void reads_sizes(void)
{
    struct file f = good_file();
    vit_model model = read_good(&f);
    CHECK_EQ(model.image, SIDE * PATCH);
    CHECK_EQ(model.patch, PATCH);
    CHECK_EQ(model.patches, SIDE * SIDE);
    CHECK_EQ(model.tokens, TOKENS);
    CHECK_EQ(model.width, WIDTH);
    CHECK_EQ(model.heads, HEADS);
    CHECK_EQ(model.head_dim, WIDTH / HEADS);
    CHECK_EQ(model.hidden, HIDDEN);
    CHECK_EQ(model.depth, DEPTH);
    CHECK_EQ(model.classes, CLASSES);
    vit_model_close(&model);
}

static void check_values(struct file *f, const char *name, const qvit_tensor *found)
{
    const struct entry *e = entry_of(f, name);
    CHECK_EQ(found->rank, e->rank);
    for (size_t i = 0; i < e->rank; i++) CHECK_EQ(found->dims[i], e->dims[i]);
    CHECK(!memcmp(found->data, e->values, elements(e) * sizeof(float)));
}

static void reads_weights(void)
{
    struct file f = good_file();
    vit_model model = read_good(&f);
    check_values(&f, "blocks.0.norm1.weight", &model.blocks[0].norm1.gamma);
    check_values(&f, "blocks.0.norm1.bias", &model.blocks[0].norm1.beta);
    check_values(&f, "blocks.1.attn.qkv.weight", &model.blocks[1].qkv.weight);
    check_values(&f, "blocks.1.attn.qkv.bias", &model.blocks[1].qkv.bias);
    check_values(&f, "blocks.0.attn.proj.weight", &model.blocks[0].proj.weight);
    check_values(&f, "blocks.1.norm2.bias", &model.blocks[1].norm2.beta);
    check_values(&f, "blocks.0.mlp.fc1.weight", &model.blocks[0].fc1.weight);
    check_values(&f, "blocks.1.mlp.fc2.bias", &model.blocks[1].fc2.bias);
    check_values(&f, "norm.weight", &model.norm.gamma);
    check_values(&f, "head.weight", &model.head.weight);
    vit_model_close(&model);
}

/* The folded layer makes of the pixels what the layer of the file makes of the normalised ones. */
static void folds_pixels(void)
{
    static const double mean[] = {0.5, 0.4, 0.3}, std[] = {0.5, 0.25, 0.2};
    struct file f = good_file();
    vit_model model = read_good(&f);
    const float *weight = entry_of(&f, "patch_embed.proj.weight")->values;
    const float *folded = model.patch_embed.weight.data, *folded_bias = model.patch_embed.bias.data;
    CHECK_EQ(model.patch_embed.weight.dims[1], PATCH * PATCH * 3);
    for (size_t row = 0; row < WIDTH; row++) {
        double expected = (double)entry_of(&f, "patch_embed.proj.bias")->values[row];
        double found = (double)folded_bias[row];
        for (size_t i = 0; i < PATCH * PATCH * 3; i++) {
            size_t pixel = i / 3, c = i % 3, value = test_below(256);
            double w = (double)weight[(row * 3 + c) * PATCH * PATCH + pixel];
            expected += w * ((double)value / 255 - mean[c]) / std[c];
            found += (double)folded[row * PATCH * PATCH * 3 + i] * (double)value;
        }
        CHECK_NEAR(found, expected, 1e-5);
    }
    vit_model_close(&model);
}

static void adds_the_class_tokens_position(void)
{
    struct file f = good_file();
    vit_model model = read_good(&f);
    const float *token = entry_of(&f, "cls_token")->values, *first = model.first.data;
    const float *positions = entry_of(&f, "pos_embed")->values;
    for (size_t i = 0; i < WIDTH; i++) CHECK_NEAR(first[i], token[i] + positions[i], 0);
    CHECK(!memcmp(model.positions.data, positions + WIDTH, (TOKENS - 1) * WIDTH * sizeof(float)));
    vit_model_close(&model);
}

static void widens_16_bits(void)
{
    struct file f = good_file();
    for (size_t i = 0; i < f.count; i++) {
        f.entries[i].dtype = i % 2 ? "F16" : "BF16";
        for (size_t k = 0; k < MAX_ELEMENTS; k++) f.entries[i].values[k] = (float)(k % 8) - 4;
    }
    vit_model model = read_good(&f);
    check_values(&f, "head.weight", &model.head.weight);
    check_values(&f, "head.bias", &model.head.bias);
    vit_model_close(&model);
}

static void needs_no_bias_of_qkv(void)
{
    struct file f = good_file();
    drop(&f, "blocks.1.attn.qkv.bias");
    vit_model model = read_good(&f);
    CHECK(optional(&model.blocks[0].qkv.bias) == &model.blocks[0].qkv.bias);
    CHECK(optional(&model.blocks[1].qkv.bias) == NULL);
    vit_model_close(&model);
}

static void options_replace_the_metadata(void)
{
    struct file f = good_file();
    f.metadata = "{}";
    const vit_model_options options = {HEADS, "0.5, 0.4 ,0.3", "0.5,0.25,2e-1"};
    vit_model model, same;
    qvit_error error;
    CHECK_EQ(read_with(&f, &options, &model, &error), QVIT_OK);
    f.metadata = good_file().metadata;
    same = read_good(&f);
    size_t bytes = WIDTH * PATCH * PATCH * 3 * sizeof(float);
    CHECK(!memcmp(model.patch_embed.weight.data, same.patch_embed.weight.data, bytes));
    vit_model_close(&model);
    vit_model_close(&same);
}

/* ---- what is refused ---- */

static void refuses_missing_tensors(void)
{
    struct file f = good_file();
    for (size_t i = 0; i < f.count; i++) {
        struct file spoilt = f;
        const char *name = f.entries[i].name;
        if (strstr(name, "qkv.bias")) continue;
        drop(&spoilt, name);
        /* without its fc1, a block and all after it are not there: their tensors are the unknown */
        if (strcmp(name, "blocks.1.mlp.fc1.weight"))
            check_refused(&spoilt, &two_heads, QVIT_ERR_FORMAT, name);
        else
            check_refused(&spoilt, &two_heads, QVIT_ERR_UNSUPPORTED, "blocks.1.");
    }
}

static void refuses_unknown_tensors(void)
{
    struct file f = good_file();
    add(&f, "dist_token", 3, (size_t[]){1, 1, WIDTH});
    check_refused(&f, &two_heads, QVIT_ERR_UNSUPPORTED, "\"dist_token\"");
}

/* Which tensor is named depends on where a size was taken from. One head fits every width. */
static void refuses_wrong_shapes(void)
{
    const vit_model_options one_head = {.heads = 1};
    struct file f = good_file();
    for (size_t i = 0; i < f.count; i++) {
        for (size_t d = 0; d < f.entries[i].rank; d++) {
            struct file spoilt = f;
            spoilt.entries[i].dims[d]++;
            check_refused(&spoilt, &one_head, QVIT_ERR_SHAPE, "");
            spoilt.entries[i].dims[d] = 0;
            check_refused(&spoilt, &one_head, QVIT_ERR_SHAPE, "");
        }
        struct file spoilt = f;
        spoilt.entries[i].dims[spoilt.entries[i].rank++] = 1;
        check_refused(&spoilt, &one_head, QVIT_ERR_SHAPE, f.entries[i].name);
    }
}

static void refuses_other_types(void)
{
    struct file f = good_file();
    for (size_t i = 0; i < f.count; i++) {
        struct file spoilt = f;
        spoilt.entries[i].dtype = "I32";
        check_refused(&spoilt, &two_heads, QVIT_ERR_UNSUPPORTED, f.entries[i].name);
    }
}

static void refuses_what_is_not_finite(void)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};
    struct file f = good_file();
    for (size_t i = 0; i < f.count; i++) {
        struct file spoilt = f;
        struct entry *e = &spoilt.entries[i];
        e->values[test_below(elements(e))] = values[i % 3];
        check_refused(&spoilt, &two_heads, QVIT_ERR_VALUE, e->name);
    }
}

static void refuses_positions_of_no_square(void)
{
    struct file f = good_file();
    entry_of(&f, "pos_embed")->dims[1] = 4;
    check_refused(&f, &two_heads, QVIT_ERR_SHAPE, "4 positions");
    entry_of(&f, "pos_embed")->dims[1] = 1;
    check_refused(&f, &two_heads, QVIT_ERR_SHAPE, "1 positions");
}

static void refuses_heads_that_do_not_fit(void)
{
    const vit_model_options none = {0}, three = {.heads = 3};
    struct file f = good_file();
    check_refused(&f, &none, QVIT_ERR_ARGUMENT, "--heads");
    check_refused(&f, &three, QVIT_ERR_ARGUMENT, "3 heads");
}

static void refuses_bad_mean_and_std(void)
{
    static const char *const bad[] = {"",      "1",       "1,2",     "1,2,3,4",
                                      "a,b,c", "1,2,nan", "1,inf,2", "1 2 3"};
    struct file f = good_file();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const vit_model_options mean = {.heads = HEADS, .mean = bad[i]};
        const vit_model_options std = {.heads = HEADS, .std = bad[i]};
        check_refused(&f, &mean, QVIT_ERR_ARGUMENT, "mean");
        check_refused(&f, &std, QVIT_ERR_ARGUMENT, "std");
    }
    const vit_model_options zero = {.heads = HEADS, .std = "1,0,1"};
    check_refused(&f, &zero, QVIT_ERR_ARGUMENT, "not positive");
    f.metadata = "{\"mean\": \"0.5,0.5,0.5\"}";
    check_refused(&f, &two_heads, QVIT_ERR_FORMAT, "--std");
    f.metadata = "{\"mean\": \"grey\", \"std\": \"1,1,1\"}";
    check_refused(&f, &two_heads, QVIT_ERR_FORMAT, "grey");
}

/* ---- files ---- */

static void names_the_file(void)
{
    vit_model model;
    qvit_error error;
    CHECK(vit_model_open("/nowhere/at all", &two_heads, &model, &error) != QVIT_OK);
    CHECK(strstr(error.text, "/nowhere/at all") && !model.memory);

    static unsigned char bytes[MAX_FILE];
    struct file f = good_file();
    drop(&f, "norm.bias");
    char path[] = "/tmp/qvit-test-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    size_t size = put_file(&f, bytes);
    bool written = write(descriptor, bytes, size) == (ssize_t)size;
    qvit_status status = vit_model_open(path, &two_heads, &model, &error);
    close(descriptor);
    unlink(path);
    CHECK(written);
    CHECK_EQ(status, QVIT_ERR_FORMAT);
    CHECK(strstr(error.text, path) && strstr(error.text, "norm.bias"));
}

static void closes_twice(void)
{
    struct file f = good_file();
    vit_model model = read_good(&f);
    vit_model_close(&model);
    vit_model_close(&model);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(reads_sizes);
    RUN(reads_weights);
    RUN(folds_pixels);
    RUN(adds_the_class_tokens_position);
    RUN(widens_16_bits);
    RUN(needs_no_bias_of_qkv);
    RUN(options_replace_the_metadata);
    RUN(refuses_missing_tensors);
    RUN(refuses_unknown_tensors);
    RUN(refuses_wrong_shapes);
    RUN(refuses_other_types);
    RUN(refuses_what_is_not_finite);
    RUN(refuses_positions_of_no_square);
    RUN(refuses_heads_that_do_not_fit);
    RUN(refuses_bad_mean_and_std);
    RUN(names_the_file);
    RUN(closes_twice);
    return test_end();
}
