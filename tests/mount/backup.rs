//! Section 9, `backup`: everything that the caller may read, in one file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::damage::spoil_one_value;
use crate::harness::{ALICE, KEY, Mount, ROOT};
use crate::protocol::Shell;
use crate::user::User;

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

fn filled() -> Option<Mount> {
    let mount = Mount::start()?;
    let root = mount.user(ROOT);
    root.put("API_KEY", "example-value", "readers: [alice]\n");
    root.put("bob/K", b"\xff\0", "readers: [bob]\n");
    root.put("large", vec![b'x'; 1 << 20], "");
    Some(mount)
}

/// Runs the command line on the mount, in a directory outside.
fn run(user: &User, arguments: &str) -> Shell {
    user.sh(&format!("m=$PWD; cd $T; {SECRETFS} --mount \"$m\" {arguments}"))
}

/// Runs it on the state directory.
fn offline(mount: &Mount, arguments: &[&str]) -> Output {
    let mut command = Command::new(SECRETFS);
    command.current_dir(mount.outside()).env("OB_ENCRYPTION_KEY", KEY);
    command.args(arguments).arg("--offline").arg("--state-dir").arg(mount.state());
    command.output().expect("the program runs")
}

fn keys(text: &[u8]) -> Vec<String> {
    let documents: Vec<serde_yaml::Value> = serde_yaml::from_slice(text).expect("YAML");
    documents.iter().map(|one| one["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn writes_what_the_caller_may_read() {
    let Some(mount) = filled() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let shell = run(&root, "backup all.yaml");
    assert_eq!((shell.code, &*shell.stderr), (Some(0), "Backed up 3 secrets to `all.yaml`.\n"));
    let all = mount.outside().join("all.yaml");
    assert_eq!(keys(&fs::read(&all).unwrap()), ["API_KEY", "bob/K", "large"]);
    assert_eq!(all.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let shell = run(&alice, "backup alice.yaml");
    let said = "Backed up 1 secret that you may read to `alice.yaml`.\n";
    assert_eq!((shell.code, &*shell.stderr), (Some(0), said));
    let shell = run(&alice, "backup -");
    assert_eq!(keys(shell.stdout.as_bytes()), ["API_KEY"]);
}

#[test]
fn replaces_nothing_unless_told_to() {
    let Some(mount) = filled() else { return };
    let root = mount.user(ROOT);
    let file = mount.outside().join("b.yaml");
    fs::write(&file, "precious").unwrap();
    let shell = run(&root, "backup b.yaml");
    let said = "Error: `b.yaml` is there already; name another file, or replace it with --force\n";
    assert_eq!((shell.code, &*shell.stderr), (Some(5), said));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(run(&root, "backup --force b.yaml").code, Some(0));
    assert_eq!(keys(&fs::read(&file).unwrap()).len(), 3);
    assert_eq!(run(&root, "backup missing/b.yaml").code, Some(4));
}

#[test]
fn offline_writes_the_same() {
    let Some(mut mount) = filled() else { return };
    let output = offline(&mount, &["backup", "running.yaml"]);
    assert_eq!(output.status.code(), Some(6), "the daemon has the store");
    assert!(!mount.outside().join("running.yaml").exists());
    mount.stop();
    let output = offline(&mount, &["backup", "off.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), "Backed up 3 secrets to `off.yaml`.\n"));
    let text = fs::read(mount.outside().join("off.yaml")).unwrap();
    assert_eq!(keys(&text), ["API_KEY", "bob/K", "large"]);

    let mut other = Command::new(SECRETFS);
    other.env("OB_ENCRYPTION_KEY", KEY.replace('8', "9"));
    other.args(["backup", "-", "--offline", "--state-dir"]).arg(mount.state());
    assert_eq!(other.output().unwrap().status.code(), Some(6), "another key opens nothing");
    let empty = mount.outside().join("no-state");
    let mut nothing = Command::new(SECRETFS);
    nothing.args(["backup", "-", "--offline", "--state-dir"]).arg(&empty);
    let output = nothing.output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(!empty.exists(), "no store is made to be backed up");
}

#[test]
fn a_value_that_cannot_be_read_makes_no_file() {
    let Some(mut mount) = filled() else { return };
    mount.stop();
    spoil_one_value(&mount);
    let output = offline(&mount, &["backup", "off.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6));
    assert!(said.contains("API_KEY: its stored value does not unseal"), "{said}");
    mount.go();
    let shell = run(&mount.user(ROOT), "backup on.yaml");
    assert_ne!(shell.code, Some(0));
    assert!(shell.stderr.contains("API_KEY: its stored value does not unseal"), "{}", shell.stderr);
    assert_eq!(fs::read_dir(mount.outside()).unwrap().count(), 0, "nothing is left behind");
}
