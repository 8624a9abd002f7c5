# The mount that is judged: a daemon of its own on a state folder of its own.

# The judges' user, and its slug: it may create what it likes below it.
judge_user=65534
judge_slug=judge
daemon=

start_daemon() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/secretfs-judges-XXXXXX")
    # Tells the judges' processes from those of others who use a FUSE mount on this machine.
    export SECRETFS_JUDGED=$work
    trap end_daemon EXIT
    trap 'exit 130' INT TERM
    chmod 755 "$work"
    point=$work/secrets
    mkdir -m 700 "$work/state"
    mkdir "$point"
    echo "identities: [{slug: $judge_slug, uid: $judge_user}]" >"$work/identities.yaml"
    OB_ENCRYPTION_KEY=8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8 "$SECRETFS" \
        mount "$point" --state-dir "$work/state" --identities "$work/identities.yaml" \
        >"$work/daemon.log" 2>&1 &
    daemon=$!
    local tries=0
    until grep -q 'mounted at' "$work/daemon.log"; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "$daemon"; then
            fail "the daemon does not start: $(cat "$work/daemon.log")"
            exit 1
        fi
        sleep 0.1
    done
}

# Whatever happened: no daemon and no mount stays behind.
end_daemon() {
    local tries=0
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        while kill -0 "$daemon" 2>/dev/null && [ $tries -lt 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        kill -9 "$daemon" 2>/dev/null || true
    fi
    while grep -q " $point " /proc/self/mountinfo && umount -l "$point"; do :; done
    if [ "$failures" = 0 ]; then
        rm -rf "$work"
    else
        echo "what the judges and the daemon said is in $work" >&2
    fi
}

as_judge() {
    setpriv --reuid "$judge_user" --regid "$judge_user" --clear-groups "$@"
}

# A folder for the judges' user. The file keeps it: a folder ends with its last file.
make_folder() {
    as_judge mkdir "$point/$judge_slug/$1"
    as_judge sh -c 'echo x > "$1"' sh "$point/$judge_slug/$1/keep"
}

# The daemon lives, serves all kinds of requests, says that it is well, and nobody hangs.
check_daemon() {
    if ! kill -0 "$daemon" 2>/dev/null; then
        fail "the daemon ended during $1"
        cat "$work/daemon.log"
        exit 1
    fi
    local probe="$judge_slug/probe-$1" said
    timeout 20 setpriv --reuid "$judge_user" --regid "$judge_user" --clear-groups \
        sh -c 'echo well > "$1" && [ "$(cat "$1")" = well ] && rm "$1"' sh "$point/$probe" ||
        fail "after $1 a value cannot be written, read and removed"
    said=$(timeout 20 cat "$point/.status/health") || true
    [ "$said" = ok ] || fail "after $1 the daemon's health is: $said"
    check_nobody_hangs "$1"
}

# Processes that wait for a FUSE answer and cannot be killed (state D), three times in a row.
check_nobody_hangs() {
    local hanging now
    hanging=$(waiting_in_the_kernel)
    for _ in 1 2; do
        [ -n "$hanging" ] || return 0
        sleep 1
        now=$(waiting_in_the_kernel)
        hanging=$(comm -12 <(echo "$hanging") <(echo "$now"))
    done
    [ -z "$hanging" ] || fail "after $1 these hang in the kernel: $hanging"
}

waiting_in_the_kernel() {
    local status process
    for status in /proc/[0-9]*/task/[0-9]*/stat; do
        process=${status%/task/*}
        # stress-ng writes its title over its environment.
        if sed 's/.*) //' "$status" 2>/dev/null | grep -q '^D' &&
            grep -q 'fuse\|request_wait' "${status%stat}wchan" 2>/dev/null &&
            { grep -qzxF "SECRETFS_JUDGED=$work" "$process/environ" ||
                grep -q '^stress-ng' "$process/comm"; } 2>/dev/null; then
            echo "$status"
        fi
    done | sort
}
