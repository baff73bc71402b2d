#!/bin/sh
# The program in the README compiles without a warning and prints what the README says; all files that the
# README links to are there.
#
#   check_readme.sh [BUILD]
set -u
build=${1:-build}
. test/verdict.sh

sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$tmp/program.c"
# shellcheck disable=SC2086 # CC may be several words
[ -s "$tmp/program.c" ] && ${CC:-cc} -std=c11 -Wall -Wextra -Werror -Iinclude "$tmp/program.c" \
    "$build/libqvit.a" -lm ${LDFLAGS-} -o "$tmp/program"
verdict $? "README: the program does not compile"

sed -n '/^```text$/,/^```$/p' README.md | sed '/^```/d' >"$tmp/expected"
"$tmp/program" >"$tmp/output" && cmp "$tmp/output" "$tmp/expected"
verdict $? "README: the program does not print what it says"

missing=
for file in $(grep -oE '\]\([^)#]+\)' README.md | sed 's/^](//; s/)$//' | grep -v '^http'); do
    [ -e "$file" ] || missing="$missing $file"
done
[ -z "$missing" ]
verdict $? "README: there is no$missing"

verdict_end
