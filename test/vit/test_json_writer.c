/* What the JSON writer writes, character by character, and what it does not let pass. */
#define _POSIX_C_SOURCE 200809L

#include "json_writer.h"
#include "test.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char written[4096];

/* Ends the document and reads back all that came out. */
static const char *end_and_read(json_writer *w)
{
    CHECK_EQ(json_end(w), 0);
    rewind(w->file);
    size_t size = fread(written, 1, sizeof written - 1, w->file);
    written[size] = '\0';
    CHECK_EQ(fclose(w->file), 0);
    return written;
}

static void begin(json_writer *w)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    json_begin(w, file);
}

static void objects_and_arrays_nest_with_commas_in_place(void)
{
    json_writer w;
    begin(&w);
    json_object(&w);
    json_key(&w, "name");
    json_string(&w, "vit");
    json_key(&w, "sizes");
    json_array(&w);
    json_integer(&w, 1);
    json_integer(&w, -2);
    json_array(&w);
    json_array_end(&w);
    json_object(&w);
    json_object_end(&w);
    json_array_end(&w);
    json_key(&w, "inner");
    json_object(&w);
    json_key(&w, "yes");
    json_boolean(&w, true);
    json_key(&w, "no");
    json_boolean(&w, false);
    json_object_end(&w);
    json_key(&w, "last");
    json_number(&w, 0.5);
    json_object_end(&w);
    CHECK_STR(end_and_read(&w), "{\n"
                                "  \"name\": \"vit\",\n"
                                "  \"sizes\": [1, -2, [], {}],\n"
                                "  \"inner\": {\n"
                                "    \"yes\": true,\n"
                                "    \"no\": false\n"
                                "  },\n"
                                "  \"last\": 0.5\n"
                                "}\n");
}

static void objects_in_an_array_are_separated(void)
{
    json_writer w;
    begin(&w);
    json_array(&w);
    for (int i = 0; i < 2; i++) {
        json_object(&w);
        json_key(&w, "i");
        json_integer(&w, i);
        json_object_end(&w);
    }
    json_array_end(&w);
    CHECK_STR(end_and_read(&w), "[{\n    \"i\": 0\n  }, {\n    \"i\": 1\n  }]\n");
}

static void strings_and_keys_are_escaped(void)
{
    json_writer w;
    begin(&w);
    json_object(&w);
    json_key(&w, "a\"b");
    json_string(&w, "\"\\/\b\f\n\r\t\x01\x1F\x7F \xC3\xA9");
    json_object_end(&w);
    CHECK_STR(end_and_read(&w),
              "{\n  \"a\\\"b\": \"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F \xC3\xA9\"\n}\n");
}

static void integers_reach_their_limits(void)
{
    json_writer w;
    begin(&w);
    json_array(&w);
    json_integer(&w, INT64_MIN);
    json_integer(&w, INT64_MAX);
    json_array_end(&w);
    CHECK_STR(end_and_read(&w), "[-9223372036854775808, 9223372036854775807]\n");
}

static const char *number_text(double value)
{
    json_writer w;
    begin(&w);
    json_number(&w, value);
    end_and_read(&w);
    written[strlen(written) - 1] = '\0';
    return written;
}

static void numbers_are_short_and_not_finite_ones_null(void)
{
    CHECK_STR(number_text(0), "0");
    CHECK_STR(number_text(-0.0), "-0");
    CHECK_STR(number_text(82.23), "82.23");
    CHECK_STR(number_text(0.1), "0.1");
    CHECK_STR(number_text(-1e-300), "-1e-300");
    CHECK_STR(number_text(1.0 / 3), "0.3333333333333333");
    CHECK_STR(number_text(0.1 + 0.2), "0.30000000000000004");
    CHECK_STR(number_text(123456), "123456");
    CHECK_STR(number_text(5e-324), "5e-324");
    CHECK_STR(number_text(1.7976931348623157e308), "1.7976931348623157e+308");
    CHECK_STR(number_text(NAN), "null");
    CHECK_STR(number_text(INFINITY), "null");
    CHECK_STR(number_text(-INFINITY), "null");
}

static void every_number_reads_back_as_the_same_double(void)
{
    for (int round = 0; round < 2000; round++) {
        uint64_t bits = test_random();
        double value, read;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        read = strtod(number_text(value), NULL);
        if (memcmp(&read, &value, sizeof value)) FAIL("%.17g became %s", value, written);
    }
}

/* With a buffer the error shows in the last flush, without one long before it. */
static void an_error_of_the_stream_is_reported(void)
{
    for (int buffered = 0; buffered < 2; buffered++) {
        FILE *full = fopen("/dev/full", "w");
        if (!full) SKIP("there is no /dev/full");
        if (!buffered) setvbuf(full, NULL, _IONBF, 0);
        json_writer w;
        json_begin(&w, full);
        json_string(&w, "lost");
        CHECK_EQ(json_end(&w), -1);
        fclose(full);
    }
}

/* ---- mistakes of the program ---- */

static void value_without_key(json_writer *w) { json_object(w), json_integer(w, 1); }
static void key_without_value(json_writer *w)
{
    json_object(w), json_key(w, "a"), json_object_end(w);
}
static void key_after_key(json_writer *w) { json_object(w), json_key(w, "a"), json_key(w, "b"); }
static void key_in_array(json_writer *w) { json_array(w), json_key(w, "a"); }
static void key_outside(json_writer *w) { json_key(w, "a"); }
static void wrong_end(json_writer *w) { json_array(w), json_object_end(w); }
static void end_of_nothing(json_writer *w) { json_array_end(w); }
static void second_document(json_writer *w) { json_integer(w, 1), json_integer(w, 2); }
static void no_document(json_writer *w) { json_end(w); }
static void open_at_end(json_writer *w) { json_array(w), json_end(w); }
static void too_deep(json_writer *w)
{
    for (int i = 0; i <= JSON_MAX_DEPTH; i++) json_array(w);
}

/* Whether the calls end a child process by abort. */
static int aborts(void (*calls)(json_writer *))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        json_writer w;
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        json_begin(&w, stderr);
        calls(&w);
        _exit(0);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void full_depth(json_writer *w)
{
    for (int i = 0; i < JSON_MAX_DEPTH; i++) json_array(w);
    for (int i = 0; i < JSON_MAX_DEPTH; i++) json_array_end(w);
    json_end(w);
}

static void calls_that_make_no_json_are_caught(void)
{
#ifdef NDEBUG
    SKIP("assertions are off");
#endif
    CHECK(aborts(value_without_key));
    CHECK(aborts(key_without_value));
    CHECK(aborts(key_after_key));
    CHECK(aborts(key_in_array));
    CHECK(aborts(key_outside));
    CHECK(aborts(wrong_end));
    CHECK(aborts(end_of_nothing));
    CHECK(aborts(second_document));
    CHECK(aborts(no_document));
    CHECK(aborts(open_at_end));
    CHECK(aborts(too_deep));
    CHECK(!aborts(full_depth));
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(objects_and_arrays_nest_with_commas_in_place);
    RUN(objects_in_an_array_are_separated);
    RUN(strings_and_keys_are_escaped);
    RUN(integers_reach_their_limits);
    RUN(numbers_are_short_and_not_finite_ones_null);
    RUN(every_number_reads_back_as_the_same_double);
    RUN(an_error_of_the_stream_is_reported);
    RUN(calls_that_make_no_json_are_caught);
    return test_end();
}
