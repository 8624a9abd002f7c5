//! Section 10: on a full disk writers are told, and everybody else goes on.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno::{EACCES, ENOSPC};

use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN, eventually};
use crate::tmpfs::Tmpfs;

/// How many lines of the audit log tell of that operation.
fn recorded(mount: &Mount, op: &str) -> usize {
    let wanted = format!("\"op\":\"{op}\",\"outcome\":\"allowed\"");
    let files = fs::read_dir(mount.state().join("audit")).expect("there is a log");
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    texts.map(|text| text.lines().filter(|line| line.contains(&wanted)).count()).sum()
}

#[test]
fn others_read_and_remove_whoever_fills_the_disk() {
    const SECRETS: usize = 300;
    let Some(mut mount) = Mount::prepare() else { return };
    let Some(disk) = Tmpfs::mount(&mount.state(), "48m") else { return };
    mount.go();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let stranger = mount.user(UNKNOWN);
    for number in 0..SECRETS {
        assert_eq!(alice.write(&format!("alice/{number}"), format!("value {number}")), Ok(()));
    }
    assert_eq!(bob.write("bob/K", "value"), Ok(()));
    disk.fill();

    for round in 0..3 {
        // It takes some writes until the last block of all is used.
        eventually("writers are told", || {
            bob.write("bob/large", vec![b'x'; 500_000]) == Err(ENOSPC)
        });
        assert_eq!(bob.read_bytes("bob/K"), Ok(b"value".to_vec()));
        for _ in 0..300 {
            assert_eq!(stranger.read("alice/299"), Err(EACCES), "a denial stays one");
            assert_eq!(bob.write("bob/more", vec![b'x'; 200_000]), Err(ENOSPC));
        }
        let (opens, removals) = (recorded(&mount, "open"), recorded(&mount, "delete"));
        let of_round = || (round * 90..(round + 1) * 90).map(|number| format!("alice/{number}"));
        for key in of_round() {
            assert!(alice.read(&key).is_ok(), "{key}");
            assert!(root.read(&key).is_ok(), "{key}");
        }
        assert!(recorded(&mount, "open") >= opens + 180, "each is recorded");
        for (at, key) in of_round().enumerate() {
            let who = if at % 2 == 0 { &alice } else { &root };
            assert_eq!(who.unlink(&key), Ok(()), "{key}");
        }
        assert_eq!(recorded(&mount, "delete"), removals + 90);
        let health = root.read(".status/health").unwrap();
        assert!(health.starts_with("degraded\n") && health.contains("disk: "), "{health}");
        match round {
            0 => assert!(mount.kill_server()),
            1 => mount.restart(),
            _ => {}
        }
    }

    disk.empty();
    eventually("writers go on", || bob.write("bob/large", "value") == Ok(()));
    let health = root.read(".status/health").unwrap();
    assert!(!health.contains("reserve"), "{health}");
    mount.stop();
    drop(disk);
}

#[test]
fn all_of_a_full_store_can_be_removed() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--bytes-per-slug", "1G"]);
    let Some(disk) = Tmpfs::mount(&mount.state(), "32m") else { return };
    mount.go();
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    assert_eq!(bob.write("bob/K", "value"), Ok(()));
    let mut keys = Vec::new();
    for number in 0..10_000 {
        let key = format!("alice/{number}");
        match alice.write(&key, vec![b'x'; if number % 10 == 0 { 200_000 } else { 100 }]) {
            Ok(()) => keys.push(key),
            Err(error) => {
                assert_eq!(error, ENOSPC);
                break;
            }
        }
    }
    assert!(keys.len() > 30, "it was full after {}", keys.len());
    // And another program takes what the store left.
    disk.fill();
    assert_eq!(bob.read("bob/K").as_deref(), Ok("value"));
    let started = Instant::now();
    for key in &keys {
        assert_eq!(alice.unlink(key), Ok(()), "{key}");
    }
    assert!(started.elapsed() < Duration::from_secs(300));
    assert_eq!(bob.read("bob/K").as_deref(), Ok("value"));
    mount.restart();
    let alice = mount.user(ALICE);
    assert_eq!(alice.list("alice"), Ok(vec![]));
    disk.empty();
    eventually("room is given back", || alice.write("alice/new", "value") == Ok(()));
    mount.stop();
    drop(disk);
}
