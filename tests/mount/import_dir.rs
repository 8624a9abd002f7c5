//! Section 4: `mount --import-dir`, a real directory whose files are applied.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno::ENOENT;

use crate::harness::{ALICE, BOB, Mount, Person, ROOT, UNKNOWN, eventually, set_mode};

/// A mount that is not started yet, and its directory.
fn prepare() -> Option<(Mount, PathBuf)> {
    let mount = Mount::prepare()?;
    let directory = mount.roots().join("import");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o755);
    Some((mount.with_args(&["--import-dir", directory.to_str().unwrap()]), directory))
}

fn put(path: &Path, person: Person, text: &str) {
    // As a configuration manager does: whole, and of its owner from the start.
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text).unwrap();
    set_mode(&unfinished, 0o644);
    chown(&unfinished, Some(person.uid), Some(person.uid)).unwrap();
    fs::rename(&unfinished, path).unwrap();
}

fn status(mount: &Mount, person: Person) -> String {
    mount.user(person).read(".status/import-dir").unwrap()
}

#[test]
fn what_is_there_at_the_start_is_applied_before_ready() {
    let Some((mount, directory)) = prepare() else { return };
    fs::create_dir_all(directory.join("sub/deep")).unwrap();
    put(&directory.join("a.yaml"), ROOT, "key: app/K\nvalue: v\n");
    put(&directory.join("sub/deep/b.yml"), ALICE, "key: alice/K\nvalue: w\n");
    put(&directory.join("sub/README.md"), ROOT, "# not a document\n");
    put(&directory.join(".hidden.yaml"), ROOT, "key: hidden\n");
    let mut mount = mount.started();
    let root = mount.user(ROOT);
    assert_eq!(root.read("app/K").as_deref(), Ok("v"));
    assert_eq!(root.read("alice/K").as_deref(), Ok("w"));
    assert_eq!(mount.user(ALICE).read("alice/K").as_deref(), Ok("w"), "it is its owner's");
    assert_eq!(root.read("hidden"), Err(ENOENT));
    let all = status(&mount, ROOT);
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(all.contains(" ok a.yaml (UID 0): 1 created, 0 updated, 0 unchanged\n"), "{all}");
    let own = status(&mount, ALICE);
    assert!(own.contains("sub/deep/b.yml (UID 2100)") && own.lines().count() == 1, "{own}");
    assert_eq!(status(&mount, BOB), "");
    // At the next start nothing changes.
    let before = root.stat("app/K").unwrap();
    mount.restart();
    assert_eq!(mount.user(ROOT).stat("app/K"), Ok(before));
    assert!(status(&mount, ROOT).contains("0 created, 0 updated, 1 unchanged"));
}

#[test]
fn changes_are_applied_and_mended_files_too() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    let file = directory.join("a.yaml");
    put(&file, ROOT, "key: K\nvalue: one\n");
    eventually("the new file is applied", || root.read("K").as_deref() == Ok("one"));
    put(&file, ROOT, "key: K\nvalue: [bad\n");
    eventually("the bad file is told", || status(&mount, ROOT).contains(" failed a.yaml"));
    assert!(status(&mount, ROOT).contains("    line 2: "), "{}", status(&mount, ROOT));
    assert_eq!(root.read("K").as_deref(), Ok("one"));
    let health = || mount.user(BOB).read(".status/health").unwrap();
    eventually("it is unwell", || health().contains("\nimport-dir: 1 file is not applied; "));
    fs::write(&file, "key: K\nvalue: two\n").unwrap();
    eventually("the mended file is applied", || root.read("K").as_deref() == Ok("two"));
    eventually("it is well again", || health() == "ok\n");
    assert!(status(&mount, ROOT).contains(" ok a.yaml"));
    // Directories come, move and go.
    fs::create_dir(directory.join("new")).unwrap();
    put(&directory.join("new/b.yaml"), ROOT, "key: L\nvalue: v\n");
    eventually("a file in a new directory is applied", || root.read("L").is_ok());
    fs::rename(directory.join("new"), directory.join("moved")).unwrap();
    put(&directory.join("moved/b.yaml"), ROOT, "key: L\nvalue: w\n");
    eventually("it is found where it went", || root.read("L").as_deref() == Ok("w"));
    fs::remove_dir_all(directory.join("moved")).unwrap();
    eventually("that it is gone is told", || {
        status(&mount, ROOT).contains("moved/b.yaml (UID 0): removed; its secrets stay")
    });
    assert_eq!(root.read("L").as_deref(), Ok("w"));
    assert!(mount.said().contains("moved/b.yaml"), "the log tells it too");
}

#[test]
fn the_owners_rights_decide() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    put(&directory.join("a.yaml"), ALICE, "key: app/K\nvalue: v\n");
    put(&directory.join("n.yaml"), UNKNOWN, "key: app/N\nvalue: v\n");
    eventually("both are told", || status(&mount, ROOT).matches(" failed ").count() == 2);
    let own = status(&mount, ALICE);
    assert!(own.contains("line 1: app/K: you may create secrets only below `alice/`"), "{own}");
    assert_eq!(mount.user(ROOT).list("app"), Err(ENOENT));
    put(&directory.join("a.yaml"), ROOT, "key: app/K\nvalue: v\n");
    eventually("the same file of another owner is applied", || {
        mount.user(ROOT).read("app/K").is_ok()
    });
}

#[test]
fn unsafe_files_are_refused() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    for mode in [0o646, 0o664] {
        let file = directory.join("a.yaml");
        fs::write(&file, "key: K\nvalue: v\n").unwrap();
        set_mode(&file, mode);
        eventually("the mode is told", || status(&mount, ROOT).contains(&format!("{mode:04o}")));
        assert_eq!(root.read("K"), Err(ENOENT));
    }
    // A user must not lead the daemon to a file of root's.
    let theirs = directory.join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(ALICE.uid), None).unwrap();
    let outside = mount.outside().join("roots.yaml");
    fs::write(&outside, "key: stolen\nvalue: v\n").unwrap();
    set_mode(&outside, 0o600);
    symlink(&outside, theirs.join("link.yaml")).unwrap();
    fs::hard_link(&outside, theirs.join("hard.yaml")).unwrap();
    eventually("links that lead out are told", || {
        let all = status(&mount, ROOT);
        all.contains("theirs/link.yaml") && all.contains("theirs/hard.yaml")
    });
    assert_eq!(root.read("stolen"), Err(ENOENT));
    set_mode(&directory.join("a.yaml"), 0o600);
    eventually("a safe mode is enough", || root.read("K").is_ok());
}

#[test]
fn a_config_map_is_followed() {
    let Some((mount, directory)) = prepare() else { return };
    // What kubelet does: a directory for each version, and one link that is replaced.
    let publish = |version: &str, value: &str| {
        fs::create_dir(directory.join(version)).unwrap();
        put(&directory.join(version).join("a.yaml"), ROOT, &format!("key: K\nvalue: {value}\n"));
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    publish("..v1", "one");
    symlink("..data/a.yaml", directory.join("a.yaml")).unwrap();
    let mount = mount.started();
    let root = mount.user(ROOT);
    assert_eq!(root.read("K").as_deref(), Ok("one"));
    publish("..v2", "two");
    eventually("the new version is applied", || root.read("K").as_deref() == Ok("two"));
    assert_eq!(status(&mount, ROOT).lines().count(), 1, "{}", status(&mount, ROOT));
}

#[test]
fn a_burst_is_applied_once() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    for round in 0..50 {
        put(&directory.join("a.yaml"), ROOT, &format!("key: K\nvalue: '{round}'\n"));
        put(
            &directory.join(format!("f{round}.yaml")),
            ROOT,
            &format!("key: f/{round}\nvalue: v\n"),
        );
    }
    eventually("all are applied", || root.list("f").is_ok_and(|all| all.len() == 50));
    eventually("the last one stands", || root.read("K").as_deref() == Ok("49"));
    let version: u32 = root.xattr("K", "user.secretfs.version").unwrap().parse().unwrap();
    assert!(version < 10, "{version} versions of 50 writes");
}

#[test]
fn nothing_is_written_into_the_directory() {
    let Some((mount, directory)) = prepare() else { return };
    put(&directory.join("a.yaml"), ROOT, "key: K\nvalue: v\n");
    let before = fs::metadata(&directory).unwrap().modified().unwrap();
    let mount = mount.started();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("v"));
    let names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["a.yaml"]);
    assert_eq!(fs::metadata(&directory).unwrap().modified().unwrap(), before);
}

#[test]
fn a_directory_that_is_not_there_refuses_the_start() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--import-dir", "/nonexistent/folder"]);
    assert!(mount.refused().contains("--import-dir /nonexistent/folder"));
    assert!(mount.mounted().is_none());
}

#[test]
fn a_secret_in_two_files_is_warned_about() {
    let Some((mount, directory)) = prepare() else { return };
    put(&directory.join("a.yaml"), ROOT, "key: K\nvalue: one\n");
    put(&directory.join("b.yaml"), ROOT, "key: K\nvalue: two\n");
    let mount = mount.started();
    let all = status(&mount, ROOT);
    assert!(all.contains("0 unchanged; `K` stands in a.yaml too: keep one of them"), "{all}");
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("two"), "in the order of their names");
}

/// Neither all descriptors nor all of the time are one owner's.
#[test]
fn a_user_with_many_files_leaves_room_to_others() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    let server = mount.server().unwrap();
    fs::create_dir(directory.join("a")).unwrap();
    for number in 0..1500 {
        put(&directory.join(format!("a/{number}.yaml")), ALICE, &format!("key: alice/{number}\n"));
    }
    put(&directory.join("z.yaml"), ROOT, "key: app/K\nvalue: v\n");
    let root = mount.user(ROOT);
    let mut most = 0;
    eventually("the other's file is applied", || {
        let open = fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
        most = most.max(open);
        root.read("app/K").as_deref() == Ok("v")
    });
    let done = root.read(".status/import-dir").unwrap().lines().count();
    println!("{done} files were applied before, {most} descriptors were open");
    assert!(most < 200, "{most} descriptors");
    eventually("all are applied", || root.stat("alice/1499").is_ok());
}

#[test]
fn a_directory_that_others_may_write_to_refuses_the_start() {
    let Some((mut mount, directory)) = prepare() else { return };
    put(&directory.join("a.yaml"), ROOT, "key: K\nvalue: old\n");
    // In a sticky one others cannot rename files, but they can make links to old ones.
    for mode in [0o777, 0o1777, 0o775] {
        set_mode(&directory, mode);
        let said = mount.refused();
        assert!(said.contains(&format!("import (mode {mode:04o})")), "{said}");
        assert!(mount.mounted().is_none());
    }
    set_mode(&directory, 0o755);
    chown(&directory, Some(BOB.uid), None).unwrap();
    assert!(mount.refused().contains("import belongs to UID 2200"));
    chown(&directory, Some(0), None).unwrap();
    let above = mount.roots();
    set_mode(&above, 0o777);
    assert!(mount.refused().contains("roots (mode 0777)"));
    // Nobody can rename what is root's there.
    set_mode(&above, 0o1777);
    mount.go();
    let root = mount.user(ROOT);
    assert_eq!(root.read("K").as_deref(), Ok("old"));
    // Later it is not applied any more, and that is told.
    set_mode(&directory, 0o777);
    put(&directory.join("a.yaml"), ROOT, "key: K\nvalue: new\n");
    let told = |name: &str| root.read(&format!(".status/{name}")).unwrap();
    eventually("it is unwell", || told("health").contains("import (mode 0777)"));
    assert!(told("is-secure").contains("nothing more is imported from"), "{}", told("is-secure"));
    assert_eq!(root.read("K").as_deref(), Ok("old"));
    set_mode(&directory, 0o755);
    eventually("it is applied", || root.read("K").as_deref() == Ok("new"));
}

#[test]
fn old_files_of_roots_are_not_put_in_the_place_of_new_ones() {
    let Some((mount, directory)) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    let told = |what: &str| eventually(what, || status(&mount, ROOT).contains(what));
    // A directory of root's that all may write to, and one below it.
    let open = directory.join("open");
    fs::create_dir_all(open.join("below")).unwrap();
    set_mode(&open, 0o1777);
    put(&open.join("old.yaml"), ROOT, "key: K\nvalue: old\n");
    put(&open.join("below/old.yaml"), ROOT, "key: L\nvalue: old\n");
    told("failed open/old.yaml (UID 0): others may write to the directory open (mode 1777)");
    told("failed open/below/old.yaml (UID 0): others may write to the directory open (mode 1777)");
    // Alice's directory with a file of root's in it, to which a link of root's leads.
    fs::create_dir(directory.join("theirs")).unwrap();
    put(&directory.join("theirs/old.yaml"), ROOT, "key: M\nvalue: old\n");
    chown(directory.join("theirs"), Some(ALICE.uid), None).unwrap();
    symlink("theirs/old.yaml", directory.join("link.yaml")).unwrap();
    told("failed link.yaml (UID 0): it lies in a directory that belongs to UID 2100");
    // One directory below, that is root's.
    fs::create_dir(directory.join("theirs/roots")).unwrap();
    put(&directory.join("theirs/roots/old.yaml"), ROOT, "key: N\nvalue: old\n");
    told("failed theirs/roots/old.yaml (UID 0): it lies in a directory that belongs to UID 2100");
    for key in ["K", "L", "M", "N"] {
        assert_eq!(root.read(key), Err(ENOENT));
    }
    // Once the directory is mended, its files are applied.
    set_mode(&open, 0o755);
    eventually("it is applied", || root.read("K").is_ok() && root.read("L").is_ok());
    // Her own files are applied with her rights.
    put(&directory.join("theirs/own.yaml"), ALICE, "key: alice/K\nvalue: v\n");
    eventually("hers is applied", || root.read("alice/K").is_ok());
}

#[test]
fn a_read_only_mount_is_safe_whatever_its_mode() {
    let Some((mut mount, directory)) = prepare() else { return };
    // A ConfigMap: the kubelet makes its directory for all, and mounts it read-only.
    fs::create_dir(directory.join("..v1")).unwrap();
    put(&directory.join("..v1/a.yaml"), ROOT, "key: K\nvalue: v\n");
    symlink("..v1", directory.join("..data")).unwrap();
    symlink("..data/a.yaml", directory.join("a.yaml")).unwrap();
    set_mode(&directory, 0o777);
    assert!(mount.refused().contains("import (mode 0777)"));
    let path = directory.to_str().unwrap();
    let bound = Bound(&directory);
    for options in [&["--bind", path, path][..], &["-o", "remount,ro,bind", path]] {
        let mounted = std::process::Command::new("mount").args(options).status().unwrap();
        assert!(mounted.success());
    }
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("v"));
    mount.stop();
    drop(bound);
}

/// Unmounted when it is dropped.
struct Bound<'a>(&'a Path);

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
