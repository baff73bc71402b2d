#!/bin/sh
# One kernel = one file = one symbol = one place in a table.
#
#   check_kernel_names.sh [BUILD]
#
# kernels/<arch>/NAME_<isa>.c defines exactly one global symbol, qvitp_NAME_<isa> (a function, or
# the constant that describes it), and kernels/<arch>/table_<isa>.c names it, or (pack, open) a product of that
# table does: checkasm and the benchmarks take their rows from there. Files of other architectures
# define nothing: skipped.
set -u
build=${1:-build}
passed=0 failed=0 skipped=0

for file in kernels/*/*.c; do
    name=$(basename "$file" .c)
    case $name in table_*) continue ;; esac
    folder=$(dirname "$file") isa=${name##*_}
    symbols=$(nm -g --defined-only "$build/obj/${file%.c}.o" |
        awk 'NF == 3 && $3 !~ /^__odr_asan/ { print $3 }')
    if [ -z "$symbols" ]; then
        skipped=$((skipped + 1))
    elif [ "$symbols" != "qvitp_$name" ]; then
        echo "$file defines not qvitp_$name alone, but:" "$symbols"
        failed=$((failed + 1))
    elif ! grep -qsw "qvitp_$name" "$folder/table_$isa.c" &&
        ! { case $name in pack_* | open_*) ;; *) false ;; esac &&
            grep -qsw "qvitp_$name" "$folder"/gemm_*_"$isa.c"; }; then
        echo "$folder/table_$isa.c does not name qvitp_$name"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
