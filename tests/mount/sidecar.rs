//! Section 4, "Sidecars": the six lists as a file.

use nix::errno::Errno::{EACCES, EINVAL, ENOENT};

use crate::acl::{LISTS, all_six, parse_lists};
use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};

#[test]
fn reading_gives_all_six_in_their_order() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("empty", "value", "");
    alice.write("alice/full", "value").unwrap();
    // `parse_lists` holds the text to the order.
    assert_eq!(parse_lists(&root.read("empty.acl").unwrap()), all_six(&[]));
    assert_eq!(parse_lists(&alice.read("alice/full.acl").unwrap()), all_six(&["alice"]));
    assert_eq!(root.read("none.acl"), Err(ENOENT));
    assert_eq!(root.write("none.acl", "readers: [bob]\n"), Err(ENOENT));
}

#[test]
fn writing_replaces_the_lists_that_it_names() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let id = root.id("K");
    let mut expected = all_six(&[]);
    for (document, list, slugs) in [
        ("readers: [alice, bob]\n", "readers", vec!["alice", "bob"]),
        ("writers:\n  - alice\n  - devops-team\n", "writers", vec!["alice", "devops-team"]),
        (
            "# a comment\ncanChangeDeleters: ['uid:7', \"gid:8\"]",
            "canChangeDeleters",
            vec!["uid:7", "gid:8"],
        ),
        ("---\ndeleters: [a.b_c-D9]\n", "deleters", vec!["a.b_c-D9"]),
        ("{canChangeReaders: [bob]}", "canChangeReaders", vec!["bob"]),
        ("readers: []\n", "readers", vec![]),
    ] {
        assert_eq!(root.write("K.acl", document), Ok(()), "{document}");
        expected.insert(list.to_owned(), slugs.into_iter().map(str::to_owned).collect());
        assert_eq!(root.lists("K"), expected, "after {document}");
    }
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert_eq!(root.id("K"), id);
}

#[test]
fn lists_are_there_after_a_restart() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice]\ncanChangeWriters: [bob]\n");
    let lists = root.lists("K");
    mount.restart();
    assert_eq!(mount.user(ROOT).lists("K"), lists);
    assert_eq!(mount.user(ALICE).read("K").as_deref(), Ok("value"));
}

#[test]
fn what_is_no_list_document_is_refused_whole() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice]\n");
    let lists = root.lists("K");
    let huge_slug = format!("readers: [{}]\n", "x".repeat(65));
    for document in [
        "\n",
        "# only a comment\n",
        "---\n",
        "reader: [bob]\n",
        "readers: [bob]\nvalue: x\n",
        "readers: [bob]\nReaders: [bob]\n",
        "readers: bob\n",
        "readers: {bob: true}\n",
        "readers: [[bob]]\n",
        "readers: [{slug: bob}]\n",
        "[readers]\n",
        "just text\n",
        "readers: [bob\n",
        "readers: [\"two words\"]\n",
        "readers: [bob/sub]\n",
        "readers: [-bob]\n",
        "readers: [\"\"]\n",
        "readers: [bob, 'uid:x']\n",
        "readers: [bob]\nwriters: ['ö']\n",
        "readers: [bob]\nreaders: [carol]\n",
        &huge_slug,
    ] {
        assert_eq!(root.write("K.acl", document), Err(EINVAL), "{document:?}");
        assert_eq!(root.lists("K"), lists, "after {document:?}");
    }
    assert_eq!(root.write("K.acl", b"readers: [\xff\xfe]\n"), Err(EINVAL));
    root.sh(": > K.acl");
    assert_eq!(root.lists("K"), lists, "emptying a sidecar changes nothing");
}

#[test]
fn each_list_is_guarded_by_its_own() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "");
    for (guard, guarded) in LISTS.iter().skip(3).zip(LISTS) {
        for list in LISTS {
            root.only_list("K", guard, "alice");
            let before = root.lists("K");
            let expected = if list == guarded { Ok(()) } else { Err(EACCES) };
            let done = alice.write("K.acl", format!("{list}: [alice, bob]\n"));
            assert_eq!(done, expected, "{list} as a member of {guard} alone");
            let after = root.lists("K");
            let changed: Vec<_> = LISTS.into_iter().filter(|&l| before[l] != after[l]).collect();
            assert_eq!(changed, if expected.is_ok() { vec![list] } else { vec![] });
        }
    }
}

#[test]
fn one_list_too_many_and_nothing_changes() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "");
    root.only_list("K", "canChangeReaders", "alice");
    let lists = root.lists("K");
    assert_eq!(alice.write("K.acl", "readers: [bob]\nwriters: [bob]\n"), Err(EACCES));
    assert_eq!(root.lists("K"), lists);
    assert_eq!(alice.write("K.acl", "readers: [bob]\nwriters: []\n"), Ok(()), "that is no change");
    assert_eq!(root.lists("K")["readers"], ["bob"]);
}

#[test]
fn writing_back_what_stands_needs_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [alice, bob]\nwriters: [payment-svc]\n");
    let text = alice.read("K.acl").unwrap();
    assert_eq!(alice.write("K.acl", &text), Ok(()));
    assert_eq!(bob.write("K.acl", "readers: [bob, alice]\n"), Ok(()), "order grants nothing");
    alice.sh_ok("cp K.acl $T/lists && cp $T/lists K.acl");
    assert_eq!(root.lists("K")["writers"], ["payment-svc"]);
    // Without any list of it, even that is too much.
    root.only_list("K", "readers", "bob");
    assert_eq!(alice.write("K.acl", &text), Err(EACCES));
}

#[test]
fn a_creator_gives_rights_and_gives_them_up() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    assert_eq!(bob.read("alice/K"), Err(EACCES));
    alice.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    assert_eq!(bob.read("alice/K").as_deref(), Ok("value"));
    alice.write("alice/K.acl", "readers: [bob]\nwriters: []\n").unwrap();
    assert_eq!(alice.read("alice/K"), Err(EACCES));
    assert_eq!(alice.write("alice/K", "new"), Err(EACCES), "its own directory does not help");
    assert_eq!(
        alice.write("alice/K.acl", "canChangeReaders: [alice, bob]\n"),
        Err(EACCES),
        "only an admin changes who may change"
    );
}

#[test]
fn programs_edit_it() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    for (script, readers) in [
        ("printf 'readers: [alice, bob]\\n' > alice/K.acl", vec!["alice", "bob"]),
        ("{ echo readers:; echo '- alice'; } > alice/K.acl", vec!["alice"]),
        ("sed -i '0,/alice/s//dave/' alice/K.acl", vec!["dave"]),
    ] {
        alice.sh_ok(script);
        assert_eq!(alice.lists("alice/K")["readers"], readers, "after `{script}`");
        assert_eq!(alice.list("alice"), Ok(vec!["K".to_owned()]));
    }
}

#[test]
fn a_file_that_was_only_created_soon_has_its_lists() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for number in 0..50 {
        let name = format!("alice/K{number}");
        assert_eq!(alice.write(&name, ""), Ok(()));
        // The kernel announces the last close to one of several threads; another may serve this first.
        eventually("the sidecar can be written", || {
            let written = root.write(&format!("{name}.acl"), "readers: [bob]\n");
            assert!(matches!(written, Ok(()) | Err(ENOENT)), "{name}: {written:?}");
            written.is_ok()
        });
    }
}
