//! A mount of a user other than root, whose home directory is empty.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::harness::{KEY, can_mount, skip};
use crate::preload::{NO_RESEND, build_library};
use crate::skip::has;

/// Debian's `nobody`: a UID without files, services or a home directory.
const UID: u32 = 65_534;

/// What root prepares in a mount namespace of the test: a device that every user may open, as udev makes it.
/// Then the user's script.
const AS_USER: &str = r#"
mkdir "$HOME/../dev" && mount -t tmpfs none "$HOME/../dev"
mknod -m 666 "$HOME/../dev/fuse" c 10 229 && mount --bind "$HOME/../dev/fuse" /dev/fuse
eval "$PREPARE"
cd "$HOME" && exec setpriv --reuid $USER_ID --regid $USER_ID --clear-groups sh -ec "$SCRIPT"
"#;

#[test]
fn a_user_with_an_empty_home_directory_mounts() {
    let said = as_user(
        r#"
        secretfs mount ~/s --background 2> ~/log || cat ~/log
        echo value > ~/s/any-name
        stat -c %a ~/.local ~/.local/state ~/.local/state/secretfs
        secretfs unmount --mount ~/s 2> ~/log || cat ~/log
        secretfs mount ~/s --background 2> ~/log || cat ~/log
        cat ~/s/any-name"#,
    );
    if let Some(said) = said {
        assert_eq!(said, "700\n700\n700\nvalue\n");
    }
}

/// The server is there by then, and has nothing to add.
#[test]
fn a_mount_that_fails_says_why_and_nothing_else() {
    let said = as_user(
        r#"
        mkdir -m 555 ~/no
        ! secretfs mount ~/no 2>&1
        ! secretfs mount ~/no --background 2>&1"#,
    );
    if let Some(said) = said {
        let mut lines = said.lines();
        let why = lines.next().unwrap();
        assert!(why.contains("no write access to mountpoint"), "{said}");
        let in_background = ["Error: the daemon did not start; its own message stands above"];
        assert_eq!(lines.collect::<Vec<_>>(), [&[why], &in_background[..]].concat());
    }
}

/// Before Linux 6.9 the supervisor mounts again, as the user who mounted.
#[test]
fn a_killed_server_is_replaced_on_an_old_kernel() {
    if !has(&["pgrep"]) {
        return;
    }
    let said = as_user(
        r#"
        LD_PRELOAD=$LIBRARY secretfs mount ~/s --background 2> ~/log || cat ~/log
        echo value > ~/s/any-name
        for kill in 1 2 3; do
            kill -9 $(pgrep -f '^secretfs serve')
            for attempt in $(seq 100); do
                sleep 0.02
                value=$(cat ~/s/any-name 2> ~/log) && break
            done
            echo $value
            head -n 2 ~/s/.status/health | cut -c -20
        done
        secretfs upgrade ~/s 2>&1 | cut -d ' ' -f 1
        secretfs unmount --mount ~/s 2> ~/log || cat ~/log
        ls -A ~/s"#,
    );
    if let Some(said) = said {
        assert_eq!(said, "value\nok\nnote: this kernel do\n".repeat(3) + "note:\nUpgraded\n");
    }
}

#[test]
fn the_settings_of_the_system_name_no_places_to_a_user() {
    let prepare = r#"
        mkdir "$HOME/../etc" && mount -t tmpfs none "$HOME/../etc" && cp -a /etc/. "$HOME/../etc"
        mount --bind "$HOME/../etc" /etc && mkdir -p /etc/secretfs && cd /etc/secretfs
        umask 077 && echo "$OB_ENCRYPTION_KEY" > encryption-key && umask 022
        printf '%s\n' 'encryption-key-file: /etc/secretfs/encryption-key' 'mountpoint: /secrets' \
            'state-dir: /var/lib/secretfs' 'import-dir: /root' 'user: root' 'list-acl: true' > config.yaml"#;
    let script = r#"
        unset OB_ENCRYPTION_KEY
        secretfs mount ~/s --background 2> ~/log || cat ~/log
        echo value > ~/s/any-name
        ls ~/s
        # What is named is meant.
        secretfs mount ~/t --config /etc/secretfs/config.yaml 2>&1 | grep -o 'only root'"#;
    let Some(said) = as_user_after(prepare, script) else { return };
    assert_eq!(said, "any-name\nany-name.acl\nonly root\n");
}

#[test]
fn without_the_device_it_says_what_to_do_and_makes_nothing() {
    let prepare = "chmod 600 /dev/fuse";
    let script = "unset OB_ENCRYPTION_KEY; secretfs mount ~/s 2>&1 || echo $?; ls -A ~";
    let Some(said) = as_user_after(prepare, script) else { return };
    assert_eq!(
        said,
        "Error: /dev/fuse cannot be used: Permission denied (os error 13); let this user open it (as root, \
         `chmod 666 /dev/fuse`), or start the container with `--device /dev/fuse`\n6\n"
    );
}

/// What the script said, in a namespace of its own: all that it started ends with it.
pub(crate) fn as_user(script: &str) -> Option<String> {
    as_user_after(":", script)
}

/// As [`as_user`], after this script of root.
fn as_user_after(prepare: &str, script: &str) -> Option<String> {
    if !can_mount() {
        return None;
    }
    if !fs::exists("/usr/bin/fusermount3").unwrap() {
        skip("needs fusermount3");
        return None;
    }
    let outside = tempfile::Builder::new().prefix("secretfs-test-").tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = outside.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(UID), Some(UID)).unwrap();
    let library = build_library(outside.path(), NO_RESEND)?;
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_secretfs")).parent().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "sh", "-ec", AS_USER])
        .env_clear()
        .env("HOME", &home)
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()))
        .env("OB_ENCRYPTION_KEY", KEY)
        .env("USER_ID", UID.to_string())
        .env("LIBRARY", library)
        .env("PREPARE", prepare)
        .env("SCRIPT", script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}
