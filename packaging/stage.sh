#!/usr/bin/env bash
# usage: packaging/stage.sh BIN ROOT
# Puts what a package holds below ROOT; the programs come from the directory BIN (target/release).
set -euo pipefail
bin=$(realpath "$1") root=$2
cd "$(dirname "$0")/.."

install -D -m 755 -t "$root/usr/bin" "$bin/secretfs" "$bin/oo"
install -D -m 755 "$bin/mount-secretfs" "$root/usr/sbin/mount.secretfs"
ln -sf mount.secretfs "$root/usr/sbin/mount.fuse.secretfs"
install -D -m 644 -t "$root/usr/lib/systemd/system" mount/secretfs.service mount/secretfs-unmount.service
install -D -m 644 packaging/debian/sysusers.conf "$root/usr/lib/sysusers.d/secretfs.conf"
install -D -m 644 packaging/debian/tmpfiles.conf "$root/usr/lib/tmpfiles.d/secretfs.conf"
install -D -m 644 -t "$root/etc/secretfs" packaging/debian/{config,identities}.yaml
# Laid out as here, so that the pages' links lead somewhere.
doc=$root/usr/share/doc/secretfs
install -D -m 644 -t "$doc" README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md
install -D -m 644 -t "$doc/docs" docs/*.md docs/session.*
install -D -m 644 -t "$doc/docs/design" docs/design/*.md
install -D -m 644 -t "$doc/mount/examples" mount/examples/*
for directory in examples/*/; do
    install -D -m 644 -t "$doc/$directory" "$directory"*
done

completions() { mkdir -p "$root/$(dirname "$2")"; "$bin/secretfs" completions "$1" > "$root/$2"; }
completions bash usr/share/bash-completion/completions/secretfs
completions zsh usr/share/zsh/vendor-completions/_secretfs
completions fish usr/share/fish/vendor_completions.d/secretfs.fish
"$bin/secretfs" man --dir "$root/usr/share/man/man1" >/dev/null
install -D -m 644 -t "$root/usr/share/man/man8" mount/mount.secretfs.8
gzip -9nf "$root"/usr/share/man/man[18]/*.[18]
ln -sf secretfs.1.gz "$root/usr/share/man/man1/oo.1.gz"
ln -sf mount.secretfs.8.gz "$root/usr/share/man/man8/mount.fuse.secretfs.8.gz"
