#!/usr/bin/env bash
# usage: docs/session.sh [--check] [BIN]
# Runs the commands of "Two minutes" in README.md on a real mount and writes them, with what they print, to
# docs/session.txt. With --check it compares instead, and fails if they differ. The programs come from BIN
# (default: target/debug). Needs root and /dev/fuse. It works in a mount namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
check=
[ "${1-}" != --check ] || { check=1; shift; }
bin=$(realpath "${1-target/debug}")

if [ -z "${SESSION_INSIDE-}" ]; then
    result=$(mktemp)
    trap 'rm -f "$result"' EXIT
    SESSION_INSIDE=1 unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash "$0" "$bin" > "$result"
    if [ -n "$check" ]; then
        diff -u docs/session.txt "$result"
    else
        cp "$result" docs/session.txt
    fi
    exit
fi

# A machine without configuration, whose state is forgotten. The programs are where other users reach them.
mount -t tmpfs none /run
for directory in /etc/secretfs /var/lib/secretfs; do
    [ ! -e "$directory" ] || mount -t tmpfs -o mode=700 none "$directory"
done
mkdir /run/bin
cp "$bin/secretfs" /run/bin
export PATH=/run/bin:$PATH LC_ALL=C.UTF-8 TZ=UTC SECRETFS_STATE_DIR=/run/state
unset SECRETFS_MOUNT OB_ENCRYPTION_KEY
(umask 077; secretfs keygen > /run/key)
if [ -e /secrets ]; then mount -t tmpfs none /secrets; else mkdir /secrets; made=1; fi
secretfs mount /secrets --encryption-key-file /run/key 2> /run/log &
daemon=$!
for _ in $(seq 200); do
    ! grep -q 'mounted at' /run/log || break
    kill -0 $daemon || { cat /run/log >&2; exit 1; }
    sleep 0.1
done

# Each line of the block as it stands, without its comment. What varies is replaced: times, ids and PIDs. The output
# ends with a line break also where the value has none.
sed -n '/^## Two minutes/,/^## How/p' README.md | sed -n '/^```sh$/,/^```$/p' | sed '/^```/d; /^$/d' > /run/commands
{
    while IFS= read -r line; do
        line=$(sed -E 's/ +# .*//' <<< "$line")
        printf '$ %s\n' "$line"
        eval "$line" > /run/printed 2>&1 || true
        cat /run/printed
        [ -z "$(tail -c 1 /run/printed)" ] || echo
    done < /run/commands
} | sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+Z?/2026-01-02T03:04:05Z/g; s/secr_[0-9A-Za-z]{10}/secr_XXXXXXXXXX/g; s/\[[0-9]+\]/[1234]/g; s/ +$//'

kill $daemon
wait $daemon || true
[ -z "${made-}" ] || rmdir /secrets 2> /run/null || true
