/* version.c - the version of the running library. */
#include "qvit.h"

#define TEXT(x) #x
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

uint32_t qvit_version_number(void)
{
    return QVIT_VERSION_MAJOR * 1000000u + QVIT_VERSION_MINOR * 1000u + QVIT_VERSION_PATCH;
}

const char *qvit_version_string(void)
{
    return VERSION(QVIT_VERSION_MAJOR, QVIT_VERSION_MINOR, QVIT_VERSION_PATCH);
}
