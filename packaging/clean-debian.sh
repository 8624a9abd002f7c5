#!/usr/bin/env bash
# usage: packaging/clean-debian.sh OLD.deb NEW.deb [SCRIPT]
# Boots a clean Debian with systemd in a container, on this machine's kernel, and runs SCRIPT there: by default
# packaging/life-of-the-deb.sh; packaging/drill.sh is another. A script that ends with 77 is run again, with "again"
# as its third argument, after the machine has been booted again. Needs root, overlayfs, mmdebstrap and
# systemd-container; ROOT=DIR uses a directory that packaging/debian-root.sh has filled before.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
script=$(realpath "${3-$here/life-of-the-deb.sh}")
work=$(mktemp -d)
guest=
halt() {
    [ -n "$guest" ] || return 0
    kill "$guest" 2>/dev/null || :
    wait "$guest" || :
    guest=
}
cleanup() {
    halt
    ! mountpoint -q "$work/merged" || umount "$work/merged"
    rm -rf "$work"
}
trap cleanup EXIT
if [ -z "${ROOT-}" ]; then
    ROOT=$work/root
    "$here/debian-root.sh" "$ROOT" "$script"
fi
# Nothing of a test before this one is left: what is written goes beside the directory.
mkdir "$work"/{upper,lower,merged,test}
mount -t overlay -o "lowerdir=$ROOT,upperdir=$work/upper,workdir=$work/lower" secretfs-test "$work/merged"
cp "$1" "$work/test/old.deb"; cp "$2" "$work/test/new.deb"
cp "$script" "$work/test/script"

boot() {
    # A machine may open files by handle and confine programs, a container of nspawn not by itself.
    systemd-nspawn --quiet --directory="$work/merged" --boot --register=no --keep-unit --private-network \
        --system-call-filter="open_by_handle_at landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
        --bind=/dev/fuse --bind-ro="$work/test:/test" --console=pipe < /dev/null >> "$work/boot.log" 2>&1 &
    guest=$!
    for _ in $(seq 300); do
        case $(run systemctl is-system-running 2>/dev/null) in running | degraded) return ;; esac
        sleep 0.2
    done
    echo "it does not boot:" >&2
    tail "$work/boot.log" >&2
    exit 1
}
run() {
    local init
    init=$(pgrep -P "$guest" | head -n1) && [ -n "$init" ] || return 1
    nsenter --target "$init" --all env -i PATH=/usr/sbin:/usr/bin HOME=/root ${SCALE+SCALE="$SCALE"} \
        ${ONLY+ONLY="$ONLY"} "$@"
}

boot
status=0
run bash /test/script /test/old.deb /test/new.deb || status=$?
if [ "$status" = 77 ]; then
    halt
    boot
    status=0
    run bash /test/script /test/old.deb /test/new.deb again || status=$?
fi
exit "$status"
