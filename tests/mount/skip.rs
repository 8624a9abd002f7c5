//! Tests that do nothing on this machine, because a program or a right is missing. They are listed at the end of
//! `cargo test` (`tests/skipped.rs`); under `CI` nothing may be missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::Path;

/// Says, past the test runner's capture, that the test does nothing here, and notes it; fails under `CI`.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip a test that {why}");
    skip_everywhere(why);
}

/// Whether all of these programs are installed; skips the test if not.
pub(crate) fn has(programs: &[&str]) -> bool {
    let directories =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_missing =
        |program: &&&str| !directories.iter().any(|path| Path::new(path).join(program).exists());
    let missing: Vec<_> = programs.iter().filter(is_missing).copied().collect();
    if !missing.is_empty() {
        skip(&format!("needs {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// As [`skip`], where the machines of CI lack the same.
pub(crate) fn skip_everywhere(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().expect("the test runner names the thread of a test");
    // One write each, so that lines of tests that run at the same time stay whole.
    let _ = io::stderr().write_all(format!("{test}: skipped: {why}\n").as_bytes());
    // All test programs of one `cargo test` have the same parent.
    let lists = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    fs::create_dir_all(&lists).expect("the build directory is writable");
    let mut options = OpenOptions::new();
    let list = options.append(true).create(true).open(lists.join(parent_id().to_string()));
    let line = format!("{}\t{test}\t{why}\n", env!("CARGO_CRATE_NAME"));
    list.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list can be written");
}
