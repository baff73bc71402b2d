/*
 * test_card.c - the quantization card: strict JSON whatever sites are called, and numbers that are those
 * of the results.
 */
#include "calibration.h"

/* ---- a strict reader of JSON: checks all, and finds members by their paths ---- */

struct reader {
    const char *at, *end;
};

static void skip_value(struct reader *r);

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n')) r->at++;
}

static void expect(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c) FAIL("no '%c' at: %.40s", c, r->at);
    r->at++;
}

/* Bytes of the UTF-8 character here, by decoding it; fails on any that is not well-formed. */
static size_t character(const struct reader *r)
{
    const unsigned char *s = (const unsigned char *)r->at;
    size_t length = *s < 0x80 ? 1 : *s >= 0xF0 ? 4 : *s >= 0xE0 ? 3 : 2;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 1) return 1;
    uint32_t code = *s & (0xFFu >> (length + 1));
    CHECK(*s >= 0xC0 && *s < 0xF8 && (size_t)(r->end - r->at) >= length);
    for (size_t i = 1; i < length; i++) {
        CHECK((s[i] & 0xC0) == 0x80);
        code = code << 6 | (s[i] & 0x3Fu);
    }
    CHECK(code >= least[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF));
    return length;
}

static void skip_string(struct reader *r)
{
    expect(r, '"');
    while (r->at < r->end && *r->at != '"') {
        CHECK((unsigned char)*r->at >= 0x20);
        if (*r->at != '\\') {
            r->at += character(r);
            continue;
        }
        r->at++;
        if (*r->at == 'u') {
            for (int i = 1; i <= 4; i++) CHECK(strchr("0123456789abcdef", r->at[i]) && r->at[i]);
            r->at += 4;
        } else {
            CHECK(strchr("\"\\/bfnrt", *r->at) && *r->at);
        }
        r->at++;
    }
    expect(r, '"');
}

static size_t skip_digits(struct reader *r)
{
    size_t count = strspn(r->at, "0123456789");
    r->at += count;
    return count;
}

static void skip_number(struct reader *r)
{
    if (*r->at == '-') r->at++;
    int zero = *r->at == '0';
    size_t digits = skip_digits(r);
    CHECK(digits && (!zero || digits == 1));
    if (*r->at == '.') r->at++, digits = skip_digits(r);
    CHECK(digits);
    if (*r->at != 'e') return;
    r->at++;
    if (*r->at == '-' || *r->at == '+') r->at++;
    digits = skip_digits(r);
    CHECK(digits);
}

static void skip_word(struct reader *r)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++)
        if (!strncmp(r->at, words[i], strlen(words[i]))) {
            r->at += strlen(words[i]);
            return;
        }
    FAIL("no value: %.40s", r->at);
}

static void skip_members(struct reader *r, char open, char close)
{
    expect(r, open);
    skip_space(r);
    for (int first = 1; r->at < r->end && *r->at != close; first = 0) {
        if (!first) expect(r, ',');
        skip_space(r);
        if (open == '{') {
            skip_string(r);
            expect(r, ':');
            skip_space(r);
        }
        skip_value(r);
        skip_space(r);
    }
    expect(r, close);
}

static void skip_value(struct reader *r)
{
    CHECK(r->at < r->end);
    if (*r->at == '{') {
        skip_members(r, '{', '}');
    } else if (*r->at == '[') {
        skip_members(r, '[', ']');
    } else if (*r->at == '"') {
        skip_string(r);
    } else if (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')) {
        skip_number(r);
    } else {
        skip_word(r);
    }
}

static void check_json(const struct bytes *text)
{
    struct reader r = {(const char *)text->data, (const char *)text->data + text->size - 1};
    skip_value(&r);
    skip_space(&r);
    CHECK(r.at == r.end);
}

/* The value of an object's member or, where `key` is a number, of an array's element; NULL: none. */
static const char *step(const char *value, const char *key)
{
    struct reader r = {value, value + strlen(value)};
    int object = *r.at == '{';
    size_t number = object ? 0 : (size_t)strtoul(key, NULL, 10);
    CHECK(object || *r.at == '[');
    r.at++, skip_space(&r);
    while (*r.at != '}' && *r.at != ']') {
        const char *name = r.at + 1;
        if (object) {
            skip_string(&r);
            expect(&r, ':');
            skip_space(&r);
        }
        if (object ? !strncmp(name, key, strlen(key)) && name[strlen(key)] == '"' : !number--)
            return r.at;
        skip_value(&r);
        skip_space(&r);
        if (*r.at == ',') r.at++, skip_space(&r);
    }
    return NULL;
}

/* "sites.3.scores.loss"; NULL if a step leads nowhere. */
static const char *find(const struct bytes *card, const char *path)
{
    char copy[120];
    snprintf(copy, sizeof copy, "%s", path);
    const char *value = (const char *)card->data;
    for (char *key = copy, *next; value && key; key = next) {
        next = strchr(key, '.');
        if (next) *next++ = '\0';
        value = step(value, key);
    }
    return value;
}

static const char *have(const struct bytes *card, const char *path)
{
    const char *value = find(card, path);
    if (!value) FAIL("no %s", path);
    return value;
}

static void check_starts(const struct bytes *card, const char *path, const char *text)
{
    const char *value = have(card, path);
    if (strncmp(value, text, strlen(text))) FAIL("%s: %.60s, not %s", path, value, text);
}

/* To the digits of a float. */
static void check_number(const struct bytes *card, const char *path, double expected)
{
    const char *value = have(card, path);
    if (!isfinite(expected)) {
        check_starts(card, path, "null");
        return;
    }
    double found = strtod(value, NULL);
    if (!(fabs(found - expected) <= 1e-7 * fabs(expected)))
        FAIL("%s: %.17g, not %.17g", path, found, expected);
}

/* ---- cards ---- */

static int32_t append(void *user, const void *data, size_t size)
{
    CHECK(size > 0);
    bytes_add(user, data, size);
    return 0;
}

/* With a NUL behind it. */
static struct bytes card_with(const qvit_calibrator *c, const qvit_card_options *o)
{
    struct bytes card = {0};
    MUST(qvit_calibrator_card(c, o, append, &card, &why));
    CHECK_EQ(why.status, QVIT_OK);
    bytes_add(&card, "", 1);
    check_json(&card);
    return card;
}

static struct bytes card_of(const qvit_calibrator *c) { return card_with(c, NULL); }

/* ---- a small model ---- */

enum { SAMPLES = 6, ROWS = 5, INPUTS = 24, OUTPUTS = 20, HEADS = 2 };
enum { FC, GELU, SOFTMAX, SITES };

static qvit_calibrator *model_new(const qvit_engine *engine, const char *name)
{
    qvit_calibrator *c = calibrator_capped(engine, 7, 0, 0);
    static qvit_tensor weight, other, bias;
    weight = matrix(OUTPUTS, INPUTS, 0.3f), other = matrix(OUTPUTS, OUTPUTS, 0.3f);
    bias = normals(1, (size_t[]){OUTPUTS}, 1);
    qvit_site_options o = QVIT_SITE_OPTIONS_INIT;
    o.name = name, o.input_kind = QVIT_INPUT_LAYER_NORM, o.weight = &weight, o.bias = &bias;
    MUST(qvit_calibrator_add_site(c, &o, NULL, &why));
    add_linear(c, QVIT_INPUT_GELU, &other, NULL);
    add_matmul(c, QVIT_INPUT_SOFTMAX, HEADS, false);
    return c;
}

static qvit_tensor positive(qvit_tensor t, double factor)
{
    for (size_t i = 0; i < tensor_count(&t); i++)
        tensor_set(&t, i, factor * fabs(tensor_get(&t, i)));
    return t;
}

static void show_model(qvit_calibrator *c)
{
    qvit_tensor x = normals(3, (size_t[]){SAMPLES, ROWS, INPUTS}, 2);
    qvit_tensor hidden = normals(3, (size_t[]){SAMPLES, ROWS, OUTPUTS}, 1);
    qvit_tensor p = positive(normals(4, (size_t[]){SAMPLES, HEADS, ROWS, ROWS}, 1), 0.05);
    qvit_tensor v = normals(4, (size_t[]){SAMPLES, HEADS, ROWS, 3}, 1);
    observe(c, FC, &x);
    observe(c, GELU, &hidden);
    observe_pair(c, SOFTMAX, &p, &v);
}

static void check_quantizer(const struct bytes *card, const char *site, const char *side,
                            const qvit_quantizer *q)
{
    char path[100];
    size_t blocks = qvit_granularity_blocks(qvit_quantizer_granularity(q));
    snprintf(path, sizeof path, "%s.%s.bits", site, side);
    check_number(card, path, qvit_quantizer_bits(q));
    snprintf(path, sizeof path, "%s.%s.signed", site, side);
    check_starts(card, path, qvit_quantizer_code_dtype(q) == QVIT_DTYPE_S8 ? "true" : "false");
    for (size_t i = 0; blocks <= 16 && i < blocks; i++) {
        snprintf(path, sizeof path, "%s.%s.scale.%zu", site, side, i);
        check_number(card, path, (double)scale_of(q, i));
    }
    if (blocks <= 16) return;
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < blocks; i++)
        least = fmin(least, (double)scale_of(q, i)), most = fmax(most, (double)scale_of(q, i));
    snprintf(path, sizeof path, "%s.%s.scale.min", site, side);
    check_number(card, path, least);
    snprintf(path, sizeof path, "%s.%s.scale.max", site, side);
    check_number(card, path, most);
    snprintf(path, sizeof path, "%s.%s.scale.count", site, side);
    check_number(card, path, (double)blocks);
}

static void check_site(const struct bytes *card, const qvit_calibrator *c, size_t number)
{
    static const struct {
        const char *name;
        qvit_score_key key;
    } scores[] = {{"sqnr_db", QVIT_SCORE_SQNR_DB},
                  {"cosine", QVIT_SCORE_COSINE},
                  {"loss", QVIT_SCORE_LOSS},
                  {"saturated_input", QVIT_SCORE_SATURATED_INPUT},
                  {"saturated_second", QVIT_SCORE_SATURATED_SECOND}};
    const qvit_result *r = result_of(c, number);
    char site[40], path[100];
    snprintf(site, sizeof site, "sites.%zu", number);
    check_quantizer(card, site, "input", input_of(r));
    check_quantizer(card, site, "second", second_of(r));
    for (size_t i = 0; i < sizeof scores / sizeof scores[0]; i++) {
        snprintf(path, sizeof path, "%s.scores.%s", site, scores[i].name);
        check_number(card, path, qvit_result_score(r, scores[i].key));
    }
    if (number == SOFTMAX) return;
    snprintf(path, sizeof path, "%s.weight_bytes", site);
    check_number(card, path, (double)qvit_result_weight_bytes(r));
}

/* ---- tests ---- */

static void tells_what_results_hold(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    solve(c, "mse", 4, 6, "twin=softmax,gelu candidates=7 equalize=0.5 bias=corrected");
    struct bytes card = card_of(c);
    for (size_t i = 0; i < SITES; i++) check_site(&card, c, i);
    check_starts(&card, "format", "\"qvit card\"");
    check_number(&card, "version", 1);
    check_number(&card, "calibration.seed", 7);
    check_number(&card, "calibration.samples_kept", SAMPLES);
    check_starts(&card, "calibration.gradients", "false");
    check_starts(&card, "recipes.0.recipe", "\"mse\"");
    check_starts(&card, "recipes.0.metric", "\"mse\"");
    check_number(&card, "recipes.0.weight_bits", 4);
    check_number(&card, "recipes.0.candidates", 7);
    check_number(&card, "recipes.0.equalize", 0.5);
    check_starts(&card, "recipes.0.twin_gelu", "\"yes\"");
    check_starts(&card, "sites.0.name", "\"fc\"");
    check_starts(&card, "sites.0.kind", "\"layer norm\"");
    check_number(&card, "sites.0.rows_kept", SAMPLES * ROWS);
    check_number(&card, "sites.0.channel_scale.count", INPUTS);
    check_starts(&card, "sites.0.bias_changed", "true");
    check_starts(&card, "sites.0.codes", "\"s4\"");
    check_starts(&card, "sites.1.input.scheme", "\"twin gelu\"");
    check_number(&card, "sites.1.input.scale2.0", (double)scale2_of(input_of(result_of(c, GELU))));
    check_starts(&card, "sites.2.second.granularity", "\"head\"");
    CHECK(!find(&card, "recipes.1") && !find(&card, "sites.3"));
    bytes_free(&card);
    give_back();
}

/* Counts are all there, and edges have values between them. */
static void histograms_count_every_value(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    struct bytes card = card_of(c);
    double total = strtod(have(&card, "sites.0.histogram.tiny"), NULL);
    for (int side = 0; side < 2; side++) {
        char path[80];
        for (size_t i = 0;; i++) {
            snprintf(path, sizeof path, "sites.0.histogram.%s.counts.%zu",
                     side ? "positive" : "negative", i);
            const char *count = find(&card, path);
            snprintf(path, sizeof path, "sites.0.histogram.%s.edges.%zu",
                     side ? "positive" : "negative", i + 1);
            CHECK(!count == !find(&card, path));
            if (!count) break;
            total += strtod(count, NULL);
        }
    }
    CHECK_EQ(total, SAMPLES * ROWS * INPUTS);
    bytes_free(&card);
    give_back();
}

static void sites_solved_apart_have_recipes_of_their_own(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    solve(c, "minmax", 8, 8, NULL);
    qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
    o.sites = (size_t[]){GELU}, o.site_count = 1, o.recipe = "percentile", o.weight_bits = 6;
    MUST(qvit_calibrator_solve(c, &o, &why));
    struct bytes card = card_of(c);
    check_number(&card, "sites.0.solved_with", 0);
    check_number(&card, "sites.1.solved_with", 1);
    check_number(&card, "sites.2.solved_with", 0);
    check_starts(&card, "recipes.1.recipe", "\"percentile\"");
    CHECK(!find(&card, "recipes.2"));
    bytes_free(&card);
    give_back();
}

static void zero_points_of_weights_are_told(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    static const char *const ways[] = {"weight-codes=asymmetric weights=layer",
                                       "weight-codes=asymmetric"};
    for (int by_row = 0; by_row < 2; by_row++) {
        solve(c, "minmax", 4, 8, ways[by_row]);
        struct bytes card = card_of(c);
        check_starts(&card, "sites.0.codes", "\"u4\"");
        check_starts(&card, "sites.0.second.scheme", "\"asymmetric\"");
        const qvit_quantizer *q = second_of(result_of(c, 0));
        const size_t blocks = qvit_granularity_blocks(qvit_quantizer_granularity(q));
        if (by_row)
            check_number(&card, "sites.0.second.zero_point.count", (double)blocks);
        else
            check_number(&card, "sites.0.second.zero_point", (double)zero_of(q));
        bytes_free(&card);
    }
    give_back();
}

/* Each setting is one of the recipe's members, and sites that differ in it alone differ in recipe. */
static void settings_are_told(void)
{
    static const struct {
        const char *setting, *member, *value;
    } cases[] = {
        {"metric=mse", "metric", "\"mse\""},
        {"twin=softmax", "twin_softmax", "\"yes\""},
        {"twin=gelu", "twin_gelu", "\"yes\""},
        {"ratio=low", "ratio", "\"low\""},
        {"uneven=4", "uneven", "4"},
        {"input=symmetric", "input", "\"symmetric\""},
        {"weights=layer", "weights", "\"layer\""},
        {"weight-codes=asymmetric", "weight_codes", "\"asymmetric\""},
        {"row-blocks=2", "row_blocks", "2"},
        {"column-blocks=2", "column_blocks", "2"},
        {"block-length=4", "block_length", "4"},
        {"chunks=2", "chunks", "2"},
        {"reorder=sort", "reorder", "\"sort\""},
        {"percentile=99", "percentile", "99"},
        {"low=0.75", "low", "0.75"},
        {"high=1.5", "high", "1.5"},
        {"candidates=3", "candidates", "3"},
        {"grid=inverse", "grid", "\"inverse\""},
        {"refine=3", "refine", "3"},
        {"rounds=2", "rounds", "2"},
        {"equalize=0.5", "equalize", "0.5"},
        {"equalize-gelu=0.5", "equalize_gelu", "0.5"},
        {"channel-floor=0.5", "channel_floor", "0.5"},
        {"gelu-floor=0.5", "gelu_floor", "0.5"},
        {"channels=centered", "channels", "\"centered\""},
        {"clip=channels", "clip", "\"channels\""},
        {"probabilities=relative", "probabilities", "\"relative\""},
        {"values=channel", "values", "\"channel\""},
        {"margin=0.5", "margin", "0.5"},
        {"headroom=0.5", "headroom", "0.5"},
        {"rounding=gptq", "rounding", "\"gptq\""},
        {"damping=0.5", "damping", "0.5"},
        {"passes=2", "passes", "2"},
        {"ridge=2", "ridge", "2"},
        {"row-floor=0.5", "row_floor", "0.5"},
        {"bias=corrected", "bias", "\"corrected\""},
        {"sensitivity=nuclear", "sensitivity", "\"nuclear\""},
        {"order=prefix", "order", "\"prefix\""},
    };
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[64];
        solve(c, "minmax", 8, 8, NULL);
        qvit_solve_options o = QVIT_SOLVE_OPTIONS_INIT;
        o.sites = (size_t[]){GELU}, o.site_count = 1;
        o.settings = &cases[i].setting, o.setting_count = 1;
        MUST(qvit_calibrator_solve(c, &o, &why));
        struct bytes card = card_of(c);
        snprintf(path, sizeof path, "recipes.1.%s", cases[i].member);
        check_starts(&card, path, cases[i].value);
        bytes_free(&card);
    }
    give_back();
}

static void unsolved_and_unseen_sites_are_named(void)
{
    qvit_calibrator *empty = calibrator_new(engine_new()), *c = model_new(engine_new(), NULL);
    struct bytes card = card_of(c), nothing = card_of(empty);
    check_starts(&card, "sites.1.solved", "false");
    check_starts(&card, "sites.1.observed", "false");
    check_starts(&card, "warnings.0", "\"site 0: nothing was observed\"");
    check_starts(&card, "warnings.1", "\"site 0 is not solved\"");
    CHECK(!find(&card, "recipes.0") && !find(&card, "sites.0.input"));
    CHECK(!find(&card, "sites.0.histogram") && !find(&nothing, "sites.0"));
    bytes_free(&card), bytes_free(&nothing);
    give_back();
}

static void warns_of_noise_and_collapse(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    solve(c, "minmax", 8, 8, NULL);
    struct bytes good = card_of(c);
    CHECK(!find(&good, "warnings.0"));
    const qvit_fidelity end[SITES] = {{30, 1}, {2, 0.6}, {NAN, NAN}};
    const qvit_card_options o = {sizeof o, end, SITES};
    struct bytes collapsed = card_with(c, &o);
    CHECK(strstr(have(&collapsed, "warnings.0"), "chance"));
    CHECK(!find(&collapsed, "warnings.1"));
    check_number(&collapsed, "sites.1.accumulated.sqnr_db", 2);
    check_starts(&collapsed, "sites.2.accumulated.cosine", "null");
    solve(c, "minmax", 2, 2, NULL);
    struct bytes bad = card_of(c);
    CHECK(strstr(have(&bad, "warnings.0"), "chance"));
    CHECK(find(&bad, "warnings.1"));
    bytes_free(&good), bytes_free(&collapsed), bytes_free(&bad);
    give_back();
}

/* The same state and results, the same bytes; asking changes nothing. */
static void same_state_same_bytes(void)
{
    uint64_t start = test_run.state;
    struct bytes card[3];
    for (int i = 0; i < 3; i++) {
        test_run.state = start;
        qvit_calibrator *c = model_new(engine_new(), "fc");
        show_model(c);
        solve(c, "cosine", 6, 6, "candidates=5");
        card[i] = card_of(c);
        struct bytes again = card_of(c);
        CHECK(bytes_equal(&card[i], &again));
        bytes_free(&again);
    }
    CHECK(bytes_equal(&card[0], &card[1]) && bytes_equal(&card[0], &card[2]));
    for (int i = 0; i < 3; i++) bytes_free(&card[i]);
    give_back();
}

/* Whatever a site is called, its card is JSON in UTF-8: the reader checks that. */
static void any_name_will_do(void)
{
    static const struct {
        const char *name, *written;
    } names[] = {
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\x01\n\t\x1f\x7f", "\"\\u0001\\u000a\\u0009\\u001f\\u007f\""},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E\""},
        {"\xFF", "\"\xEF\xBF\xBD\""},
        {"\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* overlong */
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* a surrogate */
        {"\xE2\x82", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* cut off */
        {"", "\"\""},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bytes card = card_of(model_new(engine_new(), names[i].name));
        check_starts(&card, "sites.0.name", names[i].written);
        bytes_free(&card);
        give_back();
    }
    for (int run = 0; run < 50; run++) {
        char name[200] = {0};
        for (size_t i = 0, n = test_below(199); i < n; i++) name[i] = (char)(1 + test_below(255));
        struct bytes card = card_of(model_new(engine_new(), name));
        bytes_free(&card);
        give_back();
    }
}

struct refusing {
    size_t calls, good;
};

static int32_t refuse(void *user, const void *data, size_t size)
{
    struct refusing *r = user;
    (void)data, (void)size;
    CHECK(r->calls <= r->good); /* it is not called again */
    return r->calls++ == r->good ? -7 : 0;
}

static void refused_bytes_are_an_error(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    show_model(c);
    struct refusing all = {0, SIZE_MAX};
    MUST(qvit_calibrator_card(c, NULL, refuse, &all, &why));
    CHECK(all.calls > 1);
    for (size_t good = 0; good < all.calls; good++) {
        struct refusing r = {0, good};
        CHECK_EQ(qvit_calibrator_card(c, NULL, refuse, &r, &why), QVIT_ERR_IO);
        CHECK(strstr(why.text, "-7"));
    }
    give_back();
}

static void refuses_bad_arguments(void)
{
    qvit_calibrator *c = model_new(engine_new(), "fc");
    const qvit_fidelity one = {1, 1};
    qvit_card_options o = QVIT_CARD_OPTIONS_INIT;
    struct bytes out = {0};
    CHECK_EQ(qvit_calibrator_card(NULL, NULL, append, &out, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_calibrator_card(c, NULL, NULL, NULL, &why), QVIT_ERR_ARGUMENT);
    CHECK_EQ(qvit_calibrator_card(NULL, NULL, NULL, NULL, NULL), QVIT_ERR_ARGUMENT);
    o.accumulated_count = SITES;
    CHECK_EQ(qvit_calibrator_card(c, &o, append, &out, &why), QVIT_ERR_ARGUMENT);
    o.accumulated = &one, o.accumulated_count = 1;
    CHECK_EQ(qvit_calibrator_card(c, &o, append, &out, &why), QVIT_ERR_SHAPE);
    CHECK_EQ(out.size, 0);
    give_back();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(tells_what_results_hold);
    RUN(histograms_count_every_value);
    RUN(sites_solved_apart_have_recipes_of_their_own);
    RUN(zero_points_of_weights_are_told);
    RUN(settings_are_told);
    RUN(unsolved_and_unseen_sites_are_named);
    RUN(warns_of_noise_and_collapse);
    RUN(same_state_same_bytes);
    RUN(any_name_will_do);
    RUN(refused_bytes_are_an_error);
    RUN(refuses_bad_arguments);
    return test_end();
}
