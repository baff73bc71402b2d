/* What the .npy reader takes, what it refuses, and what the writer leaves behind. */
#define _POSIX_C_SOURCE 200809L

#include "npy.h"
#include "test.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* np.save of np.array([[1.5, -2, 3e38], [0, -0.0, 1e-45]], '<f4'), byte for byte. */
static const unsigned char saved_by_numpy[] = {
    0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 0x01, 0x00, 0x76, 0x00, 0x7b, 0x27, 0x64, 0x65, 0x73, 0x63,
    0x72, 0x27, 0x3a, 0x20, 0x27, 0x3c, 0x66, 0x34, 0x27, 0x2c, 0x20, 0x27, 0x66, 0x6f, 0x72, 0x74,
    0x72, 0x61, 0x6e, 0x5f, 0x6f, 0x72, 0x64, 0x65, 0x72, 0x27, 0x3a, 0x20, 0x46, 0x61, 0x6c, 0x73,
    0x65, 0x2c, 0x20, 0x27, 0x73, 0x68, 0x61, 0x70, 0x65, 0x27, 0x3a, 0x20, 0x28, 0x32, 0x2c, 0x20,
    0x33, 0x29, 0x2c, 0x20, 0x7d, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
    0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
    0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
    0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x0a,
    0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0xc0, 0xe6, 0xb1, 0x61, 0x7f, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x80, 0x01, 0x00, 0x00, 0x00,
};
enum { SAVED_HEADER = 128 };

struct blob {
    unsigned char *bytes;
    size_t size;
};

/* A file of this version, dictionary and number of data bytes. */
static struct blob file_of(unsigned version, const char *dictionary, size_t data_size)
{
    size_t length = strlen(dictionary), width = version == 1 ? 2 : 4, head = 8 + width + length;
    struct blob file = {malloc(head + data_size), head + data_size};
    memcpy(file.bytes, "\x93NUMPY", 6);
    file.bytes[6] = (unsigned char)version;
    file.bytes[7] = 0;
    for (size_t i = 0; i < width; i++) file.bytes[8 + i] = (unsigned char)(length >> 8 * i);
    memcpy(file.bytes + 8 + width, dictionary, length);
    for (size_t i = 0; i < data_size; i++) file.bytes[head + i] = (unsigned char)(i + 1);
    return file;
}

static size_t width_of(npy_dtype dtype) { return dtype == NPY_U8 ? 1 : dtype == NPY_I64 ? 8 : 4; }

/* Makes the reads of touched bytes happen. */
static volatile unsigned char last_touched;

/*
 * Parses a copy that ends where its memory ends, for the sanitizers to see a read beyond it. Either
 * answer must be whole: an error has a message and leaves nothing, a success an array of as many
 * bytes as its dims say and the file has, which are touched. Returns what npy_parse does.
 */
static int parse(const void *bytes, size_t size, char *message, size_t message_size)
{
    unsigned char *copy = malloc(size);
    npy array;
    if (size > 0) memcpy(copy, bytes, size);
    message[0] = '\0';
    int status = npy_parse(copy, size, &array, message, message_size);
    free(copy);
    if (status) {
        CHECK(message[0] != '\0');
        CHECK(!array.data && !array.count && !array.rank);
        return status;
    }
    size_t count = 1;
    CHECK(array.rank <= NPY_MAX_RANK);
    for (unsigned i = 0; i < array.rank; i++) count *= array.dims[i];
    CHECK_EQ(array.count, count);
    CHECK(array.data && count * width_of(array.dtype) <= size);
    for (size_t i = 0; i < count * width_of(array.dtype); i++)
        last_touched = ((unsigned char *)array.data)[i];
    npy_close(&array);
    return 0;
}

static int parse_quietly(const void *bytes, size_t size)
{
    char message[200];
    return parse(bytes, size, message, sizeof message);
}

/* The file must be refused, and the message must hold the text. */
static void refuse(const char *dictionary, size_t data_size, const char *text)
{
    char message[200];
    for (unsigned version = 1; version <= 3; version++) {
        struct blob file = file_of(version, dictionary, data_size);
        if (!parse(file.bytes, file.size, message, sizeof message)) FAIL("taken: %s", dictionary);
        if (!strstr(message, text)) FAIL("\"%s\" lacks \"%s\": %s", message, text, dictionary);
        free(file.bytes);
    }
}

static void accept(const char *dictionary, size_t data_size)
{
    char message[200];
    for (unsigned version = 1; version <= 3; version++) {
        struct blob file = file_of(version, dictionary, data_size);
        if (parse(file.bytes, file.size, message, sizeof message))
            FAIL("refused (%s): %s", message, dictionary);
        free(file.bytes);
    }
}

static void an_array_saved_by_numpy_is_read(void)
{
    static const float expected[6] = {1.5f, -2, 3e38f, 0, -0.0f, 0x1p-149f};
    npy array;
    CHECK_EQ(npy_parse(saved_by_numpy, sizeof saved_by_numpy, &array, NULL, 0), 0);
    CHECK_EQ(array.dtype, NPY_F32);
    CHECK_EQ(array.rank, 2);
    CHECK_EQ(array.dims[0], 2);
    CHECK_EQ(array.dims[1], 3);
    CHECK_EQ(array.count, 6);
    CHECK(!memcmp(array.data, expected, sizeof expected));
    npy_close(&array);
    npy_close(&array);
    CHECK(!array.data);
}

static void every_type_is_read_with_its_values(void)
{
    npy array;
    struct blob file = file_of(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n", 3);
    CHECK_EQ(npy_parse(file.bytes, file.size, &array, NULL, 0), 0);
    CHECK(array.dtype == NPY_U8 && !memcmp(array.data, "\x01\x02\x03", 3));
    npy_close(&array);
    free(file.bytes);

    file = file_of(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n", 8);
    CHECK_EQ(npy_parse(file.bytes, file.size, &array, NULL, 0), 0);
    CHECK_EQ(array.dtype, NPY_I32);
    CHECK_EQ(((int32_t *)array.data)[0], 0x04030201);
    CHECK_EQ(((int32_t *)array.data)[1], 0x08070605);
    npy_close(&array);
    free(file.bytes);

    file = file_of(1, "{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", 8);
    CHECK_EQ(npy_parse(file.bytes, file.size, &array, NULL, 0), 0);
    CHECK(array.dtype == NPY_I64 && array.rank == 0 && array.count == 1);
    CHECK_EQ(((int64_t *)array.data)[0], 0x0807060504030201);
    npy_close(&array);
    free(file.bytes);
}

static void keys_may_stand_in_any_order_and_spaces_anywhere(void)
{
    accept("{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}\n", 24);
    accept("{'fortran_order':False,'shape':(2,3),'descr':'|u1'}\n", 6);
    accept(" { 'descr' : '|u1' , 'shape' : ( 2 , 3 , ) , 'fortran_order' : False , }    \n", 6);
    accept("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 2)}\n", 2);
}

static void arrays_without_elements_are_valid(void)
{
    accept("{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n", 0);
    accept("{'descr': '<i8', 'fortran_order': False, 'shape': (3, 0, 5), }\n", 0);
    refuse("{'descr': '<i8', 'fortran_order': False, 'shape': (3, 0, 5), }\n", 1, "longer");
}

static void malformed_dictionaries_are_refused(void)
{
    static const char *const dictionaries[][2] = {
        {"", "dictionary"},
        {"\n", "dictionary"},
        {"{}\n", "lacks"},
        {"{'descr': '|u1', 'fortran_order': False}\n", "lacks"},
        {"{'descr': '|u1', 'shape': (4,)}\n", "lacks"},
        {"{'fortran_order': False, 'shape': (4,)}\n", "lacks"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", "line feed"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}   ", "line feed"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}\n\n", "line feed"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}x\n", "line feed"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,)", "'}'"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,),,}\n", "expected"},
        {"{'descr': '|u1' 'fortran_order': False, 'shape': (4,)}\n", "'}'"},
        {"{'descr' '|u1', 'fortran_order': False, 'shape': (4,)}\n", "':'"},
        {"{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (4,)}\n", "twice"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'shape': (4,)}\n", "twice"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'x': 1}\n", "expected"},
        {"{\"descr\": '|u1', 'fortran_order': False, 'shape': (4,)}\n", "expected"},
        {"{'descr': '|u1', 'fortran_order': True, 'shape': (4,)}\n", "Fortran order"},
        {"{'descr': '|u1', 'fortran_order': 0, 'shape': (4,)}\n", "must be False"},
        {"{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}\n", "element type"},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,)}\n", "element type"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", "element type"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", "element type"},
        {"{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}\n", "element type"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': 4}\n", "tuple"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': [4]}\n", "tuple"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4)}\n", "','"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2 2)}\n", "','"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2]}\n", "')'"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (,)}\n", "number"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4,,)}\n", "number"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (-4,)}\n", "number"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (04,)}\n", "zero"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4.0,)}\n", "','"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4L,)}\n", "','"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (None,)}\n", "number"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,4)}\n", "8 dim"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': ((4,),)}\n", "number"},
    };
    for (size_t i = 0; i < sizeof dictionaries / sizeof *dictionaries; i++)
        refuse(dictionaries[i][0], 4, dictionaries[i][1]);
}

static void shapes_that_wrap_are_refused(void)
{
    /* Dims whose bytes are 0 or 4 modulo 2^64 or 2^32 at four bytes an element. */
    static const char *const shapes[] = {
        "(4611686018427387904,)",
        "(4611686018427387905,)",
        "(4294967296, 4294967296)",
        "(4294967296, 4294967296, 0)",
        "(1073741824,)",
        "(1073741825,)",
        "(18446744073709551615,)",
        "(18446744073709551616,)",
        "(18446744073709551617,)",
        "(2147483648, 2147483648, 4)",
        "(9223372036854775808, 2, 1)",
        "(99999999999999999999999999999999,)",
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char dictionary[128];
        snprintf(dictionary, sizeof dictionary,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n", shapes[i]);
        for (size_t data = 0; data <= 4; data += 4) refuse(dictionary, data, "byte ");
    }
}

static void other_versions_and_files_are_refused(void)
{
    unsigned char file[sizeof saved_by_numpy];
    memcpy(file, saved_by_numpy, sizeof file);
    for (unsigned major = 0; major < 256; major++) {
        for (unsigned minor = 0; minor < 256; minor++) {
            file[6] = (unsigned char)major;
            file[7] = (unsigned char)minor;
            /* Version 2.0 reads the first two letters of the dictionary into its length. */
            CHECK_EQ(parse_quietly(file, sizeof file) == 0, major == 1 && minor == 0);
        }
    }
    CHECK(parse_quietly("PK\x03\x04 an .npz file, which is a zip", 34));
}

static void a_file_of_any_other_size_is_refused(void)
{
    unsigned char longer[sizeof saved_by_numpy + 1] = {0};
    for (size_t size = 0; size < sizeof saved_by_numpy; size++)
        if (!parse_quietly(saved_by_numpy, size)) FAIL("taken at %zu bytes", size);
    CHECK_EQ(parse_quietly(saved_by_numpy, sizeof saved_by_numpy), 0);
    memcpy(longer, saved_by_numpy, sizeof saved_by_numpy);
    CHECK(parse_quietly(longer, sizeof longer));
    struct blob file = file_of(2, "{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}\n", 4);
    for (size_t size = 0; size < file.size; size++)
        if (!parse_quietly(file.bytes, size)) FAIL("version 2.0 taken at %zu bytes", size);
    free(file.bytes);
}

static void no_damaged_byte_leads_out_of_the_file(void)
{
    unsigned char file[sizeof saved_by_numpy];
    memcpy(file, saved_by_numpy, sizeof file);
    for (size_t i = 0; i < sizeof file; i++) {
        unsigned char was = file[i];
        unsigned values[14] = {0x00, 0xFF, 0x7F, 0x80, was + 1u, was - 1u};
        for (unsigned bit = 0; bit < 8; bit++) values[6 + bit] = was ^ 1u << bit;
        for (size_t k = 0; k < 14; k++) {
            file[i] = (unsigned char)values[k];
            int status = parse_quietly(file, sizeof file);
            if (i < 10) CHECK(file[i] == was || status);
            if (i >= SAVED_HEADER) CHECK_EQ(status, 0);
        }
        file[i] = was;
    }
}

static void random_damage_never_leads_out_of_the_file(void)
{
    unsigned char file[sizeof saved_by_numpy];
    for (int round = 0; round < 20000; round++) {
        memcpy(file, saved_by_numpy, sizeof file);
        for (size_t n = 1 + test_below(4); n > 0; n--) {
            /* Mostly among the letters of the dictionary, which ends before byte 75. */
            size_t to = test_below(test_below(4) ? 75 : sizeof file);
            if (test_below(2))
                file[to] = (unsigned char)test_random();
            else
                file[to] = file[10 + test_below(65)];
        }
        parse_quietly(file, sizeof file);
    }
}

static void a_wrong_header_length_is_refused(void)
{
    static const uint32_t lengths[] = {
        0,      1,     2,     117,         119,         0xFF,           150,       0x7FFF, 0xFFFE,
        0xFFFF, 65536, 65537, 0x7FFFFFFFu, 0x80000000u, UINT32_MAX - 1, UINT32_MAX};
    static const char dictionary[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}\n";
    for (unsigned version = 1; version <= 3; version++) {
        struct blob file = file_of(version, dictionary, 4);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            if (version == 1 && lengths[i] > 0xFFFF) continue;
            for (size_t k = 0; k < (version == 1 ? 2 : 4); k++)
                file.bytes[8 + k] = (unsigned char)(lengths[i] >> 8 * k);
            if (!parse_quietly(file.bytes, file.size)) FAIL("length %u taken", lengths[i]);
        }
        free(file.bytes);
    }
}

static void a_header_of_more_than_65535_bytes_is_refused(void)
{
    static const char dictionary[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}";
    for (size_t length = 65535; length <= 65536; length++) {
        char message[200], *padded = malloc(length + 1);
        memset(padded, ' ', length);
        memcpy(padded, dictionary, sizeof dictionary - 1);
        strcpy(padded + length - 1, "\n");
        struct blob file = file_of(2, padded, 4);
        CHECK_EQ(parse(file.bytes, file.size, message, sizeof message), length == 65535 ? 0 : -1);
        CHECK(length == 65535 || strstr(message, "longer than 65535 bytes"));
        free(file.bytes);
        free(padded);
    }
}

/* ---- files ---- */

static char folder[64], path[96];

static void make_folder(void)
{
    strcpy(folder, "/tmp/test_npy_XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/array.npy", folder);
}

/* How many files there are. */
static unsigned files_in_folder(void)
{
    unsigned count = 0;
    DIR *entries = opendir(folder);
    CHECK(entries != NULL);
    for (struct dirent *entry; (entry = readdir(entries));) count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
}

static void remove_folder(void)
{
    remove(path);
    CHECK_EQ(rmdir(folder), 0);
}

static void write_bytes(const char *to, const void *bytes, size_t size)
{
    FILE *stream = fopen(to, "wb");
    CHECK(stream != NULL);
    CHECK_EQ(fwrite(bytes, 1, size, stream), size);
    CHECK_EQ(fclose(stream), 0);
}

static void the_writer_writes_what_numpy_writes(void)
{
    static const float data[6] = {1.5f, -2, 3e38f, 0, -0.0f, 0x1p-149f};
    static const size_t dims[2] = {2, 3};
    unsigned char bytes[sizeof saved_by_numpy + 1];
    make_folder();
    CHECK_EQ(npy_write(path, NPY_F32, 2, dims, data, NULL, 0), 0);
    CHECK_EQ(files_in_folder(), 1);
    FILE *stream = fopen(path, "rb");
    CHECK(stream != NULL);
    CHECK_EQ(fread(bytes, 1, sizeof bytes, stream), sizeof saved_by_numpy);
    fclose(stream);
    CHECK(!memcmp(bytes, saved_by_numpy, sizeof saved_by_numpy));
    remove_folder();
}

static void what_was_written_is_read_again(void)
{
    static const npy_dtype types[] = {NPY_U8, NPY_I32, NPY_I64, NPY_F32};
    make_folder();
    for (unsigned rank = 0; rank <= NPY_MAX_RANK; rank++) {
        npy_dtype dtype = types[rank % 4];
        size_t dims[NPY_MAX_RANK], size = width_of(dtype);
        for (unsigned i = 0; i < rank; i++) {
            dims[i] = rank < 3 ? 1 + test_below(5000 / rank / rank) : 1 + test_below(3);
            size *= dims[i];
        }
        unsigned char *data = malloc(size);
        for (size_t i = 0; i < size; i++) data[i] = (unsigned char)test_random();
        npy array;
        char message[200];
        if (npy_write(path, dtype, rank, dims, data, message, sizeof message)) FAIL("%s", message);
        if (npy_open(path, &array, message, sizeof message)) FAIL("%s", message);
        CHECK(array.dtype == dtype && array.rank == rank);
        for (unsigned i = 0; i < rank; i++) CHECK_EQ(array.dims[i], dims[i]);
        CHECK_EQ(array.count * width_of(dtype), size);
        CHECK(!memcmp(array.data, data, size));
        npy_close(&array);
        free(data);
    }
    remove_folder();
}

static void an_empty_array_is_written_without_data(void)
{
    static const size_t dims[2] = {0, 7};
    npy array;
    make_folder();
    CHECK_EQ(npy_write(path, NPY_I32, 2, dims, NULL, NULL, 0), 0);
    CHECK_EQ(npy_open(path, &array, NULL, 0), 0);
    CHECK(array.rank == 2 && array.dims[0] == 0 && array.dims[1] == 7 && array.count == 0);
    npy_close(&array);
    remove_folder();
}

static void the_largest_header_has_room(void)
{
    size_t dims[NPY_MAX_RANK] = {0};
    npy array;
    make_folder();
    /* A zero in front, so that the dims behind it may be anything. */
    for (int i = 1; i < NPY_MAX_RANK; i++) dims[i] = SIZE_MAX;
    CHECK_EQ(npy_write(path, NPY_U8, NPY_MAX_RANK, dims, NULL, NULL, 0), 0);
    CHECK_EQ(npy_open(path, &array, NULL, 0), 0);
    CHECK_EQ(array.rank, NPY_MAX_RANK);
    CHECK(array.dims[7] == SIZE_MAX);
    npy_close(&array);
    remove_folder();
}

static void shapes_that_cannot_be_are_not_written(void)
{
    size_t dims[9] = {(size_t)1 << (sizeof(size_t) * 4), (size_t)1 << (sizeof(size_t) * 4)};
    char message[200];
    make_folder();
    CHECK_EQ(npy_write(path, NPY_U8, 2, dims, dims, message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "shape"));
    for (int i = 0; i < 9; i++) dims[i] = 1;
    CHECK_EQ(npy_write(path, NPY_U8, 9, dims, dims, message, sizeof message), -1);
    CHECK_EQ(files_in_folder(), 0);
    remove_folder();
}

static void a_failed_write_leaves_nothing_behind(void)
{
    static const size_t dims[1] = {3};
    char message[200], missing[160];
    make_folder();
    snprintf(missing, sizeof missing, "%s/none/array.npy", folder);
    CHECK_EQ(npy_write(missing, NPY_U8, 1, dims, "abc", message, sizeof message), -1);
    CHECK(strstr(message, missing) && strstr(message, "No such file"));

    /* A folder in the place of the file: all is written before the renaming fails. */
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK_EQ(npy_write(path, NPY_U8, 1, dims, "abc", message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "cannot be written"));
    CHECK_EQ(files_in_folder(), 1);
    CHECK_EQ(rmdir(path), 0);
    remove_folder();
}

/* The file of a writer that crashed, or is at work, is neither used nor removed. */
static void another_writers_part_is_left_alone(void)
{
    static const size_t dims[1] = {3};
    char part[128], text[8] = "";
    make_folder();
    snprintf(part, sizeof part, "%s.0.part", path);
    write_bytes(part, "other", 5);
    CHECK_EQ(npy_write(path, NPY_U8, 1, dims, "abc", NULL, 0), 0);
    CHECK_EQ(files_in_folder(), 2);
    FILE *stream = fopen(part, "rb");
    CHECK(stream && fread(text, 1, 7, stream) == 5);
    fclose(stream);
    CHECK_STR(text, "other");
    CHECK_EQ(remove(part), 0);
    remove_folder();
}

static void errors_of_reading_name_the_file(void)
{
    char message[200];
    npy array;
    make_folder();
    CHECK_EQ(npy_open(path, &array, message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "No such file"));
    CHECK_EQ(npy_open(folder, &array, message, sizeof message), -1);
    CHECK(strstr(message, folder) && strstr(message, "regular file"));
    write_bytes(path, "", 0);
    CHECK_EQ(npy_open(path, &array, message, sizeof message), -1);
    CHECK(strstr(message, path) && strstr(message, "not an .npy file"));
    CHECK(!array.data);
    remove_folder();
}

static void a_file_on_disk_is_held_to_its_size_too(void)
{
    char message[200];
    npy array;
    make_folder();
    for (size_t size = 0; size < sizeof saved_by_numpy; size++) {
        write_bytes(path, saved_by_numpy, size);
        if (!npy_open(path, &array, message, sizeof message)) FAIL("taken at %zu bytes", size);
        CHECK(strstr(message, path));
    }
    unsigned char longer[sizeof saved_by_numpy + 1] = {0};
    memcpy(longer, saved_by_numpy, sizeof saved_by_numpy);
    write_bytes(path, longer, sizeof longer);
    CHECK_EQ(npy_open(path, &array, message, sizeof message), -1);
    CHECK(strstr(message, "byte 128: the file is longer"));
    write_bytes(path, saved_by_numpy, sizeof saved_by_numpy);
    CHECK_EQ(npy_open(path, &array, message, sizeof message), 0);
    npy_close(&array);
    remove_folder();
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(an_array_saved_by_numpy_is_read);
    RUN(every_type_is_read_with_its_values);
    RUN(keys_may_stand_in_any_order_and_spaces_anywhere);
    RUN(arrays_without_elements_are_valid);
    RUN(malformed_dictionaries_are_refused);
    RUN(shapes_that_wrap_are_refused);
    RUN(other_versions_and_files_are_refused);
    RUN(a_file_of_any_other_size_is_refused);
    RUN(no_damaged_byte_leads_out_of_the_file);
    RUN(random_damage_never_leads_out_of_the_file);
    RUN(a_wrong_header_length_is_refused);
    RUN(a_header_of_more_than_65535_bytes_is_refused);
    RUN(the_writer_writes_what_numpy_writes);
    RUN(what_was_written_is_read_again);
    RUN(an_empty_array_is_written_without_data);
    RUN(the_largest_header_has_room);
    RUN(shapes_that_cannot_be_are_not_written);
    RUN(a_failed_write_leaves_nothing_behind);
    RUN(another_writers_part_is_left_alone);
    RUN(errors_of_reading_name_the_file);
    RUN(a_file_on_disk_is_held_to_its_size_too);
    return test_end();
}
