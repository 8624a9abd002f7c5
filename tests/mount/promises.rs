//! Section 10: what has been acknowledged is never lost, neither to `kill -9` nor to a full disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno::{self, ENOENT, ENOSPC};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::harness::{ALICE, Mount, ROOT, eventually, set_mode};

/// A value that tells its number.
fn value(number: usize) -> String {
    format!("{number} {}", "x".repeat(number * 37 % 5000))
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).mkdir("kept").unwrap();
    let acknowledged: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let mut number = 0;
    for round in 0..4 {
        let enough = acknowledged.lock().unwrap().len() + 60;
        let (first, killed) = (number, AtomicBool::new(false));
        number = std::thread::scope(|scope| {
            let (root, acknowledged, killed) = (mount.user(ROOT), &acknowledged, &killed);
            let writer = scope.spawn(move || {
                let mut number = first;
                loop {
                    let key = format!("kept/{number}");
                    let written = match number % 3 {
                        0 => root.write(&key, value(number)),
                        // One key over and over.
                        1 => root.write("again", value(number)),
                        _ => {
                            let temporary = root.write("temporary", value(number));
                            temporary.and_then(|()| root.rename("temporary", &key))
                        }
                    };
                    number += 1;
                    if written.is_err() || killed.load(Ordering::SeqCst) {
                        return number;
                    }
                    let key = if (number - 1) % 3 == 1 { "again".to_owned() } else { key };
                    acknowledged.lock().unwrap().insert(key, number - 1);
                }
            });
            eventually("enough writes are acknowledged", || {
                acknowledged.lock().unwrap().len() >= enough || writer.is_finished()
            });
            assert!(!writer.is_finished(), "a writer failed before anything was killed");
            mount.kill9();
            killed.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        mount.go();
        let root = mount.user(ROOT);
        for (key, &number) in acknowledged.lock().unwrap().iter() {
            let found = root.read(key);
            // The last, unacknowledged write of that key may have come through as well.
            let newer = key == "again" && found.as_ref().is_ok_and(|found| is_newer(found, number));
            assert!(found == Ok(value(number)) || newer, "round {round}: {key} is {found:?}");
        }
        assert_eq!(root.write("after", "it goes on"), Ok(()), "round {round}");
    }
}

fn is_newer(found: &str, number: usize) -> bool {
    let newer = found.split(' ').next().and_then(|text| text.parse().ok());
    newer.is_some_and(|newer| newer > number && found == value(newer))
}

#[test]
fn removals_and_lists_survive_kill_9() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("gone", "value", "");
    root.put("K", "value", "");
    let file = root.open("synced", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.write("by fsync").unwrap();
    root.unlink("gone").unwrap();
    root.write("K.acl", "readers: [alice]\n").unwrap();
    root.rename("K", "moved").unwrap();
    assert_eq!(file.sync(), Ok(()));
    mount.kill9();
    mount.go();
    assert_eq!(mount.user(ROOT).read("gone"), Err(ENOENT));
    assert_eq!(mount.user(ROOT).read("K"), Err(ENOENT));
    assert_eq!(mount.user(ALICE).read("moved").as_deref(), Ok("value"));
    assert_eq!(mount.user(ROOT).read("synced").as_deref(), Ok("by fsync"));
}

/// A small disk in the place of a directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn on(directory: &Path, options: &str) -> Self {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options)).expect("a tmpfs");
        set_mode(directory, 0o700);
        Self(directory.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever holds it lets go later.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_stops_writers_and_nobody_else() {
    let Some(mut mount) = Mount::prepare() else { return };
    let disk = SmallDisk::on(&mount.state(), "size=4m,mode=0700");
    mount.go();
    let root = mount.user(ROOT);
    let value = |number: usize| vec![b'a' + (number % 26) as u8; 50_000];
    // What each key must hold: the number of its last acknowledged value.
    let mut kept = BTreeMap::new();
    let full = (0..200).find_map(|number| {
        let written = root.write(&format!("k{number:03}"), value(number));
        written.map(|()| kept.insert(number, number)).err()
    });
    assert_eq!(full, Some(ENOSPC), "after {} values", kept.len());
    assert!(kept.len() > 3, "it was full after {} values", kept.len());

    for attempt in 0..3 {
        let root = mount.user(ROOT);
        for number in 0..kept.len() + 2 {
            let read = root.read_bytes(&format!("k{number:03}"));
            let expected = kept.get(&number).map(|&number| value(number)).ok_or(ENOENT);
            assert!(read == expected, "attempt {attempt}: k{number:03} is lost, changed or half");
        }
        // Some may succeed where the store finds room; what fails leaves the old value.
        for key in 0..kept.len() {
            match root.write(&format!("k{key:03}"), value(key + attempt + 1)) {
                Ok(()) => drop(kept.insert(key, key + attempt + 1)),
                Err(errno) => assert_eq!(errno, ENOSPC, "attempt {attempt}: overwriting {key}"),
            }
        }
        mount.restart();
    }
    mount.stop();
    drop(disk);
}

/// Removing needs room as well: sled writes what is gone before it gives anything back.
/// Without an audit log, which needs room for every reader.
#[test]
fn a_disk_that_others_fill_stops_no_reader_and_no_restart() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--audit", "off"]);
    let disk = SmallDisk::on(&mount.state(), "size=4m,mode=0700");
    mount.go();
    let value = |number: usize| vec![b'a' + (number % 26) as u8; 100 + number % 400];
    let root = mount.user(ROOT);
    let mut kept: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let full = (0..10_000).find_map(|number| {
        let written = root.write(&format!("k{number}"), value(number));
        written.map(|()| kept.insert(number, value(number))).err()
    });
    assert_eq!(full, Some(ENOSPC), "after {} values", kept.len());

    let filler = mount.state().join("filler");
    for attempt in 0..3 {
        let mut rest = std::fs::File::create(&filler).expect("a tmpfs takes an empty file");
        while std::io::Write::write_all(&mut rest, &[0; 4096]).is_ok() {}
        mount.kill9();
        mount.go();
        let root = mount.user(ROOT);
        let some: Vec<usize> =
            kept.keys().copied().filter(|number| number % 4 == attempt).collect();
        for number in some {
            match root.unlink(&format!("k{number}")) {
                Ok(()) => drop(kept.remove(&number)),
                Err(errno) => assert_eq!(errno, ENOSPC, "attempt {attempt}: removing {number}"),
            }
        }
        for (number, value) in &kept {
            let read = root.read_bytes(&format!("k{number}"));
            assert!(read.as_ref() == Ok(value), "attempt {attempt}: {number} is {:?}", read.err());
        }
    }
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(mount.user(ROOT).unlink(&format!("k{}", kept.keys().next().unwrap())), Ok(()));
    mount.stop();
    drop(disk);
}

#[test]
fn odd_requests_do_not_stop_the_daemon() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    for name in [".acl", "..acl", "alice/.acl", "alice/...", ".none", ".none/x", ".status/x"] {
        assert_eq!(alice.read(name), Err(ENOENT), "{name}");
    }
    assert_eq!(alice.write(".status/whoami", "root"), Err(Errno::EPERM));
    assert_eq!(alice.unlink(".status/whoami"), Err(Errno::EPERM));
    let file = alice.open("K", libc::O_RDONLY).unwrap();
    for offset in [5, 1 << 20, i64::MAX as u64] {
        let read = file.read_at(offset, 10);
        assert!(matches!(read.as_deref(), Ok([]) | Err(Errno::EINVAL)), "at {offset}: {read:?}");
    }
    assert_eq!(file.write("x"), Err(Errno::EBADF));
    assert_eq!(alice.read("K").as_deref(), Ok("value"));
}
