#!/usr/bin/env bash
# usage: packaging/clean-debian.sh OLD.deb NEW.deb
# Boots a clean Debian with systemd in a container and runs packaging/life-of-the-deb.sh there. Needs
# root, mmdebstrap and systemd-container; ROOT=DIR uses a folder that mmdebstrap has filled before.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
guest=
cleanup() { [ -z "$guest" ] || kill "$guest" 2>/dev/null || :; wait; rm -rf "$work"; }
trap cleanup EXIT
if [ -z "${ROOT-}" ]; then
    ROOT=$work/root
    mmdebstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,inotify-tools \
        bookworm "$ROOT"
fi
# Nothing of a test before this one is left: what is written goes beside the folder.
mkdir "$work/test"
cp "$1" "$work/test/old.deb"; cp "$2" "$work/test/new.deb"
cp "$here/life-of-the-deb.sh" "$work/test"
# A machine may open files by handle and confine programs, a container of nspawn not by itself.
systemd-nspawn --quiet --directory="$ROOT" --volatile=overlay --boot --register=no --keep-unit \
    --private-network --system-call-filter="open_by_handle_at landlock_create_ruleset landlock_add_rule landlock_restrict_self" --bind=/dev/fuse --bind-ro="$work/test:/test" --console=pipe \
    < /dev/null > "$work/boot.log" 2>&1 &
guest=$!
run() {
    local init
    init=$(pgrep -P "$guest" | head -n1) && [ -n "$init" ] || return 1
    nsenter --target "$init" --all env -i PATH=/usr/sbin:/usr/bin HOME=/root "$@"
}
for _ in $(seq 300); do
    case $(run systemctl is-system-running 2>/dev/null) in running | degraded) break ;; esac
    sleep 0.2
done
run bash /test/life-of-the-deb.sh /test/old.deb /test/new.deb
