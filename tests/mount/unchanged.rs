//! Section 4, "Writing": bytes that equal the current value make no version and no notification.

use std::fs;

use serde_json::json;

use crate::audit::{Log, start};
use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};
use crate::user::User;
use crate::watch::Watch;

/// What shows a new version.
#[track_caller]
fn state(user: &User, name: &str) -> (String, String, u64, i64) {
    let stat = user.stat(name).unwrap();
    let version = user.xattr(name, "user.secretfs.version").unwrap();
    (version, user.xattr(name, "user.secretfs.updated").unwrap(), stat.inode, stat.mtime)
}

const VALUE: &str = "0123456789";

type Way = (&'static str, fn(&User));

/// Ways to write [`VALUE`] to `svc/K` once more.
const WAYS: [Way; 12] = [
    ("close", |user| user.write("svc/K", VALUE).unwrap()),
    ("close without truncation", |user| user.write_with("svc/K", 0, VALUE).unwrap()),
    ("in pieces, the last ones first", |user| {
        let file = user.open("svc/K", libc::O_WRONLY).unwrap();
        file.write_at(5, &VALUE[5..]).unwrap();
        file.write_at(0, &VALUE[..5]).unwrap();
        file.close().unwrap();
    }),
    ("changed and changed back", |user| {
        let file = user.open("svc/K", libc::O_RDWR).unwrap();
        file.set_length(3).unwrap();
        file.write_at(3, &VALUE[3..]).unwrap();
        file.close().unwrap();
    }),
    ("fsync", |user| {
        let file = user.open("svc/K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
        file.write(VALUE).unwrap();
        file.sync().unwrap();
        file.write_at(0, VALUE).unwrap();
        file.sync().unwrap();
        file.close().unwrap();
    }),
    ("truncate(2)", |user| user.truncate("svc/K", VALUE.len() as i64).unwrap()),
    ("a temporary file", |user| {
        user.write("svc/.K.tmp", VALUE).unwrap();
        user.rename("svc/.K.tmp", "svc/K").unwrap();
    }),
    ("a secret", |user| {
        user.write("svc/new", VALUE).unwrap();
        user.rename("svc/new", "svc/K").unwrap();
    }),
    ("a file that is renamed before it is closed", |user| {
        let file = user.open("svc/new", libc::O_WRONLY | libc::O_CREAT).unwrap();
        file.write(VALUE).unwrap();
        user.rename("svc/new", "svc/K").unwrap();
        file.close().unwrap();
    }),
    ("a document", |user| {
        user.import("a.yaml", format!("key: svc/K\nvalue: \"{VALUE}\"\n")).unwrap()
    }),
    ("lists that stand", |user| {
        let lists = user.read("svc/K.acl").unwrap();
        user.write("svc/K.acl", lists).unwrap();
    }),
    ("cp", |user| {
        user.sh_ok("printf 0123456789 > $T/K; cp $T/K svc/K; cp --remove-destination $T/K svc/K.x; mv svc/K.x svc/K; \
                    cat svc/K > $T/same; cat $T/same > svc/K; dd if=$T/K of=svc/K conv=notrunc status=none");
    }),
];

#[test]
fn the_same_value_is_no_version() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", VALUE, "readers: [alice]\n");
    let before = state(&root, "svc/K");
    let ran = mount.outside().join("ran");
    let _watch = Watch::start(&mount, &["svc/K", "--", "sh", "-c", "echo run >> ran"]);
    let reader = root.open("svc/K", libc::O_RDONLY).unwrap();
    for (way, write) in WAYS {
        write(&root);
        // After a secret was renamed, the kernel shows its attributes under the new name for a moment.
        eventually(way, || state(&root, "svc/K") == before);
        assert_eq!(root.read("svc/K").as_deref(), Ok(VALUE), "{way}");
        assert_eq!(root.list("svc"), Ok(vec!["K".to_owned()]), "{way}: the source is gone");
    }
    assert_eq!(reader.read_to_end().as_deref(), Ok(VALUE.as_bytes()));
    root.write("svc/K", "other").unwrap();
    assert_eq!(root.xattr("svc/K", "user.secretfs.version").as_deref(), Ok("2"));
    let written = || fs::read_to_string(&ran).unwrap_or_default();
    eventually("the command has run", || !written().is_empty());
    assert_eq!(written(), "run\n", "for the change alone");
}

/// What follows on the same descriptor is a change of the value that is current then.
#[test]
fn the_descriptor_goes_on_from_there() {
    let Some(mount) = Mount::start() else { return };
    let (root, other) = (mount.user(ROOT), mount.user(ROOT));
    root.write("K", "AAAA").unwrap();
    let file = root.open("K", libc::O_RDWR | libc::O_APPEND).unwrap();
    file.set_length(0).unwrap();
    file.write("AAAA").unwrap();
    file.sync().unwrap();
    assert_eq!(root.xattr("K", "user.secretfs.version").as_deref(), Ok("1"));
    other.append("K", "B").unwrap();
    file.write("C").unwrap();
    file.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("AAAABC"), "no append is lost");

    root.write("L", "AAAA").unwrap();
    let file = root.open("L", libc::O_WRONLY).unwrap();
    file.write_at(0, "AAAA").unwrap();
    file.sync().unwrap();
    other.write("L", "BBBB").unwrap();
    file.write_at(1, "x").unwrap();
    file.close().unwrap();
    assert_eq!(root.read("L").as_deref(), Ok("AxAA"), "it writes what it wrote before");
    assert_eq!(root.xattr("L", "user.secretfs.version").as_deref(), Ok("3"));
}

/// Otherwise it could test guesses.
#[test]
fn who_may_not_read_always_makes_a_version() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("svc/K", VALUE, "writers: [bob]\n");
    let mut before = state(&root, "svc/K");
    let ways: [fn(&User); 5] = [
        |bob| bob.write("svc/K", VALUE).unwrap(),
        |bob| {
            let file = bob.open("svc/K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
            file.write(VALUE).unwrap();
            file.sync().unwrap();
            file.close().unwrap();
        },
        |bob| {
            bob.write("bob/.K.tmp", VALUE).unwrap();
            bob.rename("bob/.K.tmp", "svc/K").unwrap();
        },
        |bob| {
            bob.write("bob/K", VALUE).unwrap();
            bob.rename("bob/K", "svc/K").unwrap();
        },
        |bob| bob.import("a.yaml", format!("key: svc/K\nvalue: \"{VALUE}\"\n")).unwrap(),
    ];
    for (number, write) in ways.into_iter().enumerate() {
        write(&bob);
        assert_eq!(state(&root, "svc/K").0, (number + 2).to_string());
        let is_later = || {
            let after = state(&root, "svc/K");
            after.2 != before.2 && after.3 > before.3
        };
        eventually(&format!("way {number}: another inode and a later time"), is_later);
        before = state(&root, "svc/K");
    }
}

#[test]
fn it_is_on_record() {
    let Some(mount) = start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", VALUE).unwrap();
    let mut log = Log::of(&mount);
    alice.write("alice/K", VALUE).unwrap();
    let unchanged = json!({"op": "commit", "outcome": "allowed", "key": "alice/K", "version": 1, "unchanged": true, "uid": 2100});
    log.expect(&[json!({"op": "open", "key": "alice/K"}), unchanged.clone()]);
    alice.write("alice/.K.tmp", VALUE).unwrap();
    alice.rename("alice/.K.tmp", "alice/K").unwrap();
    log.expect(&[unchanged]);
    alice.write("alice/L", VALUE).unwrap();
    log.news();
    alice.rename("alice/L", "alice/K").unwrap();
    log.expect(&[
        json!({"op": "rename", "key": "alice/L", "to": "alice/K", "version": 1, "unchanged": true}),
    ]);
    alice.write("alice/K", "other").unwrap();
    let news = log.news();
    assert!(news.iter().all(|line| line.get("unchanged").is_none()), "{news:?}");
}

/// Many write the same while one changes it: each value that was acknowledged last is there.
#[test]
fn it_is_compared_with_what_is_current() {
    let Some(mount) = Mount::start() else { return };
    let (root, others) = (mount.user(ROOT), [mount.user(ROOT), mount.user(ROOT)]);
    root.write("K", "0000").unwrap();
    for round in 1..60 {
        let value = format!("{round:04}");
        std::thread::scope(|scope| {
            for other in &others {
                let value = &value;
                scope.spawn(move || {
                    for _ in 0..4 {
                        other.write("K", value).unwrap();
                    }
                });
            }
        });
        assert_eq!(root.read("K").as_deref(), Ok(&*value));
        let version = root.xattr("K", "user.secretfs.version");
        assert_eq!(version, Ok((round + 1).to_string()), "one version for a value");
    }
}
