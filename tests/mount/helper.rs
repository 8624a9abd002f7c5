//! mount(8), `mount -a` and `umount` with the mount helper, each in a namespace of its own, where the
//! helper is installed in `/sbin` and where every process ends with the script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::harness::{IDENTITIES, KEY, Mount};

/// Puts the helper into `/sbin` as a package does, without touching the machine's, and gives scripts
/// `$OPTIONS` that say where everything is.
const PREPARE: &str = r#"
set -eu
SBIN=$(readlink -f /sbin)
mkdir $T/real $T/sbin
mount --bind "$SBIN" $T/real
ln -s $T/real/* $T/sbin/
rm -f $T/sbin/mount.secretfs $T/sbin/mount.fuse.secretfs
ln -s $HELPER $T/sbin/mount.secretfs
ln -s $HELPER $T/sbin/mount.fuse.secretfs
mount --bind $T/sbin "$SBIN"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
OPTIONS=state_dir=$STATE,identities=$IDENTITIES,encryption_key_file=$KEYFILE
mounts() { grep -c " $POINT " /proc/self/mountinfo || :; }
code() { local code=0; "$@" 2>> $T/said || code=$?; echo $code; }
ended() { for i in $(seq 1000); do pgrep -x secretfs > $T/pids || return 0; sleep 0.01; done; return 1; }
"#;

/// Runs the script as root; it must succeed. Gives its standard output.
#[track_caller]
fn run(script: &str) -> Option<String> {
    let mount = Mount::prepare()?.with_identities(IDENTITIES);
    let key = mount.roots().join("key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "bash", "-c", &format!("{PREPARE}{script}")])
        .env("T", mount.outside())
        .env("POINT", mount.point())
        .env("STATE", mount.state())
        .env("IDENTITIES", mount.identities())
        .env("KEYFILE", &key)
        .env("HELPER", env!("CARGO_BIN_EXE_mount-secretfs"))
        .env_remove("OB_ENCRYPTION_KEY")
        .stdin(Stdio::null())
        .output()
        .expect("util-linux is there");
    let (out, said) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    let more = fs::read_to_string(mount.outside().join("said")).unwrap_or_default();
    assert!(output.status.success(), "{}: {said}{more}", output.status);
    Some(String::from_utf8(out).unwrap() + &more)
}

#[test]
fn mount_and_umount() {
    let Some(said) = run(r#"
        mount -t secretfs secretfs $POINT -o $OPTIONS,noatime,user
        # It is served when mount(8) returns: no waiting.
        echo value > $POINT/root-key
        cat $POINT/root-key
        findmnt -no FSTYPE,SOURCE $POINT
        umount $POINT
        mounts
        ended
        mount -t fuse.secretfs -o $OPTIONS secretfs $POINT
        cat $POINT/root-key
        umount $POINT"#)
    else {
        return;
    };
    let said: Vec<_> = said.split_whitespace().collect();
    assert_eq!(said, ["value", "fuse.secretfs", "secretfs", "0", "value"]);
}

#[test]
fn lines_of_fstab() {
    let Some(said) = run(r#"
        echo "secretfs $POINT secretfs $OPTIONS,noauto,x-systemd.automount,nofail,_netdev 0 0" \
            > $T/fstab
        mount -T $T/fstab -a
        mounts                      # 0: noauto
        mount -T $T/fstab $POINT
        mounts                      # 1
        umount $POINT
        ended
        sed -i s/noauto,// $T/fstab
        mount -T $T/fstab -a
        mount -T $T/fstab -a
        mounts                      # 1: the second time it was there
        echo value > $POINT/K
        umount $POINT
        mounts                      # 0
        ended"#)
    else {
        return;
    };
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1", "1", "0"], "{said}");
}

#[test]
fn a_mount_that_fails_says_so() {
    let Some(said) = run(r#"
        M="mount -t secretfs secretfs $POINT"
        code $M -o $OPTIONS,colour=red,size=5                              # 1
        code $M -o $OPTIONS,threads=many                                   # 1
        code mount -t secretfs none $POINT -o $OPTIONS                     # 1
        code $M -o $OPTIONS,remount                                        # 32
        echo x > $T/file
        code mount -t secretfs secretfs $T/file -o $OPTIONS                # 32
        code $M -o $OPTIONS,encryption_key_file=$T/missing                 # 32
        mounts                                                             # 0
        cp $(readlink -f $HELPER) $T/alone && rm $T/sbin/mount.secretfs
        ln -s $T/alone $T/sbin/mount.secretfs
        code $M -o $OPTIONS                                                # 2
        rm $T/sbin/mount.secretfs && ln -s $HELPER $T/sbin/mount.secretfs
        $M -o $OPTIONS
        echo value > $POINT/K
        code $M -o $OPTIONS                                                # 32: in use
        mounts                                                             # 1
        cat $POINT/K
        umount $POINT && ended
        echo another > $T/other-key && chmod 600 $T/other-key
        code $M -o $OPTIONS,encryption_key_file=$T/other-key               # 32
        code setpriv --reuid 4242 --regid 4242 --clear-groups \
            /sbin/mount.secretfs secretfs $POINT -o state_dir=$STATE       # 32
        mounts                                                             # 0"#)
    else {
        return;
    };
    let codes = ["1", "1", "1", "32", "32", "32", "0", "2", "32", "1", "value", "32", "32", "0"];
    let words: Vec<_> = said.split_whitespace().take(codes.len()).collect();
    assert_eq!(words, codes, "{said}");
    for told in [
        "`colour`, `size`",
        "threads",
        "`none`",
        "is not a directory",
        "missing",
        "in use",
        "another",
    ] {
        assert!(said.contains(told), "nobody told of {told}:\n{said}");
    }
}

#[test]
fn a_read_only_mount_stays_so_until_it_is_remounted() {
    let Some(said) = run(r#"
        mount -t secretfs secretfs $POINT -o ro,$OPTIONS
        code bash -c "echo value > $POINT/K"                  # 1
        findmnt -no VFS-OPTIONS $POINT
        mount -t secretfs secretfs $POINT -o remount,rw
        echo value > $POINT/K
        mount -t secretfs secretfs $POINT -o remount,ro
        code rm -f $POINT/K                                   # 1
        cat $POINT/K
        umount $POINT"#)
    else {
        return;
    };
    let words: Vec<_> = said.split_whitespace().take(4).collect();
    assert_eq!(words, ["1", "ro,nosuid,nodev,noexec,noatime", "1", "value"], "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
}

/// The kernel is given the labels. Where it has no SELinux it refuses them, unless mount(8) leaves them out.
#[test]
fn labels_of_selinux_are_passed_on() {
    let Some(said) = run(r#"
        CONTEXT='context="system_u:object_r:etc_t:s0:c1,c2"'
        LABELS=fscontext=system_u:object_r:fusefs_t:s0,rootcontext=system_u:object_r:etc_t:s0
        /sbin/mount.secretfs secretfs $POINT -f -v -o "$OPTIONS,$CONTEXT,$LABELS" 2>&1 | tr '"' '\n'
        [ -d /sys/fs/selinux/booleans ] || code /sbin/mount.secretfs secretfs $POINT -o "$OPTIONS,$LABELS"
        code /sbin/mount.secretfs secretfs $POINT -o "$OPTIONS,context=a b"
        mounts"#)
    else {
        return;
    };
    for flag in [
        "\n--context=system_u:object_r:etc_t:s0:c1,c2\n",
        "\n--fscontext=system_u:object_r:fusefs_t:s0\n",
        "\n--rootcontext=system_u:object_r:etc_t:s0\n",
        "is not an SELinux label",
    ] {
        assert!(said.contains(flag), "no {flag} in:\n{said}");
    }
    if !fs::exists("/sys/fs/selinux/booleans").unwrap() {
        assert!(said.contains("need root and a kernel with SELinux"), "{said}");
    }
}

#[test]
fn flags_of_mount() {
    let Some(said) = run(r#"
        H=/sbin/mount.secretfs
        $H secretfs $POINT -f -o $OPTIONS                     # checked, not mounted
        code $H secretfs $POINT -f -o nonsense                # 1
        $H secretfs $POINT -s -n -v -o $OPTIONS,nonsense 2>> $T/said
        mounts                                                # 1
        umount $POINT
        $H --help | grep -c fstab
        $H --version"#)
    else {
        return;
    };
    let words: Vec<_> = said.split_whitespace().take(5).collect();
    assert_eq!(words, ["1", "1", "1", "mount.secretfs", env!("CARGO_PKG_VERSION")], "{said}");
    assert!(said.contains("--background"), "-v shows the command:\n{said}");
}
