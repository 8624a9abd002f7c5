#!/usr/bin/env bash
# usage: packaging/check-images.sh [BIN]
# Builds the images of packaging/container and examples/container and runs what is in them: the daemon as
# its own user, and a program that reads a secret of the machine's mount with its own UID. Needs root,
# buildah and /dev/fuse, and mmdebstrap where BASE=IMAGE names no image of Debian. No container runtime:
# buildah runs the programs in the image's files, with the image's user and few capabilities.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${1-target/release}")
export BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
containers=() images=() daemon=
cleanup() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon" || :; }
    for container in "${containers[@]}"; do buildah rm "$container" >/dev/null || :; done
    for image in "${images[@]}"; do buildah rmi --force "$image" >/dev/null || :; done
    rm -rf "$work"
}
trap cleanup EXIT
is() { [ "$1" = "$2" ] || { echo "expected '$2', got '$1' (line ${BASH_LINENO[0]})"; exit 1; }; }

if [ -z "${BASE-}" ]; then
    mmdebstrap --quiet --variant=minbase --include=fuse3 bookworm "$work/base.tar"
    container=$(buildah from scratch)
    containers+=("$container")
    buildah add --quiet "$container" "$work/base.tar" / >/dev/null
    rm "$work/base.tar"
    BASE=localhost/secretfs-check-base
    buildah commit --quiet "$container" "$BASE" >/dev/null
    images+=("$BASE")
fi
export BASE

echo "-- the daemon's image"
packaging/build-image.sh "$bin" localhost/secretfs-check >/dev/null
images+=(localhost/secretfs-check)
container=$(buildah from --pull-never localhost/secretfs-check)
containers+=("$container")
setting() { buildah inspect --format "{{.Docker.Config.$1}}" "$container"; }
is "$(setting User)" 65532:65532
is "$(setting Entrypoint) $(setting Cmd)" "[/usr/bin/secretfs] [mount /secrets]"
run() { buildah run "$@"; }
is "$(run "$container" -- secretfs --version)" "secretfs $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)"
is "$(run "$container" -- id -u)" 65532
# As a container runtime would start it, with a look from the same UID. By hand, since buildah's way of
# doing without a runtime lets no set-user-ID program do anything, and fusermount3 is one.
cat > "$work/try" <<'END'
set -eu
umask 077
secretfs keygen > /tmp/key
secretfs mount /secrets --encryption-key-file /tmp/key 2> /tmp/log &
for i in $(seq 400); do
    ! grep -q 'mounted at' /tmp/log || break
    kill -0 $! || { cat /tmp/log >&2; exit 1; }
    sleep 0.05
done
echo value > /secrets/secretfs/K
cat /secrets/secretfs/K /secrets/.status/health
kill $!
wait $!
END
files=$(buildah mount "$container")
cat > "$work/runtime" <<'END'
set -eu
cd "$1"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs none tmp
# For everybody, as udev and container runtimes make it; not every machine of a test has udev.
mknod -m 666 tmp/fuse c 10 229
mount --bind tmp/fuse dev/fuse
cp "$2" run/try
exec env -i PATH=/usr/sbin:/usr/bin SECRETFS_STATE_DIR=/var/lib/secretfs \
    chroot --userspec=65532:65532 . sh /run/try
END
said=$(unshare --mount --propagation private --pid --fork --kill-child sh "$work/runtime" "$files" "$work/try")
is "$said" "value"$'\n'"ok"
echo "it serves its own user, which is not root"

echo "-- the example's image"
buildah bud --quiet --format docker --pull-never --build-arg "BASE=$BASE" --tag localhost/secretfs-example \
    examples/container >/dev/null
images+=(localhost/secretfs-example)
container=$(buildah from --pull-never localhost/secretfs-example)
containers+=("$container")
mkdir "$work/secrets"
install -d -m 700 "$work/state"
(umask 077; "$bin/secretfs" keygen > "$work/key")
printf 'identities:\n  - slug: billing\n    uid: 2001\n' > "$work/identities.yaml"
touch "$work/log"
"$bin/secretfs" mount "$work/secrets" --config /dev/null --state-dir "$work/state" \
    --identities "$work/identities.yaml" --encryption-key-file "$work/key" 2> "$work/log" &
daemon=$!
until grep -q 'mounted at' "$work/log"; do kill -0 $daemon; sleep 0.05; done
export SECRETFS_MOUNT=$work/secrets
printf hunter2 | "$bin/secretfs" save billing/DB_PASSWORD - 2>/dev/null
printf other | "$bin/secretfs" save other/K - 2>/dev/null
start() {
    buildah run --volume "$work/secrets/$1:/run/secrets:ro" --env "DB_PASSWORD_FILE=/run/secrets/$2" \
        "$container" -- /usr/local/bin/entrypoint.sh sh -c 'id -u; echo "$DB_PASSWORD"'
}
if start billing DB_PASSWORD 2>/dev/null; then echo "it read what it may not"; exit 1; fi
"$bin/secretfs" acl grant billing/DB_PASSWORD readers billing 2>/dev/null
is "$(start billing DB_PASSWORD)" 2001$'\n'hunter2
if start other K 2>/dev/null; then echo "it read another's"; exit 1; fi
echo "it reads its secret as UID 2001, and no other"
