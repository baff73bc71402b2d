#!/bin/sh
# Runs the tests that `make` built, from the top of the source tree, and adds up their counts.
#
#   test/run.sh [--quick | --unit] [BUILD]
#
# A test is a program or script whose last line is "N passed, N failed, N skipped"; one that ends
# without that line, or with an unexplained status, counts as one failure. The output of a test is
# shown when it fails, or always with V=1. --quick runs the test programs only, and those without
# QVIT_TEST_DATA: for other compilers, sanitizers and instruction sets. --unit leaves out those of the
# examples, too.
#
# Test programs run side by side, JOBS at a time (as many as there are CPUs); scripts, which may build,
# one after the other.
#
# QVIT_TEST_ISA=NAME  leave out what NAME (scalar, avx2, avx2vnni, avx512vnni) does not build on
# QVIT_TEST_DATA=DIR  the real model and images; the tests that need them are skipped without it
set -u
quick='' programs='test/unit/test_*.c test/vit/test_*.c test/photos/test_*.c'
[ "${1-}" = --unit ] && programs='test/unit/test_*.c'
case ${1-} in --quick | --unit) quick=1; shift; unset QVIT_TEST_DATA ;; esac
build=${1:-build}
limit=900 # seconds for one test: a deadlock is a failure with a name, too
jobs=${JOBS:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}
logs=$(mktemp -d) || exit 1
starter=''
trap 'kill $starter $(cat "$logs"/*.pid 2>/dev/null) 2>/dev/null; rm -rf "$logs"' EXIT
trap 'exit 1' INT TERM
passed=0 failed=0 skipped=0

# run COMMAND...: leaves its exit status in $status and its output in $log
run() {
    log=$logs/output
    timeout "$limit" "$@" >"$log" 2>&1 </dev/null
    status=$?
}

# collect PROGRAM: the same of one that start_all began, once it has ended
collect() {
    log=$logs/$(echo "$1" | tr / _)
    while [ ! -e "$log.status" ] && kill -0 "$starter" 2>/dev/null; do sleep 0.1; done
    [ -e "$log" ] || : >"$log"
    status=$(cat "$log.status" 2>/dev/null || echo 'unknown, it was not run')
}

# report NAME PASSED FAILED SKIPPED [WHY]: one line for one test, and its output where wanted
report() {
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    [ "$3" -eq 0 ] && verdict=ok || verdict=FAIL
    [ "$verdict" = FAIL ] || [ "${V-}" = 1 ] && sed 's/^/    /' "$log"
    printf '%-5s %-36s %s passed, %s failed, %s skipped%s\n' "$verdict" "$1" "$2" "$3" "$4" "${5-}"
}

# counted PROGRAM: a test that counted for itself
counted() {
    name=${1#"$build"/}
    # shellcheck disable=SC2046 # six words: $1 passed, $3 failed, $5 skipped
    set -- $(tail -n 1 "$log" | grep -xE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped')
    if [ $# -ne 6 ]; then
        report "$name" 0 1 0 ", no counts: exit status $status"
    elif [ "$status" != 0 ] && [ "$3" -eq 0 ]; then
        report "$name" "$1" 1 "$5" ", exit status $status"
    else
        report "$name" "$1" "$3" "$5"
    fi
}

# plain PROGRAM: a program that succeeds when it exits with 0
plain() {
    run "$@"
    if [ "$status" -eq 0 ]; then
        report "${1#"$build"/}" 1 0 0
    else
        report "${1#"$build"/}" 0 1 0 ", exit status $status"
    fi
}

# By source, not by what lies in BUILD: a program left over from a deleted source is no test. The longest
# comes first.
list_programs() {
    [ -d test/checkasm ] && echo "$build/test/checkasm${QVIT_TEST_ISA:+ --isa $QVIT_TEST_ISA}"
    for source in $programs; do
        [ -e "$source" ] && echo "$build/${source%.c}"
    done
}

# start_all: runs all programs
start_all() {
    # shellcheck disable=SC2016 # the inner shell expands them
    list_programs | QVIT_RUN_LOGS=$logs QVIT_RUN_LIMIT=$limit xargs -P "$jobs" -L 1 sh -c '
        [ -d "$QVIT_RUN_LOGS" ] || exit 255 # the end of xargs
        log=$QVIT_RUN_LOGS/$(echo "$1" | tr / _)
        timeout "$QVIT_RUN_LIMIT" "$@" >"$log" 2>&1 </dev/null &
        echo $! >"$log.pid"
        wait $!
        status=$?
        rm -f "$log.pid"
        [ -d "$QVIT_RUN_LOGS" ] || exit 255
        echo $status >"$log.new"
        mv "$log.new" "$log.status"' sh
}

start_all &
starter=$!
for program in $(list_programs | cut -d " " -f 1); do
    collect "$program"
    counted "$program"
done
wait "$starter"
starter='' # the number may be another process's by the end
if [ -z "$quick" ]; then
    for script in test/scripts/*.sh; do
        run "$script" "$build"
        counted "$script"
    done
    if command -v python3 >/dev/null; then
        run test/scripts/check_formulas.py "$build"
        counted test/scripts/check_formulas.py
    else
        log=/dev/null
        report test/scripts/check_formulas.py 0 0 1 ", no python3"
    fi
    for source in examples/*.c; do
        [ -e "$source" ] && plain "$build/${source%.c}"
    done
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
