//! Section 3: who may do what. Each list alone allows its own operation and no other.

use nix::errno::Errno::{self, EACCES};

use crate::acl::{LISTS, all_six};
use crate::harness::{ALICE, BOB, CAROL, DAVE, Mount, ROOT, UNKNOWN};
use crate::user::User;

/// One way to do something to the secret at a key.
type Deed = fn(&User, &str) -> Result<(), Errno>;

fn read(user: &User, key: &str) -> Result<(), Errno> {
    user.read(key).map(drop)
}

fn change(user: &User, key: &str, list: &str) -> Result<(), Errno> {
    user.write(&format!("{key}.acl"), format!("{list}: [somebody]\n"))
}

/// What is done, and the list that allows it; none where only an admin may.
const TABLE: [(&str, Deed, Option<&str>); 15] = [
    ("read", read, Some("readers")),
    ("map", |user, key| user.open(key, libc::O_RDONLY)?.map_private(1).map(drop), Some("readers")),
    ("overwrite", |user, key| user.write(key, "new"), Some("writers")),
    ("write in place", |user, key| user.write_with(key, 0, "new"), Some("writers")),
    ("append", |user, key| user.append(key, "more"), Some("writers")),
    ("truncate by path", |user, key| user.truncate(key, 1), Some("writers")),
    ("access W_OK", |user, key| user.access(key, libc::W_OK), Some("writers")),
    ("access R_OK", |user, key| user.access(key, libc::R_OK), Some("readers")),
    ("change readers", |user, key| change(user, key, LISTS[0]), Some("canChangeReaders")),
    ("change writers", |user, key| change(user, key, LISTS[1]), Some("canChangeWriters")),
    ("change deleters", |user, key| change(user, key, LISTS[2]), Some("canChangeDeleters")),
    ("change canChangeReaders", |user, key| change(user, key, LISTS[3]), None),
    ("change canChangeWriters", |user, key| change(user, key, LISTS[4]), None),
    ("change canChangeDeleters", |user, key| change(user, key, LISTS[5]), None),
    ("unlink", |user, key| user.unlink(key), Some("deleters")),
];

#[test]
fn each_list_allows_exactly_its_operations() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "");
    for list in LISTS {
        for (deed, perform, needed) in TABLE {
            root.only_list("K", list, "alice");
            let allowed = if needed == Some(list) { Ok(()) } else { Err(EACCES) };
            assert_eq!(perform(&alice, "K"), allowed, "to {deed} as a member of {list} alone");
            if deed == "unlink" && allowed.is_ok() {
                assert_eq!(root.read("K"), Err(Errno::ENOENT));
            }
            // Whatever was allowed, the next row starts from the same.
            root.put("K", "value", "");
        }
    }
}

#[test]
fn nothing_is_allowed_without_a_list() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "");
    for (deed, perform, _) in TABLE {
        assert_eq!(perform(&alice, "K"), Err(EACCES), "to {deed} with empty lists");
    }
    assert_eq!(alice.read("K.acl"), Err(EACCES));
    assert_eq!(alice.list(""), Ok(vec![]));
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert_eq!(root.lists("K"), all_six(&[]));
}

#[test]
fn an_admin_may_do_everything_with_empty_lists() {
    let Some(mount) = Mount::start() else { return };
    let (root, carol) = (mount.user(ROOT), mount.user(CAROL));
    for admin in [&root, &carol] {
        for (deed, perform, _) in TABLE {
            root.put("K", "value", "");
            root.only_list("K", "readers", "");
            assert_eq!(perform(admin, "K"), Ok(()), "to {deed} as an admin");
        }
        assert_eq!(admin.write("anywhere", "value"), Ok(()));
        assert_eq!(admin.lists("anywhere"), all_six(&[]), "an admin's new secret has empty lists");
        assert_eq!(admin.unlink("anywhere"), Ok(()));
    }
}

#[test]
fn teams_and_uids_count_as_slugs() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let (alice, dave) = (mount.user(ALICE), mount.user(DAVE));
    let (bob, unknown) = (mount.user(BOB), mount.user(UNKNOWN));
    root.put("K", "value", "");
    for (slug, allowed) in [
        ("devops-team", [true, true, false, false]),
        ("alice", [true, false, false, false]),
        ("uid:2200", [false, false, true, false]),
        ("uid:4242", [false, false, false, true]),
        ("gid:2200", [false; 4]),
        ("payment-svc", [false; 4]),
    ] {
        root.only_list("K", "readers", slug);
        for (user, allowed) in [&alice, &dave, &bob, &unknown].into_iter().zip(allowed) {
            let expected = if allowed { Ok(()) } else { Err(EACCES) };
            assert_eq!(read(user, "K"), expected, "{} with readers: [{slug}]", user.name());
        }
    }
}

#[test]
fn creating_needs_the_own_slug_in_front() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for directory in ["bob", "alicex", "devops-team", "bob/alice", "uid:2100"] {
        root.put(&format!("{directory}/present"), "value", "readers: [alice]\n");
    }
    for (key, allowed) in [
        ("alice/K", true),
        ("K", false),
        ("alicia", false),
        ("bob/K", false),
        ("alicex/K", false),
        ("devops-team/K", false),
        ("bob/alice/K", false),
        ("uid:2100/K", false),
    ] {
        let expected = if allowed { Ok(()) } else { Err(EACCES) };
        assert_eq!(alice.write(key, "value"), expected, "creating {key}");
        assert_eq!(root.read(key).is_ok(), allowed, "{key} afterwards");
    }
    assert_eq!(alice.lists("alice/K"), all_six(&["alice"]), "its creator is on all six lists");
    assert_eq!(alice.mkdir("alice/sub"), Ok(()));
    assert_eq!(alice.write("alice/sub/K", "value"), Ok(()));
    assert_eq!(alice.mkdir("directory"), Err(EACCES));
    assert_eq!(alice.mkdir("bob/folder"), Err(EACCES));
}

#[test]
fn who_has_no_name_creates_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, unknown) = (mount.user(ROOT), mount.user(UNKNOWN));
    root.put("uid:4242/present", "value", "readers: ['uid:4242']\n");
    assert_eq!(unknown.read("uid:4242/present").as_deref(), Ok("value"));
    assert_eq!(unknown.write("uid:4242/K", "value"), Err(EACCES));
    assert_eq!(unknown.write("K", "value"), Err(EACCES));
    assert_eq!(unknown.mkdir("4242"), Err(EACCES));
}

#[test]
fn any_list_shows_the_name_and_the_sidecar() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "value", "");
    for list in LISTS {
        root.only_list("svc/K", list, "alice");
        assert_eq!(alice.lists("svc/K")[list], ["alice"], "as a member of {list} alone");
        assert_eq!(alice.list(""), Ok(vec!["svc".to_owned()]));
        assert_eq!(alice.list("svc"), Ok(vec!["K".to_owned()]));
        root.only_list("svc/K", list, "bob");
        assert_eq!(alice.read("svc/K.acl"), Err(EACCES), "as no member of {list}");
        assert_eq!(alice.list(""), Ok(vec![]));
    }
}

#[test]
fn reading_and_writing_at_once_needs_both_lists() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "");
    for (lists, allowed) in [
        ("readers: [alice]\nwriters: []\n", false),
        ("readers: []\nwriters: [alice]\n", false),
        ("readers: [alice]\nwriters: [alice]\n", true),
    ] {
        root.put("K", "value", lists);
        let opened = alice.open("K", libc::O_RDWR).and_then(|file| file.close());
        assert_eq!(opened, if allowed { Ok(()) } else { Err(EACCES) }, "with {lists}");
        let both = alice.access("K", libc::R_OK | libc::W_OK);
        assert_eq!(both, if allowed { Ok(()) } else { Err(EACCES) }, "with {lists}");
    }
}

#[test]
fn access_answers_for_directories_and_for_what_is_not_there() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "value", "readers: [alice]\n");
    for (name, mode, expected) in [
        ("svc/K", libc::F_OK, Ok(())),
        ("svc/K", libc::X_OK, Err(EACCES)),
        ("svc/none", libc::F_OK, Err(Errno::ENOENT)),
        ("", libc::R_OK | libc::X_OK, Ok(())),
        ("", libc::W_OK, Err(EACCES)),
        ("svc", libc::R_OK | libc::X_OK, Ok(())),
        ("svc", libc::W_OK, Err(EACCES)),
        ("alice", libc::W_OK, Ok(())),
        ("svc/K.acl", libc::R_OK, Ok(())),
    ] {
        assert_eq!(alice.access(name, mode), expected, "access({name:?}, {mode})");
    }
    assert_eq!(root.access("svc/K", libc::X_OK), Err(EACCES), "nobody executes a secret");
    assert_eq!(root.access("svc", libc::W_OK), Ok(()));
    assert_eq!(alice.sh("test -r svc/K && ! test -w svc/K && ! test -x svc/K").code, Some(0));
}

#[test]
fn what_is_cached_grants_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [alice]\n");
    assert_eq!(alice.read("K").as_deref(), Ok("value"));
    assert_eq!(bob.read("K"), Err(EACCES), "what alice read is not bob's");
    let held = alice.open("K", libc::O_RDONLY).unwrap();
    root.put("K", "value", "readers: [bob]\n");
    assert_eq!(alice.read("K"), Err(EACCES), "each open is checked");
    assert_eq!(alice.access("K", libc::R_OK), Err(EACCES), "each access is checked");
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]), "an open file stays open");
    assert_eq!(bob.read("K").as_deref(), Ok("value"));
}

#[test]
fn a_writer_is_checked_again_when_it_commits() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "writers: [alice]\n");
    let file = alice.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert_eq!(file.write("new"), Ok(()));
    root.put("K", "value", "writers: []\n");
    assert_eq!(file.close(), Err(EACCES));
    assert_eq!(root.read("K").as_deref(), Ok("value"));
}
