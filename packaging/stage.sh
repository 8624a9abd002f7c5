#!/usr/bin/env bash
# usage: packaging/stage.sh BIN ROOT
# Puts what a package holds below ROOT; the programs come from the folder BIN (target/release).
set -euo pipefail
bin=$(realpath "$1") root=$2
cd "$(dirname "$0")/.."

install -D -m 755 -t "$root/usr/bin" "$bin/secretfs" "$bin/oo"
install -D -m 755 "$bin/mount-secretfs" "$root/usr/sbin/mount.secretfs"
ln -sf mount.secretfs "$root/usr/sbin/mount.fuse.secretfs"
install -D -m 644 -t "$root/usr/lib/systemd/system" mount/secretfs.service
install -D -m 644 packaging/debian/sysusers.conf "$root/usr/lib/sysusers.d/secretfs.conf"
install -D -m 644 packaging/debian/tmpfiles.conf "$root/usr/lib/tmpfiles.d/secretfs.conf"
install -D -m 644 -t "$root/etc/secretfs" packaging/debian/{config,identities}.yaml
install -D -m 644 -t "$root/usr/share/doc/secretfs" README.md ARCHITECTURE.md
install -D -m 644 -t "$root/usr/share/doc/secretfs/examples" mount/examples/*

completions() { mkdir -p "$root/$(dirname "$2")"; "$bin/secretfs" completions "$1" > "$root/$2"; }
completions bash usr/share/bash-completion/completions/secretfs
completions zsh usr/share/zsh/vendor-completions/_secretfs
completions fish usr/share/fish/vendor_completions.d/secretfs.fish
"$bin/secretfs" man --dir "$root/usr/share/man/man1" >/dev/null
gzip -9nf "$root"/usr/share/man/man1/*.1
