//! An import directory in whose place another one is put: a symbolic link that is switched, a mount, a rename,
//! a new clone. It is applied, by the same server, and nothing is unwell meanwhile.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno::ENOENT;
use nix::mount::{MntFlags, umount2};

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually, set_mode, skip};

/// A mount that imports from `roots/import`, and that directory, which is not there yet.
fn prepare() -> Option<(Mount, PathBuf)> {
    let mount = Mount::prepare()?;
    let directory = mount.roots().join("import");
    Some((mount.with_args(&["--import-dir", directory.to_str().unwrap()]), directory))
}

/// A directory with one file, which makes `K`, and one below.
fn fill(directory: &Path, value: &str) {
    fs::create_dir_all(directory.join("sub")).unwrap();
    for (name, key) in [("a.yaml", "K"), ("sub/b.yaml", "L")] {
        let (file, next) = (directory.join(name), directory.join(name).with_extension("next"));
        fs::write(&next, format!("key: {key}\nvalue: {value}\n")).unwrap();
        set_mode(&next, 0o600);
        fs::rename(next, file).unwrap();
    }
    for directory in [directory.join("sub"), directory.to_owned()] {
        set_mode(&directory, 0o755);
    }
}

/// Waits until the value is applied. The server must stay the same, and well all the time.
#[track_caller]
fn applied(mount: &Mount, value: &str) {
    let (root, server) = (mount.user(ROOT), mount.server());
    eventually(&format!("{value} is applied"), || {
        let health = root.read(".status/health").unwrap();
        assert_eq!(health, "ok\n", "while {value} is applied:\n{}", mount.said());
        [root.read("K"), root.read("L")].iter().all(|read| read.as_deref() == Ok(value))
    });
    assert_eq!(mount.server(), server, "another server serves:\n{}", mount.said());
    let said = mount.said();
    for level in ["ERROR", "WARN"] {
        assert!(!said.contains(&format!("\"level\":\"{level}\"")), "{said}");
    }
    let status = root.read(".status/import-dir").unwrap();
    assert!(status.lines().count() == 2 && !status.contains(" failed "), "{status}");
}

#[test]
fn a_link_that_is_switched() {
    let Some((mount, directory)) = prepare() else { return };
    // As git-sync does: a worktree for each commit, and the one before is removed.
    let trees = mount.roots().join("trees");
    let publish = |commit: &str, value: &str| {
        fill(&trees.join(commit), value);
        let next = directory.with_extension("next");
        symlink(format!("trees/{commit}"), &next).unwrap();
        fs::rename(next, &directory).unwrap();
    };
    publish("one", "1");
    let mount = mount.started();
    applied(&mount, "1");
    for (round, before) in [("two", "one"), ("three", "two"), ("four", "three")] {
        publish(round, round);
        fs::remove_dir_all(trees.join(before)).unwrap();
        applied(&mount, round);
    }
    // What changes in the new one is noticed as in the first.
    fill(&trees.join("four"), "5");
    applied(&mount, "5");
    // The next server may read it as well.
    assert!(mount.kill_server());
    fill(&trees.join("four"), "6");
    eventually("a server that took over applies it", || {
        mount.user(ROOT).read("K").as_deref() == Ok("6")
    });
}

#[test]
fn a_directory_that_is_renamed() {
    let Some((mount, directory)) = prepare() else { return };
    fill(&directory, "1");
    let mount = mount.started();
    for value in ["2", "3"] {
        let new = mount.roots().join("new");
        fill(&new, value);
        fs::rename(&directory, mount.roots().join(format!("old{value}"))).unwrap();
        // There is none for longer than the daemon waits until it is quiet.
        std::thread::sleep(Duration::from_millis(700));
        fs::rename(new, &directory).unwrap();
        applied(&mount, value);
    }
    // The old one is not looked at any more.
    fill(&mount.roots().join("old3"), "old");
    fill(&directory, "4");
    applied(&mount, "4");
}

#[test]
fn a_mount_over_it_and_its_end() {
    let Some((mount, directory)) = prepare() else { return };
    fill(&directory, "below");
    let mount = mount.started();
    let point = directory.to_str().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none", point]).status().unwrap();
    assert!(mounted.success());
    let _end = Unmount(directory.clone());
    fill(&directory, "above");
    applied(&mount, "above");
    // A bind mount of another directory, on top of that.
    let other = mount.roots().join("other");
    fill(&other, "bound");
    let other = other.to_str().unwrap();
    assert!(Command::new("mount").args(["--bind", other, point]).status().unwrap().success());
    applied(&mount, "bound");
    umount2(&directory, MntFlags::MNT_DETACH).unwrap();
    umount2(&directory, MntFlags::MNT_DETACH).unwrap();
    applied(&mount, "below");
}

#[test]
fn a_new_clone() {
    if Command::new("git").arg("--version").output().is_err() {
        return skip("needs git");
    }
    let Some((mount, directory)) = prepare() else { return };
    let source = mount.roots().join("source");
    let git = |arguments: &[&str]| {
        let config = ["-c", "user.name=t", "-c", "user.email=t", "-c", "init.defaultBranch=main"];
        let mut command = Command::new("git");
        command.args(config).arg("-C").arg(&source).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let clone = |value: &str| {
        fill(&source, value);
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-qm", "change"]);
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        let (from, to) = (source.to_str().unwrap(), directory.to_str().unwrap());
        git(&["clone", "-q", from, to]);
    };
    clone("1");
    let mount = mount.started();
    for value in ["2", "3", "4"] {
        clone(value);
        applied(&mount, value);
    }
}

#[test]
fn what_takes_its_place_must_be_as_safe() {
    let Some((mount, directory)) = prepare() else { return };
    let roots = mount.roots();
    let tree = |name: &str, value: &str| {
        let tree = roots.join(name);
        fill(&tree, value);
        tree
    };
    let switch = |target: &Path| {
        let next = directory.with_extension("next");
        symlink(target, &next).unwrap();
        fs::rename(next, &directory).unwrap();
    };
    switch(&tree("one", "good"));
    let (open, theirs) = (tree("open", "open"), tree("theirs", "theirs"));
    set_mode(&open, 0o777);
    chown(&theirs, Some(BOB.uid), None).unwrap();
    let mount = mount.started();
    let root = mount.user(ROOT);
    let health = || root.read(".status/health").unwrap();
    for (target, told) in [(&open, "open (mode 0777)"), (&theirs, "theirs belongs to UID 2200")] {
        switch(target);
        eventually("it is refused", || health().contains(told));
        // A server that takes over meanwhile goes on.
        assert!(mount.kill_server());
        assert_eq!(root.read("K").as_deref(), Ok("good"));
    }
    // A tree with a file of another user's, which is applied with that user's rights, and a link out of it.
    let mixed = tree("mixed", "mixed");
    let outside = mount.outside().join("outside.yaml");
    fs::write(&outside, "key: stolen\n").unwrap();
    symlink(&outside, mixed.join("link.yaml")).unwrap();
    chown(mixed.join("a.yaml"), Some(ALICE.uid), None).unwrap();
    switch(&mixed);
    eventually("the other file is applied", || root.read("L").as_deref() == Ok("mixed"));
    let status = || root.read(".status/import-dir").unwrap();
    eventually("the link is refused", || status().contains("failed link.yaml"));
    eventually("hers is refused", || status().contains("failed a.yaml (UID 2100)"));
    assert_eq!(root.read("K").as_deref(), Ok("good"));
    assert_eq!(root.read("stolen"), Err(ENOENT));
}

#[test]
fn one_that_does_not_come_back_is_told() {
    let Some((mount, directory)) = prepare() else { return };
    fill(&directory, "1");
    let mount = mount.started();
    let root = mount.user(ROOT);
    fs::remove_dir_all(&directory).unwrap();
    let start = Instant::now();
    eventually("it is told", || {
        root.read(".status/health").unwrap().contains("import cannot be used: No such file")
    });
    assert!(start.elapsed() > Duration::from_secs(10), "it may be about to come back");
    assert_eq!(root.read("K").as_deref(), Ok("1"));
    fill(&directory, "2");
    eventually("it is applied", || root.read("K").as_deref() == Ok("2"));
    eventually("it is well again", || root.read(".status/health").unwrap() == "ok\n");
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}
