//! `.status/`: what the filesystem tells about itself and about the caller.

use nix::errno::Errno::EACCES;

use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN};
use crate::user::User;

fn last_error(user: &User) -> String {
    user.read(".status/last-error").expect("everyone may read its own")
}

#[test]
fn whoami_tells_slugs_and_whether_one_is_an_admin() {
    let Some(mount) = Mount::start() else { return };
    for (person, slugs, admin) in [
        (ROOT, vec!["root", "uid:0", "gid:0"], true),
        (ALICE, vec!["alice", "uid:2100", "devops-team"], false),
        (BOB, vec!["bob", "uid:2200"], false),
        (UNKNOWN, vec!["uid:4242"], false),
    ] {
        let text = mount.user(person).read(".status/whoami").unwrap();
        for slug in slugs {
            assert!(text.contains(slug), "{person:?}: no {slug} in\n{text}");
        }
        let says = text.lines().find(|line| line.contains("admin:")).unwrap_or_default();
        let yes = ["true", "yes"].iter().any(|word| says.contains(word));
        let no = ["false", "no"].iter().any(|word| says.contains(word));
        assert_eq!((yes, no), (admin, !admin), "{person:?}: is it an admin?\n{text}");
    }
    // At once and from one mount: nobody gets another's answer.
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    for _ in 0..5 {
        assert!(alice.read(".status/whoami").unwrap().contains("alice"));
        assert!(!bob.read(".status/whoami").unwrap().contains("alice"));
    }
}

#[test]
fn version_is_the_programs() {
    let Some(mount) = Mount::start() else { return };
    let version = mount.user(ALICE).read(".status/version").unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let size = mount.user(ALICE).stat(".status/version").unwrap().size;
    assert_eq!(size, version.len() as u64);
}

#[test]
fn last_error_says_what_was_missing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("db/K", "a-value-nobody-logs", "canChangeReaders: [alice]\n");
    assert_eq!(last_error(&alice), "", "nothing failed yet");
    for (operation, key, missing, result) in [
        ("read", "db/K", "readers", alice.read("db/K").map(drop)),
        ("write", "db/K", "writers", alice.write("db/K", "another-value")),
        ("remove", "db/K", "deleters", alice.unlink("db/K")),
        ("create", "db/new", "alice/", alice.write("db/new", "another-value")),
        ("change", "db/K", "canChangeWriters", alice.write("db/K.acl", "writers: [alice]\n")),
        ("change", "db/K", "admin", alice.write("db/K.acl", "canChangeReaders: [bob]\n")),
        ("rename", "db/K", "deleters", alice.rename("db/K", "alice/K")),
    ] {
        assert_eq!(result, Err(EACCES), "to {operation} {key}");
        let text = last_error(&alice);
        let told = text.lines().any(|line| line.contains(key) && line.contains(missing));
        assert!(told, "after a failed {operation}: no line with {key} and {missing} in\n{text}");
        assert!(!text.contains("-value"), "a value was told:\n{text}");
    }
}

#[test]
fn last_error_is_the_callers_own_and_holds_16() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    for number in 0..20 {
        root.put(&format!("denied-{number:02}"), "value", "");
    }
    for number in 0..20 {
        assert_eq!(alice.read(&format!("denied-{number:02}")), Err(EACCES));
    }
    let text = last_error(&alice);
    for number in 0..20 {
        let there = text.contains(&format!("denied-{number:02}"));
        assert_eq!(there, number >= 4, "denied-{number:02} in\n{text}");
    }
    assert_eq!(last_error(&bob), "");
    assert_eq!(last_error(&root), "");
    assert_eq!(bob.read("denied-00"), Err(EACCES));
    assert!(last_error(&bob).contains("denied-00"));
    assert!(!last_error(&alice).contains("denied-00"));
}

#[test]
fn last_error_tells_what_is_wrong_with_a_list_document() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    assert!(alice.write("alice/K.acl", "reeders: [bob]\n").is_err());
    let text = last_error(&alice);
    assert!(text.contains("alice/K") && text.contains("reeders"), "{text}");
}
