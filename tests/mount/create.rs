//! Section 1 and section 4: new secrets, their names, and who sees them before they are committed.

use nix::errno::Errno::{EACCES, EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR};

use crate::acl::all_six;
use crate::harness::{ALICE, Mount, ROOT, eventually};

#[test]
fn what_is_being_created_is_its_creators_alone() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    assert_eq!(root.stat("alice/K"), Err(ENOENT), "also where that was asked before");
    let file = alice.open("alice/K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.write("value").unwrap();
    assert_eq!(root.stat("alice/K"), Err(ENOENT));
    assert_eq!(root.read("alice/K"), Err(ENOENT));
    assert_eq!(root.unlink("alice/K"), Err(ENOENT));
    assert_eq!(root.read("alice/K.acl"), Err(ENOENT));
    assert!(!root.sh("ls -a alice").stdout.contains('K'));
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("alice/K").as_deref(), Ok("value"));
    assert_eq!(root.list("alice"), Ok(vec!["K".to_owned()]));
}

#[test]
fn exclusive_creation_takes_only_what_is_free() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    assert_eq!(alice.create_new("alice/K", "one"), Ok(()));
    assert_eq!(alice.create_new("alice/K", "two"), Err(EEXIST));
    assert_eq!(root.create_new("alice/K", "two"), Err(EEXIST));
    assert_eq!(alice.read("alice/K").as_deref(), Ok("one"));
    root.put("K", "value", "");
    assert_eq!(alice.create_new("K", "two"), Err(EEXIST));
}

#[test]
fn a_new_secret_has_a_new_id_and_its_creators_lists() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    let id = root.id("alice/K");
    assert_eq!(alice.lists("alice/K"), all_six(&["alice"]));
    root.write("alice/L", "value").unwrap();
    assert_eq!(root.lists("alice/L"), all_six(&[]), "an admin's, wherever it is");
    assert_eq!(alice.read("alice/L"), Err(EACCES));
    assert_ne!(root.id("alice/L"), id);
    alice.unlink("alice/K").unwrap();
    assert_eq!(alice.read("alice/K"), Err(ENOENT));
}

#[test]
fn names_of_every_kind() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let longest = "x".repeat(255);
    for name in
        ["a", "K.yaml", "a b", "Schlüssel", "秘密", "'\"$`\\", "-n", "a.acl.b", "~", &longest]
    {
        assert_eq!(root.write(name, "value"), Ok(()), "{name:?}");
        assert_eq!(root.read(name).as_deref(), Ok("value"), "{name:?}");
        assert_eq!(root.list(""), Ok(vec![name.to_owned()]));
        assert_eq!(root.unlink(name), Ok(()), "{name:?}");
    }
    let too_long = "x".repeat(256);
    for (name, errno) in [
        ("new\nline", EINVAL),
        ("tab\t", EINVAL),
        ("delete\u{7f}", EINVAL),
        (&too_long, ENAMETOOLONG),
    ] {
        assert_eq!(root.write(name, "value"), Err(errno), "{name:?}");
        assert_eq!(root.mkdir(name), Err(errno), "mkdir {name:?}");
    }
    assert_eq!(root.stat(&too_long).map(|_| ()), Err(ENAMETOOLONG));
    assert_eq!(root.unlink(&too_long), Err(ENAMETOOLONG));
    assert_eq!(root.rmdir(&too_long), Err(ENAMETOOLONG));
    assert_eq!(root.sh("! echo x > $'\\xff\\xfe'").code, Some(0), "a name that is not UTF-8");
    assert_eq!(root.list(""), Ok(vec![]));
}

#[test]
fn a_key_is_at_most_1024_bytes() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    // Three directories of 255 and their slashes make 768.
    let directory = ["a", "b", "c"].map(|name| name.repeat(255)).join("/");
    root.put(&format!("{directory}/{}", "k".repeat(255)), "value", "");
    assert_eq!(root.mkdir(&format!("{directory}/d")), Ok(()));
    let room = 1024 - directory.len() - "/d/".len();
    let longest = format!("{directory}/d/{}", "k".repeat(room));
    assert_eq!(root.write(&longest, "value"), Ok(()), "{} bytes", longest.len());
    assert_eq!(root.write(&format!("{longest}k"), "value"), Err(ENAMETOOLONG));
    assert_eq!(root.read(&longest).as_deref(), Ok("value"));
}

#[test]
fn a_key_is_a_secret_or_a_directory() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("a/b", "value", "");
    assert_eq!(root.write("a", "value"), Err(EISDIR));
    assert_eq!(root.write("a/b/c", "value"), Err(ENOTDIR));
    assert_eq!(root.mkdir("a/b"), Err(EEXIST));
    root.write("K", "value").unwrap();
    assert_eq!(root.rename("K", "a"), Err(EISDIR));
    assert_eq!(root.read("a/b").as_deref(), Ok("value"));
    assert_eq!(root.read("K").as_deref(), Ok("value"));
}

/// A file that was only created is stored when the kernel releases it, which it does when it likes.
#[test]
fn thousands_of_empty_files_are_no_open_files() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.sh_ok("cd alice && for number in {1..3000}; do : > EMPTY_$number || exit 1; done");
    eventually("all are there", || alice.list("alice").unwrap().len() == 3000);
}
