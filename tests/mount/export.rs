//! Section 4, `.export.yaml` and `.export/<prefix>.yaml`: what the caller may read, sealed.

use nix::errno::Errno::{EACCES, EDQUOT, EIO, ENOENT, EPERM};
use serde_yaml::Value;

use crate::damage::spoil_one_value;
use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN, eventually};
use crate::skip::has;
use crate::user::User;

const ALL: &str = ".export.yaml";

/// The documents of a text.
#[track_caller]
fn documents(text: &str) -> Vec<Value> {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("not YAML ({error}): {text}"))
}

#[track_caller]
fn keys(user: &User, name: &str) -> Vec<String> {
    let text = user.read(name).unwrap_or_else(|errno| panic!("{name}: {errno}"));
    let key = |document: &Value| document["key"].as_str().expect("a key").to_owned();
    documents(&text).iter().map(key).collect()
}

/// Secrets of several callers.
fn filled() -> Option<Mount> {
    let mount = Mount::start()?;
    let root = mount.user(ROOT);
    root.put("API_KEY", "example-value", "readers: [alice, bob]\nwriters: [alice]\n");
    root.put("alice/db/URL", b"\xff\0", "readers: [alice]\n");
    root.put("alice/db/user", "x", "readers: [alice]\n");
    root.truncate("alice/db/user", 0).unwrap();
    root.put("alice/dbx", "x", "writers: [alice]\n");
    root.put("bob/K", vec![b'x'; 150_000], "readers: [bob]\n");
    Some(mount)
}

#[test]
fn each_caller_gets_what_it_may_read() {
    let Some(mount) = filled() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let everything = ["API_KEY", "alice/db/URL", "alice/db/user", "alice/dbx", "bob/K"];
    assert_eq!(keys(&root, ALL), everything);
    assert_eq!(keys(&alice, ALL), ["API_KEY", "alice/db/URL", "alice/db/user"]);
    assert_eq!(keys(&bob, ALL), ["API_KEY", "bob/K"]);
    assert_eq!(mount.user(UNKNOWN).read(ALL).as_deref(), Ok("[]\n"));
    for (name, found) in [
        (".export/alice.yaml", &["alice/db/URL", "alice/db/user"][..]),
        (".export/alice/db.yaml", &["alice/db/URL", "alice/db/user"]),
        (".export/alice/db/URL.yaml", &["alice/db/URL"]),
        (".export/API_KEY.yaml", &["API_KEY"]),
        // What is seen and not read.
        (".export/alice/dbx.yaml", &[]),
    ] {
        assert_eq!(keys(&alice, name), found, "{name}");
    }
    for name in [
        ".export/bob.yaml",
        ".export/bob/K.yaml",
        ".export/al.yaml",
        ".export/API_KEY",
        ".export/none/K.yaml",
        ".export/.yaml",
        ".export/..yaml",
    ] {
        assert_eq!(alice.read(name), Err(ENOENT), "{name}");
    }
    assert_eq!(keys(&bob, ".export/bob.yaml"), ["bob/K"]);
    assert_eq!(mount.user(crate::harness::DAVE).read(".export/dave.yaml").as_deref(), Ok("[]\n"));
    // Its names are found, not listed: there is nothing to see in it.
    assert_eq!(alice.list(".export"), Err(EACCES));
    assert_eq!(root.list(".export"), Ok(vec![]));
    assert!(!root.list("").unwrap().iter().any(|name| name.starts_with('.')));
}

#[test]
fn a_document_has_all_its_fields_and_no_value_in_the_clear() {
    let Some(mount) = filled() else { return };
    let alice = mount.user(ALICE);
    let text = alice.read(".export/API_KEY.yaml").unwrap();
    assert!(!text.contains("example-value"));
    let documents = documents(&text);
    let [Value::Mapping(document)] = &*documents else { panic!("not one document: {text}") };
    let names: Vec<_> = document.keys().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "id",
            "key",
            "value",
            "encrypted",
            "readers",
            "writers",
            "deleters",
            "canChangeReaders",
            "canChangeWriters",
            "canChangeDeleters"
        ]
    );
    assert_eq!(document["id"].as_str(), Some(&*alice.id("API_KEY")));
    assert_eq!(document["encrypted"], Value::Bool(true));
    assert_eq!(document["readers"], Value::from(vec!["alice", "bob"]));
}

#[test]
fn the_size_is_true_for_every_program() {
    if !has(&["python3", "rsync"]) {
        return;
    }
    let Some(mount) = filled() else { return };
    let root = mount.user(ROOT);
    let stat = root.stat(ALL).unwrap();
    assert_eq!((stat.mode & 0o7777, stat.uid, stat.links), (0o444, 0, 1));
    let whole = root.read_bytes(ALL).unwrap();
    assert_eq!(whole.len() as u64, stat.size);
    let (lists, count) = ("cat", "grep -c '^- id: '");
    assert_eq!(root.sh_ok(&format!("{lists} {ALL} | {count}")), "5\n");
    let size = format!("{}\n", stat.size);
    for copy in [
        "cp .export.yaml $T/copy; stat -c %s $T/copy",
        "wc -c < .export.yaml",
        "dd if=.export.yaml bs=1000 status=none | wc -c",
        "tail -c +1 .export.yaml | wc -c",
        "tar -cf $T/x.tar .export.yaml && tar -xOf $T/x.tar .export.yaml | wc -c",
        "cat /dev/stdin < .export.yaml | wc -c",
        "python3 -c 'import shutil; shutil.copyfile(\".export.yaml\", \"'$T'/py\")'; stat -c %s $T/py",
        "rsync .export.yaml $T/rs && stat -c %s $T/rs",
    ] {
        assert_eq!(root.sh_ok(copy), size, "{copy}");
        assert_eq!(root.sh_ok("rm -f $T/*; grep -c '^- id: ' .export.yaml"), "5\n");
    }
}

#[test]
fn an_open_text_never_changes() {
    let Some(mount) = filled() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let first = root.open(ALL, libc::O_RDONLY).unwrap();
    let head = first.read_at(0, 100).unwrap();
    root.write("API_KEY", "rotated").unwrap();
    root.unlink("bob/K").unwrap();
    root.put("zz/new", "v", "readers: [alice]");
    let second = root.open(ALL, libc::O_RDONLY).unwrap();
    let (one, two) = (first.read_to_end().unwrap(), second.read_to_end().unwrap());
    assert_eq!(one[..100], head);
    assert_eq!(one.len() as u64, first.stat().unwrap().size, "fstat shows what is open");
    assert_eq!(two.len() as u64, second.stat().unwrap().size);
    let count = |text: &[u8]| documents(&String::from_utf8_lossy(text)).len();
    assert_eq!((count(&one), count(&two)), (5, 5));
    for (text, value) in [(&two, "rotated"), (&one, "example-value"), (&two, "rotated")] {
        root.import("export.yaml", text).unwrap();
        assert_eq!(root.read("API_KEY").as_deref(), Ok(value));
    }
    // Any piece, again and in any order.
    for start in (0..one.len()).step_by(99_991).chain([0, one.len() - 1]) {
        let end = (start + 5000).min(one.len());
        assert_eq!(first.read_at(start as u64, 5000).unwrap(), one[start..end], "from {start}");
    }
    assert_eq!(first.read_at(one.len() as u64, 10).unwrap(), b"");
    assert_eq!(first.map_private(one.len()).unwrap(), one);
    assert!(keys(&alice, ALL).contains(&"zz/new".to_owned()), "the next open sees it");
}

#[test]
fn it_can_only_be_read() {
    let Some(mount) = filled() else { return };
    let root = mount.user(ROOT);
    for name in [ALL, ".export/API_KEY.yaml"] {
        for flags in [libc::O_WRONLY, libc::O_RDWR | libc::O_CREAT, libc::O_WRONLY | libc::O_TRUNC]
        {
            assert_eq!(root.open(name, flags).err(), Some(EPERM), "{name} {flags:o}");
        }
        assert_eq!(root.truncate(name, 0), Err(EPERM));
        assert_eq!(root.unlink(name), Err(EPERM));
        assert_eq!(root.chmod(name, 0o666), Err(EPERM));
        assert_eq!(root.access(name, libc::W_OK), Err(EACCES));
        assert_eq!(root.access(name, libc::R_OK), Ok(()));
    }
    assert_eq!(root.write(".export/new", "x"), Err(EPERM));
    assert_eq!(root.mkdir(".export/new"), Err(EPERM));
    assert_eq!(root.rename(ALL, "K"), Err(EPERM));
    assert_eq!(root.rename("API_KEY", ALL), Err(EPERM));
    assert_eq!(root.rmdir(".export"), Err(EPERM));
}

#[test]
fn as_many_at_a_time_as_a_user_has_memory_for() {
    let Some(mount) = filled() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let open = || alice.open(ALL, libc::O_RDONLY);
    let mut open: Vec<_> = std::iter::from_fn(|| open().ok()).take(100).collect();
    assert!((16..100).contains(&open.len()), "{} exports are open", open.len());
    assert_eq!(alice.open(ALL, libc::O_RDONLY).err(), Some(EDQUOT));
    assert!(bob.read(ALL).is_ok(), "the limit is each UID's own");
    open.pop().unwrap().close().unwrap();
    eventually("a place is free", || alice.read(ALL).is_ok());
}

/// Never a shorter text: what cannot be read is an error.
#[test]
fn a_value_that_does_not_unseal_is_an_error() {
    let Some(mut mount) = filled() else { return };
    mount.stop();
    spoil_one_value(&mount);
    mount.go();
    let root = mount.user(ROOT);
    assert_eq!(root.read(ALL), Err(EIO));
    let told = root.read(".status/last-error").unwrap();
    assert!(told.contains("read API_KEY: its stored value does not unseal"), "{told}");
    let shell = root.sh("cp .export.yaml $T/copy");
    assert_eq!(shell.code, Some(1), "cp says so too");
    assert_eq!(keys(&root, ".export/alice.yaml").len(), 3, "the others are there");
}
