//! Renaming a directory: all keys below it at once, if the caller may rename each of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::errno::Errno::{EACCES, EBUSY, EEXIST, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY};

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};
use crate::skip::has;

const CREATE: i32 = libc::O_CREAT | libc::O_WRONLY;

#[test]
fn keys_move_with_their_ids_and_lists() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for directory in ["alice/app", "alice/app/deep", "alice/app/made"] {
        alice.mkdir(directory).unwrap();
    }
    alice.write("alice/app/K", "one").unwrap();
    alice.write("alice/app/deep/L", "two").unwrap();
    root.write("alice/app/K.acl", "readers: [alice, bob]\n").unwrap();
    let ids = [alice.id("alice/app/K"), alice.id("alice/app/deep/L")];
    let (reader, inode) =
        (alice.open("alice/app/K", libc::O_RDONLY).unwrap(), alice.stat("alice/app/K").unwrap());
    // A writer that opened its secret before.
    let writer = alice.open("alice/app/deep/L", libc::O_WRONLY).unwrap();
    alice.rename("alice/app", "alice/web").unwrap();
    assert_eq!(alice.read("alice/web/K").as_deref(), Ok("one"));
    assert_eq!(alice.read("alice/web/deep/L").as_deref(), Ok("two"));
    assert_eq!([alice.id("alice/web/K"), alice.id("alice/web/deep/L")], ids);
    assert_eq!(mount.user(BOB).read("alice/web/K").as_deref(), Ok("one"));
    assert_eq!(alice.stat("alice/web/K"), Ok(inode));
    assert_eq!(alice.list("alice/web").unwrap(), ["K", "deep", "made"]);
    for gone in ["alice/app", "alice/app/K", "alice/app/deep/L"] {
        assert_eq!(alice.stat(gone).err(), Some(ENOENT), "{gone}");
    }
    assert_eq!(reader.read_to_end().as_deref(), Ok(&b"one"[..]));
    writer.write("new").unwrap();
    writer.close().unwrap();
    assert_eq!(alice.read("alice/web/deep/L").as_deref(), Ok("new"));
    // The old name is free, and means something else.
    alice.mkdir("alice/app").unwrap();
    alice.write("alice/app/K", "another").unwrap();
    assert_eq!(alice.read("alice/app/K").as_deref(), Ok("another"));
    assert_eq!(alice.read("alice/web/K").as_deref(), Ok("one"));
    alice.write("alice/web/K", "rotated").unwrap();
    assert_eq!(alice.read("alice/web/K").as_deref(), Ok("rotated"));
    mount.restart();
    let alice = mount.user(ALICE);
    assert_eq!(alice.read("alice/web/K").as_deref(), Ok("rotated"));
    assert_eq!(alice.id("alice/web/K"), ids[0]);
    assert_eq!(alice.read("alice/app/K").as_deref(), Ok("another"));
}

#[test]
fn mv_renames_and_does_not_copy() {
    if !has(&["getfattr"]) {
        return;
    }
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    let said = alice.sh_ok(
        "mkdir -p alice/dir1/sub alice/dir3
        for i in 1 2 3; do echo $i > alice/dir1/sub/K$i; done
        getfattr -n user.secretfs.id --only-values alice/dir1/sub/K2 > $T/id
        mv -T alice/dir1 alice/dir2 && mv alice/dir2 alice/dir3/
        cat alice/dir3/dir2/sub/K*
        getfattr -n user.secretfs.id --only-values alice/dir3/dir2/sub/K2 | cmp - $T/id
        ls alice",
    );
    assert_eq!(said, "1\n2\n3\ndir3\n");
}

#[test]
fn who_may_not_rename_each_key_changes_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.mkdir("alice/d").unwrap();
    alice.write("alice/d/A", "a").unwrap();
    alice.write("alice/d/Z", "z").unwrap();
    root.write("alice/d/HIDDEN", "h").unwrap();
    assert_eq!(alice.rename("alice/d", "alice/e"), Err(EACCES));
    let told = alice.read(".status/last-error").unwrap();
    assert!(told.contains("alice/d") && !told.contains("HIDDEN"), "{told}");
    assert_eq!(alice.read("alice/d/A").as_deref(), Ok("a"));
    assert_eq!(alice.stat("alice/e").err(), Some(ENOENT));
    root.unlink("alice/d/HIDDEN").unwrap();
    // Not out of one's own directory, nor somebody else's.
    assert_eq!(alice.rename("alice/d", "elsewhere"), Err(EACCES));
    root.mkdir("svc").unwrap();
    root.write("svc/K", "v").unwrap();
    root.write("svc/K.acl", "readers: [bob]\ndeleters: [bob]\n").unwrap();
    assert_eq!(bob.rename("svc", "svc2"), Err(EACCES));
    // What is there says nothing to those who may not create there.
    assert_eq!(bob.rename("svc", "alice/d"), Err(EACCES));
    assert_eq!(bob.rename("svc", "alice/none"), Err(EACCES));
    // With `deleters` it can be moved into the own directory.
    bob.mkdir("bob/in").unwrap();
    bob.rename("svc", "bob/in/svc").unwrap();
    assert_eq!(bob.read("bob/in/svc/K").as_deref(), Ok("v"));
    root.rename("alice/d", "elsewhere").unwrap();
    assert_eq!(root.read("elsewhere/A").as_deref(), Ok("a"));
}

#[test]
fn targets() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    for directory in ["alice/d", "alice/full"] {
        alice.mkdir(directory).unwrap();
    }
    alice.write("alice/d/K", "v").unwrap();
    alice.write("alice/full/L", "w").unwrap();
    alice.write("alice/file", "f").unwrap();
    alice.mkdir("alice/empty").unwrap();
    alice.mkdir("alice/nested").unwrap();
    alice.mkdir("alice/nested/made").unwrap();
    assert_eq!(alice.rename("alice/d", "alice/full"), Err(ENOTEMPTY));
    assert_eq!(alice.rename("alice/d", "alice/nested"), Err(ENOTEMPTY));
    assert_eq!(alice.rename("alice/d", "alice/file"), Err(ENOTDIR));
    assert_eq!(alice.rename("alice/d", "alice/d/below"), Err(EINVAL));
    assert_eq!(alice.rename("alice/d", "alice"), Err(ENOTEMPTY));
    let no_replace = libc::RENAME_NOREPLACE;
    assert_eq!(alice.rename_with("alice/d", "alice/empty", no_replace), Err(EEXIST));
    assert_eq!(alice.rename_with("alice/d", "alice/full", no_replace), Err(EEXIST));
    let exchange = libc::RENAME_EXCHANGE;
    assert_eq!(alice.rename_with("alice/d", "alice/full", exchange), Err(EINVAL));
    assert_eq!(alice.rename("alice/d", &format!("alice/{}", "x".repeat(256))), Err(ENAMETOOLONG));
    alice.write(&format!("alice/d/{}", "y".repeat(255)), "v").unwrap();
    let deep = ["x".repeat(255), "x".repeat(255), "x".repeat(255)];
    alice.mkdir(&format!("alice/{}", deep[0])).unwrap();
    alice.mkdir(&format!("alice/{}", deep[..2].join("/"))).unwrap();
    // The key would have more than 1,024 bytes.
    assert_eq!(alice.rename("alice/d", &format!("alice/{}", deep.join("/"))), Err(ENAMETOOLONG));
    assert_eq!(alice.read("alice/d/K").as_deref(), Ok("v"));
    alice.rename("alice/d", "alice/empty").unwrap();
    assert_eq!(alice.read("alice/empty/K").as_deref(), Ok("v"));
    alice.rename_with("alice/empty", "alice/d", no_replace).unwrap();
    assert_eq!(alice.read("alice/d/K").as_deref(), Ok("v"));
    // Directories without keys.
    alice.rename("alice/nested", "alice/other").unwrap();
    assert_eq!(alice.list("alice/other").unwrap(), ["made"]);
    assert_eq!(alice.rmdir("alice/nested"), Err(ENOENT));
    // A new file that is not closed would stay behind.
    let new = alice.open("alice/d/NEW", CREATE).unwrap();
    assert_eq!(alice.rename("alice/d", "alice/e"), Err(EBUSY));
    new.write("v").unwrap();
    new.close().unwrap();
    alice.rename("alice/d", "alice/e").unwrap();
    assert_eq!(alice.read("alice/e/NEW").as_deref(), Ok("v"));
    // Scratch files go along.
    alice.write("alice/e/.K.swp", "swap").unwrap();
    alice.rename("alice/e", "alice/f").unwrap();
    assert_eq!(alice.read("alice/f/.K.swp").as_deref(), Ok("swap"));
}

#[test]
fn it_is_atomic_with_2000_keys_and_a_dying_server() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let documents: String = (0..2000)
        .map(|number| format!("- key: a/dir/K{number:04}\n  value: v{number}\n"))
        .collect();
    root.import("all.yaml", &documents).unwrap();
    assert_eq!(root.list("a/dir").unwrap().len(), 2000);
    let point = mount.point();
    for round in 0..6 {
        let (from, to) = if round % 2 == 0 { ("a/dir", "b/dir") } else { ("b/dir", "a/dir") };
        let parent = point.join(to).parent().unwrap().to_owned();
        if !parent.exists() {
            fs::create_dir(&parent).unwrap();
        }
        let renaming = {
            let (from, to) = (point.join(from), point.join(to));
            std::thread::spawn(move || fs::rename(from, to))
        };
        std::thread::sleep(Duration::from_millis(7 * round));
        mount.kill_server();
        // It is answered once, with what was done.
        renaming.join().unwrap().unwrap();
        assert_eq!(root.list(to).unwrap().len(), 2000, "round {round}");
        assert_eq!(root.stat(from).err(), Some(ENOENT), "round {round}");
        for number in [0, 999, 1999] {
            let key = format!("{to}/K{number:04}");
            assert_eq!(root.read(&key), Ok(format!("v{number}")), "round {round}");
        }
    }
    // What is seen meanwhile is all of it, in one place.
    let watcher = {
        let (a, b) = (point.join("a/dir"), point.join("b/dir"));
        let mounted = point.join(".status/version");
        std::thread::spawn(move || {
            let count = |path| fs::read_dir(path).map_or(0, Iterator::count);
            let mut seen = std::collections::BTreeSet::new();
            while mounted.exists() && seen.len() < 10_000 {
                seen.insert((count(&a), count(&b)));
                if b.exists() && count(&b) == 2000 {
                    break;
                }
            }
            seen
        })
    };
    if !point.join("b").exists() {
        fs::create_dir(point.join("b")).unwrap();
    }
    fs::rename(point.join("a/dir"), point.join("b/dir")).unwrap();
    let seen = watcher.join().unwrap();
    assert!(seen.iter().all(|(a, b)| [0, 2000].contains(a) && [0, 2000].contains(b)), "{seen:?}");
    let inode = fs::metadata(point.join("b/dir/K0000")).unwrap().ino();
    mount.restart();
    let root = mount.user(ROOT);
    assert_eq!(root.list("b/dir").unwrap().len(), 2000);
    assert_eq!(fs::metadata(point.join("b/dir/K0000")).unwrap().ino(), inode);
    // A line for each in the audit log.
    mount.stop();
    let log: String = fs::read_dir(mount.state().join("audit"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let line = "\"op\":\"rename\",\"outcome\":\"allowed\"";
    let renamed = log.lines().filter(|one| one.contains(line) && one.contains("dir/K1234")).count();
    assert_eq!(renamed, 7, "one for each renaming");
}

#[test]
fn a_process_in_the_directory_goes_on() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.mkdir("alice/d").unwrap();
    alice.write("alice/d/K", "one").unwrap();
    let said = alice.sh_ok(
        "cd alice/d && mv ../d ../e && cat K && cat ../e/K && echo two > K && cat ../e/K
        cat K && cd ../e && cat K",
    );
    assert_eq!(said, "oneonetwo\ntwo\ntwo\n");
    eventually("it is at its new place alone", || {
        alice.list("alice").as_deref() == Ok(&["e".into()][..])
    });
}
