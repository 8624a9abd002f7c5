//! Section 4: what is written through O_APPEND goes to the end of the value that is current at the commit.

use nix::errno::Errno::{EFBIG, ENOENT};

use crate::harness::{ALICE, BOB, Mount, ROOT};

const MIB: usize = 1 << 20;
const APPEND: i32 = libc::O_WRONLY | libc::O_APPEND;

#[test]
fn no_line_of_three_processes_is_lost() {
    let Some(mount) = Mount::start() else { return };
    let users: Vec<_> = (0..3).map(|_| mount.user(ALICE)).collect();
    users[0].write("alice/K", "first\n").unwrap();
    std::thread::scope(|scope| {
        for (name, user) in users.iter().enumerate() {
            // One key exists, the other one is created by the first of them.
            let script = format!(
                "for n in $(seq 50); do echo {name} $n >> alice/K; echo {name} $n >> alice/NEW; done"
            );
            scope.spawn(move || user.sh_ok(&script));
        }
    });
    for (key, count) in [("alice/K", 151), ("alice/NEW", 150)] {
        let value = users[0].read(key).unwrap();
        let mut lines: Vec<_> = value.lines().collect();
        assert_eq!(lines.len(), count, "{key}");
        for name in 0..3 {
            let of = lines.iter().filter(|line| line.starts_with(&format!("{name} "))).copied();
            let expected: Vec<_> = (1..=50).map(|n| format!("{name} {n}")).collect();
            assert!(of.eq(expected.iter().map(String::as_str)), "{key}: in order");
        }
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count, "{key}: nothing twice");
    }
}

#[test]
fn what_is_appended_goes_to_the_end_of_the_current_value() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "base ").unwrap();
    let [one, other] = [(); 2].map(|()| root.open("K", APPEND).unwrap());
    one.write("one ").unwrap();
    other.write("other ").unwrap();
    assert_eq!(one.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("base one "));
    assert_eq!(other.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("base one other "));

    // Each part of it, after whatever others did.
    let file = root.open("K", libc::O_RDWR | libc::O_APPEND).unwrap();
    file.write("a").unwrap();
    file.write("b ").unwrap();
    assert_eq!(file.read_at(0, 100).as_deref(), Ok(&b"base one other ab "[..]));
    assert_eq!(file.read_at(12, 4).as_deref(), Ok(&b"er a"[..]), "across the border");
    assert_eq!(file.stat().unwrap().size, 18);
    root.write("K", "new ").unwrap();
    assert_eq!(file.sync(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("new ab "));
    assert_eq!(file.read_at(0, 100).as_deref(), Ok(&b"new ab "[..]));
    root.append("K", "x ").unwrap();
    file.write("c ").unwrap();
    assert_eq!(file.sync(), Ok(()));
    file.write("d").unwrap();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("new ab x c d"));

    // Who cut it says what it is.
    let file = root.open("K", APPEND | libc::O_TRUNC).unwrap();
    file.write("cut ").unwrap();
    root.append("K", "gone").unwrap();
    assert_eq!(file.sync(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("cut "));
    root.append("K", "x ").unwrap();
    file.write("y ").unwrap();
    assert_eq!(file.sync(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("cut x y "));
    file.write("z").unwrap();
    file.set_length(3).unwrap();
    file.write("!").unwrap();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("cut!"));

    let file = root.open("K", APPEND).unwrap();
    file.write("nowhere").unwrap();
    root.unlink("K").unwrap();
    let _ = file.close();
    assert_eq!(root.read("K"), Err(ENOENT));
}

#[test]
fn the_limit_holds_for_the_whole_value() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let most = vec![b'x'; MIB - 10];
    root.write("K", &most).unwrap();
    let [one, other] = [(); 2].map(|()| root.open("K", APPEND).unwrap());
    one.write("123456").unwrap();
    other.write("abcdef").unwrap();
    assert_eq!(one.close(), Ok(()));
    assert_eq!(other.sync(), Err(EFBIG));
    other.write("1234").unwrap();
    assert_eq!(other.close(), Ok(()));
    let expected = [&most[..], b"1234561234"].concat();
    assert!(root.read_bytes("K").as_ref() == Ok(&expected), "what was refused came back");
    assert_eq!(root.append("K", "x"), Err(EFBIG));
    assert!(root.read_bytes("K") == Ok(expected));
}

#[test]
fn who_may_not_read_may_append() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("log", "", "writers: [alice, bob]\n");
    let file = alice.open("log", APPEND).unwrap();
    file.write("alice\n").unwrap();
    bob.append("log", "bob\n").unwrap();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("log").as_deref(), Ok("bob\nalice\n"));
    assert!(alice.read("log").is_err());
    assert!(alice.open("log", libc::O_RDWR | libc::O_APPEND).is_err());
}

#[test]
fn a_killed_server_appends_nothing_twice() {
    let Some(mount) = Mount::start() else { return };
    let (root, other) = (mount.user(ROOT), mount.user(ROOT));
    root.write("K", "base ").unwrap();
    let file = root.open("K", libc::O_RDWR | libc::O_APPEND).unwrap();
    file.write("a ").unwrap();
    assert!(mount.kill_server());
    other.append("K", "b ").unwrap();
    file.write("c ").unwrap();
    assert_eq!(file.read_at(0, 100).as_deref(), Ok(&b"base a c "[..]));
    assert!(mount.kill_server());
    assert_eq!(file.sync(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("base b a c "));
    assert!(mount.kill_server());
    other.append("K", "d ").unwrap();
    file.write("e").unwrap();
    assert!(mount.kill_server());
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("K").as_deref(), Ok("base b a c d e"));

    let file = root.open("new", APPEND | libc::O_CREAT).unwrap();
    file.write("mine ").unwrap();
    assert!(mount.kill_server());
    other.append("new", "first ").unwrap();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(root.read("new").as_deref(), Ok("first mine "));
}
