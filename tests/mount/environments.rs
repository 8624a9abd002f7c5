//! docs/environments.md does what it says: its commands, run in their order with three mounts that have
//! different encryption keys.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Mount, skip};

const PAGE: &str = include_str!("../../docs/environments.md");

/// What stands for the machines: `on` runs a command in front of one mount, everything else has none.
const MACHINES: &str = r#"
set -euo pipefail
exec 2>&1
unset SECRETFS_MOUNT
on() { env SECRETFS_MOUNT="$ROOM/$1" bash -c "$2"; }
git init -q repository
cd repository
git config user.name tester
git config user.email tester@localhost
"#;

fn environment(name: &str, byte: u8) -> Option<Mount> {
    let key =
        format!("{:02x}{}", byte, "17c4e7a03b5d8f62718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7");
    let mount = Mount::prepare()?.with_env("OB_ENCRYPTION_KEY", Some(&key)).started();
    assert!(mount.mounted().is_some(), "{name}");
    Some(mount)
}

#[test]
fn three_environments_share_a_repository() {
    if Command::new("git").arg("--version").output().is_err() {
        return skip("needs git");
    }
    let room = tempfile::tempdir().unwrap();
    let mut mounts = Vec::new();
    for (name, byte) in [("development", 1), ("staging", 2), ("production", 3)] {
        let Some(mount) = environment(name, byte) else { return };
        std::os::unix::fs::symlink(mount.point(), room.path().join(name)).unwrap();
        mounts.push(mount);
    }
    let programs = room.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::hard_link(env!("CARGO_BIN_EXE_secretfs"), programs.join("secretfs"))
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_secretfs"), programs.join("secretfs")).map(drop))
        .unwrap();
    let blocks: Vec<_> =
        PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 6, "the blocks were not found");
    let script = format!("{MACHINES}{}\necho @@end\n", blocks.concat());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(room.path())
        .env("ROOM", room.path())
        .env("HOME", room.path())
        .env("EXAMPLES", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/git"))
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()))
        .stdin(Stdio::null())
        .output()
        .expect("bash is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("@@end\n"), "a command failed:\n{said}");
    let mut rest = &*said;
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let Some((_, promise)) = line.split_once("# → ") else { continue };
        let Some((_, after)) = rest.split_once(promise.trim()) else {
            panic!("`{promise}` is not in what is left:\n{rest}")
        };
        rest = after;
    }
    assert!(!said.contains("a b"), "a value was printed:\n{said}");
    // The hook is for every commit: ten files take it a moment.
    let repository = room.path().join("repository");
    let many = "for n in 0 1 2 3 4 5 6 7 8 9; do \
                printf v | secretfs encrypt web/N$n - --to secrets/staging/recipient > secrets/staging/$n.yaml; done; git add .";
    let git = |line: &str| {
        let mut command = Command::new("bash");
        command.args(["-ec", line]).current_dir(&repository).env("HOME", room.path());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()));
        let output = command.output().expect("bash is there");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(many);
    let started = Instant::now();
    git(".git/hooks/pre-commit");
    let took = started.elapsed();
    println!("the hook took {took:?} for ten files");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
