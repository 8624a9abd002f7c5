//! Section 4, "Attributes" and "Extended attributes": what `stat`, `chmod`, `chown` and the rest see.

use nix::errno::Errno::{EACCES, EAGAIN, ENODATA, ENOENT, EOPNOTSUPP, EPERM};

use crate::harness::{ALICE, BOB, Mount, ROOT};
use crate::protocol::Operation;

#[test]
fn a_secret_is_a_private_file_of_root() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "0123456789").unwrap();
    for user in [&root, &alice] {
        let stat = user.stat("alice/K").unwrap();
        assert_eq!(stat.mode, libc::S_IFREG | 0o400);
        assert_eq!((stat.uid, stat.gid, stat.links, stat.size), (0, 0, 1, 10));
        let open = user.open("alice/K", libc::O_RDONLY).unwrap();
        assert_eq!(open.stat(), Ok(stat), "fstat agrees with stat");
    }
    for directory in ["", "alice"] {
        let stat = alice.stat(directory).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (libc::S_IFDIR | 0o555, 0, 0), "{directory:?}");
    }
    assert_eq!(alice.stat("alice/none"), Err(ENOENT));
}

#[test]
fn every_version_has_its_own_inode_and_a_later_second() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "0").unwrap();
    let mut inodes = vec![root.stat("K").unwrap().inode];
    for version in 1..=4_usize {
        let before = root.stat("K").unwrap();
        root.write("K", "x".repeat(version)).unwrap();
        let after = root.stat("K").unwrap();
        assert!(after.mtime > before.mtime, "{} then {}", before.mtime, after.mtime);
        assert!(!inodes.contains(&after.inode), "inode {} came back", after.inode);
        assert_eq!(after.size, version as u64);
        inodes.push(after.inode);
    }
}

#[test]
fn sidecars_have_their_true_size() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    let stat = alice.stat("alice/K.acl").unwrap();
    assert_eq!(stat.mode & libc::S_IFMT, libc::S_IFREG);
    assert_eq!(stat.size, alice.read("alice/K.acl").unwrap().len() as u64);
}

#[test]
fn a_mode_can_be_set_by_who_may_write_and_never_changes() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    root.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    root.put("other/K", "value", "");
    root.only_list("other/K", "writers", "bob");
    let modes = [0o400, 0, 0o600, 0o440, 0o777, 0o1555];
    for (name, shown) in [("alice/K", 0o400), ("alice", 0o555), ("alice/K.acl", 0o600)] {
        for mode in modes {
            for user in [&root, &alice] {
                assert_eq!(user.chmod(name, mode), Ok(()), "chmod {mode:o} {name}");
            }
            if !name.ends_with(".acl") {
                assert_eq!(bob.chmod(name, mode), Err(EPERM), "chmod {mode:o} {name}");
            }
        }
        for mode in [0o4400, 0o2555, 0o6777] {
            for user in [&root, &alice, &bob] {
                assert_eq!(user.chmod(name, mode), Err(EPERM), "chmod {mode:o} {name}");
            }
        }
        assert_eq!(root.stat(name).unwrap().mode & 0o7777, shown);
    }
    assert_eq!(alice.chmod("", 0o555), Err(EPERM));
    // A writer need not be a reader.
    assert_eq!(bob.chmod("other/K", 0o644), Ok(()));
    assert_eq!(alice.chmod("other/K", 0o644), Err(EPERM));
    assert_eq!(alice.chmod("other/K.acl", 0o600), Err(EPERM));
    assert_eq!(bob.chmod(".status/version", 0o444), Err(EPERM));
    assert_eq!(alice.chmod("alice/none", 0o600), Err(ENOENT));
}

#[test]
fn nobody_gives_a_secret_away() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    for user in [&root, &alice] {
        for (uid, gid) in [(Some(2100), None), (None, Some(2100)), (Some(1), Some(1))] {
            assert_eq!(user.chown("alice/K", uid, gid), Err(EPERM), "chown {uid:?}:{gid:?}");
        }
        assert_eq!(user.chown("alice/K", Some(0), Some(0)), Ok(()), "to whom it belongs already");
        let stat = user.stat("alice/K").unwrap();
        assert_eq!((stat.uid, stat.gid), (0, 0));
    }
}

#[test]
fn there_are_no_links_devices_or_fifos() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    for user in [&root, &alice] {
        let (from, path) = (user.path("alice/K"), user.path("alice/new"));
        for operation in [
            Operation::Symlink { path: path.clone() },
            Operation::Link { from, to: path.clone() },
            Operation::Mkfifo { path: path.clone() },
        ] {
            assert_eq!(user.call(&operation, &[]), Err(EPERM), "{operation:?}");
        }
    }
    let device = Operation::MknodDevice { path: root.path("alice/new") };
    assert_eq!(root.call(&device, &[]), Err(EPERM));
    assert_eq!(root.stat("alice/new"), Err(ENOENT));
}

#[test]
fn times_can_be_set_and_the_filesystem_be_measured() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    let set_times = Operation::SetTimes { path: alice.path("alice/K") };
    assert_eq!(alice.call(&set_times, &[]), Ok(vec![]));
    let stat_fs = Operation::StatFs { path: alice.path("alice") };
    assert_eq!(alice.call(&stat_fs, &[]), Ok(vec![]));
    alice.sh_ok("touch -d '2020-01-01' alice/K; df . > $T/df");
    assert_eq!(alice.read("alice/K").as_deref(), Ok("value"));
}

#[test]
fn a_secret_can_be_locked_synced_and_mapped() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let value: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    alice.write("alice/K", &value).unwrap();
    let one = alice.open("alice/K", libc::O_RDONLY).unwrap();
    let other = root.open("alice/K", libc::O_RDONLY).unwrap();
    assert_eq!(one.lock(libc::LOCK_EX | libc::LOCK_NB), Ok(()));
    assert_eq!(other.lock(libc::LOCK_EX | libc::LOCK_NB), Err(EAGAIN));
    assert_eq!(one.lock(libc::LOCK_UN), Ok(()));
    assert_eq!(other.lock(libc::LOCK_EX | libc::LOCK_NB), Ok(()));
    assert_eq!(one.sync(), Ok(()));
    assert!(one.map_private(value.len()) == Ok(value), "the mapping shows something else");
}

#[test]
fn the_mount_table_says_what_it_is() {
    let Some(mount) = Mount::start() else { return };
    let line = mount.mounted().expect("it is mounted");
    assert!(line.contains(" - fuse.secretfs secretfs "), "{line}");
    for option in ["nosuid", "nodev", "noexec", "noatime", "allow_other"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option} in {line}");
    }
    assert!(!line.contains("default_permissions"), "{line}");
}

#[test]
fn extended_attributes_tell_about_the_secret() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "one").unwrap();
    root.write("alice/K.acl", "readers: [alice, devops-team]\n").unwrap();
    let id = alice.id("alice/K");
    let random = id.strip_prefix("secr_").unwrap_or_default();
    assert!(random.len() == 10 && random.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");

    let all = |name: &str| alice.xattr("alice/K", &format!("user.secretfs.{name}")).unwrap();
    let (version, created) = (all("version"), all("created"));
    root.write("alice/K", "two").unwrap();
    assert_ne!(all("version"), version, "a rotation is a new version");
    assert_eq!(all("created"), created);
    assert_eq!(all("id"), id);
    assert_eq!(all("updated-by"), "root");
    assert!(!all("updated").is_empty());

    // Copies would carry what is listed.
    for user in [&root, &alice] {
        for name in ["alice/K", "alice/K.acl", "alice", ""] {
            let names = user.call(&Operation::XattrNames { path: user.path(name) }, &[]);
            assert_eq!(names, Ok(Vec::new()), "{name}");
        }
    }
}

#[test]
fn extended_attributes_are_read_only_and_for_those_on_a_list() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    let id = "user.secretfs.id";
    assert_eq!(bob.xattr("alice/K", id), Err(EACCES));
    root.only_list("alice/K", "deleters", "bob");
    assert!(bob.xattr("alice/K", id).is_ok(), "any of the six lists will do");
    for name in ["user.secretfs.none", "user.other", "security.capability"] {
        assert_eq!(root.xattr("alice/K", name), Err(ENODATA), "{name}");
    }
    for name in [id, "user.other", "security.other", "trusted.other"] {
        let (path, name) = (root.path("alice/K"), name.to_owned());
        let set = Operation::SetXattr { path: path.clone(), name: name.clone() };
        assert_eq!(root.call(&set, b"secr_0000000000"), Err(EOPNOTSUPP), "{set:?}");
        let remove = Operation::RemoveXattr { path, name };
        assert_eq!(root.call(&remove, &[]), Err(EOPNOTSUPP), "{remove:?}");
    }
}
