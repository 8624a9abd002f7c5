//! The log: JSON into a pipe or a file, the journal's own protocol under systemd.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{BUILT_IN_KEY, Mount, ROOT, can_mount};

#[test]
fn elsewhere_each_line_is_json() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    let said = mount.stop();
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let parsed: Vec<serde_json::Value> =
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(parsed.iter().any(|line| line["message"] == "serving"), "{said}");
    assert!(parsed.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
}

#[test]
fn under_systemd_it_goes_to_the_journal() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("journal")).unwrap();
    let journal = UnixDatagram::bind(at("journal").join("socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let stderr = File::create(at("stderr")).unwrap();
    let stream = stderr.metadata().unwrap();
    // Another /run, for this process alone.
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal &&
        mount --bind \"$1\" /run/systemd/journal && exec \"$2\" mount \"$3\" --state-dir \"$4\"";
    let mut daemon = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(at("journal"))
        .arg(env!("CARGO_BIN_EXE_secretfs"))
        .args([at("secrets"), at("state")])
        .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
        .env("OB_ENCRYPTION_KEY", BUILT_IN_KEY)
        .stderr(stderr)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 8192];
    let entry = loop {
        let length = journal.recv(&mut buffer).expect("an entry about the default key");
        let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if entry.contains("default encryption key") {
            break entry;
        }
    };
    for field in ["PRIORITY=4", "SYSLOG_IDENTIFIER=secretfs"] {
        assert!(entry.lines().any(|line| line == field), "no {field} in\n{entry}");
    }
    assert!(entry.contains("\nMESSAGE=the service is not secure"), "{entry}");
    crate::harness::eventually("mounted", || {
        fs::read_to_string(at("stderr")).unwrap().contains("mounted at")
    });
    kill(Pid::from_raw(daemon.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    let stderr = fs::read_to_string(at("stderr")).unwrap();
    assert!(!stderr.contains("default encryption key"), "it was told twice:\n{stderr}");
}
