//! The attacks of `tests/hostile/attack.py`, all at once, for some seconds. Run by hand it takes longer and is
//! stricter with times: here other tests share the processors, and the build is a debug one.

use std::path::Path;
use std::process::Command;

use crate::harness::{can_mount, skip};
use crate::skip::has;

#[test]
fn seven_attackers_at_once_harm_no_reader_and_no_writer() {
    if !can_mount() {
        return;
    }
    let has_group = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory.max"];
    if !has_group.into_iter().any(|path| Path::new(path).exists()) {
        return skip("needs a control group for memory");
    }
    if !has(&["python3", "pgrep"]) {
        return;
    }
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/attack.py"))
        .arg(env!("CARGO_BIN_EXE_secretfs"))
        .args(["--quick", "--seconds", "15", "--slowest-ms", "5000"])
        .output()
        .expect("python3 is there");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
