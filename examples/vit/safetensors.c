/*
 * The file is read, not mapped: a mapping would let another process change bytes after they were
 * checked, or end this one with SIGBUS by truncating the file.
 */
#define _POSIX_C_SOURCE 200809L

#include "safetensors.h"

#include "files.h"
#include "half.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_BYTES = 8,
    /* The shortest member that describes a tensor, which bounds how many a header can hold:
     * "":{"dtype":"U8","shape":[],"data_offsets":[0,1]} */
    MIN_TENSOR_TEXT = 49
};

/* All offsets count from the start of the file. A string is decoded into text at the offset where
 * it stands in the file: it never grows, and its address tells where it came from. */
struct parser {
    const unsigned char *bytes;
    size_t at, header_end, file_size;
    safetensors *out;
    size_t capacity; /* of out->tensors */
    const char *problem;
    size_t problem_at;
};

static bool fail_at(struct parser *p, size_t at, const char *problem)
{
    p->problem = problem;
    p->problem_at = at;
    return false;
}

static bool fail(struct parser *p, const char *problem) { return fail_at(p, p->at, problem); }

/* ---- JSON ---- */

static bool is_space(unsigned char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static void skip_space(struct parser *p)
{
    while (p->at < p->header_end && is_space(p->bytes[p->at])) p->at++;
}

/* Steps over the character if it comes next. */
static bool take(struct parser *p, char wanted)
{
    skip_space(p);
    if (p->at == p->header_end || p->bytes[p->at] != (unsigned char)wanted) return false;
    p->at++;
    return true;
}

static bool expect(struct parser *p, char wanted, const char *problem)
{
    return take(p, wanted) || fail(p, problem);
}

/* Bytes of the UTF-8 sequence at s, of which left are readable, or 0 if it is malformed. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80) return 1;
    size_t length = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    /* What is left to exclude shows in the second byte: overlong forms, surrogates and values
     * above U+10FFFF. */
    bool excluded = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                    (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return excluded ? 0 : length;
}

static char *put_utf8(char *to, uint32_t c)
{
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    unsigned length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(lead[length] | c);
    return to + length;
}

/* The four hexadecimal digits of a \u escape. */
static bool hex4(struct parser *p, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = p->at < p->header_end ? p->bytes[p->at] : 0;
        unsigned digit = c >= '0' && c <= '9'   ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : 16;
        if (digit == 16) return fail(p, "\\u must be followed by four hexadecimal digits");
        *out = *out << 4 | digit;
        p->at++;
    }
    return true;
}

/* What follows \u. Characters above U+FFFF are written as two escapes, a surrogate pair. */
static bool unicode_escape(struct parser *p, char **to)
{
    static const char lone[] = "the \\u escape is half of a surrogate pair";
    uint32_t c, low;
    if (!hex4(p, &c)) return false;
    if (c == 0) return fail(p, "a name or text must not hold a zero character");
    if (c >= 0xDC00 && c < 0xE000) return fail(p, lone);
    if (c >= 0xD800 && c < 0xDC00) {
        if (p->header_end - p->at < 2 || memcmp(p->bytes + p->at, "\\u", 2)) return fail(p, lone);
        p->at += 2;
        if (!hex4(p, &low)) return false;
        if (low < 0xDC00 || low >= 0xE000) return fail(p, lone);
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    *to = put_utf8(*to, c);
    return true;
}

static bool escape(struct parser *p, char **to)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    p->at++;
    unsigned char letter = p->at < p->header_end ? p->bytes[p->at] : 0;
    const char *found = memchr(letters, letter, sizeof letters - 1);
    if (!found && letter != 'u') return fail(p, "no escape begins like this");
    p->at++;
    if (!found) return unicode_escape(p, to);
    *(*to)++ = meanings[found - letters];
    return true;
}

static bool string(struct parser *p, const char **out)
{
    if (!expect(p, '"', "a string in double quotes was expected")) return false;
    char *to = p->out->text + p->at;
    *out = to;
    while (p->at < p->header_end) {
        unsigned char c = p->bytes[p->at];
        if (c < 0x20) return fail(p, "a string must not hold a control character");
        if (c == '"') {
            p->at++;
            *to = '\0';
            return true;
        }
        if (c == '\\') {
            if (!escape(p, &to)) return false;
            continue;
        }
        size_t length = utf8_length(p->bytes + p->at, p->header_end - p->at);
        if (length == 0) return fail(p, "the string is not valid UTF-8");
        memcpy(to, p->bytes + p->at, length);
        to += length;
        p->at += length;
    }
    return fail(p, "the header ends inside a string");
}

/* The name of an object's member, with the colon. */
static bool member_name(struct parser *p, const char **out)
{
    return string(p, out) && expect(p, ':', "a ':' must follow the name of a member");
}

static bool number(struct parser *p, size_t *out)
{
    skip_space(p);
    size_t start = p->at, value = 0;
    while (p->at < p->header_end && p->bytes[p->at] >= '0' && p->bytes[p->at] <= '9') {
        size_t digit = (size_t)(p->bytes[p->at] - '0');
        if (value > (SIZE_MAX - digit) / 10) return fail_at(p, start, "the number is too large");
        value = value * 10 + digit;
        p->at++;
    }
    if (p->at == start) return fail(p, "a number without sign was expected");
    if (p->bytes[start] == '0' && p->at > start + 1)
        return fail_at(p, start, "a number must not begin with a zero");
    *out = value;
    return true;
}

static bool numbers(struct parser *p, size_t *out, unsigned max, unsigned *count)
{
    *count = 0;
    if (!expect(p, '[', "an array of numbers was expected")) return false;
    if (take(p, ']')) return true;
    do {
        if (*count == max) return fail(p, "the array has too many numbers");
        if (!number(p, &out[*count])) return false;
        ++*count;
    } while (take(p, ','));
    return expect(p, ']', "a ',' or ']' must follow a number of an array");
}

/* ---- what the header says ---- */

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [SAFETENSORS_BOOL] = {"BOOL", 1},       [SAFETENSORS_U8] = {"U8", 1},
    [SAFETENSORS_I8] = {"I8", 1},           [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1},
    [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1}, [SAFETENSORS_U16] = {"U16", 2},
    [SAFETENSORS_I16] = {"I16", 2},         [SAFETENSORS_F16] = {"F16", 2},
    [SAFETENSORS_BF16] = {"BF16", 2},       [SAFETENSORS_U32] = {"U32", 4},
    [SAFETENSORS_I32] = {"I32", 4},         [SAFETENSORS_F32] = {"F32", 4},
    [SAFETENSORS_U64] = {"U64", 8},         [SAFETENSORS_I64] = {"I64", 8},
    [SAFETENSORS_F64] = {"F64", 8},
};

static bool dtype(struct parser *p, safetensors_dtype *out)
{
    const char *name;
    if (!string(p, &name)) return false;
    for (unsigned i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name)) continue;
        *out = (safetensors_dtype)i;
        return true;
    }
    return fail_at(p, (size_t)(name - p->out->text), "the dtype is unknown");
}

/* Points the tensor at its bytes, once all of its members are known. */
static bool locate(struct parser *p, safetensors_tensor *t, size_t begin, size_t end)
{
    size_t size = dtypes[t->dtype].size, room = p->file_size - p->header_end;
    for (unsigned i = 0; i < t->rank; i++) {
        if (t->dims[i] && size > SIZE_MAX / t->dims[i])
            return fail(p, "the shape has more elements than memory has bytes");
        size *= t->dims[i];
    }
    if (begin > end) return fail(p, "the data_offsets end before they begin");
    if (end > room) return fail(p, "the data_offsets lie beyond the end of the file");
    if (end - begin != size) return fail(p, "the data_offsets do not agree with shape and dtype");
    t->data = p->bytes + p->header_end + begin;
    t->size = size;
    return true;
}

static bool tensor(struct parser *p, const char *name)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    safetensors_tensor t = {.name = name};
    size_t offsets[2];
    unsigned seen = 0, count = 0;
    if (!expect(p, '{', "a tensor must be described by an object")) return false;
    do {
        const char *member;
        if (!member_name(p, &member)) return false;
        size_t member_at = (size_t)(member - p->out->text);
        unsigned field = !strcmp(member, "dtype")          ? DTYPE
                         : !strcmp(member, "shape")        ? SHAPE
                         : !strcmp(member, "data_offsets") ? OFFSETS
                                                           : 0;
        if (field == 0) return fail_at(p, member_at, "a tensor has no such member");
        if (seen & field) return fail_at(p, member_at, "the member is given twice");
        seen |= field;
        bool valid = field == DTYPE   ? dtype(p, &t.dtype)
                     : field == SHAPE ? numbers(p, t.dims, SAFETENSORS_MAX_RANK, &t.rank)
                                      : numbers(p, offsets, 2, &count);
        if (!valid) return false;
    } while (take(p, ','));
    if (!expect(p, '}', "a ',' or '}' must follow a member of a tensor")) return false;
    if (seen != (DTYPE | SHAPE | OFFSETS))
        return fail(p, "the tensor lacks its dtype, shape or data_offsets");
    if (count != 2) return fail(p, "the data_offsets must be two numbers");
    if (!locate(p, &t, offsets[0], offsets[1])) return false;
    assert(p->out->count < p->capacity);
    p->out->tensors[p->out->count++] = t;
    return true;
}

static bool metadata(struct parser *p)
{
    safetensors *out = p->out;
    if (out->metadata) return fail(p, "__metadata__ is given twice");
    out->metadata = malloc(SAFETENSORS_MAX_METADATA * sizeof *out->metadata);
    if (!out->metadata) return fail(p, "there is not enough memory");
    if (!expect(p, '{', "__metadata__ must be an object of strings")) return false;
    if (take(p, '}')) return true;
    do {
        safetensors_pair pair;
        if (out->metadata_count == SAFETENSORS_MAX_METADATA)
            return fail(p, "__metadata__ has too many members");
        if (!member_name(p, &pair.key) || !string(p, &pair.value)) return false;
        out->metadata[out->metadata_count++] = pair;
    } while (take(p, ','));
    return expect(p, '}', "a ',' or '}' must follow a member of __metadata__");
}

static bool header(struct parser *p)
{
    if (!expect(p, '{', "the header must be a JSON object")) return false;
    if (!take(p, '}')) {
        do {
            const char *name;
            if (!member_name(p, &name)) return false;
            if (!(strcmp(name, "__metadata__") ? tensor(p, name) : metadata(p))) return false;
        } while (take(p, ','));
        if (!expect(p, '}', "a ',' or '}' must follow a member of the header")) return false;
    }
    skip_space(p);
    return p->at == p->header_end || fail(p, "the header goes on after its object");
}

/* ---- what must hold between the tensors ---- */

/* An empty tensor comes before the one that begins where it lies. */
static int by_place(const void *a, const void *b)
{
    const safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* Equal names stay in the order of the file, so that the later one is blamed. */
static int by_name(const void *a, const void *b)
{
    const safetensors_tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->name > y->name) - (x->name < y->name);
}

static int by_key(const void *a, const void *b)
{
    const safetensors_pair *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->key > y->key) - (x->key < y->key);
}

static bool check_tiling(struct parser *p)
{
    safetensors *out = p->out;
    size_t next = p->header_end;
    qsort(out->tensors, out->count, sizeof *out->tensors, by_place);
    for (size_t i = 0; i < out->count; i++) {
        const safetensors_tensor *t = &out->tensors[i];
        size_t begin = (size_t)(t->data - p->bytes), name_at = (size_t)(t->name - out->text);
        if (begin < next) return fail_at(p, name_at, "the tensor overlaps another");
        if (begin > next) return fail_at(p, name_at, "no tensor has the bytes before this one");
        next = begin + t->size;
    }
    return next == p->file_size || fail_at(p, next, "no tensor has the bytes from here on");
}

static bool check_names(struct parser *p)
{
    safetensors *out = p->out;
    qsort(out->tensors, out->count, sizeof *out->tensors, by_name);
    for (size_t i = 1; i < out->count; i++) {
        const char *name = out->tensors[i].name;
        if (!strcmp(name, out->tensors[i - 1].name))
            return fail_at(p, (size_t)(name - out->text), "two tensors have this name");
    }
    if (!out->metadata) return true;
    qsort(out->metadata, out->metadata_count, sizeof *out->metadata, by_key);
    for (size_t i = 1; i < out->metadata_count; i++) {
        const char *name = out->metadata[i].key;
        if (!strcmp(name, out->metadata[i - 1].key))
            return fail_at(p, (size_t)(name - out->text), "__metadata__ has this key twice");
    }
    return true;
}

static bool parse(struct parser *p)
{
    safetensors *out = p->out;
    if (p->file_size < LENGTH_BYTES)
        return fail_at(p, p->file_size, "the file ends inside the length of its header");
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | p->bytes[i];
    if (length > SAFETENSORS_MAX_HEADER) return fail(p, "the header is longer than 100 MB");
    if (length > p->file_size - LENGTH_BYTES)
        return fail(p, "the header is longer than the rest of the file");
    p->at = LENGTH_BYTES;
    p->header_end = LENGTH_BYTES + (size_t)length;
    p->capacity = (size_t)length / MIN_TENSOR_TEXT + 1;
    out->text = malloc(p->header_end);
    out->tensors = malloc(p->capacity * sizeof *out->tensors);
    if (!out->text || !out->tensors) return fail(p, "there is not enough memory");
    return header(p) && check_tiling(p) && check_names(p);
}

/* ---- the interface ---- */

int safetensors_parse(const void *bytes, size_t size, safetensors *out, char *message,
                      size_t message_size)
{
    struct parser p = {.bytes = bytes, .file_size = size, .out = out};
    *out = (safetensors){0};
    if (parse(&p)) return 0;
    safetensors_close(out);
    snprintf(message, message_size, "byte %zu: %s", p.problem_at, p.problem);
    return -1;
}

int safetensors_open(const char *path, safetensors *out, char *message, size_t message_size)
{
    char detail[160];
    const char *problem = detail;
    size_t size;
    *out = (safetensors){0};
    FILE *stream = open_to_read(path);
    if (!stream) {
        snprintf(message, message_size, "%s: %s", path, strerror(errno));
        return -1;
    }
    void *bytes = read_all(stream, &size, &problem);
    fclose(stream);
    if (bytes && safetensors_parse(bytes, size, out, detail, sizeof detail) == 0) {
        out->file = bytes;
        return 0;
    }
    free(bytes);
    snprintf(message, message_size, "%s: %s", path, problem);
    return -1;
}

const safetensors_tensor *safetensors_find(const safetensors *file, const char *name)
{
    for (size_t low = 0, high = file->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, file->tensors[middle].name);
        if (order == 0) return &file->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *safetensors_metadata(const safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->metadata_count; i++)
        if (!strcmp(file->metadata[i].key, key)) return file->metadata[i].value;
    return NULL;
}

int safetensors_to_f32(const safetensors_tensor *tensor, float *out)
{
    const unsigned char *from = tensor->data, *end = from + tensor->size;
    switch (tensor->dtype) {
    case SAFETENSORS_F32:
        for (; from < end; from += 4)
            *out++ = float_from_bits((uint32_t)from[0] | (uint32_t)from[1] << 8 |
                                     (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24);
        return 0;
    case SAFETENSORS_F16:
        for (; from < end; from += 2) *out++ = half_to_float((uint16_t)(from[0] | from[1] << 8));
        return 0;
    case SAFETENSORS_BF16:
        for (; from < end; from += 2)
            *out++ = bfloat16_to_float((uint16_t)(from[0] | from[1] << 8));
        return 0;
    default:
        return -1;
    }
}

void safetensors_close(safetensors *file)
{
    free(file->tensors);
    free(file->metadata);
    free(file->text);
    free(file->file);
    *file = (safetensors){0};
}
