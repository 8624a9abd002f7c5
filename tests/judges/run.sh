#!/usr/bin/env bash
# Lets other people's file system tests loose on a mount, as root on a Debian machine:
#
#     cargo build --release && tests/judges/run.sh [fsx|test_syscalls|pjdfstest|stress-ng]...
#
# What is expected to differ from POSIX stands in expected/, with the reason. The exit code is 0 if
# nothing else differs, and after each judge the daemon lives, answers, and nobody hangs in the kernel.
# A judge that cannot be had is skipped with a word (with CI=true that is a failure).
#
# SECRETFS        the daemon to judge (target/release/secretfs)
# JUDGES          where the judges are built and kept (target/judges)
# LIBFUSE_SOURCE  a git repository of libfuse to take instead of the one on the network
# SECONDS_EACH    how long each stressor of stress-ng runs (5)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${SECRETFS:=${CARGO_TARGET_DIR:-$root/target}/release/secretfs}"
: "${JUDGES:=${CARGO_TARGET_DIR:-$root/target}/judges}"
: "${LIBFUSE_SOURCE:=https://github.com/libfuse/libfuse}"
: "${SECONDS_EACH:=5}"
# shellcheck source=tools.sh
. "$here/tools.sh"
# shellcheck source=mount.sh
. "$here/mount.sh"
# shellcheck source=judges.sh
. "$here/judges.sh"

[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || { echo "this needs root and /dev/fuse" >&2; exit 2; }
[ -x "$SECRETFS" ] || { echo "$SECRETFS is not there: cargo build --release" >&2; exit 2; }
mkdir -p "$JUDGES"

failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# What was found, against what is expected: both are lines, the latter with comments. What no longer
# differs is told, and no failure: some differences depend on who is quicker.
compare() {
    local judge=$1 found=$2 expected="$work/$1.expected"
    grep -v '^#' "$here/expected/$judge.txt" | grep -v '^$' | sort -u >"$expected" || true
    sort -u -o "$found" "$found"
    local unexpected gone
    unexpected=$(comm -23 "$found" "$expected")
    gone=$(comm -13 "$found" "$expected")
    echo "$judge: $(comm -12 "$found" "$expected" | wc -l) differences, as expected"
    [ -z "$gone" ] || sed "s/^/$judge: expected, and not seen: /" <<<"$gone"
    [ -z "$unexpected" ] || fail "$judge differs where it should not:"$'\n'"$unexpected"
}

[ $# -gt 0 ] || set -- fsx test_syscalls pjdfstest stress-ng
for judge in "$@"; do
    case $judge in
        fsx | test_syscalls | pjdfstest | stress-ng) ;;
        *) echo "no such judge: $judge" >&2; exit 2 ;;
    esac
done
start_daemon
for judge in "$@"; do
    if ! have "$judge" >"$work/$judge.had" 2>&1; then
        echo "$judge: skipped, it cannot be had: $(tail -n 1 "$work/$judge.had")"
        [ "${CI:-}" != true ] || fail "CI must not skip $judge"
        continue
    fi
    : >"$work/$judge.found"
    "judge_${judge//-/_}" "$work/$judge.found"
    compare "$judge" "$work/$judge.found"
    check_daemon "$judge"
done
[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "all as expected"
