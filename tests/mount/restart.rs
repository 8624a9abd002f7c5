//! The mount outlives the process that serves it: what callers hold goes on meaning the same, and
//! whoever lost something is told.

use std::fs;

use nix::errno::Errno::{EACCES, EEXIST, EFBIG, EIO, ENOENT};
use nix::sys::signal::{Signal, kill};

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};

#[test]
fn values_lists_and_refusals_stay() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("db/deep/K", "value", "readers: [alice]\n");
    assert_eq!(alice.read("db/deep/K").as_deref(), Ok("value"));
    let stat = alice.stat("db/deep/K").unwrap();
    for _ in 0..3 {
        assert!(mount.kill_server());
        assert_eq!(alice.read("db/deep/K").as_deref(), Ok("value"));
        assert_eq!(bob.read("db/deep/K"), Err(EACCES));
        assert_eq!(alice.stat("db/deep/K").unwrap(), stat);
        assert_eq!(alice.list("db").as_deref(), Ok(&["deep".to_owned()][..]));
    }
    root.write("db/deep/K", "another").unwrap();
    assert_eq!(alice.read("db/deep/K").as_deref(), Ok("another"));
}

#[test]
fn a_held_descriptor_shows_its_version_however_often_it_is_killed() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    // So large that the kernel is not given all of it.
    root.write("K", vec![b'a'; 500_000]).unwrap();
    let held = root.open("K", libc::O_RDONLY).unwrap();
    assert_eq!(held.read_at(0, 3).as_deref(), Ok(&b"aaa"[..]));
    for (round, letter) in (b'b'..b'f').enumerate() {
        if round % 2 == 0 {
            root.write("K", [letter]).unwrap();
        }
        assert!(mount.kill_server());
        let offset = 100_000 * (round as u64 + 1);
        assert_eq!(held.read_at(offset, 3).as_deref(), Ok(&b"aaa"[..]));
        assert_eq!(held.map_private(500_000), Ok(vec![b'a'; 500_000]));
        root.write("K", [letter]).unwrap();
        assert_eq!(root.read_bytes("K"), Ok(vec![letter]));
    }
    assert_eq!(held.close(), Ok(()));
}

#[test]
fn what_was_written_and_not_closed_is_not_lost() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old").unwrap();
    let (large, end) = (vec![b'x'; 700_000], vec![b'y'; 5]);
    for sync in [false, true] {
        let writer = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
        writer.write(&large).unwrap();
        assert!(mount.kill_server());
        writer.write_at(3, "abc").unwrap();
        assert!(mount.kill_server());
        writer.write(&end).unwrap();
        if sync {
            assert_eq!(writer.sync(), Ok(()));
        }
        assert!(mount.kill_server());
        assert_eq!(writer.stat().map(|stat| stat.size), Ok(700_005));
        assert_eq!(writer.close(), Ok(()));
        let mut value = [&large[..], &end].concat();
        value[3..6].copy_from_slice(b"abc");
        assert!(root.read_bytes("K") == Ok(value), "another value was stored");
    }
    let writer = root.open("K", libc::O_WRONLY).unwrap();
    writer.set_length(10).unwrap();
    assert!(mount.kill_server());
    writer.write_at(12, "z").unwrap();
    assert!(mount.kill_server());
    assert_eq!(writer.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("xxxabcxxxx\0\0z"));

    let created = root.open("new", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).unwrap();
    created.write("whole").unwrap();
    assert!(mount.kill_server());
    let another = mount.user(ROOT);
    assert_eq!(another.create_new("new", "another's"), Ok(()));
    assert_eq!(created.close(), Err(EEXIST));
    assert_eq!(root.read("new").as_deref(), Ok("another's"));

    // What bash closes it does not look after.
    let script = "{ printf a; sleep 0.3; printf b; } > K";
    std::thread::scope(|scope| {
        let shell = scope.spawn(|| root.sh_ok(script));
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert!(mount.kill_server());
        shell.join().unwrap();
    });
    assert_eq!(root.read("K").as_deref(), Ok("ab"));
}

#[test]
fn a_write_that_did_not_fit_fails_after_a_restart_too() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old").unwrap();
    let writer = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    writer.write("fits").unwrap();
    assert_eq!(writer.write_at(1 << 20, "does not"), Err(EFBIG));
    assert!(mount.kill_server());
    assert_eq!(writer.close(), Err(EIO));
    assert_eq!(root.read("K").as_deref(), Ok("old"));
    let said = root.read(".status/last-error").unwrap();
    assert!(said.contains("lost when the daemon was restarted"), "{said}");
}

#[test]
fn a_writer_that_lost_nothing_goes_on() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old").unwrap();
    // Opened, and nothing written yet.
    let appender = root.open("K", libc::O_WRONLY | libc::O_APPEND).unwrap();
    assert!(mount.kill_server());
    assert_eq!(appender.write(" and new"), Ok(()));
    // Everything that was written is stored.
    assert_eq!(appender.sync(), Ok(()));
    assert!(mount.kill_server());
    assert_eq!(root.read("K").as_deref(), Ok("old and new"));
    assert_eq!(appender.write(", and more"), Ok(()));
    assert_eq!(appender.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("old and new, and more"));

    let created = root.open("L", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).unwrap();
    assert!(mount.kill_server());
    assert_eq!(created.write("value"), Ok(()));
    assert_eq!(created.close(), Ok(()));
    assert_eq!(root.read("L").as_deref(), Ok("value"));

    let lists = root.open("L.acl", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert!(mount.kill_server());
    assert_eq!(lists.write("readers: [alice]\n"), Ok(()));
    assert_eq!(lists.close(), Ok(()));
    assert_eq!(mount.user(ALICE).read("L").as_deref(), Ok("value"));
}

#[test]
fn a_file_that_was_emptied_before_it_was_killed_is_empty() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "old").unwrap();
    let emptier = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert!(mount.kill_server());
    assert_eq!(root.read("K").as_deref(), Ok("old"), "nothing is published before the close");
    assert_eq!(emptier.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok(""));
    // A removed secret stays removed, whoever has it open.
    let emptier = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    root.unlink("K").unwrap();
    assert!(mount.kill_server());
    assert_eq!(emptier.close(), Ok(()));
    assert_eq!(root.read("K"), Err(ENOENT));
}

#[test]
fn directories_stay_and_so_does_who_is_in_them() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.mkdir("alice/made").unwrap();
    let script = "cd alice/made && sleep 0.3 && echo value > K && cat K && ls && \
                  cd .. && echo value > L && cat ../alice/L";
    std::thread::scope(|scope| {
        let shell = scope.spawn(|| alice.sh_ok(script));
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert!(mount.kill_server());
        assert_eq!(shell.join().unwrap(), "value\nK\nvalue\n");
    });
    // A caller's own directory is there without a secret in it.
    let bob = mount.user(BOB);
    let shell = std::thread::scope(|scope| {
        let shell = scope.spawn(|| bob.sh("cd bob && sleep 0.3 && ls && echo value > K && cat K"));
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert!(mount.kill_server());
        shell.join().unwrap()
    });
    assert_eq!((shell.stdout.as_str(), shell.code), ("value\n", Some(0)), "{}", shell.stderr);
}

#[test]
fn scratch_files_stay() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    alice.write("alice/.tmp", "value").unwrap();
    alice.write("alice/.empty.tmp", "").unwrap();
    let writer = alice.open("alice/.other.tmp", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("one").unwrap();
    let gone = alice.open("alice/.gone.tmp", libc::O_RDWR | libc::O_CREAT).unwrap();
    gone.write("unlinked").unwrap();
    alice.unlink("alice/.gone.tmp").unwrap();
    for _ in 0..2 {
        assert!(mount.kill_server());
        assert_eq!(alice.read("alice/.tmp").as_deref(), Ok("value"));
        assert_eq!(bob.read("alice/.tmp"), Err(ENOENT));
    }
    writer.write(", two").unwrap();
    assert_eq!(writer.close(), Ok(()));
    assert_eq!(gone.read_at(0, 100).as_deref(), Ok(&b"unlinked"[..]));
    assert_eq!(gone.close(), Ok(()));
    assert_eq!(alice.read("alice/.other.tmp").as_deref(), Ok("one, two"));
    assert_eq!(alice.rename("alice/.other.tmp", "alice/.renamed.tmp"), Ok(()));
    assert!(mount.kill_server());
    assert_eq!(alice.read("alice/.empty.tmp").as_deref(), Ok(""));
    assert_eq!(alice.rename("alice/.renamed.tmp", "alice/K"), Ok(()));
    assert_eq!(alice.rename("alice/.tmp", "alice/L"), Ok(()));
    assert!(mount.kill_server());
    assert_eq!(alice.read("alice/K").as_deref(), Ok("one, two"));
    assert_eq!(alice.read("alice/L").as_deref(), Ok("value"));
    for gone in ["alice/.tmp", "alice/.renamed.tmp", "alice/.other.tmp", "alice/.gone.tmp"] {
        assert_eq!(alice.read(gone), Err(ENOENT));
    }
}

#[test]
fn a_listing_and_a_text_that_are_being_read_go_on() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice, bob]\n");
    let lists = root.open("K.acl", libc::O_RDONLY).unwrap();
    assert!(mount.kill_server());
    let whole = String::from_utf8(lists.read_to_end().unwrap()).unwrap();
    assert!(whole.starts_with("readers:") && whole.contains("canChangeDeleters"), "{whole}");
    assert_eq!(lists.close(), Ok(()));
    let version = root.open(".status/version", libc::O_RDONLY).unwrap();
    assert!(mount.kill_server());
    assert!(!version.read_to_end().unwrap().is_empty());
}

#[test]
fn a_server_that_dies_again_and_again_is_given_up() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--crash-limit", "2"]).started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    for _ in 0..2 {
        assert!(mount.kill_server());
        assert_eq!(root.read("K").as_deref(), Ok("value"));
    }
    assert!(mount.kill_server());
    let (status, said) = mount.ended();
    assert_eq!(status.code(), Some(6), "{said}");
    assert!(said.contains("died 3 times within a minute"), "it should say why:\n{said}");
    assert!(mount.mounted().is_none(), "an error beats a wait");
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn the_server_ends_with_the_supervisor() {
    let Some(mut mount) = Mount::start() else { return };
    let server = mount.server().expect("it serves");
    mount.kill9();
    eventually("the server is gone", || !fs::exists(format!("/proc/{server}")).unwrap());
    mount.go();
}

#[test]
fn it_ends_while_the_server_is_stopped() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    kill(mount.server().expect("it serves"), Signal::SIGSTOP).unwrap();
    mount.stop();
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}
