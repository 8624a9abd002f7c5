#!/usr/bin/env bash
# usage: packaging/first-hour.sh [--tests]
# Does on a bare Debian 12 what README.md tells a new user to do, in a clean clone: root builds and mounts with the
# command of "From source" and runs the tour of "Two minutes"; an ordinary user with an empty home directory mounts.
# With --tests, both run the test command instead. The commands are those of README.md as they stand. Needs root,
# /dev/fuse, overlayfs, mmdebstrap, and a Rust toolchain of rustup, which the machine gets; ROOT=DIR uses a directory
# that mmdebstrap has filled before.
set -euo pipefail
cd "$(dirname "$0")/.."
tests=
[ "${1-}" != --tests ] || tests=1

if [ -z "${FIRST_HOUR_INSIDE-}" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if [ -z "${ROOT-}" ]; then
        ROOT=$work/root
        mmdebstrap --variant=minbase --include=ca-certificates bookworm "$ROOT"
    fi
    mkdir "$work/machine"
    FIRST_HOUR_INSIDE=$work/machine ROOT=$ROOT \
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash "packaging/$(basename "$0")" "$@"
    exit
fi

# The machine. What is written is forgotten.
M=$FIRST_HOUR_INSIDE
mount -t tmpfs -o size=75% none "$M"
mkdir "$M"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$M/upper,workdir=$M/work" "$M/root"
M=$M/root
mount -t proc proc "$M/proc"
mount -t sysfs sysfs "$M/sys"
mount -t fusectl fusectl "$M/sys/fs/fuse/connections"
ln -s /proc/self/mounts "$M/etc/mtab"
[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup "$M/sys/fs/cgroup"
mount -t tmpfs none "$M/dev"
for device in null zero full random urandom tty; do
    touch "$M/dev/$device"
    mount --bind "/dev/$device" "$M/dev/$device"
done
mkdir -m 1777 "$M/dev/shm"
mkdir "$M/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$M/dev/pts"
ln -s pts/ptmx "$M/dev/ptmx"
ln -s /proc/self/fd "$M/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$M/dev/${number#*:}"; done
# As udev makes it.
mknod -m 666 "$M/dev/fuse" c 10 229
for loop in /dev/loop-control /dev/loop[0-9]*; do
    [ ! -e "$loop" ] || { touch "$M$loop" && mount --bind "$loop" "$M$loop"; }
done
mount -t tmpfs none "$M/run"
# It reaches the network as this machine does.
cp /etc/resolv.conf "$M/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$M/etc/ssl/certs/ca-certificates.crt"
toolchain=$(rustc --print sysroot)
mkdir -p "$M$toolchain"
mount --bind -o ro "$toolchain" "$M$toolchain"
git clone --quiet --no-hardlinks . "$M/root/secretfs"
chroot "$M" useradd --create-home --shell /bin/bash ordinary
cp -a "$M/root/secretfs" "$M/home/ordinary/secretfs"
chroot "$M" chown -R ordinary: /home/ordinary/secretfs

# The block of shell commands that follows this line of the page.
block() { sed -n "/^$1/,\$p" README.md | sed -n '/^```sh$/,/^```$/{/^```$/q; /^```sh$/!p}'; }
step() { echo "== $*"; }
path=$toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
as_root() { chroot "$M" env -i HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive PATH="$path" bash -c "cd ~/secretfs && $1"; }
as_user() { chroot --userspec=ordinary:ordinary "$M" env -i HOME=/home/ordinary USER=ordinary TERM=dumb PATH="$path" bash -c "cd ~/secretfs && $1"; }

if [ -n "$tests" ]; then
    as_root 'apt-get update -qq && apt-get install -y -qq build-essential fuse3 >/dev/null'
    for who in as_root as_user; do
        step "the tests, $who"
        $who "$(block 'This runs the tests')" 2>&1
    done
    exit
fi

step "root builds and mounts"
as_root 'apt-get update -qq'
touch "$M/said"
as_root "$(block '\*\*From source')" > "$M/said" 2>&1 &
for _ in $(seq 3600); do
    ! grep -q '^mounted at /secrets$' "$M/said" || break
    kill -0 $! || { tail -n 40 "$M/said"; exit 1; }
    sleep 1
done
grep -E '^(made|mounted)' "$M/said"

step "the tour of root"
as_root "$(block '## Two minutes')" 2>&1
as_root 'secretfs is-secure'

step "an ordinary user mounts"
as_user "set -e; $(block 'A user other than root')" 2>&1
as_user 'ls -A ~ && secretfs is-secure --mount ~/secrets && secretfs unmount ~/secrets'

step "Ctrl-C unmounts"
kill -INT "$(pgrep -of '^secretfs mount /secrets')"
wait $! || :
! grep fuse.secretfs /proc/self/mountinfo
