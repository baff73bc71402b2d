# verdict.sh - for scripts of test/scripts that check a few things: a scratch folder $tmp, and a count.
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# verdict STATUS TITLE: counts, and names what failed
verdict() {
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        echo "$2"
        failed=$((failed + 1))
    fi
}

# The line that the runner adds up, and the exit status.
verdict_end() {
    echo "$passed passed, $failed failed, 0 skipped"
    [ "$failed" -eq 0 ]
}
