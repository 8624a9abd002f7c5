//! overlayfs on top of the mount, and id-mapped mounts of it: what is possible, and that the rest is an error.

use super::Stage;

#[test]
fn as_the_lower_layer_of_overlayfs_it_gives_whole_values_or_an_error() {
    let Some(stage) = Stage::with(&["findmnt"]) else { return };
    stage.put("K", "first", "bob");
    stage.put("dir/L", "other", "");
    let said = stage.run(
        r#"
        mount -t tmpfs none /srv && mkdir /srv/upper /srv/work /srv/o
        mount -t overlay overlay -o lowerdir=$S,upperdir=/srv/upper,workdir=/srv/work /srv/o
        cat /srv/o/K /srv/o/dir/L; echo
        # Others have the rights of whoever mounted it, as far as the displayed mode goes.
        (as 2200 cat /srv/o/dir/L 2>&1 || true) | grep -o 'Permission denied'
        # overlayfs keeps the old file, and the kernel refuses it: no old, cut off or mixed value.
        for value in second-and-longer 3; do
            printf %s $value > $S/K
            read=$(cat /srv/o/K 2>&1) || true
            case $read in $value|*'Stale file handle') echo ok;; *) echo "read: $read";; esac
            size=$(stat -c %s /srv/o/K 2>/dev/null || echo ${#value})
            [ $size = ${#value} ] || echo "size: $size"
        done
        # What is written there stays there.
        echo mine > /srv/o/dir/new && cat /srv/o/dir/new && [ ! -e $S/dir/new ]
        umount /srv/o
        mount -t overlay overlay -o lowerdir=$S,upperdir=/srv/upper,workdir=/srv/work /srv/o
        cat /srv/o/K; echo
        umount /srv/o
        # It is no upper layer: it has no whiteouts, and no attributes that can be set.
        mkdir $S/upper $S/work
        ! mount -t overlay overlay -o lowerdir=/srv/work,upperdir=$S/upper,workdir=$S/work /srv/o 2> $T/said"#,
    );
    assert_eq!(said, "firstother\nPermission denied\nok\nok\nmine\n3\n");
}

#[test]
fn an_id_mapped_mount_is_refused() {
    let Some(stage) = Stage::with(&["python3"]) else { return };
    let said = stage.run(
        r#"
        unshare --user sleep 60 & sleeper=$!
        other() { [ "$(readlink /proc/$sleeper/ns/user)" != "$(readlink /proc/self/ns/user)" ]; }
        eventually other
        echo '0 100000 65536' > /proc/$sleeper/uid_map
        echo '0 100000 65536' > /proc/$sleeper/gid_map
        python3 - $S /proc/$sleeper/ns/user <<'PYTHON'
import ctypes, errno, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
OPEN_TREE, MOUNT_SETATTR, AT_EMPTY_PATH, IDMAP = 428, 442, 0x1000, 0x00100000
tree = libc.syscall(OPEN_TREE, -100, sys.argv[1].encode(), 1)
assert tree >= 0, os.strerror(ctypes.get_errno())
attributes = struct.pack('QQQQ', IDMAP, 0, 0, os.open(sys.argv[2], os.O_RDONLY))
print(libc.syscall(MOUNT_SETATTR, tree, b'', AT_EMPTY_PATH, attributes, 32), errno.errorcode[ctypes.get_errno()])
PYTHON
        kill $sleeper"#,
    );
    assert_eq!(said, "-1 EINVAL\n");
}
