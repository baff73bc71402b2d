#!/bin/sh
# The program in the opening comment of qvit.h: it compiles without a warning, runs, and is the code
# of examples/02_calibrate_linear.c, word for word.
#
#   check_header_program.sh [BUILD]
set -u
build=${1:-build}
. test/verdict.sh

sed -n '/^ \*     #include <math.h>$/,/^ \*     }$/s/^ \*\( \{5\}\)\{0,1\}//p' include/qvit.h \
    >"$tmp/program.c"
[ -s "$tmp/program.c" ]
verdict $? "qvit.h: there is no program between '#include <math.h>' and '}'"

# shellcheck disable=SC2086 # CC may be several words
${CC:-cc} -std=c11 -Wall -Wextra -Werror -Iinclude "$tmp/program.c" "$build/libqvit.a" -lm \
    ${LDFLAGS-} -o "$tmp/program"
verdict $? "qvit.h: the program does not compile"

"$tmp/program" >"$tmp/output" && grep -q '^linear 64 x 32' "$tmp/output"
verdict $? "qvit.h: the program fails, or does not describe its plan"

# The example has a comment of its own before the first line of code.
sed -n '/^#include/,$p' examples/02_calibrate_linear.c | cmp - "$tmp/program.c"
verdict $? "examples/02_calibrate_linear.c is not the program of qvit.h"

verdict_end
