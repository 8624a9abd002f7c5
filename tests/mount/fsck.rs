//! Section 9, `fsck`: a state directory that no daemon uses.

use std::process::Command;

use nix::errno::Errno::EACCES;

use crate::damage::{copy_of_heads, put_back, spoil_one_value};
use crate::harness::{BOB, KEY, Mount, ROOT};

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

/// Exit code, standard output, standard error.
fn fsck(mount: &Mount, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(SECRETFS);
    command.env("OB_ENCRYPTION_KEY", KEY).arg("fsck").args(arguments);
    let output = command.arg("--state-dir").arg(mount.state()).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_store_is_well_after_a_kill() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    for number in 0..20 {
        root.put(&format!("team/K{number}"), vec![b'x'; 10_000 * number], "");
        root.write("rotated", format!("value {number}")).unwrap();
    }
    let (code, _, error) = fsck(&mount, &[]);
    assert_eq!(code, Some(6), "the daemon has the store: {error}");
    mount.kill9();
    let (code, output, error) = fsck(&mount, &["--output", "json"]);
    assert_eq!((code, &*error), (Some(0), ""), "{output}");
    let found: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(found["secrets"], 21);
    assert_eq!(found["valueBytes"], 1_900_000 + "value 19".len());
    assert_eq!((&found["problems"], &found["unreachable"]), (&0.into(), &0.into()));
    let (code, _, error) = fsck(&mount, &["--repair"]);
    assert_eq!(code, Some(0), "{error}");
    let (_, output, _) = fsck(&mount, &[]);
    assert!(
        output.ends_with("21 secrets, 1900008 bytes of values\nEverything is well.\n"),
        "{output}"
    );
    mount.go();
    assert_eq!(mount.user(ROOT).read("rotated").as_deref(), Ok("value 19"));
}

#[test]
fn damage_is_named_and_not_repaired_away() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("API_KEY", "value", "");
    root.put("other", "value", "");
    mount.stop();
    spoil_one_value(&mount);
    for arguments in [&[][..], &["--repair"], &[]] {
        let (code, output, error) = fsck(&mount, arguments);
        assert_eq!(code, Some(1));
        assert!(output.contains("2 secrets") && output.ends_with("1 problem\n"), "{output}");
        assert!(error.contains("Error: API_KEY: its stored value does not unseal"), "{error}");
    }
    mount.go();
    assert_eq!(mount.user(ROOT).read("other").as_deref(), Ok("value"));
}

#[test]
fn old_copies_of_records_are_told_until_they_are_accepted() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [bob]\n");
    root.put("L", "value", "");
    assert_eq!(mount.user(BOB).read("K").as_deref(), Ok("value"));
    mount.stop();
    let old = copy_of_heads(&mount);
    mount.go();
    let root = mount.user(ROOT);
    root.write("K.acl", "readers: []\n").unwrap();
    root.write("L", "another").unwrap();
    assert_eq!(mount.user(BOB).read("K"), Err(EACCES));
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    assert!(mount.kill_server());
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"), "a crash is no such thing");
    mount.stop();
    let (code, output, _) = fsck(&mount, &[]);
    assert_eq!(code, Some(0), "{output}");

    put_back(&mount, &old);
    let (code, _, error) = fsck(&mount, &["--repair"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("are not those that were stored last"), "{error}");
    for _ in 0..2 {
        mount.go();
        let root = mount.user(ROOT);
        let health = root.read(".status/health").unwrap();
        assert!(health.contains("store: ") && health.contains("fsck --accept"), "{health}");
        let secure = root.read(".status/is-secure").unwrap();
        assert!(secure.contains("its store is not as it was left"), "{secure}");
        assert!(mount.said().contains("the store is not as it was left"));
        // What it is worth: who was to have no right any more is seen again.
        root.write("K.acl", "readers: []\n").unwrap();
        mount.stop();
    }
    let (code, output, error) = fsck(&mount, &["--accept"]);
    assert_eq!(code, Some(0), "{output}{error}");
    mount.go();
    let root = mount.user(ROOT);
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    assert!(root.read(".status/metrics").unwrap().contains("\nsecretfs_store_changes "));
}

#[test]
fn it_makes_no_store_and_opens_no_other() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).put("K", "value", "");
    mount.stop();
    let run = |key: &str, state: &std::path::Path| {
        let mut command = Command::new(SECRETFS);
        command.env("OB_ENCRYPTION_KEY", key).arg("fsck").arg("--state-dir").arg(state);
        command.output().unwrap()
    };
    let other = run(&KEY.replace('8', "9"), &mount.state());
    assert_eq!(other.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&other.stderr).contains("another encryption key"));
    let missing = mount.outside().join("nothing");
    assert_eq!(run(KEY, &missing).status.code(), Some(6));
    assert!(!missing.exists());
}
