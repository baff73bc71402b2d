/* What the safetensors reader takes, what it refuses, and that no bytes make it leave the file. */
#define _POSIX_C_SOURCE 200809L

#include "half.h"
#include "safetensors.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>
#include <unistd.h>

struct blob {
    unsigned char *bytes;
    size_t size;
};

static void put_length(unsigned char *to, uint64_t length)
{
    for (int i = 0; i < 8; i++) to[i] = (unsigned char)(length >> 8 * i);
}

/* A file of this header and of data bytes 0, 1, 2, ..., 250, 0, ... */
static struct blob file_of(const char *header, size_t data_size)
{
    size_t length = strlen(header);
    struct blob file = {malloc(8 + length + data_size), 8 + length + data_size};
    put_length(file.bytes, length);
    memcpy(file.bytes + 8, header, length);
    for (size_t i = 0; i < data_size; i++) file.bytes[8 + length + i] = (unsigned char)(i % 251);
    return file;
}

/* Of every kind of thing a header can hold; 40 bytes of data. */
static const char good_header[] =
    "{\"__metadata__\":{\"mean\":\"0.5\",\"\\u00e9\":\"a\\nb\"},"
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"shape\":[3],\"data_offsets\":[24,30],\"dtype\":\"BF16\"},"
    "\"e\":{\"dtype\":\"I8\",\"shape\":[7,0],\"data_offsets\":[30,30]},"
    "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[30,31]},"
    "\"p\":{\"dtype\":\"BOOL\",\"shape\":[9],\"data_offsets\":[31,40]}}  ";
enum { GOOD_DATA = 40 };

/* Makes the reads of touched bytes happen. */
static volatile unsigned char last_touched;

/*
 * Parses a copy that ends where its memory ends, for the sanitizers to see a read beyond it. Either
 * answer must be whole: an error has a message and leaves nothing, a success only tensors inside
 * the file, whose bytes are touched. Returns what safetensors_parse does.
 */
static int parse(const void *bytes, size_t size, char *message, size_t message_size)
{
    unsigned char *copy = malloc(size);
    safetensors st;
    if (size > 0) memcpy(copy, bytes, size);
    message[0] = '\0';
    int status = safetensors_parse(copy, size, &st, message, message_size);
    if (status) {
        CHECK(message[0] != '\0');
        CHECK(!st.tensors && !st.metadata && !st.text && !st.count && !st.metadata_count);
    }
    size_t total = 0;
    for (size_t i = 0; i < st.count; i++) {
        const safetensors_tensor *t = &st.tensors[i];
        CHECK(t->data >= copy + 8 && t->data <= copy + size);
        CHECK(t->size <= (size_t)(copy + size - t->data));
        CHECK(t->rank <= SAFETENSORS_MAX_RANK);
        CHECK(safetensors_find(&st, t->name) == t);
        for (size_t k = 0; k < t->size; k++) last_touched = t->data[k];
        total += t->size;
    }
    CHECK(total <= size);
    for (size_t i = 0; i < st.metadata_count; i++)
        CHECK(safetensors_metadata(&st, st.metadata[i].key) == st.metadata[i].value);
    safetensors_close(&st);
    free(copy);
    return status;
}

static int parse_quietly(const void *bytes, size_t size)
{
    char message[200];
    return parse(bytes, size, message, sizeof message);
}

/* The file must be refused, and the message must hold the text. */
static void refuse(const char *header, size_t data_size, const char *text)
{
    char message[200];
    struct blob file = file_of(header, data_size);
    if (!parse(file.bytes, file.size, message, sizeof message)) FAIL("taken: %.200s", header);
    if (!strstr(message, text)) FAIL("\"%s\" does not say \"%s\": %.200s", message, text, header);
    free(file.bytes);
}

static void accept(const char *header, size_t data_size)
{
    char message[200];
    struct blob file = file_of(header, data_size);
    if (parse(file.bytes, file.size, message, sizeof message))
        FAIL("refused (%s): %.200s", message, header);
    free(file.bytes);
}

static void every_tensor_is_found_with_its_type_shape_and_bytes(void)
{
    static const struct {
        const char *name;
        safetensors_dtype dtype;
        unsigned rank;
        size_t dims[2], begin, size;
    } expected[] = {
        {"w", SAFETENSORS_F32, 2, {2, 3}, 0, 24},  {"b", SAFETENSORS_BF16, 1, {3, 0}, 24, 6},
        {"e", SAFETENSORS_I8, 2, {7, 0}, 30, 0},   {"s", SAFETENSORS_U8, 0, {0, 0}, 30, 1},
        {"p", SAFETENSORS_BOOL, 1, {9, 0}, 31, 9},
    };
    struct blob file = file_of(good_header, GOOD_DATA);
    safetensors st;
    CHECK_EQ(safetensors_parse(file.bytes, file.size, &st, NULL, 0), 0);
    CHECK_EQ(st.count, 5);
    const unsigned char *data = file.bytes + 8 + strlen(good_header);
    for (size_t i = 0; i < 5; i++) {
        const safetensors_tensor *t = safetensors_find(&st, expected[i].name);
        CHECK(t != NULL);
        CHECK_EQ(t->dtype, expected[i].dtype);
        CHECK_EQ(t->rank, expected[i].rank);
        for (unsigned d = 0; d < t->rank; d++) CHECK_EQ(t->dims[d], expected[i].dims[d]);
        CHECK(t->data == data + expected[i].begin);
        CHECK_EQ(t->size, expected[i].size);
    }
    CHECK(safetensors_find(&st, "x") == NULL);
    CHECK(safetensors_find(&st, "") == NULL);
    CHECK_STR(safetensors_metadata(&st, "mean"), "0.5");
    CHECK_STR(safetensors_metadata(&st, "\xC3\xA9"), "a\nb");
    CHECK(safetensors_metadata(&st, "std") == NULL);
    safetensors_close(&st);
    safetensors_close(&st);
    free(file.bytes);
}

static void whitespace_padding_and_emptiness_are_taken(void)
{
    accept("{}", 0);
    accept(" \t\r\n{ } \n", 0);
    accept("{\"__metadata__\":{}}", 0);
    accept("{ \"a\" : { \"dtype\" : \"I16\" , \"shape\" : [ 1 , 2 ] , \"data_offsets\" :"
           " [ 0 , 4 ] } , \"__metadata__\" : { \"k\" : \"v\" } }",
           4);
    accept("{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1);
    accept("{\"a\":{\"dtype\":\"F64\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,8]}}", 8);
    accept("{\"a\":{\"dtype\":\"F32\",\"shape\":[0,99999],\"data_offsets\":[0,0]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
           0);
}

static void every_type_has_its_width(void)
{
    static const struct {
        const char *name;
        size_t size;
    } types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                 {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                 {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t size = 1; size <= 8; size++) {
            char header[128];
            snprintf(header, sizeof header,
                     "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                     types[i].name, 3 * size);
            if (size == types[i].size)
                accept(header, 3 * size);
            else
                refuse(header, 3 * size, "do not agree");
        }
    }
}

static void escapes_and_utf8_are_decoded(void)
{
    struct blob file = file_of("{\"__metadata__\":{"
                               "\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\","
                               "\"b\":\"\\u0041\\u00E9\\u20ac\\ud83d\\ude00\\uFFFF\\u007f\\u0080\","
                               "\"c\":\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80"
                               "\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"}}",
                               0);
    safetensors st;
    CHECK_EQ(safetensors_parse(file.bytes, file.size, &st, NULL, 0), 0);
    CHECK_STR(safetensors_metadata(&st, "a"), "\"\\/\b\f\n\r\t");
    CHECK_STR(safetensors_metadata(&st, "b"),
              "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBF\x7F\xC2\x80");
    CHECK_STR(safetensors_metadata(&st, "c"),
              "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80"
              "\xF4\x8F\xBF\xBF");
    safetensors_close(&st);
    free(file.bytes);
}

static void malformed_strings_are_refused(void)
{
    static const char *const texts[][2] = {
        {"\\x41", "no escape"},
        {"\\U0041", "no escape"},
        {"\\u00g1", "hexadecimal"},
        {"\\u12", "hexadecimal"},
        {"a\x01", "control"},
        {"a\tb", "control"},
        {"\\u0000", "zero"},
        {"\\ud800", "surrogate"},
        {"\\ud800x", "surrogate"},
        {"\\ud800\\n", "surrogate"},
        {"\\ud800\\u0041", "surrogate"},
        {"\\udc00", "surrogate"},
        {"\\ud800\\ud800", "surrogate"},
        {"\x80", "UTF-8"},
        {"\xC0\x80", "UTF-8"},
        {"\xC1\xBF", "UTF-8"},
        {"\xC3", "UTF-8"},
        {"\xC3(", "UTF-8"},
        {"\xE0\x9F\xBF", "UTF-8"},
        {"\xED\xA0\x80", "UTF-8"},
        {"\xF0\x8F\xBF\xBF", "UTF-8"},
        {"\xF4\x90\x80\x80", "UTF-8"},
        {"\xF5\x80\x80\x80", "UTF-8"},
        {"\xFF", "UTF-8"},
        {"\xE2\x82(", "UTF-8"},
        {"a\x1F", "control"},
        {"\\ud800\\ue000", "surrogate"},
        {"\\ud800\\uffff", "surrogate"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char header[128];
        snprintf(header, sizeof header, "{\"__metadata__\":{\"k\":\"%s\"}}", texts[i][0]);
        refuse(header, 0, texts[i][1]);
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", texts[i][0]);
        refuse(header, 1, texts[i][1]);
    }
}

static void headers_that_are_no_json_are_refused(void)
{
    static const char *const headers[] = {
        "",
        " ",
        "[]",
        "null",
        "{",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1}",
        "{\"a\":null}",
        "{\"a\":{}}",
        "{'a':{}}",
        "{}}",
        "{}{}",
        "{}\x01",
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":{}}}",
        "{\"__metadata__\":{\"a\":\"b\",}}",
        "{\"__metadata__\":{\"a\":\"b\"",
        "{\"__metadata__\":{\"a\":\"b\"},}",
        "{\"__metadata__\":{\"a\":\"b\"} /**/}",
        "{\"__metadata__\":{}\"a\":{}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) refuse(headers[i], 0, "byte ");
}

static void malformed_tensors_are_refused(void)
{
    /* What follows the tensor's name; each with four bytes of data. */
    static const char *const tensors[][2] = {
        {"{\"dtype\":\"F32\",\"shape\":[1]}", "lacks"},
        {"{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", "lacks"},
        {"{\"shape\":[1],\"data_offsets\":[0,4]}", "lacks"},
        {"{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", "twice"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}", "twice"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":[]}", "no such member"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],}", "string"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]]", "'}'"},
        {"{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}", "dtype is unknown"},
        {"{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}", "dtype is unknown"},
        {"{\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,4]}", "dtype is unknown"},
        {"{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}", "string"},
        {"{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}", "array"},
        {"{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}", "number without sign"},
        {"{\"dtype\":\"F32\",\"shape\":[+1],\"data_offsets\":[0,4]}", "number without sign"},
        {"{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}", "zero"},
        {"{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}", "','"},
        {"{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}", "','"},
        {"{\"dtype\":\"F32\",\"shape\":[1,],\"data_offsets\":[0,4]}", "number"},
        {"{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}", "number"},
        {"{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}", "number"},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}", "too many"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[]}", "two numbers"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}", "two numbers"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}", "too many"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}", "beyond the end"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", "beyond the end"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}", "before they begin"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}", "do not agree"},
        {"{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]}", "do not agree"},
        {"{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,3]}", "do not agree"},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char header[160];
        snprintf(header, sizeof header, "{\"a\":%s}", tensors[i][0]);
        refuse(header, 4, tensors[i][1]);
    }
}

static void products_and_numbers_that_wrap_are_refused(void)
{
    /* Shape and offsets of F32 tensors that agree modulo 2^64 or 2^32. */
    static const char *const cases[][2] = {
        {"[4611686018427387904]", "[0,0]"},
        {"[4611686018427387905]", "[0,4]"},
        {"[4294967296,4294967296]", "[0,0]"},
        {"[4294967296,4294967296,0]", "[0,0]"},
        {"[2147483648,2147483648,4]", "[0,0]"},
        {"[1073741825]", "[0,4]"},
        {"[18446744073709551615]", "[0,18446744073709551612]"},
        {"[18446744073709551617]", "[0,4]"},
        {"[1]", "[0,18446744073709551620]"},
        {"[1]", "[18446744073709551612,18446744073709551616]"},
        {"[1]", "[18446744073709551612,0]"},
        {"[99999999999999999999999999999999999999]", "[0,4]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[160];
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":%s}}", cases[i][0],
                 cases[i][1]);
        for (size_t data = 0; data <= 4; data += 4) refuse(header, data, "byte ");
    }
}

/* Two U8 tensors at the given places. */
static const char *two_tensors(size_t b0, size_t e0, size_t b1, size_t e1)
{
    static char header[256];
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]},"
             "\"b\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
             e0 - b0, b0, e0, e1 - b1, b1, e1);
    return header;
}

/* Two intervals tile [0, 6) in four ways only, of which every pair of intervals is held against. */
static void tensors_must_tile_the_data(void)
{
    enum { N = 6 };
    for (size_t b0 = 0; b0 <= N; b0++)
        for (size_t e0 = b0; e0 <= N; e0++)
            for (size_t b1 = 0; b1 <= N; b1++)
                for (size_t e1 = b1; e1 <= N; e1++) {
                    const char *header = two_tensors(b0, e0, b1, e1);
                    if ((b0 == 0 && e0 == b1 && e1 == N) || (b1 == 0 && e1 == b0 && e0 == N))
                        accept(header, N);
                    else
                        refuse(header, N, "byte ");
                }
    refuse(two_tensors(0, 4, 3, 6), 6, "overlaps");
    refuse(two_tensors(0, 6, 0, 6), 6, "overlaps");
    refuse(two_tensors(0, 2, 3, 6), 6, "no tensor has the bytes before");
    refuse(two_tensors(0, 3, 3, 5), 6, "no tensor has the bytes from here");
    refuse("{}", 1, "no tensor has the bytes from here");
}

static void names_and_keys_must_differ(void)
{
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
           2, "byte 62: two tensors have this name");
    refuse("{\"__metadata__\":{\"k\":\"1\",\"l\":\"2\",\"k\":\"1\"}}", 0,
           "byte 42: __metadata__ has this key twice");
    refuse("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice");
}

static void messages_name_the_byte(void)
{
    refuse("{} x", 0, "byte 11: the header goes on after its object");
    refuse("{\"a\":{\"dtype\":\"F33\"}}", 0, "byte 23: the dtype is unknown");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,99999999999999999999]}}", 0,
           "byte 39: the number is too large");
}

static void a_file_cut_anywhere_is_refused(void)
{
    struct blob file = file_of(good_header, GOOD_DATA);
    for (size_t size = 0; size < file.size; size++)
        if (!parse_quietly(file.bytes, size)) FAIL("taken at %zu bytes", size);
    CHECK_EQ(parse_quietly(file.bytes, file.size), 0);
    free(file.bytes);
}

/* Here the length says so, and no data is behind the header that a reader could stray into. */
static void a_header_cut_anywhere_is_refused(void)
{
    static const char header[] =
        "{\"__metadata__\":{\"\\n\\u0041\\ud83d\\ude00\":\"\xC3\xA9\xE2\x82\xAC"
        "\xF0\x9F\x98\x80\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,0],"
        "\"data_offsets\":[0,0]}}";
    accept(header, 0);
    for (size_t length = 0; length < sizeof header - 1; length++) {
        char cut[sizeof header];
        memcpy(cut, header, length);
        cut[length] = '\0';
        refuse(cut, 0, "byte ");
    }
}

static void a_longer_file_is_refused(void)
{
    struct blob file = file_of(good_header, GOOD_DATA + 1);
    CHECK(parse_quietly(file.bytes, file.size));
    free(file.bytes);
}

static void no_damaged_byte_leads_out_of_the_file(void)
{
    struct blob file = file_of(good_header, GOOD_DATA);
    for (size_t i = 0; i < file.size; i++) {
        unsigned char was = file.bytes[i];
        unsigned values[14] = {0x00, 0xFF, 0x7F, 0x80, was + 1u, was - 1u};
        for (unsigned bit = 0; bit < 8; bit++) values[6 + bit] = was ^ 1u << bit;
        for (size_t k = 0; k < 14; k++) {
            file.bytes[i] = (unsigned char)values[k];
            int status = parse_quietly(file.bytes, file.size);
            if (i < 8) CHECK(file.bytes[i] == was || status);
            if (i >= file.size - GOOD_DATA) CHECK_EQ(status, 0);
        }
        file.bytes[i] = was;
    }
    free(file.bytes);
}

static void random_damage_never_leads_out_of_the_file(void)
{
    struct blob file = file_of(good_header, GOOD_DATA);
    unsigned char *damaged = malloc(file.size);
    for (int round = 0; round < 20000; round++) {
        memcpy(damaged, file.bytes, file.size);
        for (size_t n = 1 + test_below(4); n > 0; n--) {
            size_t to = test_below(file.size), from = test_below(file.size), length = 1;
            if (test_below(2)) length += test_below(file.size - (to > from ? to : from));
            if (test_below(2))
                damaged[to] = (unsigned char)test_random();
            else
                memmove(damaged + to, damaged + from, length);
        }
        /* Most damage should hit what is behind the length. */
        if (test_below(8)) memcpy(damaged, file.bytes, 8);
        parse_quietly(damaged, file.size);
    }
    free(damaged);
    free(file.bytes);
}

static void a_wrong_header_length_is_refused(void)
{
    struct blob file = file_of(good_header, GOOD_DATA);
    uint64_t right = strlen(good_header);
    /* The header ends in two spaces, which may as well be absent; data then begins too early. */
    const uint64_t lengths[] = {0,
                                1,
                                7,
                                8,
                                right - 1,
                                right + 1,
                                file.size - 8,
                                file.size - 7,
                                file.size,
                                file.size + 1,
                                100000000,
                                100000001,
                                (uint64_t)1 << 31,
                                UINT32_MAX,
                                (uint64_t)1 << 32,
                                (uint64_t)1 << 63,
                                UINT64_MAX - 8,
                                UINT64_MAX - 7,
                                UINT64_MAX - 1,
                                UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_length(file.bytes, lengths[i]);
        if (!parse_quietly(file.bytes, file.size))
            FAIL("length %llu taken", (unsigned long long)lengths[i]);
    }
    char message[200];
    put_length(file.bytes, SAFETENSORS_MAX_HEADER + 1);
    parse(file.bytes, file.size, message, sizeof message);
    CHECK_STR(message, "byte 0: the header is longer than 100 MB");
    put_length(file.bytes, right);
    CHECK_EQ(parse_quietly(file.bytes, file.size), 0);
    free(file.bytes);
}

static void every_number_of_the_header_is_checked(void)
{
    static const char *const numbers[] = {"0",
                                          "1",
                                          "2147483647",
                                          "2147483648",
                                          "4294967295",
                                          "4294967296",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "18446744073709551614",
                                          "18446744073709551615",
                                          "18446744073709551616",
                                          "-1",
                                          "1e3",
                                          "NaN",
                                          "Infinity",
                                          ""};
    unsigned replaced = 0;
    for (const char *c = strchr(good_header, '['); *c; c++) {
        if (*c != '[' && *c != ',') continue;
        size_t head = (size_t)(c + 1 - good_header), digits = strspn(c + 1, "0123456789");
        if (digits == 0) continue;
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            char header[sizeof good_header + 32];
            snprintf(header, sizeof header, "%.*s%s%s", (int)head, good_header, numbers[i],
                     c + 1 + digits);
            struct blob file = file_of(header, GOOD_DATA);
            int status = parse_quietly(file.bytes, file.size);
            free(file.bytes);
            /* The one dim that may be any number: "e" is empty whatever its other dim. */
            bool free_dim = !strncmp(c, "[7,0]", 5) && i < 10;
            bool same = digits == strlen(numbers[i]) && !strncmp(c + 1, numbers[i], digits);
            if ((status == 0) != (free_dim || same))
                FAIL("status %d with %s in %.*s", status, numbers[i], 30, c);
            replaced++;
        }
    }
    CHECK_EQ(replaced, 16 * 16);
}

/* Text that repeats a piece many times between two others. */
static char *repeated(const char *before, const char *piece, size_t times, const char *after)
{
    size_t length = strlen(piece), head = strlen(before);
    char *text = malloc(head + length * times + strlen(after) + 1);
    strcpy(text, before);
    for (size_t i = 0; i < times; i++) memcpy(text + head + i * length, piece, length);
    strcpy(text + head + length * times, after);
    return text;
}

static void nesting_rank_and_names_of_any_size_do_no_harm(void)
{
    static const struct {
        const char *before, *piece, *after, *message;
    } cases[] = {
        {"", "[", "", "object"},
        {"", "{", "", "string"},
        {"{", "\"a\":{", "", "no such member"},
        {"{\"a\":{\"shape\":", "[", "", "number"},
        {"{\"__metadata__\":{\"a\":", "{\"a\":", "", "string"},
        {"{\"a\":{\"shape\":[1", ",1", "]}}", "too many"},
        {"{\"a\":{\"shape\":[1", "0", "]}}", "too large"},
        {"{\"a\":{\"shape\":[", "0", "1]}}", "zero"},
        {"{\"", "a", "", "inside a string"},
        {"", " ", "", "object"},
        {"{\"a\":{\"dtype\":\"", "U8", "\"}}", "dtype is unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *header = repeated(cases[i].before, cases[i].piece, 1000000, cases[i].after);
        refuse(header, 0, cases[i].message);
        free(header);
    }
    char *header = repeated("{\"", "a{", 1000000,
                            "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}");
    accept(header, 1);
    free(header);
}

static void metadata_is_limited_in_number(void)
{
    enum { MEMBER = 11 };
    for (size_t count = SAFETENSORS_MAX_METADATA; count <= SAFETENSORS_MAX_METADATA + 1; count++) {
        char *header = malloc(32 + MEMBER * count), *to = header;
        for (size_t i = 0; i < count; i++)
            to += sprintf(to, "%s\"%05zu\":\"\"", i ? "," : "{\"__metadata__\":{", i);
        strcpy(to, "}}");
        if (count == SAFETENSORS_MAX_METADATA)
            accept(header, 0);
        else
            refuse(header, 0, "too many members");
        free(header);
    }
}

/* As many tensors as the text of a header can describe, in random order of their places. */
static void thousands_of_the_shortest_tensors_are_all_found(void)
{
    enum { N = 5000, TEXT = 72 };
    char *header = malloc(N * TEXT), *to = header;
    static unsigned places[N];
    for (unsigned i = 0; i < N; i++) places[i] = i;
    for (unsigned i = N - 1; i > 0; i--) {
        unsigned k = (unsigned)test_below(i + 1), was = places[i];
        places[i] = places[k];
        places[k] = was;
    }
    for (unsigned i = 0; i < N; i++)
        to += sprintf(to, "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%u,%u]}",
                      i ? ',' : '{', i, places[i], places[i] + 1);
    strcpy(to, "}");
    struct blob file = file_of(header, N);
    safetensors st;
    char message[200];
    if (safetensors_parse(file.bytes, file.size, &st, message, sizeof message)) FAIL("%s", message);
    CHECK_EQ(st.count, N);
    for (unsigned i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "%x", i);
        const safetensors_tensor *t = safetensors_find(&st, name);
        CHECK(t && t->size == 1 && t->data == file.bytes + file.size - N + places[i]);
    }
    safetensors_close(&st);
    free(file.bytes);
    free(header);
}

/* The value of a 16-bit float with that many bits of exponent, by the definition of IEEE 754. */
static double defined_value(unsigned bits, int exponent_bits)
{
    int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    double fraction = ldexp(bits & ((1u << fraction_bits) - 1), -fraction_bits);
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return fraction > 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias);
    return sign * ldexp(1 + fraction, exponent - bias);
}

static void check_same_value(float value, double expected, unsigned bits)
{
    bool same = isnan(expected) ? isnan(value)
                                : value == (float)expected && !signbit(value) == !signbit(expected);
    if (!same) FAIL("%#06x became %g, not %g", bits, (double)value, expected);
}

static void all_65536_halves_and_bfloat16s_convert_exactly(void)
{
    for (unsigned bits = 0; bits < 65536; bits++) {
        check_same_value(half_to_float((uint16_t)bits), defined_value(bits, 5), bits);
        check_same_value(bfloat16_to_float((uint16_t)bits), defined_value(bits, 8), bits);
    }
}

/* An odd address and little-endian bytes, whatever the machine. */
static void tensors_convert_from_any_address(void)
{
    static const unsigned char bytes[] = {0xEE, 0x00, 0x3C, 0x80, 0xBF, 0x01, 0x00, 0x80, 0x3F};
    safetensors_tensor t = {.data = bytes + 1, .size = 8, .dtype = SAFETENSORS_F16};
    float out[5] = {0, 0, 0, 0, 77};
    CHECK_EQ(safetensors_to_f32(&t, out), 0);
    CHECK(out[0] == 1.0f && out[1] == -1.875f && out[2] == 0x1p-24f && out[3] == 1.875f);
    t.dtype = SAFETENSORS_BF16;
    CHECK_EQ(safetensors_to_f32(&t, out), 0);
    CHECK(out[0] == 0x1p-7f && out[1] == -1.0f && out[2] == 0x1p-133f && out[3] == 1.0f);
    t.dtype = SAFETENSORS_F32;
    CHECK_EQ(safetensors_to_f32(&t, out), 0);
    CHECK(out[0] == -0x1.007800p+0f && out[1] == 0x1.000002p+0f && out[2] == 0x1p-133f);
    CHECK(out[4] == 77);
    out[0] = 5;
    t.dtype = SAFETENSORS_I32;
    CHECK_EQ(safetensors_to_f32(&t, out), -1);
    CHECK(out[0] == 5);
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *stream = fopen(path, "wb");
    CHECK(stream != NULL);
    CHECK_EQ(fwrite(bytes, 1, size, stream), size);
    CHECK_EQ(fclose(stream), 0);
}

static void files_are_opened_and_errors_name_them(void)
{
    char folder[] = "/tmp/test_safetensors_XXXXXX", path[64], message[200];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    safetensors st;

    CHECK_EQ(safetensors_open(path, &st, message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "No such file"));
    CHECK_EQ(safetensors_open(folder, &st, message, sizeof message), -1);
    CHECK(strstr(message, folder) && strstr(message, "regular file"));
    CHECK(!st.tensors && !st.count);

    struct blob file = file_of(good_header, GOOD_DATA);
    write_bytes(path, file.bytes, file.size);
    CHECK_EQ(safetensors_open(path, &st, message, sizeof message), 0);
    const safetensors_tensor *t = safetensors_find(&st, "p");
    CHECK(t && !memcmp(t->data, file.bytes + file.size - 9, 9));
    safetensors_close(&st);
    CHECK(!st.file && !st.count);

    write_bytes(path, file.bytes, file.size - 1);
    CHECK_EQ(safetensors_open(path, &st, message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "beyond the end") && strstr(message, "byte "));
    write_bytes(path, "", 0);
    CHECK_EQ(safetensors_open(path, &st, message, sizeof message), -1);
    CHECK(strstr(message, "byte 0: "));

    free(file.bytes);
    CHECK_EQ(remove(path), 0);
    CHECK_EQ(rmdir(folder), 0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(every_tensor_is_found_with_its_type_shape_and_bytes);
    RUN(whitespace_padding_and_emptiness_are_taken);
    RUN(every_type_has_its_width);
    RUN(escapes_and_utf8_are_decoded);
    RUN(malformed_strings_are_refused);
    RUN(headers_that_are_no_json_are_refused);
    RUN(malformed_tensors_are_refused);
    RUN(products_and_numbers_that_wrap_are_refused);
    RUN(tensors_must_tile_the_data);
    RUN(names_and_keys_must_differ);
    RUN(messages_name_the_byte);
    RUN(a_file_cut_anywhere_is_refused);
    RUN(a_header_cut_anywhere_is_refused);
    RUN(a_longer_file_is_refused);
    RUN(no_damaged_byte_leads_out_of_the_file);
    RUN(random_damage_never_leads_out_of_the_file);
    RUN(a_wrong_header_length_is_refused);
    RUN(every_number_of_the_header_is_checked);
    RUN(nesting_rank_and_names_of_any_size_do_no_harm);
    RUN(metadata_is_limited_in_number);
    RUN(thousands_of_the_shortest_tensors_are_all_found);
    RUN(all_65536_halves_and_bfloat16s_convert_exactly);
    RUN(tensors_convert_from_any_address);
    RUN(files_are_opened_and_errors_name_them);
    return test_end();
}
