//! A descriptor that was opened only for reading sees the current value once it has a lock (section 4).

use std::path::Path;
use std::thread;
use std::time::Duration;

use libc::{LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, O_RDONLY, O_RDWR};
use nix::errno::Errno::{EAGAIN, ESTALE};

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually, skip};
use crate::locks::READERS;

/// Versions of other lengths, with more and fewer pages.
fn values() -> [String; 5] {
    let of = |what: &str, length: usize| what.repeat(length);
    [of("a", 3), of("b", 20_000), of("c", 40), of("d", 300_000), of("e", 5)]
}

#[test]
fn it_sees_what_was_written_while_it_waited() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    for (round, value) in values().iter().enumerate() {
        let waiter = bob.open("svc/K", O_RDONLY).unwrap();
        if round % 2 == 0 {
            waiter.read_to_end().unwrap();
        }
        let holder = alice.open("svc/K", O_RDWR).unwrap();
        holder.lock(LOCK_EX).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| waiter.lock(LOCK_EX));
            // Nothing shows that it waits.
            thread::sleep(Duration::from_millis(50));
            alice.write("svc/K", value).unwrap();
            holder.close().unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        assert_eq!(waiter.stat().unwrap().size, value.len() as u64, "round {round}");
        assert!(waiter.read_at(0, 1 << 20).unwrap() == value.as_bytes(), "round {round}");
        assert_eq!(waiter.stat().unwrap().size, value.len() as u64, "round {round}");
        if round == 3 {
            assert!(mount.kill_server());
        }
        let tail = waiter.read_at(value.len() as u64 - 2, 100).unwrap();
        assert_eq!(tail, value.as_bytes()[value.len() - 2..], "round {round}");
        waiter.close().unwrap();
    }
}

#[test]
fn two_that_stay_open_follow_each_other() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "0", READERS);
    let both = [&alice, &bob].map(|user| (user, user.open("svc/K", O_RDONLY).unwrap()));
    for round in 0..8 {
        for (number, (user, file)) in both.iter().enumerate() {
            file.lock(LOCK_EX).unwrap();
            let seen = String::from_utf8(file.read_at(0, 4096).unwrap()).unwrap();
            let expected = 2 * round + number;
            assert_eq!(seen.trim(), expected.to_string());
            let padding = [0, 9000][expected % 2];
            user.write("svc/K", format!("{}{}", expected + 1, " ".repeat(padding))).unwrap();
            file.lock(LOCK_UN).unwrap();
        }
        if round == 4 {
            assert!(mount.kill_server());
        }
    }
}

/// Another reader has the old version open, and that never changes: who cannot see the current value gets no lock.
#[test]
fn who_reads_the_old_version_without_a_lock_keeps_it() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "first", READERS);
    let (reader, waiter) =
        (root.open("svc/K", O_RDONLY).unwrap(), bob.open("svc/K", O_RDONLY).unwrap());
    let holder = alice.open("svc/K", O_RDONLY).unwrap();
    holder.lock(LOCK_EX).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| waiter.lock(LOCK_EX));
        thread::sleep(Duration::from_millis(50));
        alice.write("svc/K", "the second one").unwrap();
        holder.lock(LOCK_UN).unwrap();
        assert_eq!(waiting.join().unwrap(), Err(ESTALE));
    });
    assert_eq!(reader.read_to_end().as_deref(), Ok(&b"first"[..]));
    assert_eq!(reader.stat().unwrap().size, 5);
    // Nothing is left of the lock that was not granted.
    let next = alice.open("svc/K", O_RDONLY).unwrap();
    assert_eq!(next.lock(LOCK_EX | LOCK_NB), Ok(()));
    assert_eq!(next.read_to_end().as_deref(), Ok(&b"the second one"[..]));
    assert_eq!(waiter.lock(LOCK_SH | LOCK_NB), Err(EAGAIN));
    next.close().unwrap();
    reader.close().unwrap();
    eventually("the reader is gone", || waiter.lock(LOCK_SH | LOCK_NB) == Ok(()));
    assert_eq!(waiter.read_to_end().as_deref(), Ok(&b"the second one"[..]));
}

#[test]
fn through_a_bind_mount_it_sees_the_current_value() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", "first", READERS);
    root.sh_ok(
        r#"touch $T/bound && mount --bind svc/K $T/bound
        trap 'exec 7<&- 8<&-; umount $T/bound' EXIT
        cat $T/bound > $T/seen; echo -n second > svc/K; cat $T/bound >> $T/seen
        exec 7< $T/bound 8< svc/K; flock 8
        (flock 7; cat <&7 > $T/locked) & sleep 0.1
        echo -n "a third value" > svc/K; flock -u 8; wait $!"#,
    );
    assert_eq!(root.sh_ok("cat $T/seen $T/locked"), "firstseconda third value");
}

#[test]
fn counters_that_are_read_and_written_through_two_descriptors_stay_exact() {
    if !Path::new("/usr/bin/python3").exists() {
        return skip("needs python3");
    }
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "10000"]).started();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "0", READERS);
    let script = r#"cat > $T/count <<'X'
import fcntl
for i in range(60):
    with open("svc/K") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        n = int(lock.read())
        with open("svc/K", "w") as f:
            f.write(str(n + 1))
X
/usr/bin/python3 $T/count & first=$!
/usr/bin/python3 $T/count && wait $first"#;
    thread::scope(|scope| {
        let counting = scope.spawn(|| alice.sh(script));
        let mut before = 0;
        while !counting.is_finished() {
            let count = root.read("svc/K").unwrap().parse::<u32>().unwrap_or(0);
            if count > before + 10 {
                before = count;
                mount.kill_server();
            }
            thread::sleep(Duration::from_millis(5));
        }
        let shell = counting.join().unwrap();
        assert_eq!((shell.code, shell.stderr.as_str()), (Some(0), ""));
    });
    assert_eq!(root.read("svc/K").as_deref(), Ok("120"));
}
