//! The key of a mount for which none is configured: the first mount makes it.

use std::process::Command;

use crate::harness::{BUILT_IN_KEY, KEY, can_mount};
use crate::ordinary_user::as_user;
use crate::skip::has;

/// A copy of /etc without settings of a secretfs that is installed, in a mount namespace of the test. Then the script.
const AS_ROOT: &str = r#"
mkdir "$T/etc" && mount -t tmpfs none "$T/etc" && cp -a /etc/. "$T/etc" && rm -rf "$T/etc/secretfs"
mount --bind "$T/etc" /etc
KEYFILE=/etc/secretfs/encryption-key
# Mounts the state directory of this name, and says what is in no form of the log.
start() { secretfs mount "$T/$1" --state-dir "$T/$1.state" --user root --background "${@:2}" 2> "$T/$1.log" || echo "exit $?"
    sed -n "/^made/p; /^Error/p; s/.*default encryption key.*/default key/p" "$T/$1.log" | sed "s,$T,T,g"; }
stop() { secretfs unmount --mount "$T/$1" 2> "$T/log" || cat "$T/log"; }
cd "$T" && . "$SCRIPT"
"#;

const MADE: &str = "made the encryption key /etc/secretfs/encryption-key; keep a copy elsewhere: without it the secrets are lost\n";

/// What the script said, as root, in a namespace of its own: all that it started ends with it.
fn as_root(script: &str) -> Option<String> {
    if !can_mount() {
        return None;
    }
    let outside = tempfile::Builder::new().prefix("secretfs-test-").tempdir().unwrap();
    let script_file = outside.path().join("script");
    std::fs::write(&script_file, script).unwrap();
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_secretfs")).parent().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "bash", "-euc", AS_ROOT])
        .env_clear()
        .env("HOME", "/root")
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()))
        .env("T", outside.path())
        .env("BUILT_IN", BUILT_IN_KEY)
        .env("KEY", KEY)
        .env("SCRIPT", script_file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_first_mount_makes_a_key_and_says_so_once() {
    let said = as_root(
        r#"
        secretfs mount --check --state-dir $T/a.state && ls $KEYFILE 2>&1 || true
        start a
        stat -c "%a %u %s" $KEYFILE
        echo value > a/K
        secretfs --mount a is-secure
        stop a
        start a
        cat a/K
        secretfs audit verify --state-dir a.state > log
        stop a
        secretfs fsck --state-dir a.state > log 2>&1
        secretfs backup --offline --state-dir a.state backup.yaml 2> log
        secretfs mount --check --state-dir $T/a.state 2> log
        # Another store has the same key.
        start b
        secretfs --mount b is-secure
        ls -A /etc/secretfs"#,
    );
    let Some(said) = said else { return };
    let expected = [
        "ls: cannot access '/etc/secretfs/encryption-key': No such file or directory\n",
        MADE,
        "600 0 45\nService is secure.\nvalue\nService is secure.\nencryption-key\n",
    ];
    assert_eq!(said, expected.concat());
}

#[test]
fn a_key_that_is_gone_is_missed_and_no_other_one_is_made() {
    let said = as_root(
        r#"
        start a
        stop a
        mv $KEYFILE key
        id=$(cat a.state/key-ids)
        start a | sed "s/$id/ID/"
        secretfs mount --check --state-dir $T/a.state 2>&1 | grep -c 'no key is configured'
        secretfs fsck --state-dir $T/a.state 2>&1 | grep -c 'no key is configured'
        ls -A /etc/secretfs
        OB_ENCRYPTION_KEY=$KEY start a | grep -o 'with another encryption key'
        echo > $KEYFILE
        start a
        cp key $KEYFILE
        chmod 666 $KEYFILE
        start a
        chmod 600 $KEYFILE && chown 65534 $KEYFILE
        start a
        # Of a new store, too.
        start new | head -n 1
        chown 0 $KEYFILE
        start a
        stop a
        mv $KEYFILE key && ln -s $T/key $KEYFILE
        start a"#,
    );
    let Some(said) = said else { return };
    let missing = "Error: the store in T/a.state needs the encryption key with the id ID; no key is \
        configured, and /etc/secretfs/encryption-key is not there: put the key there, or give it with \
        --encryption-key-file or OB_ENCRYPTION_KEY\n";
    let file = "/etc/secretfs/encryption-key";
    let owner = "UID 65534, who is neither root nor the user who mounts; run chown on it";
    let background = "Error: the daemon did not start; its own message stands above\n";
    let other = "name another file or change its owner or mode";
    let expected = [
        format!("{MADE}exit 6\n{missing}{background}1\n1\nwith another encryption key\n"),
        format!(
            "exit 6\nError: {file}: the encryption key is empty; make one with `secretfs keygen`\n{background}"
        ),
        format!(
            "exit 6\nError: {file} cannot be used: others than its owner may write to {file} (mode 0666); run \
             chmod go-w on it; {other}\n{background}"
        ),
        format!(
            "exit 6\nError: {file} cannot be used: {file} belongs to {owner}; {other}\n{background}exit 6\n"
        ),
    ];
    assert_eq!(said, expected.concat());
}

#[test]
fn first_mounts_at_the_same_time_make_one_key() {
    let said = as_root(
        r#"
        for name in $(seq 6); do start $name > said.$name & done
        wait
        cat said.* | cut -d ' ' -f 1 | sort | uniq -c | tr -s ' '
        for name in $(seq 6); do echo value > $name/K; cat $name.state/key-ids; done | uniq | wc -l
        ls -A /etc/secretfs"#,
    );
    let Some(said) = said else { return };
    assert_eq!(said, " 1 made\n1\nencryption-key\n");
}

#[test]
fn without_a_place_for_a_key_no_store_is_made() {
    let said = as_root(
        r#"
        mount -o remount,ro,bind /etc
        start a
        ls -A a.state 2>&1 || true
        OB_ENCRYPTION_KEY=$KEY start a"#,
    );
    let Some(said) = said else { return };
    assert_eq!(
        said,
        "exit 6\nError: no encryption key is configured, and /etc/secretfs/encryption-key cannot be made: \
         Read-only file system (os error 30); make a key elsewhere with `secretfs keygen`, and name it with \
         --encryption-key-file\nError: the daemon did not start; its own message stands above\n\
         ls: cannot access 'a.state': No such file or directory\n"
    );
}

#[test]
fn a_store_of_the_built_in_key_goes_on_with_it() {
    if !has(&["pgrep"]) {
        return;
    }
    let said = as_root(
        r#"
        OB_ENCRYPTION_KEY=$BUILT_IN start a
        echo value > a/K
        stop a
        start a
        secretfs --mount a is-secure 2>&1 || echo $?
        cat a/K
        ls -A /etc/secretfs 2>&1 || true
        # A server that takes over uses it, too.
        kill -9 $(pgrep -f "^secretfs serve")
        cat a/K
        stop a
        # A key that was made for another store is not this one's.
        start b
        start a
        stop a
        secretfs fsck --state-dir a.state > log 2>&1
        # On its way to the key in the file.
        install -m 600 /dev/null previous && echo $BUILT_IN > previous
        start a --previous-encryption-key-file $T/previous
        secretfs --mount a rekey > log 2>&1
        secretfs --mount a is-secure
        stop a
        start a
        cat a/K"#,
    );
    let Some(said) = said else { return };
    let insecure = "Error: secret svc is not secure: it is using the default encryption key\n1\n";
    let missing = "ls: cannot access '/etc/secretfs': No such file or directory\n";
    assert_eq!(
        said,
        format!(
            "default key\ndefault key\n{insecure}value\n{missing}value\n{MADE}default key\n\
             Service is secure.\nvalue\n"
        )
    );
}

#[test]
fn a_server_that_takes_over_has_the_key_that_was_made() {
    if !has(&["pgrep"]) {
        return;
    }
    let said = as_root(
        r#"
        start a
        echo value > a/K
        rm $KEYFILE
        kill -9 $(pgrep -f "^secretfs serve")
        cat a/K
        secretfs reload --mount a 2>&1 | grep -o '/etc/secretfs/encryption-key cannot be used: No such file'
        kill -9 $(pgrep -f "^secretfs serve")
        cat a/K"#,
    );
    let Some(said) = said else { return };
    let refused = "/etc/secretfs/encryption-key cannot be used: No such file\n";
    assert_eq!(said, format!("{MADE}value\n{refused}value\n"));
}

#[test]
fn an_ordinary_user_has_a_key_of_its_own() {
    let said = as_user(
        r#"
        unset OB_ENCRYPTION_KEY
        secretfs mount ~/s --background 2>&1 | grep -v '^{' | sed "s,$HOME,~,g"
        stat -c %a ~/.config ~/.config/secretfs ~/.config/secretfs/encryption-key
        secretfs list 2>&1 | sed "s,$HOME,~,g"
        export SECRETFS_MOUNT=$HOME/s
        secretfs is-secure
        secretfs save any/name value && cat ~/s/any/name && echo
        secretfs unmount
        secretfs fsck > ~/log 2>&1
        # A relative path in the variable is ignored.
        XDG_CONFIG_HOME=config secretfs mount ~/s --background 2> ~/log
        cat ~/s/any/name && echo
        secretfs unmount
        XDG_CONFIG_HOME=$HOME/c secretfs mount ~/s --state-dir ~/other --background 2> ~/log
        stat -c %a ~/c/secretfs/encryption-key
        HOME= secretfs unmount ~/s
        # `~` comes from the variable.
        home=$HOME; unset HOME
        secretfs mount $home/s --state-dir $home/third 2>&1 || echo $?
        ls $home"#,
    );
    let Some(said) = said else { return };
    let expected = [
        "made the encryption key ~/.config/secretfs/encryption-key; keep a copy elsewhere: without it the secrets are lost\n",
        "mounted at ~/s\n700\n700\n600\n",
        "Error: secretfs is not mounted at `/secrets`; you have mounted it at `~/s`: name that with --mount or \
         SECRETFS_MOUNT\n",
        "Service is secure.\nvalue\nvalue\n600\n",
        "Error: no encryption key is configured, and there is no home directory for one; name a file with \
         --encryption-key-file\n5\nc\nlog\nother\ns\n",
    ];
    assert_eq!(said, expected.concat());
}
