#!/bin/sh
# Compiles test/header/header.{c,cpp}, each followed by one object for every QVIT_X_INIT macro, with
# $CC and $CXX as every language version that qvit.h promises. C++ is skipped without a compiler.
set -u
passed=0 failed=0 skipped=0
inits=$(sed -n 's/^#define QVIT_\([A-Z0-9_]*\)_INIT\>.*/\1/p' include/qvit.h)

# text FILE: the text to compile
text() {
    cat "$1"
    for name in $inits; do
        type=qvit_$(echo "$name" | tr '[:upper:]' '[:lower:]')
        echo "$type ${type}_object = QVIT_${name}_INIT;"
    done
}

# check FILE LANGUAGE STANDARD COMPILER
check() {
    if ! command -v "${4%% *}" >/dev/null; then
        skipped=$((skipped + 1))
    elif text "$1" | $4 -x "$2" -std="$3" -pedantic -Wall -Wextra -Werror -Iinclude \
        -fsyntax-only -; then
        passed=$((passed + 1))
    else
        echo "qvit.h does not compile cleanly as $3 with $4"
        failed=$((failed + 1))
    fi
}

for standard in c99 c11 c17; do check test/header/header.c c $standard "${CC:-cc}"; done
for standard in c++11 c++17; do check test/header/header.cpp c++ $standard "${CXX:-c++}"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
