# A machine to throw away: this one's files under a layer that forgets, in namespaces that end with the
# script. Runs `$SCRIPT` there, as root, in a copy of the source whose programs are those of the tests.
set -euo pipefail
mount -t tmpfs none "$ROOM"
mkdir "$ROOM"/{upper,work,machine,upper-source,work-source}
M=$ROOM/machine
mount -t overlay overlay -o "lowerdir=/,upperdir=$ROOM/upper,workdir=$ROOM/work" "$M"
for folder in proc run tmp sys; do mkdir -p "$M/$folder"; done
mount -t proc proc "$M/proc"
mount --rbind /dev "$M/dev"
mount -t tmpfs none "$M/run"
mount -t tmpfs none "$M/tmp"
rm -rf "$M/etc/secretfs" "$M/var/lib/secretfs" "$M/secrets" "$M/srv/secrets"
mkdir "$M/usr/src/secretfs"
mount -t overlay overlay \
    -o "lowerdir=$SOURCE,upperdir=$ROOM/upper-source,workdir=$ROOM/work-source" "$M/usr/src/secretfs"
mkdir -p "$M/usr/src/secretfs/target/release"
mount --bind "$PROGRAMS" "$M/usr/src/secretfs/target/release"
# As the guide says where locate is installed.
[ ! -e "$M/etc/updatedb.conf" ] || sed -i 's/^PRUNEFS="/&fuse.secretfs /' "$M/etc/updatedb.conf"
install "$STAND_IN" "$M/usr/local/sbin/systemctl"
install -m 644 "$SCRIPT" "$M/run/script"
# Compressing a debug build would be most of the time.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DPKG_DEB_COMPRESSOR_TYPE=none DEBIAN_FRONTEND=noninteractive \
    chroot "$M" bash -c 'cd /usr/src/secretfs && exec bash /run/script'
