//! Section 9, `restore`: what `backup` wrote comes back the same.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use crate::harness::{ALICE, KEY, Mount, ROOT};
use crate::protocol::Shell;
use crate::user::User;

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

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

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const TREE: [(&str, &[u8], &str); 4] = [
    ("API_KEY", b"example-value", "readers: [alice, bob]\nwriters: [alice]\n"),
    ("alice/db/URL", b"\xff\0\n", "readers: [alice]\ndeleters: [\"null\", \"0x1f\", uid:7]\n"),
    ("large", &[0x80; 1 << 20], "canChangeReaders: [gid:3]\n"),
    ("none", b"", "readers: []\n"),
];

/// Everything that makes a secret, by its key.
fn tree(root: &User) -> BTreeMap<&'static str, (String, Vec<u8>, String)> {
    let secret = |key| {
        let lists = root.read(&format!("{key}.acl")).unwrap();
        (key, (root.id(key), root.read_bytes(key).unwrap(), lists))
    };
    TREE.into_iter().map(|(key, _, _)| secret(key)).collect()
}

/// A mount with secrets, and the file `all.yaml` that has them all.
fn backed_up() -> Option<Mount> {
    let mount = Mount::start()?;
    let root = mount.user(ROOT);
    for (key, value, lists) in TREE {
        root.put(key, if value.is_empty() { b"x" } else { value }, lists);
    }
    root.truncate("none", 0).unwrap();
    assert_eq!(run(&root, "backup all.yaml").code, Some(0));
    Some(mount)
}

fn copy_backup(from: &Mount, to: &Mount) {
    fs::copy(from.outside().join("all.yaml"), to.outside().join("all.yaml")).unwrap();
}

#[test]
fn through_the_mount() {
    let Some(source) = backed_up() else { return };
    let Some(target) = Mount::start() else { return };
    copy_backup(&source, &target);
    let root = target.user(ROOT);
    let shell = run(&root, "restore all.yaml");
    let restored = "Restored 4 secrets from `all.yaml`: 4 created, 0 updated, 0 unchanged.\n";
    assert_eq!((shell.code, &*shell.stderr), (Some(0), restored));
    assert_eq!(tree(&root), tree(&source.user(ROOT)));
    root.write("API_KEY", "changed").unwrap();
    root.put("later", "stays", "");
    let shell = run(&root, "restore all.yaml");
    let again = "Restored 4 secrets from `all.yaml`: 0 created, 1 updated, 3 unchanged.\n";
    assert_eq!((shell.code, &*shell.stderr), (Some(0), again));
    assert_eq!(tree(&root), tree(&source.user(ROOT)));
    assert_eq!(root.read("later").as_deref(), Ok("stays"));
}

#[test]
fn into_a_state_directory() {
    let Some(mut source) = backed_up() else { return };
    let Some(mut target) = Mount::prepare() else { return };
    copy_backup(&source, &target);
    let before = tree(&source.user(ROOT));
    source.stop();
    let restored = "Restored 4 secrets from `all.yaml`: 4 created, 0 updated, 0 unchanged.\n";
    assert_eq!(said(&offline(&target, &["restore", "all.yaml"])), (Some(0), restored.to_owned()));
    target.go();
    assert_eq!(tree(&target.user(ROOT)), before);
    let (code, text) = said(&offline(&target, &["restore", "all.yaml"]));
    assert_eq!(code, Some(6), "the daemon has the store: {text}");
    target.stop();
    let (code, text) = said(&offline(&target, &["restore", "all.yaml"]));
    assert_eq!(code, Some(5));
    assert!(text.contains("holds 4 secrets already") && text.contains("--force"), "{text}");
    let unchanged = "Restored 4 secrets from `all.yaml`: 0 created, 0 updated, 4 unchanged.\n";
    let forced = said(&offline(&target, &["restore", "--force", "all.yaml"]));
    assert_eq!(forced, (Some(0), unchanged.to_owned()));
}

#[test]
fn what_is_wrong_changes_nothing() {
    let Some(mount) = backed_up() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let before = tree(&root);
    let write = |name: &str, text: &str| fs::write(mount.outside().join(name), text).unwrap();
    write("bad.yaml", "- key: new\n  value: v\n- key: API_KEY\n  valeu: v\n");
    for shell in [run(&root, "restore bad.yaml"), run(&root, "restore --offline bad.yaml")] {
        assert_eq!(shell.code, Some(5));
        assert!(
            shell.stderr.contains("bad.yaml: line 4: unknown field `valeu`"),
            "{}",
            shell.stderr
        );
    }
    write("not-mine.yaml", "- key: alice/new\n  value: v\n- key: bob/K\n  value: v\n");
    let shell = run(&alice, "restore not-mine.yaml");
    assert_eq!(shell.code, Some(3), "{}", shell.stderr);
    assert!(shell.stderr.contains("not-mine.yaml: line 3: bob/K: "), "{}", shell.stderr);
    write("nothing.yaml", "[]\n");
    let shell = run(&root, "restore nothing.yaml");
    let nothing = "`nothing.yaml` holds no secrets; nothing was changed.\n";
    assert_eq!((shell.code, &*shell.stderr), (Some(0), nothing));
    assert_eq!(run(&root, "restore missing.yaml").code, Some(4));
    assert_eq!(tree(&root), before);
    assert_eq!(root.list("").unwrap(), ["API_KEY", "alice", "large", "none"]);
}

#[test]
fn another_key_opens_nothing_of_it() {
    let Some(source) = backed_up() else { return };
    let other = KEY.replace('8', "9");
    let Some(target) = Mount::prepare() else { return };
    let target = target.with_env("OB_ENCRYPTION_KEY", Some(&other)).started();
    copy_backup(&source, &target);
    let root = target.user(ROOT);
    let shell = run(&root, "restore all.yaml");
    assert_eq!(shell.code, Some(5), "{}", shell.stderr);
    assert!(shell.stderr.contains("all.yaml: line 3: API_KEY: "), "{}", shell.stderr);
    assert_eq!(root.list(""), Ok(vec![]));
}
