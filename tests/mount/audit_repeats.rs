//! Section 8: repetition is counted, so that nobody can flood the log, and no count is lost.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno::EACCES;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::audit::{lines, verify};
use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN, eventually};

/// How many decisions there are in the log that fit, and in how many lines.
fn count(mount: &Mount, fits: impl Fn(&Value) -> bool) -> (u64, usize) {
    let found: Vec<_> = lines(&mount.state()).into_iter().filter(fits).collect();
    let count = found.iter().map(|line| line["repeats"].as_u64().unwrap_or(1)).sum();
    (count, found.len())
}

fn is(line: &Value, op: &str, outcome: &str, uid: u32) -> bool {
    line["op"] == op && line["outcome"] == outcome && line["uid"] == uid
}

/// Waits until the log tells of so many decisions.
#[track_caller]
fn expect(mount: &Mount, expected: u64, fits: impl Fn(&Value) -> bool + Copy) {
    eventually("all of it is written", || count(mount, fits).0 >= expected);
    assert_eq!(count(mount, fits).0, expected);
}

#[test]
fn a_second_of_equal_opens_has_two_lines() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    for _ in 0..2000 {
        alice.read("K").unwrap();
    }
    let opens = |line: &Value| is(line, "open", "allowed", ALICE.uid);
    expect(&mount, 2000, opens);
    let (_, written) = count(&mount, opens);
    assert!(written < 200, "{written} lines");
    let counted = lines(&mount.state()).into_iter().find(|line| line.get("repeats").is_some());
    let counted = counted.unwrap();
    assert_eq!((&counted["key"], &counted["version"]), (&json!("K"), &json!(1)), "{counted}");
    assert_eq!(counted["gid"], ALICE.uid);
    assert!(counted["pid"].as_u64() > Some(0) && counted["grant"]["slug"] == "alice");
    assert!(counted.get("request").is_none(), "it tells of many requests");
    // What is not written yet is written at the end.
    for _ in 0..50 {
        alice.read("K").unwrap();
    }
    mount.stop();
    assert_eq!(count(&mount, opens).0, 2050);
    let said = verify(&mount.state(), 0);
    assert!(said.contains("decisions are counted in lines of others"), "{said}");
    let stop = lines(&mount.state()).pop().unwrap();
    assert_eq!(stop["op"], "stop");
}

#[test]
fn each_one_has_a_line_if_that_is_asked_for() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--audit-repeats", "each"]).started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    for _ in 0..300 {
        root.read("K").unwrap();
    }
    assert_eq!(count(&mount, |line| is(line, "open", "allowed", 0)), (300, 300));
}

#[test]
fn another_version_is_another_decision() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    for version in 1..=5 {
        root.write("K", format!("value {version}")).unwrap();
        root.read("K").unwrap();
        let reads = |line: &Value| line["access"] == "read" && line["version"] == version;
        assert_eq!(count(&mount, reads), (1, 1));
    }
}

/// Everything that needs no right, in each way in which it can be done often.
#[test]
fn what_needs_no_right_floods_nothing() {
    const MANY: u64 = 1500;
    let Some(mount) = Mount::start() else { return };
    let (root, bob, unknown) = (mount.user(ROOT), mount.user(BOB), mount.user(UNKNOWN));
    for number in 0..50 {
        root.write(&format!("K{number}"), "value").unwrap();
    }
    let size = || -> u64 {
        let files = fs::read_dir(mount.state().join("audit")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let before = size();
    for number in 0..MANY {
        let key = format!("K{}", number % 50);
        assert_eq!(bob.read(&key), Err(EACCES));
        assert_eq!(bob.unlink(&key), Err(EACCES));
        assert_eq!(bob.write(&format!("new-{number}"), "x"), Err(EACCES));
        assert_eq!(unknown.read(&key), Err(EACCES));
    }
    for (op, uid) in [("open", BOB), ("delete", BOB), ("create", BOB), ("open", UNKNOWN)] {
        expect(&mount, MANY, |line| is(line, op, "denied", uid.uid));
    }
    // Neither do sealings and files that are refused.
    bob.sh_ok("for i in $(seq 300); do exec 3<>.encrypt/key-$i; printf v >&3; cat <&3 >/dev/null; exec 3>&-; done");
    expect(&mount, 300, |line| is(line, "encrypt", "allowed", BOB.uid));
    for number in 0..300 {
        let file = format!(".import/f{number}.yaml");
        assert_eq!(bob.write(&file, "{key: no/K, value: v}\n"), Err(EACCES));
    }
    expect(&mount, 300, |line| is(line, "import", "denied", BOB.uid));
    let (_, written) = count(&mount, |line| line["outcome"] == "denied");
    let per_line = (size() - before) / (4 * MANY);
    assert!(per_line < 150, "{written} lines, {per_line} bytes for each denial");
}

#[test]
fn processes_that_are_denied_in_turn_are_one_flood() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.write("K", "value").unwrap();
    bob.sh_ok("for i in $(seq 400); do (: <K) 2>/dev/null; done; true");
    expect(&mount, 400, |line| is(line, "open", "denied", BOB.uid));
}

#[test]
fn a_killed_server_loses_no_count() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [alice]\n");
    for round in 1..=4 {
        for _ in 0..200 {
            alice.read("K").unwrap();
            assert_eq!(bob.read("K"), Err(EACCES));
            assert_eq!(bob.unlink("K"), Err(EACCES));
        }
        // Nothing is under way: every decision was answered, and none is asked for again.
        let server = mount.server().unwrap();
        kill(server, Signal::SIGKILL).unwrap();
        eventually("the next server", || mount.server().is_some_and(|next| next != server));
        for (op, outcome, uid) in [
            ("open", "allowed", ALICE.uid),
            ("open", "denied", BOB.uid),
            ("delete", "denied", BOB.uid),
        ] {
            expect(&mount, 200 * round, |line| is(line, op, outcome, uid));
        }
    }
    mount.stop();
    verify(&mount.state(), 0);
}

#[test]
fn tail_shows_counts() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.write("db-K", "value").unwrap();
    for _ in 0..20 {
        assert_eq!(bob.read("db-K"), Err(EACCES));
    }
    for number in 0..300 {
        assert_eq!(bob.write(&format!("new-{number}"), "x"), Err(EACCES));
    }
    mount.stop();
    let tail = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_secretfs"))
            .args(["audit", "tail", "-n", "1000"])
            .args(arguments)
            .env("SECRETFS_STATE_DIR", mount.state())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let denied = tail(&["--outcome", "denied", "--key", "db-K"]);
    assert!(
        denied.lines().any(|line| line.contains("db-K v1") && line.ends_with("19 times")),
        "{denied}"
    );
    // A sum may be about that key.
    assert!(
        denied.lines().any(|line| line.contains("create") && line.contains("times")),
        "{denied}"
    );
    assert_eq!(tail(&["--outcome", "denied", "--slug", "alice"]), "");
}

#[test]
fn the_setting_is_one_of_the_configuration_too() {
    let Some(mount) = Mount::prepare() else { return };
    let config: PathBuf = mount.roots().join("config.yaml");
    fs::write(&config, "audit-repeats: each\n").unwrap();
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mount = mount.with_args(&["--config", config.to_str().unwrap()]).started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    for _ in 0..30 {
        root.read("K").unwrap();
    }
    assert_eq!(count(&mount, |line| is(line, "open", "allowed", 0)), (30, 30));
}
