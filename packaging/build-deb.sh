#!/usr/bin/env bash
# usage: packaging/build-deb.sh [BIN [OUT [VERSION]]]
# Makes OUT/secretfs_VERSION_ARCHITECTURE.deb from the programs in BIN (default: target/release, built
# if it is not there). Needs dpkg-deb, nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1-target/release} out=${2-target/packages}
[ -x "$bin/mount-secretfs" ] || cargo build --release --locked --features etcd
version=${3-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)}
architecture=$(dpkg --print-architecture)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022
packaging/stage.sh "$bin" "$root"
strip --strip-unneeded "$root"/usr/bin/* "$root"/usr/sbin/mount.secretfs
doc=$root/usr/share/doc/secretfs
install -m 644 packaging/debian/copyright "$doc"
date=$(git log -1 --format=%aD 2>/dev/null || date -R)
sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$date/" packaging/debian/changelog.in | gzip -9n > "$doc/changelog.gz"
install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/secretfs"
mkdir "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
    -e "s/@SIZE@/$(du -sk "$root" | cut -f1)/" packaging/debian/control.in > "$root/DEBIAN/control"
install -m 644 packaging/debian/conffiles "$root/DEBIAN"
install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN"
mkdir -p "$out"
dpkg-deb --root-owner-group --build "$root" "$out/secretfs_${version}_$architecture.deb"
