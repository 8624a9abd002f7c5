//! Locks apply to a secret, whichever version a descriptor shows, and outlive the server (section 4).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libc::{LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use nix::errno::Errno::EAGAIN;

use crate::harness::{ALICE, BOB, Mount, ROOT, skip};
use crate::requests::requests_of;
use crate::skip::has;

pub(crate) const READERS: &str = "readers: [alice, bob]\nwriters: [alice, bob]\n";

#[test]
fn a_lock_outlives_new_versions_and_the_server() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    for flags in [O_RDWR, O_RDONLY, O_WRONLY] {
        let before = bob.open("svc/K", O_RDONLY).unwrap();
        let holder = alice.open("svc/K", flags).unwrap();
        assert_eq!(holder.lock(LOCK_EX | LOCK_NB), Ok(()));
        let is_locked = |when: &str| {
            assert_eq!(before.lock(LOCK_SH | LOCK_NB), Err(EAGAIN), "{when}, flags {flags}");
            for other in [O_RDONLY, O_RDWR, O_WRONLY] {
                let other = bob.open("svc/K", other).unwrap();
                assert_eq!(other.lock(LOCK_EX | LOCK_NB), Err(EAGAIN), "{when}, flags {flags}");
                other.close().unwrap();
            }
        };
        is_locked("at first");
        if flags == O_RDONLY {
            alice.write("svc/K", "second").unwrap();
        } else {
            holder.write_at(0, "another").unwrap();
            holder.sync().unwrap();
        }
        is_locked("after a version");
        assert!(mount.kill_server());
        is_locked("after a kill");
        let moved = format!("svc/moved-{flags}");
        root.rename("svc/K", &moved).unwrap();
        root.rename(&moved, "svc/K").unwrap();
        is_locked("after a rename");
        assert_eq!(holder.lock(LOCK_SH), Ok(()));
        assert_eq!(before.lock(LOCK_SH | LOCK_NB), Ok(()));
        assert!(mount.kill_server());
        assert_eq!(holder.lock(LOCK_EX | LOCK_NB), Err(EAGAIN));
        before.close().unwrap();
        assert_eq!(holder.lock(LOCK_EX), Ok(()), "once the reader has released its lock");
        assert_eq!(holder.lock(LOCK_UN), Ok(()));
        let next = bob.open("svc/K", O_RDWR).unwrap();
        assert_eq!(next.lock(LOCK_EX | LOCK_NB), Ok(()));
        next.close().unwrap();
        holder.close().unwrap();
    }
}

#[test]
fn a_waiter_gets_the_lock_from_the_next_server() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    let holder = alice.open("svc/K", O_RDWR).unwrap();
    holder.lock(LOCK_EX).unwrap();
    let waiter = bob.open("svc/K", O_RDWR).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| waiter.lock(LOCK_EX));
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(150));
            assert!(mount.kill_server());
        }
        assert!(!waiting.is_finished());
        holder.write_at(0, "other").unwrap();
        holder.close().unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    // It was opened before that was written.
    assert_eq!(waiter.read_to_end().unwrap(), b"other");
    waiter.close().unwrap();
}

#[test]
fn locks_end_with_their_holder() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    for flags in [O_RDWR, O_RDONLY] {
        let alice = mount.user(ALICE);
        let holder = alice.open("svc/K", flags).unwrap();
        holder.lock(LOCK_EX).unwrap();
        let waiter = bob.open("svc/K", O_RDWR).unwrap();
        assert_eq!(waiter.lock(LOCK_EX | LOCK_NB), Err(EAGAIN));
        alice.kill();
        assert_eq!(waiter.lock(LOCK_EX), Ok(()));
        waiter.close().unwrap();
    }
}

#[test]
fn what_the_descriptor_shows_is_current_once_it_is_locked() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    let writer = alice.open("svc/K", O_RDWR).unwrap();
    let truncating = alice.open("svc/K", O_WRONLY | O_TRUNC).unwrap();
    let sidecar = root.open("svc/K.acl", O_RDWR).unwrap();
    let read_sidecar = root.open("svc/K.acl", O_RDONLY).unwrap();
    bob.write("svc/K", "a longer value").unwrap();
    root.write("svc/K.acl", "readers: [alice, bob, carol]\n").unwrap();
    writer.lock(LOCK_EX).unwrap();
    assert_eq!(writer.stat().unwrap().size, 14);
    assert_eq!(writer.read_to_end().unwrap(), b"a longer value");
    assert!(mount.kill_server());
    assert_eq!(writer.read_at(2, 6).unwrap(), b"longer");
    writer.lock(LOCK_UN).unwrap();
    // What was truncated is not the value that there is now.
    truncating.lock(LOCK_EX).unwrap();
    assert!(mount.kill_server());
    truncating.lock(LOCK_UN).unwrap();
    truncating.close().unwrap();
    assert_eq!(root.read("svc/K").as_deref(), Ok("a longer value"));
    for sidecar in [sidecar, read_sidecar] {
        sidecar.lock(LOCK_EX).unwrap();
        let lists = String::from_utf8(sidecar.read_to_end().unwrap()).unwrap();
        assert!(lists.contains("carol"), "{lists}");
        sidecar.close().unwrap();
    }
    // And what is still current is truncated.
    let truncating = alice.open("svc/K", O_WRONLY | O_TRUNC).unwrap();
    truncating.lock(LOCK_EX).unwrap();
    truncating.lock(LOCK_UN).unwrap();
    assert_eq!(root.read("svc/K").as_deref(), Ok(""));
    truncating.close().unwrap();
}

#[test]
fn who_creates_a_file_that_was_created_meanwhile_leaves_it() {
    let Some(mount) = Mount::start() else { return };
    let (alice, other) = (mount.user(ALICE), mount.user(ALICE));
    let first = alice.open("alice/new", O_RDONLY | O_CREAT).unwrap();
    let second = other.open("alice/new", O_RDWR | O_CREAT).unwrap();
    first.lock(LOCK_EX).unwrap();
    assert_eq!(second.lock(LOCK_EX | LOCK_NB), Err(EAGAIN));
    alice.write("alice/new", "value").unwrap();
    let third = other.open("alice/new", O_RDONLY).unwrap();
    assert_eq!(third.lock(LOCK_SH | LOCK_NB), Err(EAGAIN), "it is the same file");
    assert!(mount.kill_server());
    assert_eq!(third.lock(LOCK_SH | LOCK_NB), Err(EAGAIN), "it is the same file");
    first.close().unwrap();
    second.lock(LOCK_EX).unwrap();
    assert_eq!(second.read_to_end().unwrap(), b"value");
    second.write_at(5, " and more").unwrap();
    second.close().unwrap();
    assert_eq!(alice.read("alice/new").as_deref(), Ok("value and more"));
}

#[test]
fn a_lock_costs_one_request() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", "value", "");
    let read = |locks: bool| {
        let file = root.open("svc/K", O_RDONLY).unwrap();
        if locks {
            file.lock(LOCK_SH).unwrap();
        }
        assert_eq!(file.read_to_end().unwrap(), b"value");
        file.close().unwrap();
    };
    read(true);
    for (locks, requests) in [(true, vec![("open", 1), ("setlk", 1)]), (false, vec![("open", 1)])] {
        let expected = requests.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(requests_of(&root, || read(locks)), expected);
    }
}

#[test]
fn locks_are_bounded() {
    if !has(&["python3"]) {
        return;
    }
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    let script = r#"/usr/bin/python3 -c '
import errno, fcntl
f = open("alice/K", "r+")
try:
    for i in range(100000):
        fcntl.lockf(f, fcntl.LOCK_EX, 1, 2 * i)
except OSError as e:
    print(i, errno.errorcode[e.errno])
fcntl.lockf(f, fcntl.LOCK_EX)
try:
    for i in range(100000):
        fcntl.lockf(f, fcntl.LOCK_UN, 1, 2 * i + 1)
except OSError as e:
    print(i, errno.errorcode[e.errno])
'"#;
    assert_eq!(alice.sh_ok(script), "64 EDQUOT\n63 EDQUOT\n");
}

#[test]
fn counters_stay_exact_while_the_server_is_killed() {
    if !Path::new("/usr/bin/python3").exists() {
        return skip("needs python3");
    }
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "10000"]).started();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "0", READERS);
    let script = |lock: &str| {
        format!(
            r#"cat > $T/{lock} <<'X'
import fcntl
for i in range(60):
    with open("svc/K", "r+") as f:
        fcntl.{lock}(f, fcntl.LOCK_EX)
        n = int(f.read())
        f.seek(0)
        f.write(str(n + 1))
X
/usr/bin/python3 $T/{lock} & first=$!
/usr/bin/python3 $T/{lock} && wait $first"#
        )
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let (mut kills, mut before) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                let count = root.read("svc/K").unwrap().parse::<u32>().unwrap();
                // Each server gets so far, on the slowest machine too.
                if count > before + 5 {
                    before = count;
                    kills += u32::from(mount.kill_server());
                }
                thread::sleep(Duration::from_millis(5));
            }
            kills
        });
        let counts = ["flock", "lockf"].map(|lock| {
            let shell = alice.sh(&script(lock));
            (shell.code, shell.stderr, alice.read("svc/K"))
        });
        over.store(true, Ordering::SeqCst);
        assert!(killer.join().unwrap() > 0);
        for ((code, stderr, count), expected) in counts.into_iter().zip(["120", "240"]) {
            assert_eq!((code, stderr.as_str(), count.as_deref()), (Some(0), "", Ok(expected)));
        }
    });
}
