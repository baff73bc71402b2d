#!/bin/sh
# What the built library exports, defines and asks for.
#
#   check_symbols.sh [BUILD]
#
# 1. qvit.h, lib/qvit.map and the .so name the same functions
# 2. every global symbol in the .a begins with qvit
# 3. the library calls nothing that ends the process, prints, or reads the environment
# 4. the library has no writable data
set -u
build=${1:-build}
archive=$build/libqvit.a
shared=$build/libqvit.so
forbidden='abort|_?exit|_Exit|quick_exit|raise|signal|sigaction|(secure_)?getenv|__assert_fail'
forbidden="$forbidden|(__)?v?f?printf(_chk)?|f?puts|f?putc|putchar|fwrite|perror"
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0

# verdict TITLE FILE: passes when FILE, the list of offenders, is empty
verdict() {
    if [ ! -s "$2" ]; then
        passed=$((passed + 1))
    else
        echo "$1:"
        sed 's/^/    /' "$2"
        failed=$((failed + 1))
    fi
}

# Of the preprocessed header, without what stands in braces: the first name before a parenthesis of
# every declaration that is no typedef.
${CC:-cc} -E -P -Iinclude include/qvit.h | tr '\n' ' ' | sed -e ':a' -e 's/{[^{}]*}//' -e 'ta' |
    tr ';' '\n' | grep -v -w typedef |
    awk 'match($0, /qvit_[a-z0-9_]+ *\(/) { print substr($0, RSTART, RLENGTH - 1) }' | tr -d ' ' |
    sort >"$tmp/header"
sed -n 's/^ *\(qvit_[a-z0-9_]*\);.*/\1/p' lib/qvit.map | sort >"$tmp/map"
nm -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$tmp/so"

diff "$tmp/header" "$tmp/map" >"$tmp/a"
verdict 'only in qvit.h (<) or only in lib/qvit.map (>)' "$tmp/a"

if nm "$archive" | grep -Eq ' U __(asan|ubsan|tsan|msan)_'; then
    skipped=4 # sanitizers add symbols of all these kinds
else
    diff "$tmp/map" "$tmp/so" >"$tmp/b"
    verdict 'only in lib/qvit.map (<) or only exported (>)' "$tmp/b"
    nm -g --defined-only "$archive" | awk 'NF == 3 && $3 !~ /^qvit/ { print $3 }' >"$tmp/c"
    verdict 'globals of the library that do not begin with qvit' "$tmp/c"
    nm -A -u "$archive" | grep -E " U ($forbidden)\$" >"$tmp/d"
    verdict 'functions that a library must not call' "$tmp/d"
    # .data.rel.ro is constant once loaded
    objdump -h "$archive" | awk '/file format/ { file = $1 }
        $2 ~ /^\.t?(data|bss)/ && $2 !~ /^\.data\.rel\.ro/ && $3 !~ /^0+$/ { print file, $2, $3 }' \
        >"$tmp/e"
    verdict 'writable data (object, section, size)' "$tmp/e"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
