#!/usr/bin/env bash
# usage: packaging/build-image.sh [BIN [NAME]]
# Makes the image NAME (default: secretfs) from the programs in BIN (default: target/release, built if it
# is not there). Needs buildah. BASE=IMAGE builds on another image of Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1-target/release} name=${2-secretfs}
[ -x "$bin/mount-secretfs" ] || cargo build --release --locked --features etcd
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
umask 022
packaging/stage.sh "$bin" "$context"
strip --strip-unneeded "$context"/usr/bin/*
# Docker's format: OCI's has no health check.
buildah bud --format docker ${BASE:+--build-arg "BASE=$BASE" --pull-never} --tag "$name" \
    --file packaging/container/Containerfile "$context"
