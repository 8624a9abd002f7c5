//! Section 4: a bind mount of a single file follows new versions, though the kernel looks nothing up.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno::{EACCES, EFBIG, ENOENT, ESTALE};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::harness::{ALICE, BOB, Mount, ROOT};
use crate::user::User;

const APPEND: i32 = libc::O_WRONLY | libc::O_APPEND;

/// A bind mount of one file, outside of the mount.
pub(crate) struct Bind(PathBuf);

impl Bind {
    pub(crate) fn new(of: &Path, at: PathBuf) -> Self {
        File::create(&at).unwrap();
        mount(Some(of), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(at)
    }

    fn of(mount: &Mount, key: &str) -> Self {
        Self::new(&mount.point().join(key), mount.outside().join(key.replace('/', "-")))
    }

    /// Its path, which users take as one.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Whoever opens it, asks for its size and reads it gets the whole of that.
#[track_caller]
fn shows(user: &User, path: &str, expected: &str) {
    opens(user, path, expected);
    assert_eq!(user.stat(path).unwrap().size, expected.len() as u64, "stat of {path}");
}

#[track_caller]
fn opens(user: &User, path: &str, expected: &str) {
    let file = user.open(path, libc::O_RDONLY).unwrap();
    assert_eq!(file.stat().unwrap().size, expected.len() as u64, "fstat of {path}");
    let bytes = file.read_to_end().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    assert_eq!(file.stat().unwrap().size, expected.len() as u64, "fstat of {path} again");
    file.close().unwrap();
}

const VALUES: [&str; 5] =
    ["a longer value than the first one", "short", "", "anything after nothing", "x"];

#[test]
fn readers_get_the_current_value() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "first value", "readers: [alice]\n");
    let bind = Bind::of(&mount, "K");
    shows(&alice, bind.path(), "first value");
    for value in VALUES {
        root.write("K", value).unwrap();
        shows(&alice, bind.path(), value);
        shows(&alice, "K", value);
        assert_eq!(bob.read(bind.path()), Err(EACCES));
        assert_eq!(alice.write_with(bind.path(), 0, "x"), Err(EACCES));
        assert_eq!(alice.truncate(bind.path(), 0), Err(EACCES));
        assert_eq!(
            root.xattr("K", "user.secretfs.version"),
            root.xattr(bind.path(), "user.secretfs.version")
        );
    }
    root.write("N", "renamed").unwrap();
    root.rename("N", "K").unwrap();
    shows(&alice, bind.path(), "renamed");
    root.unlink("K").unwrap();
    assert_eq!(alice.read(bind.path()), Err(ESTALE));
}

/// A descriptor keeps the version of its open, whatever others open through the same node.
#[test]
fn descriptors_keep_what_they_opened() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, other) = (mount.user(ROOT), mount.user(ALICE), mount.user(ALICE));
    root.put("K", "the very first value", "readers: [alice]\n");
    let bind = Bind::of(&mount, "K");
    let held_first = alice.open(bind.path(), libc::O_RDONLY).unwrap();
    let values = ["2 is a long value, longer than the first", "3", "4 is in between"];
    let mut held = Vec::new();
    for value in values {
        root.write("K", value).unwrap();
        let user = mount.user(ALICE);
        assert_eq!(user.open(bind.path(), libc::O_RDONLY).map(drop), Ok(()));
        assert_eq!(user.opened(1).stat().unwrap().size, value.len() as u64);
        held.push((user, value));
        opens(&other, bind.path(), value);
    }
    assert_eq!(held_first.read_at(0, 100).as_deref(), Ok(&b"the very first value"[..]));
    assert_eq!(held_first.stat().unwrap().size, 20, "while it is open");
    let mut bytes = held_first.read_at(15, 100).unwrap();
    assert_eq!(bytes, b"value");
    held_first.close().unwrap();
    for (user, value) in &held {
        let handle = user.opened(1);
        assert_eq!(handle.stat().unwrap().size, value.len() as u64);
        bytes = handle.read_at(0, 100).unwrap();
        assert_eq!(bytes, value.as_bytes());
    }
}

#[test]
fn writers_write_append_and_truncate() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for (name, rotations) in [("fresh", 0), ("stale", 1), ("older", 3)] {
        let key = |what: &str| format!("{name}-{what}");
        let prepare = |what: &str| {
            let key = key(what);
            root.put(&key, "0123456789", "readers: [alice]\nwriters: [alice]\n");
            let bind = Bind::of(&mount, &key);
            assert_eq!(alice.read(bind.path()).as_deref(), Ok("0123456789"));
            for _ in 0..rotations {
                root.write(&key, "something else").unwrap();
                root.write(&key, "0123456789").unwrap();
            }
            let version =
                root.xattr(&key, "user.secretfs.version").unwrap().parse::<u64>().unwrap();
            (key, bind, version)
        };
        let check = |what: &str, (key, bind, version): (String, Bind, u64), expected: &str| {
            shows(&root, &key, expected);
            shows(&alice, bind.path(), expected);
            let now = root.xattr(&key, "user.secretfs.version").unwrap();
            assert_eq!(now, (version + 1).to_string(), "{name}: {what}");
            // And once more.
            assert_eq!(alice.write_with(bind.path(), libc::O_TRUNC, "again"), Ok(()), "{what}");
            shows(&root, &key, "again");
            assert_eq!(alice.append(&key, " by path"), Ok(()));
            assert_eq!(alice.write_with(bind.path(), libc::O_APPEND, " bound"), Ok(()), "{what}");
            shows(&root, &key, "again by path bound");
        };
        let at = prepare("truncating");
        let long = "a value that is longer than what was there before";
        assert_eq!(alice.write_with(at.1.path(), libc::O_TRUNC, long), Ok(()), "{name}");
        check("O_TRUNC", at, long);
        let at = prepare("in-place");
        assert_eq!(alice.write_with(at.1.path(), 0, "abc"), Ok(()), "{name}");
        check("in place", at, "abc3456789");
        let at = prepare("append");
        assert_eq!(alice.write_with(at.1.path(), libc::O_APPEND, " more"), Ok(()), "{name}");
        check("O_APPEND", at, "0123456789 more");
        let at = prepare("truncate");
        assert_eq!(alice.truncate(at.1.path(), 3), Ok(()), "{name}");
        check("truncate", at, "012");
        let at = prepare("truncate-to-0");
        assert_eq!(alice.truncate(at.1.path(), 0), Ok(()), "{name}");
        check("truncate to nothing", at, "");
        let at = prepare("extend");
        assert_eq!(alice.truncate(at.1.path(), 12), Ok(()), "{name}");
        check("truncate to more", at, "0123456789\0\0");
        let at = prepare("ftruncate");
        let file = alice.open(at.1.path(), libc::O_RDWR).unwrap();
        assert_eq!(file.set_length(4), Ok(()), "{name}");
        assert_eq!(file.stat().unwrap().size, 4);
        assert_eq!(file.write_at(4, "!"), Ok(()));
        assert_eq!(file.stat().unwrap().size, 5);
        assert_eq!(file.read_at(0, 10).as_deref(), Ok(&b"0123!"[..]));
        assert_eq!(file.close(), Ok(()), "{name}");
        check("ftruncate", at, "0123!");
        let at = prepare("too-large");
        assert_eq!(alice.truncate(at.1.path(), (1 << 20) + 1), Err(EFBIG), "{name}");
        assert_eq!(alice.write_with(at.1.path(), 0, vec![0; (1 << 20) + 1]), Err(EFBIG), "{name}");
        shows(&root, &at.0, "0123456789");
    }
}

/// The kernel has one size for the node. As long as somebody has its version open, who wrote through it
/// would change what they see.
#[test]
fn who_reads_the_version_is_not_disturbed_by_a_writer() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "first", "readers: [alice]\nwriters: [alice]\n");
    let bind = Bind::of(&mount, "K");
    let held = root.open("K", libc::O_RDONLY).unwrap();
    for round in 0..2 {
        for flags in [0, libc::O_TRUNC, libc::O_APPEND] {
            assert_eq!(
                alice.write_with(bind.path(), flags, "a longer value"),
                Err(ESTALE),
                "{round}"
            );
        }
        shows(&alice, "K", "first");
        shows(&alice, bind.path(), "first");
        assert_eq!(held.stat().unwrap().size, 5);
        assert_eq!(held.read_at(0, 100).as_deref(), Ok(&b"first"[..]));
    }
    held.close().unwrap();
    assert_eq!(alice.write_with(bind.path(), libc::O_TRUNC, "a longer value"), Ok(()));
    shows(&root, "K", "a longer value");
    shows(&alice, bind.path(), "a longer value");
}

#[test]
fn sidecars_too() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    let bind = Bind::of(&mount, "alice/K.acl");
    let before = alice.read(bind.path()).unwrap();
    shows(&alice, bind.path(), &before);
    assert_eq!(bob.read("alice/K"), Err(EACCES));
    for _ in 0..2 {
        let document = "readers: [alice, bob]\n";
        assert_eq!(alice.write_with(bind.path(), libc::O_TRUNC, document), Ok(()));
        assert_eq!(bob.read("alice/K").as_deref(), Ok("value"));
        let now = root.read("alice/K.acl").unwrap();
        assert_ne!(now, before);
        shows(&alice, bind.path(), &now);
        assert_eq!(alice.write_with("alice/K.acl", libc::O_TRUNC, "readers: [alice]\n"), Ok(()));
        shows(&alice, bind.path(), &before);
    }
    assert_eq!(bob.read(bind.path()), Err(EACCES));
    assert_eq!(bob.write_with(bind.path(), libc::O_TRUNC, "readers: [bob]\n"), Err(EACCES));
    assert!(alice.truncate(bind.path(), 0).is_err(), "an empty document is no list");
    shows(&alice, bind.path(), &before);
}

#[test]
fn another_server_goes_on() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, other) = (mount.user(ROOT), mount.user(ALICE), mount.user(ALICE));
    root.put("K", "first", "readers: [alice]\nwriters: [alice]\n");
    let bind = Bind::of(&mount, "K");
    root.write("K", "second value").unwrap();
    let held = alice.open(bind.path(), libc::O_RDONLY).unwrap();
    let writer = other.open(bind.path(), APPEND).unwrap();
    writer.write(" and").unwrap();
    assert!(mount.kill_server());
    root.write("K", "third").unwrap();
    assert_eq!(held.stat().unwrap().size, 12);
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"second value"[..]));
    shows(&root, bind.path(), "third");
    writer.write(" more").unwrap();
    assert!(mount.kill_server());
    assert_eq!(writer.close(), Ok(()));
    shows(&root, bind.path(), "third and more");
    held.close().unwrap();
    assert!(mount.kill_server());
    for value in VALUES {
        root.write("K", value).unwrap();
        shows(&alice, bind.path(), value);
        assert!(mount.kill_server());
    }
    assert_eq!(alice.write_with(bind.path(), libc::O_TRUNC, "the last one"), Ok(()));
    shows(&root, "K", "the last one");
    shows(&alice, bind.path(), "the last one");
    drop(bind);
    assert_eq!(root.unlink("K"), Ok(()));
    assert_eq!(alice.read("K"), Err(ENOENT));
}
