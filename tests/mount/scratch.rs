//! Section 4, "Scratch files": names that start with a dot, for programs that write and then rename.

use nix::errno::Errno::{EACCES, EDQUOT, EFBIG, ENOENT};

use crate::acl::all_six;
use crate::harness::{ALICE, BOB, Mount, ROOT};

#[test]
fn a_scratch_file_is_seen_by_its_uid_alone() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, again) = (mount.user(ROOT), mount.user(ALICE), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    assert_eq!(alice.write("alice/.K.swp", "scratch"), Ok(()));
    assert_eq!(again.read("alice/.K.swp").as_deref(), Ok("scratch"), "in another process as well");
    assert_eq!(again.stat("alice/.K.swp").unwrap().size, 7);
    assert_eq!(root.read("alice/.K.swp"), Err(ENOENT));
    assert_eq!(root.stat("alice/.K.swp"), Err(ENOENT));
    assert_eq!(root.unlink("alice/.K.swp"), Err(ENOENT));
    assert_eq!(root.list("alice"), Ok(vec!["K".to_owned()]));
    // The same name is another file for another user.
    assert_eq!(root.write("alice/.K.swp", "root's"), Ok(()));
    assert_eq!(alice.read("alice/.K.swp").as_deref(), Ok("scratch"));
    assert_eq!(root.read("alice/.K.swp").as_deref(), Ok("root's"));
    assert_eq!(alice.unlink("alice/.K.swp"), Ok(()));
    assert_eq!(alice.read("alice/.K.swp"), Err(ENOENT));
    assert_eq!(root.read("alice/.K.swp").as_deref(), Ok("root's"));
}

#[test]
fn it_is_an_ordinary_file() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/.s.tmp", "0123456789").unwrap();
    alice.append("alice/.s.tmp", "ab").unwrap();
    let file = alice.open("alice/.s.tmp", libc::O_RDWR).unwrap();
    file.write_at(1, "X").unwrap();
    assert_eq!(file.read_at(0, 4).as_deref(), Ok(&b"0X23"[..]));
    file.set_length(3).unwrap();
    assert_eq!(file.sync(), Ok(()));
    file.close().unwrap();
    assert_eq!(alice.read("alice/.s.tmp").as_deref(), Ok("0X2"));
    assert_eq!(alice.truncate("alice/.s.tmp", 1), Ok(()));
    assert_eq!(alice.rename("alice/.s.tmp", "alice/.t.tmp"), Ok(()));
    assert_eq!(alice.read("alice/.s.tmp"), Err(ENOENT));
    assert_eq!(alice.read("alice/.t.tmp").as_deref(), Ok("0"));
    alice.write("alice/.s.tmp", "new").unwrap();
    assert_eq!(alice.rename("alice/.s.tmp", "alice/.t.tmp"), Ok(()));
    assert_eq!(alice.read("alice/.t.tmp").as_deref(), Ok("new"));
    let mode = alice.stat("alice/.t.tmp").unwrap().mode;
    assert_eq!((mode & libc::S_IFMT, mode & 0o077), (libc::S_IFREG, 0), "it is private: {mode:o}");
}

#[test]
fn only_where_the_caller_may_create() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("bob/present", "value", "readers: [alice]\n");
    assert_eq!(alice.write("bob/.s.tmp", "scratch"), Err(EACCES));
    assert_eq!(alice.write(".s.tmp", "scratch"), Err(EACCES));
    assert_eq!(root.write("bob/.s.tmp", "scratch"), Ok(()));
    assert_eq!(root.write(".s.tmp", "scratch"), Ok(()));
}

#[test]
fn there_are_64_of_a_mebibyte_each() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let largest = vec![b'x'; 1 << 20];
    alice.write("alice/.0.tmp", &largest).unwrap();
    assert_eq!(alice.append("alice/.0.tmp", "x"), Err(EFBIG));
    let huge = alice.open("alice/.0.tmp", libc::O_WRONLY).unwrap();
    assert_eq!(huge.set_length(1_000_000_000_000_000), Err(EFBIG));
    assert_eq!(huge.close(), Ok(()));
    for number in 1..64 {
        assert_eq!(alice.write(&format!("alice/.{number}.tmp"), "x"), Ok(()), "number {number}");
    }
    assert_eq!(alice.write("alice/.64.tmp", "x"), Err(EDQUOT));
    assert_eq!(bob.write("bob/.0.tmp", "x"), Ok(()), "the limit is each UID's own");
    alice.unlink("alice/.1.tmp").unwrap();
    assert_eq!(alice.write("alice/.64.tmp", "x"), Ok(()));
    assert_eq!(alice.write("alice/K", "value"), Ok(()), "secrets do not count");
}

#[test]
fn they_are_gone_after_a_restart_and_never_stored() {
    let Some(mut mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    alice.write("alice/.s.tmp", "scratch").unwrap();
    mount.restart();
    let alice = mount.user(ALICE);
    assert_eq!(alice.read("alice/.s.tmp"), Err(ENOENT));
    assert_eq!(alice.read("alice/K").as_deref(), Ok("value"));
}

#[test]
fn renamed_it_becomes_a_secret() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/.new.tmp", "one").unwrap();
    assert_eq!(alice.rename("alice/.new.tmp", "alice/K"), Ok(()), "onto a free key");
    assert_eq!(root.read("alice/K").as_deref(), Ok("one"));
    assert_eq!(alice.lists("alice/K"), all_six(&["alice"]));
    assert_eq!(alice.read("alice/.new.tmp"), Err(ENOENT));

    root.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    let (id, lists) = (root.id("alice/K"), root.lists("alice/K"));
    alice.write("alice/.new.tmp", "two").unwrap();
    assert_eq!(alice.rename("alice/.new.tmp", "alice/K"), Ok(()), "onto a secret");
    assert_eq!(root.read("alice/K").as_deref(), Ok("two"));
    assert_eq!((root.id("alice/K"), root.lists("alice/K")), (id, lists));

    root.put("svc/K", "old", "readers: [alice]\n");
    alice.write("alice/.new.tmp", "three").unwrap();
    assert_eq!(alice.rename("alice/.new.tmp", "svc/K"), Err(EACCES), "no writer of the target");
    assert_eq!(alice.rename("alice/.new.tmp", "svc/free"), Err(EACCES), "nothing to create there");
    assert_eq!(root.read("svc/K").as_deref(), Ok("old"));
    root.put("svc/K", "old", "writers: [alice]\n");
    assert_eq!(alice.rename("alice/.new.tmp", "svc/K"), Ok(()));
    assert_eq!(root.read("svc/K").as_deref(), Ok("three"));

    root.write(".new.tmp", "root's").unwrap();
    assert_eq!(root.rename(".new.tmp", "K"), Ok(()));
    assert_eq!(root.lists("K"), all_six(&[]));
}
