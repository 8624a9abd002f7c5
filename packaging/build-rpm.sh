#!/usr/bin/env bash
# usage: packaging/build-rpm.sh [BIN [OUT [VERSION]]]
# Makes an RPM in OUT from the programs in BIN (default: target/release, built if it is not there). Needs
# rpmbuild; the machine need not be one of RPMs.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1-target/release} out=${2-target/packages}
[ -x "$bin/mount-secretfs" ] || cargo build --release --locked --features etcd
version=${3-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
rpmbuild -bb --quiet --define "_topdir $work" --define "_rpmdir $(realpath "$out")" \
    --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
    --define "source $PWD" --define "bin $(realpath "$bin")" --define "version $version" \
    packaging/rpm/secretfs.spec
ls "$out"/secretfs-"$version"-*.rpm
