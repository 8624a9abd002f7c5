#!/usr/bin/env bash
# usage: packaging/debian-in-qemu.sh OLD.deb NEW.deb [SCRIPT]
# As packaging/clean-debian.sh, on Debian's own kernel in an emulated machine. Needs root, mmdebstrap,
# qemu-system-x86_64 and mke2fs. Without /dev/kvm everything takes about twenty times as long: SCALE=N tells a
# script to multiply its limits. ROOT=DIR uses a directory that packaging/debian-root.sh has filled before, with the
# packages of $kernel. What the machine says while it boots is in LOG (default: nowhere).
set -euo pipefail
here=$(dirname "$(realpath "$0")")
script=$(realpath "${3-$here/life-of-the-deb.sh}")
kernel="linux-image-cloud-amd64 initramfs-tools zstd udev kmod"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${ROOT-}" ]; then
    ROOT=$work/root
    # The packages are several.
    # shellcheck disable=SC2086
    "$here/debian-root.sh" "$ROOT" "$script" $kernel
fi
mkdir -p "$work/copy"
cp -a "$ROOT/." "$work/copy"
mkdir "$work/copy/test"
cp "$1" "$work/copy/test/old.deb"; cp "$2" "$work/copy/test/new.deb"
cp "$script" "$work/copy/test/script"
# It runs after the boot, and again after the next one if it ends with 77. The last line is for this script.
cat > "$work/copy/test/run" <<'RUN'
#!/bin/bash
status=0
until systemctl is-system-running | grep -Eq 'running|degraded'; do sleep 0.2; done
bash /test/script /test/old.deb /test/new.deb $(cat /test/again 2>/dev/null) || status=$?
if [ "$status" = 77 ] && [ ! -e /test/again ]; then
    echo again > /test/again
    exec systemctl reboot
fi
echo "ended with $status"
exec systemctl poweroff
RUN
cat > "$work/copy/etc/systemd/system/test.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=exec
Environment=HOME=/root
EnvironmentFile=-/test/environment
ExecStart=/bin/bash /test/run
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
TimeoutStartSec=infinity
[Install]
WantedBy=graphical.target
UNIT
printf '%s\n' "SCALE=${SCALE-20}" "ONLY='${ONLY-}'" > "$work/copy/test/environment"
mkdir -p "$work/copy/etc/systemd/system/graphical.target.wants"
ln -s /etc/systemd/system/test.service "$work/copy/etc/systemd/system/graphical.target.wants"
echo "/dev/vda / ext4 defaults 0 1" > "$work/copy/etc/fstab"
mke2fs -q -t ext4 -d "$work/copy" "$work/disk" 4G
rm -rf "$work/copy"
accelerator="tcg,thread=multi"
[ ! -w /dev/kvm ] || ! grep -Eq 'vmx|svm' /proc/cpuinfo || accelerator=kvm
qemu-system-x86_64 -accel "$accelerator" -cpu max -smp 2 -m 2048 -nographic -no-user-config -nodefaults \
    -kernel "$ROOT/vmlinuz" -initrd "$ROOT/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" -device virtio-rng-pci \
    -serial "file:${LOG-/dev/null}" -serial stdio < /dev/null | stdbuf -oL tr -d '\r' | tee "$work/said"
grep -q '^ended with 0$' "$work/said"
