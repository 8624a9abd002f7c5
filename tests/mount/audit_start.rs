//! A start that cannot be put on the audit log, and a log that was written while the clock was wrong.

use std::fs;
use std::process::Command;

use crate::harness::{Mount, ROOT, set_mode};
use crate::tmpfs::Tmpfs;

#[test]
fn a_start_that_is_not_on_record_is_refused_if_it_must_be() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let log = mount.state().join("audit");
    fs::rename(&log, log.with_extension("before")).unwrap();
    fs::create_dir(&log).unwrap();
    set_mode(&log, 0o700);
    let Some(full) = Tmpfs::mount(&log, "64k") else { return };
    full.fill();
    let said = mount.refused();
    assert!(said.contains("the audit log cannot be written"), "{said}");
    assert!(said.contains("No space left") && said.contains("--audit=best-effort"), "{said}");
    assert!(mount.mounted().is_none());
    // What need not be on record does not prevent a start.
    let mut lenient = mount.with_args(&["--audit", "best-effort"]);
    lenient.go();
    assert_eq!(lenient.user(ROOT).read("K").as_deref(), Ok("value"));
    // A server that takes over goes on: callers are waiting.
    let server = lenient.server();
    assert!(lenient.kill_server());
    crate::harness::eventually("another server serves", || {
        lenient.server().is_some_and(|now| Some(now) != server)
            && lenient.user(ROOT).read("K").as_deref() == Ok("value")
    });
    lenient.stop();
}

#[test]
fn a_server_that_takes_over_goes_on_without_a_record_of_that() {
    let Some(mut mount) = Mount::prepare() else { return };
    let log = mount.state().join("audit");
    fs::create_dir(&log).unwrap();
    set_mode(&log, 0o700);
    let Some(disk) = Tmpfs::mount(&log, "64k") else { return };
    mount.go();
    let server = mount.server();
    disk.fill();
    assert!(mount.kill_server());
    crate::harness::eventually("another server serves", || {
        mount.server().is_some_and(|now| Some(now) != server)
            && mount.user(ROOT).read(".status/version").is_ok()
    });
    disk.empty();
    crate::harness::eventually("it is well again", || mount.user(ROOT).write("K", "value").is_ok());
}

#[test]
fn tail_since_looks_past_lines_of_a_wrong_clock() {
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("audit");
    fs::create_dir(&log).unwrap();
    let lines = |times: &[(u64, &str)]| {
        let line = |(seq, time): &(u64, &str)| {
            format!(
                "{{\"seq\":{seq},\"time\":\"{time}.000000Z\",\"op\":\"start\",\"hash\":\"\"}}\n"
            )
        };
        times.iter().map(line).collect::<String>()
    };
    // The machine started with its clock in 1970, twice, once at the beginning of a file.
    let first =
        [(1, "2026-11-29T09:00:00"), (2, "2026-11-30T09:00:00"), (3, "2026-11-30T09:01:00")];
    let second = [
        (4, "1970-01-01T00:00:07"),
        (5, "2026-11-30T09:05:00"),
        (6, "1970-01-01T00:00:08"),
        (7, "1970-01-01T00:00:09"),
        (8, "2026-11-30T09:07:00"),
    ];
    fs::write(log.join("audit-00000001.jsonl"), lines(&first)).unwrap();
    fs::write(log.join("audit-00000002.jsonl"), lines(&second)).unwrap();
    let tail = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_secretfs"))
            .args(["audit", "tail", "--output", "json"])
            .args(arguments)
            .env("SECRETFS_STATE_DIR", state.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let seq = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
        };
        String::from_utf8(output.stdout).unwrap().lines().map(seq).collect::<Vec<_>>()
    };
    assert_eq!(tail(&["-n", "100", "--since", "2026-11-30"]), [2, 3, 5, 8]);
    assert_eq!(tail(&["-n", "2", "--since", "2026-11-30"]), [5, 8]);
    assert_eq!(tail(&["-n", "100", "--since", "2026-11-30T09:06"]), [8]);
    assert_eq!(tail(&["-n", "100"]), [1, 2, 3, 4, 5, 6, 7, 8]);
}
