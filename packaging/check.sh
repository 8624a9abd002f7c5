#!/usr/bin/env bash
# usage: packaging/check.sh [BIN]
# Builds every package from the programs in BIN (default: target/release, built if it is not there) and has
# it judged by whatever judges there are on this machine; says what was not checked for want of one.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1-target/release}
[ -x "$bin/mount-secretfs" ] || cargo build --release --locked --features etcd
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
has() { command -v "$1" >/dev/null || { echo "not checked: $2 (needs $1)"; return 1; }; }

echo "== the documents"
packaging/check-documents.sh
# A mount of its own, in namespaces of its own.
if [ "$(id -u)" = 0 ] && [ -e /dev/fuse ]; then
    docs/session.sh --check "$bin"
else
    echo "not checked: the session in docs/session.txt (needs root and /dev/fuse)"
fi

echo "== the Debian package"
# Packages serve shared stores.
said=$(OB_ENCRYPTION_KEY=$RANDOM timeout 5 "$bin/secretfs" migrate --state-dir "$out/state" --from etcd://127.0.0.1:1/x 2>&1 || :)
if grep 'features etcd' <<< "$said"; then
    exit 1
fi
packaging/build-deb.sh "$bin" "$out"
# A user cannot be `root` in a container of CI and be trusted by lintian otherwise.
! has lintian "what lintian says" || lintian --allow-root --fail-on error,warning --info "$out"/*.deb

if has rpmbuild "the RPM"; then
    echo "== the RPM"
    packaging/build-rpm.sh "$bin" "$out"
    rpm=$(ls "$out"/*.rpm)
    for wanted in /usr/bin/secretfs /usr/sbin/mount.secretfs /usr/lib/systemd/system/secretfs.service \
        /usr/share/man/man1/secretfs-mount.1.gz /usr/share/zsh/site-functions/_secretfs; do
        rpm -qlp "$rpm" | grep -x "$wanted" >/dev/null || { echo "$wanted is not in it"; exit 1; }
    done
    diff <(rpm -qcp "$rpm") <(printf '%s\n' /etc/secretfs/config.yaml /etc/secretfs/identities.yaml)
    # Both packages hold the same, but for where zsh and rpm look.
    list() { sed -E 's,/(vendor-completions|site-functions)/,/zsh/,; s,^\.?,,' | grep -v '/$' | sort; }
    diff <(dpkg-deb --fsys-tarfile "$out"/*.deb | tar -t | list | grep -Ev 'copyright|changelog|lintian') \
        <(rpm -qp --queryformat '[%{FILEMODES:perms} %{FILENAMES}\n]' "$rpm" | sed -n 's/^[^d][^ ]* //p' | list)
    rpm -qp --scripts "$rpm" | sed -n '/^[a-z]* scriptlet/!p' | sh -n
fi

echo "== Kubernetes"
if has kubernetes-validate "the manifests against the API's schemas"; then
    for file in packaging/kubernetes/*.yaml; do
        kubernetes-validate --strict "$file"
    done
fi

if has buildah "the images"; then
    echo "== the images"
    packaging/check-images.sh "$bin"
fi
