/* test_version.c - the version numbers, as a host sees them, and the names of the statuses. */
#include "support.h"

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

static void number_is_that_of_the_header(void)
{
    CHECK_EQ(qvit_version_number(),
             QVIT_VERSION_MAJOR * 1000000 + QVIT_VERSION_MINOR * 1000 + QVIT_VERSION_PATCH);
}

static void text_is_that_of_the_header(void)
{
    CHECK_STR(qvit_version_string(),
              TEXT(QVIT_VERSION_MAJOR) "." TEXT(QVIT_VERSION_MINOR) "." TEXT(QVIT_VERSION_PATCH));
}

static void text_is_static(void) { CHECK(qvit_version_string() == qvit_version_string()); }

static void every_status_has_a_name_of_its_own(void)
{
    const char *names[QVIT_ERR_CANCELLED + 1];
    for (qvit_status s = QVIT_OK; s <= QVIT_ERR_CANCELLED; s++) {
        names[s] = qvit_status_name(s);
        CHECK(names[s] && names[s][0]);
        CHECK(strcmp(names[s], "unknown") != 0);
        for (qvit_status t = QVIT_OK; t < s; t++) CHECK(strcmp(names[s], names[t]) != 0);
    }
    CHECK_STR(names[QVIT_ERR_SHAPE], "shape");
}

static void other_statuses_are_unknown(void)
{
    const qvit_status others[] = {-1, QVIT_ERR_CANCELLED + 1, 1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK_STR(qvit_status_name(others[i]), "unknown");
}

/* Numbers of constants are part of the binary interface: none may ever change. */
static void constants_keep_their_numbers(void)
{
    CHECK_EQ(QVIT_OK, 0);
    CHECK_EQ(QVIT_ERR_ARGUMENT, 1);
    CHECK_EQ(QVIT_ERR_SHAPE, 2);
    CHECK_EQ(QVIT_ERR_UNSUPPORTED, 3);
    CHECK_EQ(QVIT_ERR_NO_MEMORY, 4);
    CHECK_EQ(QVIT_ERR_STATE, 5);
    CHECK_EQ(QVIT_ERR_FORMAT, 6);
    CHECK_EQ(QVIT_ERR_VERSION, 7);
    CHECK_EQ(QVIT_ERR_CHECKSUM, 8);
    CHECK_EQ(QVIT_ERR_IO, 9);
    CHECK_EQ(QVIT_ERR_EXECUTOR, 10);
    CHECK_EQ(QVIT_ERR_VALUE, 11);
    CHECK_EQ(QVIT_ERR_CANCELLED, 12);
    CHECK_EQ(QVIT_DTYPE_S4, 6);
    CHECK_EQ(QVIT_DTYPE_S6, 7);
    CHECK_EQ(QVIT_SCHEME_TWIN_GELU, 4);
    CHECK_EQ(QVIT_PARAMETER_SCALE2, 3);
    CHECK_EQ(QVIT_RESULT_OUTPUT_ORDER, 10);
    CHECK_EQ(QVIT_INPUT_IMAGE, 4);
    CHECK_EQ(QVIT_TIE_PRODUCER, 2);
    CHECK_EQ(QVIT_ISA_AVX2, 1);
    CHECK_EQ(QVIT_ISA_AVX2VNNI, 2);
    CHECK_EQ(QVIT_ISA_AVX512VNNI, 4);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(number_is_that_of_the_header);
    RUN(text_is_that_of_the_header);
    RUN(text_is_static);
    RUN(every_status_has_a_name_of_its_own);
    RUN(other_statuses_are_unknown);
    RUN(constants_keep_their_numbers);
    return test_end();
}
