//! Section 4, "Secrets": a write handle has a buffer of its own, committed whole by `close` or `fsync`.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use nix::errno::Errno::{EACCES, EEXIST, EFBIG, EINVAL, ENOENT, ENOTEMPTY};

use crate::harness::{ALICE, Mount, ROOT, eventually};

const MIB: usize = 1 << 20;

#[test]
fn values_are_kept_exactly() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_001).collect();
    let largest: Vec<u8> = every_byte.iter().copied().cycle().take(MIB).collect();
    for value in [b"\n".to_vec(), b"\0".to_vec(), b"no newline".to_vec(), every_byte, largest] {
        for again in ["created", "overwritten"] {
            assert_eq!(root.write("K", &value), Ok(()), "{} bytes, {again}", value.len());
            assert!(root.read_bytes("K").as_ref() == Ok(&value), "{} bytes, {again}", value.len());
            assert_eq!(root.stat("K").unwrap().size, value.len() as u64);
        }
        root.unlink("K").unwrap();
    }
}

#[test]
fn a_value_may_be_empty() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.sh_ok("touch touched; : > redirected");
    root.write("full", "value").unwrap();
    root.sh_ok(": > full");
    // A truncation without a write is only seen when the kernel releases the file.
    for key in ["touched", "redirected", "full"] {
        eventually("the value is empty", || root.read(key).as_deref() == Ok(""));
        assert_eq!(root.stat(key).unwrap().size, 0);
    }
    root.write("full", "again").unwrap();
    assert_eq!(root.truncate("full", 0), Ok(()));
    assert_eq!(root.read("full").as_deref(), Ok(""));
}

#[test]
fn the_old_value_stands_until_close() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "old value", "readers: [alice]\n");
    let old = root.stat("K").unwrap();
    let held = alice.open("K", libc::O_RDONLY).unwrap();

    let writer = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert_eq!(alice.read("K").as_deref(), Ok("old value"), "after the truncation");
    assert_eq!(writer.write("new, and "), Ok(()));
    assert_eq!(writer.write("longer"), Ok(()));
    assert_eq!(alice.read("K").as_deref(), Ok("old value"), "after the writes");
    assert_eq!(alice.stat("K"), Ok(old));
    assert_eq!(writer.close(), Ok(()));

    assert_eq!(alice.read("K").as_deref(), Ok("new, and longer"));
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"old value"[..]), "an open file keeps its own");
    assert_eq!(held.stat().unwrap().size, 9);
}

#[test]
fn sync_publishes_what_has_been_written() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "old", "readers: [alice]\n");
    let writer = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    writer.write("one").unwrap();
    assert_eq!(writer.sync(), Ok(()));
    assert_eq!(alice.read("K").as_deref(), Ok("one"));
    writer.write(" two").unwrap();
    assert_eq!(alice.read("K").as_deref(), Ok("one"));
    assert_eq!(writer.close(), Ok(()));
    assert_eq!(alice.read("K").as_deref(), Ok("one two"));
}

#[test]
fn every_way_of_writing() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "0123456789").unwrap();
    root.append("K", "ab").unwrap();
    root.append("K", "cd").unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("0123456789abcd"));

    let file = root.open("K", libc::O_RDWR).unwrap();
    assert_eq!(file.read_at(8, 4).as_deref(), Ok(&b"89ab"[..]));
    file.write_at(2, "XY").unwrap();
    assert_eq!(file.read_at(0, 6).as_deref(), Ok(&b"01XY45"[..]), "a writer reads its own");
    assert_eq!(file.stat().unwrap().size, 14);
    file.set_length(6).unwrap();
    file.write_at(8, "Z").unwrap();
    assert_eq!(file.stat().unwrap().size, 9);
    assert_eq!(root.read("K").as_deref(), Ok("0123456789abcd"));
    file.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("01XY45\0\0Z"), "a gap is filled with NULs");

    assert_eq!(root.truncate("K", 4), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("01XY"));
    assert_eq!(root.truncate("K", 6), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("01XY\0\0"));
    assert_eq!(root.write_with("K", 0, "in place"), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("in place"));
    let file = root.open("K", libc::O_RDWR | libc::O_TRUNC).unwrap();
    assert_eq!(file.read_to_end().as_deref(), Ok(&b""[..]));
    file.write("fresh").unwrap();
    file.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("fresh"));
}

#[test]
fn every_redirection_of_bash() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    for (script, value) in [
        ("echo a > alice/K", "a\n"),
        ("echo b >> alice/K", "a\nb\n"),
        ("{ echo a; echo b; echo c; } > alice/K", "a\nb\nc\n"),
        ("for n in 1 2 3; do echo $n; done >> alice/K", "a\nb\nc\n1\n2\n3\n"),
        ("(echo sub; echo shell) > alice/K", "sub\nshell\n"),
        ("exec 3> alice/K; echo x >&3; cat /dev/null >&3; echo y >&3; exec 3>&-", "x\ny\n"),
        ("seq 1 3 | tee alice/K > /dev/null", "1\n2\n3\n"),
        ("cat <<< text > alice/K", "text\n"),
        ("printf %s 'no newline' > alice/K", "no newline"),
        ("printf '' >> alice/K", "no newline"),
        ("echo -n > alice/N; echo new > alice/N; cp alice/N alice/K", "new\n"),
        ("set -o noclobber; ! echo lost > alice/K", "new\n"),
    ] {
        alice.sh_ok(script);
        assert_eq!(alice.read("alice/K").as_deref(), Ok(value), "after `{script}`");
    }
    alice.sh_ok("yes | head -c 100000 | dd of=alice/K bs=777 status=none");
    assert!(alice.read("alice/K") == Ok("y\n".repeat(50_000)), "129 writes made something else");
}

#[test]
fn more_than_a_mebibyte_is_too_big() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old value").unwrap();
    let too_long = vec![b'x'; MIB + 1];

    let file = root.open("K", libc::O_WRONLY).unwrap();
    for length in [MIB as u64 + 1, 1_000_000_000_000_000, i64::MAX as u64] {
        assert_eq!(file.set_length(length), Err(EFBIG), "ftruncate to {length}");
        assert_eq!(root.truncate("K", length as i64), Err(EFBIG), "truncate to {length}");
    }
    for offset in [MIB as u64, 1 << 40, 1 << 62] {
        assert_eq!(file.write_at(offset, "x"), Err(EFBIG), "a byte at {offset}");
    }
    // Whether `close` repeats the reason is left open; what nobody may see is the half.
    let _ = file.close();
    assert_eq!(root.read("K").as_deref(), Ok("old value"));

    assert_eq!(root.write("K", &too_long), Err(EFBIG));
    assert_eq!(root.read("K").as_deref(), Ok("old value"), "the part that fitted was published");
    assert_eq!(root.write("new", &too_long), Err(EFBIG));
    assert_eq!(root.read("new"), Err(ENOENT), "the part that fitted was published");
    assert_eq!(root.sh("head -c 2M /dev/zero > K").code, Some(1));
    assert_eq!(root.read("K").as_deref(), Ok("old value"));
    root.write("full", &too_long[1..]).unwrap();
    assert_eq!(root.append("full", "x"), Err(EFBIG));
    assert_eq!(root.stat("full").unwrap().size, MIB as u64);
    assert_eq!(root.truncate("K", -1), Err(EINVAL));
}

/// The process that creates a file sees it until its last handle is released, which comes after the close that failed.
#[test]
fn what_could_not_be_stored_is_gone_with_the_close() {
    let Some(mount) = Mount::start() else { return };
    let too_long = vec![b'x'; MIB + 1];
    let users: Vec<_> = (0..3).map(|_| mount.user(ROOT)).collect();
    std::thread::scope(|scope| {
        for (number, user) in users.iter().enumerate() {
            let (key, too_long) = (format!("K{number}"), &too_long);
            scope.spawn(move || {
                for round in 0..60 {
                    assert_eq!(user.write(&key, too_long), Err(EFBIG));
                    let seen = user.read(&key).map(|value| value.len());
                    assert_eq!(seen, Err(ENOENT), "round {round}");
                }
            });
        }
    });
}

/// It is published when its last handle is released, which may be read by one thread of the daemon while
/// another one goes on with what comes after it.
#[test]
fn what_was_only_emptied_or_created_is_seen_at_once() {
    let Some(mount) = Mount::start() else { return };
    let users: Vec<_> = (0..3).map(|_| mount.user(ROOT)).collect();
    std::thread::scope(|scope| {
        for (number, user) in users.iter().enumerate() {
            scope.spawn(move || {
                let (directory, key) = (format!("d{number}"), format!("K{number}"));
                let new = format!("{directory}/new");
                for round in 0..60 {
                    user.write(&key, "value").unwrap();
                    let file = user.open(&key, libc::O_WRONLY | libc::O_TRUNC).unwrap();
                    file.close().unwrap();
                    match round % 2 {
                        0 => assert_eq!(user.read(&key).as_deref(), Ok(""), "round {round}"),
                        _ => assert_eq!(user.stat(&key).unwrap().size, 0, "round {round}"),
                    }
                    assert!(matches!(user.mkdir(&directory), Ok(()) | Err(EEXIST)));
                    let file = user.open(&new, libc::O_WRONLY | libc::O_CREAT).unwrap();
                    file.close().unwrap();
                    if round % 2 == 0 {
                        assert_eq!(user.list(&directory), Ok(vec!["new".to_owned()]));
                    }
                    assert_eq!(user.rmdir(&directory), Err(ENOTEMPTY), "round {round}");
                    user.unlink(&new).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_killed_writer_publishes_nothing() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old value").unwrap();
    for flags in [libc::O_TRUNC, 0, libc::O_APPEND] {
        let doomed = mount.user(ROOT);
        let file = doomed.open("K", libc::O_WRONLY | flags).unwrap();
        file.write("ha").unwrap();
        doomed.kill();
        assert_eq!(root.read("K").as_deref(), Ok("old value"), "opened with {flags:#o}");
    }
    let doomed = mount.user(ALICE);
    let file = doomed.open("alice/K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.write("ha").unwrap();
    doomed.kill();
    assert_eq!(root.read("alice/K"), Err(ENOENT));
    assert_eq!(mount.user(ALICE).write("alice/K", "whole"), Ok(()));
    assert_eq!(root.read("alice/K").as_deref(), Ok("whole"));
    assert_eq!(root.read("K").as_deref(), Ok("old value"), "nothing came late");
}

/// Files are closed in it while the kernel keeps others from looking at the process.
#[test]
fn executing_a_program_closes_files() {
    let Some(mount) = Mount::start() else { return };
    let server = mount.server();
    for (path, key) in [("K", "K"), (".import/x.yaml", "D")] {
        let mut file = File::create(mount.point().join(path)).unwrap();
        file.write_all(b"key: D\nvalue: v\n").unwrap();
        assert!(Command::new("true").status().unwrap().success(), "{path}");
        drop(file);
        mount.user(ROOT).read(key).unwrap();
    }
    assert_eq!(mount.server(), server, "{}", mount.said());
}

#[test]
fn what_is_removed_while_it_is_written_stays_removed() {
    let Some(mount) = Mount::start() else { return };
    let (root, other) = (mount.user(ROOT), mount.user(ROOT));
    root.write("K", "old value").unwrap();
    let writer = other.open("K", libc::O_WRONLY).unwrap();
    writer.write("new").unwrap();
    root.unlink("K").unwrap();
    // Whether `close` says so is left open.
    let _ = writer.close();
    assert_eq!(root.read("K"), Err(ENOENT));
    assert_eq!(root.list(""), Ok(vec![]));

    root.write("K", "old value").unwrap();
    let writer = other.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    writer.write("lost").unwrap();
    root.write("N", "renamed here").unwrap();
    root.rename("N", "K").unwrap();
    let _ = writer.close();
    assert_eq!(root.read("K").as_deref(), Ok("renamed here"));
}

#[test]
fn a_removed_secret_can_be_read_on_by_who_holds_it() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let held = alice.open("K", libc::O_RDONLY).unwrap();
    root.unlink("K").unwrap();
    assert_eq!(alice.read("K"), Err(ENOENT));
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]));
}

#[test]
fn two_writers_do_not_mix() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old").unwrap();
    let one = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    let other = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    one.write("one ").unwrap();
    other.write("other ").unwrap();
    one.write("value").unwrap();
    other.write("thing").unwrap();
    assert_eq!(one.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("one value"));
    assert_eq!(other.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("other thing"));
}

#[test]
fn a_denied_writer_changes_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let before = root.stat("K").unwrap();
    for flags in [0, libc::O_TRUNC, libc::O_APPEND, libc::O_CREAT | libc::O_TRUNC] {
        assert_eq!(alice.write_with("K", flags, "x"), Err(EACCES), "with flags {flags:#o}");
    }
    assert_eq!(alice.open("K", libc::O_RDONLY | libc::O_TRUNC).map(drop), Err(EACCES));
    assert_eq!(root.stat("K"), Ok(before));
    assert_eq!(root.read("K").as_deref(), Ok("value"));
}
