#!/bin/bash
# Who may include whom. A row is a folder and what its files may name in #include "...", besides the
# headers of the folder itself: a folder of lib/, one header by its full name, or `lib` for the
# headers that lie directly in lib/. Tests and benchmarks may look anywhere and have no row.
set -u
layers='
lib/base         qvit.h
lib/cpu          qvit.h base
lib/ref          qvit.h base
lib/sched        qvit.h base lib
lib/quant        qvit.h base ref lib
lib/plan         qvit.h base quant lib kernels/kernels.h kernels/target.h
lib/op           qvit.h base quant sched plan lib kernels/kernels.h
lib/calib        qvit.h base ref quant sched plan op lib
lib              qvit.h base cpu quant sched plan lib kernels/kernels.h
kernels          qvit.h kernels/kernels.h kernels/target.h base/numerics.h
examples         qvit.h
'
passed=0 failed=0

# resolve FILE HEADER: the path of the header, found as the compiler finds it
resolve() {
    local dir
    for dir in "$(dirname "$1")" include lib .; do
        [[ -e $dir/$2 ]] && realpath --relative-to=. "$dir/$2" && return
    done
    echo "$2"
}

# allowed PATH FOLDER ITEM...
allowed() {
    local path=$1 folder=$2 item
    [[ $folder != lib && $path == "$folder"/* ]] && return 0
    shift 2
    for item; do
        case $path in "$item" | include/"$item" | lib/"$item" | lib/"$item"/*) return 0 ;; esac
        [[ $item == lib && ${path%/*} == lib ]] && return 0
    done
    return 1
}

# check FOLDER ITEM...: one row
check() {
    local folder=$1 files=("$1"/*.[ch] "$1"/*/*.[ch]) good=1 file header
    [[ $folder == lib ]] && files=(lib/*.[ch]) # its folders have rows of their own
    ((${#files[@]})) || return
    while IFS=: read -r file header; do
        if ! allowed "$(resolve "$file" "$header")" "$@"; then
            echo "$file: a file of $folder/ may not include \"$header\""
            good=0
        fi
    done < <(grep -H '^ *# *include *"' "${files[@]}" | sed 's/:[^"]*"\([^"]*\)".*/:\1/')
    ((good)) && passed=$((passed + 1)) || failed=$((failed + 1))
}

shopt -s nullglob
# shellcheck disable=SC2086 # a row is a list of words
while read -r row; do [[ $row ]] && check $row; done <<<"$layers"
for folder in lib/*/; do
    grep -q "^${folder%/} " <<<"$layers" || { echo "$folder has no row"; failed=$((failed + 1)); }
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
