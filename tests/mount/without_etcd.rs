//! A program that was built without etcd says so.

use std::process::Command;

use crate::harness::{KEY, Mount, ROOT};

#[test]
fn a_shared_store_is_refused_with_a_sentence() {
    let Some(mount) = Mount::prepare() else { return };
    let said = mount.with_args(&["--store", "etcd://127.0.0.1/fleet"]).refused();
    assert!(said.contains("--features etcd"), "{said}");
}

#[test]
fn so_is_a_move_there() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).put("K", "v", "");
    mount.stop();
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
    command.env("OB_ENCRYPTION_KEY", KEY).arg("migrate").arg("--state-dir").arg(mount.state());
    let output = command.args(["--to", "etcd://127.0.0.1/fleet"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("--features etcd"), "{said}");
}
