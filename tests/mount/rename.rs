//! Section 4, "Rename", in all its forms.

use nix::errno::Errno::{self, EACCES, EEXIST, EINVAL, ENOENT, EPERM};

use crate::acl::all_six;
use crate::harness::{ALICE, BOB, Mount, ROOT};

#[test]
fn onto_a_free_key_the_secret_moves_with_its_id_and_lists() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    root.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    let (id, lists) = (root.id("alice/K"), root.lists("alice/K"));
    alice.mkdir("alice/sub").unwrap();
    for (from, to) in
        [("alice/K", "alice/L"), ("alice/L", "alice/sub/K"), ("alice/sub/K", "alice/K")]
    {
        assert_eq!(alice.rename(from, to), Ok(()), "{from} to {to}");
        assert_eq!(alice.read(from), Err(ENOENT));
        assert_eq!(alice.read(to).as_deref(), Ok("value"), "it decrypts under its new key");
        assert_eq!((root.id(to), root.lists(to)), (id.clone(), lists.clone()), "{from} to {to}");
    }
    assert_eq!(root.list("alice"), Ok(vec!["K".to_owned()]));
}

#[test]
fn a_moved_secret_is_there_after_a_restart() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let id = root.id("K");
    root.rename("K", "L").unwrap();
    mount.restart();
    let root = mount.user(ROOT);
    assert_eq!(root.read("L").as_deref(), Ok("value"));
    assert_eq!(root.id("L"), id);
    assert_eq!(root.list(""), Ok(vec!["L".to_owned()]));
}

#[test]
fn onto_an_existing_secret_the_target_takes_the_value_alone() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "old", "readers: [bob]\nwriters: [alice]\n");
    let (id, lists) = (root.id("svc/K"), root.lists("svc/K"));
    let before = root.stat("svc/K").unwrap();
    alice.write("alice/new", "new").unwrap();
    assert_eq!(alice.rename("alice/new", "svc/K"), Ok(()), "deleters here, writers there");
    assert_eq!(bob.read("svc/K").as_deref(), Ok("new"));
    assert_eq!(alice.read("svc/K"), Err(EACCES), "a value brings no reader");
    assert_eq!((root.id("svc/K"), root.lists("svc/K")), (id, lists));
    assert_eq!(root.stat("alice/new"), Err(ENOENT));
    let after = root.stat("svc/K").unwrap();
    assert!(after.inode != before.inode && after.mtime > before.mtime, "{before:?} {after:?}");
}

#[test]
fn it_needs_rights_on_both_sides() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("bob/present", "value", "readers: [alice]\n");
    for (source_lists, target, target_lists, expected) in [
        ("deleters: [alice]", "alice/free", None, Ok(())),
        ("readers: [alice]\nwriters: [alice]", "alice/free", None, Err(EACCES)),
        ("deleters: [alice]", "bob/free", None, Err(EACCES)),
        ("deleters: [alice]", "free", None, Err(EACCES)),
        ("deleters: [alice]", "bob/K", Some("writers: [alice]"), Err(EACCES)),
        ("readers: [alice]\ndeleters: [alice]", "bob/K", Some("writers: [alice]"), Ok(())),
        ("deleters: [alice]", "bob/K", Some("readers: [alice]\ndeleters: [alice]"), Err(EACCES)),
        ("writers: [alice]", "bob/K", Some("writers: [alice]"), Err(EACCES)),
        ("deleters: [alice]", "alice/K", Some("readers: [alice]"), Err(EACCES)),
    ] {
        root.put("alice/source", "new", "");
        root.only_list("alice/source", "readers", "");
        root.put("alice/source", "new", source_lists);
        if let Some(lists) = target_lists {
            root.put(target, "old", "");
            root.only_list(target, "readers", "");
            root.put(target, "old", lists);
        }
        let case = format!("{source_lists:?} to {target} with {target_lists:?}");
        assert_eq!(alice.rename("alice/source", target), expected, "{case}");
        let untouched = target_lists.map(|_| "old".to_owned()).ok_or(ENOENT);
        let (source, value) = match expected {
            Ok(()) => (Err(ENOENT), Ok("new".to_owned())),
            Err(_) => (Ok("new".to_owned()), untouched),
        };
        assert_eq!((root.read("alice/source"), root.read(target)), (source, value), "{case}");
        // The next case starts afresh.
        for key in ["alice/source", target] {
            assert!(matches!(root.unlink(key), Ok(()) | Err(ENOENT)));
        }
    }
    assert_eq!(alice.rename("alice/none", "alice/K"), Err(ENOENT));
}

#[test]
fn an_admin_moves_between_the_directories_of_users() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    bob.write("bob/present", "value").unwrap();
    assert_eq!(root.rename("alice/K", "bob/K"), Ok(()));
    assert_eq!(alice.read("bob/K").as_deref(), Ok("value"));
    assert_eq!(bob.read("bob/K"), Err(EACCES), "the lists moved with it");
    assert_eq!(root.lists("bob/K"), all_six(&["alice"]));
}

#[test]
fn onto_a_sidecar_the_content_becomes_the_lists() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    let id = alice.id("alice/K");
    for (temporary, reader) in [("alice/new", "bob"), ("alice/.new.tmp", "payment-svc")] {
        alice.write(temporary, format!("readers: [alice, {reader}]\n")).unwrap();
        assert_eq!(alice.rename(temporary, "alice/K.acl"), Ok(()), "{temporary}");
        assert_eq!(alice.lists("alice/K")["readers"], ["alice", reader]);
        assert_eq!(alice.stat(temporary), Err(ENOENT));
    }
    assert_eq!(alice.read("alice/K").as_deref(), Ok("value"));
    assert_eq!(alice.id("alice/K"), id);
    assert_eq!(alice.sh_ok("ls alice"), "K\n");
}

#[test]
fn onto_a_sidecar_the_rules_of_sidecars_hold() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    let lists = root.lists("alice/K");
    for (document, errno) in [
        ("reader: [bob]\n", EINVAL),
        ("not: [a, document\n", EINVAL),
        ("canChangeReaders: [alice, bob]\n", EACCES),
    ] {
        alice.write("alice/.new.tmp", document).unwrap();
        assert_eq!(alice.rename("alice/.new.tmp", "alice/K.acl"), Err(errno), "{document}");
        assert_eq!(root.lists("alice/K"), lists, "{document}");
        assert_eq!(alice.read("alice/.new.tmp").as_deref(), Ok(document), "the source stays");
    }
    root.only_list("alice/K", "canChangeReaders", "alice");
    alice.write("alice/new", "readers: [bob]\n").unwrap();
    root.only_list("alice/new", "readers", "alice");
    assert_eq!(alice.rename("alice/new", "alice/K.acl"), Err(EACCES), "no deleter of the source");
    assert_eq!(alice.rename("alice/.new.tmp", "alice/none.acl"), Err(ENOENT));
}

#[test]
fn a_sidecar_cannot_be_moved_or_removed() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    alice.write("alice/L", "value").unwrap();
    for user in [&root, &alice] {
        for to in ["alice/free", "alice/L", "alice/L.acl", "alice/free.acl"] {
            assert_eq!(user.rename("alice/K.acl", to), Err(EPERM), "to {to}");
        }
        assert_eq!(user.unlink("alice/K.acl"), Err(EPERM));
    }
    assert_eq!(alice.lists("alice/K"), all_six(&["alice"]));
}

#[test]
fn flags_of_renameat2() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "one").unwrap();
    root.write("L", "two").unwrap();
    assert_eq!(root.rename_with("K", "L", libc::RENAME_NOREPLACE), Err(EEXIST));
    assert_eq!(root.rename_with("K", "L.acl", libc::RENAME_NOREPLACE), Err(EEXIST));
    assert_eq!(root.rename_with("K", "L", libc::RENAME_EXCHANGE), Err(EINVAL));
    assert_eq!(root.read("K").as_deref(), Ok("one"));
    assert_eq!(root.read("L").as_deref(), Ok("two"));
    assert_eq!(root.rename_with("K", "M", libc::RENAME_NOREPLACE), Ok(()));
    assert_eq!(root.read("M").as_deref(), Ok("one"));
    assert_eq!(root.rename("M", "M"), Ok(()), "onto itself");
    assert_eq!(root.read("M").as_deref(), Ok("one"));
}

#[test]
fn names_that_are_no_keys_are_no_targets() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let too_long = "x".repeat(256);
    for (to, errno) in
        [("line\nfeed", EINVAL), (too_long.as_str(), Errno::ENAMETOOLONG), ("none/K", ENOENT)]
    {
        assert_eq!(root.rename("K", to), Err(errno), "{to:?}");
    }
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert_eq!(root.list(""), Ok(vec!["K".to_owned()]));
}
