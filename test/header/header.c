/* qvit.h needs no other header before it, may come twice, and compiles as C99, C11 and C17. */
#include <qvit.h>
#include <qvit.h>

int version[] = {QVIT_VERSION_MAJOR, QVIT_VERSION_MINOR, QVIT_VERSION_PATCH};
