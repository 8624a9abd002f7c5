//! `secretfs mount --background` for whoever waits for the end of its output, and what the daemon keeps of
//! its caller: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::harness::{IDENTITIES, KEY, Mount};
use crate::skip::has;

/// `mounts` starts a daemon, `daemon` prints the process ids of the daemon, `nothing_is_kept` checks them.
const PREPARE: &str = r#"
set -euo pipefail
mkdir $T/cwd $T/bin && mount -t tmpfs none $T/cwd
: > $T/lock
OPTIONS=(--state-dir "$STATE" --identities "$IDENTITIES" --encryption-key-file "$KEYFILE")
START=(timeout --foreground 30 "$SECRETFS" mount --background "${OPTIONS[@]}" "$POINT")
eventually() { for _ in $(seq 400); do "$@" && return; sleep 0.05; done; echo "never: $*" >&2; return 1; }
daemon() { local pid; for pid in /proc/[0-9]*; do [ "$(readlink $pid/exe)" != "$SECRETFS" ] || echo ${pid#/proc/}; done; }
server() { pgrep -f '^secretfs serve'; }
serves() { [ "$(daemon | wc -l)" -ge 5 ]; }
is_clean() {
    local pid link
    for pid in $(daemon); do
        [ "$(readlink /proc/$pid/cwd)" = / ] || { echo "$pid: cwd $(readlink /proc/$pid/cwd)"; return 1; }
        [ "$(ps -o sid= -p $pid | tr -d ' ')" != "$(ps -o sid= -p $$ | tr -d ' ')" ] || { echo "$pid: session"; return 1; }
        [ "$(ps -o tty= -p $pid | tr -d ' ')" = '?' ] || { echo "$pid: terminal"; return 1; }
        for link in /proc/$pid/fd/[0-9]*; do
            case $(readlink $link) in
                $T/*|/dev/pts/*|/dev/tty*) echo "$(tr '\0' ' ' < /proc/$pid/cmdline): $link -> $(readlink $link)"; return 1;;
            esac
            case $link in */fd/[12]) [ "$(readlink $link)" = /dev/null ] || { echo "$(tr '\0' ' ' < /proc/$pid/cmdline): $link -> $(readlink $link)"; return 1; };; esac
        done
    done > $T/kept
}
nothing_is_kept() {
    serves || { echo "not all of the daemon runs:"; ps -ef; return 1; } >&2
    eventually is_clean || { cat $T/kept >&2; return 1; }
}
ends() { "$SECRETFS" unmount --mount "$POINT" 2> $T/said; eventually gone; }
gone() { [ -z "$(daemon)" ]; }
"#;

/// Runs the script as root in namespaces of its own, if these programs are there; it must succeed.
#[track_caller]
pub(super) fn run(programs: &[&str], script: &str) -> Option<String> {
    if !has(programs) {
        return None;
    }
    let mount = Mount::prepare()?.with_identities(IDENTITIES);
    let key = mount.roots().join("key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    // A pipe that never ends must not keep the test for ever.
    let output = Command::new("timeout")
        .args(["--signal=KILL", "60", "unshare"])
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "bash", "-c", &format!("{PREPARE}{script}")])
        .env("T", mount.outside())
        .env("POINT", mount.point())
        .env("STATE", mount.state())
        .env("IDENTITIES", mount.identities())
        .env("KEYFILE", &key)
        .env("SECRETFS", env!("CARGO_BIN_EXE_secretfs"))
        .env("HELPER", env!("CARGO_BIN_EXE_mount-secretfs"))
        .env_remove("OB_ENCRYPTION_KEY")
        .stdin(Stdio::null())
        .output()
        .expect("util-linux is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_command_substitution_ends_and_nothing_of_the_caller_is_kept() {
    let Some(said) = run(
        &["flock", "ps", "pgrep"],
        r#"
        exec 9> $T/lock; flock 9
        cd $T/cwd
        out=$("${START[@]}" 2>&1 7< $T/lock)
        cd /
        grep -o 'mounted at' <<< "$out"
        nothing_is_kept
        exec 9>&-
        flock --nonblock $T/lock true
        umount $T/cwd
        # Nor do those that are started later.
        kill -9 $(server)
        eventually cat $POINT/.status/version > $T/version
        eventually serves
        nothing_is_kept
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "mounted at\n");
}

#[test]
fn a_relative_path_means_the_directory_of_the_caller() {
    let Some(said) = run(
        &["ps", "pgrep"],
        r#"
        cd "$(dirname "$KEYFILE")"
        cp "$KEYFILE" own-key && cp "$IDENTITIES" who
        (echo "identities: who"; echo "state-dir: state") > config
        "$SECRETFS" mount --background --config config --encryption-key-file own-key m 2>&1 | grep -o 'mounted at'
        echo value > m/K
        # They are still found when a server is started again.
        kill -9 $(server)
        eventually cat m/K
        [ -d state/audit ]
        POINT=$PWD/m
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "mounted at\nvalue\n");
}

#[test]
fn python_that_captures_the_output_goes_on() {
    let Some(said) = run(
        &["python3", "ps", "pgrep"],
        r#"
        cd $T/cwd
        python3 - "${START[@]}" <<'PYTHON'
import subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True, timeout=30, close_fds=False)
print(done.returncode, 'mounted at' in done.stderr, repr(done.stdout))
PYTHON
        cd /
        nothing_is_kept
        umount $T/cwd
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "0 True ''\n");
}

#[test]
fn a_remote_shell_sees_the_end_of_both_streams() {
    // sshd waits for the end of its pipes, and a terminal is what `ssh -t` gives.
    let Some(said) = run(
        &["script", "ps", "pgrep"],
        r#"
        { { "${START[@]}"; echo "exit $?"; } 2>&1 >&3 | grep -o 'mounted at'; } 3>&1 | cat
        nothing_is_kept
        ends
        script -qec "${START[*]}" $T/typescript < /dev/null > $T/typed
        nothing_is_kept
        ends"#,
    ) else {
        return;
    };
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["exit 0", "mounted at"]);
}

#[test]
fn the_mount_helper_lets_go_as_well() {
    let Some(said) = run(
        &["ps", "pgrep"],
        r#"
        exec 9> $T/lock
        cd $T/cwd
        out=$(timeout 30 $HELPER secretfs $POINT -o state_dir=$STATE,identities=$IDENTITIES,encryption_key_file=$KEYFILE 2>&1)
        cd /
        grep -o 'mounted at' <<< "$out"
        nothing_is_kept
        umount $T/cwd
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "mounted at\n");
}

#[test]
fn a_start_that_fails_says_why_and_ends_the_pipe() {
    let Some(said) = run(
        &["ps", "pgrep"],
        r#"
        code=0; out=$("${START[@]/$KEYFILE/$T/nope}" 2>&1) || code=$?
        echo "exit $code"
        grep -o 'nope cannot be used' <<< "$out"
        code=0; out=$("${START[@]}" --import-dir $T/nowhere 2>&1) || code=$?
        echo "exit $code"; grep -o 'nowhere' <<< "$out" | head -1
        eventually gone"#,
    ) else {
        return;
    };
    assert_eq!(said, "exit 6\nnope cannot be used\nexit 6\nnowhere\n");
}

#[test]
fn in_the_foreground_helpers_keep_no_descriptor_of_the_caller() {
    let Some(said) = run(
        &["ps", "pgrep"],
        r#"
        "$SECRETFS" mount "${OPTIONS[@]}" "$POINT" 9> $T/lock 2> $T/said &
        supervisor=$!
        eventually grep -q 'mounted at' $T/said
        eventually serves
        for pid in $(daemon); do
            [ $pid = $supervisor ] && continue
            for link in /proc/$pid/fd/[0-9]*; do
                [ "$(readlink $link)" != $T/lock ] || { echo "$(tr '\0' ' ' < /proc/$pid/cmdline)"; }
            done
        done
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "");
}

#[test]
fn the_log_goes_to_syslog_once_it_serves() {
    let Some(said) = run(
        &["python3", "ps", "pgrep"],
        r#"
        mkdir $T/dev && mount -t tmpfs none $T/dev
        for node in null fuse urandom; do touch $T/dev/$node; mount --bind /dev/$node $T/dev/$node; done
        mount --rbind $T/dev /dev
        python3 - > $T/syslog <<'PYTHON' &
import os, socket
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind('/dev/log')
os.chmod('/dev/log', 0o666)
while True:
    print(listener.recv(65536).decode(), flush=True)
PYTHON
        eventually test -S /dev/log
        out=$("${START[@]}" 2>&1)
        nothing_is_kept
        printf 'admins: [root\n' > $IDENTITIES
        kill -HUP $(pgrep -f '^secretfs mount')
        eventually grep 'the identities stay as they were' $T/syslog > $T/line || { cat $T/syslog >&2; false; }
        grep -c '^<27>secretfs\[[0-9]*\]: ' $T/line
        ends"#,
    ) else {
        return;
    };
    assert_eq!(said, "1\n");
}
