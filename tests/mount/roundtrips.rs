//! How many requests things cost: reading a secret again takes one, the `open` (sections 4 and 10).

use std::time::Duration;

use crate::harness::{ALICE, Mount, ROOT};
use crate::requests::requests_of;

#[test]
fn reading_again_is_one_request() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "a value of some 44 bytes, as passwords are.", "readers: [alice]\n");
    root.put("svc/large", vec![b'x'; 100_000], "readers: [alice]\n");
    for key in ["svc/K", "svc/large"] {
        let read = || {
            let file = alice.open(key, libc::O_RDONLY).unwrap();
            let size = file.stat().unwrap().size;
            assert_eq!(file.read_to_end().unwrap().len() as u64, size);
            file.close().unwrap();
        };
        read();
        let requests = requests_of(&root, read);
        let expected = [("open".to_owned(), 1)].into_iter().collect();
        assert_eq!(requests, expected, "reading {key} again");
        let requests = requests_of(&root, || (0..10).for_each(|_| read()));
        let expected = [("open".to_owned(), 10)].into_iter().collect();
        assert_eq!(requests, expected, "reading {key} ten times more");
    }
}

#[test]
fn a_change_costs_few_requests() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", "value", "");
    assert_eq!(root.read("svc/K").as_deref(), Ok("value"));
    type Action<'a> = (&'a str, Box<dyn FnOnce() + 'a>, i64);
    // Writing a key in the root takes 8; each directory above it is looked up once more.
    let actions: [Action<'_>; 4] = [
        ("writing", Box::new(|| root.write("svc/K", "new value").unwrap()), 9),
        ("the first read after it", Box::new(|| drop(root.read("svc/K").unwrap())), 3),
        ("creating", Box::new(|| root.write("svc/new", "value").unwrap()), 5),
        ("removing", Box::new(|| root.unlink("svc/new").unwrap()), 3),
    ];
    for (what, action, limit) in actions {
        let requests = requests_of(&root, action);
        let total: i64 = requests.values().sum();
        assert!((1..=limit).contains(&total), "{what} took {total}, not {limit}: {requests:?}");
    }
}

/// What raises events for who watches sends nothing if nobody does.
#[test]
fn a_new_version_that_nobody_watches_costs_nothing_afterwards() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let requests = requests_of(&root, || {
        for round in 0..20 {
            root.write("K", format!("value {round}")).unwrap();
            // Longer than changes are collected for.
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let count = |opcode| requests.get(opcode).copied().unwrap_or(0);
    // The truncation of each open is one, and no other.
    assert_eq!((count("setattr"), count("statfs")), (19, 0), "{requests:?}");
}

#[test]
fn every_request_is_counted_by_its_opcode() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", "value", "");
    let requests = requests_of(&root, || {
        root.mkdir("directory").unwrap();
        root.rename("svc/K", "svc/L").unwrap();
        root.rmdir("directory").unwrap();
        root.unlink("svc/L").unwrap();
    });
    for opcode in ["mkdir", "rmdir", "unlink"] {
        assert_eq!(requests.get(opcode), Some(&1), "{opcode} in {requests:?}");
    }
    let renames = ["rename", "rename2"].map(|opcode| requests.get(opcode).copied().unwrap_or(0));
    assert_eq!(renames.iter().sum::<i64>(), 1, "{requests:?}");
}
